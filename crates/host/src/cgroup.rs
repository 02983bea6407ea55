//! What the kernel lets a partition use: one control group a partition, under
//! `sublet/<host>/<partition>`, in version 1 (a hierarchy a controller) or version 2 (one tree).
//! A computer may have both at once; each controller is taken where it really is.

mod files;
mod mounts;

pub use mounts::Version;

use crate::vmm::Usage;
use files::{read_keyed, read_number, write};
use mounts::Hierarchy;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sublet_model::units::Millicores;

/// The controllers a partition is limited by.
pub const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The kernel's own default; the quota is a share of it.
const PERIOD_US: i64 = 100_000;
/// What a monitor's own threads may use beside a guest that has whole processors. Measured: a guest that
/// spins on one was stopped for 20 ms of each second without it.
const MONITOR: Millicores = Millicores(50);
/// The kernel's own bounds of a group's share, in version 1 and in version 2.
const MOST_SHARES: i64 = 262_144;
const MOST_WEIGHT: i64 = 10_000;

/// What a partition may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processor time, and the share of it when there is not enough for all.
    pub cpu: Millicores,
    /// The processors that the guest sees.
    pub vcpus: u16,
    /// Memory of the guest, the monitor and the guard together.
    pub memory_bytes: u64,
    /// Threads of all of them.
    pub pids: u32,
}

/// Whether partitions can be limited here.
#[derive(Debug, Clone)]
pub enum Confinement {
    /// Each has its own group.
    Confined(ControlGroups),
    /// They cannot: such a host lends only to its owner's own account.
    Unconfined {
        /// Which controllers are missing and what to do.
        reason: String,
    },
}

/// The hierarchies in which this host makes groups.
#[derive(Debug, Clone)]
pub struct ControlGroups {
    host: String,
    hierarchies: Vec<Hierarchy>,
}

/// The group of one partition: one directory in each hierarchy.
#[derive(Debug, Clone)]
pub struct Group {
    places: Vec<Hierarchy>,
}

/// Finds the controllers of this computer and makes the host's own group in each hierarchy.
pub fn detect(host: &str) -> Confinement {
    detect_in(&fs::read_to_string("/proc/self/mounts").unwrap_or_default(), host)
}

/// The same, for a given mount table: so that a tree of any version can be tried anywhere.
pub fn detect_in(mount_table: &str, host: &str) -> Confinement {
    let (hierarchies, missing) = mounts::find(mount_table, &CONTROLLERS);
    if !missing.is_empty() {
        let reason = format!("the controllers {} are not mounted: mount them under /sys/fs/cgroup", missing.join(", "));
        return Confinement::Unconfined { reason };
    }
    let groups = ControlGroups { host: host.to_owned(), hierarchies };
    match groups.prepare_host() {
        Ok(()) => Confinement::Confined(groups),
        Err(error) => Confinement::Unconfined { reason: format!("{error} (run the host as root)") },
    }
}

impl ControlGroups {
    /// Where each controller was found: for people.
    pub fn describe(&self) -> String {
        let one = |h: &Hierarchy| format!("{} (v{})", h.controllers.join("+"), h.version.number());
        self.hierarchies.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Makes the partition's group with its limits. One that is there already gets the limits.
    pub fn create(&self, partition: &str, limits: &Limits) -> io::Result<Group> {
        let group = self.group(partition);
        let make = || {
            self.prepare_host()?;
            group.places.iter().try_for_each(|place| make_dir(&place.root))
        };
        // Another host of this computer may just have removed the empty group above ours.
        make().or_else(|error| if error.kind() == io::ErrorKind::NotFound { make() } else { Err(error) })?;
        group.set_cpu(limits.cpu, limits.vcpus)?;
        group.set_memory(limits.memory_bytes)?;
        group.set_pids(limits.pids)?;
        Ok(group)
    }

    /// Removes the host's own groups where no partition is left in them.
    pub fn forget_host(&self) {
        for place in self.below(&[&self.host]).into_iter().chain(self.below(&[])) {
            // One that is not empty refuses, as it should.
            let _ = fs::remove_dir(&place.root);
        }
    }

    /// Names the partition's group; nothing is touched.
    pub fn group(&self, partition: &str) -> Group {
        Group { places: self.below(&[&self.host, partition]) }
    }

    fn prepare_host(&self) -> io::Result<()> {
        for (depth, hierarchy) in self.below(&[]).into_iter().chain(self.below(&[&self.host])).enumerate() {
            let parent = hierarchy.root.parent().unwrap_or(Path::new("/"));
            if depth < self.hierarchies.len() {
                enable_controllers(&hierarchy, parent)?;
            }
            make_dir(&hierarchy.root)?;
            enable_controllers(&hierarchy, &hierarchy.root)?;
            put_first(&hierarchy)?;
        }
        Ok(())
    }

    fn below(&self, names: &[&str]) -> Vec<Hierarchy> {
        let deeper = |h: &Hierarchy| {
            let root = names.iter().fold(h.root.join("sublet"), |path, name| path.join(name));
            Hierarchy { root, ..h.clone() }
        };
        self.hierarchies.iter().map(deeper).collect()
    }
}

impl Group {
    /// The directories a process joins.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.places.iter().map(|place| place.root.clone()).collect()
    }

    /// Whether the group exists anywhere.
    pub fn exists(&self) -> bool {
        self.places.iter().any(|place| place.root.is_dir())
    }

    /// Caps processor time, and weighs it in proportion.
    pub fn set_cpu(&self, cpu: Millicores, vcpus: u16) -> io::Result<()> {
        // Whole processors need no cap to be kept: the guest has no more of them. The monitor has threads
        // of its own beside them, and with none to spare the guest would be stopped for what those used.
        let beside = if cpu >= whole(vcpus) { MONITOR } else { Millicores(0) };
        let quota = ((cpu + beside).0 * PERIOD_US / 1000).max(1000);
        let Some(place) = self.place_of("cpu") else { return Ok(()) };
        // What one period left unused the next may use, so that two threads that run at once for
        // a moment are not stopped; the average stays. Kernels before 5.14 cannot.
        match place.version {
            Version::V1 => {
                // A burst above a lowered quota would be refused together with it.
                write(&place.root.join("cpu.cfs_burst_us"), 0).or_else(ignore_missing)?;
                write(&place.root.join("cpu.cfs_period_us"), PERIOD_US)?;
                write(&place.root.join("cpu.cfs_quota_us"), quota)?;
                write(&place.root.join("cpu.cfs_burst_us"), quota).or_else(ignore_missing)?;
                write(&place.root.join("cpu.shares"), (cpu.0 * 1024 / 1000).clamp(2, MOST_SHARES))
            }
            Version::V2 => {
                write(&place.root.join("cpu.max.burst"), 0).or_else(ignore_missing)?;
                write(&place.root.join("cpu.max"), format!("{quota} {PERIOD_US}"))?;
                write(&place.root.join("cpu.max.burst"), quota).or_else(ignore_missing)?;
                write(&place.root.join("cpu.weight"), (cpu.0 / 10).clamp(1, MOST_WEIGHT))
            }
        }
    }

    /// What the guest can have of processor time at most, as the kernel has it: the cap, or all of the
    /// processors it sees; none where it is not capped.
    pub fn cpu_cap(&self, vcpus: u16) -> io::Result<Option<Millicores>> {
        let Some(place) = self.place_of("cpu") else { return Ok(None) };
        let (quota, period) = match place.version {
            Version::V1 => {
                let quota = fs::read_to_string(place.root.join("cpu.cfs_quota_us"))?;
                (quota, fs::read_to_string(place.root.join("cpu.cfs_period_us"))?)
            }
            Version::V2 => {
                let both = fs::read_to_string(place.root.join("cpu.max"))?;
                let (quota, period) = both.trim().split_once(' ').unwrap_or((&both, ""));
                (quota.to_owned(), period.to_owned())
            }
        };
        // `-1` and `max` stand for no cap.
        let numbers = (quota.trim().parse::<i64>().ok(), period.trim().parse::<i64>().ok());
        Ok(match numbers {
            (Some(quota @ 0..), Some(period @ 1..)) => {
                Some(Millicores(quota.saturating_mul(1000) / period).min(whole(vcpus)))
            }
            _ => None,
        })
    }

    fn set_memory(&self, bytes: u64) -> io::Result<()> {
        let Some(place) = self.place_of("memory") else { return Ok(()) };
        match place.version {
            Version::V1 => write(&place.root.join("memory.limit_in_bytes"), bytes),
            Version::V2 => {
                write(&place.root.join("memory.max"), bytes)?;
                // A kernel without swap accounting has no such file; it has no swap to limit.
                write(&place.root.join("memory.swap.max"), 0).or_else(ignore_missing)
            }
        }
    }

    fn set_pids(&self, pids: u32) -> io::Result<()> {
        self.place_of("pids").map_or(Ok(()), |place| write(&place.root.join("pids.max"), pids))
    }

    /// What the group has used.
    pub fn usage(&self) -> io::Result<Usage> {
        Ok(Usage { cpu_nanoseconds: self.cpu_nanoseconds()?, memory_bytes: self.memory_bytes()? })
    }

    fn cpu_nanoseconds(&self) -> io::Result<u64> {
        if let Some(place) = self.place_of("cpuacct") {
            return read_number(&place.root.join("cpuacct.usage"));
        }
        match self.place_of("cpu") {
            Some(place) if place.version == Version::V2 => {
                Ok(read_keyed(&place.root.join("cpu.stat"), "usage_usec")?.saturating_mul(1000))
            }
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "no controller counts processor time")),
        }
    }

    fn memory_bytes(&self) -> io::Result<u64> {
        match self.place_of("memory") {
            Some(place) if place.version == Version::V2 => read_number(&place.root.join("memory.current")),
            Some(place) => read_number(&place.root.join("memory.usage_in_bytes")),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "no controller counts memory")),
        }
    }

    /// Removes the group. Its processes must have ended; the kernel may need a moment to let go
    /// of the last one, so this tries until `patience` is over.
    pub fn remove(&self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        for place in &self.places {
            loop {
                match fs::remove_dir(&place.root) {
                    Ok(()) => break,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                    Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                    Err(e) => return Err(at(&place.root, "remove", e)),
                }
            }
        }
        Ok(())
    }

    fn place_of(&self, controller: &str) -> Option<&Hierarchy> {
        self.places.iter().find(|place| place.controllers.iter().any(|c| c == controller))
    }
}

fn whole(vcpus: u16) -> Millicores {
    Millicores(i64::from(vcpus) * 1000)
}

/// In version 2 a group's children only have the controllers it passes on.
fn enable_controllers(hierarchy: &Hierarchy, directory: &Path) -> io::Result<()> {
    if hierarchy.version == Version::V1 {
        return Ok(());
    }
    let file = directory.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    let lacking: Vec<_> =
        hierarchy.controllers.iter().filter(|c| !enabled.split_ascii_whitespace().any(|e| e == *c)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    write(&file, lacking.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(" "))
}

/// What is lent comes before whatever else its owner runs: what each partition uses is capped, all caps
/// together leave the owner what was kept, and without this a runaway of the owner's would take a share of
/// what was lent for each of its processes.
fn put_first(hierarchy: &Hierarchy) -> io::Result<()> {
    match hierarchy.version {
        _ if !hierarchy.controllers.iter().any(|c| c == "cpu") => Ok(()),
        Version::V1 => write(&hierarchy.root.join("cpu.shares"), MOST_SHARES),
        Version::V2 => write(&hierarchy.root.join("cpu.weight"), MOST_WEIGHT),
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(at(path, "make", e)),
        Ok(()) => Ok(()),
    }
}

fn at(path: &Path, verb: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("failed to {verb} the control group {}: {error}", path.display()))
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests;
