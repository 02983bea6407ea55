//! Every operating system of the depot boots in a partition and does the same work.

use crate::fixture::{FULL, SMALL, depot, options, world};
use crate::marks::in_file;
use crate::wasm;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use sublet_model::identity::{Sha256Digest, Signed};
use sublet_model::image::{Boot, ImageManifest};
use sublet_testing::World;

/// A system as clients ask for it.
struct System {
    os: &'static str,
    size: &'static [&'static str],
    /// What its `uname -sr` begins with, and what runs as its first process; none where neither is to be had.
    linux: Option<(&'static str, &'static str)>,
}

const SYSTEMS: [System; 5] = [
    System { os: "linux-minimal", size: &SMALL, linux: Some(("Linux 6.12.", "init")) },
    System { os: "debian-12", size: &FULL, linux: Some(("Linux 6.1.", "systemd")) },
    System { os: "debian-13", size: &FULL, linux: Some(("Linux 6.12.", "systemd")) },
    System { os: "debian-13-disk", size: &FULL, linux: Some(("Linux 6.12.", "systemd")) },
    System { os: "wasm", size: &SMALL, linux: None },
];

#[test]
fn each_system_gives_the_same_digest_of_the_same_input() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let input = world.dir().join("input");
    let bytes: Vec<u8> = (0u32..(1 << 20) / 4).flat_map(u32::to_le_bytes).collect();
    fs::write(&input, bytes)?;
    let outside = Command::new("sha256sum").arg(&input).output()?;
    let outside = String::from_utf8(outside.stdout)?.split_whitespace().next().context("a digest")?.to_owned();

    let module = wasm::digest(world.dir())?;

    let work = |system: &System| -> Result<()> {
        let System { os, size, linux } = system;
        alice.rent(os, os, size)?;
        if linux.is_none() {
            alice.run(&["cp", &module.to_string_lossy(), &format!("{os}:sha256sum")])?.ok()?;
        }
        let inside = alice.run_with(&["ssh", os, "--", "sha256sum"], &input)?.ok()?.stdout;
        ensure!(inside.split_whitespace().next() == Some(&outside), "{os}: {inside} is not {outside}");
        let mut told = String::new();
        if let Some((kernel, init)) = linux {
            told = alice.inside(os, "uname -sr; cat /proc/1/comm")?.ok()?.stdout.trim().to_owned();
            ensure!(told.starts_with(kernel) && told.ends_with(&format!("\n{init}")), "{os}: {told}");
        }
        println!("{os}: {}; {outside}; {}", told.replace('\n', ", "), alice.lease(os)?["timeline"]);
        alice.run(&["release", os])?.ok()?;
        alice.wait_lease(os, "ended").map(drop)
    };
    // Two partitions, two at a time.
    for pair in SYSTEMS.chunks(2) {
        std::thread::scope(|scope| {
            let works: Vec<_> = pair.iter().map(|system| scope.spawn(|| work(system))).collect();
            works.into_iter().try_for_each(|work| work.join().expect("no panic"))
        })?;
    }
    Ok(())
}

/// Files of a lease's run directory, below the host's state.
fn left(world: &World, name: &str) -> Result<Vec<PathBuf>> {
    let runs = fs::read_dir(world.hosts[0].state.join("run"))?;
    let all = runs.map(|run| Ok(run?.path().join(name))).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().filter(|file| file.exists()).collect())
}

#[test]
fn a_cloud_image_that_was_added_boots_and_what_its_guest_wrote_is_gone() -> Result<()> {
    // One file, as makers of cloud images publish it.
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let images = String::from_utf8(sublet(&["-o", "json", "image", "list", "--depot"], &depot()?)?)?;
    let images: Vec<Signed<ImageManifest>> = serde_json::from_str(&images)?;
    let manifests = images.iter().map(|image| image.read()).collect::<Result<Vec<_>, _>>()?;
    let built = manifests.iter().find(|image| image.name == "debian-13-disk").context("a disk image")?;
    let Boot::Disk { disk, .. } = &built.boot else { anyhow::bail!("{built:?}") };
    let file = depot()?.join("blobs/sha256").join(disk.sha256.to_string());
    let file = file.to_str().context("UTF-8")?;
    sublet(&["image", "add", file, "--name", "own", "--os", "cloud", "--depot"], dir.path())?;

    let mut options = options(&["left=cpu:1,memory:768MiB,disk:0GiB..0GiB..2GiB"])?;
    options.depot = dir.path().into();
    let world = World::start(options)?;
    let alice = world.person("alice")?;
    let lease = alice.rent("box", "cloud", &[&FULL[..], &["--disk", "1GiB"]].concat())?;
    ensure!(lease["timeline"]["started"] == "cold: a scratch disk is attached", "{lease}");
    let mark = "a-mark-of-alice-0123456789";
    let write = format!(
        "yes {mark} | head -n 2000 | tee /root/mark > /scratch/mark; sync; \
                         grep -E ' (/|/scratch) ext4' /proc/mounts; sha256sum /root/mark /scratch/mark; hostname"
    );
    let inside = alice.inside("box", &write)?.ok()?.stdout;
    println!("{inside}");
    ensure!(inside.contains("/dev/vda1 / ext4 rw") && inside.contains(" /scratch ext4 rw"), "{inside}");
    ensure!(inside.trim().ends_with("box"), "{inside}");
    let overlay = left(&world, "overlay")?;
    ensure!(overlay.len() == 1 && left(&world, "seed")?.len() == 1, "{overlay:?}");
    ensure!(in_file(&overlay[0], mark)? == 0, "the owner's disk holds the client's words");
    let verified = alice.run(&["lease", "verify", "box"])?.ok()?.stdout;
    ensure!(verified.lines().any(|line| line.starts_with("disk") && line.ends_with("holds")), "{verified}");

    alice.run(&["release", "box"])?.ok()?;
    alice.wait_lease("box", "ended")?;
    ensure!(["overlay", "seed", "scratch"].iter().all(|name| left(&world, name).is_ok_and(|all| all.is_empty())));
    let base = world.hosts[0].state.join("cache/sha256").join(disk.sha256.to_string());
    ensure!(Sha256Digest::of(&fs::read(base)?) == disk.sha256, "the image's disk is as it was");
    Ok(())
}

/// Runs `sublet` with a folder as its last word.
fn sublet(words: &[&str], folder: &Path) -> Result<Vec<u8>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sublet"));
    let out = command.args(words).arg(folder).output()?;
    ensure!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(out.stdout)
}
