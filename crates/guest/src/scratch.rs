//! The scratch disk of a lease: found by its serial number, mounted where everybody may write. It
//! arrives with a file system on it, and with a key that nobody has any more once the lease is over.

use crate::init;
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where it is mounted.
pub const AT: &str = "/scratch";

/// Given by the host.
const SERIAL: &str = "sublet-scratch";
/// Drivers that nobody needs without a disk.
const MODULES: &str = "/etc/sublet/disk-modules";
/// A disk whose driver was just loaded is there after so long.
const WITHIN: Duration = Duration::from_secs(5);

/// Mounts it, unless it is already.
pub fn mount_it() -> Result<(), String> {
    if is_mounted() {
        return Ok(());
    }
    init::load_modules(MODULES);
    let until = Instant::now() + WITHIN;
    let disk = loop {
        match find() {
            Some(disk) => break disk,
            None if Instant::now() > until => return Err("there is no scratch disk".into()),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let failed = |error: std::io::Error| format!("cannot mount the scratch disk at {AT}: {error}");
    fs::create_dir_all(AT).map_err(failed)?;
    mount(&disk, AT, "ext4", MountFlags::NODEV, c"").map_err(|errno| failed(errno.into()))?;
    fs::set_permissions(AT, fs::Permissions::from_mode(0o1777)).map_err(failed)
}

fn is_mounted() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(AT))
}

fn find() -> Option<PathBuf> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let is_it = |disk: &fs::DirEntry| {
        fs::read_to_string(disk.path().join("serial")).is_ok_and(|serial| serial.trim_end() == SERIAL)
    };
    let disk = disks.into_iter().find(is_it)?;
    Some(PathBuf::from("/dev").join(disk.file_name())).filter(|path| path.exists())
}
