//! Holds that a market restored from a backup has forgotten, or never made in this life.

use super::{hold, payer, plan, transfer};
use crate::engine::change::Change;
use crate::engine::command::Refusal;
use crate::engine::draft::Draft;
use sublet_model::ids::LeaseId;
use sublet_model::ledger::{Book, Cause};
use sublet_model::units::{Micros, Seconds};

/// Holds again what a lease was paid for, as its host heard it; never for more than the term. Where the
/// account has too little in this copy, for its deposits may be younger than the backup, it owes that
/// until they are entered again: what was promised to the lender is kept.
pub(in crate::engine) fn hold_again(draft: &mut Draft<'_>, id: LeaseId, paid: Seconds) -> Result<(), Refusal> {
    let Some(lease) = draft.lease(id).cloned() else { return Ok(()) };
    let terms = lease.terms();
    let known = draft.held_for(id).filter(|held| *held > Micros::ZERO);
    let paid = paid.min(lease.term_seconds).max(lease.paid_seconds);
    if terms.granted_at < draft.settings().ledger_since || (known.is_some() && paid == lease.paid_seconds) {
        return Ok(());
    }
    let plan = plan(draft, terms, lease.term_seconds, lease.budget);
    let held = known.unwrap_or(Micros::ZERO);
    let missing = (plan.price(paid) - held).max(Micros::ZERO);
    let funds = draft.purse_for(&lease, draft.now);
    match draft.ledger().lease(id).map(|of| of.payer) {
        // One lease is paid from one book.
        Some(_) if missing > funds => {
            let paid = plan.affordable(held + funds).unwrap_or(lease.paid_seconds).max(lease.paid_seconds);
            hold(draft, id, lease.account, (plan.price(paid) - held).max(Micros::ZERO))?;
            return extend(draft, id, lease.term_seconds, lease.paid_seconds, paid);
        }
        Some(_) => hold(draft, id, lease.account, missing)?,
        None => {
            let usual = payer(draft, lease.account);
            let from = if missing > funds { Book::Owed(lease.account) } else { usual };
            if from != usual {
                // Lenders read it, too: nothing of what the client has.
                let said = format!("{missing} are held as owed: the account has too little in this copy");
                draft.audit("market", "lease.recover.unpaid", id, said);
            }
            transfer(draft, Cause::Hold { lease: id, client: lease.account }, from, Book::Held(id), missing)?;
        }
    }
    extend(draft, id, lease.term_seconds, lease.paid_seconds, paid)
}

fn extend(draft: &mut Draft<'_>, lease: LeaseId, term: Seconds, was: Seconds, paid: Seconds) -> Result<(), Refusal> {
    if paid > was {
        draft.put(Change::LeaseExtended { lease, term_seconds: term, paid_seconds: paid });
    }
    Ok(())
}
