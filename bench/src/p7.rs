//! P7: physical memory of idle partitions that were started from one template, against booted ones.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::Duration;
use sublet_bench::partitions::{Options, Side, options};
use sublet_bench::report::write;

const PARTITIONS: usize = 16;
const TARGET: f64 = 0.20;
/// A guest has come to rest after so long.
const REST: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let options = options("p7", 1, std::env::args().skip(1))?;
    let cold = measure(&options, false)?;
    let warm = measure(&options, true)?;
    let ratio = warm / cold;
    println!("| {PARTITIONS} idle partitions of 256 MiB | MiB each (Pss of monitor and guard) |\n|---|---|");
    println!("| booted | {cold:.1} |\n| from one template | {warm:.1} |\n");
    println!("ratio {ratio:.3} (target <= {TARGET:.2}): {}", if ratio <= TARGET { "reached" } else { "missed" });
    let notes = "sum of Pss in /proc/<pid>/smaps_rollup over all monitors and guards, divided by the partitions: what clones \
                 share of their template counts once; ready, nothing run in them";
    let report = json!({
        "id": "p7", "ratio": ratio, "target": TARGET,
        "rounds": [{"cold_mib": cold, "warm_mib": warm, "partitions": PARTITIONS}], "notes": notes,
    });
    write(&options.out, &report)
}

/// MiB that each takes.
fn measure(options: &Options, templates: bool) -> Result<f64> {
    let side = Side::start(options, PARTITIONS, "0.1", "256MiB", templates)?;
    side.warm_up(templates)?;
    for n in 0..PARTITIONS {
        let name = format!("idle-{n}");
        side.rent(&name)?;
        side.ensure_started(&name, if templates { "warm" } else { "cold" })?;
    }
    std::thread::sleep(REST);
    let processes: Vec<u32> = side.world.machines().iter().chain(&side.world.guards()).map(|(pid, _)| *pid).collect();
    ensure!(processes.len() == 2 * PARTITIONS, "{processes:?}");
    let kib = processes.into_iter().map(pss_kib).sum::<Result<u64>>()?;
    Ok(kib as f64 / 1024.0 / PARTITIONS as f64)
}

fn pss_kib(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("a Pss in smaps_rollup")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
