//! Leases of which less than a chunk is paid ahead: more is held for them, or their clients are told.

use crate::engine::draft::Draft;
use crate::engine::money::{ahead, fund};
use crate::engine::rows::Lease;
use sublet_model::lease::LeaseState;
use sublet_model::units::{Seconds, Timestamp};

pub(super) fn run(draft: &mut Draft<'_>) {
    for lease in draft.funding_by(draft.now) {
        if let Err(refusal) = draft.together(|draft| fund(draft, &lease)) {
            // It stops where it is paid to; the others go on.
            tracing::error!(lease = %lease.id, %refusal, "no more can be held for a lease");
        }
    }
}

/// From when on more has to be held for a lease; none while that is no question, as where its host
/// is silent and would not hear of it.
pub(crate) fn funding_due(lease: &Lease, chunk: Seconds) -> Option<Timestamp> {
    let LeaseState::Active { ready_at, silent_since: None } = lease.state else { return None };
    let is_due = ready_at.after(lease.paid_seconds - ahead(chunk, lease.budget));
    (lease.paid_seconds < lease.term_seconds).then_some(is_due)
}
