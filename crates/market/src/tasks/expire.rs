//! Ends that are due by the market's own clock. The host stops a partition at its end by itself;
//! this is for hosts that do not, or that nobody hears.

use crate::engine::draft::Draft;
use crate::engine::reclaim_due;
use crate::engine::rows::Lease;
use std::collections::BTreeSet;
use sublet_model::ids::HostId;
use sublet_model::lease::{EndReason, LeaseEvent, LeaseState};
use sublet_model::partition::Phase;
use sublet_model::units::{Seconds, Timestamp};

/// How long after the end of the term the host's own word is waited for.
const GRACE: Seconds = Seconds(30);
/// How long a lease may take to become ready.
const BOOT: Seconds = Seconds(600);
/// How long, while the image is still being fetched.
const FETCH: Seconds = Seconds(3600);

pub(super) fn run(draft: &mut Draft<'_>) {
    for lease in draft.ending_by(draft.now) {
        // Restored from a backup, a market may have forgotten that it was lengthened, or that it ended.
        if let Some(event) = due(draft, &lease).filter(|_| draft.is_caught_up(lease.host, draft.now))
            && let Err(refusal) = draft.together(|draft| draft.happen(lease.id, event))
        {
            tracing::error!(lease = %lease.id, %refusal, "a lease that is due can't end");
        }
    }
    let hosts: BTreeSet<HostId> = draft.taken_back().map(|p| p.host).collect();
    for host in hosts {
        let _ = reclaim_due(draft, host);
    }
}

/// Before this moment nothing is due for a lease, whatever its host says; none: never. What is due
/// from then on may be later: see [`due`].
pub(crate) fn earliest_end(lease: &Lease) -> Option<Timestamp> {
    let end = match lease.state {
        LeaseState::Active { ready_at, silent_since: Some(_) } => ready_at.after(lease.paid_seconds),
        LeaseState::Active { ready_at, silent_since: None } => {
            ready_at.after(lease.paid_seconds.min(lease.term_seconds) + GRACE)
        }
        LeaseState::Granted { silent_since: Some(since) } => since.after(BOOT),
        LeaseState::Granted { silent_since: None } => lease.terms().granted_at.after(BOOT),
        LeaseState::Stopping { .. } | LeaseState::Lost { .. } | LeaseState::Ended { .. } => return None,
    };
    Some(lease.terms().until.map_or(end, |until| end.min(until)))
}

fn due(draft: &Draft<'_>, lease: &Lease) -> Option<LeaseEvent> {
    let now = draft.now;
    let passed = |since: Timestamp, span: Seconds| now >= since.after(span);
    // The owner's own hours: nobody waits for the host's word about them.
    if lease.terms().until.is_some_and(|until| now >= until) && lease.state.is_wanted() {
        return Some(LeaseEvent::End(EndReason::Expired));
    }
    match lease.state {
        LeaseState::Active { ready_at, silent_since: Some(_) } => {
            passed(ready_at, lease.paid_seconds).then_some(LeaseEvent::PaidEnd)
        }
        LeaseState::Active { ready_at, silent_since: None } => match () {
            () if passed(ready_at, lease.term_seconds + GRACE) => Some(LeaseEvent::End(EndReason::Expired)),
            () if passed(ready_at, lease.paid_seconds + GRACE) => Some(LeaseEvent::PaidEnd),
            () => None,
        },
        LeaseState::Granted { silent_since: Some(since) } => {
            passed(since, BOOT).then_some(LeaseEvent::End(EndReason::HostLost))
        }
        LeaseState::Granted { silent_since: None } => {
            let phase = draft.live(lease.host).and_then(|l| l.phase(lease.partition, lease.generation));
            let span = if matches!(phase, Some(Phase::Fetching { .. })) { FETCH } else { BOOT };
            passed(lease.terms().granted_at, span).then_some(LeaseEvent::End(EndReason::BootFailed))
        }
        LeaseState::Stopping { .. } | LeaseState::Lost { .. } | LeaseState::Ended { .. } => None,
    }
}
