//! kill -9 of everything that can be killed, in mid-lease.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use std::process::Stdio;
use std::time::{Duration, Instant};
use sublet_testing::process::signal;
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World};

fn boot_id(person: &Person, lease: &str) -> Result<String> {
    Ok(person.inside(lease, "cat /proc/sys/kernel/random/boot_id")?.ok()?.stdout)
}

/// Releases, and holds the bill against the clock on the wall.
fn release_and_check_bill(world: &World, person: &Person, lease: &str, ready: Instant) -> Result<()> {
    let at_least = ready.elapsed().as_secs() as i64;
    person.run(&["release", lease])?.ok()?;
    let ended = person.wait_lease(lease, "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");
    let at_most = ready.elapsed().as_secs() as i64 + 30;
    let line = person.json(&["statement"])?["lines"][0].clone();
    let billed = line["charge"]["billed_seconds"].as_i64().context("seconds")?;
    ensure!(line["settled"] == true && (at_least..=at_most).contains(&billed), "{at_least}..={at_most}: {line}");
    ensure!(world.machines().is_empty() && world.guards().is_empty(), "{:?}", world.machines());
    Ok(())
}

#[test]
fn market_agent_and_client_are_killed_and_the_lease_is_whole() -> Result<()> {
    let mut world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let ready = Instant::now();
    let before = boot_id(&alice, "box")?;
    let machine = world.machines();
    alice.inside("box", "(while :; do date +%s >> /tmp/alive; sleep 1; done) < /dev/null > /dev/null 2>&1 &")?.ok()?;

    world.kill_market()?;
    ensure!(boot_id(&alice, "box")? == before, "access goes on without the market");
    world.start_market()?;
    ensure!(alice.wait_lease("box", "active")?["generation"] == 1);

    world.kill_agent(0)?;
    ensure!(world.machines() == machine, "the machine outlives the agent");
    world.start_agent(0)?;
    eventually("the agent adopted the partition", PATIENCE, || Ok(boot_id(&alice, "box").ok()))?;

    let mut client = alice.command(&["ssh", "box", "--", "sleep 1000"]).stdin(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    signal(client.id(), "KILL");
    client.wait()?;

    ensure!(boot_id(&alice, "box")? == before, "never restarted");
    ensure!(world.machines() == machine, "the very same process");
    let gaps = alice.inside("box", "awk 'NR>1 && $1-p>5 {print p, $1} {p=$1}' /tmp/alive")?.ok()?.stdout;
    ensure!(gaps.is_empty(), "work inside never stood still: {gaps}");
    release_and_check_bill(&world, &alice, "box", ready)
}

#[test]
fn a_one_shot_lease_ends_with_its_job_though_the_client_was_killed() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let args = ["run", "--name", "once", "--os", "linux-minimal", "--emulated", "--cpu", "1", "--memory", "256MiB"];
    let mut client = alice
        .command(&[&args[..], &["--", "echo begun; sleep 15; echo done"]].concat())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    alice.wait_lease("once", "active")?;
    std::thread::sleep(Duration::from_secs(3));
    signal(client.id(), "KILL");
    client.wait()?;
    let killed = Instant::now();
    ensure!(alice.lease("once")?["state"]["state"] == "active", "the job goes on");
    let ended = alice.wait_lease("once", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");
    ensure!(killed.elapsed() < Duration::from_secs(60), "it ended with its job, not with the two minutes' grace");
    Ok(())
}

#[test]
fn a_killed_machine_and_a_killed_guard_end_their_leases_and_leave_nothing() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    for victim in ["machine", "guard"] {
        alice.rent(victim, "linux-minimal", &SMALL)?;
        let found = if victim == "machine" { world.machines() } else { world.guards() };
        ensure!(found.len() == 1, "{victim}: {found:?}");
        signal(found[0].0, "KILL");
        let ended = alice.wait_lease(victim, "ended")?;
        ensure!(ended["state"]["reason"] == "guest_crashed", "{ended}");
        ensure!(world.machines().is_empty() && world.guards().is_empty(), "{:?}", world.machines());
        let line = alice.json(&["statement"])?["lines"][0].clone();
        ensure!(line["settled"] == true, "{line}");
        ensure!(line["charge"]["billed_seconds"] == line["charge"]["receipted_seconds"], "{line}");
    }
    Ok(())
}

#[test]
fn a_machine_killed_while_the_agent_is_dead_is_found_and_billed_to_its_death() -> Result<()> {
    let mut world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let ready = Instant::now();
    world.kill_agent(0)?;
    std::thread::sleep(Duration::from_secs(3));
    signal(world.machines()[0].0, "KILL");
    let died = ready.elapsed().as_secs() as i64;
    std::thread::sleep(Duration::from_secs(8));
    world.start_agent(0)?;
    let ended = alice.wait_lease("box", "ended")?;
    ensure!(ended["state"]["reason"] == "guest_crashed", "{ended}");
    let line = alice.json(&["statement"])?["lines"][0].clone();
    let billed = line["charge"]["billed_seconds"].as_i64().context("seconds")?;
    ensure!((died..=died + 5).contains(&billed), "died after {died} s: {line}");
    Ok(())
}
