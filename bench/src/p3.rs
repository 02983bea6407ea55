//! P3: requirements against offers, in process: our index and our rule of fit, against the C++ core
//! of HTCondor's ClassAd, on the same market, by the same questions.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sublet_bench::classad::{self, ClassAd, Matcher};
use sublet_bench::data::{Market, NOW, PARTITIONS_A_HOST};
use sublet_bench::oracle;
use sublet_bench::query::{self, LIMIT, QUERIES, Query};
use sublet_bench::report::{Options, head, median, row, write};
use sublet_bench::{SEED, cpu, ours};
use sublet_model::book::{Book, Lending, Lent, Listing, Search, fit};
use sublet_model::host::Inventory;
use sublet_model::image::ImageManifest;
use sublet_model::offer::Offer;
use sublet_model::requirements::{Requirements, Resolved};
use sublet_model::units::Timestamp;

/// Whole market on the indexed path; one expression alone.
const TARGETS: [f64; 2] = [500.0, 20.0];
/// Of the questions, each so manieth is put to ClassAd: it takes seconds for each.
const EACH: usize = 20;
/// Ads that the Python wheel is asked over: through Python it is slower by about ten times.
const WHEEL_ADS: usize = 20_000;
/// How often the indexed path answers all questions within one round.
const PASSES: usize = 5;

fn main() -> Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    let seed = options.number("seed", SEED)? as u64;
    let rows = options.number("rows", 1_000_000)?;
    let rounds = options.number("rounds", 5)?;
    let market = Market::generate(seed, rows);
    let queries = query::generate(seed, &market);
    let some: Vec<usize> = (0..QUERIES).filter(|n| n % EACH == 7 || n % EACH == 10).collect();
    let side = Side::new(&market, &queries)?;
    side.equal(&market, &queries)?;
    if options.get("only") == Some("ours") {
        side.alone(rounds);
        return Ok(());
    }

    let peer = ClassAd::find()?;
    let version = peer.version()?;
    let mut core = start(&options, &peer, &market, &queries, false)?;
    for n in &some {
        equal_to_peer(&market, &queries, &mut core, *n)?;
    }
    eprintln!("{rows}: equal answers; ClassAd has {} MiB", cpu::resident_bytes(core.pid()) >> 20);

    head(&[
        "round",
        "ours, index, us a search",
        "ClassAd core, us a search",
        "ratio",
        "ours, admit, ns an ad",
        "core, ns an ad",
        "ratio",
    ]);
    let mut all = Vec::new();
    for round in 0..rounds {
        let index = side.search_us(&some);
        let core_us = core_us(&mut core, &some)?;
        let admit = side.admit_ns(&some);
        let core_ns = core_us * 1e3 / rows as f64;
        let figures = [index, core_us, core_us / index, admit, core_ns, core_ns / admit];
        let shown = [
            format!("{index:.1}"),
            format!("{core_us:.0}"),
            format!("{:.0}", figures[2]),
            format!("{admit:.1}"),
            format!("{core_ns:.0}"),
            format!("{:.1}", figures[5]),
        ];
        row(&[&[(round + 1).to_string()][..], &shown].concat());
        all.push(figures);
    }
    let wheel = wheel_ns(&options, &peer, seed, &queries, &some)?;
    let middle = |n: usize| median(all.iter().map(|figures| figures[n]));
    let (ratio, alone) = (middle(2), middle(5));
    println!(
        "\nwhole market {ratio:.0}x (target >= {}), expression alone {alone:.1}x (target >= {})",
        TARGETS[0], TARGETS[1]
    );
    println!("the Python wheel: {wheel:.0} ns an ad over {WHEEL_ADS} ads, {:.1}x the core's", wheel / middle(4));
    println!(
        "all {QUERIES} questions: {:.1} us a search; {:.1} bytes an offer in the index",
        side.search_us(&(0..QUERIES).collect::<Vec<_>>()),
        side.bytes
    );
    let rounds: Vec<Value> = all
        .iter()
        .map(|f| json!({"ours_us": f[0], "peer_us": f[1], "ratio": f[2], "ours_admit_ns": f[3], "peer_ad_ns": f[4], "ratio_alone": f[5]}))
        .collect();
    let report = json!({
        "id": "p3", "ratio": ratio, "target": TARGETS[0], "rounds": rounds,
        "ratio_alone": alone, "target_alone": TARGETS[1], "rows": rows,
        "ours": {"search_us": middle(0), "admit_ns": middle(3), "bytes_an_offer": side.bytes},
        "peer": {"name": version, "search_us": middle(1), "ad_ns": middle(4), "wheel_ad_ns": wheel},
        "notes": "ClassAd by its own C++ library without Python; one thread each; a tenth of the questions",
    });
    write(&options.out("p3"), &report)
}

/// Our side: the index, and every listing as the rule of fit sees it.
struct Side {
    book: Book,
    bytes: f64,
    needs: Vec<Resolved>,
    images: Vec<ImageManifest>,
    inventories: Vec<Arc<Inventory>>,
    offers: Vec<Arc<Offer>>,
    names: Vec<String>,
    listings: Vec<Row>,
}

/// What differs from partition to partition of a host.
struct Row {
    host: usize,
    partition: sublet_model::ids::PartitionId,
    reach: Option<sublet_model::resources::Resources>,
    least: sublet_model::resources::Resources,
    listed_at: Timestamp,
}

impl Side {
    fn new(market: &Market, queries: &[Query]) -> Result<Self> {
        let needs = queries
            .iter()
            .map(|query| {
                let requirements: Requirements = serde_json::from_value(query.requirements())?;
                Ok(requirements.resolve()?.0)
            })
            .collect::<Result<Vec<_>>>()?;
        let inventories: Vec<_> = market.hosts.iter().map(|h| Arc::new(ours::inventory(h))).collect();
        let offers: Vec<_> = market.hosts.iter().map(|h| ours::offer(h).offer).collect();
        let names: Vec<_> = (0..market.hosts.len()).map(ours::host_name).collect();
        let began = Instant::now();
        let all = market.hosts.iter().enumerate().map(|(n, host)| {
            let lending = Lending {
                host: host.id.into(),
                name: &names[n],
                inventory: &inventories[n],
                reliability_permille: 1000,
            };
            let lent = market.partitions[n * PARTITIONS_A_HOST..][..PARTITIONS_A_HOST].iter().map(|p| Lent {
                partition: p.id.into(),
                offer: Arc::clone(&offers[n]),
                // A held one could become nothing while it is held.
                reach: p.reach.unwrap_or(p.max),
                free: p.reach.is_some(),
                least: p.min,
                listed_at: Timestamp(p.listed_at),
                closed_until: None,
            });
            (lending, lent.collect())
        });
        let book = Book::of(all);
        eprintln!("{} partitions: index made in {:.2} s", book.len(), began.elapsed().as_secs_f64());
        let listings = market
            .partitions
            .iter()
            .map(|p| Row {
                host: p.host,
                partition: p.id.into(),
                reach: p.reach,
                least: p.min,
                listed_at: Timestamp(p.listed_at),
            })
            .collect();
        let images = ours::images()?.into_iter().map(|image| image.manifest).collect();
        let bytes = book.bytes() as f64 / book.len() as f64;
        Ok(Self { book, bytes, needs, images, inventories, offers, names, listings })
    }

    fn manifests(&self) -> Vec<&ImageManifest> {
        self.images.iter().collect()
    }

    fn equal(&self, market: &Market, queries: &[Query]) -> Result<()> {
        let images = self.manifests();
        for (n, query) in queries.iter().enumerate() {
            let expected: Vec<_> = oracle::answer(market, query).into_iter().map(|(id, t)| (id.into(), t)).collect();
            let found = self.book.find(&self.search(n, &images), LIMIT, |_| true).matches;
            let found: Vec<_> = found.iter().map(|(hit, _)| (hit.partition, hit.total.0)).collect();
            ensure!(found == expected, "question {n}: ours answers {found:?}, not {expected:?}");
        }
        Ok(())
    }

    fn search<'a>(&'a self, n: usize, images: &'a [&'a ImageManifest]) -> Search<'a> {
        Search { needs: &self.needs[n], client: ours::account(ours::ASKING), images, now: NOW }
    }

    /// Microseconds for one search, on average.
    fn search_us(&self, which: &[usize]) -> f64 {
        let images = self.manifests();
        let began = Instant::now();
        for n in (0..PASSES).flat_map(|_| which) {
            black_box(self.book.find(&self.search(*n, &images), LIMIT, |_| true));
        }
        began.elapsed().as_secs_f64() * 1e6 / (PASSES * which.len()) as f64
    }

    /// Prints how long a search takes on average over all questions, to look at it closer.
    fn alone(&self, rounds: usize) {
        let all: Vec<usize> = (0..QUERIES).collect();
        for _ in 0..rounds {
            println!("{:.1} us a search", self.search_us(&all));
        }
    }

    /// Nanoseconds for one listing by the rule of fit alone, on average over all of them.
    fn admit_ns(&self, which: &[usize]) -> f64 {
        let images = self.manifests();
        let client = ours::account(ours::ASKING);
        let began = Instant::now();
        for n in which {
            for row in &self.listings {
                let listing = Listing {
                    partition: row.partition,
                    host_name: &self.names[row.host],
                    inventory: &self.inventories[row.host],
                    offer: &self.offers[row.host],
                    reach: row.reach,
                    least: row.least,
                    reliability_permille: 1000,
                    listed_at: row.listed_at,
                };
                let _ = black_box(fit(&listing, &self.needs[*n], client, &images, NOW));
            }
        }
        began.elapsed().as_secs_f64() * 1e9 / (which.len() * self.listings.len()) as f64
    }
}

/// ClassAd with this market's ads.
fn start(options: &Options, peer: &ClassAd, market: &Market, queries: &[Query], python: bool) -> Result<Matcher> {
    let folder = PathBuf::from(options.get("data").unwrap_or("target/bench/data"));
    std::fs::create_dir_all(&folder)?;
    let (ads, jobs) = (folder.join("p3.ads"), folder.join("p3.jobs"));
    classad::write_ads(&ads, market)?;
    classad::write_jobs(&jobs, queries)?;
    let matcher = if python { peer.wheel(&ads, &jobs) } else { peer.core(&ads, &jobs) };
    std::fs::remove_file(&ads).context("remove the ads")?;
    matcher
}

fn equal_to_peer(market: &Market, queries: &[Query], core: &mut Matcher, n: usize) -> Result<()> {
    let expected = oracle::answer(market, &queries[n]);
    let found: Vec<_> = core.ask(n)?.answer.iter().map(|(at, t)| (market.partitions[*at].id, *t)).collect();
    ensure!(found == expected, "question {n}: ClassAd answers {found:?}, not {expected:?}");
    Ok(())
}

fn core_us(core: &mut Matcher, which: &[usize]) -> Result<f64> {
    let took = which.iter().map(|n| core.ask(*n).map(|asked| asked.took)).sum::<Result<Duration>>()?;
    Ok(took.as_secs_f64() * 1e6 / which.len() as f64)
}

/// Nanoseconds for one ad through Python, on a smaller market.
fn wheel_ns(options: &Options, peer: &ClassAd, seed: u64, queries: &[Query], which: &[usize]) -> Result<f64> {
    let small = Market::generate(seed, WHEEL_ADS);
    let mut wheel = start(options, peer, &small, queries, true)?;
    for n in which {
        equal_to_peer(&small, queries, &mut wheel, *n)?;
    }
    Ok(core_us(&mut wheel, which)? * 1e3 / WHEEL_ADS as f64)
}
