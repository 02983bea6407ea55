//! What this computer has, measured rather than believed.

use rustix::time::{ClockId, clock_gettime};
use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use sublet_model::host::{Inventory, Tier};
use sublet_model::units::{GiB, MiB};

/// Where distributions put QEMU.
pub const QEMU_PROGRAM: &str = "/usr/bin/qemu-system-x86_64";

/// What the inventory cannot find out by itself.
#[derive(Debug, Clone)]
pub struct Known {
    /// Where partitions' disks and images lie.
    pub state_dir: PathBuf,
    /// QEMU.
    pub qemu: PathBuf,
    /// What was decided by [`crate::check`].
    pub tier: Tier,
    /// Whether partitions can be limited and run as users of their own.
    pub confined: bool,
}

/// Measures. Takes about a tenth of a second.
pub fn measure(known: &Known) -> io::Result<Inventory> {
    let cpu = processor(&fs::read_to_string("/proc/cpuinfo")?);
    let threads = std::thread::available_parallelism()?.get().min(usize::from(u16::MAX)) as u16;
    Ok(Inventory {
        arch: std::env::consts::ARCH.to_owned(),
        cpu_model: cpu.model,
        cpu_flags: cpu.flags,
        threads,
        cores: cpu.cores.clamp(1, threads),
        memory: memory(&fs::read_to_string("/proc/meminfo")?)?,
        disk: free_disk(&known.state_dir)? + crate::scratch::taken(&known.state_dir),
        speed: speed(),
        tier: known.tier,
        confined: known.confined,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        qemu: qemu_version(&known.qemu)?.text,
    })
}

/// A version QEMU says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuVersion {
    /// To be compared.
    pub number: (u32, u32),
    /// As it is written.
    pub text: String,
}

/// Asks QEMU for its version.
pub fn qemu_version(program: &Path) -> io::Result<QemuVersion> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "QEMU does not say its version"))
}

fn parse_version(text: &str) -> Option<QemuVersion> {
    let text = text.lines().next()?.split("version ").nth(1)?.split(' ').next()?;
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some(QemuVersion { number: (parts.next()??, parts.next()??), text: text.chars().take(64).collect() })
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Processor {
    model: String,
    flags: Vec<String>,
    cores: u16,
}

/// Reads /proc/cpuinfo. Cores are counted by package and number, for threads share one.
fn processor(cpuinfo: &str) -> Processor {
    let mut found = Processor::default();
    let (mut package, mut cores) = ("", HashSet::new());
    for line in cpuinfo.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match key.trim() {
            "model name" if found.model.is_empty() => found.model = value.chars().take(200).collect(),
            "flags" | "Features" if found.flags.is_empty() => {
                found.flags = value.split_ascii_whitespace().take(1024).map(str::to_owned).collect();
            }
            "physical id" => package = value,
            "core id" => _ = cores.insert((package, value)),
            _ => {}
        }
    }
    // A virtual machine may not say; then each thread is taken for a core.
    found.cores = if cores.is_empty() { u16::MAX } else { cores.len().min(usize::from(u16::MAX)) as u16 };
    found
}

fn memory(meminfo: &str) -> io::Result<MiB> {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<i64>().ok());
    kib.map(|kib| MiB(kib >> 10))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no MemTotal in /proc/meminfo"))
}

/// What an ordinary user could still write there.
pub fn free_disk(directory: &Path) -> io::Result<GiB> {
    let file_system = rustix::fs::statvfs(directory)?;
    Ok(GiB((file_system.f_bavail.saturating_mul(file_system.f_frsize) >> 30) as i64))
}

/// Thousands of rounds a second of a fixed loop of integer work, on one thread: the best of
/// three, since whatever disturbs can only make it slower.
pub fn speed() -> u32 {
    const ROUNDS: u64 = 1_000_000;
    let one = || {
        let start = Instant::now();
        let mut x = black_box(0x9e37_79b9_7f4a_7c15_u64);
        for _ in 0..ROUNDS {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x = black_box(x);
        }
        ROUNDS as f64 / start.elapsed().as_secs_f64().max(1e-9)
    };
    let best = (0..3).map(|_| one()).fold(0.0, f64::max);
    (best / 1000.0).clamp(1.0, f64::from(u32::MAX)) as u32
}

/// Options for a Linux guest that follow from this computer. Under emulation the guest's time
/// stamp counter is the host's own, so its rate need not be found out at every boot.
pub fn kernel_options(tier: Tier) -> String {
    match (tier, tsc_khz()) {
        (Tier::Emulated, Some(khz)) => format!("tsc_early_khz={khz}"),
        _ => String::new(),
    }
}

/// The rate of the time stamp counter, where it has one rate.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the counter is read by an intrinsic")]
fn tsc_khz() -> Option<u32> {
    let flags = processor(&fs::read_to_string("/proc/cpuinfo").ok()?).flags;
    if !["constant_tsc", "nonstop_tsc"].iter().all(|wanted| flags.iter().any(|flag| flag == wanted)) {
        return None;
    }
    let now = || {
        let time = clock_gettime(ClockId::MonotonicRaw);
        // SAFETY: the instruction exists on every x86-64 processor and only reads a counter.
        (time.tv_sec * 1_000_000_000 + time.tv_nsec, unsafe { core::arch::x86_64::_rdtsc() })
    };
    let (start, first) = now();
    std::thread::sleep(Duration::from_millis(40));
    let (end, last) = now();
    let khz = (last.checked_sub(first)? as f64 * 1e6 / (end - start) as f64).round();
    (100_000.0..10_000_000.0).contains(&khz).then_some(khz as u32)
}

#[cfg(not(target_arch = "x86_64"))]
fn tsc_khz() -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_counted_by_package() {
        let thread = |package, core| {
            format!("processor : 0\nmodel name\t: A B\nphysical id : {package}\ncore id : {core}\nflags\t: fpu vme\n\n")
        };
        let text: String = [(0, 0), (0, 0), (0, 1), (1, 0), (1, 1), (1, 1)].map(|(p, c)| thread(p, c)).concat();
        let found = processor(&text);
        assert_eq!((found.model.as_str(), found.cores, found.flags.len()), ("A B", 4, 2));
        assert_eq!(processor("").cores, u16::MAX);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text| parse_version(text).map(|v| (v.number, v.text));
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        assert_eq!(version(debian), Some(((10, 0), "10.0.2".into())));
        assert_eq!(version("QEMU emulator version 8.2"), Some(((8, 2), "8.2".into())));
        for bad in ["", "QEMU", "QEMU emulator version x.y", "version 9"] {
            assert_eq!(version(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_computer_is_plausible() {
        let dir = tempfile::tempdir().unwrap();
        let known = |qemu: &str| Known {
            state_dir: dir.path().into(),
            qemu: qemu.into(),
            tier: Tier::Emulated,
            confined: false,
        };
        match measure(&known(QEMU_PROGRAM)) {
            Ok(inventory) => inventory.check().unwrap(),
            Err(error) => eprintln!("not tried, there is no QEMU: {error}"),
        }
        assert_eq!(measure(&known("/nonexistent/qemu")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(memory("MemTotal: many kB").is_err());
    }
}
