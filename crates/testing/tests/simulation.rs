//! Many seeds of the whole market under every kind of fault. `SUBLET_SEEDS=5000` runs so many,
//! `SUBLET_FIRST=7` begins with that one, `SUBLET_SEED=123` runs that one and says what happens.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Instant;
use sublet_testing::simulation::{Failure, HOSTS, LEASES, LEAST, Report, run};

/// What `make test` runs, optimised; without that only a few.
const SEEDS: u64 = if cfg!(debug_assertions) { 4 } else { 1000 };
/// From how many seeds on every fault must have met every state: fewer can't promise it.
const ENOUGH: u64 = 1000;
/// No more failures are looked for.
const MOST_FAILURES: usize = 10;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

struct All {
    report: Report,
    failures: Vec<Failure>,
}

/// Runs seeds on all processors.
fn run_all(first: u64, count: u64) -> All {
    let (next, enough) = (AtomicU64::new(first), AtomicBool::new(false));
    let all = Mutex::new(All { report: Report::default(), failures: Vec::new() });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, SeqCst);
                    if seed >= first + count || enough.load(SeqCst) {
                        return;
                    }
                    let outcome = run(seed, false);
                    let mut all = all.lock().unwrap();
                    match outcome {
                        Ok(report) => all.report.add(&report),
                        Err(failure) => {
                            eprintln!("{failure}");
                            all.failures.push(failure);
                            enough.store(all.failures.len() >= MOST_FAILURES, SeqCst);
                        }
                    }
                }
            });
        }
    });
    all.into_inner().unwrap()
}

#[test]
fn whatever_fails_the_invariants_hold_and_everything_reaches_its_end() {
    if let Some(seed) = number("SUBLET_SEED") {
        let report = run(seed, true).unwrap_or_else(|failure| panic!("{failure}"));
        eprintln!("seed {seed}: {} leases, digest {:016x}\n{}", report.leases, report.digest, report.coverage);
        return;
    }
    let (first, count) = (number("SUBLET_FIRST").unwrap_or(0), number("SUBLET_SEEDS").unwrap_or(SEEDS));
    let began = Instant::now();
    let All { report, failures } = run_all(first, count);
    let took = began.elapsed().as_secs_f64();
    eprintln!(
        "{count} seeds from {first}: {:.1} simulated hours, {HOSTS} hosts each, {} leases, {} steps of the engine, \
         {} s billed, {} faults, {} misused keys refused, {} runs in which a copy was quicker than its host; \
         {took:.1} s, {:.1} seeds/s\n{}",
        report.simulated_us as f64 / 3.6e9,
        report.leases,
        report.turns,
        report.billed,
        report.coverage.total(),
        report.misuses,
        report.stolen,
        count as f64 / took,
        report.coverage,
    );
    let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), lines.join("\n"));
    assert!(report.simulated_us >= LEAST * count as i64 && report.leases >= LEASES as u64 * count);
    if count >= ENOUGH {
        let missing = report.coverage.missing();
        assert!(missing.is_empty(), "what never met is not tested: {missing:#?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run_and_another_one_another() {
    let digest = |seed| run(seed, false).unwrap_or_else(|failure| panic!("{failure}")).digest;
    let digests: Vec<u64> = (0..2).map(digest).collect();
    assert_eq!(digests, (0..2).map(digest).collect::<Vec<_>>());
    assert_ne!(digests[0], digests[1]);
}
