//! P8: what a lent partition computes against bare QEMU, and what the agent itself costs meanwhile.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::{Duration, Instant};
use sublet_bench::bare::{Bare, line};
use sublet_bench::cpu;
use sublet_bench::partitions::{Options, Side, options};
use sublet_bench::report::{head, median, row, write};
use sublet_host::guest_link::GuestLink;
use sublet_testing::{Person, World, WorldOptions};

const ROUNDS: usize = 5;
/// Of bare QEMU's speed.
const TARGET: f64 = 0.99;
/// Of one core.
const AGENT_TARGET: f64 = 0.005;
const RENT: [&str; 9] = ["--os", "linux-minimal", "--emulated", "--cpu", "1", "--memory", "256MiB", "--for", "3h"];
/// Digests 96 MiB; says the digest, and by the guest's own clock how long it took.
const WORK: &str = "a=$(cut -d' ' -f1 /proc/uptime); dd if=/dev/zero bs=64k count=1536 2>/dev/null | sha256sum; \
                    echo \"$a $(cut -d' ' -f1 /proc/uptime)\"";
/// Partitions that run, and that are divided but idle, while the agent is watched: a tenth of a processor
/// each is the least, so that two processors are divided into twenty.
const RUNNING: usize = 8;
const IDLE: usize = 12;
const WATCHED_FOR: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let options = options("p8", ROUNDS, std::env::args().skip(1))?;
    let (ratio, rounds) = compute(&options)?;
    let agent = agent(&options)?;
    let notes = "the same kernel, image and QEMU arguments; the peer has no guard, user, cgroup or sandbox around it; timed by the \
                 guest's clock, one at a time. The agent: processor time of its process over a minute in which nobody asks anything";
    let agent = json!({"core_share": agent, "target": AGENT_TARGET, "running": RUNNING, "idle": IDLE});
    write(
        &options.out,
        &json!({"id": "p8", "ratio": ratio, "target": TARGET, "rounds": rounds, "agent": agent, "notes": notes}),
    )
}

fn compute(options: &Options) -> Result<(f64, Vec<serde_json::Value>)> {
    let (program, depot) = (options.program.clone(), options.depot.clone());
    let world = World::start(WorldOptions { program, depot, partitions: vec!["only=cpu:1,memory:256MiB".into()] })?;
    let client = world.person("client")?;
    let bare = Bare::like_ours(&world, &client, &RENT)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let machine = bare.start(&[])?;
    let link = runtime.block_on(machine.link())?;
    client.json(&[&["rent", "--name", "box"][..], &RENT].concat())?;
    let ours = || work(&client.inside("box", WORK)?.ok()?.stdout);
    let peer = || runtime.block_on(peer(&link));
    // Once, so that both have translated what they run.
    ensure!(ours()?.0 == peer()?.0, "equal digests first");

    head(&["round", "ours s", "bare QEMU s"]);
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let (ours, peer) = (ours()?.1, peer()?.1);
        row(&[round.to_string(), format!("{ours:.2}"), format!("{peer:.2}")]);
        rounds.push((ours, peer));
    }
    let (ours, peer) = (median(rounds.iter().map(|r| r.0)), median(rounds.iter().map(|r| r.1)));
    let ratio = peer / ours;
    let verdict = if ratio >= TARGET { "reached" } else { "missed" };
    println!("\nours computes {ratio:.3} of what bare QEMU does (target >= {TARGET}): {verdict}");
    Ok((ratio, rounds.iter().map(|(ours, peer)| json!({"ours_s": ours, "peer_s": peer})).collect()))
}

async fn peer(link: &GuestLink) -> Result<(String, f64)> {
    let mut job = link.exec(&line(WORK)).await?;
    let mut said = Vec::new();
    while let Some(bytes) = job.stdout.next().await? {
        said.extend_from_slice(&bytes);
    }
    job.control.wait().await?;
    work(&String::from_utf8(said)?)
}

/// The digest, and the seconds.
fn work(said: &str) -> Result<(String, f64)> {
    let (digest, times) = said.trim().split_once('\n').context("two lines")?;
    let (from, to) = times.split_once(' ').context("two times")?;
    Ok((digest.into(), to.parse::<f64>()? - from.parse::<f64>()?))
}

/// The share of one core that the agent takes.
fn agent(options: &Options) -> Result<f64> {
    let side = Side::start(options, RUNNING + IDLE, "0.1", "128MiB", true)?;
    side.warm_up(true)?;
    for n in 0..RUNNING {
        side.rent(&format!("box-{n}"))?;
    }
    let agent = side.world.hosts[0].agent_pid().context("the agent runs")?;
    rest(&side.client)?;
    let (began, before) = (Instant::now(), cpu::of(agent));
    std::thread::sleep(WATCHED_FOR);
    let share = (cpu::of(agent) - before).as_secs_f64() / began.elapsed().as_secs_f64();
    ensure!(side.world.machines().len() == RUNNING, "all still run");
    let verdict = if share < AGENT_TARGET { "reached" } else { "missed" };
    println!(
        "\nthe agent takes {:.3} % of a core with {RUNNING} partitions running and {IDLE} idle (target < {:.1} %): {verdict}",
        share * 100.0,
        AGENT_TARGET * 100.0
    );
    Ok(share)
}

/// Until what was started has come to rest.
fn rest(client: &Person) -> Result<()> {
    std::thread::sleep(Duration::from_secs(10));
    client.run(&["lease", "list"])?.ok().map(drop)
}
