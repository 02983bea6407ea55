//! Final bills: once the last receipt is in, or after an hour without it. Later receipts are
//! recorded and not billed.

use crate::engine::change::Change;
use crate::engine::command::Refusal;
use crate::engine::draft::Draft;
use crate::engine::money;
use crate::engine::rows::{ChargeRow, Lease};
use sublet_model::billing;
use sublet_model::lease::LeaseState;
use sublet_model::units::{Seconds, Timestamp};

/// How long after the stop the last receipt is waited for.
const WAIT: Seconds = Seconds(3600);

pub(super) fn run(draft: &mut Draft<'_>) {
    for lease in draft.settling_by(draft.now).into_iter().filter(|lease| is_due(draft, lease)).collect::<Vec<_>>() {
        settle(draft, &lease);
    }
}

/// Settles a lease if it is due: asked right after something that may make it so.
pub(crate) fn settle_if_due(draft: &mut Draft<'_>, lease: sublet_model::ids::LeaseId) {
    let lease = draft.lease(lease).filter(|l| draft.charge(l.id).is_none() && is_due(draft, l)).cloned();
    if let Some(lease) = lease {
        settle(draft, &lease);
    }
}

fn is_due(draft: &Draft<'_>, lease: &Lease) -> bool {
    // Restored from a backup, a market may have forgotten receipts: its host is asked for them first.
    let known = lease.chain.as_ref().is_some_and(|end| end.last) || draft.is_caught_up(lease.host, draft.now);
    known && due_at(lease).is_some_and(|at| draft.now >= at)
}

/// From when on a lease can be billed for good; none while it runs.
pub(crate) fn due_at(lease: &Lease) -> Option<Timestamp> {
    let last_is_in = lease.chain.as_ref().is_some_and(|end| end.last);
    let never_ran = lease.chain.is_none() && lease.timeline.ready_at.is_none();
    // Nothing has stopped while it runs.
    match lease.state {
        LeaseState::Ended { .. } if last_is_in || never_ran => Some(Timestamp(i64::MIN)),
        _ => lease.timeline.stopped_at.map(|at| at.after(WAIT)),
    }
}

fn settle(draft: &mut Draft<'_>, lease: &Lease) {
    let receipted = lease.chain.as_ref().map(|end| end.seconds);
    let charge = billing::settle(lease.terms(), receipted, lease.observation(draft.now));
    let row = ChargeRow {
        lease: lease.id,
        client: lease.account,
        lender: lease.terms().lender,
        charge,
        receipt_seq: lease.chain.as_ref().map_or(0, |end| end.seq),
        settled_at: draft.now,
    };
    // A bill and its postings, or neither: a lease that can't be billed stays due, and is tried again.
    let billed = draft.together(|draft| {
        draft.put(Change::Charge(row.clone()));
        money::settle(draft, lease, &row)
    });
    if let Err(error) = billed {
        unbilled(draft, lease, &error);
    }
}

/// Tells the operator, once since the start, that a lease can't be billed.
fn unbilled(draft: &mut Draft<'_>, lease: &Lease, error: &Refusal) {
    let (host, what) = (lease.host, format!("lease.bill.refused {}", lease.id));
    // Of a host that was not heard since the start nothing is kept: it is told when it is.
    if draft.live(host).is_none_or(|live| live.flagged.contains(&what)) {
        return;
    }
    tracing::error!(lease = %lease.id, %error, "a lease can't be billed");
    draft.put(Change::Flagged { host, what });
    // Both of its parties read it: what is in whose book is for the log.
    draft.audit("market", "lease.bill.refused", lease.id, "the books refuse it; it is tried again");
}
