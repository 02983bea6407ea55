//! Who does not get in, and is told why; and a host's key that was copied.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use sublet_testing::process::Process;
use sublet_testing::world::{PATIENCE, eventually};

/// Makes a key and has `ca` certify it, as an attacker or a careless operator would.
fn certified(dir: &Path, name: &str, ca: &Path, principal: &str, validity: &str) -> Result<PathBuf> {
    let key = dir.join(name);
    let made = |command: &mut Command| -> Result<()> {
        let out = command.output()?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    };
    made(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
    let sign = ["-q", "-I", name, "-n", principal, "-V", validity];
    made(Command::new("ssh-keygen").arg("-s").arg(ca).args(sign).arg(key.with_extension("pub")))?;
    Ok(key)
}

#[test]
fn wrong_certificates_are_refused_with_a_reason_each() -> Result<()> {
    let world = world()?;
    let (alice, mallory) = (world.person("alice")?, world.person("mallory")?);
    let first = alice.rent("first", "linux-minimal", &SMALL)?;
    alice.run(&["release", "first"])?.ok()?;
    alice.wait_lease("first", "ended")?;
    let lease = alice.rent("box", "linux-minimal", &SMALL)?;
    let other = mallory.rent("other", "linux-minimal", &SMALL)?;
    let id = lease["id"].as_str().context("id")?;
    let generation = lease["generation"].as_u64().context("generation")?;
    ensure!(lease["partition"] == first["partition"] && generation == 2, "the second lease of the partition: {lease}");

    let dir = world.dir().join("attacks");
    fs::create_dir(&dir)?;
    let ca = world.market_dir().join("keys/ssh_ca");
    let own_ca = dir.join("own_ca");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&own_ca).status()?;
    ensure!(made.success());
    let right = format!("{id}.g{generation}");
    let others = format!("{}.g{}", other["id"].as_str().context("id")?, other["generation"]);
    let attempts = [
        ("another-client", certified(&dir, "a", &ca, &others, "-1m:+1h")?, "another lease"),
        ("expired", certified(&dir, "b", &ca, &right, "-2h:-1h")?, "expired"),
        ("older-generation", certified(&dir, "c", &ca, &format!("{id}.g{}", generation - 1), "-1m:+1h")?, "generation"),
        ("own-ca", certified(&dir, "d", &own_ca, &right, "-1m:+1h")?, "authority"),
    ];
    let (status, access) = alice.curl("POST", &format!("/v1/leases/{id}/access"), Some("{}"))?;
    ensure!(status < 300, "{status} {access}");
    let access: serde_json::Value = serde_json::from_str(&access)?;
    let dial = access["dial"].as_str().context("dial")?.to_string();
    let (address, port) = dial.rsplit_once(':').context("address and port")?;
    // As any SSH client would, with this key and nothing of ours around it.
    let enter = |key: &Path, line: &str| {
        Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-p", port, "-i"])
            .arg(key)
            .args([&format!("{id}@{address}"), line])
            .output()
    };
    let log_before = world.agent_log(0).len();
    for (name, key, reason) in &attempts {
        let out = enter(key, "true")?;
        ensure!(out.status.code() == Some(255), "{name} got in: {out:?}");
        // The door says why in its log, and to a client that lets itself be asked (BatchMode does not).
        let line = eventually(&format!("{reason:?} in the log, for {name}"), PATIENCE, || {
            let logged = world.agent_log(0)[log_before..].to_string();
            Ok(logged.lines().find(|line| line.contains("refused") && line.contains(reason)).map(str::to_string))
        })?;
        println!("{name}: {line}");
    }
    // With the right principal and the market's own authority, the same way in is open.
    let good = certified(&dir, "good", &ca, &right, "-1m:+1h")?;
    let out = enter(&good, "echo in")?;
    ensure!(out.stdout == b"in\n", "{out:?}");
    // A released lease opens nothing any more.
    alice.run(&["release", "box"])?.ok()?;
    alice.wait_lease("box", "ended")?;
    let out = enter(&good, "echo in")?;
    ensure!(out.status.code() == Some(255), "{out:?}");
    Ok(())
}

#[test]
fn a_second_agent_with_a_copied_key_is_refused_and_told_why() -> Result<()> {
    let mut world = world()?;
    let state = world.hosts[0].state.clone();
    world.kill_agent(0)?;
    let copy = world.dir().join("copied");
    ensure!(Command::new("cp").arg("-a").arg(&state).arg(&copy).status()?.success());
    world.start_agent(0)?;
    let operator = world.operator();
    eventually("the rightful agent is back", PATIENCE, || {
        Ok((operator.json(&["host", "show", "host-a"])?["status"] == "online").then_some(()))
    })?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let mut thief = Process::start(
        "thief",
        Command::new(env!("CARGO_BIN_EXE_sublet")).args(["host", "run", "--accel", "tcg", "--state"]).arg(&copy),
        world.dir(),
    )?;
    thief.wait_for("another agent uses its key", PATIENCE)?;
    ensure!(world.market_log().contains("another agent uses its key"), "the operator can see it");
    // The rightful one was not disturbed.
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    ensure!(alice.inside("box", "echo here")?.ok()?.stdout == "here\n");
    Ok(())
}
