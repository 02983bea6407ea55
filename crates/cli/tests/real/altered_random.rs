//! Random sequences on real partitions: whatever is rented, given back and altered on however
//! divided a host, and whenever its agent dies, each machine has exactly what its lease says, and in
//! the end all have what is desired of them.
//!
//! `SUBLET_SEQUENCES=100` runs so many, `SUBLET_SEQUENCE=7` that one alone.

use crate::altered::{Has, agree};
use crate::fixture::options;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::time::Instant;
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World};

/// What the suite runs; `make soak` runs more.
const SEQUENCES: u64 = 10;
/// So many things happen in each.
const EVENTS: u64 = 3;
/// Less takes too long to boot where everything is emulated.
const LEAST_CPU: i64 = 300;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn within(&mut self, least: i64, most: i64) -> i64 {
        least + self.below((most - least).max(0).unsigned_abs() + 1) as i64
    }
}

/// What is desired of each partition: cpu and memory.
type Desired = BTreeMap<String, (i64, i64)>;

/// The owner divides the computer anew, into two or three partitions.
fn divide(world: &World, random: &mut Random) -> Result<Desired> {
    let owner = world.owner("host-a")?;
    let all = std::thread::available_parallelism()?.get() as i64 * 1000;
    let count = random.within(2, 3);
    let mut desired = Desired::new();
    let mut words: Vec<String> = Vec::new();
    for n in 1..=count {
        let (cpu, memory) = (random.within(LEAST_CPU, all / count), 64 * random.within(2, 5));
        let most = random.within(cpu, all);
        words.extend([
            "--partition".into(),
            format!("p{n}=cpu:100m..{cpu}m..{most}m,memory:64MiB..{memory}MiB..768MiB"),
        ]);
        desired.insert(format!("p{n}"), (cpu, memory));
    }
    let state = world.hosts[0].state.to_string_lossy().into_owned();
    let lend = ["host", "lend", "--state", &state, "--keep", "0cpu,1GiB", "--emulated"];
    owner.run(&lend.into_iter().chain(words.iter().map(String::as_str)).collect::<Vec<_>>())?.ok()?;
    eventually("the computer is divided so", PATIENCE, || {
        let has = agree(world)?;
        let now = |all: &BTreeMap<String, Has>| all.iter().map(|(n, has)| (n.clone(), (has.cpu, has.memory))).collect();
        Ok((desired == now(&has)).then_some(()))
    })?;
    Ok(desired)
}

/// The leases that run, by partition: name, and what was agreed.
type Leases = BTreeMap<String, (String, Has)>;

fn rent(world: &World, alice: &Person, random: &mut Random, name: &str, leases: &mut Leases) -> Result<()> {
    let all = std::thread::available_parallelism()?.get() as i64 * 1000;
    let cpu = format!("{}m", random.within(LEAST_CPU, all));
    let memory = format!("{}MiB", random.within(96, 512));
    let base = ["rent", "--os", "linux-minimal", "--emulated", "--no-wait", "--name", name, "--cpu", &cpu];
    let before = agree(world)?;
    let ran = alice.run(&[&base[..], &["--memory", &memory]].concat())?;
    println!("  rent {cpu} {memory}: exit {}", ran.code);
    if ran.code == 6 {
        ensure!(agree(world)? == before, "a request that nothing fits altered something");
        return Ok(());
    }
    ran.ok()?;
    let lease = alice.wait_lease(name, "active")?;
    let number = |field: &str| lease["resources"][field].as_i64().context("an amount");
    let has = Has {
        generation: lease["generation"].as_i64().context("a generation")?,
        revision: 0,
        cpu: number("cpu")?,
        memory: number("memory")?,
        vcpus: lease["vcpus"].as_i64().context("vcpus")?,
    };
    let partition = lease["partition_name"].as_str().context("a partition")?.to_owned();
    ensure!(leases.insert(partition, (name.to_owned(), has)).is_none(), "held by two");
    Ok(())
}

fn release(alice: &Person, random: &mut Random, leases: &mut Leases) -> Result<()> {
    let at = random.below(leases.len() as u64) as usize;
    let Some(partition) = leases.keys().nth(at).cloned() else { return Ok(()) };
    let (name, _) = leases.remove(&partition).context("it runs")?;
    println!("  release {name} of {partition}");
    alice.run(&["release", &name])?.ok()?;
    alice.wait_lease(&name, "ended").map(drop)
}

/// The owner alters some partition, held or not.
fn alter(world: &World, random: &mut Random, desired: &Desired, leases: &Leases) -> Result<()> {
    let owner = world.owner("host-a")?;
    let at = random.below(desired.len() as u64) as usize;
    let name = desired.keys().nth(at).context("a partition")?;
    let host = owner.json(&["host", "show", "host-a"])?;
    let all = host["partitions"].as_array().context("partitions")?;
    let row = all.iter().find(|p| p["name"] == name.as_str()).context("the partition")?;
    let id = row["id"].as_str().context("an id")?;
    let body = format!(r#"{{"resources":{{"cpu":{},"memory":{},"disk":0}}}}"#, random.within(100, 1500), 128);
    let (status, said) = owner.curl("PUT", &format!("/v1/partitions/{id}/allocation"), Some(&body))?;
    println!("  alter {name}: {status}");
    ensure!(!leases.contains_key(name) || said.contains("urn:sublet:problem:locked"), "{status} {said}");
    Ok(())
}

/// Host, market and the machines themselves agree, and nothing is above what is lent.
fn check(world: &World, leases: &Leases) -> Result<()> {
    let has = agree(world)?;
    let all = std::thread::available_parallelism()?.get() as i64 * 1000;
    ensure!(has.values().map(|has| has.cpu).sum::<i64>() <= all, "{has:?}");
    for (partition, (_, agreed)) in leases {
        ensure!(has[partition] == *agreed, "{partition} has {:?} but {agreed:?} was agreed", has[partition]);
    }
    let machines = world.machines();
    ensure!(machines.len() == leases.len(), "{} machines for {} leases", machines.len(), leases.len());
    let mut started: Vec<(i64, i64)> = machines.iter().filter_map(|(_, line)| size(line)).collect();
    let mut agreed: Vec<(i64, i64)> = leases.values().map(|(_, has)| (has.memory, has.vcpus)).collect();
    started.sort_unstable();
    agreed.sort_unstable();
    ensure!(started == agreed, "{started:?} runs, {agreed:?} was agreed");
    Ok(())
}

/// Memory and vcpus of a machine by its own words.
fn size(line: &str) -> Option<(i64, i64)> {
    let memory = line.split(" size=").nth(1)?.split('M').next()?.parse().ok()?;
    let vcpus = line.split(" cpus=").nth(1)?.split(',').next()?.parse().ok()?;
    Some((memory, vcpus))
}

fn sequence(world: &mut World, alice: &Person, seed: u64) -> Result<()> {
    let mut random = Random(seed);
    let desired = divide(world, &mut random)?;
    let mut leases = Leases::new();
    println!("sequence {seed}: {desired:?}");
    for n in 0..EVENTS {
        match random.below(8) {
            0..4 => rent(world, alice, &mut random, &format!("box-{seed}-{n}"), &mut leases)?,
            4 | 5 => release(alice, &mut random, &mut leases)?,
            6 => alter(world, &mut random, &desired, &leases)?,
            _ => {
                println!("  kill -9 of the agent");
                world.kill_agent(0)?;
                world.start_agent(0)?;
            }
        }
        check(world, &leases)?;
    }
    while !leases.is_empty() {
        release(alice, &mut random, &mut leases)?;
    }
    let now = |has: BTreeMap<String, Has>| has.into_iter().map(|(name, has)| (name, (has.cpu, has.memory))).collect();
    eventually("all return to what is desired", PATIENCE, || Ok((desired == now(agree(world)?)).then_some(())))?;
    ensure!(world.machines().is_empty() && world.guards().is_empty());
    Ok(())
}

fn number(name: &str) -> Result<Option<u64>> {
    std::env::var(name).ok().map(|text| text.parse().with_context(|| format!("{name}={text}"))).transpose()
}

fn run(count: u64) -> Result<()> {
    let mut world = World::start(options(&[])?)?;
    world.add_host("host-a", &["p1=cpu:500m,memory:128MiB".to_owned()])?;
    let alice = world.person("alice")?;
    let seeds = match number("SUBLET_SEQUENCE")? {
        Some(seed) => seed..seed + 1,
        None => 0..number("SUBLET_SEQUENCES")?.unwrap_or(count),
    };
    for seed in seeds {
        let began = Instant::now();
        sequence(&mut world, &alice, seed).with_context(|| format!("it was SUBLET_SEQUENCE={seed}"))?;
        println!("sequence {seed} took {:.1?}", began.elapsed());
    }
    Ok(())
}

#[test]
fn whatever_happens_each_machine_has_what_its_lease_says() -> Result<()> {
    run(SEQUENCES)
}

#[test]
#[ignore = "long: `make soak` runs it"]
fn whatever_happens_each_machine_has_what_its_lease_says_for_long() -> Result<()> {
    run(10 * SEQUENCES)
}
