//! Made to measure: idle partitions give way for one that is asked for, in an order that no crash
//! disturbs; nothing alters what is held; released, all return to what is desired of them.

use crate::fixture::options;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World};

/// Four idle partitions that take a quarter of this computer each.
const NAMES: [&str; 4] = ["p1", "p2", "p3", "p4"];

/// A quarter of this computer in millicores: on four threads a whole one.
fn quarter() -> Result<i64> {
    let threads = std::thread::available_parallelism()?.get() as i64;
    Ok(threads * 1000 / 4)
}

/// A host of four elastic partitions, all of it lent.
fn world() -> Result<World> {
    let quarter = quarter()?;
    let bounds = format!("cpu:100m..{quarter}m..{}m,memory:64MiB..256MiB..1GiB", quarter * 4);
    let mut world = World::start(options(&[])?)?;
    world.add_host("host-a", &NAMES.map(|name| format!("{name}={bounds}")))?;
    Ok(world)
}

/// Three quarters of the computer.
fn three_quarters() -> Result<Vec<String>> {
    let cpu = format!("{}m", quarter()? * 3);
    Ok(["--cpu", &cpu, "--memory", "256MiB"].map(String::from).to_vec())
}

fn words(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// The newest allocation of each partition, by name, as one database has it.
pub type Allocations = BTreeMap<String, Has>;

/// One allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Has {
    pub generation: i64,
    pub revision: i64,
    pub cpu: i64,
    pub memory: i64,
    pub vcpus: i64,
}

fn query(database: &Path, sql: &str) -> Result<Vec<Vec<String>>> {
    let out = Command::new("sqlite3").args(["-cmd", ".timeout 5000"]).arg(database).arg(sql).output()?;
    ensure!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.lines().map(|line| line.split('|').map(String::from).collect()).collect())
}

/// What the market says each partition has.
pub fn in_market(world: &World) -> Result<Allocations> {
    let host = world.operator().json(&["host", "show", "host-a"])?;
    let all = host["partitions"].as_array().context("a host shows its partitions")?;
    let one = |partition: &Value| {
        let has = &partition["allocation"];
        let number = |value: &Value| value.as_i64().with_context(|| has.to_string());
        let has = Has {
            generation: number(&has["generation"])?,
            revision: number(&has["revision"])?,
            cpu: number(&has["resources"]["cpu"])?,
            memory: number(&has["resources"]["memory"])?,
            vcpus: number(&has["vcpus"])?,
        };
        Ok((partition["name"].as_str().context("a name")?.to_owned(), has))
    };
    all.iter().map(one).collect()
}

/// What the host has durably applied, oldest first.
fn applied(world: &World) -> Result<Vec<(String, Has)>> {
    let names = world.sqlite3("select id, name from partitions where retired_at is null")?.ok()?.stdout;
    let names: BTreeMap<&str, &str> = names.lines().filter_map(|line| line.split_once('|')).collect();
    let sql =
        "select partition, generation, revision, cpu_millicores, memory_mib, vcpus from allocations order by rowid";
    let rows = query(&world.hosts[0].state.join("host.sqlite"), sql)?;
    let one = |row: Vec<String>| {
        // What the owner divided away has no name any more.
        let name = names.get(row[0].as_str())?.to_string();
        let number = |at: usize| row[at].parse::<i64>();
        let has = || {
            let [generation, revision, cpu, memory, vcpus] =
                [number(1)?, number(2)?, number(3)?, number(4)?, number(5)?];
            Ok(Has { generation, revision, cpu, memory, vcpus })
        };
        Some(has().map(|has| (name, has)))
    };
    rows.into_iter().filter_map(one).collect()
}

/// The same, the newest of each.
pub fn on_host(world: &World) -> Result<Allocations> {
    Ok(applied(world)?.into_iter().collect())
}

/// Waits until the host has applied what the market says.
pub fn agree(world: &World) -> Result<Allocations> {
    eventually("host and market have the same", PATIENCE, || {
        let market = in_market(world)?;
        Ok((on_host(world)? == market).then_some(market))
    })
}

fn cpus(all: &Allocations) -> Vec<i64> {
    all.values().map(|has| has.cpu).collect()
}

/// What the machine of the only lease was started with.
fn machine(world: &World) -> Result<Vec<String>> {
    let line = world.machines().first().context("it runs")?.1.clone();
    let all: Vec<&str> = line.split_whitespace().collect();
    Ok(all.windows(2).filter(|pair| ["-m", "-smp"].contains(&pair[0])).map(|pair| pair[1].to_owned()).collect())
}

#[test]
fn idle_partitions_give_way_for_one_that_is_frozen_while_it_is_held() -> Result<()> {
    let world = world()?;
    let (alice, bob, owner) = (world.person("alice")?, world.person("bob")?, world.owner("host-a")?);
    let quarter = quarter()?;
    let before = agree(&world)?;
    let known = applied(&world)?.len();
    ensure!(cpus(&before) == [quarter; 4], "{before:?}");
    let wish = three_quarters()?;

    // Foreseen first: all four change, three of them give, and nothing is taken.
    let base = ["rent", "--dry-run", "--os", "linux-minimal", "--emulated"];
    let told = alice.run(&[&base[..], &words(&wish)].concat())?.ok()?.stdout;
    println!("{told}");
    let table = told.lines().filter(|line| line.contains("host-a") && NAMES.iter().any(|n| line.starts_with(n)));
    ensure!(table.count() == 4, "{told}");
    ensure!(agree(&world)? == before, "a dry run took something");

    let lease = alice.rent("box", "linux-minimal", &words(&wish))?;
    let name = lease["partition_name"].as_str().context("a lease names its partition")?;
    let held = agree(&world)?;
    println!("{before:?}\n{held:?}");
    ensure!(held[name].cpu == quarter * 3 && held[name].generation == 1, "{held:?}");
    ensure!(cpus(&held).iter().sum::<i64>() <= quarter * 4, "{held:?}");
    let order: Vec<(String, Has)> = applied(&world)?.into_iter().skip(known).collect();
    let (last, shrunk) = order.split_last().context("something was applied")?;
    ensure!(last.0 == name && last.1 == held[name], "the chosen one is applied last: {order:?}");
    ensure!(!shrunk.is_empty() && shrunk.iter().all(|(n, has)| has.cpu < quarter && n != name), "{order:?}");
    let vcpus = (quarter * 3 + 999) / 1000;
    let inside = alice.inside("box", "nproc; grep -E 'cpu_milli|memory_mib' /run/sublet/identity")?.ok()?.stdout;
    ensure!(inside == format!("{vcpus}\ncpu_millicores={}\nmemory_mib=256\n", quarter * 3), "{inside}");

    let (was, started) = (held[name].clone(), machine(&world)?);
    nobody_alters(&world, &owner, &bob, name, lease["partition"].as_str().context("an id")?)?;
    ensure!(on_host(&world)?[name] == was && in_market(&world)?[name] == was && machine(&world)? == started);
    ensure!(alice.inside("box", "nproc")?.ok()?.stdout == format!("{vcpus}\n"));

    alice.run(&["release", "box"])?.ok()?;
    alice.wait_lease("box", "ended")?;
    eventually("all return to what is desired", PATIENCE, || {
        Ok((cpus(&on_host(&world)?) == [quarter; 4] && cpus(&in_market(&world)?) == [quarter; 4]).then_some(()))
    })
}

/// Everybody who might tries to alter what is held. What is not held may change.
fn nobody_alters(world: &World, owner: &Person, bob: &Person, name: &str, id: &str) -> Result<()> {
    let quarter = quarter()?;
    let path = format!("/v1/partitions/{id}/allocation");
    for person in [owner, &world.operator()] {
        for cpu in [100, quarter, quarter * 4] {
            let body = format!(r#"{{"resources":{{"cpu":{cpu},"memory":256,"disk":0}}}}"#);
            let (status, said) = person.curl("PUT", &path, Some(&body))?;
            ensure!((status == 423 || status == 409) && said.contains("urn:sublet:problem:locked"), "{status} {said}");
        }
    }
    let state = world.hosts[0].state.to_string_lossy().into_owned();
    let lend = ["host", "lend", "--state", &state, "--keep", "0cpu,1GiB", "--emulated"];
    // Other bounds, and no such partition at all.
    for others in [vec![format!("{name}=cpu:100m,memory:128MiB")], vec!["other=cpu:100m,memory:64MiB".to_owned()]] {
        let said = others.iter().flat_map(|other| ["--partition", other.as_str()]);
        let said = owner.run(&lend.into_iter().chain(said).collect::<Vec<_>>())?;
        ensure!(said.code != 0 && said.stderr.contains(&format!("holds partition {name}")), "{said:?}");
    }
    // Another grant: what is left fits, more does not.
    let greedy = format!("{}m", quarter + 1);
    let asked = ["rent", "--os", "linux-minimal", "--emulated", "--memory", "128MiB", "--no-wait", "--name", "other"];
    let refused = bob.run(&[&asked[..], &["--cpu", &greedy]].concat())?;
    ensure!(refused.code == 6, "{refused:?}");
    let granted = bob.json(&[&asked[..], &["--cpu", "100m"]].concat())?;
    ensure!(granted["partition_name"] != name, "{granted}");
    bob.run(&["release", "other"])?.ok()?;
    for database in [world.database(), world.hosts[0].state.join("host.sqlite")] {
        let newer = format!(
            "insert into allocations select partition, generation, revision + 1, 100, 128, 0, 1{} from allocations \
             where partition = '{id}' order by generation desc, revision desc limit 1",
            if database.ends_with("host.sqlite") { "" } else { ", at" }
        );
        for sql in [&newer, "update allocations set cpu_millicores = 100", "delete from allocations"] {
            ensure!(query(&database, sql).is_err(), "{}: {sql}", database.display());
        }
    }
    Ok(())
}

/// When a file was written last, if it is there.
fn written(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}

/// `kill -9` of the agent as soon as it records something new, or a little later.
fn kill_when_it_writes(world: &mut World, since: Option<SystemTime>, later: Duration) -> Result<()> {
    let wal = world.hosts[0].state.join("host.sqlite-wal");
    let deadline = Instant::now() + PATIENCE;
    while written(&wal) == since {
        ensure!(Instant::now() < deadline, "the agent records nothing");
        std::thread::sleep(Duration::from_micros(100));
    }
    std::thread::sleep(later);
    world.kill_agent(0)
}

#[test]
fn an_agent_killed_between_shrinking_and_starting_goes_on_where_it_was() -> Result<()> {
    let mut world = world()?;
    let alice = world.person("alice")?;
    let quarter = quarter()?;
    let wish = three_quarters()?;
    let mut between = 0;
    for round in 0..8 {
        let name = format!("box-{round}");
        agree(&world)?;
        let known = applied(&world)?.len();
        let since = written(&world.hosts[0].state.join("host.sqlite-wal"));
        let base = ["rent", "--os", "linux-minimal", "--emulated", "--no-wait", "--name", &name];
        let mut renting =
            alice.command(&[&base[..], &words(&wish)].concat()).stdout(std::process::Stdio::null()).spawn()?;
        kill_when_it_writes(&mut world, since, Duration::from_millis(4 * round))?;
        ensure!(renting.wait()?.success());
        // Nothing runs that was not recorded, and nothing was recorded out of order.
        let midway: Vec<(String, Has)> = applied(&world)?.into_iter().skip(known).collect();
        let (runs, machines) = (query(&world.hosts[0].state.join("host.sqlite"), RUNS)?, world.machines());
        println!("killed after {} of its records, {} lives, {} machines", midway.len(), runs.len(), machines.len());
        ensure!(midway.iter().rev().skip(1).all(|(_, has)| has.cpu < quarter), "{midway:?}");
        ensure!(machines.is_empty() || !runs.is_empty(), "a machine that is not recorded: {machines:?}");
        between += usize::from(!midway.is_empty() && machines.is_empty());
        let half: Allocations = on_host(&world)?;
        world.start_agent(0)?;
        let lease = alice.wait_lease(&name, "active")?;
        let chosen = lease["partition_name"].as_str().context("a name")?;
        let held = agree(&world)?;
        ensure!(held[chosen].cpu == quarter * 3, "{half:?} became {held:?}");
        ensure!(cpus(&held).iter().sum::<i64>() <= quarter * 4, "{held:?}");
        ensure!(world.machines().len() == 1, "{:?}", world.machines());
        alice.run(&["release", &name])?.ok()?;
        alice.wait_lease(&name, "ended")?;
        eventually("all return to what is desired", PATIENCE, || {
            Ok((cpus(&on_host(&world)?) == [quarter; 4]).then_some(()))
        })?;
        if between >= 3 {
            return Ok(());
        }
    }
    anyhow::bail!("it was never killed between the two, but {between} times")
}

/// The lives that the host began and that are not over.
const RUNS: &str = "select lease from runs where stage < 4";
