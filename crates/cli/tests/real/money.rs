//! Money on real partitions: what failed costs nothing, what was killed costs what was receipted, no clock
//! of anybody's changes a bill, and nothing runs on unpaid.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use sublet_testing::process::signal;
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World};

/// Where Debian and Ubuntu put it.
const FAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];

/// The newest line of somebody's statement, once it is settled.
fn settled(person: &Person) -> Result<Value> {
    eventually("the lease is settled", PATIENCE, || {
        let line = person.json(&["statement"])?["lines"][0].clone();
        Ok((line["settled"] == true).then_some(line))
    })
}

pub fn whole(line: &Value, member: &str) -> Result<i64> {
    line["charge"][member].as_i64().with_context(|| format!("{member} of {line}"))
}

/// The exported document holds, for another program too, and comes to what the lines say.
pub fn verifies(world: &World, person: &Person) -> Result<()> {
    let file = world.dir().join("statement.json");
    let name = file.to_string_lossy().into_owned();
    let _ = fs::remove_file(&file);
    person.run(&["statement", "--export", &name])?.ok()?;
    let lines = person.json(&["statement"])?["lines"].clone();
    let totals = lines.as_array().context("lines")?.iter().map(|line| whole(line, "total"));
    let total = totals.sum::<Result<i64>>()?;
    let key = person.json(&["whoami"])?["market_key"].as_str().context("the market's key")?.to_string();
    let ours = person.run(&["verify", &name, "--market-key", &key, "-o", "json"])?.ok()?.stdout;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/verify/sublet_verify.py");
    let theirs = std::process::Command::new("python3").args([script, "--market-key", &key, &name]).output()?;
    ensure!(ours.as_bytes() == theirs.stdout, "{ours} {}", String::from_utf8_lossy(&theirs.stderr));
    let said: Value = serde_json::from_str(&ours)?;
    ensure!(said["holds"] == true && said["amount"] == total, "{said} {lines}");
    Ok(())
}

#[test]
fn a_boot_that_fails_costs_nothing() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let rent = ["rent", "--name", "box", "--os", "linux-minimal", "--emulated", "--for", "1h"];
    let mut client = alice.command(&[&rent[..], &SMALL[..]].concat()).stdin(Stdio::null()).spawn()?;
    let machine = eventually("its machine is started", PATIENCE, || Ok(world.machines().first().map(|m| m.0)))?;
    signal(machine, "KILL");
    ensure!(!client.wait()?.success(), "whoever waits for it is told");
    let ended = alice.wait_lease("box", "ended")?;
    let line = settled(&alice)?;
    ensure!(ended["state"]["reason"] == "boot_failed", "{ended}");
    ensure!(whole(&line, "total")? == 0 && whole(&line, "billed_seconds")? == 0, "set-up included: {line}");
    verifies(&world, &alice)
}

#[test]
fn a_killed_machine_is_billed_to_its_last_receipt() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let ready = Instant::now();
    std::thread::sleep(Duration::from_secs(7));
    signal(world.machines()[0].0, "KILL");
    let lived = ready.elapsed().as_secs() as i64;
    alice.wait_lease("box", "ended")?;
    let line = settled(&alice)?;
    let billed = whole(&line, "billed_seconds")?;
    ensure!(billed == whole(&line, "receipted_seconds")? && (lived..=lived + 5).contains(&billed), "{lived} s: {line}");
    verifies(&world, &alice)
}

/// A wall clock that a test turns: the processes started with it read it anew each time.
struct Wall(std::path::PathBuf);

impl Wall {
    fn new(path: &Path) -> Result<Self> {
        let wall = Self(path.to_owned());
        wall.turn("+0")?;
        Ok(wall)
    }

    /// `+2h`, `-2h` or `+0`, against the true time.
    fn turn(&self, offset: &str) -> Result<()> {
        // Never half-written: whoever reads it meanwhile reads the one before.
        let draft = self.0.with_extension("draft");
        fs::write(&draft, format!("{offset}\n"))?;
        Ok(fs::rename(draft, &self.0)?)
    }

    /// Only the wall clock: what counts time is no setting of anybody's.
    fn environment(&self) -> Result<Vec<(String, String)>> {
        let library = FAKETIME.iter().find(|path| Path::new(path).exists());
        let library = library.context("libfaketime is not there: scripts/setup installs it")?;
        let file = self.0.to_string_lossy();
        let all = [
            ("LD_PRELOAD", *library),
            ("FAKETIME_TIMESTAMP_FILE", &*file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        Ok(all.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }
}

#[test]
fn wall_clocks_that_are_turned_by_two_hours_change_no_bill() -> Result<()> {
    let mut world = world()?;
    let (of_market, of_host) =
        (Wall::new(&world.dir().join("market.wall"))?, Wall::new(&world.dir().join("host.wall"))?);
    world.kill_market()?;
    world.kill_agent(0)?;
    world.market_environment = of_market.environment()?;
    world.host_environment = of_host.environment()?;
    world.start_market()?;
    world.start_agent(0)?;
    let operator = world.operator();
    eventually("the host is back", PATIENCE, || {
        Ok((operator.json(&["host", "show", "host-a"])?["status"] == "online").then_some(()))
    })?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let ready = Instant::now();
    let billed = || whole(&alice.json(&["statement"])?["lines"][0].clone(), "billed_seconds");
    for (wall, whose) in [(&of_market, "market"), (&of_host, "host")] {
        for offset in ["+2h", "-2h", "+0"] {
            wall.turn(offset)?;
            std::thread::sleep(Duration::from_secs(6));
            let lease = alice.lease("box")?;
            ensure!(lease["state"]["state"] == "active", "{whose} at {offset}: {lease}");
            let (so_far, at_most) = (billed()?, ready.elapsed().as_secs() as i64 + 3);
            ensure!((0..=at_most).contains(&so_far), "{whose} at {offset}: {so_far} s billed of {at_most}");
        }
    }
    // Both off, in different ways, at the end.
    of_market.turn("-2h")?;
    of_host.turn("+2h")?;
    let at_least = ready.elapsed().as_secs() as i64;
    alice.run(&["release", "box"])?.ok()?;
    let ended = alice.wait_lease("box", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");
    let line = settled(&alice)?;
    let (billed, at_most) = (whole(&line, "billed_seconds")?, ready.elapsed().as_secs() as i64 + 3);
    ensure!((at_least..=at_most).contains(&billed), "{at_least}..={at_most}: {line}");
    verifies(&world, &alice)
}

/// A market of minutes: a lease is never paid for less ahead, so the end comes within a test.
#[test]
fn a_partition_stops_where_its_money_ends() -> Result<()> {
    let mut world = world()?;
    world.kill_market()?;
    let settings = world.market_dir().join("market.toml");
    let text = fs::read_to_string(&settings)?;
    fs::write(&settings, format!("{text}chunk_seconds = 60\n"))?;
    world.start_market()?;
    let operator = world.operator();
    eventually("the host is back", PATIENCE, || {
        Ok((operator.json(&["host", "show", "host-a"])?["status"] == "online").then_some(()))
    })?;
    let alice = world.newcomer("alice")?;
    // Its partitions are of 1 cpu and 768 MiB, 6.3 an hour, the set-up 0.0001: 0.1401 lasts for 80 seconds.
    operator.run(&["account", "deposit", "alice", "0.1401", "--ref", "order 7"])?.ok()?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let ready = Instant::now();
    let lease = alice.lease("box")?;
    ensure!(lease["state"]["state"] == "active" && lease["paid"] == 80, "{lease}");
    // The market sees nothing of it at the end: host and guard stop it by themselves. Cut for a minute,
    // it would give the host up as lost.
    std::thread::sleep(Duration::from_secs(45));
    world.relay.cut();
    eventually("its machine is gone", Duration::from_secs(150), || Ok(world.machines().is_empty().then_some(())))?;
    let ran = ready.elapsed().as_secs();
    ensure!((70..=95).contains(&ran), "it ran for {ran} s");
    world.relay.mend();
    let ended = alice.wait_lease("box", "ended")?;
    ensure!(ended["state"]["reason"] == "out_of_funds", "{ended}");
    let line = settled(&alice)?;
    ensure!(whole(&line, "billed_seconds")? <= 80 && whole(&line, "total")? <= 140_100, "{line}");
    verifies(&world, &alice)
}
