//! A host refuses any byte whose digest is wrong, and a disk that could lead to other files.

use crate::fixture::{FULL, SMALL, depot, options};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::image::{Blob, Boot, ImageManifest};
use sublet_testing::{Person, World};

/// A copy of the built images, in a folder that the partitions' users can't enter.
fn copied(to: &Path) -> Result<()> {
    ensure!(Command::new("cp").arg("-a").arg(depot()?).arg(to).status()?.success());
    Ok(())
}

/// The published image of that name or os.
fn image(person: &Person, os: &str) -> Result<Value> {
    let images = person.json(&["image", "list"])?;
    let images = images["items"].as_array().or(images.as_array()).context("a list")?.clone();
    let wanted = |i: &&Value| i["manifest"]["os"] == os || i["manifest"]["name"] == os;
    Ok(images.iter().find(wanted).with_context(|| format!("no image of {os}"))?["manifest"].clone())
}

/// What the lease ended with, that could not be had.
fn refused(person: &Person, name: &str, os: &str, size: &[&str]) -> Result<Value> {
    let failed = person.run(&[&["rent", "--name", name, "--os", os, "--emulated"][..], size].concat())?;
    ensure!(failed.code != 0, "{failed:?}");
    person.wait_lease(name, "ended")
}

#[test]
fn one_flipped_byte_ends_the_lease_unbilled_and_is_never_booted() -> Result<()> {
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let copy = dir.path().join("depot");
    copied(&copy)?;
    let mut options = options(&["left=cpu:1,memory:768MiB"])?;
    options.depot = copy.clone();
    let world = World::start(options)?;
    let alice = world.person("alice")?;

    for (os, part, size) in [("debian-13-disk", "disk", FULL), ("linux-minimal", "kernel", SMALL)] {
        let digest = image(&alice, os)?["boot"][part]["sha256"].as_str().context("digest")?.to_owned();
        let blob = copy.join("blobs/sha256").join(&digest);
        let file = fs::File::options().read(true).write(true).open(&blob)?;
        let mut byte = [0u8];
        file.read_exact_at(&mut byte, 4096)?;
        file.write_all_at(&[byte[0] ^ 1], 4096)?;

        let ended = refused(&alice, &format!("bad-{part}"), os, &size)?;
        ensure!(ended["state"]["reason"] == "image_unavailable", "{ended}");
        ensure!(ended["detail"].as_str().is_some_and(|d| d.contains("digest") || d.contains("sha256")), "{ended}");
        let kept = world.hosts[0].state.join("cache/sha256").join(&digest);
        ensure!(!kept.exists(), "a wrong byte is not kept");
        file.write_all_at(&byte, 4096)?;
    }
    ensure!(alice.json(&["statement"])?["total"] == 0);
    // Mended, the same image boots.
    alice.rent("good", "linux-minimal", &SMALL)?;
    alice.run(&["release", "good"])?.ok()?;
    alice.wait_lease("good", "ended")?;

    // Without the program that answers, a disk is not started.
    let guest = image(&alice, "debian-13-disk")?["boot"]["guest"]["sha256"].as_str().context("digest")?.to_owned();
    fs::remove_file(copy.join("blobs/sha256").join(&guest))?;
    let ended = refused(&alice, "no-guest", "debian-13-disk", &FULL)?;
    let told = ended["detail"].as_str().context("detail")?;
    ensure!(ended["state"]["reason"] == "image_unavailable" && told.contains("guest"), "{ended}");
    Ok(())
}

#[test]
fn a_host_reads_none_of_its_files_for_a_disk_that_names_them() -> Result<()> {
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let copy = dir.path().join("depot");
    copied(&copy)?;
    // Whoever has a depot's key can sign what `sublet image add` would refuse.
    let key = fs::read_to_string(copy.join("keys/image-signing.key"))?;
    let seed = data_encoding::HEXLOWER.decode(key.trim().as_bytes())?;
    let key = SecretKey::from_seed(&seed.try_into().ok().context("a seed of 32 bytes")?);
    let signed = fs::read_dir(copy.join("manifests"))?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("debian-13-disk@"));
    let signed: Signed<ImageManifest> = serde_json::from_slice(&fs::read(signed.context("the disk image")?.path())?)?;
    let honest = signed.read()?;
    let secret = dir.path().join("secret");
    fs::write(&secret, [b'x'; 1 << 20])?;
    let secret = secret.to_str().context("UTF-8")?;
    let data_file = format!("data_file={}", dir.path().join("data").display());
    let table: [(&str, &[&str], &str); 2] =
        [("backed", &["-F", "raw", "-b", secret], "backing file"), ("outside", &["-o", &data_file], "in another file")];
    for (name, options, _) in table {
        let made = dir.path().join(name);
        let mut command = Command::new("qemu-img");
        ensure!(command.args(["create", "-q", "-f", "qcow2"]).args(options).arg(&made).arg("1M").status()?.success());
        let bytes = fs::read(&made)?;
        let hostile = Blob { sha256: Sha256Digest::of(&bytes), bytes: bytes.len() as u64 };
        fs::write(copy.join("blobs/sha256").join(hostile.sha256.to_string()), &bytes)?;
        let Boot::Disk { firmware, format, guest, .. } = honest.boot.clone() else { anyhow::bail!("no disk") };
        let boot = Boot::Disk { firmware, format, disk: hostile, guest };
        let manifest = ImageManifest { name: name.into(), os: name.into(), boot, ..honest.clone() };
        let file = copy.join("manifests").join(format!("{}.json", manifest.reference()));
        fs::write(file, serde_json::to_vec(&Signed::sign(&manifest, &key)?)?)?;
    }
    let mut options = options(&["left=cpu:1,memory:768MiB"])?;
    options.depot = copy;
    let world = World::start(options)?;
    let alice = world.person("alice")?;
    for (name, _, words) in table {
        let ended = refused(&alice, name, name, &FULL)?;
        println!("{name}: {}: {}", ended["state"]["reason"], ended["detail"]);
        ensure!(ended["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{ended}");
        ensure!(world.machines().is_empty(), "nothing was started");
    }
    Ok(())
}
