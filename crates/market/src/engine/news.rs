//! What happened, for whoever listens: made from the changes once they are committed, the last of it
//! kept in memory. A list of what there is says more; this says when to look.

use super::change::Change;
use super::rows::Lease;
use super::state::State;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use sublet_model::ids::{AccountId, LeaseId};
use sublet_model::lease::LeaseState;
use sublet_model::units::{Seconds, Timestamp};
use tokio::sync::watch;

/// How many are kept for those who come back: some megabytes.
const KEPT: usize = 10_000;
/// How long before its end a lease is said to end soon.
const SOON: Seconds = Seconds(300);
/// More words than this, from a client or host, are cut.
const MOST_WORDS: usize = 500;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// Rises by one, from 1 at the start of this process.
    pub number: u64,
    /// When, by the market's clock.
    pub at: Timestamp,
    /// A word, such as `ready`: those of a lease's story.
    pub what: &'static str,
    /// All of it.
    pub words: String,
    /// About which lease.
    pub lease: Option<LeaseId>,
    /// What its client calls it.
    pub name: Option<String>,
    /// Whose lease or balance it is.
    pub client: AccountId,
    /// Whose host it is on; none where it is no business of the lender's.
    pub lender: Option<AccountId>,
}

/// The last of what happened, and who waits for more.
#[derive(Debug)]
pub struct News {
    kept: Mutex<VecDeque<Arc<Happening>>>,
    /// The number of the newest one; 0 before the first.
    newest: watch::Sender<u64>,
    /// When this process began to number.
    began: Timestamp,
    /// Leases that end before this moment were said to end soon.
    warned_until: Mutex<Timestamp>,
}

impl News {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            kept: Mutex::default(),
            newest: watch::Sender::new(0),
            began: now,
            warned_until: Mutex::new(now.after(SOON)),
        }
    }

    /// Tells one start of the market from another: numbers begin again with each.
    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// The number of the newest one.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Those after a number, at most so many; none where some of them are not kept any more.
    pub fn after(&self, number: u64, most: usize) -> Option<Vec<Arc<Happening>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = kept.front().map_or(1, |first| first.number);
        if number > self.newest() || number + 1 < oldest {
            return None;
        }
        Some(kept.iter().skip((number + 1 - oldest) as usize).take(most).cloned().collect())
    }

    /// Waits until there is one after a number. Give it a time limit.
    pub async fn wait(&self, number: u64) {
        // It fails only where the sender is gone, which is held here.
        let _ = self.newest.subscribe().wait_for(|newest| *newest > number).await;
    }

    /// Leases whose paid time is nearly over, each once.
    pub(super) fn warn(&self, state: &State, now: Timestamp) -> Vec<Happening> {
        let mut warned_until = self.warned_until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = now.after(SOON).max(*warned_until);
        let from = std::mem::replace(&mut *warned_until, until);
        let ending = state.ending_between(from, until).filter(|lease| matches!(lease.state, LeaseState::Active { .. }));
        ending.map(|lease| about(lease, now, "ends_soon", format!("its paid time is over within {SOON}"))).collect()
    }

    pub(super) fn tell(&self, happened: Vec<Happening>) {
        if happened.is_empty() {
            return;
        }
        // The newest number is told with the lock held: whoever was given one is never ahead of it.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut number = self.newest();
        for one in happened {
            number += 1;
            kept.push_back(Arc::new(Happening { number, ..one }));
        }
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
        self.newest.send_replace(number);
    }
}

/// What a change means to people, seen before it is applied.
pub(super) fn of(state: &State, change: &Change, now: Timestamp) -> Option<Happening> {
    let lease_of = |id: &LeaseId| state.lease(*id);
    match change {
        Change::Lease(lease) => {
            Some(about(lease, now, "granted", format!("{} for {}", lease.image, lease.term_seconds)))
        }
        Change::LeaseMoved { lease, state: next, detail, .. } => {
            let lease = lease_of(lease)?;
            let (what, words) = moved(lease.state, *next)?;
            let detail = detail.as_ref().map_or(String::new(), |said| format!(" (the host says: {said})"));
            Some(about(lease, now, what, format!("{words}{detail}")))
        }
        Change::LeaseExtended { lease, term_seconds, .. } => {
            let lease = lease_of(lease)?;
            // More of the same term was paid for: nobody needs to know.
            let longer = lease.term_seconds != *term_seconds;
            longer.then(|| about(lease, now, "extended", format!("it may run for {term_seconds} now")))
        }
        Change::Charge(row) => {
            let words = format!("{} for {}", row.charge.total, row.charge.billed_seconds);
            Some(about(lease_of(&row.lease)?, now, "billed", words))
        }
        Change::Credit(row) => {
            let words = format!("{} given back: {}", row.micros, row.note);
            Some(about(lease_of(&row.lease)?, now, "credited", words))
        }
        Change::Dispute(row) => Some(about(lease_of(&row.lease)?, now, "disputed", row.reason.clone())),
        Change::DisputeResolved { dispute, resolved } => {
            let row = state.dispute(*dispute)?;
            let words = format!("{} given back: {}", resolved.credited, resolved.note);
            Some(about(lease_of(&row.lease)?, now, "resolved", words))
        }
        Change::Alert(row) => Some(Happening {
            number: 0,
            at: row.at,
            what: row.kind.word(),
            words: cut(&row.words),
            lease: row.lease,
            name: row.lease.and_then(|id| state.lease(id)).map(|lease| lease.name.clone()),
            client: row.account,
            lender: None,
        }),
        _ => None,
    }
}

/// What became of a lease, if it is news: its state was another one before.
fn moved(before: LeaseState, now: LeaseState) -> Option<(&'static str, String)> {
    let was_silent = before.silent_since().is_some();
    let is_silent = now.silent_since().is_some();
    if before.word() == now.word() {
        return match (was_silent, is_silent) {
            (false, true) => Some(("silent", "its host is not heard of".into())),
            (true, false) => Some(("heard", "its host is heard of again".into())),
            _ => None,
        };
    }
    let reason = now.reason().map_or(String::new(), |reason| format!("{reason}: {}", reason.explanation()));
    match now {
        LeaseState::Granted { .. } => None,
        LeaseState::Active { .. } => Some(("ready", "its guest answers; it is metered from now on".into())),
        LeaseState::Stopping { .. } => Some(("stopped", reason)),
        LeaseState::Lost { .. } => Some(("lost", reason)),
        LeaseState::Ended { .. } => Some(("ended", reason)),
    }
}

fn about(lease: &Lease, at: Timestamp, what: &'static str, words: String) -> Happening {
    let (client, lender) = (lease.account, Some(lease.terms().lender));
    let (id, name) = (Some(lease.id), Some(lease.name.clone()));
    Happening { number: 0, at, what, words: cut(&words), lease: id, name, client, lender }
}

fn cut(words: &str) -> String {
    words.chars().take(MOST_WORDS).collect()
}

#[cfg(test)]
mod tests;
