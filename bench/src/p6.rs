//! P6: from request to first output, from a template, against the same booted; eight at once against one.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::Result;
use serde_json::json;
use std::time::{Duration, Instant};
use sublet_bench::partitions::{Options, Side, options};
use sublet_bench::report::{median, write};

const ROUNDS: usize = 7;
const TARGET: f64 = 0.10;
const AT_ONCE: usize = 8;

fn main() -> Result<()> {
    let options = options("p6", ROUNDS, std::env::args().skip(1))?;
    let (single, single_rounds) = single(&options)?;
    let (many, many_rounds) = at_once(&options)?;
    let report = json!({
        "id": "p6", "ratio": single, "target": TARGET, "rounds": single_rounds,
        "at_once": {"machines": AT_ONCE, "ratio": many, "target": AT_ONCE, "rounds": many_rounds},
        "notes": "`sublet run -- echo`: from the command to its first output, image cached; warm: from a template; cold: the same \
                  program told to make none. At once: partitions of 0.2 cpu, capped, the slowest of eight against one alone",
    });
    write(&options.out, &report)
}

/// One of 1 cpu, booted and from a template, in turns.
fn single(options: &Options) -> Result<(f64, Vec<serde_json::Value>)> {
    let (cold, warm) = (side(options, 1, "1", false)?, side(options, 1, "1", true)?);
    let mut rounds = Vec::new();
    println!("| round | cold s | warm s |\n|---|---|---|");
    for round in 1..=options.rounds {
        let name = format!("round-{round}");
        let (slow, quick) = (cold.first_output(&name)?.as_secs_f64(), warm.first_output(&name)?.as_secs_f64());
        cold.ensure_started(&name, "cold")?;
        warm.ensure_started(&name, "warm")?;
        println!("| {round} | {slow:.3} | {quick:.3} |");
        rounds.push((slow, quick));
    }
    let (cold, warm) = (median(rounds.iter().map(|r| r.0)), median(rounds.iter().map(|r| r.1)));
    let ratio = warm / cold;
    println!(
        "| median | {cold:.3} | {warm:.3} |\n\nratio {ratio:.3} (target <= {TARGET:.2}): {}\n",
        verdict(ratio <= TARGET)
    );
    Ok((ratio, rounds.iter().map(|(cold, warm)| json!({"cold_s": cold, "warm_s": warm})).collect()))
}

/// Eight at once against one, of the same size on the same host, in turns.
fn at_once(options: &Options) -> Result<(f64, Vec<serde_json::Value>)> {
    let warm = side(options, AT_ONCE, "0.2", true)?;
    let mut rounds = Vec::new();
    println!("| round | one s | {AT_ONCE} at once s |\n|---|---|---|");
    for round in 1..=options.rounds {
        let one = warm.first_output(&format!("one-{round}"))?.as_secs_f64();
        let began = Instant::now();
        std::thread::scope(|scope| {
            let name = |n| format!("many-{round}-{n}");
            let runs: Vec<_> = (0..AT_ONCE)
                .map(|n| {
                    scope.spawn({
                        let (warm, name) = (&warm, name(n));
                        move || warm.first_output(&name)
                    })
                })
                .collect();
            let took: Result<Vec<Duration>> = runs.into_iter().map(|run| run.join().expect("no panic")).collect();
            for n in 0..AT_ONCE {
                warm.ensure_started(&name(n), "warm")?;
            }
            let slowest = took?.into_iter().max().unwrap_or(began.elapsed()).as_secs_f64();
            println!("| {round} | {one:.3} | {slowest:.3} |");
            rounds.push((one, slowest));
            Ok::<_, anyhow::Error>(())
        })?;
    }
    let (one, many) = (median(rounds.iter().map(|r| r.0)), median(rounds.iter().map(|r| r.1)));
    let ratio = many / one;
    println!(
        "| median | {one:.3} | {many:.3} |\n\nratio {ratio:.2} (target <= {AT_ONCE}): {}",
        verdict(ratio <= AT_ONCE as f64)
    );
    Ok((ratio, rounds.iter().map(|(one, many)| json!({"one_s": one, "slowest_of_8_s": many})).collect()))
}

fn side(options: &Options, count: usize, cpu: &str, templates: bool) -> Result<Side> {
    let side = Side::start(options, count, cpu, "256MiB", templates)?;
    side.warm_up(templates)?;
    Ok(side)
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}
