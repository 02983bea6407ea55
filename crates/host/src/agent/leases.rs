//! What client sessions tell the agent about a lease.

use super::shared::Shared;
use crate::meter::Now;
use crate::partition::Ending;
use crate::ssh::LeaseKey;
use crate::store::{Run, Stage, Store, StoreError};
use crate::vmm::Vmm;
use std::sync::Arc;
use sublet_model::ids::PartitionId;
use sublet_model::lease::EndReason;

/// The ready life of a partition, if it is still that generation.
fn ready(store: &Store, partition: PartitionId, generation: u64) -> Result<Option<Run>, StoreError> {
    let run = store.live_run(partition)?;
    Ok(run.filter(|run| run.generation == generation && run.stage == Stage::Ready))
}

impl<V: Vmm> Shared<V> {
    /// A client has authenticated, perhaps before its guest is ready.
    pub async fn client_came(self: &Arc<Self>, partition: PartitionId, generation: u64) {
        super::worker::slot(self, partition).came(generation);
        let came = self.db(move |store| {
            let run = ready(store, partition, generation)?.filter(|run| !run.contacted);
            run.map_or(Ok(false), |run| store.contacted(&run).map(|()| true))
        });
        self.settle(partition, came.await);
        super::worker::slot(self, partition).wake();
    }

    /// The last connection of a client has ended.
    pub fn client_left(self: &Arc<Self>, partition: PartitionId, generation: u64) {
        let slot = super::worker::slot(self, partition);
        slot.left(generation);
        slot.wake();
    }

    /// The first job of a life runs.
    pub async fn job_started(self: &Arc<Self>, partition: PartitionId, generation: u64, job: String) {
        let started = self.db(move |store| {
            let run = ready(store, partition, generation)?.filter(|run| run.job.is_none());
            run.map_or(Ok(()), |run| store.first_job(&run, &job)).map(|()| false)
        });
        self.settle(partition, started.await);
    }

    /// The first job of a one-shot lease has ended: so does the lease.
    pub async fn first_job_ended(self: &Arc<Self>, partition: PartitionId, generation: u64) {
        let (boot_id, now) = (self.boot_id.clone(), Now::read());
        let ended = self.db(move |store| {
            let run = ready(store, partition, generation)?.filter(|run| run.wanted.one_shot);
            let Some(run) = run else { return Ok(false) };
            let metered = crate::meter::seconds(&run, &boot_id, now.mono_us);
            let ending = Ending { reason: Some(EndReason::Released), detail: Some("its job ended".into()), metered };
            store.stopping(&run, ending.reason, ending.detail.as_deref(), ending.metered).map(|()| true)
        });
        self.settle(partition, ended.await);
    }

    /// Removes the detached jobs of leases that are over; what can't be removed is tried again with
    /// the next.
    pub(super) async fn keep_jobs_of_live_leases(self: &Arc<Self>) {
        let jobs = Arc::clone(&self.jobs);
        let removed = self.db(move |store| {
            let live = || anyhow::Ok(store.live_runs()?.iter().map(LeaseKey::of).collect());
            Ok(jobs.keep_only(live))
        });
        let removed = removed.await.map_err(anyhow::Error::from).and_then(|removed| removed);
        if let Err(error) = removed {
            tracing::error!(%error, "the jobs of ended leases could not be removed");
        }
    }

    pub(super) fn settle(self: &Arc<Self>, partition: PartitionId, outcome: Result<bool, StoreError>) {
        match outcome {
            Ok(true) => {
                super::worker::slot(self, partition).wake();
                self.tell();
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%partition, %error, "what a client did could not be recorded"),
        }
    }
}
