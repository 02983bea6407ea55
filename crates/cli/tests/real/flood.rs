//! A guest that says more than anybody takes costs the host fixed memory and fixed disk.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use sublet_testing::process::signal;

/// So much is said in each way, in MiB; `SUBLET_FLOOD_MIB` for more.
const FLOOD_MIB: u64 = 192;
/// The most by which the agent may grow.
const MOST_GROWTH_KIB: u64 = 8 * 1024;

fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.split_ascii_whitespace().next().context("a number")?.parse()?)
}

fn size_of(path: &std::path::Path) -> Result<u64> {
    if !path.is_dir() {
        return Ok(path.metadata()?.len());
    }
    fs::read_dir(path)?.map(|entry| size_of(&entry?.path())).sum()
}

/// A client that is there and does not read.
struct Deaf(Child);

impl Drop for Deaf {
    fn drop(&mut self) {
        signal(self.0.id(), "CONT");
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn a_flood_through_every_way_out_grows_neither_memory_nor_disk() -> Result<()> {
    let flood = std::env::var("SUBLET_FLOOD_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(FLOOD_MIB);
    let world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let agent = world.hosts[0].agent_pid().context("the agent runs")?;
    let zeros = |mib: u64| format!("dd if=/dev/zero bs=64k count={} 2> /dev/null", mib * 16);
    let attached = |mib: u64| -> Result<()> {
        let ssh =
            alice.command(&["ssh", "box", "--", &zeros(mib)]).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        ensure!(ssh.success(), "{ssh}");
        Ok(())
    };
    let detached = |mib: u64| -> Result<()> {
        let job = alice.run(&["job", "submit", "box", "--", &zeros(mib)])?.ok()?.stdout.trim().to_owned();
        ensure!(alice.run(&["job", "wait", &job])?.code == 0);
        let output = alice.json(&["job", "show", &job])?["output"].clone();
        ensure!(output["bytes"] == mib << 20 && output["kept_bytes"] == 1 << 20, "{output}");
        Ok(())
    };
    // Once in each way, so that what is only made once is there.
    attached(4)?;
    detached(4)?;
    let before = resident_kib(agent)?;
    let mut most = before;
    let mut took = Vec::new();
    for way in [&attached as &dyn Fn(u64) -> Result<()>, &detached] {
        let begun = Instant::now();
        way(flood)?;
        most = most.max(resident_kib(agent)?);
        took.push(begun.elapsed());
    }
    // Several that say all they can to clients that take nothing, while another one works.
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut command = alice.command(&["ssh", "box", "--", "cat /dev/zero"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        deaf.push(Deaf(child));
    }
    std::thread::sleep(Duration::from_secs(3));
    ensure!(alice.inside("box", "echo here")?.ok()?.stdout == "here\n", "the others are served");
    most = most.max(resident_kib(agent)?);
    drop(deaf);
    let disk = size_of(&world.hosts[0].state.join("jobs"))?;
    println!(
        "{flood} MiB each: attached {:.1?}, detached {:.1?}; agent {before} KiB, at most {most} KiB; {disk} bytes on disk",
        took[0], took[1]
    );
    ensure!(most - before < MOST_GROWTH_KIB, "{before} -> {most} KiB");
    ensure!(disk < 3 << 20, "{disk} bytes of jobs on disk");
    Ok(())
}
