//! Holds that a market restored from a backup has forgotten, or never made in this life.

use super::{is_older, payer, plan, transfer};
use crate::engine::change::Change;
use crate::engine::command::Refusal;
use crate::engine::draft::Draft;
use sublet_model::ids::LeaseId;
use sublet_model::ledger::{Book, Cause};
use sublet_model::units::{Micros, Seconds};

/// Holds again what a lease was paid for, as its host heard it; never for more than the term. Where the
/// account has too little in this copy, for its deposits may be younger than the backup, it owes that
/// until they are entered again: what was promised to the lender is kept.
pub(in crate::engine) fn hold_again(draft: &mut Draft<'_>, id: LeaseId, told: Seconds) -> Result<(), Refusal> {
    // Of one that was billed what is held now would never go back.
    let open = draft.lease(id).filter(|lease| !is_older(draft, lease) && draft.charge(id).is_none());
    let Some(lease) = open.cloned() else { return Ok(()) };
    let told = told.min(lease.term_seconds).max(lease.paid_seconds);
    let plan = plan(draft, lease.terms(), lease.term_seconds, lease.budget);
    let held = draft.held_for(id).unwrap_or(Micros::ZERO);
    let missing = |seconds| (plan.price(seconds) - held).max(Micros::ZERO);
    let (client, funds) = (lease.account, draft.purse_for(&lease, draft.now));
    let (from, paid) = match draft.ledger().lease(id).map(|of| of.payer) {
        // One lease is paid from one book: as far as that reaches.
        Some(same) => (same, plan.affordable(held + funds).map_or(lease.paid_seconds, |reach| told.min(reach))),
        None => {
            let usual = payer(draft, client);
            let from = if missing(told) > funds { Book::Owed(client) } else { usual };
            if from != usual {
                // Lenders read it, too: nothing of what the client has.
                let said = format!("{} are held as owed: the account has too little in this copy", missing(told));
                draft.audit("market", "lease.recover.unpaid", id, said);
            }
            (from, told)
        }
    };
    transfer(draft, Cause::Hold { lease: id, client }, from, Book::Held(id), missing(paid))?;
    if paid != lease.paid_seconds {
        draft.put(Change::LeaseExtended { lease: id, term_seconds: lease.term_seconds, paid_seconds: paid });
    }
    Ok(())
}
