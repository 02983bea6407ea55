//! An operating system that is not Linux: a kernel that runs WebAssembly and nothing else.

use crate::fixture::world;
use crate::warm;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use sublet_testing::world::{PATIENCE, eventually};

const SMALL: [&str; 4] = ["--cpu", "1", "--memory", "64MiB"];

/// A module written as text, as a file.
fn module(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, wat::parse_str(text)?)?;
    Ok(path)
}

/// The module that does what `sha256sum` does.
pub fn digest(folder: &Path) -> Result<PathBuf> {
    module(folder, "digest.wasm", include_str!("../../../../images/wasm/jobs/digest.wat"))
}

/// What this computer's own program says of a file.
fn digest_here(path: &Path) -> Result<String> {
    let said = String::from_utf8(Command::new("sha256sum").arg(path).output()?.stdout)?;
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Not whole blocks, and more than a window.
fn input(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("input");
    let bytes: Vec<u8> = (0u32..150_001).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&path, &bytes[..600_001])?;
    Ok(path)
}

#[test]
fn run_brings_the_module_along_and_ends_with_it() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let (digest, input) = (digest(world.dir())?, input(world.dir())?);
    let digest = digest.to_string_lossy();
    let begun = Instant::now();
    let run = ["run", "--name", "once", "--os", "wasm", "--emulated"];
    let ran = alice.run_with(&[&run[..], &SMALL, &["--", &digest]].concat(), &input)?.ok()?;
    println!("one job, start to end: {:?}", begun.elapsed());
    ensure!(ran.stdout.trim_end() == digest_here(&input)?, "{ran:?}");
    let ended = alice.wait_lease("once", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");
    ensure!(world.machines().is_empty());

    // Nothing else runs there, and that is said.
    let run = ["run", "--name", "twice", "--os", "wasm", "--emulated"];
    let ran = alice.run(&[&run[..], &SMALL, &["--", "uname", "-a"]].concat())?;
    ensure!(ran.code == 127 && ran.stderr.contains("this partition runs WebAssembly"), "{ran:?}");
    let ended = alice.wait_lease("twice", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");
    Ok(())
}

#[test]
fn modules_files_and_limits_of_a_leased_partition() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let dir = world.dir();
    let begun = Instant::now();
    alice.rent("box", "wasm", &SMALL)?;
    println!("rented and ready after {:?}", begun.elapsed());
    let (digest, input) = (digest(dir)?, input(dir)?);
    let write = r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
                   (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                   (memory (export "memory") 1)"#;
    let traps = module(dir, "traps.wasm", &format!("(module {write} (func (export \"_start\") unreachable))"))?;
    let spins = module(dir, "spins.wasm", "(module (func (export \"_start\") (loop $again (br $again))))")?;
    // As much memory as there is, in pieces of 4 MiB; how many it got is its status.
    let grows = "(local $count i32)
        (loop $more (if (i32.ne (memory.grow (i32.const 64)) (i32.const -1)) (then
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (br $more))))
        (call $exit (local.get $count))";
    let grows = module(dir, "grows.wasm", &format!("(module {write} (func (export \"_start\") {grows}))"))?;

    let text = |path: &Path| path.to_string_lossy().into_owned();
    let all = [&digest, &traps, &spins, &grows, &input].map(|path| text(path));
    let words: Vec<&str> = std::iter::once("cp").chain(all.iter().map(String::as_str)).chain(["box:"]).collect();
    alice.run(&words)?.ok()?;
    let expected = digest_here(&input)?;
    ensure!(alice.inside("box", "digest.wasm input")?.ok()?.stdout.trim_end() == expected);
    let piped = alice.run_with(&["ssh", "box", "--", "./digest.wasm"], &input)?.ok()?;
    ensure!(piped.stdout.trim_end() == expected, "{piped:?}");
    let back = dir.join("back");
    alice.run(&["cp", "box:/input", &text(&back)])?.ok()?;
    ensure!(std::fs::read(&back)? == std::fs::read(&input)?);
    let lost = alice.inside("box", "digest.wasm nowhere")?;
    ensure!(lost.code == 1 && lost.stderr.contains("cannot read the file"), "{lost:?}");

    let verified = alice.run(&["lease", "verify", "box"])?.ok()?;
    println!("{}", verified.stdout);
    let terminal = alice.run(&["run", "--lease", "box", "--tty", "--", "digest.wasm"])?;
    ensure!(terminal.code == 127, "{terminal:?}");

    let trapped = alice.inside("box", "traps.wasm")?;
    ensure!(trapped.code == 134 && trapped.stderr.contains("traps.wasm: "), "{trapped:?}");
    let grown = alice.inside("box", "grows.wasm")?;
    // Of 768 MiB, less what the kernel keeps; where it has to be moved to grow, there is room for half.
    ensure!((90..=190).contains(&grown.code), "{grown:?}");
    for _ in 0..3 {
        ensure!(alice.inside("box", "grows.wasm")?.code == grown.code, "what a job had comes back");
    }
    for line in ["ls", "digest.wasm input | cat", "sh -c true"] {
        let none = alice.inside("box", line)?;
        ensure!(none.code == 127 && none.stderr.contains("this partition runs WebAssembly"), "{line}: {none:?}");
    }

    // One that never ends is ended by its time, by its client, and holds nobody up meanwhile.
    let timed = alice.run(&["job", "submit", "box", "--timeout", "1s", "--", "spins.wasm"])?.ok()?;
    let spinning = alice.run(&["job", "submit", "box", "--", "spins.wasm"])?.ok()?;
    ensure!(alice.inside("box", "digest.wasm input")?.ok()?.stdout.trim_end() == expected);
    ensure!(alice.run(&["job", "wait", timed.stdout.trim()])?.code == 124);
    alice.run(&["job", "cancel", spinning.stdout.trim()])?.ok()?;
    let cancelled = alice.run(&["job", "wait", spinning.stdout.trim()])?;
    ensure!(cancelled.code != 0, "{cancelled:?}");
    let kept = alice.run(&["job", "submit", "box", "--", "digest.wasm input"])?.ok()?;
    ensure!(alice.run(&["job", "wait", kept.stdout.trim()])?.code == 0);
    ensure!(alice.run(&["job", "logs", kept.stdout.trim()])?.ok()?.stdout.trim_end() == expected);

    alice.run(&["release", "box"])?.ok()?;
    alice.wait_lease("box", "ended")?;
    Ok(())
}

/// 32 random bytes, as letters.
const RANDOM: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $at i32)
      (drop (call $random (i32.const 100) (i32.const 32)))
      (loop $next
        (i32.store8 offset=100 (local.get $at)
          (i32.add (i32.const 97) (i32.and (i32.load8_u offset=100 (local.get $at)) (i32.const 15))))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 32))))
      (i32.store (i32.const 0) (i32.const 100))
      (i32.store (i32.const 4) (i32.const 32))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[test]
fn no_template_is_made_of_what_boots_as_quickly_and_each_draws_its_own_random_bytes() -> Result<()> {
    let world = warm::world("128MiB")?;
    let alice = world.person("alice")?;
    let random = module(world.dir(), "random.wasm", RANDOM)?;
    let mut drawn = Vec::new();
    let pointless = "it boots as quickly as a template of it would start";
    for (lease, why) in [("first", "there is no template of it yet"), ("second", pointless)] {
        alice.rent(lease, "wasm", &["--cpu", "1", "--memory", "128MiB"])?;
        ensure!(warm::started(&alice, lease)? == format!("cold: {why}"), "{}", alice.lease(lease)?);
        println!("{lease}: {} us from the grant to ready", warm::ready_micros(&alice.lease(lease)?)?);
        alice.run(&["cp", &random.to_string_lossy(), &format!("{lease}:")])?.ok()?;
        drawn.push(alice.inside(lease, "random.wasm")?.ok()?.stdout);
        eventually("the host has asked and was told", PATIENCE, || {
            Ok(world.agent_log(0).contains("no template is made of it").then_some(()))
        })?;
    }
    ensure!(drawn.iter().all(|letters| letters.len() == 32) && drawn[0] != drawn[1], "{drawn:?}");
    let log = world.agent_log(0);
    ensure!(log.matches("no template is made of it").count() == 1, "it is asked once: {log}");
    ensure!(!log.contains("could not be made") && warm::templates(&world).is_empty(), "{log}");
    Ok(())
}
