//! Our own market as a process of its own, so that its CPU time and memory are told apart from
//! those of the load: the same program, started again with `serve`.
//!
//! Engine, database and API are the real ones. The clock stands still, for 125,000 hosts can't be
//! kept heard of within 15 seconds on the computer that is also measured; each was heard once,
//! through the engine's own door.

use crate::data::{Market, NOW, PARTITIONS_A_HOST};
use crate::ours;
use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Instant;
use sublet_market::db::{Reader, Sqlite};
use sublet_market::engine::command::Command;
use sublet_market::engine::rows::PartitionRow;
use sublet_market::engine::{Clock, Handle, Keys, Running};
use sublet_market::http::{App, router};
use sublet_model::host::Inventory;
use sublet_model::ids::LeaseId;
use sublet_model::partition::Phase;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::sync::{Declared, Division, Observed, SyncRequest};
use tokio_util::sync::CancellationToken;

/// Syncs that are under way at once while hosts are made heard.
const AT_ONCE: usize = 512;

/// The market's clock, standing still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// What the server says once it serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// Where it listens.
    pub address: SocketAddr,
    /// How long reading the database and building every index took.
    pub start_s: f64,
    /// How long taking in one sync of every host took.
    pub heard_s: f64,
}

/// What a host of the data set would send: everything as the market knows it.
pub fn sync_request(market: &Market, host: usize) -> SyncRequest {
    let h = &market.hosts[host];
    let first = host * PARTITIONS_A_HOST;
    let seen = |n: usize| {
        let p = &market.partitions[n];
        let held = p.held.is_some();
        Observed {
            partition: p.id.into(),
            applied: ours::allocation(p),
            lease: held.then(|| ours::lease_id(n)),
            phase: if held { Phase::Ready } else { Phase::Idle },
            seconds: Seconds(0),
            first_contact: false,
            started: None,
            detail: None,
        }
    };
    let declared = |n: usize| {
        let p = &market.partitions[n];
        Declared {
            id: p.id.into(),
            name: ours::partition_name(n),
            profile: ours::profile(p),
            lendable: true,
            taken_back: None,
        }
    };
    let all = first..first + PARTITIONS_A_HOST;
    let partitions = all.clone().map(declared).collect();
    SyncRequest {
        wall_clock: NOW,
        inventory: ours::inventory(h),
        dial: ours::DIAL.into(),
        division: Division { revision: 1, keep: h.keep, conditions: Some(ours::conditions(h)), partitions },
        observed: all.map(seen).collect(),
        receipts: Vec::new(),
        plan_version: 1,
        lives: Vec::new(),
        catching_up: false,
        keys: None,
    }
}

/// Has every host heard once.
pub async fn hear_all(handle: &Handle, market: &Market) -> Result<()> {
    let one = |host: usize| async move {
        let request = Box::new(sync_request(market, host).into());
        let command = Command::Sync { host: market.hosts[host].id.into(), session: 1, request };
        handle.call(command, None).await.map(drop).with_context(|| format!("sync of host {host}"))
    };
    stream::iter(0..market.hosts.len()).map(one).buffer_unordered(AT_ONCE).try_collect().await
}

/// The engine over the market in `dir`.
pub fn engine(dir: &Path) -> Result<(Running, sublet_market::keys::Keys)> {
    let keys = sublet_market::keys::Keys::load(dir)?;
    let db = Sqlite::open(dir)?;
    let engine_keys = Keys::first(keys.signing.clone(), vec![keys.ssh_ca_public()]);
    Ok((Running::start(db, engine_keys, Arc::new(Still))?, keys))
}

/// A partition as its owner declared it.
fn declared(row: &PartitionRow) -> Declared {
    Declared { id: row.id, name: row.name.clone(), profile: row.profile, lendable: row.lendable, taken_back: None }
}

/// What a simulated host does as soon as its client gives a lease back: it says gone, through the
/// engine's own door, before the client hears of the release.
pub async fn say_gone(handle: &Handle, lease: LeaseId) -> Result<()> {
    let (host, session, request) = handle.read(|state| {
        let lease = state.lease(lease).context("a lease that was given back")?;
        let host = state.host(lease.host).context("its host")?;
        let partition = state.partition(lease.partition).context("its partition")?;
        let gone = Observed {
            partition: partition.id,
            applied: partition.allocation,
            lease: Some(lease.id),
            phase: Phase::Gone { reason: None },
            seconds: Seconds(0),
            first_contact: false,
            started: None,
            detail: None,
        };
        let request = SyncRequest {
            wall_clock: NOW,
            inventory: Inventory::clone(&host.inventory),
            dial: host.dial.clone(),
            division: Division {
                revision: host.division_revision,
                keep: host.keep,
                conditions: None,
                partitions: state.partitions_of(host.id).map(declared).collect(),
            },
            observed: vec![gone],
            receipts: Vec::new(),
            plan_version: host.plan_version,
            lives: Vec::new(),
            catching_up: false,
            keys: None,
        };
        anyhow::Ok((host.id, host.session, request))
    })?;
    let command = Command::Sync { host, session, request: Box::new(request.into()) };
    handle.call(command, None).await.map(drop).context("a host says gone")
}

/// The API, with hosts behind it that say gone at once.
pub fn with_hosts(api: Router, handle: &Handle) -> Router {
    let handle = handle.clone();
    api.layer(middleware::from_fn(move |request: Request, next: Next| {
        let handle = handle.clone();
        async move {
            let lease = request.uri().path().strip_prefix("/v1/leases/").and_then(|p| p.strip_suffix("/release"));
            let lease: Option<LeaseId> = lease.and_then(|id| id.parse().ok());
            let answer = next.run(request).await;
            if let Some(lease) = lease.filter(|_| answer.status().is_success())
                && let Err(error) = say_gone(&handle, lease).await
            {
                eprintln!("{error:#}");
            }
            answer
        }
    }))
}

/// Serves until its standard input ends; each line on it is a question that `ask` answers with
/// one line. `dress` may put something around the API.
pub async fn serve(
    dir: &Path,
    market: Market,
    dress: impl FnOnce(Router, &Handle) -> Router,
    ask: impl Fn(&Handle, &str) -> Result<String>,
) -> Result<()> {
    let began = Instant::now();
    let (running, keys) = engine(dir)?;
    let start_s = began.elapsed().as_secs_f64();
    let began = Instant::now();
    hear_all(&running.handle, &market).await?;
    let heard_s = began.elapsed().as_secs_f64();
    drop(market);
    let handle = running.handle.clone();
    let stopping = CancellationToken::new();
    let app = App::new(handle.clone(), Reader::open(dir)?, keys, "EUR".into(), None, stopping);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = dress(router(Arc::new(app)), &handle);
    let listener = axum::serve::ListenerExt::tap_io(listener, |io| drop(io.set_nodelay(true)));
    tokio::spawn(async move { axum::serve(listener, service).await });
    println!("{}", serde_json::to_string(&Ready { address, start_s, heard_s })?);
    let (send, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        println!("{}", ask(&handle, &line)?);
    }
    Ok(())
}

/// A market that serves in a process of its own, until dropped.
pub struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// What it said when it began.
    pub ready: Ready,
}

impl Server {
    /// Starts this very program again with `serve` and these arguments.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::run(Process::new(std::env::current_exe()?), arguments)
    }

    /// The same on one core of the computer, and this program on another.
    pub fn start_on(core: &str, other: &str, arguments: &[&str]) -> Result<Self> {
        let pid = std::process::id().to_string();
        let own = Process::new("taskset").args(["-a", "-p", "-c", other, &pid]).stdout(Stdio::null()).status();
        ensure!(own.context("taskset")?.success(), "this computer has no core {other}");
        let mut pinned = Process::new("taskset");
        pinned.args(["-c", core]).arg(std::env::current_exe()?);
        Self::run(pinned, arguments)
    }

    fn run(mut program: Process, arguments: &[&str]) -> Result<Self> {
        let mut child = program
            .arg("serve")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the market")?;
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().context("piped")?);
        let ready = read_line(&mut stdout)?;
        Ok(Self { child, stdin, stdout, ready: serde_json::from_str(&ready)? })
    }

    /// Asks a question of one line.
    pub fn ask(&mut self, question: &str) -> Result<String> {
        let Some(stdin) = self.stdin.as_mut() else { bail!("the market was told to end") };
        writeln!(stdin, "{question}")?;
        read_line(&mut self.stdout)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

fn read_line(from: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    ensure!(!line.is_empty(), "the market ended: see its words above");
    Ok(line)
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
