//! A database that counts what it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use sublet_market::engine::change::Change;
use sublet_market::engine::commit::{Commit, CommitError, Recalled};
use sublet_market::engine::state::Tables;
use sublet_model::ids::MemberId;
use sublet_model::units::Timestamp;

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    commits: AtomicU64,
    changes: AtomicU64,
    commit_ns: AtomicU64,
    recalls: AtomicU64,
    recall_ns: AtomicU64,
}

impl Counts {
    pub fn reset(&self) {
        let all = [&self.commits, &self.changes, &self.commit_ns, &self.recalls, &self.recall_ns];
        all.into_iter().for_each(|count| count.store(0, Relaxed));
    }

    /// In words, over `wall` seconds.
    pub fn said(&self, wall: f64) -> String {
        let get = |count: &AtomicU64| count.load(Relaxed) as f64;
        let commits = get(&self.commits).max(1.0);
        format!(
            "{commits:.0} commits ({:.0}/s) of {:.1} changes, {:.0} us each, {:.0} % of the time; {:.0} recalls of {:.1} us",
            commits / wall,
            get(&self.changes) / commits,
            get(&self.commit_ns) / commits / 1e3,
            get(&self.commit_ns) / 1e7 / wall,
            get(&self.recalls),
            get(&self.recall_ns) / get(&self.recalls).max(1.0) / 1e3
        )
    }
}

/// Passes everything on to `db`.
pub struct Counted<D> {
    pub db: D,
    pub counts: Arc<Counts>,
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl<D: Commit> Commit for Counted<D> {
    fn commit(&mut self, at: Timestamp, changes: &[&Change]) -> Result<(), CommitError> {
        let began = Instant::now();
        let done = self.db.commit(at, changes);
        self.counts.commits.fetch_add(1, Relaxed);
        self.counts.changes.fetch_add(changes.len() as u64, Relaxed);
        self.counts.commit_ns.fetch_add(nanos(began), Relaxed);
        done
    }

    fn recall(&mut self, member: MemberId, key: &str) -> Result<Option<Recalled>, CommitError> {
        let began = Instant::now();
        let known = self.db.recall(member, key);
        self.counts.recalls.fetch_add(1, Relaxed);
        self.counts.recall_ns.fetch_add(nanos(began), Relaxed);
        known
    }

    fn edited(&mut self) -> Result<bool, CommitError> {
        self.db.edited()
    }

    fn load(&mut self) -> Result<Tables, CommitError> {
        self.db.load()
    }
}
