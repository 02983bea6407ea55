//! Measures the engine alone, without HTTP: closed-loop callers each rent, say as the host that it
//! is gone after the release, and begin again.
//!
//! ```text
//! cargo run --release -p sublet-market --example pairs -- DIR PARTITIONS CALLERS SECONDS
//! ```
//!
//! `DIR` is seeded once and used again. Time stands still for the market, so that hosts that were
//! heard once stay fresh; everything else is as it is served: one writer, SQLite with
//! `synchronous=FULL`, idempotency keys, signed terms.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

mod counted;
mod seed;

use counted::{Counted, Counts};
use seed::{CLIENT, DIAL, SSH_CA, SSH_KEY, START, host_number, id, inventory, seed};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sublet_market::db::Sqlite;
use sublet_market::engine::clock::Clock;
use sublet_market::engine::command::{Actor, Command, Idempotency, Outcome, Rent, Reply};
use sublet_market::engine::rows::Lease;
use sublet_market::engine::{Handle, Keys, Running};
use sublet_model::account::Role;
use sublet_model::identity::{SecretKey, Sha256Digest};
use sublet_model::ids::{HostId, LeaseId};
use sublet_model::partition::{Allocation, Phase};
use sublet_model::requirements::Requirements;
use sublet_model::units::{MiB, Millicores, Seconds, Timestamp};
use sublet_wire::sync::{Division, Observed, SyncRequest};

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        START
    }
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, partitions, callers, seconds] = args.as_slice() else {
        anyhow::bail!("give DIR PARTITIONS CALLERS SECONDS");
    };
    let (callers, span) = (callers.parse()?, Duration::from_secs(seconds.parse()?));
    let hosts = seed(Path::new(dir), partitions.parse()?, 64)?;
    let counts = Arc::new(Counts::default());
    let db = Counted { db: Sqlite::open(Path::new(dir))?, counts: Arc::clone(&counts) };
    let keys = Keys::first(SecretKey::from_seed(&[9; 32]), vec![SSH_CA.into()]);
    let began = Instant::now();
    let running = Running::start(db, keys, Arc::new(Still))?;
    println!("loaded in {:.2} s", began.elapsed().as_secs_f64());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let began = Instant::now();
    runtime.block_on(hear_all(&running.handle, hosts));
    let each = began.elapsed().as_secs_f64() / hosts as f64;
    println!("{hosts} hosts heard, {:.1} us a sync, {:.0}/s", each * 1e6, 1.0 / each);
    counts.reset();
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let pairs = runtime.block_on(pairs(&running.handle, callers, span));
    let (cpu, wall) = (cpu_seconds() - cpu, began.elapsed().as_secs_f64());
    let done: usize = pairs.iter().map(Vec::len).sum();
    let mut waits: Vec<f64> = pairs.into_iter().flatten().collect();
    waits.sort_by(f64::total_cmp);
    let at = |part: f64| waits.get((waits.len() as f64 * part) as usize).copied().unwrap_or(0.0) * 1e3;
    println!(
        "c={callers}: {:.0} pairs/s, {:.0} us CPU a pair; grant p50 {:.2} ms, p99 {:.2} ms",
        done as f64 / wall,
        cpu / done as f64 * 1e6,
        at(0.5),
        at(0.99)
    );
    println!("{}", counts.said(wall));
    Ok(())
}

/// Seconds of processor time that this process has used.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn sync(host: HostId, observed: Vec<Observed>) -> Command {
    let request = SyncRequest {
        wall_clock: START,
        inventory: inventory(),
        dial: DIAL.into(),
        // Older than what is known: it is not looked into.
        division: Division::default(),
        observed,
        receipts: Vec::new(),
        plan_version: 0,
        lives: Vec::new(),
        catching_up: false,
        keys: None,
    };
    Command::Sync { host, session: 1, request: Box::new(request.into()) }
}

async fn hear_all(handle: &Handle, hosts: u64) {
    let hear = |from: u64| {
        let handle = handle.clone();
        tokio::spawn(async move {
            for n in (from..hosts).step_by(64) {
                handle.call(sync(id(host_number(n)), Vec::new()), None).await.expect("a known host");
            }
        })
    };
    let all: Vec<_> = (0..64).map(hear).collect();
    for one in all {
        one.await.expect("it ran to its end");
    }
}

/// How long each grant took, for each caller.
async fn pairs(handle: &Handle, callers: usize, span: Duration) -> Vec<Vec<f64>> {
    let until = Instant::now() + span;
    let run = |n: usize| {
        let handle = handle.clone();
        tokio::spawn(async move {
            let actor =
                Actor { member: id(CLIENT + n as u128), account: id(CLIENT + n as u128), roles: vec![Role::Client] };
            let mut dice = seed::Dice::new(n as u64 + 7);
            let mut waits = Vec::new();
            while Instant::now() < until {
                waits.push(pair(&handle, &actor, &mut dice).await);
            }
            waits
        })
    };
    let all: Vec<_> = (0..callers).map(run).collect();
    let mut waits = Vec::new();
    for one in all {
        waits.push(one.await.expect("it ran to its end"));
    }
    waits
}

async fn pair(handle: &Handle, actor: &Actor, dice: &mut seed::Dice) -> f64 {
    let began = Instant::now();
    let lease = grant(handle, actor, dice).await;
    let waited = began.elapsed().as_secs_f64();
    handle.call(Command::Release { actor: actor.clone(), lease: lease.id }, None).await.expect("it is ours");
    handle.call(sync(lease.host, vec![gone(&lease)]), None).await.expect("a known host");
    waited
}

async fn grant(handle: &Handle, actor: &Actor, dice: &mut seed::Dice) -> Arc<Lease> {
    let id: LeaseId = sublet_wire::new_id();
    let cpu = 1 + i64::try_from(dice.below(6)).unwrap_or(0);
    let requirements = Requirements {
        cpu: Some(Millicores(cpu * 1000).into()),
        memory: Some(MiB(cpu * 1024).into()),
        os: Some("debian".into()),
        arch: Some("x86_64".into()),
        labels: [("region".to_string(), "eu".into())].into(),
        ..Requirements::default()
    };
    let rent = Rent {
        actor: actor.clone(),
        ids: vec![id],
        name: None,
        requirements,
        ssh_public_key: SSH_KEY.into(),
        one_shot: false,
        release_after_disconnect: Seconds(120),
        wait: None,
        outage_allowance: Seconds::ZERO,
    };
    let command = Command::Rent(Box::new(rent));
    let once =
        Idempotency { member: actor.member, key: id.to_string(), body: Sha256Digest::of(id.to_string().as_bytes()) };
    match handle.call(command, Some(once)).await {
        Ok(Reply::Outcome(Outcome::Granted { lease, .. })) => {
            handle.read(|state| state.lease(lease).cloned()).expect("what was granted is seen")
        }
        other => panic!("{other:?}"),
    }
}

fn gone(lease: &Lease) -> Observed {
    let terms = lease.terms();
    Observed {
        partition: lease.partition,
        applied: Allocation {
            generation: lease.generation,
            revision: 0,
            resources: terms.resources,
            vcpus: terms.vcpus,
        },
        lease: Some(lease.id),
        phase: Phase::Gone { reason: None },
        seconds: Seconds(0),
        first_contact: false,
        started: None,
        detail: None,
    }
}
