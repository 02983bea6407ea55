//! Hosts that are not heard of. Silence destroys nothing: it only lets the paid end decide.

use crate::engine::change::Change;
use crate::engine::command::Refusal;
use crate::engine::draft::Draft;
use crate::engine::live::{SILENT, SUSPECT};
use sublet_model::ids::{HostId, LeaseId};
use sublet_model::lease::LeaseEvent;

/// If so many of a hundred hosts are not heard of together, it is we who do not hear.
const TOGETHER_PERCENT: usize = 55;

pub(super) fn run(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    for host in newly_silent(draft) {
        draft.put(Change::Silenced { host });
        let at = draft.now;
        let leases: Vec<LeaseId> = draft.held_on(host).map(|lease| lease.id).collect();
        for lease in leases {
            draft.happen(lease, LeaseEvent::Silent { at })?;
        }
    }
    Ok(())
}

fn newly_silent(draft: &Draft<'_>) -> Vec<HostId> {
    let now = draft.now;
    // After a start nobody is heard yet: silence counts from there.
    if now.since(draft.started_at()) < SILENT {
        return Vec::new();
    }
    let watched: Vec<HostId> = draft.hosts().map(|h| h.id).filter(|host| is_watched(draft, *host)).collect();
    let quiet = |span| watched.iter().copied().filter(move |host| now.since(draft.heard_at(*host)) >= span);
    // Those that are on their way to silence count too: a cut reaches not all in the same second.
    let suspects = quiet(SUSPECT).count();
    if suspects > 1 && suspects * 100 >= watched.len() * TOGETHER_PERCENT {
        return Vec::new();
    }
    quiet(SILENT).collect()
}

/// Whether the host's silence would be news: it was heard since the start, or it holds leases
/// that do not know of its silence yet.
fn is_watched(draft: &Draft<'_>, host: HostId) -> bool {
    match draft.live(host) {
        Some(live) => !live.silent,
        None => draft.held_on(host).any(|lease| lease.state.is_wanted() && lease.state.silent_since().is_none()),
    }
}
