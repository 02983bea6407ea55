//! Answers of requests that moved no money are kept for a day.

use crate::engine::change::Change;
use crate::engine::draft::Draft;
use sublet_model::units::Seconds;

/// For how long a repeated request gets the answer of the first.
const KEPT: Seconds = Seconds(86_400);
/// How often old ones are removed.
const EVERY: Seconds = Seconds(3600);

pub(super) fn run(draft: &mut Draft<'_>) {
    // Ticks come once a second: one of them is the first of its hour since the start.
    let up = draft.now.since(draft.started_at());
    if up.0 > 0 && up.0 % EVERY.0 == 0 {
        let before = draft.now.after(Seconds(-KEPT.0));
        draft.put(Change::DonePruned { before });
    }
}
