//! Scratch disks: as large as agreed, encrypted under a key of their own, gone with the lease.

use crate::fixture::world_of;
use crate::marks::in_file;
use anyhow::{Result, ensure};
use std::fs;
use std::path::PathBuf;
use sublet_testing::World;

const WITH_DISK: [&str; 6] = ["--cpu", "1", "--memory", "256MiB", "--disk", "1GiB"];

fn world() -> Result<World> {
    world_of(&["left=cpu:1,memory:256MiB,disk:0GiB..0GiB..2GiB"])
}

/// The files of scratch disks on the owner's disk.
fn files(world: &World) -> Result<Vec<PathBuf>> {
    let runs = fs::read_dir(world.hosts[0].state.join("run"))?;
    let all = runs.map(|run| Ok(run?.path().join("scratch"))).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().filter(|file| file.exists()).collect())
}

#[test]
fn a_scratch_disk_is_there_as_agreed_and_gone_afterwards() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let lease = alice.rent("box", "linux-minimal", &WITH_DISK)?;
    let started = lease["timeline"]["started"].as_str().unwrap_or_default();
    ensure!(started == "cold: a scratch disk is attached", "{started}");
    let inside =
        alice.inside("box", "grep /scratch /proc/mounts; cat /run/sublet/identity; df -k /scratch")?.ok()?.stdout;
    ensure!(inside.contains(" /scratch ext4 rw") && inside.contains("disk_gib=1"), "{inside}");
    let verified = alice.run(&["lease", "verify", "box"])?.ok()?.stdout;
    println!("{verified}");
    ensure!(verified.lines().any(|line| line.starts_with("disk") && line.ends_with("holds")), "{verified}");

    let speed = "cd /scratch; now() { cut -d ' ' -f 1 /proc/uptime; }; now; \
                 dd if=/dev/zero of=w bs=1M count=128 conv=fsync 2> /dev/null; now; \
                 echo 3 > /proc/sys/vm/drop_caches; now; dd if=w of=/dev/null bs=1M 2> /dev/null; now; rm w";
    println!("before and after 128 MiB were written, and read: {}", alice.inside("box", speed)?.ok()?.stdout);
    let mark = "a-mark-of-alice-0123456789";
    alice.inside("box", &format!("yes {mark} | head -n 2000 > /scratch/mark; sync"))?.ok()?;
    let [file] = files(&world)?.try_into().map_err(|all| anyhow::anyhow!("one file, not {all:?}"))?;
    // A little more than the disk, for what opens it; all of it is the lease's own from the start.
    let length = fs::metadata(&file)?.len();
    ensure!(((1 << 30)..(1 << 30) + (4 << 20)).contains(&length), "{length} bytes");
    ensure!(in_file(&file, mark)? == 0, "the owner's disk holds the client's words");
    // More than was agreed does not go on it, and the rest of the machine does not mind.
    let full =
        alice.inside("box", "dd if=/dev/zero of=/scratch/all bs=4M count=300 2>&1; df -k /scratch | tail -n 1")?;
    ensure!(full.stdout.contains("No space left"), "{full:?}");
    alice.inside("box", "rm -f /scratch/all; cat /scratch/mark | wc -l")?.ok()?;

    alice.run(&["release", "box"])?.ok()?;
    alice.wait_lease("box", "ended")?;
    ensure!(files(&world)?.is_empty() && !file.exists(), "{:?}", files(&world)?);
    let bill = alice.run(&["-o", "json", "lease", "show", "box"])?;
    ensure!(bill.code == 0, "{bill:?}");

    // Whoever asks for none has none.
    alice.rent("plain", "linux-minimal", &WITH_DISK[..4])?;
    ensure!(files(&world)?.is_empty());
    ensure!(alice.inside("plain", "test -e /scratch")?.code != 0, "a disk nobody asked for");
    alice.run(&["release", "plain"])?.ok()?;
    alice.wait_lease("plain", "ended")?;
    let asked = ["rent", "--os", "linux-minimal", "--emulated", "--memory", "256MiB", "--disk", "3GiB", "--no-wait"];
    let refused = alice.run(&asked)?;
    ensure!(refused.code == 6 && refused.stderr.contains("disk"), "{refused:?}");
    Ok(())
}
