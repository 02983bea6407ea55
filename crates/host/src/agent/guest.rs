//! The link to a partition's guest: made, kept, made again. A guest that does not answer for a
//! while is not ended for it: a fork bomb is its client's own use.

use super::ending;
use super::shared::{Linked, Shared, Slot};
use crate::guest_link::{GuestLink, Identity, LinkError};
use crate::ssh::LeaseKey;
use crate::store::Run;
use crate::vmm::{Machine, Vmm};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sublet_model::partition::Allocation;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A guest in use is asked to answer for so long, then asked anew.
pub const TRY_FOR: Duration = Duration::from_secs(30);
/// How often a one-shot lease's first job is asked after, should its end not be heard otherwise.
const ASK_AFTER_JOB_EVERY: Duration = Duration::from_millis(500);

/// Who a guest is.
#[derive(Debug, Clone)]
pub struct Who {
    /// The lease, or what stands for one.
    pub lease: String,
    /// The generation of its machine.
    pub generation: u64,
    /// Its name.
    pub hostname: String,
    /// What it is entitled to.
    pub has: Allocation,
}

impl Who {
    /// That of a life.
    pub fn of(run: &Run, has: Allocation) -> Self {
        let (lease, hostname) = (run.lease().to_string(), run.wanted.hostname.clone());
        Self { lease, generation: run.generation, hostname, has }
    }
}

/// What the guest is told.
pub fn identity(who: &Who) -> Identity {
    let has = &who.has;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Identity {
        lease: who.lease.clone(),
        generation: who.generation,
        hostname: who.hostname.clone(),
        wall_clock_micros: since_1970.as_micros() as u64,
        entropy: sublet_wire::random_bytes::<64>().to_vec(),
        cpu_millicores: u32::try_from(has.resources.cpu.0).unwrap_or(u32::MAX),
        vcpus: has.vcpus.into(),
        memory_mib: has.resources.memory.0.unsigned_abs(),
        disk_gib: has.resources.disk.0.unsigned_abs(),
    }
}

/// Connects to a guest that boots and tells it who it is. Until `deadline` a link that breaks is
/// made anew: firmware and early kernels may say what is no frame.
pub async fn meet(who: Who, socket: PathBuf, deadline: Instant) -> Result<GuestLink, LinkError> {
    loop {
        let met = async {
            let link = GuestLink::connect(&socket, deadline).await?;
            tokio::time::timeout_at(deadline, link.identify(&identity(&who)))
                .await
                .map_err(|_| LinkError::Silent(TRY_FOR))??;
            Ok(link)
        };
        match met.await {
            Err(LinkError::Gone | LinkError::Broken(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Keeps the link of a ready life up until dropped.
#[derive(Debug)]
pub struct Keeper(AbortHandle);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    /// Starts, with a link if there is one already.
    pub fn start<V: Vmm>(
        shared: &Arc<Shared<V>>,
        slot: &Arc<Slot>,
        machine: &Machine,
        kept: Kept,
        link: Option<GuestLink>,
    ) -> Self {
        if let Some(link) = &link {
            slot.guest.send_replace(Some(kept.linked(link.clone())));
        }
        let (shared, slot, socket) = (Arc::clone(shared), Arc::clone(slot), machine.guest_socket());
        Self(tokio::spawn(keep(shared, slot, socket, kept, link)).abort_handle())
    }
}

/// What a keeper knows of its guest.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Whose it is.
    pub run: Run,
    /// What it is entitled to.
    pub has: Allocation,
    /// As whom a client enters.
    pub login_user: String,
}

impl Kept {
    fn linked(&self, link: GuestLink) -> Linked {
        Linked { generation: self.run.generation, link }
    }
}

async fn keep<V: Vmm>(
    shared: Arc<Shared<V>>,
    slot: Arc<Slot>,
    socket: PathBuf,
    kept: Kept,
    mut first: Option<GuestLink>,
) {
    let partition = kept.run.partition;
    loop {
        let link = match first.take() {
            Some(link) => link,
            // Told again who it is: the same words change nothing, and another guest refuses them.
            None => match meet(Who::of(&kept.run, kept.has), socket.clone(), Instant::now() + TRY_FOR).await {
                Ok(link) => link,
                Err(error) => {
                    tracing::warn!(%partition, %error, "the guest does not answer; it is asked again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            },
        };
        slot.guest.send_replace(Some(kept.linked(link.clone())));
        let error = tokio::select! {
            error = link.closed() => error,
            () = ask_after_job(&shared, &kept.run, &link) => return,
            () = drive_jobs(&shared, &kept, &link) => return,
            () = ending::warn(&shared, &kept, &link) => return,
            () = ending::idle(&shared, &slot, &kept) => return,
        };
        slot.guest.send_replace(None);
        tracing::debug!(%partition, %error, "the link to the guest ended; it is made again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Drives the detached jobs of a lease for as long as its guest answers. Never returns.
async fn drive_jobs<V: Vmm>(shared: &Arc<Shared<V>>, kept: &Kept, link: &GuestLink) {
    let (jobs, key) = (Arc::clone(&shared.jobs), LeaseKey::of(&kept.run));
    let found = tokio::task::spawn_blocking(move || jobs.of(&key)).await;
    match found {
        Ok(Ok(jobs)) => crate::jobs::serve(jobs, kept.login_user.clone(), link.clone()).await,
        Ok(Err(error)) => tracing::error!(partition = %kept.run.partition, %error, "its jobs can't be read"),
        Err(error) => tracing::error!(partition = %kept.run.partition, %error, "its jobs can't be read"),
    }
    std::future::pending().await
}

/// Ends a one-shot lease whose job ended while no session served it: its client went, the agent was
/// started anew, or the link broke. Never returns.
async fn ask_after_job<V: Vmm>(shared: &Arc<Shared<V>>, run: &Run, link: &GuestLink) {
    let partition = run.partition;
    loop {
        let mut now = None;
        if run.wanted.one_shot && !shared.is_only_job_served(run) {
            now = shared.db(move |store| store.live_run(partition)).await.ok().flatten();
        }
        let job = now.filter(|now| now.generation == run.generation).and_then(|now| now.job);
        if let Some(job) = job
            && let Ok(jobs) = link.jobs().await
            && !shared.is_only_job_served(run)
        {
            // What the guest does not know never started: the link broke on the way.
            let runs = jobs.iter().any(|state| state.job == job && state.ended.is_none());
            if !runs {
                shared.first_job_ended(partition, run.generation).await;
            }
        }
        tokio::time::sleep(ASK_AFTER_JOB_EVERY).await;
    }
}
