//! What the steps of a life do to disk and machines, and in which order, without waiting for
//! anybody: the agent does it on real clocks and a real disk, a simulation on its own.

use crate::meter::{self, Now, RECEIPT_EVERY};
use crate::partition::Ending;
use crate::reconcile::Step;
use crate::store::{NewReceipt, Run, Stage, Store, StoreError};
use crate::vmm::{Machine, Observed, Vmm, VmmError};
use futures_util::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use sublet_model::identity::SecretKey;
use sublet_model::ids::PartitionId;
use sublet_model::partition::Allocation;
use sublet_model::units::Seconds;
use uuid::Uuid;

/// Why a step failed. Nothing is lost by it: it is done again.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// What had to be kept could not be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A machine did not do as it was told.
    #[error(transparent)]
    Vmm(#[from] VmmError),
}

/// The store, used where blocking does no harm.
pub trait Disk: Sync {
    /// Does some work on it.
    fn db<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;
}

impl<V: Vmm> Disk for super::shared::Shared<V> {
    async fn db<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        Self::db(self, work).await
    }
}

/// Disk and machines of one computer.
#[derive(Debug)]
pub struct Hands<'a, D, V> {
    /// What is known for certain.
    pub disk: &'a D,
    /// What runs partitions.
    pub vmm: &'a V,
    /// Signs receipts.
    pub key: &'a SecretKey,
    /// The state directory.
    pub state: &'a Path,
    /// The user of the first partition; the others follow.
    pub first_uid: u32,
}

impl<D: Disk, V: Vmm> Hands<'_, D, V> {
    /// The machine of a life.
    pub async fn machine(&self, run: &Run) -> Result<Machine, StepError> {
        self.machine_of(run.partition, run.generation, run.uuid).await
    }

    /// The machine of a partition that was started as this.
    pub async fn machine_of(&self, partition: PartitionId, generation: u64, uuid: Uuid) -> Result<Machine, StepError> {
        let first = self.first_uid;
        let place = self.disk.db(move |store| store.place(partition, first, super::users::exists)).await?;
        Ok(Machine { partition, generation, uuid, run_dir: super::shared::run_dir(self.state, place.number) })
    }

    /// What a life is entitled to.
    pub async fn applied(&self, run: &Run) -> Result<Allocation, StepError> {
        let partition = run.partition;
        let applied = self.disk.db(move |store| Ok(store.applied()?.get(&partition).copied())).await?;
        let missing = || StoreError::Unreadable { attempt: "read what was applied", problem: "it is missing".into() };
        applied.filter(|a| a.generation == run.generation).ok_or_else(|| missing().into())
    }

    /// Records an ending. Where that can't be done the machine is stopped all the same.
    pub async fn end(&self, run: &Run, ending: &Ending) -> Result<(), StepError> {
        let (record, kept) = (run.clone(), ending.clone());
        let recorded =
            self.disk.db(move |store| store.stopping(&record, kept.reason, kept.detail.as_deref(), kept.metered)).await;
        if let Err(error) = recorded {
            let machine = self.machine(run).await?;
            self.vmm.stop(&machine).await?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Stops the machine, writes the last receipt, wipes, and only then records that it is gone.
    pub async fn stop(&self, run: &Run) -> Result<(), StepError> {
        let machine = self.machine(run).await?;
        let used = self.used_ms(&machine).await;
        let exit = self.vmm.stop(&machine).await?;
        tracing::debug!(partition = %run.partition, ?exit, "stopped");
        let receipt = NewReceipt {
            lease: run.lease(),
            generation: run.generation,
            seconds: meter::last_seconds(run, exit.as_ref()),
            cpu_used_ms: used,
            last: true,
        };
        let key = self.key.clone();
        self.disk.db(move |store| store.add_receipt(&receipt, &key)).await?;
        self.vmm.wipe(&machine).await?;
        let run = run.clone();
        Ok(self.disk.db(move |store| store.ended(&run)).await?)
    }

    /// Processor time really used, in milliseconds; for information, so none where it can't be read.
    pub async fn used_ms(&self, machine: &Machine) -> i64 {
        self.vmm.usage(machine).await.map_or(0, |used| (used.cpu_nanoseconds / 1_000_000) as i64)
    }

    /// Keeps the meters of what runs durably. Answers those of which a receipt is due.
    pub async fn keep_meters(&self, at: &Reading<'_>) -> Result<Vec<(Run, Seconds)>, StepError> {
        let meters = self.metered(at).await?;
        if meters.is_empty() {
            return Ok(meters);
        }
        let keep = move |store: &Store| {
            store.progress(&meters)?;
            let mut due = Vec::new();
            for (run, seconds) in meters {
                let receipted = store.chain_end(run.lease())?.map(|end| end.seconds);
                if meter::receipt_is_due(receipted, seconds, store.waiting_receipts(run.lease())?) {
                    due.push((run, seconds));
                }
            }
            Ok(due)
        };
        Ok(self.disk.db(keep).await?)
    }

    /// A new session begins: what was used until now is receipted, but for what is hardly anything.
    pub async fn receipt_session_change(&self, at: &Reading<'_>) -> Result<(), StepError> {
        let (mut meters, key) = (self.metered(at).await?, self.key.clone());
        meters.retain(|(_, seconds)| *seconds >= RECEIPT_EVERY);
        let write = move |store: &Store| {
            meters.iter().try_for_each(|(run, seconds)| {
                let (lease, generation, seconds) = (run.lease(), run.generation, *seconds);
                store.add_receipt(&NewReceipt { lease, generation, seconds, cpu_used_ms: 0, last: false }, &key)
            })
        };
        Ok(self.disk.db(write).await?)
    }

    /// Every life in use whose machine is seen to run, with what its meter shows at that instant: one that
    /// died while no agent looked is not counted on.
    async fn metered(&self, at: &Reading<'_>) -> Result<Vec<(Run, Seconds)>, StepError> {
        let mut runs = self.disk.db(Store::live_runs).await?;
        runs.retain(|run| run.stage == Stage::Ready && !at.over.contains(&(run.partition, run.generation)));
        let looked = runs.into_iter().map(async |run| {
            let machine = self.machine(&run).await?;
            let runs = matches!(self.vmm.observe(&machine).await, Observed::Running { .. });
            let seconds = meter::seconds(&run, at.boot_id, at.now.mono_us);
            Ok::<_, StepError>(runs.then_some((run, seconds)))
        });
        Ok(try_join_all(looked).await?.into_iter().flatten().collect())
    }
}

/// When meters are read: an instant before the machines are looked at.
#[derive(Debug)]
pub struct Reading<'a> {
    /// On the clocks of this computer.
    pub now: Now,
    /// Which start of the computer this is.
    pub boot_id: &'a str,
    /// What is over although that could not be recorded yet.
    pub over: Over,
}

/// What came of carrying a plan out.
#[derive(Debug, Default)]
pub struct Carried {
    /// Which wishes are refused, and why.
    pub refusals: BTreeMap<PartitionId, String>,
    /// Whether anything was done.
    pub changed: bool,
    /// In which partitions something is to do now.
    pub touched: BTreeSet<PartitionId>,
    /// The last step that failed.
    pub failed: Option<StoreError>,
}

/// Does what [`crate::reconcile`] says, one dull step after the other. Once one has failed, what
/// would start something is not done any more.
pub fn carry_out(steps: Vec<Step>, mut take: impl FnMut(&Step) -> Result<(), StoreError>) -> Carried {
    let mut carried = Carried::default();
    for step in steps {
        if let Step::Refuse { partition, why } = step {
            carried.refusals.insert(partition, why);
            continue;
        }
        if carried.failed.is_some() && matches!(step, Step::Begin { .. } | Step::Apply { .. }) {
            continue;
        }
        match take(&step) {
            Ok(()) => carried.changed = true,
            Err(error) => {
                tracing::error!(%error, "a step failed; what would start after it is not done");
                carried.failed = Some(error);
                // A stop may have been recorded before: its machine is looked at all the same.
                if !matches!(step, Step::Stop { .. }) {
                    continue;
                }
            }
        }
        if let Step::Begin { partition, .. } | Step::Extend { partition, .. } | Step::Stop { partition, .. } = step {
            carried.touched.insert(partition);
        }
    }
    carried
}

/// Records one step. `uuid` is of the machine, should one begin.
pub fn take(store: &Store, step: &Step, boot_id: &str, now: &Now, uuid: Uuid) -> Result<(), StoreError> {
    match step {
        Step::Apply { partition, allocation } => {
            tracing::info!(%partition, generation = allocation.generation, resources = %allocation.resources, "applied");
            store.apply(*partition, allocation)
        }
        Step::Begin { partition, generation, run } => {
            tracing::info!(%partition, generation, lease = %run.lease, "begins");
            store.begin(*partition, *generation, run, uuid)
        }
        Step::Extend { partition, term, paid } => match store.live_run(*partition)? {
            Some(run) => store.extend(&run, *term, *paid),
            None => Ok(()),
        },
        Step::Stop { partition, reason } => {
            tracing::info!(%partition, ?reason, "stops");
            match store.live_run(*partition)? {
                Some(run) => store.stopping(&run, *reason, None, meter::last_seen_seconds(&run, boot_id, now.mono_us)),
                None => Ok(()),
            }
        }
        Step::SayGone { partition, generation, why } => {
            if let Some((_, words)) = why {
                tracing::warn!(%partition, generation, why = words, "never runs here");
            }
            let (reason, words) = why.as_ref().map(|(reason, words)| (*reason, words.as_str())).unzip();
            store.never_ran(*partition, *generation, reason, words)
        }
        Step::Acknowledge { partition, generation } => {
            store.acknowledge_gone(*partition, *generation)?;
            store.prune()
        }
        // Said by whoever carries the plan out.
        Step::Refuse { .. } => Ok(()),
    }
}

/// Generations whose machines were stopped though that could not be recorded yet.
pub type Over = BTreeSet<(PartitionId, u64)>;

#[cfg(test)]
mod tests;
