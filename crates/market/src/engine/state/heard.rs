//! Which hosts are listened to, in the order in which they were heard last.

use crate::engine::live::HostLive;
use std::collections::BTreeSet;
use sublet_model::ids::HostId;
use sublet_model::units::Timestamp;

/// Follows what was heard: a host stands in one of the two, or in none once it was declared silent.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// Heard since the start, and not silent.
    at: BTreeSet<(Timestamp, HostId)>,
    /// Not heard since the start, though there are leases on it. Nothing new is granted there before
    /// it is heard, so this never grows by itself.
    unheard: BTreeSet<HostId>,
}

impl Heard {
    /// The market starts: these hosts have leases.
    pub fn begin(unheard: BTreeSet<HostId>) -> Self {
        Self { at: BTreeSet::new(), unheard }
    }

    /// What was heard of a host is another thing now.
    pub fn change(&mut self, host: HostId, before: Option<&HostLive>, now: Option<&HostLive>) {
        if let Some(live) = before {
            self.at.remove(&(live.heard_at, host));
        }
        match now {
            Some(live) => {
                self.unheard.remove(&host);
                if !live.silent {
                    self.at.insert((live.heard_at, host));
                }
            }
            None => drop(self.unheard.insert(host)),
        }
    }

    /// A host is forgotten: nobody listens to it.
    pub fn forget(&mut self, host: HostId, live: Option<&HostLive>) {
        self.unheard.remove(&host);
        if let Some(live) = live {
            self.at.remove(&(live.heard_at, host));
        }
    }

    /// Whether these are heard since the start and not silent, at these times. For tests.
    pub fn is(&self, at: &BTreeSet<(Timestamp, HostId)>) -> bool {
        self.at == *at
    }

    /// How many were heard since the start and are not silent.
    pub fn count(&self) -> usize {
        self.at.len()
    }

    /// Those of them that were heard no later than this.
    pub fn by(&self, at: Timestamp) -> impl Iterator<Item = HostId> {
        // Just after everything at this very moment.
        let end = Timestamp(at.0.saturating_add(1));
        self.at.iter().take_while(move |(heard, _)| *heard < end).map(|(_, host)| *host)
    }

    /// Those that were not heard since the start, though there may be leases on them.
    pub fn unheard(&self) -> impl Iterator<Item = HostId> {
        self.unheard.iter().copied()
    }
}
