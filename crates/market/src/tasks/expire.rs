//! Ends that are due by the market's own clock. The host stops a partition at its end by itself;
//! this is for hosts that do not, or that nobody hears.

use crate::engine::command::Refusal;
use crate::engine::draft::Draft;
use crate::engine::reclaim_due;
use crate::engine::rows::Lease;
use std::collections::BTreeSet;
use std::sync::Arc;
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

pub(super) fn run(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let wanted: Vec<Arc<Lease>> = draft.holding().filter(|l| l.state.is_wanted()).cloned().collect();
    for lease in wanted {
        if let Some(event) = due(draft, &lease) {
            draft.happen(lease.id, event)?;
        }
    }
    let hosts: BTreeSet<HostId> = draft.partitions().filter(|p| p.taken_back.is_some()).map(|p| p.host).collect();
    for host in hosts {
        let _ = reclaim_due(draft, host);
    }
    Ok(())
}

fn due(draft: &Draft<'_>, lease: &Lease) -> Option<LeaseEvent> {
    let now = draft.now;
    let passed = |since: Timestamp, span: Seconds| now >= since.after(span);
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
