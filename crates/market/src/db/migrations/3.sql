-- Money: the ledger, budgets, credits, disputes, alerts. Who was there before pays afterwards, as until now; leases
-- of before have no holds, and their charges are not posted.

alter table accounts add column on_account integer not null default 1 check (on_account in (0, 1));
create index audit_object on audit (object);
alter table accounts add column month_limit_micros integer check (month_limit_micros >= 0);
insert into meta select 'fee_permille', '0' where not exists (select 1 from meta where name = 'fee_permille');
insert into meta select 'ledger_since', (select 1 + coalesce(max(granted_at), -1) from leases)
    where not exists (select 1 from meta where name = 'ledger_since');

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
    book text not null,             -- available:acct_…, held:lease_…, withheld:lease_…, fees or outside
    micros integer not null check (micros <> 0), -- more in it, or less
    balance integer not null,       -- what was in it then
    check (balance >= 0 or book = 'outside'),
    primary key (transfer, book)
) strict, without rowid;
create index postings_available on postings (book, transfer) where book glob 'available:*';

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

-- what an account was told without asking, such as that its funds run out
create table alerts (
    seq integer primary key,        -- rises
    at integer not null,            -- when
    account text not null references accounts (id), -- whom
    lease text references leases (id), -- about which lease
    kind text not null,             -- a word such as funds_low
    paid_seconds integer not null,  -- how far the lease was paid then
    words text not null             -- what to do
) strict;

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
create trigger alerts_never_go before delete on alerts begin
    select raise(abort, 'an alert never goes');
end;
