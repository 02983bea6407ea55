//! What the guard gives up, and what it hears.

use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// No program of the same user may trace the guard or read its memory.
pub fn forbid_tracing() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// From here on the guard may kill its child and touch its own files; nothing else that root may.
pub fn drop_all_but_kill(child_uid: u32) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // Out of the bounding set too, so that not even an exec as root would bring them back.
    for capability in CapabilitySet::all() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A kernel older than the capability does not know it.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let kept = if child_uid == 0 { CapabilitySet::empty() } else { CapabilitySet::KILL };
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// A descriptor that is ready when the guard is asked to end. The signals themselves are blocked.
#[allow(unsafe_code, reason = "no safe wrapper for signalfd is among the dependencies")]
pub fn catch_termination() -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before it is used, and outlives the calls; the
    // descriptor is new and owned by nobody else.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}
