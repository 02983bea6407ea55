//! Hosts that are not heard of. Silence destroys nothing: it only lets the paid end decide.

use crate::engine::change::Change;
use crate::engine::draft::Draft;
use crate::engine::live::{SILENT, SUSPECT};
use sublet_model::ids::{HostId, LeaseId};
use sublet_model::lease::LeaseEvent;
use sublet_model::units::Seconds;

/// If so many of a hundred hosts are not heard of together, it is we who do not hear.
const TOGETHER_PERCENT: usize = 55;

pub(super) fn run(draft: &mut Draft<'_>) {
    for host in newly_silent(draft) {
        draft.put(Change::Silenced { host });
        let at = draft.now;
        let leases: Vec<LeaseId> = draft.held_on(host).map(|lease| lease.id).collect();
        for lease in leases {
            if let Err(refusal) = draft.together(|draft| draft.happen(lease, LeaseEvent::Silent { at })) {
                tracing::error!(%lease, %refusal, "a lease can't be told that its host is silent");
            }
        }
    }
}

fn newly_silent(draft: &Draft<'_>) -> Vec<HostId> {
    let now = draft.now;
    // After a start nobody is heard yet: silence counts from there.
    if now.since(draft.started_at()) < SILENT {
        return Vec::new();
    }
    // Those that are on their way to silence count too: a cut reaches not all in the same second.
    let unheard: Vec<HostId> = draft.unheard().filter(|host| holds_running(draft, *host)).collect();
    let suspects = unheard.len() + draft.heard_by(now.after(Seconds(-SUSPECT.0))).count();
    if suspects > 1 && suspects * 100 >= (unheard.len() + draft.listened_to()) * TOGETHER_PERCENT {
        return Vec::new();
    }
    unheard.into_iter().chain(draft.heard_by(now.after(Seconds(-SILENT.0)))).collect()
}

/// Whether the silence of a host that was never heard since the start would be news: it holds
/// leases that do not know of it yet.
fn holds_running(draft: &Draft<'_>, host: HostId) -> bool {
    draft.held_on(host).any(|lease| lease.state.is_wanted() && lease.state.silent_since().is_none())
}
