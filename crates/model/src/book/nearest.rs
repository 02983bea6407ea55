//! The nearest deal: where nothing fits, which clause alone is in the way of how many, and the
//! smallest single changes after which something fits.
//!
//! Each change is found by the book itself and asked of the rule of fit before it is told: asked
//! again with it, the market answers with a match, as long as it stays as it is.

mod changes;
mod count;
mod extreme;

use super::index::Book;
use super::search::Search;
use super::unfit::Unfit;
use crate::ids::{HostId, PartitionId};
use crate::requirements::Requirements;

/// What is near, though nothing fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// Partitions that are lent.
    pub lent: usize,
    /// Of those, how many fit after all.
    pub fitting: usize,
    /// Clauses, each with how many partitions it alone leaves out; those that leave out none are
    /// not here. What is busy is judged by what it could become if it were free; what fits on a
    /// host that was not heard for some seconds counts as busy.
    pub alone: Vec<(Unfit, usize)>,
    /// Partitions that would fit if they were free, the first thousand.
    pub busy: Vec<PartitionId>,
    /// The smallest change of each property after which something fits, others as they are.
    pub changes: Vec<Change>,
}

/// A change of one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As it was asked, in the text form: `memory>=64GiB`.
    pub from: String,
    /// As it would fit: `memory>=48GiB`; empty if the property is to be left out.
    pub to: String,
    /// All that was asked, with this change.
    pub requirements: Requirements,
}

impl Book {
    /// What is near. Takes some milliseconds where a million are lent: a request of its own.
    pub fn nearest(&self, search: &Search<'_>, is_heard: &dyn Fn(HostId) -> bool) -> Nearest {
        let count::Counts { fitting, alone, busy } = count::count(self, search, is_heard);
        let changes = if fitting > 0 { Vec::new() } else { changes::all(self, search, is_heard, &alone) };
        Nearest { lent: self.len(), fitting, alone, busy, changes }
    }
}
