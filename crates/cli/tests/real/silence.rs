//! The market can't be reached for two minutes: nothing is destroyed, nothing is billed twice.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use sublet_testing::world::{PATIENCE, eventually};

/// Longer than the time after which a host counts as silent.
const CUT: Duration = Duration::from_secs(120);

#[test]
fn a_cut_of_two_minutes_ends_nothing_and_bills_only_what_receipts_show() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let ready = Instant::now();
    let boot_id = |alice: &sublet_testing::Person| alice.inside("box", "cat /proc/sys/kernel/random/boot_id");
    let before = boot_id(&alice)?.ok()?.stdout;

    world.relay.cut();
    let cut = Instant::now();
    let silent = eventually("the market notices", PATIENCE, || {
        let lease = alice.lease("box")?;
        Ok((!lease["state"]["silent_since"].is_null()).then_some(lease))
    })?;
    ensure!(silent["state"]["state"] == "active", "silence destroys nothing: {silent}");
    ensure!(cut.elapsed() > Duration::from_secs(50), "not before its time");
    let receipts = alice.json(&["statement"])?["lines"][0]["charge"].clone();
    ensure!(boot_id(&alice)?.ok()?.stdout == before, "access does not need the market");
    std::thread::sleep(CUT.saturating_sub(cut.elapsed()));
    let later = alice.json(&["statement"])?["lines"][0]["charge"].clone();
    ensure!(receipts == later, "in silence the bill stands still: {receipts} {later}");
    world.relay.mend();

    eventually("the lease goes on", PATIENCE, || {
        let lease = alice.lease("box")?;
        Ok((lease["state"]["state"] == "active" && lease["state"]["silent_since"].is_null()).then_some(()))
    })?;
    eventually("the way in is open again", PATIENCE, || Ok(boot_id(&alice)?.ok().ok().filter(|r| r.stdout == before)))?;
    let at_least = ready.elapsed().as_secs() as i64;
    alice.run(&["release", "box"])?.ok()?;
    alice.wait_lease("box", "ended")?;
    let line = alice.json(&["statement"])?["lines"][0].clone();
    let billed = line["charge"]["billed_seconds"].as_i64().context("seconds")?;
    ensure!(billed == line["charge"]["receipted_seconds"].as_i64().context("seconds")?, "{line}");
    ensure!((at_least..=at_least + 30).contains(&billed), "the machine ran all the while: {line}");
    Ok(())
}
