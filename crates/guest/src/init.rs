//! The first process's own work: mounts, drivers, loopback, and the end of it all.

use crate::say;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot as system_reboot};
use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Drivers to load, a path to an uncompressed module a line, in order.
const MODULES: &str = "/etc/sublet/modules";

/// Makes a system of a kernel and a root file system. What fails is said and left: an answering
/// guest with a part missing is better than none.
pub fn set_up() {
    let noexec = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let secure = MountFlags::NOSUID | MountFlags::NODEV;
    mount_at("proc", "/proc", noexec, c"");
    mount_at("sysfs", "/sys", noexec, c"");
    mount_at("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755");
    load_modules(MODULES);
    mount_at("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0620,gid=5,ptmxmode=0666");
    mount_at("tmpfs", "/dev/shm", secure, c"mode=1777");
    mount_at("tmpfs", "/run", secure, c"mode=0755");
    mount_at("tmpfs", "/tmp", secure, c"mode=1777");
    mount_at("cgroup2", "/sys/fs/cgroup", noexec, c"");
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let _ = std::os::unix::fs::symlink(target, Path::new("/dev").join(link));
    }
    if let Err(error) = crate::sys::loopback_up() {
        say(&format!("sublet-guest: cannot bring loopback up: {error}"));
    }
    let _ = rustix::process::chdir("/");
}

fn mount_at(kind: &str, at: &str, flags: MountFlags, options: &CStr) {
    let _ = fs::create_dir_all(at);
    match mount(kind, at, kind, flags, options) {
        // Already there: the kernel or an initrd did it.
        Ok(()) | Err(rustix::io::Errno::BUSY) => {}
        Err(error) => say(&format!("sublet-guest: cannot mount {kind} at {at}: {error}")),
    }
}

/// Loads what a list names; one that is not there names nothing.
pub fn load_modules(list: &str) {
    let Ok(list) = fs::read(list) else { return };
    for line in list.split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let mut words = line.splitn(2, |b| *b == b' ');
        let path = Path::new(std::ffi::OsStr::from_bytes(words.next().unwrap_or_default()));
        let options = CString::new(words.next().unwrap_or_default()).unwrap_or_default();
        if let Err(error) = load(path, &options) {
            say(&format!("sublet-guest: cannot load {}: {error}", path.display()));
        }
    }
}

fn load(path: &Path, options: &CStr) -> rustix::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::system::finit_module(&file, options, 0) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Ends the machine, as its first process.
pub fn power_off() -> ! {
    end(RebootCommand::PowerOff)
}

/// Starts the machine anew, as its first process.
pub fn reboot() -> ! {
    end(RebootCommand::Restart)
}

fn end(command: RebootCommand) -> ! {
    assert_eq!(std::process::id(), 1, "only the first process ends the machine");
    // A short grace, then nothing may write any more.
    let _ = crate::sys::kill_all(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(150));
    let _ = crate::sys::kill_all(libc::SIGKILL);
    rustix::fs::sync();
    loop {
        if let Err(error) = system_reboot(command) {
            say(&format!("sublet-guest: cannot end the machine: {error}"));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Asks the init beside us to end the machine, and does it ourselves if there is none.
pub fn ask_for_power_off() {
    for program in ["/usr/bin/systemctl", "/bin/systemctl", "/sbin/poweroff"] {
        let mut command = std::process::Command::new(program);
        if program.ends_with("systemctl") {
            command.args(["poweroff", "--no-block"]);
        }
        if command.status().is_ok_and(|status| status.success()) {
            return;
        }
    }
    rustix::fs::sync();
    let _ = system_reboot(RebootCommand::PowerOff);
}
