//! What need not be said again within a session.
//!
//! ```text
//!             said in a sync                       that sync is answered, without a warning
//! known ───────────────────────► under way ─────────────────────────────────────────────────► known
//!   └─ the same again: left out      └─ given up, lost, refused, warned about: said again
//! ```
//!
//! A part is known only from an answer, and no longer once it is said anew: so what is left out is
//! always what the market took in last. The market takes no sync out of turn within a session, and
//! a session ends with the market's memory.

use super::{Division, Observed, SyncAnswer, SyncMessage, SyncRequest};
use sublet_model::host::Inventory;

/// What the market is known to have from this session.
#[derive(Debug, Default)]
pub struct Told {
    inventory: Option<Inventory>,
    division: Option<Division>,
    observed: Option<Vec<Observed>>,
}

impl Told {
    /// What has to be said of the whole. Call it once for each sync that is sent.
    pub fn message(&mut self, whole: &SyncRequest) -> SyncMessage {
        SyncMessage {
            wall_clock: whole.wall_clock,
            inventory: news(&mut self.inventory, &whole.inventory),
            dial: whole.dial.clone(),
            division: news(&mut self.division, &whole.division),
            observed: news(&mut self.observed, &whole.observed),
            receipts: whole.receipts.clone(),
            plan_version: whole.plan_version,
            lives: whole.lives.clone(),
            catching_up: whole.catching_up,
            keys: whole.keys,
        }
    }

    /// The newest sync, which said this, was answered. What the market has something to say
    /// against is said again, for as long as it has; so is what it did not look at, while it is told
    /// what it has forgotten.
    pub fn answered(&mut self, whole: &SyncRequest, answer: &SyncAnswer) {
        if whole.catching_up || !answer.warnings.is_empty() || answer.division_refused.is_some() {
            *self = Self::default();
            return;
        }
        self.inventory.get_or_insert_with(|| whole.inventory.clone());
        self.observed.get_or_insert_with(|| whole.observed.clone());
        if answer.division_revision == whole.division.revision {
            self.division.get_or_insert_with(|| whole.division.clone());
        }
    }
}

/// A part, if it is not known. It is under way then, and not known before that is answered.
fn news<T: Clone + PartialEq>(known: &mut Option<T>, now: &T) -> Option<T> {
    if known.as_ref() == Some(now) {
        return None;
    }
    *known = None;
    Some(now.clone())
}

#[cfg(test)]
mod tests;
