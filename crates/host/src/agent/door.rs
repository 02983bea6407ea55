//! What the SSH server needs of the agent: who may enter, the way to the guest, and an ear for
//! what clients do.

use super::shared::Shared;
use crate::clock::wall_clock;
use crate::guest_link::GuestLink;
use crate::jobs::LeaseJobs;
use crate::ssh::{Admission, Door, LeaseKey, SessionEvent};
use crate::store::{Run, Stage};
use crate::terms::check_image;
use crate::vmm::Vmm;
use std::sync::Arc;
use std::time::Duration;
use sublet_model::ids::{LeaseId, PartitionId};
use sublet_wire::jobs::Figures;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// A client may be here before the plan is: it is kept waiting so long.
const WAIT_FOR_PLAN: Duration = Duration::from_secs(10);
/// Events that wait to be recorded; beyond that they are dropped, and the agent learns otherwise.
const MOST_EVENTS: usize = 4096;

/// The agent's side of the SSH server.
pub struct AgentDoor<V> {
    shared: Arc<Shared<V>>,
    events: mpsc::Sender<(LeaseKey, SessionEvent)>,
}

impl<V: Vmm> AgentDoor<V> {
    /// A door, and the task that records what clients do.
    pub fn new(shared: &Arc<Shared<V>>) -> (Self, impl Future<Output = ()> + Send + use<V>) {
        let (events, heard) = mpsc::channel(MOST_EVENTS);
        (Self { shared: Arc::clone(shared), events }, record(Arc::clone(shared), heard))
    }

    /// The life that serves a lease and is not being ended.
    async fn life(&self, lease: LeaseId) -> Option<Run> {
        let runs = self.shared.db(|store| store.live_runs()).await.ok()?;
        runs.into_iter().find(|run| run.lease() == lease && run.stage < Stage::Stopping)
    }

    async fn life_soon(&self, lease: LeaseId) -> Option<Run> {
        let give_up = Instant::now() + WAIT_FOR_PLAN;
        let mut news = self.shared.news.subscribe();
        loop {
            if let Some(run) = self.life(lease).await {
                return Some(run);
            }
            timeout_at(give_up, news.changed()).await.ok()?.ok()?;
        }
    }
}

impl<V: Vmm> Door for AgentDoor<V> {
    async fn lease(&self, user: &str) -> Option<Admission> {
        let run = self.life_soon(user.parse().ok()?).await?;
        let image = check_image(&run.wanted).ok()?;
        let slot = super::worker::slot(&self.shared, run.partition);
        Some(Admission {
            key: LeaseKey { lease: user.to_owned(), generation: run.generation },
            authorities: self.shared.market_keys.borrow().authorities(wall_clock()),
            login_user: image.login_user,
            one_shot: run.wanted.one_shot && run.job.is_none(),
            ended: slot.end_of(run.generation),
        })
    }

    async fn link(&self, key: &LeaseKey) -> Result<GuestLink, String> {
        let gone = || format!("{} has ended", key.lease);
        let lease: LeaseId = key.lease.parse().map_err(|_| gone())?;
        let run = self.life(lease).await.filter(|run| run.generation == key.generation).ok_or_else(gone)?;
        let slot = super::worker::slot(&self.shared, run.partition);
        let (mut guest, mut ended) = (slot.guest.subscribe(), slot.end_of(run.generation));
        tokio::select! {
            linked = guest.wait_for(|l| l.as_ref().is_some_and(|l| l.generation == key.generation)) => {
                let linked = linked.ok().and_then(|linked| linked.as_ref().map(|l| l.link.clone()));
                linked.ok_or_else(gone)
            }
            end = ended.wait_for(Option::is_some) => {
                Err(end.ok().and_then(|words| words.clone()).unwrap_or_else(gone))
            }
        }
    }

    async fn jobs(&self, key: &LeaseKey) -> Result<Arc<LeaseJobs>, String> {
        let gone = || format!("{} has ended", key.lease);
        let lease: LeaseId = key.lease.parse().map_err(|_| gone())?;
        self.life(lease).await.filter(|run| run.generation == key.generation).ok_or_else(gone)?;
        let (jobs, key) = (Arc::clone(&self.shared.jobs), key.clone());
        let found = tokio::task::spawn_blocking(move || jobs.of(&key)).await;
        let found = found.map_err(|error| error.to_string())?;
        found.map_err(|error| format!("the jobs of this lease can't be read on the host: {error}"))
    }

    async fn figures(&self, key: &LeaseKey) -> Result<Figures, String> {
        let gone = || format!("{} has ended", key.lease);
        let lease: LeaseId = key.lease.parse().map_err(|_| gone())?;
        let run = self.life(lease).await.filter(|run| run.generation == key.generation).ok_or_else(gone)?;
        let machine = self.shared.hands().machine(&run).await.map_err(|error| error.to_string())?;
        self.shared.vmm.figures(&machine).await.map_err(|error| error.to_string())
    }

    fn event(&self, key: &LeaseKey, event: SessionEvent) {
        match &event {
            SessionEvent::Opened { only: true, .. } => self.shared.serves_only_job(key, true),
            SessionEvent::Left { .. } => self.shared.serves_only_job(key, false),
            _ => {}
        }
        let matters = match &event {
            SessionEvent::Authenticated => true,
            SessionEvent::Left { .. } => false,
            SessionEvent::Opened { only, .. } | SessionEvent::Exited { only, .. } => *only,
            SessionEvent::Closed { remaining } => *remaining == 0,
        };
        if matters && self.events.try_send((key.clone(), event)).is_err() {
            tracing::warn!(lease = key.lease, "too much happens at the door; an event was dropped");
        }
    }
}

/// Records events in their order.
async fn record<V: Vmm>(shared: Arc<Shared<V>>, mut heard: mpsc::Receiver<(LeaseKey, SessionEvent)>) {
    while let Some((key, event)) = heard.recv().await {
        let Ok(lease) = key.lease.parse::<LeaseId>() else { continue };
        let Some(partition) = partition_of(&shared, lease).await else { continue };
        match event {
            SessionEvent::Authenticated => shared.client_came(partition, key.generation).await,
            SessionEvent::Opened { job, .. } => shared.job_started(partition, key.generation, job).await,
            SessionEvent::Exited { .. } => shared.first_job_ended(partition, key.generation).await,
            SessionEvent::Closed { .. } => shared.client_left(partition, key.generation),
            // Not let through: that the connection closes is what counts.
            SessionEvent::Left { .. } => {}
        }
    }
}

async fn partition_of<V: Vmm>(shared: &Arc<Shared<V>>, lease: LeaseId) -> Option<PartitionId> {
    let runs = shared.db(|store| store.live_runs()).await.ok()?;
    runs.into_iter().find(|run| run.lease() == lease).map(|run| run.partition)
}
