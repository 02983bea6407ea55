//! Which life of the market this is: a new epoch begins when it is restored from a backup. Hosts know
//! then what the market has forgotten, and until one has told it, nothing is decided about it.
//!
//! ```text
//! host unheard --(session: epoch)--> catching up: lives, receipts --(all told)--> caught up
//!      nothing is granted, ended by the clock or settled before an hour     as in any epoch
//! ```

use super::state::State;
use sublet_model::ids::HostId;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::sync::FIRST_EPOCH;

/// How long hosts are waited for after a restore: then what is known has to do.
const WAIT: Seconds = Seconds::HOUR;

/// An epoch of the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Rises with every restore.
    pub number: u64,
    /// When it began.
    pub began_at: Timestamp,
}

impl Default for Epoch {
    fn default() -> Self {
        Self { number: FIRST_EPOCH, began_at: Timestamp(0) }
    }
}

impl State {
    /// Which life of the market this is.
    pub fn epoch(&self) -> Epoch {
        self.tables().epoch
    }

    /// Whether a host has told all that the market may have forgotten of it, as far as that is still
    /// waited for.
    pub fn is_caught_up(&self, host: HostId, now: Timestamp) -> bool {
        let epoch = self.epoch();
        let told = self.live(host).is_some_and(|live| !live.catching_up);
        let waited = now >= epoch.began_at.after(WAIT) || self.host(host).is_none_or(|h| h.forgotten_at.is_some());
        epoch.number == FIRST_EPOCH || told || waited
    }
}
