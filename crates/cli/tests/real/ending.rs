//! The end of a lease: said in time where its client works; brought about when nobody uses it; with what
//! is to be saved brought here first.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use sublet_testing::Person;
use sublet_testing::process::signal;

fn rent(alice: &Person, more: &[&str]) -> Result<()> {
    let rent = ["rent", "--name", "box", "--os", "linux-minimal", "--emulated"];
    alice.run(&[&rent[..], &SMALL, more].concat())?.ok().map(drop)
}

/// Files in the folders of a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries(folder).flat_map(|folder| entries(&folder)).collect()
}

#[test]
fn the_end_is_said_on_terminals_and_in_a_file() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    rent(&alice, &["--for", "70s"])?;
    let terminal =
        alice.command(&["ssh", "box", "--tty", "--", "sleep 100"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut terminal = terminal?;
    let mut lines = BufReader::new(terminal.stdout.take().context("stdout")?).lines();
    let said = lines.by_ref().map_while(Result::ok).find(|line| !line.trim().is_empty());
    let said = said.context("the terminal ended without a word")?;
    println!("{said}");
    ensure!(said.contains("this lease ends in") && said.contains("sublet extend box 1h"), "{said}");
    let noted = alice.inside("box", "cat /run/sublet/notice")?.ok()?.stdout;
    ensure!(noted.trim() == said.trim(), "{noted}");
    terminal.kill()?;
    terminal.wait()?;

    // Extended, it is not over, and what was said of the other end counts no more.
    alice.run(&["extend", "box", "1h"])?.ok()?;
    ensure!(alice.lease("box")?["state"]["state"] == "active");
    fs::create_dir_all(alice.home())?;
    alice.inside("box", "mkdir -p /root/out; echo kept > /root/out/file")?.ok()?;
    let mut release = alice.command(&["release", "box", "--save", "out"]);
    let released = release.current_dir(alice.home()).output()?;
    ensure!(released.status.success(), "{released:?}");
    ensure!(fs::read_to_string(alice.home().join("out/file"))? == "kept\n");
    Ok(())
}

#[test]
fn a_lease_that_nobody_uses_ends_and_one_with_a_job_does_not() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    rent(&alice, &["--for", "1h", "--idle-release", "10s"])?;
    alice.run(&["job", "submit", "box", "--", "sleep 14"])?.ok()?;
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(13));
    ensure!(alice.lease("box")?["state"]["state"] == "active", "a job is use");
    let ended = alice.wait_lease("box", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");
    ensure!(ended["detail"].as_str().is_some_and(|detail| detail.contains("nobody used it for")), "{ended}");
    let after = begun.elapsed();
    ensure!((Duration::from_secs(22)..Duration::from_secs(40)).contains(&after), "{after:?}");
    Ok(())
}

#[test]
fn run_takes_files_along_and_brings_them_back_however_it_ended() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let dir = world.dir().join("project");
    fs::create_dir_all(dir.join("src"))?;
    fs::write(dir.join("src/words"), "b\na\n")?;
    let run = |command: &str| -> Result<Command> {
        let base = ["run", "--name", "once", "--os", "linux-minimal", "--emulated", "--cpu", "1", "--memory", "256MiB"];
        let mut run = alice.command(&[&base[..], &["--in", "src", "--out", "results", "--", command]].concat());
        run.current_dir(&dir).stdin(Stdio::null());
        Ok(run)
    };
    fs::create_dir_all(alice.home())?;
    let ran = run("mkdir results && sort words > results/sorted; echo done; exit 3")?.output()?;
    ensure!(ran.status.code() == Some(3) && ran.stdout == b"done\n", "{ran:?}");
    ensure!(fs::read_to_string(dir.join("results/sorted"))? == "a\nb\n");
    let ended = alice.wait_lease("once", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");

    // Killed while the partition boots: the host knows by then that the lease is not to run on.
    let base = ["run", "--name", "early", "--os", "linux-minimal", "--emulated", "--cpu", "1", "--memory", "256MiB"];
    let words = [&base[..], &["--in", "src", "--release-after-disconnect", "10s", "--", "sleep 1000"]].concat();
    let mut client = alice.command(&words).current_dir(&dir).stdin(Stdio::null()).spawn()?;
    let (jobs, begun) = (world.hosts[0].state.join("jobs"), Instant::now());
    let told = || walk(&jobs).iter().any(|path| path.ends_with("idle-release"));
    while !told() {
        ensure!(begun.elapsed() < Duration::from_secs(60), "the host was not told when the lease is to end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let state = alice.lease("early")?["state"]["state"].clone();
    signal(client.id(), "KILL");
    client.wait()?;
    ensure!(state == "granted", "told before it was ready, not after: {state}");
    let ended = alice.wait_lease("early", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");

    // Killed while the command runs: the lease does not run on.
    let base = ["run", "--name", "left", "--os", "linux-minimal", "--emulated", "--cpu", "1", "--memory", "256MiB"];
    let words = [&base[..], &["--in", "src", "--release-after-disconnect", "10s", "--", "sleep 1000"]].concat();
    let mut client = alice.command(&words).current_dir(&dir).stdin(Stdio::null()).spawn()?;
    alice.wait_lease("left", "active")?;
    std::thread::sleep(Duration::from_secs(6));
    signal(client.id(), "KILL");
    client.wait()?;
    let ended = alice.wait_lease("left", "ended")?;
    ensure!(ended["state"]["reason"] == "released", "{ended}");
    Ok(())
}
