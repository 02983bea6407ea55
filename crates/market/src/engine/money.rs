//! Money moves with what it is for, in one commit: held at the grant and while a lease runs, posted
//! at its end, and what was not used goes back.
//!
//! ```text
//!  grant: at least a chunk is held, or nothing is granted
//!    |
//!    v          a chunk is ahead no more
//!  paid ahead <-------------------------- held: more, as far as the funds reach
//!    |                                      | they end: the client is told, and may deposit
//!    |  the end                             v
//!    +-----------> charged, at most what is held; the rest goes back <--- stops at its paid end
//! ```

use super::change::Change;
use super::command::Refusal;
use super::draft::Draft;
use super::rows::{AlertKind, AlertRow, Budget, Lease};
use sublet_model::billing::Terms;
use sublet_model::ids::{AccountId, LeaseId};
use sublet_model::ledger::chunks::{Next, Paid, Plan};
use sublet_model::ledger::{Book, Cause, Transfer};
use sublet_model::units::{Micros, Seconds};
use sublet_wire::problem::Kind;

pub(super) mod accounts;
mod again;
pub(super) mod disputes;
mod settle;

pub(super) use again::hold_again;
pub(crate) use settle::settle;

/// How much earlier than a chunk ahead it is looked at: ticks come once a second, and the news has
/// to reach the host.
pub(crate) const EARLY: Seconds = Seconds(5);

fn plan(draft: &Draft<'_>, terms: &Terms, term: Seconds, budget: Budget) -> Plan {
    let (chunk, outage_allowance) = (draft.settings().chunk, budget.outage_allowance);
    Plan { prices: terms.prices, resources: terms.resources, term, chunk, outage_allowance }
}

/// Whether a lease is from before the ledger: what it costs is paid outside of it.
pub(super) fn is_older(draft: &Draft<'_>, lease: &Lease) -> bool {
    lease.terms().granted_at < draft.settings().ledger_since
}

/// How long a lease may go unlooked at, once so much of it is paid for.
pub(crate) fn ahead(chunk: Seconds, budget: Budget) -> Seconds {
    chunk + budget.outage_allowance + EARLY
}

/// Writes a transfer into the books, with what it is for.
pub(super) fn post(draft: &mut Draft<'_>, transfer: Transfer) -> Result<(), Refusal> {
    let impossible = |why: String| Refusal::new(Kind::Internal, format!("the books refuse it: {why}"));
    draft.ledger().judge(&transfer).map_err(|e| impossible(e.to_string()))?;
    let mut after = Vec::new();
    for posting in &transfer.postings {
        let balance = draft.ledger().balance(posting.book) + i128::from(posting.micros.0);
        after.push(Micros(i64::try_from(balance).map_err(|_| impossible("it is more than can be counted".into()))?));
    }
    draft.put(Change::Transfer { transfer, after });
    Ok(())
}

/// Moves money from one book to another, or back to a payer; nothing where there is none to move.
pub(super) fn transfer(
    draft: &mut Draft<'_>,
    cause: Cause,
    from: Book,
    to: Book,
    micros: Micros,
) -> Result<(), Refusal> {
    if micros <= Micros::ZERO {
        return Ok(());
    }
    let transfer = draft.ledger().next(draft.now, cause, from, &draft.ledger().back(to, micros));
    post(draft, transfer)
}

/// From which book an account pays what it rents from now on.
pub(super) fn payer(draft: &Draft<'_>, account: AccountId) -> Book {
    let on_account = draft.account(account).is_some_and(|row| row.purse.on_account);
    if on_account { Book::Owed(account) } else { Book::Available(account) }
}

pub(super) fn hold(draft: &mut Draft<'_>, lease: LeaseId, client: AccountId, micros: Micros) -> Result<(), Refusal> {
    let from = draft.ledger().lease(lease).map_or_else(|| payer(draft, client), |of| of.payer);
    transfer(draft, Cause::Hold { lease, client }, from, Book::Held(lease), micros)
}

/// The grant: for how long a lease is paid at first, and what that costs. Nothing is granted for
/// which not at least a chunk can be paid.
pub(super) fn first_hold(draft: &Draft<'_>, lease: &Lease) -> Result<(Seconds, Micros), Refusal> {
    let (terms, term, budget) = (lease.terms(), lease.term_seconds, lease.budget);
    let plan = plan(draft, terms, term, budget);
    if plan.price(term) == Micros::ZERO {
        return Ok((term, Micros::ZERO));
    }
    let funds = draft.purse(terms.client, draft.now);
    let least = term.min(plan.chunk + budget.outage_allowance);
    let nothing = Paid { seconds: Seconds::ZERO, held: Micros::ZERO };
    match plan.next(EARLY, nothing, funds) {
        Next::More { seconds, micros, .. } if seconds >= least => Ok((seconds, micros)),
        _ => Err(short(draft, terms.client, least, plan.price(least), funds)),
    }
}

fn short(draft: &Draft<'_>, account: AccountId, span: Seconds, price: Micros, funds: Micros) -> Refusal {
    let limited = draft.account(account).is_some_and(|row| row.purse.month_limit.is_some());
    let whose = if limited { "the account, with its limit for a month," } else { "the account" };
    let detail = format!("the first {span} cost {price}, and {whose} has {funds} to spend");
    Refusal::new(Kind::OutOfFunds, detail).advise("ask the operator to deposit more, or look for something cheaper")
}

/// A lease that is lengthened may be charged for longer in any case: that is held at once, or it is refused.
pub(super) fn hold_shortest(draft: &mut Draft<'_>, lease: &Lease) -> Result<(), Refusal> {
    let plan = plan(draft, lease.terms(), lease.term_seconds, lease.budget);
    let shortest = plan.shortest();
    if lease.paid_seconds >= shortest {
        return Ok(());
    }
    let held = draft.held_for(lease.id).unwrap_or(Micros::ZERO);
    let (missing, funds) = ((plan.price(shortest) - held).max(Micros::ZERO), draft.purse_for(lease, draft.now));
    if missing > funds {
        let detail = format!("{shortest} are charged at the least, {missing} more than is held, and there are {funds}");
        return Err(Refusal::new(Kind::OutOfFunds, detail).advise("lengthen it by less, or deposit first"));
    }
    hold(draft, lease.id, lease.account, missing)?;
    let (lease, term_seconds) = (lease.id, lease.term_seconds);
    draft.put(Change::LeaseExtended { lease, term_seconds, paid_seconds: shortest });
    Ok(())
}

/// Holds more for a lease that runs, where less than a chunk is ahead; says so where that can't be.
pub(crate) fn fund(draft: &mut Draft<'_>, lease: &Lease) -> Result<(), Refusal> {
    let Some(ready_at) = lease.timeline.ready_at else { return Ok(()) };
    if is_older(draft, lease) {
        return Ok(());
    }
    let plan = plan(draft, lease.terms(), lease.term_seconds, lease.budget);
    let held = draft.held_for(lease.id).unwrap_or(Micros::ZERO);
    let purse = draft.purse_for(lease, draft.now);
    // The host counts what was used; but it stops where the money ends by a clock that never rests.
    let used = draft.seconds_so_far(lease).max(draft.now.since(ready_at)) + EARLY;
    match plan.next(used, Paid { seconds: lease.paid_seconds, held }, purse) {
        Next::Enough => Ok(()),
        Next::More { seconds, micros, last } => {
            hold(draft, lease.id, lease.account, micros)?;
            draft.put(Change::LeaseExtended {
                lease: lease.id,
                term_seconds: lease.term_seconds,
                paid_seconds: seconds,
            });
            if last {
                warn(draft, lease, seconds);
            }
            Ok(())
        }
        Next::Short { .. } => {
            warn(draft, lease, lease.paid_seconds);
            Ok(())
        }
    }
}

/// Tells the client, once, where its money ends.
fn warn(draft: &mut Draft<'_>, lease: &Lease, paid: Seconds) {
    let end = lease.timeline.ready_at.map_or_else(String::new, |ready| format!(", at {}", ready.after(paid)));
    let words = format!(
        "lease {} stops when {paid} of it are used{end}: the account can't hold more for it; deposit before that",
        lease.name
    );
    tell(draft, lease, AlertKind::FundsLow, paid, words);
}

/// A lease ended for want of money: its client is told.
pub(super) fn ended(draft: &mut Draft<'_>, lease: &Lease) {
    let words = format!("lease {} ended: what was held for it is used up; deposit, then rent again", lease.name);
    tell(draft, lease, AlertKind::OutOfFunds, lease.paid_seconds, words);
}

fn tell(draft: &mut Draft<'_>, lease: &Lease, kind: AlertKind, paid: Seconds, words: String) {
    if draft.told(lease.id, kind, paid).is_some() {
        return;
    }
    let (seq, at, account) = (draft.next_alert(), draft.now, lease.account);
    draft.put(Change::Alert(AlertRow { seq, at, account, lease: Some(lease.id), kind, paid, words }));
}

#[cfg(test)]
mod tests;
