//! The end of a lease as its client should see it come: warnings inside the partition, and its end when
//! nobody uses it and the client wanted that.

use super::guest::Kept;
use super::shared::{Shared, Slot};
use crate::guard::record::Boottime;
use crate::guest_link::{Command, ExecRequest, GuestLink, OWN_PROGRAM};
use crate::jobs::LeaseJobs;
use crate::meter::{self, Now};
use crate::partition::Ending;
use crate::ssh::LeaseKey;
use crate::store::Stage;
use crate::vmm::Vmm;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sublet_model::lease::EndReason;
use sublet_model::units::Seconds;
use tokio::time::timeout;

/// So long before the end it is said, and said again.
const WARN_BEFORE: [Seconds; 3] = [Seconds(600), Seconds(300), Seconds(60)];
/// How often the end is looked at, which may have been moved.
const LOOK_AT_END_EVERY: Duration = Duration::from_secs(5);
/// How often the use is looked at.
const LOOK_AT_USE_EVERY: Duration = Duration::from_secs(1);
/// How long a guest may take to hear a warning.
const HEAR_WITHIN: Duration = Duration::from_secs(20);

/// The warning that is due with so much left, if one is that was not said yet: `said` is what was.
fn warning(left: Seconds, said: Option<Seconds>) -> Option<Seconds> {
    let due = WARN_BEFORE.into_iter().filter(|before| left <= *before).min()?;
    said.is_none_or(|said| due < said).then_some(due)
}

/// Why a lease ends when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// So it was rented.
    Term,
    /// Nothing more is paid, and the market knows it.
    Unpaid,
    /// The market can't be reached to have more paid.
    NoMarket,
}

impl Why {
    fn of(paid: Seconds, term: Seconds, hears_market: bool) -> Self {
        match (paid < term, hears_market) {
            (false, _) => Self::Term,
            (true, true) => Self::Unpaid,
            (true, false) => Self::NoMarket,
        }
    }
}

/// What is said.
fn words(name: &str, left: Seconds, why: Why) -> String {
    let span = match left.0 {
        60.. => format!("{} min", (left.0 + 30) / 60),
        seconds => format!("{} s", seconds.max(0)),
    };
    let advice = match why {
        Why::Term => format!("`sublet extend {name} 1h` on your own computer makes it longer"),
        Why::Unpaid => "what was paid for is used up: add funds".into(),
        Why::NoMarket => "the market can't be reached to pay for more: unless it is back by then, save what you \
                          need"
            .into(),
    };
    format!("sublet: this lease ends in {span}, and all that is in this partition is wiped; {advice}")
}

/// Warns of the end for as long as the guest answers. Never returns.
pub async fn warn<V: Vmm>(shared: &Arc<Shared<V>>, kept: &Kept, link: &GuestLink) {
    let (partition, mut said, mut said_of) = (kept.run.partition, None, None);
    loop {
        let run = shared.db(move |store| store.live_run(partition)).await.ok().flatten();
        if let Some(run) = run.filter(|run| run.stage == Stage::Ready && run.generation == kept.run.generation) {
            let end = meter::stop_at(&run, 0);
            if said_of != Some(end) {
                // It was moved: what was said of the other one counts no more.
                (said, said_of) = (None, Some(end));
            }
            let left = Seconds((end.0 - Boottime::now().0) / 1_000_000);
            // What is not longer than the warning itself needs none.
            let due = warning(left, said).filter(|due| *due < run.limit());
            if let Some(due) = due {
                said = Some(due);
                let why = Why::of(run.paid, run.term, shared.hears_market());
                tell(link, &words(&run.wanted.hostname, left, why)).await;
            }
        }
        tokio::time::sleep(LOOK_AT_END_EVERY).await;
    }
}

/// On every terminal in there, and in a file. A guest that is too busy, or too old for it, is not told.
async fn tell(link: &GuestLink, words: &str) {
    let argv = [OWN_PROGRAM, "notice", words];
    let request = ExecRequest {
        job: format!("notice_{}", uuid::Uuid::now_v7().simple()),
        command: Command::Argv(argv.map(Into::into).into()),
        env: Vec::new(),
        cwd: None,
        user: String::new(),
        pty: None,
        keep: false,
    };
    let told = timeout(HEAR_WITHIN, async { link.exec(&request).await?.control.wait().await }).await;
    tracing::debug!(?told, "the guest was told of its end");
}

/// Ends a lease that nobody uses, if its client wanted that. Never returns.
pub async fn idle<V: Vmm>(shared: &Arc<Shared<V>>, slot: &Arc<Slot>, kept: &Kept) {
    let (jobs, key) = (Arc::clone(&shared.jobs), LeaseKey::of(&kept.run));
    let Ok(Ok(jobs)) = tokio::task::spawn_blocking(move || jobs.of(&key)).await else {
        // Said by who drives them.
        return std::future::pending().await;
    };
    let mut used = Instant::now();
    loop {
        tokio::time::sleep(LOOK_AT_USE_EVERY).await;
        used = last_use(slot, &jobs, kept.run.generation, used);
        let most = jobs.idle_release().map(|most| Duration::from_secs(most.0.max(0).unsigned_abs()));
        if most.is_some_and(|most| used.elapsed() >= most) {
            shared.left_idle(kept.run.partition, kept.run.generation, used.elapsed()).await;
        }
    }
}

/// When a lease was last used: now, or when a client or a job was here that is gone already.
fn last_use(slot: &Slot, jobs: &LeaseJobs, generation: u64, before: Instant) -> Instant {
    if *slot.present.borrow() == Some(generation) || jobs.is_busy() {
        return Instant::now();
    }
    [slot.last_use(generation), jobs.last_use()].into_iter().flatten().fold(before, Instant::max)
}

impl<V: Vmm> Shared<V> {
    /// A lease was used by nobody for as long as its client allowed: it ends.
    async fn left_idle(self: &Arc<Self>, partition: sublet_model::ids::PartitionId, generation: u64, idle: Duration) {
        let (boot_id, now) = (self.boot_id.clone(), Now::read());
        let words = format!("nobody used it for {} s, and it was to end then", idle.as_secs());
        let ended = self.db(move |store| {
            let run = store.live_run(partition)?;
            let run = run.filter(|run| run.generation == generation && run.stage == Stage::Ready);
            let Some(run) = run else { return Ok(false) };
            let metered = meter::seconds(&run, &boot_id, now.mono_us);
            let ending = Ending { reason: Some(EndReason::Released), detail: Some(words), metered };
            store.stopping(&run, ending.reason, ending.detail.as_deref(), ending.metered).map(|()| true)
        });
        self.settle(partition, ended.await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Jobs;

    #[test]
    fn each_warning_is_said_once_and_a_missed_one_not_at_all() {
        for (left, said, expected) in [
            (601, None, None),
            (600, None, Some(600)),
            (599, Some(600), None),
            (290, Some(600), Some(300)),
            (30, None, Some(60)),
            (30, Some(60), None),
            (-5, Some(300), Some(60)),
        ] {
            assert_eq!(warning(Seconds(left), said.map(Seconds)), expected.map(Seconds), "{left} {said:?}");
        }
    }

    #[test]
    fn a_warning_says_what_to_do() {
        assert!(words("box", Seconds(299), Why::Term).contains("ends in 5 min"));
        assert!(words("box", Seconds(42), Why::Term).contains("ends in 42 s"));
        assert!(words("box", Seconds(42), Why::Term).contains("sublet extend box 1h"));
        let why = |paid, hears_market| Why::of(Seconds(paid), Seconds(600), hears_market);
        assert_eq!([why(600, true), why(600, false)], [Why::Term; 2]);
        assert!(words("box", Seconds(42), why(300, true)).contains("add funds"));
        let cut_off = words("box", Seconds(42), why(300, false));
        assert!(cut_off.contains("the market can't be reached") && !cut_off.contains("funds"), "{cut_off}");
    }

    #[test]
    fn use_between_two_looks_is_use() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(folder.path());
        let jobs = jobs.of(&LeaseKey { lease: "lease_1".into(), generation: 2 }).unwrap();
        let (slot, begun) = (Slot::default(), Instant::now());
        let mut used = begun;
        let mut look = || {
            used = last_use(&slot, &jobs, 2, used);
            used
        };
        assert_eq!(look(), begun, "nobody was here");
        slot.came(1);
        slot.left(1);
        assert_eq!(look(), begun, "that was another lease's client");
        slot.came(2);
        slot.left(2);
        let visited = look();
        assert!(visited > begun, "a session that nobody saw");
        assert_eq!(look(), visited);
        let new = serde_json::json!({ "key": "k", "command": ["true"] });
        let job = jobs.submit(serde_json::from_value(new).unwrap()).unwrap();
        job.apply(sublet_model::job::JobEvent::Cancel, None).unwrap();
        let submitted = look();
        assert!(submitted > visited && !jobs.is_busy(), "a job that was over before anybody looked");
        slot.came(2);
        slot.left(1);
        assert_eq!(*slot.present.borrow(), Some(2), "an older client's leaving is none of this one's");
        assert!(look() > submitted);
    }
}
