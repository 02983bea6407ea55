//! Each line by itself: what was found, judged.

use super::{Choice, Line, Tried, Verdict};
use crate::cgroup::Confinement;
use crate::inventory::{self, QemuVersion};
use crate::vmm::Accelerator;
use std::fs;
use std::io;
use std::path::Path;

/// `migrate file:`, which templates need, came with it.
const OLDEST_QEMU: (u32, u32) = (8, 2);
/// The smallest partition, the monitor and the owner.
const LEAST_MEMORY_MIB: u64 = 512;
/// Images and a partition or two.
const LEAST_DISK_GIB: i64 = 5;
/// 2024-01-01: no clock that is right is behind it.
const EARLIEST_NOW: i64 = 1_704_067_200;

fn line(what: &'static str, measured: impl Into<String>, required: impl Into<String>) -> Line {
    Line { what, measured: measured.into(), required: required.into(), verdict: Verdict::Ok, to_do: String::new() }
}

impl Line {
    fn judged(mut self, verdict: Verdict, to_do: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.to_do = to_do.into();
        self
    }
}

pub fn qemu(found: io::Result<QemuVersion>) -> Line {
    let required = format!("{}.{} or newer", OLDEST_QEMU.0, OLDEST_QEMU.1);
    match found {
        Ok(version) if version.number >= OLDEST_QEMU => line("qemu", version.text, required),
        Ok(version) => line("qemu", version.text, required)
            .judged(Verdict::Fail, "install it from the distribution's backports: scripts/setup does"),
        Err(error) => line("qemu", error.to_string(), required)
            .judged(Verdict::Fail, "install the package qemu-system-x86: scripts/setup does"),
    }
}

fn told(tried: &Tried) -> String {
    match tried {
        Tried::Done(took) => format!("{:.2} s", took.as_secs_f64()),
        Tried::TooSlow(patience) => format!("not done after {} s, killed", patience.as_secs()),
        Tried::Failed(said) => format!("failed: {said}"),
        Tried::NotTried(why) => format!("not tried: {why}"),
    }
}

pub fn accelerator(choice: &Choice) -> Line {
    let measured = format!("a small kernel under kvm: {}; emulated: {}", told(&choice.kvm), told(&choice.tcg));
    let line = line("accelerator", measured, "kvm, faster than emulation");
    let used = match choice.accelerator {
        Accelerator::Kvm => &choice.kvm,
        Accelerator::Tcg => &choice.tcg,
    };
    match (choice.accelerator, used) {
        (_, Tried::Failed(_)) | (Accelerator::Kvm, Tried::NotTried(_)) => {
            line.judged(Verdict::Fail, "QEMU cannot run a guest: try it by hand, or choose the other with --accel")
        }
        (Accelerator::Kvm, Tried::Done(_)) => line,
        (Accelerator::Kvm, _) => line.judged(Verdict::Warn, "you chose kvm, and here it crawls: --accel tcg"),
        (Accelerator::Tcg, _) => {
            line.judged(Verdict::Warn, "partitions are emulated: slow, and only for clients who accept it")
        }
    }
}

pub fn kvm_device() -> Line {
    let required = "readable and writable";
    match fs::File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => line("/dev/kvm", "opens (which alone proves nothing)", required),
        Err(e) if e.kind() == io::ErrorKind::NotFound => line("/dev/kvm", "absent", required)
            .judged(Verdict::Warn, "enable virtualization in the firmware and load kvm_intel or kvm_amd"),
        Err(error) => line("/dev/kvm", error.to_string(), required)
            .judged(Verdict::Warn, "run as root, or join the group that owns the device"),
    }
}

pub fn nested() -> Line {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has =
        |flag: &str| flags.lines().find(|l| l.starts_with("flags")).is_some_and(|l| l.split(' ').any(|f| f == flag));
    match (has("hypervisor"), has("vmx") || has("svm")) {
        (false, true) => line("virtualization", "real computer", "real, or nested and enabled"),
        (false, false) => line("virtualization", "not offered by the processor", "vmx or svm")
            .judged(Verdict::Warn, "enable virtualization in the firmware"),
        (true, true) => {
            line("virtualization", "this is itself a virtual machine, nested is on", "real, or nested and enabled")
        }
        (true, false) => {
            line("virtualization", "this is itself a virtual machine without vmx or svm", "real, or nested and enabled")
                .judged(Verdict::Warn, "ask its provider for nested virtualization")
        }
    }
}

pub fn user(is_root: bool) -> Line {
    match is_root {
        true => line("user", "root", "root"),
        false => line("user", "not root", "root")
            .judged(Verdict::Warn, "without root every partition runs as you: it lends only to your own account"),
    }
}

pub fn control_groups(found: &Confinement) -> Line {
    let required = format!("{}, writable", crate::cgroup::CONTROLLERS.join(", "));
    match found {
        Confinement::Confined(groups) => line("control groups", groups.describe(), required),
        Confinement::Unconfined { reason } => line("control groups", reason.clone(), required)
            .judged(Verdict::Warn, "partitions cannot be limited: it lends only to your own account"),
    }
}

/// The further wall around QEMU: what it can open should a guest take it over.
pub fn landlock() -> Line {
    let required = "version 4 or newer";
    match crate::guard::sight::version() {
        Some(version @ 4..) => line("landlock", format!("version {version}"), required),
        Some(version) => line("landlock", format!("version {version}"), required)
            .judged(Verdict::Warn, "a newer kernel (6.7) would also close the network to a QEMU that was taken over"),
        None => line("landlock", "not in this kernel", required).judged(
            Verdict::Warn,
            "boot with lsm=landlock,... : it closes the file system to a QEMU that was taken over",
        ),
    }
}

pub fn memory() -> Line {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mib = |key: &str| {
        let value =
            meminfo.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        value.unwrap_or(0) >> 10
    };
    let line = line(
        "memory",
        format!("{} MiB, {} available", mib("MemTotal:"), mib("MemAvailable:")),
        format!("{LEAST_MEMORY_MIB} MiB available"),
    );
    match mib("MemAvailable:") >= LEAST_MEMORY_MIB {
        true => line,
        false => line.judged(Verdict::Fail, "close programs, or lend another computer"),
    }
}

pub fn disk(state_dir: &Path) -> Line {
    let required = format!("{LEAST_DISK_GIB} GiB free");
    match inventory::free_disk(existing(state_dir)) {
        Ok(free) if free.0 >= LEAST_DISK_GIB => line("disk", format!("{free} free"), required),
        Ok(free) => line("disk", format!("{free} free"), required)
            .judged(Verdict::Fail, "make room, or choose another --state directory"),
        Err(error) => {
            line("disk", error.to_string(), required).judged(Verdict::Fail, "choose another --state directory")
        }
    }
}

/// The host's promises rest on fsync; these do not keep it, or not across a restart.
pub fn file_system(state_dir: &Path) -> Line {
    let required = "local and durable";
    let directory = existing(state_dir);
    let kind = match rustix::fs::statfs(directory) {
        Ok(found) => found.f_type,
        Err(error) => {
            return line("file system", error.to_string(), required)
                .judged(Verdict::Fail, "choose another --state directory");
        }
    };
    let (name, verdict) = match kind & 0xffff_ffff {
        0xef53 => ("ext4", Verdict::Ok),
        0x5846_5342 => ("xfs", Verdict::Ok),
        0x9123_683e => ("btrfs", Verdict::Ok),
        0x2fc1_2fc1 => ("zfs", Verdict::Ok),
        0xf2f5_2010 => ("f2fs", Verdict::Ok),
        0x0102_1994 | 0x8584_58f6 => ("in memory", Verdict::Fail),
        0x6969 => ("nfs", Verdict::Fail),
        0x794c_7630 => ("overlayfs", Verdict::Warn),
        _ => ("of a kind not known here", Verdict::Warn),
    };
    let line = line("file system", format!("{name}, under {}", directory.display()), required);
    match verdict {
        Verdict::Ok => line,
        Verdict::Warn => {
            line.judged(verdict, "make sure that it keeps what was synced, or choose another --state directory")
        }
        Verdict::Fail => line.judged(verdict, "what it holds does not last: choose another --state directory"),
    }
}

pub fn clock() -> Line {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let day =
        jiff::Timestamp::from_second(now).map_or_else(|_| format!("@{now}"), |at| at.strftime("%F %T UTC").to_string());
    let line = line("clock", day, "within 30 s of the market's");
    match now >= EARLIEST_NOW {
        true => line,
        false => line.judged(Verdict::Fail, "set the clock: systemctl enable --now systemd-timesyncd"),
    }
}

/// Ends are kept by a clock that runs on while the computer sleeps.
pub fn sleep() -> Line {
    let seconds = |clock| rustix::time::clock_gettime(clock).tv_sec;
    let awake = seconds(rustix::time::ClockId::Monotonic);
    let up = seconds(rustix::time::ClockId::Boottime);
    let line = line(
        "sleep",
        format!("up {} s, asleep {} s of them", up, (up - awake).max(0)),
        "does not sleep while it lends",
    );
    match up - awake > 1 {
        false => line,
        true => line.judged(Verdict::Warn, "sleep is not billed and ends leases early: keep it awake while it lends"),
    }
}

/// The host dials out; it needs no open port.
pub fn network() -> Line {
    let required = "loopback works";
    match std::net::TcpListener::bind(("127.0.0.1", 0)) {
        Ok(_) => line("network", "a loopback port can be opened", required),
        Err(error) => line("network", error.to_string(), required)
            .judged(Verdict::Fail, "bring up the loopback interface: ip link set lo up"),
    }
}

/// The directory itself, or the nearest above it that is there already.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_old_or_absent_qemu_fails_and_says_what_to_do() {
        let version = |major, minor| Ok(QemuVersion { number: (major, minor), text: format!("{major}.{minor}") });
        for (found, expected) in
            [(version(8, 2), Verdict::Ok), (version(10, 0), Verdict::Ok), (version(7, 2), Verdict::Fail)]
        {
            assert_eq!(qemu(found).verdict, expected);
        }
        let absent = qemu(Err(io::ErrorKind::NotFound.into()));
        assert!(absent.verdict == Verdict::Fail && absent.to_do.contains("install"));
    }

    #[test]
    fn the_accelerator_is_judged_by_what_was_run() {
        let done = Tried::Done(Duration::from_millis(900));
        let failed = Tried::Failed("abort".into());
        let slow = Tried::TooSlow(Duration::from_secs(5));
        let table = [
            (Accelerator::Kvm, done.clone(), done.clone(), Verdict::Ok),
            (Accelerator::Tcg, slow.clone(), done.clone(), Verdict::Warn),
            (Accelerator::Kvm, slow.clone(), done.clone(), Verdict::Warn),
            (Accelerator::Tcg, slow, failed.clone(), Verdict::Fail),
            (Accelerator::Kvm, failed, done, Verdict::Fail),
        ];
        for (accelerator, kvm, tcg, expected) in table {
            let choice = Choice { accelerator, insisted: false, kvm, tcg };
            let line = super::accelerator(&choice);
            assert_eq!(line.verdict, expected, "{line:?}");
            assert_eq!(line.to_do.is_empty(), expected == Verdict::Ok);
        }
    }

    #[test]
    fn a_directory_that_is_still_to_be_made_is_judged_by_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing(&dir.path().join("a/b")), dir.path());
        assert_eq!(file_system(Path::new("/dev/shm/x")).verdict, Verdict::Fail);
    }
}
