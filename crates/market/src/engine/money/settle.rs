//! The end of a lease, in money: the charge out of the hold, what the offer promised to whoever is
//! evicted, and the rest back.

use super::{post, transfer};
use crate::engine::change::Change;
use crate::engine::command::Refusal;
use crate::engine::draft::Draft;
use crate::engine::rows::{ChargeRow, CreditRow, Lease};
use sublet_model::lease::EndReason;
use sublet_model::ledger::{Bill, Book, Cause, fee};
use sublet_model::statement::CreditBearer;
use sublet_model::units::Micros;

/// Posts a charge that was just made. Of leases from before the ledger nothing is held, and nothing
/// is posted.
pub(crate) fn settle(draft: &mut Draft<'_>, lease: &Lease, charge: &ChargeRow) -> Result<(), Refusal> {
    if draft.ledger().lease(lease.id).is_none() {
        return Ok(());
    }
    let terms = lease.terms();
    let bill = Bill {
        lease: lease.id,
        lender: terms.lender,
        total: charge.charge.total,
        fee_permille: terms.fee_permille,
        receipt: charge.receipt_seq,
        withhold: draft.is_withheld(lease.id, lease.host),
    };
    let transfers = draft.ledger().settle(&bill, draft.now);
    for transfer in transfers.map_err(|e| Refusal::new(sublet_wire::problem::Kind::Internal, e.to_string()))? {
        post(draft, transfer)?;
    }
    let earned = charge.charge.total - fee(charge.charge.total, terms.fee_permille);
    let promised = match lease.state.reason() {
        Some(EndReason::Evicted) => draft.offer(terms.offer, terms.offer_version),
        _ => None,
    };
    let promised = promised.map_or(Micros::ZERO, |row| row.offer.conditions.eviction_credit).min(earned);
    let note = "taken back at once: what the offer promised".to_string();
    credit(draft, lease, promised, CreditBearer::Lender, note).map(drop)
}

/// Gives back a part of a charge that was posted, with a credit note; answers how much that was. Where
/// anything of it is withheld, it is taken from there.
pub(in crate::engine) fn credit(
    draft: &mut Draft<'_>,
    lease: &Lease,
    micros: Micros,
    borne_by: CreditBearer,
    note: String,
) -> Result<Micros, Refusal> {
    let (terms, payer) = (lease.terms(), draft.ledger().lease(lease.id).map(|of| of.payer));
    let Some(payer) = payer.filter(|_| micros > Micros::ZERO) else { return Ok(Micros::ZERO) };
    let (withheld, lender) = (Book::Withheld(lease.id), Book::Available(terms.lender));
    if terms.client == terms.lender && borne_by == CreditBearer::Lender {
        // To pay oneself changes nothing.
        return Ok(Micros::ZERO);
    }
    let kept = draft.balance(withheld);
    let from = match borne_by {
        CreditBearer::Operator => Book::Fees,
        CreditBearer::Lender if kept == Micros::ZERO => lender,
        CreditBearer::Lender => {
            // What is kept back stays so: perhaps for another dispute, which has yet to be resolved.
            transfer(draft, Cause::Withhold { lease: lease.id }, lender, withheld, micros - kept)?;
            withheld
        }
    };
    let number = draft.ledger().lease(lease.id).map_or(1, |of| of.credits + 1);
    transfer(draft, Cause::Credit { lease: lease.id, number }, from, payer, micros)?;
    draft.put(Change::Credit(CreditRow { lease: lease.id, number, at: draft.now, micros, borne_by, note }));
    Ok(micros)
}

/// Gives the lender what was withheld of a lease.
pub(in crate::engine) fn pay_out(draft: &mut Draft<'_>, lease: &Lease) -> Result<(), Refusal> {
    let (withheld, lender) = (Book::Withheld(lease.id), Book::Available(lease.terms().lender));
    let micros = draft.balance(withheld);
    transfer(draft, Cause::PayOut { lease: lease.id }, withheld, lender, micros)
}
