-- Long rows leave the trees of keys, and what still runs is told by `ended_at is null`: see schema.sql.
-- Run without foreign keys, which are checked afterwards.

drop trigger allocations_locked;
drop trigger allocations_only_rise;
drop trigger leases_on_newest;
drop trigger leases_one_a_partition;
drop trigger leases_never_go;
drop trigger leases_end_for_good;
drop trigger leases_keep_their_terms;
drop trigger partitions_keep_their_host;
drop trigger partitions_begin_once;
drop trigger partitions_never_go;
drop trigger partitions_retire_idle;
drop trigger partitions_never_return;
drop trigger charges_after_the_stop;

create table hosts_2 (
    id text not null primary key,
    name text not null,
    account text not null references accounts (id),
    key text not null,
    ssh_host_key text not null,
    dial text not null,
    arch text not null,
    tier text not null check (tier in ('emulated', 'kvm')),
    cpu_millicores integer not null,
    memory_mib integer not null,
    disk_gib integer not null,
    inventory text not null check (json_valid(inventory)),
    keep_cpu_millicores integer not null check (keep_cpu_millicores >= 0),
    keep_memory_mib integer not null check (keep_memory_mib >= 0),
    keep_disk_gib integer not null check (keep_disk_gib >= 0),
    division_revision integer not null,
    offer text,
    offer_version integer,
    session integer not null,
    used_session integer not null check (used_session <= session),
    session_reset integer not null check (session_reset in (0, 1)),
    suspended integer not null check (suspended in (0, 1)),
    forgotten_at integer,
    plan_version integer not null,
    joined_with text not null references join_tokens (id),
    joined_at integer not null,
    foreign key (offer, offer_version) references offers (id, version)
) strict;
insert into hosts_2 select * from hosts order by id;
drop table hosts;
alter table hosts_2 rename to hosts;
create unique index hosts_name on hosts (name) where forgotten_at is null;
create unique index hosts_key on hosts (key) where forgotten_at is null;

create table partitions_2 (
    id text not null primary key,
    host text not null references hosts (id),
    name text not null,
    lendable integer not null check (lendable in (0, 1)),
    offer text,
    min_cpu_millicores integer not null,
    min_memory_mib integer not null,
    min_disk_gib integer not null,
    desired_cpu_millicores integer not null check (desired_cpu_millicores >= min_cpu_millicores),
    desired_memory_mib integer not null check (desired_memory_mib >= min_memory_mib),
    desired_disk_gib integer not null check (desired_disk_gib >= min_disk_gib),
    max_cpu_millicores integer not null check (max_cpu_millicores >= desired_cpu_millicores),
    max_memory_mib integer not null check (max_memory_mib >= desired_memory_mib),
    max_disk_gib integer not null check (max_disk_gib >= desired_disk_gib),
    access_method text check (access_method in ('ssh_certificate')),
    access_ca text,
    access_host_key text,
    access_dial text,
    failed_boots integer not null,
    unlisted_until integer,
    taken_back_generation integer,
    taken_back_at integer,
    listed_at integer,
    leaving integer not null check (leaving in (0, 1)),
    declared_at integer not null,
    retired_at integer
) strict;
insert into partitions_2 select * from partitions order by id;
drop table partitions;
alter table partitions_2 rename to partitions;
create unique index partitions_name on partitions (host, name) where retired_at is null;

create table leases_2 (
    id text not null primary key,
    name text not null,
    account text not null references accounts (id),
    member text not null references members (id),
    host text not null references hosts (id),
    partition text not null references partitions (id),
    generation integer not null,
    revision integer not null,
    state text not null check (state in ('granted', 'active', 'stopping', 'lost', 'ended')),
    reason text,
    silent_since integer,
    granted_at integer not null,
    fetched_at integer,
    booted_at integer,
    ready_at integer,
    contact_at integer,
    stopped_at integer,
    ended_at integer,
    term_seconds integer not null check (term_seconds > 0),
    paid_seconds integer not null check (paid_seconds > 0),
    one_shot integer not null check (one_shot in (0, 1)),
    release_after_disconnect_seconds integer not null,
    ssh_public_key text not null,
    image text not null,
    image_digest text not null references images (digest),
    hourly_micros integer not null,
    terms text not null check (json_valid(terms)),
    terms_key text not null,
    terms_signature text not null,
    detail text,
    check ((state in ('stopping', 'lost', 'ended')) = (reason is not null)),
    check ((state = 'ended') = (ended_at is not null)),
    check (state <> 'active' or ready_at is not null),
    unique (partition, generation),
    foreign key (partition, generation, revision) references allocations (partition, generation, revision)
) strict;
insert into leases_2 select * from leases order by id;
drop table leases;
alter table leases_2 rename to leases;
create unique index leases_holder on leases (partition) where ended_at is null;
create unique index leases_name on leases (account, name) where ended_at is null;

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
create trigger leases_on_newest before insert on leases
when (new.generation, new.revision) is not (
    select generation, revision from allocations where partition = new.partition
    order by generation desc, revision desc limit 1
) or new.state <> 'granted' begin
    select raise(abort, 'a lease begins granted, on the newest allocation of its partition');
end;
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
create trigger charges_after_the_stop before insert on charges
when (select state from leases where id = new.lease) in ('granted', 'active') begin
    select raise(abort, 'a lease that runs is not settled');
end;
