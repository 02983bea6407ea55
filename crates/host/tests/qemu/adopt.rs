//! What a new agent makes of what an old one left.

use crate::fixture::{self, Fixture, gone, in_seconds, kill};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use sublet_host::guard::record::{Boottime, PidRecord, ProcessId, RunDir, boot_id};
use sublet_host::qemu::payload::Payload;
use sublet_host::vmm::{ExitCause, Machine, Observed, Vmm};
use uuid::Uuid;

const STAND_IN: &str = "SUBLET_TEST_STAND_IN";

/// Not a test of its own: an agent in a process of its own, that can be stopped and killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the other tests"]
async fn stand_in_agent() {
    let Ok(argument) = std::env::var(STAND_IN) else { return };
    let [dir, generation, uuid, partition, seconds] = argument.split(' ').collect::<Vec<_>>()[..] else { panic!() };
    let mut spec = fixture::spec(Path::new(dir), Payload::Halt);
    spec.generation = generation.parse().unwrap();
    spec.uuid = uuid.parse().unwrap();
    spec.partition = partition.parse().unwrap();
    let vmm = fixture::driver(&format!("test-{}", spec.uuid.simple()));
    vmm.prepare(&spec).await.unwrap();
    vmm.start(&spec, in_seconds(seconds.parse().unwrap())).await.unwrap();
    eprintln!("started");
    std::future::pending::<()>().await;
}

/// Starts the fixture's machine from another process.
fn stand_in(f: &Fixture, seconds: i64) -> Child {
    let dir = f.spec.run_dir.parent().unwrap().display().to_string();
    let argument = format!("{dir} {} {} {} {seconds}", f.spec.generation, f.spec.uuid, f.spec.partition);
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "adopt::stand_in_agent", "--nocapture"])
        .env(STAND_IN, argument)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(agent.stderr.take().unwrap()).lines();
    let started = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("started")));
    assert!(started.is_some(), "the stand-in did not start its machine");
    agent
}

fn end(mut agent: Child) {
    kill("-9", agent.id() as i32);
    agent.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_outlives_its_agent_and_is_adopted() {
    let f = Fixture::new(Payload::Halt);
    end(stand_in(&f, 600));
    let (guard, monitor) = f.pids();
    assert!(guard.is_alive() && monitor.is_alive(), "nothing happens to the machine");
    match f.vmm.observe(&f.machine).await {
        Observed::Running { pid, generation: 5, .. } if pid == monitor.pid => {}
        other => panic!("{other:?}"),
    }
    // And it is watched like one of its own.
    kill("-9", monitor.pid);
    let seen = f.until(|seen| !seen.is_live()).await;
    assert!(matches!(seen, Observed::Exited(r) if r.cause == ExitCause::Signalled { signal: 9 }));
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_agent_does_not_keep_a_machine_past_its_end() {
    let f = Fixture::new(Payload::Halt);
    let agent = stand_in(&f, 12);
    kill("-STOP", agent.id() as i32);
    let (_, monitor) = f.pids();
    let end_of_it = f.run_dir().read_deadline().unwrap();
    assert!(monitor.is_alive() || Boottime::now() >= end_of_it);
    gone(monitor).await;
    let deadline = std::time::Instant::now() + fixture::PATIENCE;
    let exit = loop {
        match f.run_dir().read_exit() {
            Ok(exit) => break exit,
            Err(_) if std::time::Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(exit.cause, ExitCause::Deadline);
    assert!(exit.at_boottime_us >= end_of_it.0);
    end(agent);
    assert!(
        matches!(f.vmm.observe(&f.machine).await, Observed::Exited(r) if r == exit),
        "a later agent still learns it"
    );
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_generation_or_uuid_is_killed() {
    type Change = fn(&mut Machine);
    let strangers: [Change; 2] = [|m| m.generation += 1, |m| m.uuid = Uuid::from_u128(1)];
    for change in strangers {
        let f = Fixture::new(Payload::Halt);
        end(stand_in(&f, 600));
        let (guard, monitor) = f.pids();
        let mut other = f.machine.clone();
        change(&mut other);
        assert_eq!(f.vmm.observe(&other).await, Observed::NotRunning);
        assert!(!guard.is_alive() && !monitor.is_alive());
        f.wiped().await;
    }
}

/// The record is right but for what QEMU itself says.
#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_with_another_uuid_is_killed() {
    let f = Fixture::new(Payload::Halt);
    end(stand_in(&f, 600));
    let (guard, monitor) = f.pids();
    let claimed = Machine { uuid: Uuid::from_u128(2), ..f.machine.clone() };
    let record = PidRecord { uuid: claimed.uuid, ..f.run_dir().read_pid().unwrap() };
    f.run_dir().write_pid(&record).unwrap();
    assert!(!f.vmm.observe(&claimed).await.is_live());
    assert!(!guard.is_alive() && !monitor.is_alive());
    f.vmm.wipe(&claimed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_pid_is_nobody_of_ours() {
    let f = Fixture::new(Payload::Halt);
    f.vmm.prepare(&f.spec).await.unwrap();
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    let real = ProcessId::of(bystander.id() as i32).unwrap();
    let reused = ProcessId { start_ticks: real.start_ticks - 1, ..real };
    let record = PidRecord {
        boot_id: boot_id().unwrap(),
        generation: f.machine.generation,
        uuid: f.machine.uuid,
        guard: reused,
        monitor: reused,
    };
    let earlier_boot = PidRecord { boot_id: "another".into(), guard: real, monitor: real, ..record.clone() };
    for record in [record, earlier_boot] {
        f.run_dir().write_pid(&record).unwrap();
        let seen = f.vmm.observe(&f.machine).await;
        assert!(matches!(seen, Observed::Exited(r) if r.cause == ExitCause::Vanished));
        assert!(real.is_alive(), "a stranger is left alone");
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_run_directory_is_no_machine() {
    let f = Fixture::new(Payload::Halt);
    assert_eq!(f.vmm.observe(&f.machine).await, Observed::NotRunning, "not even a directory");
    f.vmm.prepare(&f.spec).await.unwrap();
    drop(std::os::unix::net::UnixListener::bind(RunDir::new(&f.spec.run_dir).qmp_socket()).unwrap());
    for garbage in [b"".as_slice(), b"{", b"[[[[", b"\xff\xfe", &[b'9'; 300_000]] {
        fs::write(f.spec.run_dir.join("pid.json"), garbage).unwrap();
        fs::write(f.spec.run_dir.join("exit.json"), garbage).unwrap();
        assert_eq!(f.vmm.observe(&f.machine).await, Observed::NotRunning);
    }
    f.vmm.start(&f.spec, in_seconds(600)).await.expect("stale sockets and records are no hindrance");
    f.vmm.stop(&f.machine).await.unwrap();
    f.wiped().await;
}
