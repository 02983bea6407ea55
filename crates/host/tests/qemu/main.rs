//! The driver and the guard with the real QEMU, and kernels of a few bytes.

mod adopt;
mod fixture;
mod walls;
mod warm;

use fixture::{Fixture, UID, gone, in_seconds, kill, network_sockets, status};
use std::time::Duration;
use sublet_host::guard::record::Boottime;
use sublet_host::qemu::payload::Payload;
use sublet_host::vmm::{ExitCause, Observed, Vmm, VmmError};
use sublet_model::units::{MiB, Millicores};

fn cause(observed: &Observed) -> Option<ExitCause> {
    match observed {
        Observed::Exited(record) => Some(record.cause.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_what_was_asked_for_and_may_do_nothing_else() {
    let f = Fixture::started(Payload::Halt).await;
    let (guard, monitor) = f.pids();
    let expected = Observed::Running { pid: monitor.pid, uuid: f.spec.uuid, generation: 5, vcpus: 2, memory: MiB(64) };
    assert_eq!(f.vmm.observe(&f.machine).await, expected);

    assert_eq!(status(monitor.pid, "Uid"), format!("{UID} {UID} {UID} {UID}"));
    assert_eq!(status(monitor.pid, "Gid"), format!("{UID} {UID} {UID} {UID}"));
    assert_eq!(status(monitor.pid, "Groups"), "");
    assert_eq!(status(monitor.pid, "CapEff"), "0000000000000000");
    assert_eq!(status(monitor.pid, "NoNewPrivs"), "1");
    assert_eq!(status(monitor.pid, "Seccomp"), "2");
    // The guard keeps CAP_KILL (5) of what root may do.
    assert_eq!(status(guard.pid, "CapEff"), "0000000000000020");
    assert_eq!(status(guard.pid, "CapBnd"), "0000000000000000");
    assert_eq!(status(guard.pid, "NoNewPrivs"), "1");
    assert_eq!(status(guard.pid, "Threads"), "1");
    assert_eq!(status(monitor.pid, "PPid"), guard.pid.to_string());
    for pid in [guard.pid, monitor.pid] {
        assert_eq!(network_sockets(pid), Vec::<String>::new());
    }

    assert!(f.vmm.start(&f.spec, in_seconds(600)).await.is_ok(), "starting it again changes nothing");
    assert_eq!(f.pids().1, monitor);
    let newer = sublet_host::vmm::MachineSpec { generation: 6, uuid: uuid::Uuid::now_v7(), ..f.spec.clone() };
    let refused = f.vmm.start(&newer, in_seconds(600)).await;
    assert!(matches!(refused, Err(VmmError::AlreadyRunning { running: 5, .. })), "{refused:?}");
    assert!(matches!(f.vmm.wipe(&f.machine).await, Err(VmmError::AlreadyRunning { .. })));

    let usage = f.vmm.usage(&f.machine).await.unwrap();
    assert!(usage.cpu_nanoseconds > 0 && usage.memory_bytes > 0, "{usage:?}");
    f.vmm.resize(&f.machine, Millicores(500)).await.unwrap();

    let exit = f.vmm.stop(&f.machine).await.unwrap().unwrap();
    assert_eq!(exit.cause, ExitCause::Stopped);
    assert!(!guard.is_alive() && !monitor.is_alive());
    assert_eq!(f.vmm.stop(&f.machine).await.unwrap().unwrap(), exit, "stopping it again says the same");
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_seen_without_asking() {
    let f = Fixture::started(Payload::Panic).await;
    f.until(|seen| *seen == Observed::Panicked).await;
    let exit = f.vmm.stop(&f.machine).await.unwrap().unwrap();
    assert_eq!(exit.cause, ExitCause::Stopped);
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_restarts_has_shut_down() {
    let f = Fixture::started(Payload::Reset).await;
    f.until(|seen| *seen == Observed::ShutDown).await;
    f.vmm.stop(&f.machine).await.unwrap();
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_monitor_is_recorded_as_killed() {
    let f = Fixture::started(Payload::Halt).await;
    let (guard, monitor) = f.pids();
    kill("-9", monitor.pid);
    let seen = f.until(|seen| !seen.is_live()).await;
    assert_eq!(cause(&seen), Some(ExitCause::Signalled { signal: 9 }));
    assert!(!guard.is_alive(), "the guard ends with its machine");
    assert_eq!(f.run_dir().read_exit().unwrap().cause, ExitCause::Signalled { signal: 9 });
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_guard_takes_its_monitor_along() {
    let f = Fixture::started(Payload::Flood).await;
    let (guard, monitor) = f.pids();
    kill("-9", guard.pid);
    let seen = f.until(|seen| !seen.is_live()).await;
    assert_eq!(cause(&seen), Some(ExitCause::Vanished));
    assert!(!monitor.is_alive());
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_paid_end_is_kept_and_can_be_moved() {
    let f = Fixture::new(Payload::Halt);
    let first_end = in_seconds(8);
    f.start(first_end).await;
    f.vmm.set_deadline(&f.machine, in_seconds(600)).await.unwrap();
    while Boottime::now() <= first_end.plus_micros(300_000) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(f.vmm.observe(&f.machine).await.is_live(), "the end was moved away");

    // Nonsense in its place changes nothing.
    std::fs::write(f.spec.run_dir.join("deadline"), "soon").unwrap();
    let end = in_seconds(1);
    f.vmm.set_deadline(&f.machine, end).await.unwrap();
    let seen = f.until(|seen| !seen.is_live()).await;
    let Observed::Exited(record) = seen else { panic!("{seen:?}") };
    assert_eq!(record.cause, ExitCause::Deadline);
    assert!(record.at_boottime_us >= end.0, "not before its end");
    assert!(matches!(f.vmm.set_deadline(&f.machine, end).await, Err(VmmError::NotRunning { .. })));
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_flood_fills_a_ring_and_nothing_more() {
    let f = Fixture::started(Payload::Flood).await;
    tokio::time::timeout(fixture::PATIENCE, async {
        while f.vmm.console(&f.machine).await.unwrap().len() < 64 * 1024 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the ring never filled");
    let kib = |pid| status(pid, "VmRSS").strip_suffix(" kB").unwrap().parse::<u64>().unwrap();
    let before = kib(f.pids().1.pid);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(kib(f.pids().1.pid) < before + 8 * 1024, "QEMU must not grow with what a guest prints");
    assert_eq!(f.vmm.console(&f.machine).await.unwrap().len(), 64 * 1024);
    f.vmm.stop(&f.machine).await.unwrap();
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let f = Fixture::new(Payload::Halt);
    f.vmm.prepare(&f.spec).await.unwrap();
    let past = f.vmm.start(&f.spec, Boottime(1)).await.unwrap_err().to_string();
    assert!(past.contains("paid end has passed"), "{past}");

    let vast = sublet_host::vmm::MachineSpec { memory: MiB::MAX, ..f.spec.clone() };
    let error = f.vmm.start(&vast, in_seconds(600)).await.unwrap_err().to_string();
    assert!(error.contains("memory") && error.contains("code: 1"), "QEMU's own words are passed on: {error}");
    assert!(!f.vmm.observe(&f.machine).await.is_live());

    std::fs::write(f.kernel(), "").unwrap();
    let error = f.vmm.prepare(&f.spec).await.unwrap_err().to_string();
    assert!(error.contains("something in it"), "{error}");
    std::fs::write(f.kernel(), vec![0; 4096]).unwrap();
    let error = f.vmm.prepare(&f.spec).await.unwrap_err().to_string();
    assert!(error.contains("not a kernel"), "{error}");
    Payload::Halt.write(&f.kernel()).unwrap();
    std::fs::set_permissions(f.kernel(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let error = f.vmm.prepare(&f.spec).await.unwrap_err().to_string();
    assert!(error.contains("chmod a+r"), "{error}");
    f.wiped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_directory_runs_one_machine() {
    let f = Fixture::started(Payload::Halt).await;
    let (guard, monitor) = f.pids();
    // Another agent's driver, which knows nothing of the first.
    let other = fixture::driver("unused");
    let error = other.start(&f.spec, in_seconds(600)).await.unwrap_err().to_string();
    assert!(error.contains("another guard runs"), "{error}");
    assert!(guard.is_alive() && monitor.is_alive());
    assert_eq!(f.pids(), (guard, monitor), "its records are untouched");
    f.vmm.stop(&f.machine).await.unwrap();
    gone(guard).await;
    f.wiped().await;
}
