-- From version 2: the market's keys are followed from the pinned one on.
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
