-- From version 1: what is told is remembered by the market's epoch.
alter table identity add column epoch integer not null default 1;
alter table runs add column told_epoch integer not null default 1;
alter table runs add column started text;
create index runs_told on runs (told_epoch);
create index receipts_acknowledged on receipts (acknowledged);

create trigger an_epoch_only_rises before update of epoch on identity
when new.epoch < old.epoch
begin select raise(abort, 'an epoch only rises: the market is an older copy of itself'); end;
