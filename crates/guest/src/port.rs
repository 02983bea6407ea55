//! Finds the port that the host gave us among the machine's virtio ports.

use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Name of the port, as the host's command line gives it.
const NAME: &str = "org.sublet.guest.0";

/// Opens the port; waits for as long as it is not there (drivers may still be loading).
pub fn wait() -> OwnedFd {
    let mut said = Instant::now();
    loop {
        if let Some(path) = find() {
            match rustix::fs::open(&path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
                Ok(fd) => return fd,
                Err(error) if said.elapsed() > Duration::from_secs(10) => {
                    crate::say(&format!("sublet-guest: cannot open {}: {error}", path.display()));
                    said = Instant::now();
                }
                Err(_) => {}
            }
        } else if said.elapsed() > Duration::from_secs(10) {
            crate::say(&format!("sublet-guest: no virtio port named {NAME}"));
            said = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn find() -> Option<PathBuf> {
    std::fs::read_dir("/sys/class/virtio-ports").ok()?.flatten().find_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim_end() == NAME).then(|| PathBuf::from("/dev").join(entry.file_name()))
    })
}
