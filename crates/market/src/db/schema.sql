-- The resource database of a market. Times are microseconds since 1970-01-01 UTC by the market's
-- clock; ids, states and reasons are words; amounts carry their unit in the column's name; money is
-- in millionths of the market's currency. Rules that the engine keeps are repeated here, so that
-- an edit by hand can't break them either.
--
-- Tables of short rows are kept in the order of their keys (without rowid). Those of long rows are not: there a
-- long row would stand in the inner pages of the tree too, and what does not fit into a quarter of a page in one
-- of its own, written again with each change. What still runs is told by `ended_at is null`, for a change of
-- state alone then leaves the indexes as they are.

-- what the database itself needs to know; one row a word
create table meta (
    name text primary key,          -- schema, epoch, epoch_at, market_time, currency, created_at, fee_permille, ledger_since, chunk_seconds
    value text not null             -- its value, as text
) strict, without rowid;

-- who holds money, and owns hosts, offers and leases
create table accounts (
    id text primary key,            -- acct_…
    name text not null unique,      -- one of a kind in the market
    suspended integer not null check (suspended in (0, 1)), -- 1: barred from new leases and listings
    created_at integer not null,    -- when it was made
    on_account integer not null default 0 check (on_account in (0, 1)), -- 1: pays afterwards, by its statements
    month_limit_micros integer check (month_limit_micros >= 0) -- the most that it may spend in a month, by utc
) strict, without rowid;

-- people and programs acting for an account
create table members (
    id text primary key,            -- mem_…
    account text not null references accounts (id), -- for whom it acts
    name text not null,             -- one of a kind in the account
    roles text not null,            -- what it may do: words, separated by commas
    created_at integer not null,    -- when it was made
    unique (account, name)
) strict, without rowid;

-- api tokens; the secrets are nowhere
create table tokens (
    id text primary key,            -- tok_…
    member text not null references members (id), -- whose it is
    name text not null,             -- for people
    hash text not null unique,      -- sha-256 of the secret, hexadecimal
    roles text not null,            -- which of the member's roles it carries
    expires_at integer not null,    -- from when on it opens nothing
    created_at integer not null,    -- when it was made
    revoked_at integer              -- when it was revoked
) strict, without rowid;

-- tokens with which computers join
create table join_tokens (
    id text primary key,            -- tok_…
    account text not null references accounts (id), -- whose hosts they become
    member text not null references members (id), -- who made it
    hash text not null unique,      -- sha-256 of the secret, hexadecimal
    uses integer not null check (uses > 0), -- for how many computers
    used integer not null check (used between 0 and uses), -- how many have joined with it
    expires_at integer not null,    -- from when on nobody joins with it
    created_at integer not null     -- when it was made
) strict, without rowid;

-- lenders' computers
create table hosts (
    id text not null primary key,   -- host_…
    name text not null,             -- one of a kind among those not forgotten
    account text not null references accounts (id), -- who owns it
    key text not null,              -- signs its sessions and receipts: ed25519, base 64
    ssh_host_key text not null,     -- what clients pin, in openssh's form
    dial text not null,             -- where clients dial; empty before the first sync
    arch text not null,             -- such as x86_64
    tier text not null check (tier in ('emulated', 'kvm')), -- what runs its partitions
    cpu_millicores integer not null,-- all its processor time: 1000 is one hardware thread
    memory_mib integer not null,    -- all its memory
    disk_gib integer not null,      -- free room for partitions' disks and images
    inventory text not null check (json_valid(inventory)), -- all that was measured, as json
    keep_cpu_millicores integer not null check (keep_cpu_millicores >= 0), -- what its owner keeps
    keep_memory_mib integer not null check (keep_memory_mib >= 0), -- what its owner keeps
    keep_disk_gib integer not null check (keep_disk_gib >= 0), -- what its owner keeps
    division_revision integer not null, -- the newest division taken in; 0 before the first
    offer text,                     -- the conditions on which it lends
    offer_version integer,          -- their newest version
    session integer not null,       -- the newest session
    used_session integer not null check (used_session <= session), -- the newest in which a sync came
    session_reset integer not null check (session_reset in (0, 1)), -- 1: the next one need not name the last
    suspended integer not null check (suspended in (0, 1)), -- 1: barred from new grants
    forgotten_at integer,           -- when the operator gave it up
    plan_version integer not null,  -- rises with every change of what it should have
    joined_with text not null references join_tokens (id), -- with which token it joined
    joined_at integer not null,     -- when it joined
    foreign key (offer, offer_version) references offers (id, version)
) strict;
create unique index hosts_name on hosts (name) where forgotten_at is null;
create unique index hosts_key on hosts (key) where forgotten_at is null;

-- lending conditions; a version never changes
create table offers (
    id text not null,               -- offer_…
    version integer not null check (version > 0), -- rises with every change
    account text not null references accounts (id), -- who lends
    setup_micros integer not null,  -- once for each lease
    flat_micros_per_hour integer not null, -- for the partition, whatever its size
    cpu_micros_per_core_hour integer not null, -- for 1000 millicores
    memory_micros_per_gib_hour integer not null, -- for a gib of memory
    disk_micros_per_gib_hour integer not null, -- for a gib of disk
    conditions text not null check (json_valid(conditions)), -- all of them, as json
    created_at integer not null,    -- since when
    primary key (id, version)
) strict, without rowid;

-- logical partitions of hosts, with their lending conditions and certification information;
-- what each has now is its newest allocation
create table partitions (
    id text not null primary key,   -- part_…
    host text not null references hosts (id), -- the computer it is a part of
    name text not null,             -- one of a kind on its host
    lendable integer not null check (lendable in (0, 1)), -- 1: the owner lends it
    offer text,                     -- on which conditions
    min_cpu_millicores integer not null, -- never less
    min_memory_mib integer not null,-- never less
    min_disk_gib integer not null,  -- never less
    desired_cpu_millicores integer not null check (desired_cpu_millicores >= min_cpu_millicores), -- returned to when idle
    desired_memory_mib integer not null check (desired_memory_mib >= min_memory_mib), -- returned to when idle
    desired_disk_gib integer not null check (desired_disk_gib >= min_disk_gib), -- returned to when idle
    max_cpu_millicores integer not null check (max_cpu_millicores >= desired_cpu_millicores), -- never more
    max_memory_mib integer not null check (max_memory_mib >= desired_memory_mib), -- never more
    max_disk_gib integer not null check (max_disk_gib >= desired_disk_gib), -- never more
    access_method text check (access_method in ('ssh_certificate')), -- how a client authenticates
    access_ca text,                 -- who signs its certificates, in openssh's form
    access_host_key text,           -- what it pins, in openssh's form
    access_dial text,               -- where it dials
    failed_boots integer not null,  -- how many failed in a row
    unlisted_until integer,         -- after those, until when the market does not lend it
    taken_back_generation integer,  -- the generation that the owner wants back
    taken_back_at integer,          -- when it said so
    listed_at integer,              -- since when it is lent
    leaving integer not null check (leaving in (0, 1)), -- 1: declared no more, retires when idle
    declared_at integer not null,   -- when it was declared first
    retired_at integer              -- when it went for good; its id never comes back
) strict;
create unique index partitions_name on partitions (host, name) where retired_at is null;

-- what a partition has: a row never changes, a newer one follows it
create table allocations (
    partition text not null references partitions (id), -- which one
    generation integer not null check (generation >= 0), -- the fence: rises only at a grant
    revision integer not null check (revision >= 0), -- counts the rows of a generation
    cpu_millicores integer not null check (cpu_millicores > 0), -- guaranteed processor time
    memory_mib integer not null check (memory_mib > 0), -- memory of its own operating system
    disk_gib integer not null check (disk_gib >= 0), -- scratch disk
    vcpus integer not null check (vcpus > 0 and cpu_millicores <= vcpus * 1000), -- hardware threads its guest sees
    at integer not null,            -- since when
    primary key (partition, generation, revision)
) strict, without rowid;

-- operating systems that may boot
create table images (
    digest text primary key,        -- sha-256 of the signed manifest: what leases name
    reference text not null unique, -- such as debian-12@12.11-1
    os text not null,               -- such as debian
    arch text not null,             -- such as x86_64
    manifest text not null check (json_valid(manifest)), -- the manifest, exactly as it was signed
    key text not null,              -- who signed
    signature text not null,        -- ed25519, base 64
    depot text not null,            -- where its blobs are
    suspended integer not null check (suspended in (0, 1)), -- 1: barred from new leases
    registered_at integer not null  -- when
) strict, without rowid;

-- the right to use a partition for a while
create table leases (
    id text not null primary key,   -- lease_…
    name text not null,             -- one of a kind among its account's slot-holding leases
    account text not null references accounts (id), -- who rents
    member text not null references members (id), -- which member rented
    host text not null references hosts (id), -- which computer
    partition text not null references partitions (id), -- which partition
    generation integer not null,    -- the fence
    revision integer not null,      -- its allocation of that generation
    state text not null check (state in ('granted', 'active', 'stopping', 'lost', 'ended')), -- where it stands
    reason text,                    -- why it ends or ended
    silent_since integer,           -- since when its host is not heard of, while that matters
    granted_at integer not null,    -- the right was given
    fetched_at integer,             -- its image was whole on the host
    booted_at integer,              -- the machine was started
    ready_at integer,               -- the guest answered: the meter runs
    contact_at integer,             -- the client authenticated for the first time
    stopped_at integer,             -- it was decided or learned that it stops
    ended_at integer,               -- the host said gone and wiped
    term_seconds integer not null check (term_seconds > 0), -- the longest it may run, from ready
    paid_seconds integer not null check (paid_seconds > 0), -- what is paid for, from ready
    one_shot integer not null check (one_shot in (0, 1)), -- 1: ends with its first job
    release_after_disconnect_seconds integer not null, -- how long it outlives its client then
    ssh_public_key text not null,   -- the client's, in openssh's form
    image text not null,            -- reference of what boots
    image_digest text not null references images (digest), -- frozen at the grant
    hourly_micros integer not null, -- its price for an hour, for reading
    terms text not null check (json_valid(terms)), -- what was agreed, exactly as it was signed
    terms_key text not null,        -- the market's key
    terms_signature text not null,  -- ed25519, base 64
    detail text,                    -- more words from the host on a failure
    started text,                   -- how its machine was started: from a template, or booted and why
    check ((state in ('stopping', 'lost', 'ended')) = (reason is not null)),
    check ((state = 'ended') = (ended_at is not null)),
    check (state <> 'active' or ready_at is not null),
    unique (partition, generation),
    foreign key (partition, generation, revision) references allocations (partition, generation, revision)
) strict;
-- at most one slot-holding lease a partition, at all times
create unique index leases_holder on leases (partition) where ended_at is null;
create unique index leases_name on leases (account, name) where ended_at is null;

-- signed use, cumulative; each names the one before
create table receipts (
    lease text not null references leases (id), -- whose use
    seq integer not null check (seq > 0), -- counts from 1 without a gap
    seconds integer not null check (seconds >= 0), -- used up to here
    cpu_used_ms integer not null,   -- processor time really used; not billed
    last integer not null check (last in (0, 1)), -- 1: the meter has stopped
    digest text not null,           -- what the next one names
    payload text not null check (json_valid(payload)), -- exactly as the host signed it
    signature text not null,        -- ed25519 by the host's key, base 64
    received_at integer not null,   -- when the market heard it
    primary key (lease, seq)
) strict, without rowid;

-- final bills
create table charges (
    lease text primary key references leases (id), -- for which lease
    client text not null references accounts (id), -- who pays
    lender text not null references accounts (id), -- who earns
    receipt_seq integer not null,   -- the receipt it rests on; 0 for none
    receipted_seconds integer not null, -- what that receipt says
    billed_seconds integer not null check (billed_seconds >= 0), -- what is billed
    hourly_micros integer not null, -- for reading
    setup_micros integer not null check (setup_micros >= 0), -- once
    total_micros integer not null check (total_micros >= 0), -- what the client pays and the lender earns
    settled_at integer not null     -- when
) strict, without rowid;

-- money that moved: double entry. The postings come first, and this row closes them
create table transfers (
    number integer primary key,     -- counts from 1, without a gap
    at integer not null,            -- when
    cause text not null,            -- why
    account text references accounts (id), -- of a deposit or refund; client of a hold, lender of a charge
    lease text references leases (id), -- for which lease; none where money came in or went out
    reference text,                 -- what proves a deposit or refund outside
    ordinal integer,                -- of a charge: the receipt it rests on; of a credit: its number
    check (cause in ('deposit', 'refund', 'hold', 'charge', 'void', 'withhold', 'pay_out', 'credit')),
    check ((cause in ('deposit', 'refund')) = (lease is null)),
    check ((cause in ('deposit', 'refund')) = (reference is not null)),
    check ((cause in ('charge', 'credit')) = (ordinal is not null))
) strict;
create unique index transfers_reference on transfers (cause, reference) where reference is not null;
create index transfers_lease on transfers (lease) where lease is not null;

-- the sides of each transfer: one below zero, the others above, together nothing
create table postings (
    transfer integer not null references transfers (number) deferrable initially deferred, -- of which
    book text not null,             -- available:acct_…, owed:acct_…, held:lease_…, withheld:lease_…, fees or outside
    micros integer not null check (micros <> 0), -- more in it, or less
    balance integer not null,       -- what was in it then
    check (balance >= 0 or book = 'outside' or book glob 'owed:*'),
    check (balance <= 0 or book not glob 'owed:*'), -- a debt
    primary key (transfer, book)
) strict, without rowid;
create index postings_book on postings (book, transfer);

-- what every book has; a query
create view balances as select book, sum(micros) as micros from postings group by book;

-- what a lease may cost, and for how long the market may be out of reach, where somebody said so
create table budgets (
    lease text primary key references leases (id), -- which lease
    most_micros integer check (most_micros >= 0), -- never more than this, extended or not
    outage_allowance_seconds integer not null check (outage_allowance_seconds >= 0) -- held beyond one chunk
) strict, without rowid;

-- what was given back of a charge: a credit note
create table credits (
    lease text not null references leases (id), -- of which lease
    number integer not null check (number > 0), -- counts from 1
    at integer not null,            -- when
    micros integer not null check (micros > 0), -- how much
    borne_by text not null check (borne_by in ('lender', 'operator')), -- by whom
    note text not null,             -- why
    primary key (lease, number)
) strict, without rowid;

-- words that a charge is wrong; until one is resolved, the lender's part is withheld
create table disputes (
    id text primary key,            -- disp_…
    lease text not null references leases (id), -- about which lease
    line integer,                   -- of the statement, where one was named
    reason text not null,           -- a word such as unreachable
    words text not null,            -- more of them
    opened_by text not null,        -- a member, or the market
    opened_at integer not null,     -- when
    resolved_by text,               -- which member of the operator
    resolved_at integer,            -- when; none while it is open
    credited_micros integer check (credited_micros >= 0), -- what came of it
    note text,                      -- why
    check ((resolved_at is null) = (resolved_by is null)),
    check ((resolved_at is null) = (credited_micros is null))
) strict, without rowid;

-- what an account was told without asking, such as that its funds run out; old ones go
create table alerts (
    seq integer primary key,        -- rises
    at integer not null,            -- when
    account text not null references accounts (id), -- whom
    lease text references leases (id), -- about which lease
    kind text not null,             -- a word such as funds_low
    paid_seconds integer not null,  -- how far the lease was paid then
    words text not null             -- what to do
) strict;

-- requests that were done: the same key gets the same answer
create table idempotency (
    member text not null,           -- whose key
    key text not null,              -- as it was sent
    body text not null,             -- sha-256 of method, path and body
    outcome text not null check (json_valid(outcome)), -- what was done
    forever integer not null check (forever in (0, 1)), -- 1: kept, for it may have moved money
    at integer not null,            -- when
    primary key (member, key)
) strict, without rowid;
create index idempotency_age on idempotency (at) where forever = 0;

-- every change, in order: how a follower keeps up
create table events (
    seq integer primary key,        -- rises
    at integer not null,            -- when
    kind text not null,             -- what changed
    version integer not null,       -- of the form of the change
    change text not null            -- the change, as json
) strict;

-- what operators, lenders and hosts did
create table audit (
    seq integer primary key,        -- rises
    at integer not null,            -- when
    actor text not null,            -- a member, a host, or the market itself
    action text not null,           -- such as host.join
    object text not null,           -- to what
    detail text not null            -- in words
) strict;
create index audit_object on audit (object);

-- an allocation never changes and never goes
create trigger allocations_never_change before update on allocations begin
    select raise(abort, 'an allocation never changes: a newer one follows it');
end;
create trigger allocations_never_go before delete on allocations begin
    select raise(abort, 'an allocation never goes');
end;
-- while a lease holds a partition, its allocation is frozen: the grant puts the allocation before the lease
create trigger allocations_locked before insert on allocations
when exists (select 1 from leases where partition = new.partition and ended_at is null) begin
    select raise(abort, 'the partition is locked: a lease holds it (select id from leases where ended_at is null)');
end;
create trigger allocations_only_rise before insert on allocations
when exists (
    select 1 from allocations where partition = new.partition
    and (generation, revision) >= (new.generation, new.revision)
) begin
    select raise(abort, 'generation and revision only rise');
end;
-- a lease is granted on the newest allocation, and its generation is new
create trigger leases_on_newest before insert on leases
when (new.generation, new.revision) is not (
    select generation, revision from allocations where partition = new.partition
    order by generation desc, revision desc limit 1
) or new.state <> 'granted' begin
    select raise(abort, 'a lease begins granted, on the newest allocation of its partition');
end;
-- insert or replace removes rows without asking: what it would remove is looked for first, each by its own index
create trigger leases_one_a_partition before insert on leases
when exists (select 1 from leases where id = new.id)
    or exists (select 1 from leases where rowid = new.rowid)
    or exists (select 1 from leases where partition = new.partition and generation >= new.generation)
    or exists (select 1 from leases where partition = new.partition and ended_at is null)
    or exists (select 1 from leases where account = new.account and name = new.name and ended_at is null)
begin
    select raise(abort, 'the partition is held by a lease, or the lease or its name is there already');
end;
create trigger leases_never_go before delete on leases begin
    select raise(abort, 'a lease never goes');
end;
create trigger leases_end_for_good before update on leases when old.state = 'ended' begin
    select raise(abort, 'a lease that ended never changes');
end;
create trigger leases_keep_their_terms before update of
    id, account, member, host, partition, generation, revision, granted_at, image_digest, terms, terms_key, terms_signature
on leases begin
    select raise(abort, 'what was agreed never changes');
end;
create trigger partitions_keep_their_host before update of id, host on partitions begin
    select raise(abort, 'a partition stays on its host');
end;
create trigger partitions_begin_once before insert on partitions
when exists (select 1 from partitions where id = new.id)
    or exists (select 1 from partitions where rowid = new.rowid) begin
    select raise(abort, 'a partition stays on its host, and begins once');
end;
create trigger partitions_never_go before delete on partitions begin
    select raise(abort, 'a partition never goes: it retires');
end;
create trigger partitions_retire_idle before update of retired_at on partitions
when new.retired_at is not null
    and exists (select 1 from leases where partition = new.id and ended_at is null) begin
    select raise(abort, 'a lease holds the partition: it can''t retire');
end;
create trigger partitions_never_return before update of retired_at on partitions
when old.retired_at is not null and new.retired_at is not old.retired_at begin
    select raise(abort, 'a retired partition never comes back');
end;
create trigger offers_once before insert on offers
when exists (select 1 from offers where id = new.id and version = new.version) begin
    select raise(abort, 'a version of an offer never changes');
end;
create trigger offers_never_change before update on offers begin
    select raise(abort, 'a version of an offer never changes');
end;
create trigger offers_never_go before delete on offers begin
    select raise(abort, 'a version of an offer never goes');
end;
create trigger receipts_never_change before update on receipts begin
    select raise(abort, 'a receipt never changes');
end;
create trigger receipts_never_go before delete on receipts begin
    select raise(abort, 'a receipt never goes');
end;
create trigger receipts_without_gap before insert on receipts
when new.seq <> 1 + (select coalesce(max(seq), 0) from receipts where lease = new.lease)
    or new.seconds < (select coalesce(max(seconds), 0) from receipts where lease = new.lease)
    or exists (select 1 from receipts where lease = new.lease and last = 1) begin
    select raise(abort, 'receipts follow each other without a gap, never backwards, and none follows the last');
end;
create trigger charges_once before insert on charges
when exists (select 1 from charges where lease = new.lease) begin
    select raise(abort, 'a charge never changes: a credit note follows it');
end;
create trigger charges_never_change before update on charges begin
    select raise(abort, 'a charge never changes: a credit note follows it');
end;
create trigger charges_never_go before delete on charges begin
    select raise(abort, 'a charge never goes');
end;
create trigger charges_after_the_stop before insert on charges
when (select state from leases where id = new.lease) in ('granted', 'active') begin
    select raise(abort, 'a lease that runs is not settled');
end;
create trigger events_once before insert on events
when exists (select 1 from events where seq = new.seq) begin
    select raise(abort, 'an event never changes');
end;
create trigger events_never_change before update on events begin
    select raise(abort, 'an event never changes');
end;
create trigger events_never_go before delete on events begin
    select raise(abort, 'an event never goes');
end;
create trigger audit_once before insert on audit
when exists (select 1 from audit where seq = new.seq) begin
    select raise(abort, 'the audit log never changes');
end;
create trigger audit_never_changes before update on audit begin
    select raise(abort, 'the audit log never changes');
end;
create trigger audit_never_goes before delete on audit begin
    select raise(abort, 'the audit log never goes');
end;
create trigger idempotency_once before insert on idempotency
when exists (select 1 from idempotency where member = new.member and key = new.key) begin
    select raise(abort, 'what was answered never changes');
end;
create trigger idempotency_never_changes before update on idempotency begin
    select raise(abort, 'what was answered never changes');
end;
create trigger idempotency_is_kept before delete on idempotency when old.forever = 1 begin
    select raise(abort, 'what may have moved money is kept');
end;
create trigger transfers_balance before insert on transfers
when new.number <> 1 + (select coalesce(max(number), 0) from transfers)
    or (select sum(micros) from postings where transfer = new.number) is not 0
    or (select count(*) from postings where transfer = new.number and micros < 0) <> 1 begin
    select raise(abort, 'transfers are numbered without a gap, take from one book and sum to zero');
end;
create trigger transfers_never_change before update on transfers begin
    select raise(abort, 'a transfer never changes: another one follows it');
end;
create trigger transfers_never_go before delete on transfers begin
    select raise(abort, 'a transfer never goes: another one follows it');
end;
create trigger postings_are_closed before insert on postings
when exists (select 1 from transfers where number >= new.transfer) begin
    select raise(abort, 'a transfer that was made gets no more postings');
end;
create trigger postings_follow before insert on postings
when new.balance is not new.micros
    + coalesce((select balance from postings where book = new.book order by transfer desc limit 1), 0) begin
    select raise(abort, 'what is in a book is what was in it before, and what moved');
end;
create trigger postings_never_change before update on postings begin
    select raise(abort, 'a posting never changes: another transfer follows it');
end;
create trigger postings_never_go before delete on postings begin
    select raise(abort, 'a posting never goes: another transfer follows it');
end;
create trigger budgets_never_change before update on budgets begin
    select raise(abort, 'what a lease may cost never changes');
end;
create trigger credits_follow before insert on credits
when new.number <> 1 + (select coalesce(max(number), 0) from credits where lease = new.lease)
    or not exists (select 1 from charges where lease = new.lease) begin
    select raise(abort, 'credit notes of a lease follow its charge, and each other without a gap');
end;
create trigger credits_never_change before update on credits begin
    select raise(abort, 'a credit note never changes');
end;
create trigger credits_never_go before delete on credits begin
    select raise(abort, 'a credit note never goes');
end;
create trigger disputes_once before insert on disputes
when exists (select 1 from disputes where id = new.id) begin
    select raise(abort, 'a dispute is opened once');
end;
create trigger disputes_are_resolved_once before update on disputes
when old.resolved_at is not null
    or (new.id, new.lease, new.reason, new.words, new.opened_by, new.opened_at)
        <> (old.id, old.lease, old.reason, old.words, old.opened_by, old.opened_at) begin
    select raise(abort, 'a dispute is resolved once, and is never another one');
end;
create trigger disputes_never_go before delete on disputes begin
    select raise(abort, 'a dispute never goes');
end;
create trigger alerts_once before insert on alerts
when exists (select 1 from alerts where seq = new.seq) begin
    select raise(abort, 'an alert never changes');
end;
create trigger alerts_never_change before update on alerts begin
    select raise(abort, 'an alert never changes');
end;
