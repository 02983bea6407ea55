//! P2: clients that search, rent and give back in a closed loop (80 : 10 : 10), with hosts that say
//! gone at once; both sides durable. How many pairs of grant and release a second?

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use sublet_bench::data::Market;
use sublet_bench::load::{Http, request};
use sublet_bench::oracle;
use sublet_bench::postgres::{self, Cluster, Pairs};
use sublet_bench::query::{self, LIMIT, Query};
use sublet_bench::report::{Options, head, median, row, write};
use sublet_bench::rng::Rng;
use sublet_bench::server::{Server, serve, with_hosts};
use sublet_bench::{SEED, cpu, ours};
use uuid::Uuid;

/// Clients at once, and how many times the peer's pairs are wanted, at 100k and at 1M.
const TARGETS: [(usize, f64, f64); 3] = [(1, 1.0, 1.0), (4, 1.0, 1.0), (16, 5.0, 50.0)];
/// Searches for each pair of grant and release.
const SEARCHES: usize = 8;
/// How long one run lasts.
const RUN: Duration = Duration::from_secs(4);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let serving = args.next_if(|a| a == "serve").is_some();
    let options = Options::read(args)?;
    let seed = options.number("seed", SEED)? as u64;
    if serving {
        return serve_ours(&options, seed);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(compare(&options, seed))
}

async fn compare(options: &Options, seed: u64) -> Result<()> {
    let mut sizes = Vec::new();
    for rows in options.numbers("rows", &[100_000, 1_000_000])? {
        sizes.extend(size(options, seed, rows).await?);
    }
    let last = sizes.last().context("no size")?;
    let report = json!({
        "id": "p2", "ratio": last["ratio"], "target": last["target"], "rounds": last["rounds"],
        "ours": last["ours"], "peer": last["peer"], "sizes": sizes,
        "notes": "closed loop, 8 searches to a grant and a release until idle; see bench/README.md",
    });
    write(&options.out("p2"), &report)
}

fn serve_ours(options: &Options, seed: u64) -> Result<()> {
    let dir = options.get("dir").context("--dir")?.to_string();
    let market = Market::generate(seed, options.number("rows", 100_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(Path::new(&dir), market, with_hosts, |_, _| Ok(String::new())))
}

async fn size(options: &Options, seed: u64, rows: usize) -> Result<Vec<Value>> {
    let market = Market::generate(seed, rows);
    let queries: Vec<Query> = query::generate(seed, &market);
    let queries: Vec<Query> = queries.into_iter().filter(|q| !oracle::answer(&market, q).is_empty()).collect();
    let queries = Arc::new(queries);
    let cluster = Cluster::start()?;
    postgres::load(&cluster, &market).await?;
    postgres::add_leases(&cluster).await?;
    let dir = ours::copy_of(options, seed, rows, &market)?;
    drop(market);
    let (folder, rows_text, seed_text) = (dir.path().to_string_lossy(), rows.to_string(), seed.to_string());
    let server = Server::start(&["--dir", &folder, "--rows", &rows_text, "--seed", &seed_text])?;
    let ask = Ask { address: server.ready.address, queries: Arc::clone(&queries), salt: Arc::default() };

    let mut reports = Vec::new();
    for (clients, at_100k, at_1m) in TARGETS {
        head(&[
            "partitions",
            "clients",
            "round",
            "ours pairs/s",
            "grant p50 us",
            "p99 us",
            "CPU us a pair",
            "PostgreSQL pairs/s",
            "grant p50 us",
            "p99 us",
            "CPU us a pair",
            "ratio",
        ]);
        let mut rounds = Vec::new();
        for round in 1..=options.number("rounds", 5)? {
            let our_before = our_rows(dir.path())?;
            let ours = ours_run(&ask, server.pid(), clients).await?;
            let our_written = our_rows(dir.path())? - our_before;
            let before = postgres::rows(&cluster).await?;
            let peer = peer_run(&cluster, &ask, clients).await?;
            let written = postgres::rows(&cluster).await? - before;
            ours.check("ours")?;
            peer.check("PostgreSQL")?;
            let mut cells = vec![rows.to_string(), clients.to_string(), round.to_string()];
            cells.extend(ours.cells());
            cells.extend(peer.cells());
            cells.push(format!("{:.2}", ours.rate() / peer.rate()));
            row(&cells);
            rounds.push((ours, peer, [our_written, written]));
        }
        let target = if rows > 100_000 { at_1m } else { at_100k };
        reports.push(report(rows, clients, target, &rounds));
    }
    Ok(reports)
}

fn report(rows: usize, clients: usize, target: f64, rounds: &[(Pairing, Pairing, [i64; 2])]) -> Value {
    let ratio = median(rounds.iter().map(|(o, p, _)| o.rate() / p.rate()));
    let written = median(rounds.iter().map(|(_, p, [_, peer])| *peer as f64 / p.each.len() as f64));
    let our_written = median(rounds.iter().map(|(o, _, [ours, _])| *ours as f64 / o.each.len() as f64));
    let pairs: usize = rounds.iter().map(|(o, p, _)| o.each.len() + p.each.len()).sum();
    println!(
        "\nratio {ratio:.2} (target >= {target}); 0 of {pairs} grants double; rows written for a pair: {our_written:.1}, {written:.1}"
    );
    let side = |of: fn(&(Pairing, Pairing, [i64; 2])) -> &Pairing| {
        json!({
            "pairs_per_s": median(rounds.iter().map(|r| of(r).rate())),
            "grant_p50_us": median(rounds.iter().map(|r| of(r).grant_us(500))),
            "grant_p99_us": median(rounds.iter().map(|r| of(r).grant_us(990))),
            "cpu_us_a_pair": median(rounds.iter().map(|r| of(r).cpu_us())),
        })
    };
    let each: Vec<Value> = rounds
        .iter()
        .map(|(o, p, _)| json!({"ours": o.rate(), "peer": p.rate(), "ours_cpu_us": o.cpu_us(), "peer_cpu_us": p.cpu_us()}))
        .collect();
    json!({
        "rows": rows, "clients": clients, "ratio": ratio, "target": target, "rounds": each, "double_grants": 0,
        "ours_rows_a_pair": our_written, "peer_rows_a_pair": written, "ours": side(|r| &r.0), "peer": side(|r| &r.1),
    })
}

/// Rows of everything that a pair leaves behind, as the database itself counts them.
fn our_rows(dir: &Path) -> Result<i64> {
    let sql =
        "select (select count(*) from leases) + (select count(*) from allocations) + (select count(*) from charges)
               + (select count(*) from idempotency) + (select max(seq) from events) + (select count(*) from audit)";
    let out = Command::new("sqlite3").arg("-readonly").arg(dir.join("market.db")).arg(sql).output()?;
    let counted = String::from_utf8(out.stdout)?.trim().parse();
    counted.with_context(|| format!("count rows: {}", String::from_utf8_lossy(&out.stderr)))
}

/// One pair: which partition, at which generation, from when to when the client held it for sure.
#[derive(Debug, Clone)]
struct Pair {
    partition: String,
    generation: u64,
    from: Instant,
    to: Instant,
    grant: Duration,
}

/// One run of one side.
struct Pairing {
    wall: Duration,
    cpu: Duration,
    each: Vec<Pair>,
}

impl Pairing {
    fn rate(&self) -> f64 {
        self.each.len() as f64 / self.wall.as_secs_f64()
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.each.len() as f64
    }

    fn grant_us(&self, permille: usize) -> f64 {
        let mut all: Vec<Duration> = self.each.iter().map(|p| p.grant).collect();
        all.sort_unstable();
        all.get((all.len() * permille / 1000).min(all.len() - 1)).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    }

    fn cells(&self) -> Vec<String> {
        let [p50, p99] = [500, 990].map(|permille| format!("{:.0}", self.grant_us(permille)));
        vec![format!("{:.1}", self.rate()), p50, p99, format!("{:.0}", self.cpu_us())]
    }

    /// Nobody held what somebody else held, and generations only rose.
    fn check(&self, side: &str) -> Result<()> {
        ensure!(!self.each.is_empty(), "{side}: not one pair was done");
        let mut by_partition: HashMap<&str, Vec<&Pair>> = HashMap::new();
        for pair in &self.each {
            by_partition.entry(&pair.partition).or_default().push(pair);
        }
        for pairs in by_partition.values_mut() {
            pairs.sort_by_key(|p| p.from);
            for two in pairs.windows(2) {
                ensure!(two[0].to <= two[1].from, "{side}: granted twice: {two:?}");
                ensure!(two[0].generation < two[1].generation, "{side}: a generation did not rise: {two:?}");
            }
        }
        Ok(())
    }
}

/// What clients ask, on either side.
#[derive(Clone)]
struct Ask {
    address: std::net::SocketAddr,
    queries: Arc<Vec<Query>>,
    /// Makes every client's choices, and every key, different ones.
    salt: Arc<AtomicU64>,
}

impl Ask {
    fn salt(&self) -> u64 {
        self.salt.fetch_add(1, Ordering::Relaxed)
    }
}

async fn gather<F>(clients: Vec<F>, cpu: impl Fn() -> Duration) -> Result<Pairing>
where
    F: Future<Output = Result<Vec<Pair>>> + Send + 'static,
{
    let (before, began) = (cpu(), Instant::now());
    let tasks: Vec<_> = clients.into_iter().map(tokio::spawn).collect();
    let mut each = Vec::new();
    for task in tasks {
        each.extend(task.await??);
    }
    Ok(Pairing { wall: began.elapsed(), cpu: cpu() - before, each })
}

async fn ours_run(ask: &Ask, pid: u32, count: usize) -> Result<Pairing> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(our_client(ask.clone(), Http::connect(ask.address).await?));
    }
    gather(clients, || cpu::of(pid)).await
}

async fn our_client(ask: Ask, mut http: Http) -> Result<Vec<Pair>> {
    let mut rng = Rng::new(ask.salt());
    let (mut pairs, began) = (Vec::new(), Instant::now());
    let post = |path: &str, key: Option<&str>, body: &str| request("POST", path, ours::TOKEN, key, body);
    while began.elapsed() < RUN {
        for _ in 0..SEARCHES {
            let query = &ask.queries[rng.below(ask.queries.len() as u64) as usize];
            let body = json!({"requirements": query.requirements(), "limit": LIMIT}).to_string();
            http.must(&post("/v1/search", None, &body)).await?;
        }
        let query = &ask.queries[rng.below(ask.queries.len() as u64) as usize];
        let body = json!({"requirements": query.requirements(), "ssh_public_key": ours::CLIENT_KEY}).to_string();
        let key = format!("bench-{:016x}{:016x}", rng.bits(), ask.salt());
        let asked = Instant::now();
        let (status, answer) = http.ask(&post("/v1/leases", Some(&key), &body)).await?;
        let from = Instant::now();
        let answer: Value = serde_json::from_slice(answer)?;
        if status != 201 {
            // Others hold all that fits just now.
            ensure!(answer["type"].as_str().is_some_and(|kind| kind.ends_with("no_match")), "{answer}");
            continue;
        }
        let word = |value: &Value| value.as_str().map(String::from).context("a lease has an id and a partition");
        let (lease, partition) = (word(&answer["lease"]["id"])?, word(&answer["lease"]["partition"])?);
        let generation = answer["lease"]["generation"].as_u64().context("a lease has a generation")?;
        let to = Instant::now();
        http.must(&post(&format!("/v1/leases/{lease}/release"), None, "")).await?;
        pairs.push(Pair { partition, generation, from, to, grant: from - asked });
    }
    Ok(pairs)
}

async fn peer_run(cluster: &Cluster, ask: &Ask, count: usize) -> Result<Pairing> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(peer_client(ask.clone(), Pairs::new(cluster).await?));
    }
    let pid = cluster.pid();
    gather(clients, || cpu::of_tree(pid)).await
}

async fn peer_client(ask: Ask, peer: Pairs) -> Result<Vec<Pair>> {
    let mut rng = Rng::new(ask.salt());
    let (mut pairs, began) = (Vec::new(), Instant::now());
    while began.elapsed() < RUN {
        for _ in 0..SEARCHES {
            let query = &ask.queries[rng.below(ask.queries.len() as u64) as usize];
            peer.search(query).await?;
        }
        let query = &ask.queries[rng.below(ask.queries.len() as u64) as usize];
        let lease = Uuid::from_u64_pair(rng.bits(), ask.salt());
        let asked = Instant::now();
        let Some((partition, generation)) = peer.grant(query, lease).await? else { continue };
        let from = Instant::now();
        let to = Instant::now();
        peer.release(lease).await?;
        let generation = generation.unsigned_abs();
        pairs.push(Pair { partition: partition.to_string(), generation, from, to, grant: from - asked });
    }
    Ok(pairs)
}
