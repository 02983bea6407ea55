-- What a host must still know after a power cut. Times are microseconds of CLOCK_MONOTONIC
-- (…_mono_us, stands still while the computer sleeps) or CLOCK_BOOTTIME (…_boot_us) of `boot_id`.

-- Who this host is, and to which market it belongs. One row, written when it joins.
create table identity (
    id integer primary key check (id = 1),
    host text not null,                 -- host_…
    name text not null,                 -- as the owner calls it
    account text not null,              -- whose it is
    market text not null,               -- base address
    fingerprint text,                   -- SHA-256 of the market's certificate; none on loopback
    market_key text not null,           -- pinned: signs terms
    ssh_ca text not null,               -- JSON list: keys that may sign client certificates now
    session integer not null default 0, -- the newest session that this host had
    epoch integer not null default 1    -- the newest epoch of the market: rises when it is restored
) strict;

create trigger a_session_only_rises before update of session on identity
when new.session < old.session
begin select raise(abort, 'a session number only rises'); end;

create trigger an_epoch_only_rises before update of epoch on identity
when new.epoch < old.epoch
begin select raise(abort, 'an epoch only rises: the market is an older copy of itself'); end;

create trigger a_host_keeps_its_name_and_market before update of host, market_key on identity
begin select raise(abort, 'a host joins once; make a new state directory to join another market'); end;

-- How the owner divided the computer. One row; the owner's word is final on this computer.
create table division (
    id integer primary key check (id = 1),
    revision integer not null,          -- rises with every change
    body text not null check (json_valid(body))
) strict;

create trigger a_division_only_rises before update on division
when new.revision <= old.revision
begin select raise(abort, 'the division was changed by somebody else meanwhile; try again'); end;

-- One place a partition: the short name of its run directory, and the user its monitor runs as.
create table places (
    partition text primary key,
    place integer not null unique,
    uid integer not null unique
) strict;

-- What was durably applied: here before anything starts (I2), never changed afterwards (I3).
create table allocations (
    partition text not null,
    generation integer not null check (generation >= 0),
    revision integer not null check (revision >= 0),
    cpu_millicores integer not null,
    memory_mib integer not null,
    disk_gib integer not null,
    vcpus integer not null,
    primary key (partition, generation, revision)
) strict;

create trigger an_allocation_never_changes before update on allocations
begin select raise(abort, 'an allocation row never changes'); end;

create trigger an_allocation_is_never_removed before delete on allocations
begin select raise(abort, 'an allocation row is never removed'); end;

create trigger generations_only_rise before insert on allocations
when exists (
    select 1 from allocations a
    where a.partition = new.partition
      and (a.generation, a.revision) >= (new.generation, new.revision))
begin select raise(abort, 'generations and revisions only rise'); end;

-- One life of a partition: a generation for one lease, from its begin to gone and wiped.
create table runs (
    partition text not null,
    generation integer not null,
    lease text not null unique,
    wanted text not null check (json_valid(wanted)),  -- what the market asked for, signed terms and all
    term_seconds integer not null,      -- may run so long, counted from ready; only rises
    paid_seconds integer not null,      -- is paid for so long, counted from ready; only rises
    stage integer not null default 0 check (stage between 0 and 4),
                                        -- 0 fetching, 1 booting, 2 ready, 3 stopping, 4 gone
    uuid text not null,                 -- of the machine
    boot_id text,                       -- of the computer, when the machine was started
    started_mono_us integer,
    started_boot_us integer,
    ready_mono_us integer,              -- the meter starts
    ready_boot_us integer,              -- the term starts
    metered_seconds integer not null default 0,  -- the meter as of the last progress, or its end
    contacted integer not null default 0,        -- whether a client has authenticated since ready
    job text,                           -- the first job, of a one-shot lease
    vanished_boot_us integer,           -- since when the client of a one-shot lease is away
    reason text,                        -- why it ends, where this host is the one who knows
    detail text,                        -- in more words
    started text,                       -- how its machine was started: from a template, or why not
    told_epoch integer not null,        -- the newest epoch of the market that knows of it
    primary key (partition, generation)
) strict;
create index runs_told on runs (told_epoch);

-- A host runs at most one generation of a partition.
create unique index one_life_a_partition on runs (partition) where stage < 4;

create trigger a_run_is_of_the_newest_generation before insert on runs
when new.generation <> (select max(generation) from allocations a where a.partition = new.partition)
  or not exists (select 1 from allocations a where a.partition = new.partition)
begin select raise(abort, 'only the newest applied generation may run'); end;

create trigger a_generation_runs_once before insert on runs
when exists (select 1 from gone g where g.partition = new.partition and g.generation >= new.generation)
begin select raise(abort, 'that generation is gone'); end;

create trigger a_held_partition_is_frozen before insert on allocations
when exists (select 1 from runs r where r.partition = new.partition and r.stage < 4)
begin select raise(abort, 'the partition is held by a lease: its allocation is frozen'); end;

create trigger a_run_only_goes_on before update on runs
when new.stage < old.stage
  or new.partition <> old.partition or new.generation <> old.generation or new.lease <> old.lease
  or new.wanted <> old.wanted
  or new.term_seconds < old.term_seconds or new.paid_seconds < old.paid_seconds
  or (old.ready_mono_us is not null and new.ready_mono_us is not old.ready_mono_us)
  or (old.ready_boot_us is not null and new.ready_boot_us is not old.ready_boot_us)
  or (old.reason is not null and new.reason is not old.reason)
  or new.metered_seconds < old.metered_seconds
begin select raise(abort, 'a run only goes on: stage, meter and paid time rise, the first reason stands'); end;

create trigger a_run_is_removed_when_gone before delete on runs
when old.stage < 4
begin select raise(abort, 'a run is removed only when it is gone'); end;

-- Generations that are stopped and wiped, whether they ever ran or not.
create table gone (
    partition text not null,
    generation integer not null,
    reason text,                        -- where this host is the one who knows
    detail text,
    acknowledged integer not null default 0,
    primary key (partition, generation)
) strict;

create trigger gone_stays_gone before update on gone
when new.partition <> old.partition or new.generation <> old.generation or new.reason is not old.reason
  or new.acknowledged < old.acknowledged
begin select raise(abort, 'what is gone stays gone'); end;

-- Signed usage, a chain for each lease. Kept until the market has taken it in, and for a good while longer:
-- a market that is restored from a backup has forgotten the newest.
create table receipts (
    lease text not null,
    seq integer not null check (seq > 0),
    seconds integer not null check (seconds >= 0),
    last integer not null check (last in (0, 1)),
    digest text not null,
    body text not null check (json_valid(body)),
    acknowledged integer not null default 0,    -- the newest epoch of the market that has it; 0 for none
    primary key (lease, seq)
) strict;
create index receipts_acknowledged on receipts (acknowledged);

create trigger a_receipt_follows_the_one_before before insert on receipts
when new.seq <> 1 + coalesce((select max(seq) from receipts r where r.lease = new.lease), 0)
  or new.seconds < coalesce((select max(seconds) from receipts r where r.lease = new.lease), 0)
  or exists (select 1 from receipts r where r.lease = new.lease and r.last = 1)
begin select raise(abort, 'a receipt follows the one before, rises, and nothing follows the last'); end;

create trigger a_receipt_never_changes before update on receipts
when new.lease <> old.lease or new.seq <> old.seq or new.body <> old.body or new.digest <> old.digest
  or new.seconds <> old.seconds or new.last <> old.last or new.acknowledged < old.acknowledged
begin select raise(abort, 'a receipt never changes'); end;

create trigger a_receipt_is_kept_until_acknowledged before delete on receipts
when old.acknowledged = 0
begin select raise(abort, 'a receipt is kept until the market has taken it in'); end;

-- Changes of the market's keys, followed from the pinned one on.
create table market_keys (
    number integer primary key,         -- from 1, without a gap
    record text not null check (json_valid(record)),    -- signed by the key before, and by the new one
    followed_at integer not null        -- this computer's clock
) strict;

create trigger market_keys_follow_each_other before insert on market_keys
when new.number <> 1 + coalesce((select max(number) from market_keys), 0)
begin select raise(abort, 'a change of the market''s keys follows the one before'); end;

create trigger a_key_that_was_followed_stays before update on market_keys
begin select raise(abort, 'a change of the market''s keys never changes'); end;

create trigger a_key_that_was_followed_is_never_forgotten before delete on market_keys
begin select raise(abort, 'a change of the market''s keys is never forgotten'); end;

-- The owner's own partitions. No market has a say in what runs there.
create table own (
    partition text primary key,
    name text not null unique,
    cpu_millicores integer not null,
    memory_mib integer not null,
    disk_gib integer not null,
    image text not null check (json_valid(image)),      -- the signed manifest
    depot text not null,
    wish text not null default 'run' check (wish in ('run', 'stop', 'remove')),
    starts integer not null default 0,  -- how often it was started: the generation of its machine
    uuid text,                          -- of the machine that was started last; none: it is stopped and wiped
    boot_id text,                       -- of the computer, when that machine was started
    stand text not null default 'down' check (stand in ('down', 'boots', 'ready')),
    waits text,                         -- why it does not start, while it should
    said text,                          -- why it last ended
    check ((stand = 'down') = (uuid is null) and (uuid is null) = (boot_id is null))
) strict;

create trigger an_own_partition_is_what_it_was_made before update on own
when new.partition <> old.partition or new.name <> old.name
  or new.cpu_millicores <> old.cpu_millicores or new.memory_mib <> old.memory_mib or new.disk_gib <> old.disk_gib
  or new.image <> old.image or new.depot <> old.depot
begin select raise(abort, 'an own partition stays what it was made: remove it, and make another'); end;

create trigger starts_of_an_own_partition_only_rise before update on own
when new.starts < old.starts or (old.uuid is null and new.uuid is not null and new.starts <= old.starts)
begin select raise(abort, 'each start of an own partition has a number of its own'); end;

create trigger a_machine_of_an_own_partition_ends_before_the_next before update on own
when old.uuid is not null and new.uuid is not null and new.uuid <> old.uuid
begin select raise(abort, 'the machine before is not gone yet'); end;

create trigger an_own_partition_goes_when_it_is_down before delete on own
when old.stand <> 'down'
begin select raise(abort, 'an own partition is removed only when its machine is gone'); end;
