//! P1: searches over HTTP against hand-written PostgreSQL, on the same market, by the same 200
//! questions, at three sizes.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sublet_bench::data::Market;
use sublet_bench::load::{Http, Run, Turns, request, together};
use sublet_bench::oracle::{self, Answer};
use sublet_bench::postgres::{self, Cluster, Search as Peer};
use sublet_bench::query::{self, LIMIT, NOTHING, QUERIES, Query};
use sublet_bench::report::{Options, head, median, row, write};
use sublet_bench::server::{Server, serve};
use sublet_bench::{SEED, cpu, ours};
use sublet_market::engine::{Handle, listing};
use sublet_model::book::Search;
use sublet_model::ids::PartitionId;
use sublet_model::requirements::{Requirements, Resolved};
use sublet_wire::api::SearchAnswer;

const TARGET: f64 = 100.0;
/// How often the engine answers all questions where it is measured alone.
const PASSES: usize = 20;
/// How long one run of load lasts, about.
const RUN: Duration = Duration::from_secs(2);

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
    for rows in options.numbers("rows", &[10_000, 100_000, 1_000_000])? {
        sizes.push(size(options, seed, rows).await?);
    }
    if options.get("only").is_some() {
        return Ok(());
    }
    let last = sizes.last().context("no size")?;
    let ratio = &last["c16"]["ratio"];
    println!("\nratio {ratio} (target >= {TARGET}) at {} partitions, 16 clients", last["rows"]);
    let report = json!({
        "id": "p1", "ratio": ratio, "target": TARGET, "rounds": last["c16"]["rounds"],
        "ours": last["c16"]["ours"], "peer": last["c16"]["peer"], "sizes": sizes,
        "notes": "search over HTTP on loopback against prepared statements over a Unix socket; see bench/README.md",
    });
    write(&options.out("p1"), &report)
}

/// One size: both sides loaded, equal answers, then the rounds.
async fn size(options: &Options, seed: u64, rows: usize) -> Result<Value> {
    let market = Market::generate(seed, rows);
    let queries = query::generate(seed, &market);
    let expected: Vec<Vec<Answer>> = queries.iter().map(|q| oracle::answer(&market, q)).collect();
    let nothing = expected.iter().filter(|a| a.is_empty()).count();
    ensure!(nothing == NOTHING, "{nothing} of {QUERIES} questions match nothing");

    let rounds = options.number("rounds", 5)?;
    let cluster = match options.get("only") {
        Some("ours") => None,
        _ => Some(loaded(rows, &market, &queries, &expected).await?),
    };
    if options.get("only") == Some("peer") {
        return peer_alone(options, rows, cluster.as_ref().context("a peer")?, &queries).await;
    }

    let dir = ours::copy_of(options, seed, rows, &market)?;
    drop(market);
    let (rows_text, seed_text) = (rows.to_string(), seed.to_string());
    let mut server =
        Server::start(&["--dir", &dir.path().to_string_lossy(), "--rows", &rows_text, "--seed", &seed_text])?;
    eprintln!("{rows}: {:?}, {} MiB", server.ready, cpu::resident_bytes(server.pid()) >> 20);
    let mut http = Http::connect(server.ready.address).await?;
    let requests: Arc<Vec<Vec<u8>>> = Arc::new(queries.iter().map(search_request).collect());
    for (n, (request, expected)) in requests.iter().zip(&expected).enumerate() {
        let answer: SearchAnswer = serde_json::from_slice(http.must(request).await?)?;
        let found: Vec<(PartitionId, i64)> = answer.matches.iter().map(|m| (m.partition, m.total.0)).collect();
        let expected: Vec<(PartitionId, i64)> = expected.iter().map(|(id, total)| ((*id).into(), *total)).collect();
        ensure!(found == expected, "question {n}: ours answers {found:?}, not {expected:?}");
    }
    eprintln!("{rows}: equal answers to all {QUERIES} questions");
    let engine: Value = serde_json::from_str(&server.ask("engine")?)?;
    let nearest = nearest(&mut http, &queries, &expected).await?;
    println!("\n{rows} partitions\n- engine alone: {engine}\n- nearest deal over HTTP: {nearest}");
    let mut report = json!({
        "rows": rows, "start_s": server.ready.start_s, "heard_s": server.ready.heard_s, "engine": engine, "nearest": nearest,
        "resident_bytes": cpu::resident_bytes(server.pid()),
    });
    for c in [1usize, 16] {
        let mut all = Vec::new();
        for _ in 0..rounds {
            let ours = ours_run(&server, &requests, c).await?;
            match &cluster {
                Some(cluster) => all.push((ours, peer_run(cluster, &queries, c).await?)),
                None => say(rows, c, &ours),
            }
        }
        if cluster.is_some() {
            report[format!("c{c}")] = table(rows, c, &all);
        }
    }
    Ok(report)
}

/// PostgreSQL with the market in it, once it gave the expected answers.
async fn loaded(rows: usize, market: &Market, queries: &[Query], expected: &[Vec<Answer>]) -> Result<Cluster> {
    let began = Instant::now();
    let cluster = Cluster::start()?;
    postgres::load(&cluster, market).await?;
    eprintln!("{rows}: PostgreSQL loaded in {:.1} s", began.elapsed().as_secs_f64());
    let search = Peer::new(cluster.connect().await?).await?;
    for (n, (query, expected)) in queries.iter().zip(expected).enumerate() {
        let found = search.answer(query).await?;
        ensure!(found == *expected, "question {n}: PostgreSQL answers {found:?}, not {expected:?}: {query:?}");
    }
    Ok(cluster)
}

/// The peer by itself, to look at it closer.
async fn peer_alone(options: &Options, rows: usize, cluster: &Cluster, queries: &[Query]) -> Result<Value> {
    for c in [1, 16] {
        say(rows, c, &peer_run(cluster, queries, c).await?);
    }
    if let Some(seconds) = options.get("pause") {
        eprintln!("paused");
        tokio::time::sleep(Duration::from_secs(seconds.parse()?)).await;
    }
    Ok(json!({}))
}

/// One run where nothing is compared.
fn say(rows: usize, c: usize, run: &Run) {
    eprintln!(
        "{rows} c={c}: {:.0}/s, p50 {:.0} us, p99 {:.0} us, cpu {:.0} us",
        run.rate(),
        run.permille_us(500),
        run.permille_us(990),
        run.cpu_us()
    );
}

fn table(rows: usize, c: usize, all: &[(Run, Run)]) -> Value {
    head(&[
        "partitions",
        "clients",
        "round",
        "ours/s",
        "p50 us",
        "p99 us",
        "CPU us",
        "PostgreSQL/s",
        "p50 us",
        "p99 us",
        "CPU us",
        "ratio",
    ]);
    let side = |run: &Run| {
        [
            format!("{:.0}", run.rate()),
            format!("{:.0}", run.permille_us(500)),
            format!("{:.0}", run.permille_us(990)),
            format!("{:.1}", run.cpu_us()),
        ]
    };
    let mut rounds = Vec::new();
    for (n, (ours, peer)) in all.iter().enumerate() {
        let ratio = ours.rate() / peer.rate();
        let mut cells = vec![rows.to_string(), c.to_string(), (n + 1).to_string()];
        cells.extend(side(ours));
        cells.extend(side(peer));
        cells.push(format!("{ratio:.1}"));
        row(&cells);
        rounds.push(json!({"ours": figures(ours), "peer": figures(peer), "ratio": ratio}));
    }
    let middle = |of: fn(&Run) -> f64, peer: bool| median(all.iter().map(|(o, p)| of(if peer { p } else { o })));
    let sides = |peer| {
        json!({
            "per_s": middle(Run::rate, peer), "p50_us": middle(|r| r.permille_us(500), peer),
            "p99_us": middle(|r| r.permille_us(990), peer), "cpu_us": middle(Run::cpu_us, peer),
        })
    };
    let ratio = median(all.iter().map(|(ours, peer)| ours.rate() / peer.rate()));
    json!({"rounds": rounds, "ours": sides(false), "peer": sides(true), "ratio": (ratio * 10.0).round() / 10.0})
}

fn figures(run: &Run) -> Value {
    json!({"per_s": run.rate(), "p50_us": run.permille_us(500), "p99_us": run.permille_us(990), "cpu_us": run.cpu_us(), "answers": run.each.len()})
}

fn search_request(query: &Query) -> Vec<u8> {
    let body = json!({"requirements": query.requirements(), "limit": LIMIT});
    request("POST", "/v1/search", ours::TOKEN, None, &body.to_string())
}

async fn ours_run(server: &Server, requests: &Arc<Vec<Vec<u8>>>, c: usize) -> Result<Run> {
    let mut connections = Vec::new();
    for _ in 0..c {
        connections.push(Http::connect(server.ready.address).await?);
    }
    let pid = server.pid();
    let asker = |mut http: Http, turns: Turns| {
        let requests = Arc::clone(requests);
        async move {
            let mut each = Vec::new();
            while let Some(turn) = turns.next() {
                let began = Instant::now();
                http.must(&requests[turn % QUERIES]).await?;
                each.push(began.elapsed());
            }
            Ok(each)
        }
    };
    // A first pass says how many fit into a run.
    let mut first = Http::connect(server.ready.address).await?;
    let began = Instant::now();
    for request in requests.iter() {
        first.must(request).await?;
    }
    let turns = Turns::new(passes(began.elapsed(), c) * QUERIES);
    together(connections.into_iter().map(|http| asker(http, turns.clone())).collect(), || cpu::of(pid)).await
}

async fn peer_run(cluster: &Cluster, queries: &[Query], c: usize) -> Result<Run> {
    let mut connections = Vec::new();
    for _ in 0..c {
        let search = Peer::new(cluster.connect().await?).await?;
        // PostgreSQL settles on a plan after five.
        for query in queries.iter().take(6) {
            search.answer(query).await?;
        }
        connections.push(search);
    }
    let columns: Arc<Vec<_>> = Arc::new(queries.iter().map(postgres::columns).collect());
    let began = Instant::now();
    for one in columns.iter() {
        connections[0].rows(one).await?;
    }
    let turns = Turns::new(passes(began.elapsed(), c) * QUERIES);
    let pid = cluster.pid();
    let asker = |search: Peer, turns: Turns| {
        let columns = Arc::clone(&columns);
        async move {
            let mut each = Vec::new();
            while let Some(turn) = turns.next() {
                let began = Instant::now();
                search.rows(&columns[turn % QUERIES]).await?;
                each.push(began.elapsed());
            }
            Ok(each)
        }
    };
    together(connections.into_iter().map(|search| asker(search, turns.clone())).collect(), || cpu::of_tree(pid)).await
}

/// How many passes over the questions make a run.
fn passes(one: Duration, c: usize) -> usize {
    let speedup = if c > 1 { 2.0 } else { 1.0 };
    ((RUN.as_secs_f64() * speedup / one.as_secs_f64()).round() as usize).max(1)
}

fn serve_ours(options: &Options, seed: u64) -> Result<()> {
    let rows = options.number("rows", 10_000)?;
    let dir = options.get("dir").context("--dir")?.to_string();
    let market = Market::generate(seed, rows);
    let needs = query::generate(seed, &market).iter().map(resolved).collect::<Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(Path::new(&dir), market, |api, _| api, move |handle, _| engine(handle, &needs)))
}

fn resolved(query: &Query) -> Result<Resolved> {
    let requirements: Requirements = serde_json::from_value(query.requirements())?;
    Ok(requirements.resolve()?.0)
}

/// How long the engine takes without HTTP: for each question, and for the nearest deal where
/// nothing fits; how much was looked at, and how large the index is.
fn engine(handle: &Handle, needs: &[Resolved]) -> Result<String> {
    let (client, now) = (ours::account(ours::ASKING), handle.now());
    let (mut each, mut deals) = (Vec::with_capacity(PASSES * needs.len()), Vec::new());
    let (mut parts, mut asked) = (0, 0);
    for needs in (0..PASSES).flat_map(|_| needs) {
        handle.read(|state| {
            let began = Instant::now();
            let (_, images) = listing::images(state);
            let search = Search { needs, client, images: &images, now };
            let found = listing::find(state, &search, LIMIT);
            each.push(began.elapsed());
            parts += found.looked.parts;
            asked += found.looked.asked;
            if found.matches.is_empty() {
                let began = Instant::now();
                black_box(listing::nearest(state, &search));
                deals.push(began.elapsed());
            }
        });
    }
    let bytes = handle.read(|state| state.book().bytes() as f64 / state.book().len() as f64);
    let (all, count) = (times(each), needs.len() * PASSES);
    Ok(json!({
        "search": all, "parts": parts as f64 / count as f64, "asked": asked as f64 / count as f64,
        "nearest": times(deals), "index_bytes_an_offer": bytes,
    })
    .to_string())
}

fn times(each: Vec<Duration>) -> Value {
    let run = Run { wall: each.iter().sum(), cpu: Duration::ZERO, each };
    json!({
        "mean_us": (1e7 / run.rate()).round() / 10.0, "p50_us": run.permille_us(500), "p99_us": run.permille_us(990),
        "max_us": run.permille_us(1000), "times": run.each.len(),
    })
}

/// How long the nearest deal takes over HTTP, one after the other, where nothing fits.
async fn nearest(http: &mut Http, queries: &[Query], expected: &[Vec<Answer>]) -> Result<Value> {
    let mut each = Vec::new();
    for (query, _) in queries.iter().zip(expected).filter(|(_, answer)| answer.is_empty()) {
        let body = json!({"requirements": query.requirements()}).to_string();
        let request = request("POST", "/v1/search/nearest", ours::TOKEN, None, &body);
        for _ in 0..PASSES {
            let began = Instant::now();
            http.must(&request).await?;
            each.push(began.elapsed());
        }
    }
    Ok(times(each))
}
