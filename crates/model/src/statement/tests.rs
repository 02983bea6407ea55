use super::*;
use crate::billing::{PriceList, Terms};
use crate::identity::{SecretKey, Sha256Digest, Signed};
use crate::lease::EndReason;
use crate::market_keys::{KeyChain, Turn};
use crate::metering::Receipt;
use crate::resources::Resources;
use crate::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds, Timestamp};
use uuid::Uuid;

mod judged;
mod keyed;

const SECOND: i64 = 1_000_000;

fn market() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn host() -> SecretKey {
    SecretKey::from_seed(&[2; 32])
}

fn terms(n: u128) -> Terms {
    let id = Uuid::from_u128(7);
    Terms {
        lease: Uuid::from_u128(n).into(),
        client: id.into(),
        lender: id.into(),
        host: id.into(),
        partition: id.into(),
        generation: 4,
        resources: Resources { cpu: Millicores(1500), memory: MiB(512), disk: GiB(3) },
        vcpus: 2,
        offer: id.into(),
        offer_version: 1,
        prices: PriceList {
            setup: Micros(100),
            flat: MicrosPerHour(3600),
            cpu: MicrosPerHour(7200),
            memory: MicrosPerHour(7200),
            disk: MicrosPerHour(1200),
            shortest_charge_seconds: Seconds(0),
        },
        image: Sha256Digest::of(b""),
        granted_at: Timestamp(1000 * SECOND),
        until: None,
        fee_permille: 0,
        term_seconds: None,
    }
}

fn seen(terms: &Terms) -> Seen {
    let at = |seconds: i64| Some(Timestamp((1000 + seconds) * SECOND));
    Seen {
        lease: terms.lease,
        name: "box".into(),
        image: "debian-12@12.11-1".into(),
        fetched_at: at(1),
        booted_at: at(2),
        ready_at: at(5),
        contact_at: None,
        stopped_at: Timestamp(1200 * SECOND),
        ended_at: at(202),
        term_seconds: Seconds(3600),
        paid_seconds: Seconds(3600),
        held: Some(Micros(100_000)),
        reason: EndReason::Released,
        settled_at: Timestamp(1203 * SECOND),
    }
}

fn receipts(terms: &Terms, seconds: &[i64]) -> Vec<(Timestamp, Signed<Receipt>)> {
    let mut previous = None;
    let one = |(at, used): (usize, &i64)| {
        let (seq, last) = (at as u64 + 1, at + 1 == seconds.len());
        let (lease, generation, seconds) = (terms.lease, terms.generation, Seconds(*used));
        let receipt = Receipt { lease, generation, seq, seconds, cpu_used_ms: 7, last, previous };
        let signed = Signed::sign(&receipt, &host()).unwrap();
        previous = Some(signed.digest());
        (Timestamp((1010 + used) * SECOND), signed)
    };
    seconds.iter().enumerate().map(one).collect()
}

fn life(n: u128) -> Life {
    let terms = terms(n);
    let credits = vec![Credit {
        lease: terms.lease,
        number: 1,
        at: Timestamp(1300 * SECOND),
        micros: Micros(50),
        borne_by: CreditBearer::Lender,
        note: "it was \"slow\"\u{1f}, <b>they</b> said\u{7f}".into(),
    }];
    let (seen, receipts) = (seen(&terms), receipts(&terms, &[40, 100]));
    Life { terms: Signed::sign(&terms, &market()).unwrap(), seen, receipts, credits }
}

fn head() -> Head {
    let id = Uuid::from_u128(7);
    Head {
        account: id.into(),
        name: "physics".into(),
        side: Side::Client,
        currency: "EUR".into(),
        from: Timestamp(0),
        until: Timestamp(9000 * SECOND),
        made_at: Timestamp(9500 * SECOND),
        market: market().public(),
        keys: Vec::new(),
        hosts: vec![HostKey { host: id.into(), name: "lab7".into(), key: host().public() }],
    }
}

fn statement(lives: Vec<Life>) -> String {
    let mut writer = Writer::new(head()).unwrap();
    for life in lives {
        writer.lease(life).unwrap();
    }
    writer.finish(&market()).unwrap()
}

fn fault(document: &str) -> Fault {
    match verify(document.as_bytes(), None) {
        Verdict::Fails(fault) => fault,
        Verdict::Holds(holds) => panic!("it should not hold: {holds:?}"),
    }
}

#[test]
fn what_was_written_holds_and_comes_to_its_sum() {
    let text = statement(vec![life(1), life(2)]);
    let Verdict::Holds(holds) = verify(text.as_bytes(), Some(market().public())) else { panic!("{text}") };
    // 6 micros a second for 100 seconds and 100 for the set-up, twice, 50 given back each time.
    assert_eq!((holds.leases, holds.charged, holds.credited), (2, Micros(1400), Micros(100)));
    assert_eq!((holds.amount, holds.earned, holds.records), (Micros(1300), Micros(1300), 14));
    let stranger = verify(text.as_bytes(), Some(host().public()));
    let Verdict::Fails(fault) = stranger else { panic!("another market's key") };
    assert_eq!((fault.line, fault.problem), (2, Problem::Key));
}

#[test]
fn fees_and_credits_are_added_up_for_each_side() {
    let with_fee = |n: u128| {
        let mut life = life(n);
        let terms = Terms { fee_permille: 100, ..terms(n) };
        life.terms = Signed::sign(&terms, &market()).unwrap();
        let first = life.credits[0].clone();
        let more = Credit { number: 2, micros: Micros(20), borne_by: CreditBearer::Operator, ..first };
        life.credits.push(more);
        life
    };
    // 700 each: 70 of it the fee; 50 given back by the lender, 20 by the operator.
    for (side, amount) in [(Side::Client, 1260), (Side::Lender, 1160), (Side::Operator, 100)] {
        let mut writer = Writer::new(Head { side, ..head() }).unwrap();
        for n in [1, 2] {
            let charge = writer.lease(with_fee(n)).unwrap();
            assert_eq!((charge.fee, charge.earned), (Micros(70), Micros(630)));
        }
        let text = writer.finish(&market()).unwrap();
        let Verdict::Holds(holds) = verify(text.as_bytes(), None) else {
            panic!("{:?}", verify(text.as_bytes(), None))
        };
        assert_eq!((holds.charged, holds.credited), (Micros(1400), Micros(140)));
        assert_eq!((holds.fees, holds.earned, holds.amount), (Micros(140), Micros(1160), Micros(amount)));
    }
}

#[test]
fn what_costs_nothing_has_no_line() {
    let mut terms = terms(1);
    (terms.prices.memory, terms.resources.disk) = (MicrosPerHour(0), GiB(0));
    let charge = work_out(&terms, &seen(&terms), 1, Some(Seconds(10)));
    let lines: Vec<&str> = charge.segments[0].lines.iter().map(|line| line.what.as_str()).collect();
    assert_eq!(lines, ["flat", "cpu"]);
}

#[test]
fn the_charge_is_the_bill() {
    let terms = terms(1);
    let seen = seen(&terms);
    for receipted in [None, Some(0), Some(1), Some(100), Some(205), Some(300), Some(9000)].map(|s| s.map(Seconds)) {
        let charge = work_out(&terms, &seen, 1, receipted);
        let observation = crate::billing::Observation {
            granted_at: terms.granted_at,
            ready_at: seen.ready_at,
            stopped_at: seen.stopped_at,
            term_seconds: seen.term_seconds,
        };
        let bill = crate::billing::settle(&terms, receipted, observation);
        assert_eq!((charge.total, charge.billed_seconds), (bill.total, bill.billed_seconds));
    }
    let little = Seen { held: Some(Micros(300)), ..seen };
    let charge = work_out(&terms, &little, 1, Some(Seconds(100)));
    assert_eq!((charge.total, charge.charged), (Micros(700), Micros(300)), "never more than was held");
}

/// The key that a market of these tests had before, and its SSH authority then.
fn old(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn ssh(n: u8) -> String {
    format!("ssh-ed25519 AAAA{n:064}")
}

/// It took its second key at 500 s, and the one that it has now at 900 s.
fn chain() -> KeyChain {
    let turn = |chain: KeyChain, (n, old, new, at): (u8, SecretKey, SecretKey, i64)| {
        let (at, ssh_until) = (Timestamp(at * SECOND), Timestamp((at + 50) * SECOND));
        let turn = Turn { old: &old, new: &new, old_ssh_ca: ssh(n), new_ssh_ca: ssh(n + 1), at, ssh_until };
        chain.turned(turn).unwrap()
    };
    [(1, old(21), old(22), 500), (2, old(22), market(), 900)].into_iter().fold(KeyChain::new(old(21).public()), turn)
}

/// A statement of a market that had two keys before, over one lease granted at `at`, signed by `signer`.
fn with_keys(at: i64, signer: &SecretKey) -> String {
    let mut life = life(1);
    let terms = Terms { granted_at: Timestamp(at * SECOND), ..terms(1) };
    life.terms = Signed::sign(&terms, signer).unwrap();
    let mut writer = Writer::new(Head { keys: chain().records().to_vec(), ..head() }).unwrap();
    writer.lease(life).unwrap();
    writer.finish(&market()).unwrap()
}

/// Every byte of a statement with one bit turned: found, in its own line. Every bit: in `tests/lives/bits`.
#[test]
fn a_changed_bit_is_found_where_it_is() {
    let text = with_keys(600, &old(22)).into_bytes();
    let mut line = 1;
    for at in 0..text.len() {
        let mut changed = text.clone();
        changed[at] ^= 1 << (at * 5 % 8);
        let Verdict::Fails(fault) = verify(&changed, None) else { panic!("a bit of byte {at} is missed") };
        assert_eq!(fault.line, line, "byte {at}: {fault:?}");
        line += usize::from(text[at] == b'\n');
    }
}

#[test]
fn what_is_left_out_doubled_or_moved_is_found() {
    let text = statement(vec![life(1), life(2)]);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for at in 0..lines.len() {
        let without: String = lines.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, l)| *l).collect();
        assert!(fault(&without).line <= at + 1, "without line {}: {:?}", at + 1, fault(&without));
        let doubled: String = lines.iter().enumerate().flat_map(|(n, l)| vec![*l; 1 + usize::from(n == at)]).collect();
        assert_eq!(fault(&doubled).line, at + 2, "line {} twice: {:?}", at + 1, fault(&doubled));
        if at > 0 {
            let mut swapped = lines.clone();
            swapped.swap(at - 1, at);
            assert_eq!(fault(&swapped.concat()).line, at, "lines {at} and {} swapped", at + 1);
        }
    }
    for length in [0, 1, 40, text.len() / 2, text.len() - 1] {
        fault(&text[..length]);
    }
}

/// The same, signed by a market that signs whatever it likes.
fn signed_again(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let records = &lines[1..lines.len() - 2];
    let digests = records.iter().map(|l| Sha256Digest::of(l.trim_end_matches(',').as_bytes())).collect();
    let closing: Record = serde_json::from_str(lines[lines.len() - 2]).unwrap();
    let Record::Closing(closing) = closing else { panic!("the last record is the closing") };
    let mut said: Closing = serde_json::from_str(&closing.payload).unwrap();
    said.lines = digests;
    let Signed { payload, key, signature, .. } = Signed::sign(&said, &market()).unwrap();
    let again = serde_json::to_string(&Record::Closing(record::ClosingRecord { payload, key, signature })).unwrap();
    text.replace(lines[lines.len() - 2], &again)
}

/// A market that signs whatever it likes: the arithmetic is looked at all the same.
#[test]
fn a_market_can_not_sign_away_the_arithmetic() {
    let resign = |from: &str, to: &str| fault(&signed_again(&statement(vec![life(1), life(2)]).replacen(from, to, 1)));
    let told =
        |f: Fault| (f.line, f.field.unwrap_or_default(), f.expected.unwrap_or_default(), f.found.unwrap_or_default());
    let all = |line, field: &str, expected: &str, found: &str| (line, field.into(), expected.into(), found.into());
    assert_eq!(told(resign("\"total\":700", "\"total\":701")), all(7, "total", "700", "701"));
    assert_eq!(told(resign("\"metered\":600", "\"metered\":601")), all(7, "metered", "600", "601"));
    let parts = (3600i64 * 1_024_000 * 100).to_string();
    let line = "segments[0].lines[0].parts";
    assert_eq!(told(resign(&format!("\"parts\":\"{parts}\""), "\"parts\":\"1\"")), all(7, line, &parts, "1"));
    // What the market saw is its own word, but the charge has to follow from it.
    let stopped = format!("\"stopped_at\":{}", 1200 * SECOND);
    let earlier = format!("\"stopped_at\":{}", 1050 * SECOND);
    assert_eq!(told(resign(&stopped, &earlier)), all(7, "because", "clock", "receipts"));
    assert_eq!(told(resign("\"micros\":50", "\"micros\":701")), all(8, "micros", "at most 700", "701"));
    let settled = format!("\"settled_at\":{}", 1203 * SECOND);
    let (earlier, found) = (1100 * SECOND, (1110 * SECOND).to_string());
    let late = resign(&settled, &format!("\"settled_at\":{earlier}"));
    assert_eq!((late.problem, late.receipt), (Problem::Late, Some(2)));
    assert_eq!(told(late), all(6, "received_at", &format!("at most {earlier}"), &found));
}

#[test]
fn a_host_can_not_rewrite_its_chain() {
    let resigned = |change: &dyn Fn(usize, &mut Receipt)| {
        let mut life = life(1);
        for (at, (_, signed)) in life.receipts.iter_mut().enumerate() {
            let mut receipt = signed.read().unwrap();
            change(at, &mut receipt);
            *signed = Signed::sign(&receipt, &host()).unwrap();
        }
        let fault = fault(&statement(vec![life]));
        (fault.line, fault.receipt, fault.problem)
    };
    let second = |change: &dyn Fn(&mut Receipt)| {
        resigned(&|at, r| {
            if at == 1 {
                change(r)
            }
        })
    };
    assert_eq!(second(&|r| r.seconds = Seconds(39)), (6, Some(2), Problem::Backwards));
    assert_eq!(second(&|r| r.seq = 3), (6, Some(2), Problem::Seq));
    assert_eq!(second(&|r| r.previous = None), (6, Some(2), Problem::Previous));
    assert_eq!(second(&|r| r.generation = 5), (6, Some(2), Problem::Lease));
    assert_eq!(second(&|r| r.lease = Uuid::from_u128(2).into()), (6, Some(2), Problem::Lease));
    assert_eq!(second(&|r| r.seconds = Seconds(-1)), (6, Some(2), Problem::Implausible));
    // The second names the first as it was.
    assert_eq!(resigned(&|at, r| r.cpu_used_ms += i64::from(at == 0)), (6, Some(2), Problem::Previous));
}

#[test]
fn signed_text_that_could_be_read_in_two_ways_is_malformed() {
    for (from, to) in
        [("\"seq\":2", "\"seq\":2.0"), ("\"seq\":2", "\"seq\":1,\"seq\":2"), ("{\"lease\"", "{ \"lease\"")]
    {
        let mut life = life(1);
        let signed = &mut life.receipts[1].1;
        let payload = signed.payload.replacen(from, to, 1);
        signed.signature = host().sign_bytes(format!("sublet receipt 1\n{payload}").as_bytes());
        signed.payload = payload;
        // A writer that does not look can be had; a verifier can't.
        let mut text = statement(vec![Life { receipts: life.receipts[..1].to_vec(), ..life.clone() }]);
        let receipt = &life.receipts[1];
        let Signed { payload, key, signature, .. } = receipt.1.clone();
        let lease = life.seen.lease;
        let line = Record::Receipt(ReceiptRecord { lease, received_at: receipt.0, payload, key, signature });
        let line = serde_json::to_string(&line).unwrap() + ",\n";
        let charge = text.find("{\"record\":\"charge\"").unwrap();
        text.insert_str(charge, &line);
        let fault = fault(&text);
        assert_eq!((fault.line, fault.problem, fault.field.as_deref()), (6, Problem::Malformed, Some("payload")));
    }
}

/// Every element is closed where it belongs, and attributes are quoted.
#[track_caller]
fn is_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for piece in html.strip_prefix("<!doctype html>").unwrap().split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag is closed");
        assert!(!text.contains('>'), "{text}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split(' ').next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
            None if ["meta", "br"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, [] as [&str; 0]);
}

#[test]
fn a_statement_is_shown_and_nothing_in_it_is_markup() {
    let mut shown = Shown::default();
    let text = statement(vec![life(1)]);
    let verdict = verify_with(text.as_bytes(), None, |record| shown.take(record));
    assert!(matches!(verdict, Verdict::Holds(_)));
    let html = shown.html();
    assert!(html.contains("&lt;b&gt;they&lt;/b&gt;") && !html.contains("<b>"), "{html}");
    assert!(!html.chars().any(|c| c.is_control() && c != '\n'));
    let timeline = format!("granted {} &rarr; image there", Timestamp(1000 * SECOND));
    for piece in ["Statement of physics, client", &timeline, "3 GiB of x 0.0012/h a GiB x 100 s", ">0.0003<"] {
        assert!(html.contains(piece), "{piece} is not in {html}");
    }
    for piece in ["1500m cores x 0.0072/h x 100 s", "512 MiB of x 0.0072/h a GiB x 100 s", ">0.0007<", "lab7", "to pay"]
    {
        assert!(html.contains(piece), "{piece} is not in {html}");
    }
    is_well_formed(&html);
    let mut keys = Shown::default();
    verify_with(with_keys(450, &old(21)).as_bytes(), None, |record| keys.take(record));
    for (key, count) in [(21, 1), (22, 0)] {
        let key = old(key).public();
        let words = format!("{key}, signed the terms of {count} of these leases");
        assert!(keys.html().contains(&words), "who signed what is shown");
    }
    is_well_formed(&keys.html());
    let csv = shown.csv();
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].split(',').count(), rows[1].split(',').count());
    assert!(rows[1].contains(",100,receipts,0.0006,0.0001,0.0007,0.0007,0.00,0.0007,0.00005,EUR"), "{csv}");
}
