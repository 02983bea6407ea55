-- From version 3: the owner's own partitions. No market has a say in what runs there.
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
