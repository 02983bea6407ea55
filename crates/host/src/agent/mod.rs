//! The host agent: keeps this computer as the market wants it and the owner allows it.
//!
//! ```text
//!            sync_loop <----- long poll -----> market
//!                | plan            ^ everything seen
//!                v                 |
//!   ticker:   steps (reconcile) -> store <- worker, one a partition -> Vmm, guest link
//!   owner's words, meters          ^
//!                                  +------ leases <- SSH sessions of clients
//!                own, one a partition of the owner's own -> Vmm, guest link: no market in it
//! ```
//!
//! Everything that must survive is in the store before it happens; what is in memory may be lost
//! at any instant. Nothing polls but the look for the owner's words.

mod door;
mod ending;
mod guest;
pub mod hands;
mod keys;
mod leases;
mod own;
mod run;
mod shared;
mod steps;
mod sync_loop;
mod templates;
mod ticker;
mod users;
mod worker;

pub use own::{EVERY_START, OWN_SOCKET, own_user};
pub use run::{DEFAULT_BOOT_DEADLINE, FIRST_UID, RunOptions, measure, run};
pub use shared::{Config, Linked, Shared, Slot};

use crate::images::Cache;
use crate::jobs::Jobs;
use crate::market_keys::MarketKeys;
use crate::path::Entrances;
use crate::ssh::SshServer;
use crate::store::{AgentLock, Identity, Stage, Store};
use crate::vmm::Vmm;
use anyhow::Context;
use door::AgentDoor;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sublet_wire::client::Client;
use templates::Templates;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Partitions that were running are looked at for so long before the market is spoken to.
const ADOPT_WITHIN: Duration = Duration::from_secs(30);
/// Partitions are given so long to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// An agent at work. Dropped, it stops; partitions go on under their guards.
#[derive(Debug)]
pub struct Agent<V> {
    shared: Arc<Shared<V>>,
    tasks: JoinSet<()>,
    stop: DropGuard,
    _lock: AgentLock,
}

impl<V: Vmm> Agent<V> {
    /// Adopts what runs, then follows the market. `entrances` are where clients come in.
    pub async fn start(
        store: Store,
        identity: Identity,
        config: Config,
        vmm: V,
        cache_limit_bytes: u64,
        entrances: Entrances,
    ) -> anyhow::Result<Self> {
        let lock = store.lock_for_agent()?;
        let client = Client::new(&identity.market, None, identity.fingerprint)?;
        let cache = Cache::open(&store.state().join("cache"), cache_limit_bytes)?;
        let jobs = Arc::new(Jobs::new(store.state().join("jobs")));
        let shared = Arc::new(Shared {
            keys: store.keys()?,
            market_keys: watch::Sender::new(MarketKeys {
                chain: store.market_keys(identity.market_key)?,
                joined_with: identity.ssh_ca.clone(),
            }),
            not_followed: Mutex::default(),
            templates: Templates::open(store.state(), config.template_limit_bytes)?,
            store,
            identity,
            config,
            vmm,
            cache,
            jobs,
            boot_id: crate::guard::record::boot_id().context("failed to read the boot id")?,
            news: watch::Sender::new(0),
            heard: Mutex::default(),
            reach: watch::Sender::new(entrances.reach()),
            relay: watch::Sender::new(None),
            plan: tokio::sync::Mutex::new(None),
            slots: Mutex::new(BTreeMap::new()),
            own: own::OwnSlots::default(),
            served: Mutex::default(),
            refusals: Mutex::new(BTreeMap::new()),
        });
        let mut tasks = JoinSet::new();
        let (agent_door, record) = AgentDoor::new(&shared);
        let server = SshServer::new(&shared.keys.ssh_private, Arc::new(agent_door))?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (relay, market, reach) = (shared.relay.subscribe(), shared.identity.market.clone(), shared.reach.clone());
        tasks.spawn(async move { entrances.serve(server, relay, market, reach, stopped).await });
        tasks.spawn(tell_of_reach(Arc::clone(&shared)));
        tasks.spawn(record);
        own::open_door(&shared, &mut tasks)?;
        own::follow(&shared).await?;
        adopt(&shared).await?;
        templates::clean_up(&shared).await;
        shared.keep_jobs_of_live_leases().await;
        // What ran on while no agent was there counts, whatever is asked for next.
        ticker::keep_once(&shared).await;
        // The owner's word holds before the market was heard.
        shared.follow_again().await?;
        let ahead = Arc::clone(&shared);
        tasks.spawn(async move { ahead.cache.read_ahead().await });
        tasks.spawn(ticker::meters(Arc::clone(&shared)));
        tasks.spawn(ticker::owner(Arc::clone(&shared)));
        tasks.spawn(templates::run(Arc::clone(&shared)));
        tasks.spawn(sync_loop::run(Arc::clone(&shared), client));
        Ok(Self { shared, tasks, stop: stop.drop_guard(), _lock: lock })
    }

    /// What its tasks share: for tests and for those who look.
    pub fn shared(&self) -> &Arc<Shared<V>> {
        &self.shared
    }

    /// Returns when a task of it ended, which none should.
    pub async fn failed(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if ended.is_err() {
                return;
            }
        }
    }

    /// Ends every partition, as when the computer is about to go down, and waits until the market
    /// could hear it.
    pub async fn stop_partitions(&self) -> anyhow::Result<()> {
        self.shared.own.halt();
        self.shared.stop_all().await?;
        let deadline = tokio::time::Instant::now() + STOP_WITHIN;
        let any_lives =
            |store: &Store| Ok(!store.live_runs()?.is_empty() || store.own()?.iter().any(|own| own.start.is_some()));
        while self.shared.db(any_lives).await? {
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "some partitions did not stop within a minute");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The last words to the market: receipts and what is gone. It may not be there to hear them.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while !self.shared.db(|store| store.unacknowledged(1)).await?.is_empty()
            && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends the agent's tasks and waits for them. Partitions go on.
    pub async fn shut_down(mut self) {
        self.shared.end_workers();
        drop(self.stop);
        self.tasks.shutdown().await;
        templates::clean_up(&self.shared).await;
    }
}

/// Has the market hear when clients are to come by another way.
async fn tell_of_reach<V: Vmm>(shared: Arc<Shared<V>>) {
    let mut reach = shared.reach.subscribe();
    while reach.changed().await.is_ok() {
        tracing::info!(reach = %*reach.borrow_and_update(), "clients reach this host so");
        shared.tell();
    }
}

/// Has each recorded life looked at once, so that what ended meanwhile is said first.
async fn adopt<V: Vmm>(shared: &Arc<Shared<V>>) -> anyhow::Result<()> {
    for run in shared.db(Store::live_runs).await? {
        tracing::info!(partition = %run.partition, lease = %run.lease(), stage = ?run.stage, "found again");
        let slot = worker::slot(shared, run.partition);
        let mut looked = slot.looked.subscribe();
        let waits_for_look = matches!(run.stage, Stage::Booting | Stage::Ready);
        if waits_for_look && tokio::time::timeout(ADOPT_WITHIN, looked.wait_for(|looked| *looked)).await.is_err() {
            tracing::error!(partition = %run.partition, "it could not be looked at within 30 seconds; going on");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
