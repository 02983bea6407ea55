//! What happens because time passes. Each task looks at what is due by now, which the state keeps in
//! order of time, and may be repeated: what is done already is not done again.

use crate::engine::draft::Draft;

mod expire;
mod fund;
mod prune;
mod settle;
mod silence;

pub(crate) use expire::earliest_end;
pub(crate) use fund::funding_due;
pub(crate) use settle::{due_at, settle_if_due};

/// All of them, in the order in which one may make work for the next. What can't happen to one lease is
/// logged, and stands in the way of no other.
pub(crate) fn run(draft: &mut Draft<'_>) {
    silence::run(draft);
    fund::run(draft);
    expire::run(draft);
    settle::run(draft);
    prune::run(draft);
}
