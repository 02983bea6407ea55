//! Figures of the link into a machine that really runs: latency and throughput.

use super::{line, run};
use crate::rehearsal::{identity, soon};
use std::path::Path;
use std::time::Duration;
use sublet_host::guest_link::{Command, ExecRequest, GuestLink, LinkError, Status};
use tokio::time::Instant;

/// `GUEST_SOCKET` names the port's socket of a machine that boots or has booted.
#[tokio::test]
#[ignore = "needs a machine: GUEST_SOCKET=…"]
async fn figures() {
    let begun = Instant::now();
    let path = std::env::var("GUEST_SOCKET").unwrap();
    let link = GuestLink::connect(Path::new(&path), soon()).await.unwrap();
    eprintln!("welcome after {:?}, {} jobs", begun.elapsed(), link.welcome().jobs.len());
    let refused = link.exec(&line("true")).await;
    let fresh = link.welcome().identity.is_none();
    assert_eq!(fresh, matches!(refused, Err(LinkError::Refused { .. })), "{refused:?}");
    let asked = Instant::now();
    let ready = link.identify(&identity("lease_a", 1)).await.unwrap();
    eprintln!("ready after {:?}: {ready:?}", asked.elapsed());
    eprintln!("{:?}", run(&link, "cat /run/sublet/identity; hostname; date; uname -r; cat /proc/self/cgroup").await);
    eprintln!("{:?}", link.stats().await.unwrap());

    sample("ping", 50, || async {
        link.ping().await.unwrap();
    })
    .await;
    let argv = ExecRequest { command: Command::Argv(vec![b"/bin/true".into()]), ..line("") };
    sample("exec true", 50, || async {
        let exec = link.exec(&argv).await.unwrap();
        assert_eq!(exec.control.wait().await.unwrap(), Status::Code(0));
    })
    .await;
    into(&link, "dd bs=64k of=/dev/null 2>/dev/null").await;
    into(&link, "cat >/dev/null").await;
    into(&link, "sha256sum").await;
    out_of(&link).await;
}

async fn sample<F: Future<Output = ()>>(what: &str, count: usize, mut once: impl FnMut() -> F) {
    let mut times = Vec::new();
    let cpu = machine_cpu();
    for _ in 0..count {
        let begun = Instant::now();
        once().await;
        times.push(begun.elapsed());
    }
    times.sort();
    let cpu = (machine_cpu() - cpu) / count as u32;
    let [least, median, most] = [times[0], times[count / 2], times[count - 1]];
    eprintln!("{what}: {least:?} / {median:?} / {most:?} (min, median, max), {cpu:?} of processor time");
}

/// Processor time of the machine's process so far (`QEMU_PID`): steadier than time on a busy computer.
fn machine_cpu() -> Duration {
    let stat = std::env::var("QEMU_PID").ok().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    let Some(stat) = stat else { return Duration::ZERO };
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap().split_ascii_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    Duration::from_millis((fields[11] + fields[12]) * 10)
}

async fn into(link: &GuestLink, command: &str) {
    const BYTES: usize = 64 << 20;
    let mut exec = link.exec(&line(command)).await.unwrap();
    let piece = vec![7u8; 1 << 20];
    let (begun, cpu) = (Instant::now(), machine_cpu());
    for _ in 0..BYTES / piece.len() {
        exec.stdin.write(&piece).await.unwrap();
    }
    exec.stdin.finish().await.unwrap();
    exec.control.wait().await.unwrap();
    rate(command, BYTES, begun.elapsed(), machine_cpu() - cpu);
}

async fn out_of(link: &GuestLink) {
    let mut exec = link.exec(&line("dd if=/dev/zero bs=64k count=1024 2>/dev/null")).await.unwrap();
    let (begun, cpu, mut seen) = (Instant::now(), machine_cpu(), 0);
    while let Some(bytes) = exec.stdout.next().await.unwrap() {
        seen += bytes.len();
    }
    rate("out of dd", seen, begun.elapsed(), machine_cpu() - cpu);
}

fn rate(what: &str, bytes: usize, time: Duration, cpu: Duration) {
    let mib = bytes as f64 / 1_048_576.0;
    eprintln!("{what}: {:.1} MiB/s, {:.1} MiB a processor second", mib / time.as_secs_f64(), mib / cpu.as_secs_f64());
}
