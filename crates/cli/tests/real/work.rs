//! The main job: two operating systems at once, real work in each, the bill.

use crate::fixture::{FULL, SMALL, world};
use anyhow::{Context, Result, ensure};
use std::io::Write;

#[test]
fn two_systems_at_once_do_real_work_and_are_billed() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;

    let (small, full) = std::thread::scope(|scope| {
        let small = scope.spawn(|| alice.rent("small", "linux-minimal", &SMALL));
        let full = scope.spawn(|| alice.rent("full", "debian-12", &FULL));
        (small.join().expect("no panic"), full.join().expect("no panic"))
    });
    let (small, full) = (small?, full?);
    ensure!(small["partition"] != full["partition"]);
    ensure!(world.machines().len() == 2, "both run at the same time: {:?}", world.machines());

    let kernel = |lease| alice.inside(lease, "uname -r")?.ok().map(|r| r.stdout.trim().to_string());
    let (minimal, debian) = (kernel("small")?, kernel("full")?);
    ensure!(minimal.starts_with("6.12") && debian.starts_with("6.1."), "{minimal} and {debian}");
    ensure!(alice.inside("full", "cat /proc/1/comm")?.ok()?.stdout.trim() == "systemd");
    let running = alice.inside("full", "systemctl is-system-running --wait")?;
    ensure!(["running", "degraded"].contains(&running.stdout.trim()), "{running:?}");

    // 20 MiB and a little, so that the last piece is not a whole one.
    let input = world.dir().join("input");
    let mut file = std::fs::File::create(&input)?;
    for block in 0u32..(20 << 20) / 64 + 3 {
        file.write_all(&block.to_le_bytes().repeat(16))?;
    }
    file.write_all(b"tail")?;
    drop(file);
    let outside = std::process::Command::new("sha256sum").arg(&input).output()?;
    let outside = String::from_utf8(outside.stdout)?;
    let outside = outside.split_whitespace().next().context("sha256sum prints a digest")?;
    for lease in ["small", "full"] {
        let inside = alice.run_with(&["ssh", lease, "--", "sha256sum"], &input)?.ok()?.stdout;
        ensure!(inside.split_whitespace().next() == Some(outside), "{lease}: {inside} is not {outside}");
    }

    for lease in ["small", "full"] {
        alice.run(&["release", lease])?.ok()?;
        let ended = alice.wait_lease(lease, "ended")?;
        ensure!(ended["state"]["reason"] == "released", "{ended}");
    }
    ensure!(world.machines().is_empty() && world.guards().is_empty(), "nothing is left running");

    // Both sides see the same money, in whole micros, recomputable from what stands beside it.
    let paid = alice.json(&["statement"])?;
    let earned = world.owner("host-a")?.json(&["statement", "--side", "lender"])?;
    ensure!(paid["total"] == earned["total"], "{paid} {earned}");
    let lines = paid["lines"].as_array().context("a statement has lines")?;
    ensure!(lines.len() == 2 && lines.iter().all(|l| l["settled"] == true), "{paid}");
    for line in lines {
        let seconds = line["charge"]["billed_seconds"].as_i64().context("seconds")?;
        let memory = line["resources"]["memory"].as_i64().context("memory")?;
        // 3.6 an hour for a core and for a GiB: 1000 micros a second each; 100 to set up.
        let scaled = seconds * (1000 * 1024 + 1000 * memory);
        let (whole, rest) = (scaled / 1024, scaled % 1024);
        let rounded = whole + i64::from(rest > 512 || (rest == 512 && whole % 2 == 1));
        ensure!(line["charge"]["total"] == 100 + rounded, "{line}");
        ensure!(seconds > 0);
    }
    Ok(())
}

#[test]
fn run_passes_streams_and_status_and_ends_its_lease() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let base =
        ["run", "--name", "once", "--os", "linux-minimal", "--emulated", "--cpu", "1", "--memory", "256MiB", "--"];
    let ran = alice.run(&[&base[..], &["echo out; echo err >&2; exit 7"]].concat())?;
    ensure!(ran.code == 7 && ran.stdout == "out\n" && ran.stderr.contains("err\n"), "{ran:?}");
    let ended = alice.wait_lease("once", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");
    ensure!(world.machines().is_empty());
    Ok(())
}
