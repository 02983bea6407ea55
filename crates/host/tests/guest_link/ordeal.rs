//! A machine in which something runs wild must still answer, and start another job.

use super::{line, run};
use crate::rehearsal::{identity, soon};
use std::path::Path;
use std::time::Duration;
use sublet_host::guest_link::{GuestLink, Status};
use tokio::time::{Instant, sleep, timeout};

/// `GUEST_SOCKET` names the port's socket of a machine that may be misused.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a machine: GUEST_SOCKET=…"]
async fn ordeal() {
    let path = std::env::var("GUEST_SOCKET").unwrap();
    let link = GuestLink::connect(Path::new(&path), soon()).await.unwrap();
    link.identify(&identity("lease_a", 1)).await.unwrap();
    eprintln!(
        "{:?}",
        run(&link, "grep . /sys/fs/cgroup/sublet/*.max /sys/fs/cgroup/sublet/job*/pids.max | tail -5").await
    );

    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 1000";
    wild(&link, "a fork bomb", bomb, Duration::from_secs(8)).await;
    let heap = "while :; do sleep 1000 & done 2>/dev/null";
    wild(&link, "a heap of processes", heap, Duration::from_secs(15)).await;
    let hog = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done";
    wild(&link, "a memory hog", hog, Duration::from_secs(8)).await;
    let file = "dd if=/dev/zero of=/tmp/big bs=1M; sleep 1000";
    wild(&link, "a full /tmp", file, Duration::from_secs(8)).await;
    eprintln!("{:?}", run(&link, "rm -f /tmp/big; echo all well").await);
}

async fn wild(link: &GuestLink, what: &str, command: &str, time: Duration) {
    let mut wild = line(command);
    wild.job = what.replace(' ', "-");
    let job = link.exec(&wild).await.unwrap();
    let (begun, mut slowest_ping, mut slowest_job) = (Instant::now(), Duration::ZERO, Duration::ZERO);
    while begun.elapsed() < time {
        let ping = timeout(Duration::from_secs(20), link.ping()).await.expect("pings are answered").unwrap();
        slowest_ping = slowest_ping.max(ping);
        let asked = Instant::now();
        let answer = timeout(Duration::from_secs(60), run(link, "echo here")).await.expect("another job runs");
        assert_eq!((answer.0.as_str(), answer.2), ("here\n", Status::Code(0)), "{}", answer.1);
        slowest_job = slowest_job.max(asked.elapsed());
        sleep(Duration::from_millis(200)).await;
    }
    let stats = link.stats().await.unwrap();
    eprintln!("beside {what}: slowest ping {slowest_ping:?}, slowest job {slowest_job:?}, then {stats:?}");
    // The bomb renews itself in groups of its own: its fence is emptied from inside.
    let fence = "for g in /sys/fs/cgroup/sublet/job*; do grep -q $$ $g/cgroup.procs || echo 1 > $g/cgroup.kill; done";
    run(link, fence).await;
    let _ = timeout(Duration::from_secs(30), job.control.wait()).await.expect("it is gone");
}
