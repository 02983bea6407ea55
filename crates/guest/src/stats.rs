//! How the machine is, from /proc.

use std::fs;
use sublet_guest::messages::{Ready, Stats};

/// Since the kernel started, in microseconds.
pub fn uptime_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// What the guest sees of the machine.
pub fn ready() -> Ready {
    Ready {
        uptime_micros: uptime_micros(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        vcpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_kib: memory_kib("MemTotal:"),
    }
}

/// Load, memory and processes.
pub fn stats(jobs: usize) -> Stats {
    let loadavg = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut fields = loadavg.split_ascii_whitespace();
    let load: f64 = fields.next().and_then(|f| f.parse().ok()).unwrap_or(0.0);
    let processes = fields.nth(2).and_then(|f| f.split('/').nth(1)?.parse().ok()).unwrap_or(0);
    Stats {
        uptime_micros: uptime_micros(),
        memory_total_kib: memory_kib("MemTotal:"),
        memory_available_kib: memory_kib("MemAvailable:"),
        load_permille: (load * 1000.0) as u32,
        processes,
        jobs: jobs as u32,
    }
}

/// A line of /proc/meminfo.
pub fn memory_kib(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The kernel's id of this boot.
pub fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim_end().to_owned()
}
