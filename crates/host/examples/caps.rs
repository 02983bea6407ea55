//! `caps SECONDS MILLICORES…`: groups with these caps, a process that spins in each and one outside them all a
//! processor, for so long; prints the version of the control groups, what each group got of a processor, and what
//! was left to those outside. The benchmark of caps runs it here and inside a partition.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, bail};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use sublet_host::cgroup::{Confinement, Group, Limits, detect};
use sublet_model::units::Millicores;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let seconds: u64 = words.next().context("usage: caps SECONDS MILLICORES…")?.parse()?;
    let caps: Vec<i64> = words.map(|word| word.parse()).collect::<Result<_, _>>()?;
    let groups = match detect(&format!("caps-{}", std::process::id())) {
        Confinement::Confined(groups) => groups,
        Confinement::Unconfined { reason } => bail!(reason),
    };
    let spinners = caps.iter().map(|cap| {
        let limits = Limits { cpu: Millicores(*cap), vcpus: 1, memory_bytes: 64 << 20, pids: 8 };
        let group = groups.create(&format!("p{cap}"), &limits)?;
        Spinner::start(Some(group))
    });
    let mut spinners = spinners.collect::<Result<Vec<_>>>()?;
    let outside = std::thread::available_parallelism()?.get();
    for _ in 0..outside {
        spinners.push(Spinner::start(None)?);
    }
    std::thread::sleep(Duration::from_secs(1));
    let (began, before) = (Instant::now(), used(&spinners)?);
    std::thread::sleep(Duration::from_secs(seconds));
    let wall = began.elapsed().as_secs_f64();
    let shares: Vec<f64> = used(&spinners)?.iter().zip(before).map(|(now, before)| (now - before) / wall).collect();
    let (inside, outside) = shares.split_at(caps.len());
    println!("{}", groups.describe());
    println!("{}", inside.iter().map(|share| format!("{share:.4}")).collect::<Vec<_>>().join(" "));
    println!("{:.4}", outside.iter().sum::<f64>());
    drop(spinners);
    groups.forget_host();
    Ok(())
}

struct Spinner {
    process: Child,
    group: Option<Group>,
}

impl Spinner {
    fn start(group: Option<Group>) -> Result<Self> {
        let process = Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn()?;
        let spinner = Self { process, group };
        for directory in spinner.group.iter().flat_map(Group::directories) {
            std::fs::write(directory.join("cgroup.procs"), spinner.process.id().to_string())?;
        }
        Ok(spinner)
    }

    /// Seconds of processor time so far; the kernel counts hundredths.
    fn used(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").context("a name in brackets")?.1.split(' ').collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    }
}

fn used(spinners: &[Spinner]) -> Result<Vec<f64>> {
    spinners.iter().map(Spinner::used).collect()
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
        if let Some(group) = &self.group {
            let _ = group.remove(Duration::from_secs(2));
        }
    }
}
