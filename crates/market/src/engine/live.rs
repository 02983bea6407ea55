//! What is heard from hosts and never stored: it is said again with the next sync.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::PartitionId;
use sublet_model::partition::Phase;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::sync::Observed;

/// After how long without a sync a host gets no new grants.
pub const SUSPECT: Seconds = Seconds(15);
/// After how long without a sync a host counts as silent.
pub const SILENT: Seconds = Seconds(60);
/// How far a host's wall clock may be off for new grants.
pub const CLOCK_TOLERANCE: Seconds = Seconds(30);

/// What was last heard of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostLive {
    /// When.
    pub heard_at: Timestamp,
    /// By how much its wall clock is ahead of the market's (negative: behind).
    pub clock_off: Seconds,
    /// Whether it was declared silent since.
    pub silent: bool,
    /// Whether it still tells what a market that was restored has forgotten.
    pub catching_up: bool,
    /// Every partition, as it saw them.
    pub observed: Arc<BTreeMap<PartitionId, Observed>>,
    /// The newest change of the market's keys that it knows.
    pub keys: Option<Sha256Digest>,
    /// What was already written into the audit log about it, so that it is written once.
    pub flagged: Arc<BTreeSet<String>>,
}

impl HostLive {
    /// Whether it may get new grants.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.heard_at) < SUSPECT && self.clock_is_right() && !self.catching_up
    }

    /// Whether certificates that the market dates mean the same time to it.
    pub fn clock_is_right(&self) -> bool {
        self.clock_off.0.abs() <= CLOCK_TOLERANCE.0
    }

    /// How it saw one partition.
    pub fn observed(&self, partition: PartitionId) -> Option<&Observed> {
        self.observed.get(&partition)
    }

    /// Where a generation of a partition stands, if it is that generation which was seen.
    pub fn phase(&self, partition: PartitionId, generation: u64) -> Option<Phase> {
        self.observed(partition).filter(|o| o.applied.generation == generation).map(|o| o.phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_suspected_well_before_it_is_silent() {
        let hold = i64::try_from(sublet_wire::sync::HOLD.as_secs()).unwrap();
        assert!(SILENT > SUSPECT && SUSPECT.0 > 2 * hold, "a held sync must not look like silence");
    }
}
