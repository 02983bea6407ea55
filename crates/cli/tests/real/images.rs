//! A host refuses any byte whose digest is wrong.

use crate::fixture::{SMALL, depot, options};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;
use sublet_testing::World;

#[test]
fn one_flipped_byte_ends_the_lease_unbilled_and_is_never_booted() -> Result<()> {
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let copy = dir.path().join("depot");
    ensure!(Command::new("cp").arg("-a").arg(depot()?).arg(&copy).status()?.success());
    let mut options = options(&["left=cpu:1,memory:768MiB"])?;
    options.depot = copy.clone();
    let world = World::start(options)?;
    let alice = world.person("alice")?;

    let images = alice.json(&["image", "list"])?;
    let images = images["items"].as_array().or(images.as_array()).context("a list")?.clone();
    let image = images.iter().find(|i| i["manifest"]["os"] == "linux-minimal").context("the minimal image")?;
    let digest = image["manifest"]["boot"]["kernel"]["sha256"].as_str().context("digest")?;
    let blob = copy.join("blobs/sha256").join(digest);
    let file = fs::File::options().read(true).write(true).open(&blob)?;
    let mut byte = [0u8];
    file.read_exact_at(&mut byte, 4096)?;
    file.write_all_at(&[byte[0] ^ 1], 4096)?;

    let failed =
        alice.run(&[&["rent", "--name", "bad", "--os", "linux-minimal", "--emulated"][..], &SMALL].concat())?;
    ensure!(failed.code != 0, "{failed:?}");
    let ended = alice.wait_lease("bad", "ended")?;
    ensure!(ended["state"]["reason"] == "image_unavailable", "{ended}");
    ensure!(ended["detail"].as_str().is_some_and(|d| d.contains("digest") || d.contains("sha256")), "{ended}");
    ensure!(alice.json(&["statement"])?["total"] == 0);
    let kept = world.hosts[0].state.join("cache/sha256").join(digest);
    ensure!(!kept.exists(), "a wrong byte is not kept");

    // Mended, the same image boots.
    file.write_all_at(&byte, 4096)?;
    alice.rent("good", "linux-minimal", &SMALL)?;
    Ok(())
}
