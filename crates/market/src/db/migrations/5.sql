-- Who pays afterwards owes it in a book of its own, and no more outside; what is in a book follows from what was
-- in it before; what was told long ago may go. Run without foreign keys, which are checked afterwards.

drop view balances;
drop trigger transfers_balance;
drop trigger alerts_never_go;

create table accounts_5 (
    id text primary key,
    name text not null unique,
    suspended integer not null check (suspended in (0, 1)),
    created_at integer not null,
    on_account integer not null default 0 check (on_account in (0, 1)),
    month_limit_micros integer check (month_limit_micros >= 0)
) strict, without rowid;
insert into accounts_5 select id, name, suspended, created_at, on_account, month_limit_micros from accounts;
drop table accounts;
alter table accounts_5 rename to accounts;

create table postings_5 (
    transfer integer not null references transfers (number) deferrable initially deferred,
    book text not null,
    micros integer not null check (micros <> 0),
    balance integer not null,
    check (balance >= 0 or book = 'outside' or book glob 'owed:*'),
    check (balance <= 0 or book not glob 'owed:*'),
    primary key (transfer, book)
) strict, without rowid;
insert into postings_5
select transfer, book, micros, sum(micros) over (partition by book order by transfer) from (
    select p.transfer as transfer, p.micros as micros,
        iif(p.book = 'outside' and t.lease is not null, 'owed:' || l.account, p.book) as book
    from postings as p join transfers as t on t.number = p.transfer left join leases as l on l.id = t.lease
) order by transfer, book;
drop table postings;
alter table postings_5 rename to postings;
create index postings_book on postings (book, transfer);
create view balances as select book, sum(micros) as micros from postings group by book;

create trigger transfers_balance before insert on transfers
when new.number <> 1 + (select coalesce(max(number), 0) from transfers)
    or (select sum(micros) from postings where transfer = new.number) is not 0
    or (select count(*) from postings where transfer = new.number and micros < 0) <> 1 begin
    select raise(abort, 'transfers are numbered without a gap, take from one book and sum to zero');
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
