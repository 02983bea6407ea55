//! The market is away for longer than its heartbeat window, or for good; the agent hangs. What was
//! paid for goes on, and not a second more.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};
use sublet_testing::process::signal;
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World};

/// Longer than the time after which a host, or a market, counts as silent.
const AWAY: Duration = Duration::from_secs(65);
/// A lease as short as that is over before anybody is back.
const SHORT: u64 = 30;

fn bill(person: &Person) -> Result<(i64, i64, Value)> {
    let line = person.json(&["statement"])?["lines"][0].clone();
    let of = |what: &str| line["charge"][what].as_i64().with_context(|| format!("{what} in {line}"));
    Ok((of("billed_seconds")?, of("receipted_seconds")?, line.clone()))
}

#[test]
fn without_the_market_sessions_go_on_new_ones_open_and_jobs_finish() -> Result<()> {
    let mut world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let ready = Instant::now();
    let mut session = alice
        .command(&["ssh", "box", "--", "n=0; while [ $n -lt 600 ]; do echo $n; n=$((n+1)); sleep 0.2; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(session.stdout.take().context("stdout")?).lines();
    ensure!(lines.next().context("a line")?? == "0");

    world.kill_market()?;
    let killed = Instant::now();
    let job = alice.run(&["job", "submit", "box", "--", "sleep 20; echo finished"])?.ok()?.stdout.trim().to_owned();
    ensure!(alice.run(&["job", "wait", &job])?.code == 0, "a job begins and finishes");
    ensure!(alice.run(&["job", "logs", &job])?.ok()?.stdout == "finished\n");
    std::thread::sleep(AWAY.saturating_sub(killed.elapsed()));
    ensure!(alice.inside("box", "echo in")?.ok()?.stdout == "in\n", "a new session opens with a live certificate");
    world.start_market()?;

    // Read on: the session that was open stands, and missed nothing.
    for expected in 1..200 {
        ensure!(lines.next().context("the session broke")?? == expected.to_string());
    }
    session.kill()?;
    session.wait()?;
    let lease = eventually("the market hears of the lease again", PATIENCE, || {
        let lease = alice.lease("box")?;
        Ok((lease["state"]["state"] == "active" && lease["state"]["silent_since"].is_null()).then_some(lease))
    })?;
    ensure!(lease["generation"] == 1, "{lease}");
    let at_least = ready.elapsed().as_secs() as i64;
    alice.run(&["release", "box"])?.ok()?;
    alice.wait_lease("box", "ended")?;
    let (billed, receipted, line) = bill(&alice)?;
    ensure!(billed == receipted && (at_least..=at_least + 30).contains(&billed), "{at_least} s were used: {line}");
    Ok(())
}

/// Rents for a short while; when the guest was ready at the latest.
fn rent_shortly(alice: &Person) -> Result<Instant> {
    let span = format!("{SHORT}s");
    let rent = ["rent", "--name", "box", "--os", "linux-minimal", "--emulated", "--for", &span];
    alice.run(&[&rent[..], &SMALL].concat())?.ok()?;
    Ok(Instant::now())
}

/// Waits until the machine is gone, by its guard alone, and checks when.
fn stops_in_time(world: &World, ready: Instant) -> Result<()> {
    let machines = world.machines();
    ensure!(machines.len() == 1, "{machines:?}");
    let alive = || std::path::Path::new(&format!("/proc/{}", machines[0].0)).exists();
    eventually("the guard stops the machine", Duration::from_secs(SHORT + 10), || Ok((!alive()).then_some(())))?;
    let ran = ready.elapsed();
    // It was ready a moment before `rent` came back.
    let at_least = Duration::from_secs(SHORT - 5);
    ensure!((at_least..Duration::from_secs(SHORT + 3)).contains(&ran), "it ran {ran:?} of {SHORT} s");
    Ok(())
}

fn billed_to_the_end(alice: &Person) -> Result<()> {
    let ended = alice.wait_lease("box", "ended")?;
    ensure!(ended["state"]["reason"] == "expired", "{ended}");
    let (billed, receipted, line) = bill(alice)?;
    ensure!(billed == SHORT as i64 && receipted == billed, "all of it and no second more: {line}");
    Ok(())
}

#[test]
fn with_the_market_gone_a_partition_stops_at_its_paid_end_and_the_bill_comes_later() -> Result<()> {
    let mut world = world()?;
    let alice = world.person("alice")?;
    let ready = rent_shortly(&alice)?;
    let machines = world.machines();
    world.kill_market()?;
    ensure!(world.machines() == machines, "it goes on");
    stops_in_time(&world, ready)?;
    // Whether its certificate is over too, or it only has nothing to go to: nobody gets in.
    let refused = alice.inside("box", "echo in")?;
    ensure!(matches!(refused.code, 1 | 255) && refused.stdout.is_empty(), "{refused:?}");
    world.start_market()?;
    billed_to_the_end(&alice)?;
    ensure!(world.guards().is_empty(), "{:?}", world.guards());
    Ok(())
}

#[test]
fn an_agent_that_hangs_does_not_keep_a_partition_beyond_its_paid_end() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let ready = rent_shortly(&alice)?;
    let agent = world.hosts[0].agent_pid().context("the agent runs")?;
    signal(agent, "STOP");
    let stopped = stops_in_time(&world, ready);
    signal(agent, "CONT");
    stopped?;
    billed_to_the_end(&alice)
}
