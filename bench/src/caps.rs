//! What caps hold: partitions that spin get what they were allocated, their owner keeps the rest, and a
//! neighbour does not feel them.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use sublet_bench::cpu;
use sublet_bench::partitions::{Options, options};
use sublet_bench::report::{head, median, row, write};
use sublet_testing::{Person, World, WorldOptions};

const ROUNDS: usize = 3;
/// The host's control groups alone.
const PROGRAM: &str = "target/bench/caps-groups";
const TARGET: f64 = 0.05;
const P99_TARGET: f64 = 0.10;
const MEASURED_FOR: Duration = Duration::from_secs(20);
/// Millicores of the partitions that spin.
const SPINNING: [i64; 3] = [100, 250, 500];
/// The neighbour's, which works a little at a time.
const NEIGHBOUR: &str = "0.15";
/// Short work, far below what the neighbour may use, 400 times; says the 50th and 99th percentile in milliseconds.
const SHORT_WORK: &str = "import time
took = []
for n in range(400):
    began = time.perf_counter()
    sum(range(12000))
    took.append(time.perf_counter() - began)
    time.sleep(0.05)
took.sort()
print(took[200] * 1000, took[396] * 1000)";

fn main() -> Result<()> {
    let options = options("caps", ROUNDS, std::env::args().skip(1))?;
    let (world, client) = world(&options)?;
    let machines = machines(&world, &client)?;
    let mut rounds = Vec::new();
    head(&[
        "round",
        "0.1",
        "0.25",
        "0.5",
        "owner, of the 1.0 left",
        "neighbour idle p50 / p99 ms",
        "all spin p50 / p99 ms",
    ]);
    for round in 1..=options.rounds {
        let alone = short_work(&client)?;
        let spinning = Spinning::start(&client, SPINNING.map(|cap| format!("spin{cap}")).into())?;
        let among = short_work(&client)?;
        let caps = shares(&machines, MEASURED_FOR);
        let all = Spinning::start(&client, vec!["neighbour".into()])?;
        let owner = owner_share()?;
        all.stop()?;
        spinning.stop()?;
        let shown = caps.iter().map(|share| format!("{share:.3}"));
        let last = [
            format!("{owner:.3}"),
            format!("{:.1} / {:.1}", alone.0, alone.1),
            format!("{:.1} / {:.1}", among.0, among.1),
        ];
        row(&std::iter::once(round.to_string()).chain(shown).chain(last).collect::<Vec<_>>());
        rounds.push(
            json!({"caps": caps, "owner": owner, "alone_ms": [alone.0, alone.1], "among_ms": [among.0, among.1]}),
        );
    }
    let mut report = verdicts(&rounds);
    report["groups"] = groups_alone(&client)?;
    write(&options.out, &report)
}

/// What came out against what was asked.
fn verdicts(rounds: &[Value]) -> Value {
    let middle = |of: &dyn Fn(&Value) -> Option<f64>| median(rounds.iter().filter_map(of));
    let reached = |good| if good { "reached" } else { "missed" };
    println!();
    let mut worst = 0f64;
    for (n, cap) in SPINNING.iter().enumerate() {
        let (share, cap) = (middle(&|r| r["caps"][n].as_f64()), *cap as f64 / 1000.0);
        worst = worst.max((share / cap - 1.0).abs());
        println!("a cap of {cap}: {share:.3} ({:+.1} %)", (share / cap - 1.0) * 100.0);
    }
    println!("caps within {:.0} %: {}", TARGET * 100.0, reached(worst <= TARGET));
    let owner = middle(&|r| r["owner"].as_f64());
    println!(
        "the owner's share with everything spinning: {owner:.3} (>= {:.2}): {}",
        1.0 - TARGET,
        reached(owner >= 1.0 - TARGET)
    );
    let moved = middle(&|r| Some(r["among_ms"][1].as_f64()? / r["alone_ms"][1].as_f64()? - 1.0));
    println!(
        "the neighbour's p99 moved by {:+.1} % (<= {:.0} %): {}",
        moved * 100.0,
        P99_TARGET * 100.0,
        reached(moved <= P99_TARGET)
    );
    json!({
        "id": "caps", "ratio": 1.0 + worst, "target": 1.0 + TARGET, "owner": owner, "p99_moved": moved, "rounds": rounds,
        "notes": "processor time of monitor and guard by the kernel's count, 20 s a round; three partitions spin, so does the owner, \
                  one thread a processor; a fourth partition works for milliseconds at a time, by its own clock",
    })
}

/// The host's own control groups without a machine in them: here, and inside a Debian partition, which has
/// version 2 of them.
fn groups_alone(client: &Person) -> Result<Value> {
    client.run(&["release", "neighbour"])?;
    client.wait_lease("neighbour", "ended")?;
    for cap in SPINNING {
        client.run(&["release", &format!("spin{cap}")])?;
        client.wait_lease(&format!("spin{cap}"), "ended")?;
    }
    client.rent("inside", "debian-12", &["--cpu", "1", "--memory", "512MiB"])?;
    let caps = SPINNING.map(|cap| cap.to_string());
    let words = [&["/root/caps", "20"][..], &caps.each_ref().map(String::as_str)].concat();
    client.run(&["cp", PROGRAM, "inside:/root/caps"])?.ok()?;
    let inside = client.run(&[&["ssh", "inside", "--"][..], &words].concat())?.ok()?.stdout;
    let here = Command::new(PROGRAM).arg("20").args(&caps).output()?;
    ensure!(here.status.success(), "{}", String::from_utf8_lossy(&here.stderr));
    let here = String::from_utf8(here.stdout)?;
    for (name, said) in [("this computer", &here), ("a Debian partition", &inside)] {
        let lines: Vec<&str> = said.lines().collect();
        ensure!(lines.len() == 3, "{said}");
        println!(
            "groups alone, {name}, {}: caps of {} got {}; outside them {}",
            lines[0],
            caps.join(" "),
            lines[1],
            lines[2]
        );
    }
    Ok(json!({"here": here, "inside": inside}))
}

/// Two processors of which one is lent: three partitions that spin and their neighbour.
fn world(options: &Options) -> Result<(World, Person)> {
    let (program, depot) = (options.program.clone(), options.depot.clone());
    let mut world = World::start(WorldOptions { program, depot, partitions: Vec::new() })?;
    let spin = SPINNING.map(|cap| format!("spin{cap}=cpu:{},memory:128MiB", cap as f64 / 1000.0));
    let neighbour = format!("neighbour=cpu:{NEIGHBOUR},memory:512MiB");
    let inside = "inside=cpu:1,memory:512MiB".to_string();
    world.add_host_with("host", &[&spin[..], &[neighbour, inside]].concat(), &["--templates", "0"])?;
    let client = world.person("client")?;
    let rent = |name: &str, os: &str, cpu: &str, memory: &str| {
        client.rent(name, os, &["--cpu", cpu, "--memory", memory]).map(drop)
    };
    rent("neighbour", "debian-12", NEIGHBOUR, "512MiB")?;
    for cap in SPINNING {
        rent(&format!("spin{cap}"), "linux-minimal", &format!("{}", cap as f64 / 1000.0), "128MiB")?;
    }
    Ok((world, client))
}

/// Monitor and guard of each partition that spins.
fn machines(world: &World, client: &Person) -> Result<Vec<Vec<u32>>> {
    let (machines, guards) = (world.machines(), world.guards());
    let of = |cap: &i64| {
        let lease = client.lease(&format!("spin{cap}"))?;
        let partition =
            lease["partition"].as_str().or(lease["partition"]["id"].as_str()).context("a partition")?.to_owned();
        let all: Vec<u32> =
            machines.iter().chain(&guards).filter(|(_, line)| line.contains(&partition)).map(|(pid, _)| *pid).collect();
        ensure!(!all.is_empty(), "no machine of {partition}");
        Ok(all)
    };
    SPINNING.iter().map(of).collect()
}

/// Of a processor, for each.
fn shares(machines: &[Vec<u32>], time: Duration) -> Vec<f64> {
    let now = || machines.iter().map(|all| all.iter().map(|pid| cpu::of(*pid)).sum::<Duration>()).collect::<Vec<_>>();
    let (began, before) = (Instant::now(), now());
    std::thread::sleep(time);
    let wall = began.elapsed().as_secs_f64();
    now().iter().zip(before).map(|(now, before)| (*now - before).as_secs_f64() / wall).collect()
}

/// What a runaway of the owner gets beside everything that is lent, a thread a processor.
fn owner_share() -> Result<f64> {
    let threads = std::thread::available_parallelism()?.get();
    let spin = || Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
    let spinners = (0..threads).map(|_| spin().map(Ended)).collect::<std::io::Result<Vec<_>>>()?;
    let pids: Vec<Vec<u32>> = spinners.iter().map(|spinner| vec![spinner.0.id()]).collect();
    Ok(shares(&pids, MEASURED_FOR).iter().sum())
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// Median and 99th percentile, in milliseconds.
fn short_work(client: &Person) -> Result<(f64, f64)> {
    let said = client.run(&["ssh", "neighbour", "--", "python3", "-c", SHORT_WORK])?.ok()?.stdout;
    let (middle, high) = said.trim().split_once(' ').context("two numbers")?;
    Ok((middle.parse()?, high.parse()?))
}

/// A job that spins in each of these leases.
struct Spinning<'a>(&'a Person, Vec<String>);

impl<'a> Spinning<'a> {
    fn start(client: &'a Person, leases: Vec<String>) -> Result<Self> {
        for lease in &leases {
            client.run(&["job", "submit", lease, "--name", "spin", "--", "while :; do :; done"])?.ok()?;
        }
        std::thread::sleep(Duration::from_secs(3));
        Ok(Self(client, leases))
    }

    fn stop(self) -> Result<()> {
        for lease in &self.1 {
            // The last of that name.
            let job = format!("{lease}/spin");
            self.0.run(&["job", "cancel", &job])?.ok()?;
            self.0.run(&["job", "wait", &job])?;
        }
        Ok(())
    }
}
