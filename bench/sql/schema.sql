-- The peer: a market as somebody would write it by hand on PostgreSQL. What a search filters by
-- stands in one table, so that it never joins before it has its twenty rows.

create table hosts (
    id uuid primary key,
    name text not null,
    lender int not null,
    arch smallint not null,
    tier smallint not null,          -- 1: kvm, 0: emulated
    confined boolean not null,
    threads int not null,
    cpu_model text not null,
    lendable_cpu int not null,
    lendable_memory int not null,
    lendable_disk int not null,
    reliability smallint not null
);

create table partitions (
    id uuid primary key,
    host uuid not null references hosts (id),
    name text not null,
    idle boolean not null,
    generation bigint not null,
    -- bounds, what it has, and the most it could become now (kept by whoever grants or frees)
    min_cpu int not null,
    min_memory int not null,
    min_disk int not null,
    max_cpu int not null,
    max_memory int not null,
    max_disk int not null,
    has_cpu int not null,
    has_memory int not null,
    has_disk int not null,
    reach_cpu int not null,
    reach_memory int not null,
    reach_disk int not null,
    -- of its host and its offer, copied here for the search
    arch smallint not null,
    tier smallint not null,
    confined boolean not null,
    flags smallint not null,         -- a bit each
    threads int not null,
    region smallint not null,
    net smallint not null,
    oses smallint not null,
    lender int not null,
    audience smallint not null,      -- 0: everyone, 1: own, 2: these accounts
    audience_accounts int[] not null,
    to_strangers boolean not null,
    shortest int not null,
    longest int not null,
    setup bigint not null,
    flat bigint not null,
    core bigint not null,
    memory bigint not null,
    disk bigint not null,
    reliability smallint not null,
    listed_at bigint not null
);

create table images (
    arch smallint not null,
    os smallint not null,
    reference text not null,
    primary key (arch, os)
);
