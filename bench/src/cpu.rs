//! CPU time of processes, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// The kernel's clock tick: a hundredth of a second, on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of a process and of all that descends from it, ended children included.
pub fn of_tree(root: u32) -> Duration {
    let all: Vec<Stat> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        tree.extend(all.iter().filter(|s| s.parent == parent).map(|s| s.pid));
        at += 1;
    }
    let ticks: u64 = all.iter().filter(|s| tree.contains(&s.pid)).map(|s| s.ticks).sum();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// Of one process alone.
pub fn of(pid: u32) -> Duration {
    read(pid).map_or(Duration::ZERO, |s| TICK * u32::try_from(s.own).unwrap_or(u32::MAX))
}

/// Memory that a process has, in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

struct Stat {
    pid: u32,
    parent: u32,
    own: u64,
    ticks: u64,
}

fn read(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    let own = field(14)? + field(15)?;
    Some(Stat { pid, parent: field(4)? as u32, own, ticks: own + field(16)? + field(17)? })
}
