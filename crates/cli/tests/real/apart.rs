//! Crash-apart: what happens in one partition disturbs nobody else.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use std::process::Stdio;
use std::time::Duration;
use sublet_testing::world::{PATIENCE, eventually};

#[test]
fn a_panic_next_door_disturbs_nobody() -> Result<()> {
    let world = world()?;
    let (alice, bob) = (world.person("alice")?, world.person("bob")?);
    alice.rent("calm", "linux-minimal", &SMALL)?;
    bob.rent("wild", "linux-minimal", &SMALL)?;
    let (market, agent) = (world.market_pid(), world.hosts[0].agent_pid());
    let before = alice.inside("calm", "cat /proc/sys/kernel/random/boot_id")?.ok()?.stdout;

    let _ = bob.inside("wild", "echo c > /proc/sysrq-trigger")?;
    let ended = bob.wait_lease("wild", "ended")?;
    ensure!(ended["state"]["reason"] == "guest_crashed", "{ended}");

    ensure!(alice.inside("calm", "cat /proc/sys/kernel/random/boot_id")?.ok()?.stdout == before, "not restarted");
    ensure!(alice.lease("calm")?["state"]["state"] == "active");
    ensure!((market, agent) == (world.market_pid(), world.hosts[0].agent_pid()));
    ensure!(world.machines().len() == 1, "the one that crashed is gone: {:?}", world.machines());

    let line = &bob.json(&["statement"])?["lines"][0];
    ensure!(line["settled"] == true && line["reason"] == "guest_crashed", "{line}");
    ensure!(line["charge"]["billed_seconds"] == line["charge"]["receipted_seconds"], "{line}");
    // The slot is free again and boots afresh.
    bob.rent("again", "linux-minimal", &SMALL)?;
    Ok(())
}

#[test]
fn a_fork_bomb_and_a_memory_hog_stay_inside() -> Result<()> {
    let world = world()?;
    let (alice, bob) = (world.person("alice")?, world.person("bob")?);
    alice.rent("calm", "linux-minimal", &SMALL)?;
    bob.rent("wild", "linux-minimal", &SMALL)?;
    let agent = world.hosts[0].agent_pid();

    // A true fork bomb, and something that eats all memory there is, at once.
    let mut bomb = bob
        .command(&["ssh", "wild", "--", "bomb() { bomb | bomb & }; bomb; sleep 600"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut hog = bob
        .command(&["ssh", "wild", "--", "cat /dev/zero | tail -c 4000000000 > /dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(5));

    for _ in 0..5 {
        ensure!(alice.inside("calm", "echo here")?.ok()?.stdout == "here\n", "the neighbour answers");
        ensure!(bob.lease("wild")?["state"]["state"] == "active", "a bomb is the client's own use: the lease stays");
        std::thread::sleep(Duration::from_secs(1));
    }
    ensure!(agent == world.hosts[0].agent_pid());
    let before = bob.lease("wild")?["seconds"].as_i64().context("seconds")?;
    eventually("the meter of the bomb goes on", PATIENCE, || {
        Ok((bob.lease("wild")?["seconds"].as_i64() > Some(before)).then_some(()))
    })?;
    let _ = (bomb.kill(), bomb.wait(), hog.kill(), hog.wait());
    bob.run(&["release", "wild"])?.ok()?;
    let ended = bob.wait_lease("wild", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");
    Ok(())
}
