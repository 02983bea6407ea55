//! What the agent's tasks share.

use super::hands::{Hands, Over, Reading};
use super::own::OwnSlots;
use super::templates::Templates;
use crate::guest_link::GuestLink;
use crate::images::Cache;
use crate::jobs::Jobs;
use crate::market_keys::MarketKeys;
use crate::meter::{self, Now};
use crate::reconcile::{Life, Policy, Seen};
use crate::ssh::LeaseKey;
use crate::store::{Identity, Keys, Run, Stage, Store, StoreError};
use crate::vmm::{Accelerator, Vmm};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use sublet_model::host::Inventory;
use sublet_model::ids::PartitionId;
use sublet_model::market_keys::NotFollowed;
use sublet_wire::path::{Reach, RelayOffer};
use sublet_wire::sync::{Division, Wanted};
use tokio::sync::watch;

/// A market that answered within this time is there: it holds a call for less than a minute.
const MARKET_SILENT_AFTER: Duration = Duration::from_secs(90);

/// How an agent runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// What executes guests' instructions.
    pub accelerator: Accelerator,
    /// What the computer has.
    pub inventory: Inventory,
    /// Within what time a guest must answer.
    pub boot_deadline: Duration,
    /// The user of the first partition; the others follow.
    pub first_uid: u32,
    /// The one user as whom all partitions run, where the agent may not change users.
    pub run_as: Option<(u32, u32)>,
    /// The most bytes of templates that are kept; 0: none are made or used.
    pub template_limit_bytes: u64,
    /// The monitor and the processor: templates made with others are not used.
    pub monitor: String,
}

/// A guest that answered.
#[derive(Debug, Clone)]
pub struct Linked {
    /// Of which generation.
    pub generation: u64,
    /// The link.
    pub link: GuestLink,
}

/// What is only known while the agent lives, of one partition.
#[derive(Debug, Default)]
pub struct Slot {
    /// Raised when its record was changed by somebody else than its worker.
    pub changed: watch::Sender<u64>,
    /// Its guest, while it answers.
    pub guest: watch::Sender<Option<Linked>>,
    /// Of which generation the end is told, and the end itself, in words, once it came.
    ended: Mutex<Option<(u64, watch::Sender<Option<String>>)>>,
    /// The generation whose client has a connection open.
    pub present: watch::Sender<Option<u64>>,
    /// When a client last came or left, and of which generation: one may be gone before anybody looks.
    used: Mutex<Option<(u64, Instant)>>,
    /// The generation whose machine was stopped though that could not be recorded yet; 0 for none.
    pub(super) over: AtomicU64,
    /// Whether its worker has looked at it since the agent started.
    pub looked: watch::Sender<bool>,
    pub(super) worker: Mutex<Option<tokio::task::AbortHandle>>,
}

impl Slot {
    /// Has its worker look again.
    pub fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// The client of a generation is here.
    pub fn came(&self, generation: u64) {
        self.used_by(generation);
        self.present.send_replace(Some(generation));
    }

    /// The client of a generation is gone.
    pub fn left(&self, generation: u64) {
        self.used_by(generation);
        self.present.send_if_modified(|present| present.take_if(|present| *present == generation).is_some());
    }

    fn used_by(&self, generation: u64) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation, Instant::now()));
    }

    /// When a client of a generation last came or left.
    pub fn last_use(&self, generation: u64) -> Option<Instant> {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.filter(|(known, _)| *known == generation).map(|(_, at)| at)
    }

    /// Tells of the end of a generation.
    pub fn end_of(&self, generation: u64) -> watch::Receiver<Option<String>> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match &*ended {
            Some((known, end)) if *known == generation => end.subscribe(),
            _ => {
                // Whoever still listens to an older generation hears its sender go.
                let end = watch::Sender::new(None);
                let told = end.subscribe();
                *ended = Some((generation, end));
                told
            }
        }
    }

    /// Says that a generation has ended: its sessions close.
    pub fn say_end(&self, generation: u64, words: String) {
        self.end_of(generation);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, end)) = &*ended {
            end.send_if_modified(|said| {
                let first = said.is_none();
                said.get_or_insert(words);
                first
            });
        }
    }
}

/// What the agent's tasks share.
#[derive(Debug)]
pub struct Shared<V> {
    /// What is known for certain.
    pub store: Store,
    /// The host's keys.
    pub keys: Keys,
    /// Who this is.
    pub identity: Identity,
    /// How it runs.
    pub config: Config,
    /// What runs partitions.
    pub vmm: V,
    /// Images.
    pub cache: Cache,
    /// Templates.
    pub templates: Templates,
    /// Detached jobs of its leases.
    pub jobs: Arc<Jobs>,
    /// Which start of the computer this is.
    pub boot_id: String,
    /// Raised when the market should hear something at once.
    pub news: watch::Sender<u64>,
    /// When the market last answered.
    pub heard: Mutex<Option<Instant>>,
    /// Whom this host believes.
    pub market_keys: watch::Sender<MarketKeys>,
    /// Why the market was last not followed to other keys.
    pub(super) not_followed: Mutex<Option<NotFollowed>>,
    /// How clients reach this host.
    pub reach: watch::Sender<Reach>,
    /// The market's relay, if it has one.
    pub relay: watch::Sender<Option<RelayOffer>>,
    /// The newest plan, none before the first; held while one is carried out.
    pub plan: tokio::sync::Mutex<Option<Vec<Wanted>>>,
    pub(super) slots: Mutex<BTreeMap<PartitionId, Arc<Slot>>>,
    /// The owner's own partitions.
    pub(super) own: OwnSlots,
    /// Leases whose one job is served by a session: that session says when it has ended.
    pub(super) served: Mutex<BTreeSet<LeaseKey>>,
    pub(super) refusals: Mutex<BTreeMap<PartitionId, String>>,
}

/// Where a partition's run directory is.
pub(super) fn run_dir(state: &std::path::Path, place: u32) -> PathBuf {
    state.join("run").join(place.to_string())
}

impl<V: Vmm> Shared<V> {
    /// Uses the store where blocking does no harm.
    pub async fn db<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Has the market hear what changed.
    pub fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// The market has answered.
    pub(super) fn market_answered(&self) {
        *Self::lock(&self.heard) = Some(Instant::now());
    }

    /// Whether the market answered of late.
    pub(super) fn hears_market(&self) -> bool {
        Self::lock(&self.heard).is_some_and(|heard| heard.elapsed() < MARKET_SILENT_AFTER)
    }

    /// What the owner and this computer allow now.
    pub fn policy(&self, division: &Division) -> Policy {
        let inventory = &self.config.inventory;
        Policy {
            host: self.identity.host,
            market_keys: self.market_keys.borrow().chain.clone(),
            arch: inventory.arch.clone(),
            threads: inventory.threads,
            lendable: crate::division::lendable(inventory, division.keep),
            partitions: Policy::partitions_of(division),
        }
    }

    /// Every partition as it is recorded.
    pub fn seen(store: &Store) -> Result<Vec<Seen>, StoreError> {
        let (applied, gone, runs) = (store.applied()?, store.gone()?, store.live_runs()?);
        let life = |id: &PartitionId, generation: u64| match runs.iter().find(|r| r.partition == *id) {
            Some(run) => Life::Held {
                lease: run.lease(),
                term: run.term,
                paid: run.paid,
                stopping: run.stage >= Stage::Stopping,
            },
            None => match gone.get(id).filter(|g| g.generation >= generation) {
                Some(gone) => Life::Gone { acknowledged: gone.acknowledged },
                None => Life::Idle,
            },
        };
        let seen = applied.into_iter();
        Ok(seen
            .map(|(partition, applied)| Seen { partition, applied, life: life(&partition, applied.generation) })
            .collect())
    }

    /// What does the steps of a life.
    pub(super) fn hands(&self) -> Hands<'_, Self, V> {
        Hands {
            disk: self,
            vmm: &self.vmm,
            key: &self.keys.identity,
            state: self.store.state(),
            first_uid: self.config.first_uid,
        }
    }

    /// What the meter of a run shows now.
    pub fn metered(&self, run: &Run) -> sublet_model::units::Seconds {
        meter::seconds(run, &self.boot_id, Now::read().mono_us)
    }

    pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every worker; partitions go on.
    pub(super) fn end_workers(&self) {
        for slot in Self::lock(&self.slots).values().chain(self.own.all().values()) {
            if let Some(worker) = Self::lock(&slot.worker).take() {
                worker.abort();
            }
            slot.guest.send_replace(None);
        }
    }

    /// A session begins, or ceases, to serve the one job of a one-shot lease.
    pub(super) fn serves_only_job(&self, lease: &LeaseKey, now: bool) {
        let mut served = Self::lock(&self.served);
        let _ = if now { served.insert(lease.clone()) } else { served.remove(lease) };
    }

    /// Whether a session serves the one job of this life: then its output may still be on its way.
    pub(super) fn is_only_job_served(&self, run: &Run) -> bool {
        Self::lock(&self.served).contains(&LeaseKey::of(run))
    }

    /// Generations whose machines were stopped though that could not be recorded yet: their meters
    /// stand still.
    pub(super) fn over(&self) -> Over {
        let slots = Self::lock(&self.slots);
        slots.iter().map(|(partition, slot)| (*partition, slot.over.load(Ordering::SeqCst))).collect()
    }

    /// What to read meters with, at this instant.
    pub(super) fn reading(&self) -> Reading<'_> {
        Reading { now: Now::read(), boot_id: &self.boot_id, over: self.over() }
    }

    /// A partition's slot, if it has one.
    pub fn known_slot(&self, partition: PartitionId) -> Option<Arc<Slot>> {
        Self::lock(&self.slots).get(&partition).cloned()
    }
}
