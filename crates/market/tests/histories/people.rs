//! Who takes part: clients that rent, look and give back, and hosts that say what they see. Each
//! writes down when it asked and when it was answered; a call that a dead market did not answer is
//! repeated until one does.

use crate::fake_host::FakeHost;
use crate::spec::{Event, Op, Ret, Standing, What};
use crate::world::{rent_request, unique};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use sublet_model::ids::PartitionId;
use sublet_model::lease::EndReason;
use sublet_model::partition::Phase;
use sublet_wire::api::{Granted, LeaseView};
use sublet_wire::client::{Client, ClientError};
use sublet_wire::problem::Kind;
use tokio_util::sync::CancellationToken;

const PAUSE: Duration = Duration::from_millis(20);
/// A machine takes so long to stop and to be wiped.
const STOPS_FOR: Duration = Duration::from_millis(40);
/// What was given back has to be free by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// What everybody saw, of each partition.
#[derive(Default)]
pub struct Log {
    order: AtomicU64,
    events: Mutex<BTreeMap<PartitionId, Vec<Event>>>,
}

impl Log {
    fn now(&self) -> u64 {
        self.order.fetch_add(1, Ordering::SeqCst)
    }

    fn write(&self, partition: PartitionId, by: u32, began: u64, op: Op, ret: Ret) {
        let came = self.now();
        let mut events = self.events.lock().unwrap();
        let of = events.entry(partition).or_default();
        of.push(Event { at: began, by, what: What::Began(op) });
        of.push(Event { at: came, by, what: What::Came(ret) });
    }

    /// Everything, by partition.
    pub fn histories(&self) -> BTreeMap<PartitionId, Vec<Event>> {
        self.events.lock().unwrap().clone()
    }
}

/// Asks until there is an answer that is not the market's death.
async fn answered<T, F: Future<Output = Result<T, ClientError>>>(mut ask: impl FnMut() -> F) -> Result<T, ClientError> {
    loop {
        match ask().await {
            Err(error) if error.is_transient() || matches!(error, ClientError::Unreadable { .. }) => {
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// A client: rents whatever fits, looks, gives it back, until `closing`. Answers how many leases it had.
pub async fn rent(client: Client, me: u32, log: Arc<Log>, closing: CancellationToken) -> u64 {
    let mut leases = 0;
    while !closing.is_cancelled() {
        let (began, key, asked) = (log.now(), unique(), rent_request(None));
        let granted = answered(|| client.post_with_key::<_, Granted>("/v1/leases", &asked, &key)).await;
        let lease = match granted {
            Ok(granted) => granted.lease,
            Err(error) if error.kind() == Some(Kind::NoMatch) => {
                tokio::time::sleep(PAUSE * 5).await;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        leases += 1;
        log.write(lease.partition, me, began, Op::Rent(lease.id), Ret::Granted(lease.generation));
        look(&client, me, &log, &lease).await;
        let (began, key, path) = (log.now(), unique(), format!("/v1/leases/{}/release", lease.id));
        let released = answered(|| client.post_with_key::<_, serde_json::Value>(&path, &(), &key)).await;
        // One that is not there holds nothing: the judge shall see it.
        assert!(released.as_ref().err().is_none_or(|e| e.kind() == Some(Kind::NotFound)), "{released:?}");
        if released.is_ok() {
            log.write(lease.partition, me, began, Op::Release(lease.id), Ret::Released);
        }
        until_over(&client, me, &log, &lease).await;
    }
    leases
}

/// Looks once whether a lease holds its partition.
async fn look(client: &Client, me: u32, log: &Log, lease: &LeaseView) {
    let (began, path) = (log.now(), format!("/v1/leases/{}", lease.id));
    let seen = seen(client, &path).await;
    log.write(lease.partition, me, began, Op::Look(lease.id), Ret::Seen(seen));
}

/// Looks until the lease ends no more. Only the last look is written down: those before say
/// the same, and a judge has to try them in every order.
async fn until_over(client: &Client, me: u32, log: &Log, lease: &LeaseView) {
    let path = format!("/v1/leases/{}", lease.id);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "{} was given back, and goes on", lease.id);
        let began = log.now();
        let seen = seen(client, &path).await;
        if seen != Standing::Ends {
            log.write(lease.partition, me, began, Op::Look(lease.id), Ret::Seen(seen));
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn seen(client: &Client, path: &str) -> Standing {
    match answered(|| client.get::<LeaseView>(path)).await {
        Ok(seen) if seen.state.is_wanted() => Standing::Runs,
        Ok(seen) if seen.state.holds_slot() => Standing::Ends,
        // A lease that was granted and is not there any more holds nothing: the judge shall see it.
        _ => Standing::Over,
    }
}

/// A host: does at once what the plan wants, and says so, until `stop`.
pub async fn lend(mut host: FakeHost, me: u32, log: Arc<Log>, stop: CancellationToken) {
    // The newest generation of each partition that was said to be gone; and those of them of which
    // it is not known whether the market heard it, since when.
    let mut told: BTreeMap<PartitionId, u64> = BTreeMap::new();
    let mut said: Vec<(PartitionId, u64, u64)> = Vec::new();
    let mut stopping: BTreeMap<PartitionId, (u64, Instant)> = BTreeMap::new();
    while !stop.is_cancelled() {
        if slowly(&mut host, &mut stopping) {
            // It has more to say soon: so its word is not held.
            host.plan_version = 0;
            tokio::time::sleep(PAUSE).await;
        }
        for (partition, seen) in &host.observed {
            let generation = seen.applied.generation;
            if matches!(seen.phase, Phase::Gone { .. }) && told.get(partition) != Some(&generation) {
                told.insert(*partition, generation);
                said.push((*partition, generation, log.now()));
            }
        }
        let synced = tokio::select! {
            synced = host.sync() => synced,
            () = stop.cancelled() => return,
        };
        match synced {
            Ok(_) => {
                for (partition, generation, began) in said.drain(..) {
                    // One host says several things at once: to the judge each has a mouth of its own.
                    let at = host.observed.keys().position(|p| *p == partition).unwrap_or(0);
                    let mouth = 1_000_000 + me * 1000 + at as u32;
                    log.write(partition, mouth, began, Op::Gone(generation), Ret::Heard);
                }
            }
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                let _ = host.open().await;
            }
        }
    }
}

/// What the plan wants gone is said to stop at first, and to be gone a while later: in between it is
/// nobody's. Whether something still stops.
fn slowly(host: &mut FakeHost, stopping: &mut BTreeMap<PartitionId, (u64, Instant)>) -> bool {
    let mut some = false;
    for (partition, seen) in &mut host.observed {
        if !matches!(seen.phase, Phase::Gone { .. } | Phase::Stopping { .. }) {
            continue;
        }
        let generation = seen.applied.generation;
        let known = stopping.entry(*partition).or_insert((generation, Instant::now()));
        if known.0 != generation {
            *known = (generation, Instant::now());
        }
        let still = known.1.elapsed() < STOPS_FOR;
        some |= still;
        seen.phase = if still { Phase::Stopping { reason: EndReason::Released } } else { Phase::Gone { reason: None } };
    }
    some
}
