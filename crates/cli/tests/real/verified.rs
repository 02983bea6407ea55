//! `sublet lease verify` says whether a partition is what was agreed, and in what it is not.

use crate::fixture::world_of;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use sublet_testing::{Person, World};

/// The lines of the table that do not hold, by what they are about; and the exit status.
fn differing(person: &Person) -> Result<(i32, Vec<String>)> {
    let ran = person.run(&["lease", "verify", "box"])?;
    println!("{}{}", ran.stdout, ran.stderr);
    ensure!(ran.stdout.starts_with("WHAT"), "{ran:?}");
    let lines = ran.stdout.lines().filter(|line| line.ends_with("DIFFERS"));
    Ok((ran.code, lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()))
}

/// The file by which the kernel caps the one partition: version 1 or 2.
fn cap(world: &World) -> Result<PathBuf> {
    fn below(folder: &Path, partition: &str) -> Option<PathBuf> {
        let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
        let own = folder.file_name().is_some_and(|name| name == partition);
        let is_cap = |path: &&PathBuf| path.ends_with("cpu.cfs_quota_us") || path.ends_with("cpu.max");
        let here = entries.iter().find(is_cap).filter(|_| own).cloned();
        here.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| below(path, partition)))
    }
    let partition = world.sqlite3("select id from partitions")?.ok()?.stdout;
    below(Path::new("/sys/fs/cgroup"), partition.trim()).context("the partition's control group")
}

#[test]
fn a_partition_that_is_not_what_was_agreed_is_found_out() -> Result<()> {
    let world = world_of(&["one=cpu:1500m,memory:256MiB"])?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &["--cpu", "1500m", "--memory", "256MiB"])?;
    ensure!(differing(&alice)? == (0, vec![]));
    let told = alice.json(&["lease", "verify", "box"])?;
    ensure!(told["holds"] == true && told["lines"][0]["what"] == "generation", "{told}");

    // The owner's computer gives less than it says.
    let cap = cap(&world)?;
    let before = std::fs::read_to_string(&cap)?;
    // What may be caught up on must not be more than the cap.
    for burst in ["cpu.cfs_burst_us", "cpu.max.burst"].map(|name| cap.with_file_name(name)) {
        let _ = std::fs::write(burst, "0");
    }
    std::fs::write(&cap, if cap.ends_with("cpu.max") { "100000 100000" } else { "100000" })?;
    ensure!(differing(&alice)? == (1, vec!["cpu".to_owned()]));
    std::fs::write(&cap, before.trim())?;
    // The partition's own system sees less than there is.
    alice.inside("box", "echo 0 > /sys/devices/system/cpu/cpu1/online")?.ok()?;
    ensure!(differing(&alice)? == (1, vec!["vcpus".to_owned()]));
    alice.inside("box", "echo 1 > /sys/devices/system/cpu/cpu1/online")?.ok()?;
    ensure!(differing(&alice)? == (0, vec![]));
    alice.run(&["release", "box"])?.ok()?;
    ensure!(alice.run(&["lease", "verify", "box"])?.code != 0, "there is nothing to compare any more");
    Ok(())
}
