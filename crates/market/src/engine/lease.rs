//! Giving a lease back, and lengthening it.

use super::change::Change;
use super::command::{Actor, Command, Outcome, Refusal};
use super::draft::Draft;
use super::money;
use super::rows::Purse;
use sublet_model::ids::LeaseId;
use sublet_model::lease::{EndReason, LeaseEvent};
use sublet_model::units::{Micros, Seconds};

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::Release { actor, lease } => release(draft, actor, *lease),
        Command::Extend { actor, lease, by } => extend(draft, actor, *lease, *by),
        _ => unreachable!("the step sends only these here"),
    }
}

fn release(draft: &mut Draft<'_>, actor: &Actor, id: LeaseId) -> Result<Outcome, Refusal> {
    let lease = actor.lease(draft, id, true)?;
    let own = lease.account == actor.account;
    let reason = if own { EndReason::Released } else { EndReason::Operator };
    // Said twice, or too late: it ends or has ended already, which is what was asked.
    let moved = draft.happen(id, LeaseEvent::End(reason))?;
    if moved && !own {
        draft.audit(actor.member, "lease.end", id, "ended by an operator");
    }
    Ok(Outcome::Lease(id))
}

fn extend(draft: &mut Draft<'_>, actor: &Actor, id: LeaseId, by: Seconds) -> Result<Outcome, Refusal> {
    let lease = actor.lease(draft, id, false)?.clone();
    if !(Seconds(1)..=Seconds::MAX).contains(&by) {
        return Err(Refusal::invalid("a lease is lengthened by a second at least, by ten years at most"));
    }
    if !lease.state.is_wanted() {
        return Err(Refusal::conflict(format!(
            "lease {id} is {}: only one that runs can be lengthened",
            lease.state.word()
        ))
        .advise("rent again"));
    }
    if draft.account(lease.account).is_none_or(|a| a.suspended) {
        return Err(Refusal::forbidden("the account is suspended: it can't rent for longer"));
    }
    let terms = lease.terms();
    let term = lease.term_seconds + by;
    let longest = draft.offer(terms.offer, terms.offer_version).map(|o| o.offer.conditions.longest_term_seconds);
    if let Some(longest) = longest.filter(|longest| term > *longest) {
        return Err(Refusal::conflict(format!("{term} in all is longer than the {longest} that the offer allows"))
            .advise(format!("lengthen by {} at most", longest - lease.term_seconds)));
    }
    let ends_at = lease.timeline.ready_at.unwrap_or(draft.now).after(term);
    if let Some(until) = terms.until.filter(|until| ends_at > *until) {
        return Err(Refusal::conflict(format!("the offer closes at {until}, before {term} are over"))
            .advise(format!("lengthen by {} at most", (by - ends_at.since(until)).max(Seconds::ZERO))));
    }
    let total = terms.prices.total(terms.resources, term);
    if total == Micros(i64::MAX) {
        return Err(Refusal::invalid("price times term is more than can be counted"));
    }
    if let Some(most) = lease.budget.most.filter(|most| total > *most) {
        return Err(Refusal::conflict(format!("{term} in all would cost {total}, and at most {most} was to be spent"))
            .advise("lengthen it by less, or rent another"));
    }
    // What is used is paid for chunk by chunk; what is free, or from before there were holds, as a whole.
    let is_older = money::is_older(draft, &lease);
    let purse = draft.account(lease.account).map(|row| row.purse).unwrap_or_default();
    if is_older && total > Micros::ZERO && purse != Purse::on_account() {
        return Err(Refusal::conflict(
            "this lease is from before there were holds: nothing can be held for more of it",
        )
        .advise("rent again"));
    }
    let is_free = total == Micros::ZERO || is_older;
    let paid = if is_free { lease.paid_seconds + by } else { lease.paid_seconds };
    draft.put(Change::LeaseExtended { lease: id, term_seconds: term, paid_seconds: paid });
    if let Some(longer) = draft.lease(id).filter(|_| !is_free).cloned() {
        money::hold_shortest(draft, &longer)?;
    }
    if let Some(longer) = draft.lease(id).cloned() {
        money::fund(draft, &longer)?;
    }
    Ok(Outcome::Lease(id))
}
