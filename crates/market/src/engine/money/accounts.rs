//! Money that crosses the market's border, and how accounts pay: the operator's word.

use super::transfer;
use crate::engine::change::Change;
use crate::engine::command::{Actor, Command, Outcome, Refusal};
use crate::engine::draft::Draft;
use crate::engine::rows::Purse;
use sublet_model::account::Role;
use sublet_model::ids::AccountId;
use sublet_model::ledger::{Book, Cause};
use sublet_model::units::Micros;
use sublet_wire::api::PurseChange;
use sublet_wire::problem::Kind;

/// The most that is deposited or refunded at once: a thousand million.
const MOST: Micros = Micros(1_000_000_000_000_000);
/// The highest fee, in thousandths.
const HIGHEST_FEE: u16 = 500;

pub(in crate::engine) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::Deposit { actor, account, micros, reference } => {
            let cause = Cause::Deposit { account: *account, reference: reference.clone() };
            cross(draft, actor, cause, *account, *micros, reference)
        }
        Command::Refund { actor, account, micros, reference } => {
            let cause = Cause::Refund { account: *account, reference: reference.clone() };
            cross(draft, actor, cause, *account, *micros, reference)
        }
        Command::SetPurse { actor, account, change } => set_purse(draft, actor, *account, change),
        Command::SetFee { actor, permille } => set_fee(draft, actor, *permille),
        _ => unreachable!("the step sends only these here"),
    }
}

/// Takes money in, or pays it out. The same reference again is the same transfer: nothing moves twice.
fn cross(
    draft: &mut Draft<'_>,
    actor: &Actor,
    cause: Cause,
    account: AccountId,
    micros: Micros,
    reference: &str,
) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    let known = draft.account(account).ok_or_else(|| Refusal::not_found(format!("account {account}")))?;
    let name = known.name.clone();
    check(micros, reference)?;
    let inwards = matches!(cause, Cause::Deposit { .. });
    let word = cause.word();
    if let Some(before) = draft.referred(word, reference) {
        if (before.account, before.micros) == (account, micros) {
            return Ok(Outcome::Transfer(before.number));
        }
        let detail = format!("{reference:?} stands for a {word} of {} already", before.micros);
        return Err(Refusal::conflict(detail).advise("each deposit and each refund has a reference of its own"));
    }
    let owed = draft.owed(account);
    if !inwards && owed > Micros::ZERO {
        return Err(Refusal::conflict(format!("account {name} owes {owed}, and that is paid first"))
            .advise("enter what it paid, or what is set off against it, as a deposit"));
    }
    let has = draft.balance(Book::Available(account));
    if !inwards && has < micros {
        return Err(Refusal::new(Kind::OutOfFunds, format!("account {name} has {has} to spend, which is less"))
            .advise("what is held for leases comes back at their end"));
    }
    let detail = format!("{micros}, reference {reference}");
    let (from, to) = match inwards {
        true => (Book::Outside, Book::Owed(account)),
        false => (Book::Available(account), Book::Outside),
    };
    transfer(draft, cause, from, to, micros)?;
    draft.audit(actor.member, &format!("account.{word}"), account, detail);
    Ok(Outcome::Transfer(draft.ledger().newest()))
}

fn check(micros: Micros, reference: &str) -> Result<(), Refusal> {
    if !(Micros(1)..=MOST).contains(&micros) {
        return Err(Refusal::invalid(format!("the amount is more than nothing and at most {MOST}")));
    }
    if !(1..=100).contains(&reference.chars().count()) || reference.chars().any(char::is_control) {
        return Err(Refusal::invalid("reference: 1 to 100 characters without control characters"));
    }
    Ok(())
}

fn set_purse(
    draft: &mut Draft<'_>,
    actor: &Actor,
    account: AccountId,
    change: &PurseChange,
) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    let known = draft.account(account).ok_or_else(|| Refusal::not_found(format!("account {account}")))?;
    if change.month_limit.is_some_and(|limit| limit < Micros::ZERO) {
        return Err(Refusal::invalid("a limit can't be below zero"));
    }
    if change.no_month_limit && change.month_limit.is_some() {
        return Err(Refusal::invalid("month_limit and no_month_limit exclude each other"));
    }
    let kept = known.purse.month_limit.filter(|_| !change.no_month_limit);
    let purse = Purse {
        on_account: change.on_account.unwrap_or(known.purse.on_account),
        month_limit: change.month_limit.or(kept),
    };
    if known.purse != purse {
        draft.put(Change::Purse { account, purse });
        let how = if purse.on_account { "afterwards" } else { "from what was deposited" };
        let limit = purse.month_limit.map_or("no limit".into(), |limit| format!("at most {limit} a month"));
        draft.audit(actor.member, "account.purse", account, format!("pays {how}, {limit}"));
    }
    Ok(Outcome::Account(account))
}

fn set_fee(draft: &mut Draft<'_>, actor: &Actor, permille: u16) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    if permille > HIGHEST_FEE {
        return Err(Refusal::invalid(format!("a fee is {HIGHEST_FEE} thousandths at most")));
    }
    if draft.settings().fee_permille != permille {
        draft.put(Change::Fee { permille });
        draft.audit(actor.member, "market.fee", "market", format!("{permille} thousandths from the next grant on"));
    }
    Ok(Outcome::Done)
}
