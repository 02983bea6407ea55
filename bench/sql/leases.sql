-- The peer of P2: what a grant and a release have to leave behind, row for row what our own market
-- writes for them, with constraints that keep a partition from being lent twice. One call, one
-- round trip, one commit each.

create table leases (
    id uuid primary key,
    name text not null,
    account int not null,
    host uuid not null references hosts (id),
    partition uuid not null references partitions (id),
    generation bigint not null,
    state text not null check (state in ('granted', 'active', 'stopping', 'lost', 'ended')),
    reason text,
    granted_at bigint not null,
    stopped_at bigint,
    ended_at bigint,
    term_seconds bigint not null,
    ssh_public_key text not null,
    image text not null,
    hourly bigint not null,
    terms text not null,
    terms_signature text not null,
    unique (partition, generation)
);
create unique index leases_holder on leases (partition) where state <> 'ended';
create unique index leases_name on leases (account, name) where state <> 'ended';

create table allocations (
    partition uuid not null references partitions (id),
    generation bigint not null,
    revision int not null,
    cpu int not null,
    memory int not null,
    disk int not null,
    vcpus int not null,
    at bigint not null,
    primary key (partition, generation, revision)
);

create table charges (
    lease uuid primary key references leases (id),
    client int not null,
    lender int not null,
    billed_seconds bigint not null,
    total bigint not null,
    settled_at bigint not null
);

create table idempotency (
    account int not null,
    key text not null,
    body text not null,
    outcome text not null,
    at bigint not null,
    primary key (account, key)
);

create table events (
    seq bigint generated always as identity primary key,
    at bigint not null,
    kind text not null,
    change text not null
);

create table plans (host uuid primary key references hosts (id), version bigint not null);
insert into plans select id, 1 from hosts;
insert into allocations
    select id, generation, 0, has_cpu, has_memory, has_disk, (has_cpu + 999) / 1000, 0 from partitions;
insert into leases
    select gen_random_uuid(), 'lease-' || p.id, 1000 + (row_number() over ())::int % 200, p.host, p.id, p.generation,
           'active', null, 0, null, null, 604800, 'ssh-ed25519 AAAA', 'debian-amd64@1.0-1', 1000, repeat('t', 700),
           repeat('s', 88)
    from partitions as p where not p.idle;

-- The most each idle partition of a host could become now.
create function settle_reach(of_host uuid) returns void language sql as $$
    with taken as (
        select sum(case when idle then min_cpu else has_cpu end) as cpu,
               sum(case when idle then min_memory else has_memory end) as memory,
               sum(case when idle then min_disk else has_disk end) as disk
        from partitions where host = of_host
    )
    update partitions as p
    set reach_cpu = least(max_cpu, h.lendable_cpu - t.cpu + min_cpu),
        reach_memory = least(max_memory, h.lendable_memory - t.memory + min_memory),
        reach_disk = least(max_disk, h.lendable_disk - t.disk + min_disk)
    from taken as t, hosts as h
    where p.host = of_host and p.idle and h.id = of_host
      and (reach_cpu, reach_memory, reach_disk) is distinct from
          (least(max_cpu, h.lendable_cpu - t.cpu + min_cpu),
           least(max_memory, h.lendable_memory - t.memory + min_memory),
           least(max_disk, h.lendable_disk - t.disk + min_disk));
$$;

-- Grants the best partition that fits; who holds what is settled host by host, so a host that
-- somebody else is granting on right now is left out, and the next best is taken.
create function grant_best(
    n_cpu int, n_memory int, n_disk int, n_vcpus int, n_arch smallint, os_bit smallint, n_regions smallint[],
    n_nets smallint[], hours bigint, price bigint, emulated boolean, asking int, n_os smallint, memory_most int,
    n_flags smallint, lease uuid, key text, body text, ssh_key text, terms text, signature text, now_us bigint
) returns table (granted uuid, granted_generation bigint) language plpgsql as $$
declare
    c record;
    p record;
    picture text;
begin
    for c in
        select s.id, s.host, s.hourly from (
            select *, flat + core * greatest(n_cpu, min_cpu) / 1000 + memory * greatest(n_memory, min_memory) / 1024
                      + disk * greatest(n_disk, min_disk) as hourly
            from partitions
            where idle and region = any (n_regions) and net = any (n_nets) and arch = n_arch
              and reach_cpu >= n_cpu and reach_memory >= n_memory and reach_disk >= n_disk
              and greatest(n_memory, min_memory) <= memory_most and flags & n_flags = n_flags
              and threads >= n_vcpus and oses & os_bit <> 0
              and shortest <= hours * 3600 and longest >= hours * 3600
              and confined and (tier = 1 or (emulated and to_strangers))
              and (audience = 0 or lender = asking or (audience = 2 and asking = any (audience_accounts)))
            offset 0
        ) as s
        where s.hourly <= price
        order by s.setup + s.hourly * hours, s.reliability desc, s.listed_at, s.id
        limit 40
    loop
        continue when not pg_try_advisory_xact_lock(hashtextextended(c.host::text, 0));
        select * into p from partitions where id = c.id and idle
            and reach_cpu >= n_cpu and reach_memory >= n_memory and reach_disk >= n_disk;
        continue when not found;
        insert into idempotency values (asking, key, body, lease::text, now_us);
        update partitions set idle = false, generation = p.generation + 1, has_cpu = greatest(n_cpu, p.min_cpu),
               has_memory = greatest(n_memory, p.min_memory), has_disk = greatest(n_disk, p.min_disk)
            where id = p.id;
        perform settle_reach(p.host);
        insert into allocations values (p.id, p.generation + 1, 0, greatest(n_cpu, p.min_cpu),
            greatest(n_memory, p.min_memory), greatest(n_disk, p.min_disk), n_vcpus, now_us);
        select reference into picture from images where arch = n_arch and os = n_os;
        insert into leases values (lease, 'lease-' || right(lease::text, 12), asking, p.host, p.id, p.generation + 1,
            'granted', null, now_us, null, null, hours * 3600, ssh_key, picture, c.hourly, terms, signature);
        update plans set version = version + 1 where host = p.host;
        insert into events (at, kind, change) values
            (now_us, 'allocation', repeat('a', 200)), (now_us, 'lease', terms || signature || repeat('l', 900)),
            (now_us, 'plan', repeat('p', 80));
        return query select p.id, p.generation + 1;
        return;
    end loop;
end;
$$;

-- The client gives it back.
create function release_lease(lease uuid, now_us bigint) returns void language plpgsql as $$
declare
    l record;
begin
    update leases set state = 'stopping', reason = 'released', stopped_at = now_us
        where id = lease and state in ('granted', 'active') returning host, partition into l;
    if not found then return; end if;
    update plans set version = version + 1 where host = l.host;
    insert into events (at, kind, change) values
        (now_us, 'lease_moved', repeat('m', 300)), (now_us, 'plan', repeat('p', 80));
end;
$$;

-- Its host says that it is gone: the partition is idle again, and returns to its least.
create function host_says_gone(lease uuid, now_us bigint) returns void language plpgsql as $$
declare
    l record;
    p record;
begin
    select host, partition, generation, account into l from leases where id = lease and state = 'stopping';
    if not found then return; end if;
    perform pg_advisory_xact_lock(hashtextextended(l.host::text, 0));
    update leases set state = 'ended', ended_at = now_us where id = lease;
    update partitions set idle = true, has_cpu = min_cpu, has_memory = min_memory, has_disk = min_disk
        where id = l.partition returning * into p;
    perform settle_reach(l.host);
    if (select (cpu, memory, disk) is distinct from (p.min_cpu, p.min_memory, p.min_disk)
        from allocations where partition = p.id and generation = l.generation and revision = 0) then
        insert into allocations values (p.id, l.generation, 1, p.min_cpu, p.min_memory, p.min_disk,
            (p.min_cpu + 999) / 1000, now_us);
    end if;
    insert into charges values (lease, l.account, p.lender, 0, 0, now_us);
    update plans set version = version + 1 where host = l.host;
    insert into events (at, kind, change) values
        (now_us, 'lease_moved', repeat('m', 300)), (now_us, 'allocation', repeat('a', 200)),
        (now_us, 'charge', repeat('c', 300)), (now_us, 'plan', repeat('p', 80));
end;
$$;
analyze;
