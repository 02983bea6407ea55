//! Detached jobs on a real partition: they go on when the client leaves, when the agent and the market
//! are killed, and nothing of what they say is lost.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::time::Duration;
use sublet_testing::Person;

fn submit(person: &Person, words: &[&str]) -> Result<String> {
    let ran = person.run(&[&["job", "submit"][..], words].concat())?.ok()?;
    Ok(ran.stdout.trim().to_owned())
}

fn show(person: &Person, job: &str) -> Result<Value> {
    person.json(&["job", "show", job])
}

#[test]
fn a_job_outlives_client_market_and_agent_and_every_byte_is_kept() -> Result<()> {
    let mut world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    // Numbers, some at a time, for as long as the test needs; a mark for each start.
    let line = "echo start >> /root/starts; n=0; while [ $n -lt 400 ]; do n=$((n+1)); seq $((n*50-49)) $((n*50)); \
                [ -e /root/go ] || sleep 0.1; done; echo $COLOUR >&2; exit 7";
    let job = submit(&alice, &["--name", "count", "--env", "COLOUR=blue", "--", line])?;
    ensure!(job == "box/1", "{job}: the one lease was meant");
    let loud = submit(&alice, &["box", "--", "echo begin; until [ -e /root/loud ]; do sleep 0.1; done; seq 100000"])?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(show(&alice, "box/count")?["state"] == "running");

    world.kill_market()?;
    let second = submit(&alice, &["box", "--timeout", "1s", "--", "sleep 100"])?;
    ensure!(alice.run(&["job", "wait", &second])?.code == 124, "jobs do not need the market");
    for n in 0..3 {
        if n == 2 {
            alice.inside("box", "(sleep 2; touch /root/loud) > /dev/null 2>&1 < /dev/null &")?.ok()?;
        }
        world.kill_agent(0)?;
        std::thread::sleep(Duration::from_millis(300 + 300 * n * n * n * n));
        world.start_agent(0)?;
        // Asked while the agent may still be away: it is asked again.
        show(&alice, &job)?;
    }
    world.start_market()?;
    alice.inside("box", "touch /root/go")?.ok()?;
    let waited = alice.run(&["job", "wait", &job])?;
    let shown = show(&alice, &job)?;
    ensure!(waited.code == 7, "the job's own status: {waited:?} {shown}");
    ensure!(shown["outcome"] == "exited" && shown["output"]["missed_bytes"] == 0, "{shown}");
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).chain(["blue\n".into()]).collect();
    let logs = alice.run(&["job", "logs", &job])?.ok()?;
    ensure!(logs.stdout == expected, "{} of {} bytes: {shown}", logs.stdout.len(), expected.len());
    // What is said to nobody is held up to a limit; then it is counted, and the job is not held up.
    let waited = alice.run(&["job", "wait", &loud])?;
    let shown = show(&alice, &loud)?;
    let missed = shown["output"]["missed_bytes"].as_u64().context("missed")?;
    ensure!(waited.code == 0 && missed > 100_000, "{waited:?} {shown}");
    let logs = alice.run(&["job", "logs", &loud])?.ok()?.stdout;
    let (before, after) = logs.split_once("\n[sublet: ").context("a note where bytes are missing")?;
    let (note, after) = after.split_once("]\n").context("the note's end")?;
    ensure!(note.starts_with(&format!("{missed} bytes are missing here")), "{note}");
    let all: usize = "begin\n".len() + (1..=100_000).map(|n: u32| n.to_string().len() + 1).sum::<usize>();
    ensure!(before.len() + after.len() + missed as usize == all, "every byte is here or counted: {shown}");
    ensure!(before.starts_with("begin\n") && after.ends_with("99999\n100000\n"), "{note}");
    ensure!(alice.inside("box", "cat /root/starts")?.ok()?.stdout == "start\n", "it was started once");

    let list = alice.run(&["job", "list"])?.ok()?.stdout;
    println!("{list}");
    ensure!(list.contains("box/1") && list.contains("exited 7") && list.contains("timed out"), "{list}");
    let jobs = world.hosts[0].state.join("jobs");
    ensure!(jobs.read_dir()?.count() == 1, "kept for the one lease");
    alice.run(&["release", "box"])?.ok()?;
    alice.wait_lease("box", "ended")?;
    ensure!(jobs.read_dir()?.count() == 0, "and gone with it");
    let gone = alice.run(&["job", "show", &job])?;
    ensure!(gone.code != 0 && gone.stderr.contains("ended"), "{gone:?}");
    Ok(())
}

#[test]
fn jobs_on_every_partition_of_a_gang_followed_cancelled_and_tried_again() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let rent = ["rent", "--name", "gang", "--count", "2", "--os", "linux-minimal", "--emulated", "--for", "1h"];
    alice.run(&[&rent[..], &SMALL].concat())?.ok()?;
    let unclear = alice.run(&["job", "submit", "--", "true"])?;
    ensure!(unclear.code == 2 && unclear.stderr.contains("gang-1, gang-2"), "{unclear:?}");

    let line = "test $SUBLET_ATTEMPT = 2 && echo done on $SUBLET_LEASE && exit 0; exit 1";
    let jobs = submit(&alice, &["gang-*", "--retries", "3", "--", line])?;
    let jobs: Vec<&str> = jobs.lines().collect();
    ensure!(jobs == ["gang-1/1", "gang-2/1"], "{jobs:?}");
    alice.run(&[&["job", "wait"][..], &jobs].concat())?.ok()?;
    for (job, lease) in jobs.iter().zip(["gang-1", "gang-2"]) {
        let id = alice.lease(lease)?["id"].as_str().context("id")?.to_owned();
        let followed = alice.run(&["job", "logs", "-f", job])?.ok()?.stdout;
        ensure!(followed == format!("done on {id}\n"), "{followed}");
        ensure!(show(&alice, job)?["attempt"] == 2);
    }

    let stubborn = submit(&alice, &["gang-1", "--", "trap '' TERM; (trap '' TERM; setsid sleep 1000) & sleep 1000"])?;
    std::thread::sleep(Duration::from_secs(1));
    alice.run(&["job", "cancel", &stubborn])?.ok()?;
    ensure!(alice.run(&["job", "wait", &stubborn])?.code == 130);
    let left = alice.inside("gang-1", "ps | grep -c '[s]leep 1000'")?.stdout;
    ensure!(left.trim() == "0", "what was cancelled leaves nothing running: {left}");
    let none = alice.run(&["job", "logs", "gang-2/9"])?;
    ensure!(none.code == 3 && none.stderr.contains("there are 1"), "{none:?}");
    Ok(())
}

#[test]
fn files_go_in_with_a_job_and_come_out_of_it_and_only_what_differs_goes() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let dir = world.dir().join("files");
    fs::create_dir_all(dir.join("in/deep"))?;
    let big: Vec<u8> = (0u32..3 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(dir.join("in/big"), &big)?;
    fs::write(dir.join("in/deep/a name with spaces"), b"s")?;
    fs::write(dir.join("in/empty"), b"")?;
    let text = |path: &str| dir.join(path).to_string_lossy().into_owned();

    // Half of it is there already, as after a transfer that broke off: only the rest goes.
    alice.inside("box", "mkdir -p /root/work")?.ok()?;
    fs::write(dir.join("half"), &big[..7 << 20])?;
    alice.run_with(&["ssh", "box", "--", "cat > /root/work/big"], &dir.join("half"))?.ok()?;
    alice.inside("box", "stat -c %i /root/work/big > /root/inode")?.ok()?;
    let line = "sha256sum big > results/sum; cp -r deep empty results; stat -c %i big | cmp - /root/inode";
    let line = format!("mkdir -p results; {line}");
    let job = submit(&alice, &["box", "--cwd", "work", "--in", &text("in"), "--out", "results/", "--", &line])?;
    alice.run(&["job", "wait", &job])?.ok().context("the file that was there was gone on with, not replaced")?;
    alice.run(&["job", "fetch", &job, "--to", &text("out")])?.ok()?;
    let digest = sublet_model::identity::Sha256Digest::of(&big);
    ensure!(fs::read_to_string(dir.join("out/results/sum"))? == format!("{digest}  big\n"));
    ensure!(fs::read(dir.join("out/results/deep/a name with spaces"))? == b"s");
    ensure!(fs::read(dir.join("out/results/empty"))?.is_empty());

    // Out again, with half of it here.
    fs::create_dir_all(dir.join("back"))?;
    fs::write(dir.join("back/big.sublet-part"), &big[..5 << 20])?;
    alice.run(&["job", "fetch", &job, "big", "--to", &text("back")])?.ok()?;
    ensure!(fs::read(dir.join("back/big"))? == big && !dir.join("back/big.sublet-part").exists());
    // What was begun with other bytes is noticed by its digest.
    fs::remove_file(dir.join("back/big"))?;
    fs::write(dir.join("back/big.sublet-part"), vec![0; 5 << 20])?;
    alice.run(&["job", "fetch", &job, "big", "--to", &text("back")])?.ok()?;
    ensure!(fs::read(dir.join("back/big"))? == big);
    // All that a job says, though the host keeps the end of it.
    let job = submit(&alice, &["box", "--whole", "--", "mkdir -p x; seq 300000; exit 4"])?;
    ensure!(alice.run(&["job", "wait", &job])?.code == 4);
    alice.run(&["job", "fetch", &job, "--to", &text("whole")])?.ok()?;
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    ensure!(fs::read_to_string(dir.join("whole/output.log"))? == expected);
    let none = alice.run(&["job", "fetch", &job, "nothing", "--to", &text("back")])?;
    ensure!(none.code == 1 && none.stderr.contains("there is no nothing"), "{none:?}");
    Ok(())
}
