//! Fences around jobs, so that a fork bomb or a memory hog leaves the guest program answering and
//! another job startable.
//!
//! All jobs together may have most of the machine's processes and memory, one job most of that;
//! processor time is shared between jobs, not between their processes. Where cgroup v2 cannot be
//! had, jobs run without fences.

use rustix::fs::{Mode, OFlags};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";
/// Processes kept for the system.
const KEPT_PROCESSES: u64 = 256;

/// The fence around all jobs.
pub struct Fence {
    root: PathBuf,
    next: u64,
    job_pids: u64,
    /// Directories of ended jobs in which something may still run.
    emptying: Vec<PathBuf>,
    /// Made ahead, so that a start need not wait for it.
    spare: Option<(PathBuf, OwnedFd)>,
}

impl Fence {
    /// Sets it up, if the machine has cgroup v2 with what is needed.
    pub fn set_up() -> Option<Self> {
        Self::build(Path::new(MOUNT))
    }

    fn build(mount: &Path) -> Option<Self> {
        let controllers = fs::read_to_string(mount.join("cgroup.controllers")).ok()?;
        for name in ["cpu", "memory", "pids"] {
            if controllers.split_ascii_whitespace().any(|known| known == name) {
                let _ = fs::write(mount.join("cgroup.subtree_control"), format!("+{name}"));
            }
        }
        let root = mount.join("sublet");
        if !root.is_dir() {
            fs::create_dir(&root).ok()?;
        }
        for name in ["cpu", "memory", "pids"] {
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{name}"));
        }
        let all =
            processes_for_jobs(read_number("/proc/sys/kernel/threads-max"), read_number("/proc/sys/kernel/pid_max"));
        let _ = fs::write(root.join("pids.max"), all.to_string());
        let mut fence = Self { root, next: first_free(), job_pids: all / 10 * 8, emptying: Vec::new(), spare: None };
        fence.fit_memory();
        fence.prepare();
        fence.spare.is_some().then_some(fence)
    }

    /// Measures memory again: it grows when the partition is altered.
    pub fn fit_memory(&mut self) {
        let limit = memory_for_jobs(crate::stats::memory_kib("MemTotal:") * 1024);
        let _ = fs::write(self.root.join("memory.max"), limit.to_string());
    }

    /// A place for one job. `None` starts it outside.
    pub fn take(&mut self) -> Option<(PathBuf, OwnedFd)> {
        if self.spare.is_none() {
            self.prepare();
        }
        self.spare.take()
    }

    /// Makes the next place, and clears away those that have become empty.
    pub fn prepare(&mut self) {
        self.emptying.retain(|place| fs::remove_dir(place).is_err() && place.exists());
        if self.spare.is_some() {
            return;
        }
        let place = self.root.join(format!("job{}", self.next));
        self.next += 1;
        if fs::create_dir(&place).is_ok() {
            let _ = fs::write(place.join("pids.max"), self.job_pids.to_string());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.spare = rustix::fs::open(&place, flags, Mode::empty()).ok().map(|fd| (place, fd));
        }
    }

    /// A job ended; its place goes when the last of its children has.
    pub fn give_back(&mut self, place: PathBuf) {
        self.emptying.push(place);
    }

    pub fn has_emptying(&self) -> bool {
        !self.emptying.is_empty()
    }
}

/// Names must not collide with those of an earlier life of this program.
fn first_free() -> u64 {
    crate::stats::uptime_micros()
}

fn processes_for_jobs(threads_max: u64, pid_max: u64) -> u64 {
    let all = threads_max.min(pid_max);
    all.saturating_sub(KEPT_PROCESSES.max(all / 10)).max(all / 2)
}

/// Leaves a sixteenth, at least 16 MiB and at most 256 MiB, for kernel, system and this program.
fn memory_for_jobs(total_bytes: u64) -> u64 {
    const MIB: u64 = 1024 * 1024;
    total_bytes.saturating_sub((total_bytes / 16).clamp(16 * MIB, 256 * MIB)).max(total_bytes / 2)
}

fn read_number(path: &str) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(32768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_kept_for_the_system() {
        let table = [((1900, 32768), 1644), ((200_000, 32768), 29492), ((300, 300), 150)];
        for ((threads, pids), expected) in table {
            assert_eq!(processes_for_jobs(threads, pids), expected);
        }
        const MIB: u64 = 1024 * 1024;
        for (total, expected) in [(128, 112), (1024, 960), (16384, 16128), (20, 10)] {
            assert_eq!(memory_for_jobs(total * MIB), expected * MIB);
        }
    }
}
