//! P9: syncs that change nothing, through the real route, on one core: MAC verified, taken in by
//! the engine, held, answered with the plan; the database is not touched.
//!
//! The market holds a sync of which nothing is news until a newer one of the same host comes. So
//! each host here has two connections that take turns: every sync releases the one before.
//!
//! An idle host leaves out what the market has. One that lends says each time what it sees, for its
//! meters run; the peer of both is a host that says everything each time, as the first sync does.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use sublet_bench::data::Market;
use sublet_bench::load::{Http, Run, Turns, request, together};
use sublet_bench::report::{Options, head, median, row, write};
use sublet_bench::server::{Server, serve, sync_request};
use sublet_bench::{SEED, cpu, ours};
use sublet_model::ids::HostId;
use sublet_wire::mac;
use sublet_wire::sync::{Challenge, PROTOCOL, SessionAnswer, SessionRequest, SyncMessage, header, session_proof};

const TARGET: f64 = 10_000.0;
/// Hosts that sync at once.
const HOSTS: usize = 64;
/// Syncs of one round.
const SYNCS: usize = 40_000;
/// Where the market runs, and where the hosts do.
const CORES: [&str; 2] = ["0", "1"];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let serving = args.next_if(|a| a == "serve").is_some();
    let options = Options::read(args)?;
    let seed = options.number("seed", SEED)? as u64;
    let rows = options.numbers("rows", &[100_000])?[0];
    let market = Market::generate(seed, rows);
    if serving {
        let dir = options.get("dir").context("--dir")?.to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(serve(Path::new(&dir), market, |api, _| api, |_, _| Ok(String::new())));
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(compare(&options, seed, rows, market))
}

async fn compare(options: &Options, seed: u64, rows: usize, market: Market) -> Result<()> {
    let dir = ours::copy_of(options, seed, rows, &market)?;
    let server = Server::start_on(
        CORES[0],
        CORES[1],
        &["--dir", &dir.path().to_string_lossy(), "--rows", &rows.to_string(), "--seed", &seed.to_string()],
    )?;
    let mut hosts = Vec::new();
    for n in 0..HOSTS {
        hosts.push(Host::open(&server, &market, n).await?);
    }
    // Opening sessions was written, and the first sync of each; what follows must not be.
    let (_, mut hosts) = round_of(&server, hosts, HOSTS * 20).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = database(dir.path())?;
    let mut runs = [const { Vec::new() }; 3];
    head(&["round", "host", "bytes", "syncs/s on one core", "CPU us a sync", "p50 us", "p99 us"]);
    for round in 0..options.number("rounds", 5)? {
        for (says, runs) in SAYS.into_iter().zip(&mut runs) {
            hosts.iter_mut().try_for_each(|host| host.say(says))?;
            let bytes = hosts.iter().map(|host| host.body.len()).sum::<usize>() / HOSTS;
            let (run, back) = round_of(&server, hosts, SYNCS).await?;
            hosts = back;
            row(&[
                (round + 1).to_string(),
                says.name().into(),
                bytes.to_string(),
                format!("{:.0}", run.rate()),
                format!("{:.1}", run.cpu_us()),
                format!("{:.0}", run.permille_us(500)),
                format!("{:.0}", run.permille_us(990)),
            ]);
            runs.push(run);
        }
    }
    ensure!(database(dir.path())? == before, "the database was written to");
    let [idle, lending, whole] = runs.each_ref().map(|runs| {
        let (per_s, cpu_us) = (median(runs.iter().map(Run::rate)), median(runs.iter().map(Run::cpu_us)));
        json!({"per_s": per_s, "cpu_us": cpu_us})
    });
    let [runs, ..] = runs;
    let rate = median(runs.iter().map(Run::rate));
    println!("\n{rate:.0} syncs/s on one core (target >= {TARGET}), no byte written to the database; there is no peer");
    let rounds: Vec<Value> =
        runs.iter().map(|r| json!({"per_s": r.rate(), "cpu_us": r.cpu_us(), "syncs": r.each.len()})).collect();
    let notes = "absolute: no peer has such a protocol. The market is pinned to one core, the hosts to the other";
    let report = json!({
        "id": "p9", "ratio": rate / TARGET, "target": TARGET, "rounds": rounds, "ours": idle, "lending": lending, "whole": whole, "peer": null,
        "hosts": HOSTS, "rows": rows, "notes": notes,
    });
    write(&options.out("p9"), &report)
}

/// Size and time of the last write of everything the database consists of.
fn database(dir: &Path) -> Result<Vec<(String, u64, SystemTime)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let (entry, name) = entry.map(|e| (e.metadata(), e.file_name().to_string_lossy().into_owned()))?;
        if name == "market.db" || name == "market.db-wal" {
            files.push((name, entry.as_ref().map_or(0, fs::Metadata::len), entry?.modified()?));
        }
    }
    files.sort();
    ensure!(files.len() == 2, "a database and its log, not {files:?}");
    Ok(files)
}

/// What a host says in each sync.
#[derive(Debug, Clone, Copy)]
enum Says {
    /// That it is there.
    Nothing,
    /// What it sees of its partitions.
    Observed,
    /// Everything.
    Whole,
}

const SAYS: [Says; 3] = [Says::Nothing, Says::Observed, Says::Whole];

impl Says {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "idle",
            Self::Observed => "lending",
            Self::Whole => "says everything",
        }
    }
}

/// A host with its session and two connections.
struct Host {
    id: HostId,
    session: u64,
    mac_key: [u8; mac::KEY_BYTES],
    seq: u64,
    whole: SyncMessage,
    body: String,
    connections: [Http; 2],
    /// Whether the second connection has a sync that is held.
    held: bool,
}

impl Host {
    async fn open(server: &Server, market: &Market, n: usize) -> Result<Self> {
        let to = server.ready.address;
        let mut connections = [Http::connect(to).await?, Http::connect(to).await?];
        let id = HostId::from(market.hosts[n].id);
        let ask = |path: &str, body: &str| request("POST", &format!("/v1/hosts/{id}/{path}"), "", None, body);
        let challenge: Challenge = serde_json::from_slice(connections[0].must(&ask("challenge", "")).await?)?;
        let proof = SessionRequest {
            signature: ours::host_key(n).sign_bytes(&session_proof(id, &challenge.nonce)),
            nonce: challenge.nonce,
            last_session: 1,
            protocol: PROTOCOL,
            epoch: None,
        };
        let proof = serde_json::to_string(&proof)?;
        let answer: SessionAnswer = serde_json::from_slice(connections[0].must(&ask("sessions", &proof)).await?)?;
        let mac_key = BASE64.decode(answer.mac_key.as_bytes())?;
        let mac_key = mac_key.try_into().ok().context("a key of 32 bytes")?;
        let whole = SyncMessage::from(sync_request(market, n));
        let body = String::new();
        let mut host = Self { id, session: answer.session, mac_key, seq: 0, whole, body, connections, held: false };
        host.say(Says::Whole)?;
        // The first sync of a session is noted in the database; the next one changes nothing.
        host.turn(1).await?;
        host.held = true;
        Ok(host)
    }

    fn say(&mut self, says: Says) -> Result<()> {
        let mut message = self.whole.clone();
        if !matches!(says, Says::Whole) {
            (message.inventory, message.division) = (None, None);
        }
        if matches!(says, Says::Nothing) {
            message.observed = None;
        }
        self.body = serde_json::to_string(&message)?;
        Ok(())
    }

    fn next(&mut self) -> Vec<u8> {
        self.seq += 1;
        let mac = mac::seal(&self.mac_key, self.session, self.seq, self.body.as_bytes());
        format!(
            "POST /v1/hosts/{}/sync HTTP/1.1\r\nhost: 127.0.0.1\r\n{}: {}\r\n{}: {}\r\n{}: {mac}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            self.id,
            header::SESSION,
            self.session,
            header::SEQ,
            self.seq,
            header::MAC,
            self.body.len(),
            self.body
        )
        .into_bytes()
    }

    /// Sends a sync on one connection, and takes the answer that it releases on the other.
    async fn turn(&mut self, on: usize) -> Result<()> {
        let request = self.next();
        self.connections[on].send(&request).await?;
        if self.held {
            let (status, body) = self.connections[1 - on].answer().await?;
            ensure!(status == 200, "the market answered {status}: {}", String::from_utf8_lossy(body));
        }
        Ok(())
    }
}

async fn round_of(server: &Server, hosts: Vec<Host>, syncs: usize) -> Result<(Run, Vec<Host>)> {
    let (turns, pid) = (Turns::new(syncs), server.pid());
    let (give, mut back) = tokio::sync::mpsc::unbounded_channel();
    let asker = |mut host: Host| {
        let (turns, give) = (turns.clone(), give.clone());
        async move {
            let mut each: Vec<Duration> = Vec::new();
            let mut on = 0;
            while turns.next().is_some() {
                let began = Instant::now();
                host.turn(on).await?;
                each.push(began.elapsed());
                on = 1 - on;
            }
            // Ends with the second connection held, as it began.
            if on == 1 {
                host.turn(1).await?;
            }
            let _ = give.send(host);
            Ok(each)
        }
    };
    let run = together(hosts.into_iter().map(asker).collect(), || cpu::of(pid)).await?;
    drop(give);
    let mut hosts = Vec::new();
    while let Some(host) = back.recv().await {
        hosts.push(host);
    }
    Ok((run, hosts))
}
