//! What need not be kept: answers of requests that moved no money after a day, and what an account was
//! told when it was told a thousand things since.

use crate::engine::change::Change;
use crate::engine::draft::Draft;
use sublet_model::units::Seconds;

/// For how long a repeated request gets the answer of the first.
const KEPT: Seconds = Seconds(86_400);
/// How often old ones are removed.
const EVERY: Seconds = Seconds(3600);
/// How much of what it was told an account can read later.
const KEPT_ALERTS: usize = 1000;
/// The most alerts that go at once; the next time there are less.
const MOST: usize = 10_000;

pub(super) fn run(draft: &mut Draft<'_>) {
    // Ticks come once a second: one of them is the first of its hour since the start.
    let up = draft.now.since(draft.started_at());
    if up.0 > 0 && up.0 % EVERY.0 == 0 {
        let before = draft.now.after(Seconds(-KEPT.0));
        draft.put(Change::DonePruned { before });
        let mut seqs = draft.stale_alerts(KEPT_ALERTS);
        seqs.truncate(MOST);
        if !seqs.is_empty() {
            draft.put(Change::AlertsPruned { seqs });
        }
    }
}
