//! Detached jobs, asked for with plain `ssh -s`.

use crate::rehearsal::resident_kib;
use crate::setup::{Done, House};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn answer(done: &Done) -> Value {
    assert_eq!(done.code(), 0, "{}", done.err());
    serde_json::from_slice(&done.stdout).unwrap()
}

async fn submit(house: &House, line: &str, more: Value) -> String {
    let key = crate::setup::sha256(line.as_bytes());
    let mut job = json!({"key": key, "command": [line]});
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    answer(&house.ask(&json!({"submit": job})).await)["number"].to_string()
}

async fn wait(house: &House, job: &str) -> Value {
    answer(&house.ask(&json!({"wait": {"job": job}})).await)
}

async fn logs(house: &House, job: &str) -> String {
    let done = house.ask(&json!({"logs": {"job": job}})).await;
    assert_eq!((done.code(), done.err().as_str()), (0, ""));
    done.out()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_alone_and_its_word_is_kept() {
    let house = House::open().await;
    let line = "echo out; echo err >&2; echo $A $SUBLET_JOB $SUBLET_LEASE; cat; sleep 0.5; exit 7";
    let job = submit(&house, line, json!({"name": "first", "env": {"A": "b c"}})).await;
    assert_eq!(job, "1");
    assert_eq!(answer(&house.ask(&json!({"show": {"job": "first"}})).await)["number"], 1);
    // The same key is the same job.
    assert_eq!(submit(&house, line, json!({"name": "first", "env": {"A": "b c"}})).await, "1");
    let followed = house.ask(&json!({"logs": {"job": "1", "follow": true}})).await;
    assert_eq!((followed.out().as_str(), followed.code()), ("out\nerr\nb c 1 lease_a\n", 0), "{}", followed.err());
    let over = wait(&house, "1").await;
    assert_eq!((&over["state"], &over["outcome"], &over["code"]), (&json!("ended"), &json!("exited"), &json!(7)));
    assert_eq!(logs(&house, "1").await, "out\nerr\nb c 1 lease_a\n");
    let part = house.ask(&json!({"logs": {"job": "1", "from": 4, "tail": 100}})).await;
    assert_eq!(part.out(), "err\nb c 1 lease_a\n");
    let list = answer(&house.ask(&json!("list")).await);
    assert_eq!(list.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_what_its_machine_is() {
    let house = House::open().await;
    let told = answer(&house.ask(&json!("figures")).await);
    assert_eq!(told, json!({"generation": 3, "vcpus": 2, "memory": 256, "cpu": null, "disk": 0}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_in_words() {
    let house = House::open().await;
    let job = |more: Value| {
        let mut job = json!({"key": "k", "command": ["true"]});
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"submit": job})
    };
    let many: serde_json::Map<String, Value> = (0..300).map(|n| (format!("V{n}"), json!(""))).collect();
    for (request, code, words) in [
        (json!({"show": {"job": "7"}}), 3, "no job 7: no job was submitted"),
        (json!({"dance": {}}), 2, "can't be read"),
        (job(json!({"command": []})), 2, "needs a command"),
        (job(json!({"command": ["a\u{0}b"]})), 2, "NUL byte"),
        (job(json!({"command": ["x".repeat(50_000)]})), 2, "are the most"),
        (job(json!({"env": many})), 2, "300 variables"),
        (job(json!({"env": {"A=B": "c"}})), 2, "no name of a variable"),
        (job(json!({"name": "1"})), 2, "begins with a letter"),
        (job(json!({"retries": 101})), 2, "101 retries"),
        (job(json!({"timeout_seconds": 0})), 2, "at least one second"),
        (job(json!({"key": ""})), 2, "1 to 64 bytes"),
        (json!("x".repeat(70_000)), 2, "a question of more than"),
    ] {
        let done = house.ask(&request).await;
        assert_eq!((done.code(), done.out().as_str()), (code, ""), "{words}: {}", done.err());
        assert!(done.err().contains(words), "{words}: {}", done.err());
    }
    // What can't be run is told by the job itself.
    let lost = submit(&house, "x", json!({"command": ["/no/such/program", "a"]})).await;
    let over = wait(&house, &lost).await;
    assert_eq!(over["outcome"], "failed", "{over}");
    assert!(over["detail"].as_str().unwrap().contains("cannot start it"), "{over}");

    let one_shot = House::one_shot().await;
    let done = one_shot.ask(&job(json!({}))).await;
    assert!(done.code() == 5 && done.err().contains("ends with its one command"), "{}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_much_output_the_end_is_kept_and_the_rest_is_counted() {
    let house = House::open().await;
    let job = submit(&house, "seq 1000000", json!({})).await;
    let over = wait(&house, &job).await;
    let all: String = (1..=1_000_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(over["output"], json!({"bytes": all.len(), "kept_bytes": 1 << 20, "missed_bytes": 0}));
    let done = house.ask(&json!({"logs": {"job": job}})).await;
    let kept = &all[all.len() - (1 << 20)..];
    assert!(done.out() == kept, "the last MiB, whole: {} bytes", done.out().len());
    assert!(
        done.err().contains(&format!("{} bytes before this are not kept", all.len() - kept.len())),
        "{}",
        done.err()
    );
    let files: u64 = walk(&house.path("jobs"));
    assert!(files < (1 << 20) + (1 << 17), "{files} bytes on disk");
}

fn walk(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return std::fs::metadata(folder).map_or(0, |m| m.len()) };
    entries.map(|entry| walk(&entry.unwrap().path())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_again_and_again_misses_nothing() {
    let house = House::open().await;
    let starts = house.path("starts");
    let line = format!("echo x >> {}; for n in $(seq 20000); do echo $n; done; exit 3", starts.display());
    let job = submit(&house, &line, json!({})).await;
    for n in 0..8 {
        sleep(Duration::from_millis(30 + 20 * n)).await;
        house.forget_all().await;
        house.boot().await;
    }
    let over = wait(&house, &job).await;
    assert_eq!((&over["code"], &over["attempt"]), (&json!(3), &json!(1)));
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(logs(&house, &job).await == expected, "every byte once: {over}");
    assert_eq!(std::fs::read_to_string(starts).unwrap(), "x\n", "started once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_program_that_is_killed_begins_nothing_twice() {
    let house = House::open().await;
    let (mut lost, mut found) = (0, 0);
    for n in 0..30u64 {
        let starts = house.path(&format!("starts-{n}"));
        let job = submit(&house, &format!("echo x >> {}; sleep 0.05", starts.display()), json!({})).await;
        // Between the fork in the guest and the host's word that it runs lies a moment: it is to be hit.
        let deadline = Instant::now() + Duration::from_millis(n % 10);
        while !starts.exists() && Instant::now() < deadline {
            sleep(Duration::from_micros(50)).await;
        }
        house.replace_guest();
        house.boot().await;
        let over = wait(&house, &job).await;
        match over["outcome"].as_str().unwrap() {
            "lost" => lost += 1,
            "exited" => found += 1,
            other => panic!("{other}: {over}"),
        }
        // One that was killed before it had a shell to run may be lost without a start.
        let started = std::fs::read_to_string(&starts).unwrap_or_default();
        assert!(started.len() <= 2, "job {job} began more than once: {started:?}, {over}");
        assert!(over["outcome"] == "lost" || started == "x\n", "{over}");
    }
    eprintln!("{lost} lost, {found} begun after the program was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_while_nobody_is_there_is_found_ended() {
    let house = House::open().await;
    let job = submit(&house, "sleep 0.5; echo said meanwhile; exit 5", json!({})).await;
    sleep(Duration::from_millis(300)).await;
    house.forget_all().await;
    sleep(Duration::from_secs(1)).await;
    house.boot().await;
    assert_eq!(
        (wait(&house, &job).await["code"].clone(), logs(&house, &job).await),
        (json!(5), "said meanwhile\n".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_timed_out_tried_again_and_lost() {
    let house = House::open().await;
    let trapped = house.path("trapped");
    let line = format!("trap 'echo term > {}; exit 9' TERM; while :; do sleep 0.05; done", trapped.display());
    let job = submit(&house, &line, json!({})).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(answer(&house.ask(&json!({"cancel": {"job": job}})).await)["state"], "stopping");
    assert_eq!(wait(&house, &job).await["outcome"], "cancelled");
    assert_eq!(std::fs::read_to_string(trapped).unwrap(), "term\n");

    let slow = submit(&house, "echo try $SUBLET_ATTEMPT; sleep 30", json!({"timeout_seconds": 1, "retries": 1})).await;
    let over = wait(&house, &slow).await;
    assert_eq!((&over["outcome"], &over["attempt"]), (&json!("timed_out"), &json!(2)), "{over}");
    assert_eq!(logs(&house, &slow).await, "try 1\ntry 2\n");

    let third = "echo $SUBLET_ATTEMPT; test $SUBLET_ATTEMPT = 3";
    let over = wait(&house, &submit(&house, third, json!({"retries": 5})).await).await;
    assert_eq!((&over["code"], &over["attempt"]), (&json!(0), &json!(3)), "{over}");

    let lost = submit(&house, "sleep 1000", json!({"retries": 3})).await;
    sleep(Duration::from_millis(300)).await;
    house.forget_all().await;
    house.replace_guest();
    house.boot().await;
    let over = wait(&house, &lost).await;
    assert_eq!((&over["outcome"], &over["attempt"]), (&json!("lost"), &json!(1)), "{over}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_boot_jobs_wait_and_limits_hold() {
    let house = House::boot_later().await;
    for n in 0..32 {
        submit(&house, &format!("echo {n}"), json!({})).await;
    }
    let done = house.ask(&json!({"submit": {"key": "k", "command": ["true"]}})).await;
    assert!(done.code() == 5 && done.err().contains("32 jobs are not over"), "{}", done.err());
    assert_eq!(answer(&house.ask(&json!({"cancel": {"job": "2"}})).await)["outcome"], "cancelled");
    house.boot().await;
    for n in [1, 3, 32] {
        wait(&house, &n.to_string()).await;
        assert_eq!(logs(&house, &n.to_string()).await, format!("{}\n", n - 1));
    }
    // The oldest that are over give way.
    for n in 0..34 {
        let job = submit(&house, &format!("echo more {n}"), json!({})).await;
        wait(&house, &job).await;
    }
    let list = answer(&house.ask(&json!("list")).await);
    let numbers: Vec<u64> = list.as_array().unwrap().iter().map(|job| job["number"].as_u64().unwrap()).collect();
    assert_eq!((numbers.len(), numbers[0], numbers[63]), (64, 3, 66));
}

/// In a process of its own: its memory is what is looked at. `SUBLET_FLOOD_MIB=10240` for the whole of it.
#[test]
fn a_flood_costs_fixed_memory_attached_and_detached() {
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "jobs::alone_a_flood_comes", "--nocapture"])
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
    eprintln!("{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "in a process of its own, started by the test above"]
async fn alone_a_flood_comes() {
    let mib: u64 = std::env::var("SUBLET_FLOOD_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(256);
    let house = House::open().await;
    let zeros = |mib: u64| format!("dd if=/dev/zero bs=64k count={} 2> /dev/null", mib * 16);
    // Once in each way, so that what is only made once is there.
    house.ssh_to_nowhere(&zeros(16)).await;
    let first = submit(&house, &zeros(16), json!({})).await;
    wait(&house, &first).await;
    let begun = Instant::now();
    let attached = house.ssh_to_nowhere(&zeros(mib)).await;
    let between = begun.elapsed();
    let before = resident_kib();
    let job = submit(&house, &format!("{}; true", zeros(mib)), json!({})).await;
    let over = wait(&house, &job).await;
    let detached = resident_kib().saturating_sub(before);
    eprintln!(
        "{mib} MiB attached in {between:.1?}: {attached} KiB more; detached in {:.1?}: {detached} KiB more",
        begun.elapsed() - between
    );
    assert_eq!(over["output"]["bytes"], mib << 20);
    assert!(attached < 8192 && detached < 8192, "{attached} and {detached} KiB");
}
