//! P5: from request to first output, cold, against bare QEMU with the same kernel and options.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};
use sublet_bench::bare::{Bare, line};
use sublet_bench::partitions::options;
use sublet_bench::report::{median, write};
use sublet_testing::{Person, World, WorldOptions};

const ROUNDS: usize = 7;
const TARGET: f64 = 1.10;
const WORD: &str = "out";
const RENT: [&str; 9] = ["--os", "linux-minimal", "--emulated", "--cpu", "1", "--memory", "256MiB", "--for", "10m"];

fn main() -> Result<()> {
    let options = options("p5", ROUNDS, std::env::args().skip(1))?;
    let out = options.out.clone();
    let world = World::start(WorldOptions {
        program: options.program,
        depot: options.depot,
        partitions: vec!["only=cpu:1,memory:512MiB".into()],
    })?;
    let client = world.person("client")?;
    let bare = Bare::like_ours(&world, &client, &RENT)?;

    let mut rounds = Vec::new();
    println!("| round | ours s | bare QEMU s |\n|---|---|---|");
    for round in 1..=options.rounds {
        let (ours, peer) = (ours(&client, round)?, peer(&bare)?);
        println!("| {round} | {:.3} | {:.3} |", ours.as_secs_f64(), peer.as_secs_f64());
        rounds.push((ours.as_secs_f64(), peer.as_secs_f64()));
    }
    let (ours, peer) = (median(rounds.iter().map(|r| r.0)), median(rounds.iter().map(|r| r.1)));
    let ratio = ours / peer;
    println!("| median | {ours:.3} | {peer:.3} |\n");
    println!("ratio {ratio:.3} (target <= {TARGET:.2}): {}", if ratio <= TARGET { "reached" } else { "missed" });
    let rounds: Vec<_> = rounds.iter().map(|(ours, peer)| json!({"ours_s": ours, "peer_s": peer})).collect();
    let notes = "first output of a job, image cached; bare QEMU has the same arguments, without guard, user, cgroup, market, SSH";
    let report = json!({
        "id": "p5", "ratio": ratio, "target": TARGET, "rounds": rounds,
        "ours": {"median_s": ours}, "peer": {"name": "bare QEMU", "median_s": peer}, "notes": notes,
    });
    write(&out, &report)
}

/// From the command to the first bytes of its job.
fn ours(client: &Person, round: usize) -> Result<Duration> {
    let name = format!("round-{round}");
    let args = [&["run", "--name", &name][..], &RENT, &["--", "echo", WORD]].concat();
    let began = Instant::now();
    let mut child = client.command(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut first = [0; WORD.len()];
    child.stdout.as_mut().context("piped")?.read_exact(&mut first).context("the job gave no output")?;
    let took = began.elapsed();
    ensure!(first == *WORD.as_bytes(), "equal answers first: {first:?}");
    ensure!(child.wait()?.success());
    client.wait_lease(&name, "ended")?;
    Ok(took)
}

/// From starting the machine to the first bytes of its job.
fn peer(bare: &Bare) -> Result<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let machine = bare.start(&[])?;
    runtime.block_on(async {
        let link = machine.link().await?;
        let mut job = link.exec(&line(&format!("echo {WORD}"))).await?;
        let first = job.stdout.next().await?.context("the job gave no output")?;
        ensure!(first.starts_with(WORD.as_bytes()));
        Ok(began.elapsed())
    })
}
