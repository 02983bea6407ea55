#!/usr/bin/env python3
"""Verify a Sublet statement, offline, without any of Sublet's own code.

    sublet_verify.py statement.json                   the verdict, as `sublet verify -o json` gives it
    sublet_verify.py --market-key KEY statement.json  and the market's key has to be this one
    sublet_verify.py --rewrite statement.json         the statement anew, from what was signed and seen
    sublet_verify.py --serve                          for tests: documents on stdin, answers on stdout

Written from docs/decisions/0009-money-on-paper.md, not from the program. Needs Python 3.9 and the
package `cryptography` (Debian: python3-cryptography) for Ed25519; nothing else.

Exit codes: 0 it holds, 1 it does not, 2 usage, 3 no such file.
"""

import base64
import binascii
import hashlib
import json
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FIRST = b'{"sublet":"statement 1","records":['
LAST = b"]}"

I64_MAX = 2**63 - 1
PARTS_A_MICRO = 1000 * 1024 * 3600
SPAN_MAX = 10 * 366 * 86400
PRICE_MAX = 10**12
CPU_MAX, MEMORY_MAX, DISK_MAX = 4096 * 1000, 64 << 20, 16 << 20
INSTANT_MAX = 253402300799999999
MOST_BYTES = 256 << 20
MOST_CHANGES = 256


# --- how a record is written -------------------------------------------------------------------


class Malformed(Exception):
    """It is not written as it has to be."""


def whole(low, high):
    def read(value):
        if type(value) is not int or not low <= value <= high:
            raise Malformed
    return read


def text(value):
    if type(value) is not str:
        raise Malformed


def flag(value):
    if type(value) is not bool:
        raise Malformed


def word(*words):
    def read(value):
        if type(value) is not str or value not in words:
            raise Malformed
    return read


def matching(pattern):
    compiled = re.compile(pattern)

    def read(value):
        if type(value) is not str or not compiled.fullmatch(value):
            raise Malformed
    return read


def optional(read_one):
    def read(value):
        if value is not None:
            read_one(value)
    return read


def each(read_one):
    def read(value):
        if type(value) is not list:
            raise Malformed
        for item in value:
            read_one(item)
    return read


def members(*wanted):
    """An object with these members in this order; a name with a question mark may be left out."""
    wanted = [(name.rstrip("?"), name.endswith("?"), read) for name, read in wanted]

    def read(value):
        if type(value) is not dict:
            raise Malformed
        left = list(value)
        for name, may_lack, read_one in wanted:
            if left and left[0] == name:
                left.pop(0)
                read_one(value[name])
            elif not may_lack:
                raise Malformed
        if left:
            raise Malformed
    return read


def key(value):
    text(value)
    if len(from_base64(value)) != 32:
        raise Malformed


def from_base64(value):
    try:
        raw = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raise Malformed from None
    if base64.b64encode(raw).decode() != value:
        raise Malformed
    return raw


def given(value):
    """A member that may be left out, but is not null where it stands."""
    if value is None:
        raise Malformed


def some(value):
    """A list that is left out where it is empty."""
    if value == []:
        raise Malformed


i64 = whole(-(2**63), I64_MAX)
u64 = whole(0, 2**64 - 1)
u32 = whole(0, 2**32 - 1)
u16 = whole(0, 2**16 - 1)


def an_id(prefix):
    return matching(prefix + "_[0-7][0-9a-hjkmnp-tv-z]{25}")


ACCOUNT, HOST, PARTITION = an_id("acct"), an_id("host"), an_id("part")
OFFER, LEASE = an_id("offer"), an_id("lease")
DIGEST = matching("[0-9a-f]{64}")
SIDE = word("client", "lender", "operator")
REASON = word(
    "released", "expired", "reclaimed", "evicted", "out_of_funds", "boot_failed", "guest_crashed",
    "guest_shutdown", "host_lost", "host_restarted", "image_unavailable", "operator",
)
BECAUSE = word("never_ran", "receipts", "term", "paid", "window", "clock", "shortest")


def and_then(*reads):
    def read(value):
        for one in reads:
            one(value)
    return read


PRICES = members(
    ("setup", i64), ("flat", i64), ("cpu", i64), ("memory", i64), ("disk", i64),
    ("shortest_charge_seconds", i64),
)
TERMS = members(
    ("lease", LEASE), ("client", ACCOUNT), ("lender", ACCOUNT), ("host", HOST), ("partition", PARTITION),
    ("generation", u64), ("resources", members(("cpu", i64), ("memory", i64), ("disk", i64))), ("vcpus", u16),
    ("offer", OFFER), ("offer_version", u32), ("prices", PRICES), ("image", DIGEST), ("granted_at", i64),
    ("until?", and_then(given, i64)), ("fee_permille?", whole(1, 2**16 - 1)),
    ("term_seconds?", and_then(given, i64)),
)
RECEIPT = members(
    ("lease", LEASE), ("generation", u64), ("seq", u64), ("seconds", i64), ("cpu_used_ms", i64), ("last", flag),
    ("previous", optional(DIGEST)),
)
CLOSING = members(
    ("account", ACCOUNT), ("side", SIDE), ("from", i64), ("until", i64), ("leases", u64), ("charged", i64),
    ("credited", i64), ("fees", i64), ("earned", i64), ("amount", i64), ("lines", each(DIGEST)),
)
KEY_CHANGE = members(
    ("number", u64), ("previous", optional(DIGEST)), ("old", key), ("new", key), ("old_ssh_ca", text),
    ("new_ssh_ca", text), ("at", i64), ("ssh_until", i64),
)
SSH_KEY = re.compile("ssh-ed25519 [A-Za-z0-9+/]{68}")
SIGNED = (("payload", text), ("key", key), ("signature", text))
LINE = members(("what", text), ("price", i64), ("amount", i64), ("seconds", i64), ("parts", text))
SEGMENT = members(("from_second", i64), ("until_second", i64), ("lines", each(LINE)))
RECORDS = {
    "head": members(
        ("record", text), ("account", ACCOUNT), ("name", text), ("side", SIDE), ("currency", text), ("from", i64),
        ("until", i64), ("made_at", i64), ("market", key), ("keys?", and_then(some, each(members(*SIGNED, ("proof", text))))),
        ("hosts", each(members(("host", HOST), ("name", text), ("key", key)))),
    ),
    "terms": members(("record", text), ("lease", LEASE), *SIGNED),
    "seen": members(
        ("record", text), ("lease", LEASE), ("name", text), ("image", text), ("fetched_at", optional(i64)),
        ("booted_at", optional(i64)), ("ready_at", optional(i64)), ("contact_at", optional(i64)), ("stopped_at", i64),
        ("ended_at", optional(i64)), ("term_seconds", i64), ("paid_seconds", i64), ("held", optional(i64)),
        ("reason", REASON), ("settled_at", i64),
    ),
    "receipt": members(("record", text), ("lease", LEASE), ("received_at", i64), *SIGNED),
    "charge": members(
        ("record", text), ("lease", LEASE), ("receipts", u64), ("receipted_seconds", i64), ("billed_seconds", i64),
        ("because", BECAUSE), ("segments", each(SEGMENT)), ("metered", i64), ("setup", i64), ("total", i64),
        ("charged", i64), ("fee", i64), ("earned", i64),
    ),
    "credit": members(
        ("record", text), ("lease", LEASE), ("number", u64), ("at", i64), ("micros", i64),
        ("borne_by", word("lender", "operator")), ("note", text),
    ),
    "closing": members(("record", text), *SIGNED),
}


def write(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_canonical(written, shape):
    """The value, if the text is the one way to write it."""
    try:
        value = json.loads(written)
        if write(value) != written:
            raise Malformed
    except (ValueError, RecursionError):
        raise Malformed from None
    shape(value)
    return value


def read_record(written):
    def shape(value):
        if type(value) is not dict or type(value.get("record")) is not str or value["record"] not in RECORDS:
            raise Malformed
        RECORDS[value["record"]](value)
    return read_canonical(written, shape)


# --- what does not hold ------------------------------------------------------------------------


class Wrong(Exception):
    """Why a record does not hold."""

    def __init__(self, problem, field=None, expected=None, found=None):
        super().__init__(problem)
        self.problem, self.field, self.expected, self.found = problem, field, expected, found

    def within(self, field):
        return Wrong(self.problem, field, self.expected, self.found)

    def told(self, line, record=None, lease=None, receipt=None):
        fault = {
            "holds": False, "line": line, "record": record, "lease": lease, "receipt": receipt,
            "problem": self.problem, "field": self.field, "expected": self.expected, "found": self.found,
        }
        return {name: value for name, value in fault.items() if value is not None}


def same(problem, expected, found, field=None):
    if expected != found:
        raise Wrong(problem, field, str(expected), str(found))


def plausible(field, is_so):
    if not is_so:
        raise Wrong("implausible", field)


def instant(field, at):
    plausible(field, at is None or 0 <= at <= INSTANT_MAX)


def signed_bytes(kind, payload):
    return kind.encode() + b"\n" + payload.encode()


def signature_holds(public, kind, payload, signature):
    try:
        raw = from_base64(signature)
        Ed25519PublicKey.from_public_bytes(from_base64(public)).verify(raw, signed_bytes(kind, payload))
    except (Malformed, InvalidSignature, ValueError):
        return False
    return True


def open_signed(record, kind, shape, public):
    same("key", public, record["key"])
    if not signature_holds(public, kind, record["payload"], record["signature"]):
        raise Wrong("signature")
    try:
        return read_canonical(record["payload"], shape)
    except Malformed:
        raise Wrong("malformed", "payload") from None


# --- arithmetic --------------------------------------------------------------------------------


def round_half_even(number, by):
    result, rest = divmod(number, by)
    if 2 * rest > by or (2 * rest == by and result % 2 == 1):
        result += 1
    return min(result, I64_MAX)


def span(start, end):
    """Whole seconds between two instants, at least none."""
    return max((end - start) // 1_000_000, 0)


def billed_seconds(terms, seen, receipted):
    if receipted is None or (seen["ready_at"] is None and receipted <= 0):
        return 0, "never_ran"
    used, because = receipted, "receipts"
    limits = [("term", seen["term_seconds"]), ("paid", seen["paid_seconds"])]
    if "until" in terms:
        limits.append(("window", span(terms["granted_at"], terms["until"])))
    limits.append(("clock", span(terms["granted_at"], seen["stopped_at"])))
    for name, limit in limits:
        if limit < used:
            used, because = limit, name
    shortest = min(terms["prices"]["shortest_charge_seconds"], seen["term_seconds"], seen["paid_seconds"])
    return (shortest, "shortest") if shortest > used else (used, because)


def charge_of(terms, seen, receipts, receipted):
    """The charge record of a lease."""
    seconds, because = billed_seconds(terms, seen, receipted)
    prices, resources = terms["prices"], terms["resources"]
    rates = [
        ("flat", prices["flat"], 1, 1_024_000), ("cpu", prices["cpu"], resources["cpu"], 1024),
        ("memory", prices["memory"], resources["memory"], 1000), ("disk", prices["disk"], resources["disk"], 1_024_000),
    ]
    lines, parts = [], 0
    for what, price, amount, scale in rates:
        if price and amount:
            line = price * amount * scale * seconds
            parts += line
            lines.append({"what": what, "price": price, "amount": amount, "seconds": seconds, "parts": str(line)})
    metered = round_half_even(parts, PARTS_A_MICRO)
    setup = 0 if because == "never_ran" else prices["setup"]
    total = min(setup + metered, I64_MAX)
    charged = total if seen["held"] is None else min(total, seen["held"])
    fee = round_half_even(charged * terms.get("fee_permille", 0), 1000)
    return {
        "record": "charge",
        "lease": terms["lease"],
        "receipts": receipts,
        "receipted_seconds": receipted or 0,
        "billed_seconds": seconds,
        "because": because,
        "segments": [{"from_second": 0, "until_second": seconds, "lines": lines}] if seconds else [],
        "metered": metered,
        "setup": setup,
        "total": total,
        "charged": charged,
        "fee": fee,
        "earned": charged - fee,
    }


def differs(path, expected, found):
    """Tells the first member, in alphabetical order, in which both differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in sorted(expected):
            differs(f"{path}.{name}" if path else name, expected[name], found[name])
    elif isinstance(expected, list) and isinstance(found, list):
        same("arithmetic", len(expected), len(found), f"{path}.length")
        for at, (one, other) in enumerate(zip(expected, found)):
            differs(f"{path}[{at}]", one, other)
    else:
        same("arithmetic", expected, found, path)


# --- from the first record to the last ---------------------------------------------------------


class Reader:
    """Judges each record by the ones before it."""

    def __init__(self, known):
        self.known, self.head, self.terms = known, None, None
        self.newest_lease, self.done, self.digests = None, False, []
        self.sums = {"leases": 0, "charged": 0, "credited": 0, "fees": 0, "earned": 0}
        self.borne_by_operator = 0

    def amount(self):
        return {
            "client": self.sums["charged"] - self.sums["credited"],
            "lender": self.sums["earned"],
            "operator": self.sums["fees"] - self.borne_by_operator,
        }[self.head["side"]]

    def check(self, record):
        kind = record["record"]
        if self.done:
            due, told = (), "the end"
        elif self.head is None:
            due, told = ("head",), "head"
        elif self.terms is None:
            due, told = ("terms", "closing"), "terms or closing"
        elif self.seen is None:
            due, told = ("seen",), "seen"
        elif self.charged is None:
            due, told = ("receipt", "charge"), "receipt or charge"
        else:
            due, told = ("terms", "credit", "closing"), "terms, credit or closing"
        if kind not in due:
            raise Wrong("order", None, told, kind)
        if kind == "terms":
            if self.newest_lease is not None and record["lease"] <= self.newest_lease:
                raise Wrong("order", "lease", f"after {self.newest_lease}", record["lease"])
        elif "lease" in record:
            same("lease", self.terms["lease"], record["lease"])
        getattr(self, "check_" + kind)(record)

    def check_head(self, head):
        self.keys = self.keys_of(head)
        for name in ("from", "until", "made_at"):
            instant(name, head[name])
        plausible("until", head["from"] <= head["until"])
        ids = [host["host"] for host in head["hosts"]]
        if any(one > other for one, other in zip(ids, ids[1:])) or len(set(ids)) < len(ids):
            raise Wrong("order", "hosts")
        self.head, self.hosts = head, {host["host"]: host["key"] for host in head["hosts"]}

    def keys_of(self, head):
        """The market's keys, oldest first: (key, from when on). Each is taken with the one before."""
        records = head.get("keys", [])
        plausible("keys", len(records) <= MOST_CHANGES)
        keys = [(records[0]["key"] if records else head["market"], None)]
        cas, previous = [], None
        for at, record in enumerate(records):
            try:
                change = open_signed(record, "sublet key 1", KEY_CHANGE, keys[-1][0])
            except Wrong as wrong:
                raise wrong.within(f"keys[{at}]") from None
            self.follows(f"keys[{at}].", at + 1, record, change, previous, keys, cas)
            previous = hashlib.sha256(signed_bytes("sublet key 1", record["payload"])).hexdigest()
            keys.append((change["new"], change["at"]))
            cas += [change["old_ssh_ca"], change["new_ssh_ca"]]
        same("key", keys[-1][0], head["market"])
        if self.known is not None and all(key != self.known for key, _ in keys):
            raise Wrong("key", None, self.known, head["market"])
        return keys

    @staticmethod
    def follows(field, number, record, change, previous, keys, cas):
        """Whether a change of keys, which the key before signed, is the next one."""
        same("order", number, change["number"], field + "number")
        same("previous", previous or "none", change["previous"] or "none", field + "previous")
        same("key", record["key"], change["old"], field + "old")
        if not signature_holds(change["new"], "sublet key proof 1", record["payload"], record["proof"]):
            raise Wrong("signature", field + "proof")
        if cas:
            same("key", cas[-1], change["old_ssh_ca"], field + "old_ssh_ca")
        plausible(field + "new", all(key != change["new"] for key, _ in keys))
        for name in ("old_ssh_ca", "new_ssh_ca"):
            plausible(field + name, SSH_KEY.fullmatch(change[name]))
        plausible(field + "new_ssh_ca", change["new_ssh_ca"] not in [*cas, change["old_ssh_ca"]])
        instant(field + "at", change["at"])
        plausible(field + "at", keys[-1][1] is None or keys[-1][1] < change["at"])
        instant(field + "ssh_until", change["ssh_until"])
        plausible(field + "ssh_until", change["at"] <= change["ssh_until"])

    def signer_at(self, at):
        """The key that signed what is dated so."""
        return [key for key, start in self.keys if start is None or start <= at][-1]

    def check_terms(self, record):
        known = any(key == record["key"] for key, _ in self.keys)
        named = record["key"] if known else self.head["market"]
        terms = open_signed(record, "sublet terms 1", TERMS, named)
        if self.signer_at(terms["granted_at"]) != record["key"]:
            raise Wrong("key", "granted_at", None, str(terms["granted_at"]))
        same("lease", record["lease"], terms["lease"])
        if self.head["side"] != "operator":
            same("account", self.head["account"], terms[self.head["side"]])
        if terms["host"] not in self.hosts:
            raise Wrong("host", None, None, terms["host"])
        prices, has = terms["prices"], terms["resources"]
        money = [prices[name] for name in ("setup", "flat", "cpu", "memory", "disk")]
        shortest = prices["shortest_charge_seconds"]
        plausible("prices", all(0 <= price <= PRICE_MAX for price in money) and 0 <= shortest <= SPAN_MAX)
        limits = (("cpu", CPU_MAX), ("memory", MEMORY_MAX), ("disk", DISK_MAX))
        plausible("resources", all(0 <= has[name] <= most for name, most in limits))
        instant("granted_at", terms["granted_at"])
        instant("until", terms.get("until"))
        plausible("fee_permille", 0 <= terms.get("fee_permille", 0) <= 1000)
        self.newest_lease, self.terms, self.seen, self.charged = terms["lease"], terms, None, None
        self.receipts, self.newest, self.newest_digest = 0, None, None
        self.credits, self.credited, self.credited_by_lender = 0, 0, 0

    def check_seen(self, seen):
        for name in ("fetched_at", "booted_at", "ready_at", "contact_at", "stopped_at", "ended_at"):
            instant(name, seen[name])
        plausible("term_seconds", 1 <= seen["term_seconds"] <= SPAN_MAX)
        plausible("paid_seconds", 0 <= seen["paid_seconds"] <= SPAN_MAX)
        plausible("held", seen["held"] is None or seen["held"] >= 0)
        instant("settled_at", seen["settled_at"])
        if not self.head["from"] <= seen["settled_at"] < self.head["until"]:
            raise Wrong("period", "settled_at", None, str(seen["settled_at"]))
        self.seen = seen

    def check_receipt(self, record):
        receipt = open_signed(record, "sublet receipt 1", RECEIPT, self.hosts[self.terms["host"]])
        same("lease", self.terms["lease"], receipt["lease"])
        same("lease", self.terms["generation"], receipt["generation"], "generation")
        instant("received_at", record["received_at"])
        plausible("seconds", 0 <= receipt["seconds"] <= SPAN_MAX)
        before = self.newest
        same("seq", before["seq"] + 1 if before else 1, receipt["seq"])
        same("previous", self.newest_digest or "none", receipt["previous"] or "none")
        if before and receipt["seconds"] < before["seconds"]:
            raise Wrong("backwards", "seconds", f"at least {before['seconds']}", str(receipt["seconds"]))
        if before and before["last"]:
            raise Wrong("after_last")
        if record["received_at"] > self.seen["settled_at"]:
            raise Wrong("late", "received_at", f"at most {self.seen['settled_at']}", str(record["received_at"]))
        self.newest, self.receipts = receipt, self.receipts + 1
        self.newest_digest = hashlib.sha256(signed_bytes("sublet receipt 1", record["payload"])).hexdigest()

    def check_charge(self, charge):
        receipted = self.newest["seconds"] if self.newest else None
        expected = charge_of(self.terms, self.seen, self.receipts, receipted)
        differs("", expected, charge)
        self.charged = expected
        self.sums["leases"] += 1
        self.sums["charged"] += charge["charged"]
        self.sums["fees"] += charge["fee"]
        self.sums["earned"] += charge["earned"]

    def check_credit(self, credit):
        same("arithmetic", self.credits + 1, credit["number"], "number")
        instant("at", credit["at"])
        plausible("micros", credit["micros"] > 0)

        def at_most(limit, total):
            if total > limit:
                raise Wrong("arithmetic", "micros", f"at most {limit}", str(total))

        at_most(self.charged["charged"], self.credited + credit["micros"])
        if credit["borne_by"] == "lender":
            at_most(self.charged["earned"], self.credited_by_lender + credit["micros"])
            self.credited_by_lender += credit["micros"]
            self.sums["earned"] -= credit["micros"]
        else:
            self.borne_by_operator += credit["micros"]
        self.credits += 1
        self.credited += credit["micros"]
        self.sums["credited"] += credit["micros"]

    def closing_of(self):
        head = self.head
        return {
            "account": head["account"], "side": head["side"], "from": head["from"], "until": head["until"],
            **self.sums, "amount": self.amount(), "lines": self.digests,
        }

    def check_closing(self, record):
        closing = open_signed(record, "sublet statement 1", CLOSING, self.head["market"])
        expected = self.closing_of()
        for name in expected:
            if name != "lines":
                same("arithmetic", expected[name], closing[name], name)
        same("arithmetic", len(expected["lines"]), len(closing["lines"]), "lines.length")
        self.done = True


def pins(lines):
    """The digests that the closing names, if it holds under the key that it names itself."""
    for line in reversed(lines):
        if line.startswith(b'{"record":"closing"'):
            try:
                record = read_record(split_comma(line)[0])
                return open_signed(record, "sublet statement 1", CLOSING, record["key"])["lines"]
            except (Malformed, Wrong):
                return None
    return None


def split_comma(line):
    try:
        written = line.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed from None
    return (written[:-1], True) if written.endswith(",") else (written, False)


def judge(reader, line, at, pinned, rewritten):
    """Judges line `at` (from 0). Answers the fault, if it has one."""
    try:
        written, comma = split_comma(line)
        record = read_record(written)
    except Malformed:
        return Wrong("malformed").told(at + 1)
    kind = record["record"]
    number = (reader.receipts if reader.terms else 0) + 1 if kind == "receipt" else None
    try:
        if comma == (kind == "closing"):
            raise Wrong("frame", None, "no comma" if comma else "a comma")
        reader.check(record)
        if kind != "closing":
            digest = hashlib.sha256(written.encode()).hexdigest()
            if pinned is not None:
                same("digest", pinned[at - 1] if at <= len(pinned) else "none", digest)
            reader.digests.append(digest)
        if rewritten is not None:
            rewritten.append(rewrite(reader, record))
    except Wrong as wrong:
        return wrong.told(at + 1, kind, record.get("lease"), number)
    return None


def rewrite(reader, record):
    """The record as it follows from what was signed and seen."""
    kind = record["record"]
    if kind == "charge":
        return write(reader.charged) + ",\n"
    if kind == "closing":
        return write({**record, "payload": write(reader.closing_of())}) + "\n"
    return write(record) + ",\n"


def verify(document, known=None, rewritten=None):
    """The verdict on a document. With a list as `rewritten`, its records anew are put there."""
    lines = document.split(b"\n")
    if lines[0] != FIRST:
        return Wrong("frame", None, FIRST.decode()).told(1)
    pinned, reader, at = pins(lines), Reader(known), 1
    while True:
        if at == len(lines):
            return Wrong("frame", None, LAST.decode()).told(len(lines))
        if lines[at] == LAST:
            break
        fault = judge(reader, lines[at], at, pinned, rewritten)
        if fault:
            return fault
        at += 1
    if not reader.done:
        return Wrong("frame", None, "closing").told(at + 1)
    if at + 1 == len(lines):
        return Wrong("frame", None, "a newline").told(at + 1)
    if lines[at + 1:] != [b""]:
        return Wrong("frame", None, "the end").told(at + 2)
    head = reader.head
    return {
        "holds": True, "account": head["account"], "side": head["side"], "currency": head["currency"],
        "from": head["from"], "until": head["until"], "market": head["market"], "records": at - 1,
        **reader.sums, "amount": reader.amount(),
    }


def verify_and_rewrite(document, known=None):
    records = []
    verdict = verify(document, known, records)
    whole_text = FIRST.decode() + "\n" + "".join(records) + LAST.decode() + "\n" if verdict["holds"] else ""
    return write(verdict), whole_text


# --- the command -------------------------------------------------------------------------------


def serve():
    """Each document comes as its length, a newline, and its bytes; so go verdict and rewritten text."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        length = source.readline()
        if not length:
            return 0
        for answer in verify_and_rewrite(source.read(int(length))):
            raw = answer.encode()
            sink.write(b"%d\n" % len(raw) + raw)
        sink.flush()


def main(arguments):
    known, rewriting, names = None, False, []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--serve":
            return serve()
        if argument == "--market-key":
            known = next(rest, "")
        elif argument == "--rewrite":
            rewriting = True
        elif argument.startswith("-"):
            names = []
            break
        else:
            names.append(argument)
    if len(names) != 1 or known == "":
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with open(names[0], "rb") as file:
            document = file.read(MOST_BYTES + 1)
    except OSError as error:
        print(f"failed to read {names[0]}: {error.strerror}", file=sys.stderr)
        return 3
    if len(document) > MOST_BYTES:
        print(f"{names[0]} is longer than {MOST_BYTES} bytes: no statement is", file=sys.stderr)
        return 1
    verdict, again = verify_and_rewrite(document, known)
    sys.stdout.buffer.write((again if rewriting else verdict + "\n").encode())
    return 0 if verdict.startswith('{"holds":true') else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
