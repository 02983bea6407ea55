//! Forks QEMU: as somebody with no rights at all, holding what it needs already open.

use super::record::{Handed, Order};
use super::sight;
use anyhow::{Context, ensure};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Descriptors are handed over at or above this number, where none of the guard's own can be.
pub const FIRST_HANDED_FD: RawFd = 100;

/// What the child becomes between fork and exec.
struct Becoming {
    parent: u32,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    namespaces: bool,
    largest_file_bytes: u64,
    /// Landlock's rules, where the kernel knows them.
    sight: Option<OwnedFd>,
    handed: Vec<(OwnedFd, RawFd)>,
}

/// Starts the program of `order`. It dies with the calling thread.
#[allow(unsafe_code, reason = "what happens between fork and exec can only be said with pre_exec")]
pub fn spawn(order: &Order) -> anyhow::Result<Child> {
    let becoming = Becoming {
        parent: std::process::id(),
        uid: Uid::from_raw(order.uid),
        gid: Gid::from_raw(order.gid),
        groups: order.groups.iter().copied().map(Gid::from_raw).collect(),
        namespaces: order.namespaces,
        largest_file_bytes: order.largest_file_bytes,
        sight: sight::rules(order).context("failed to limit what QEMU can see")?,
        handed: hand_over(order)?,
    };
    let mut command = Command::new(&order.program);
    command.args(&order.arguments).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: `become_it` only makes system calls on data prepared before the fork: it neither
    // allocates nor locks.
    unsafe { command.pre_exec(move || becoming.become_it()) };
    command.spawn().with_context(|| format!("failed to start {}", order.program.display()))
}

/// Listens and opens as the guard may, so that QEMU needs to reach no directory.
fn hand_over(order: &Order) -> anyhow::Result<Vec<(OwnedFd, RawFd)>> {
    let listening = order.listen.iter().map(|Handed { path, fd, .. }| {
        let socket = UnixListener::bind(path).with_context(|| format!("failed to listen on {}", path.display()))?;
        Ok((OwnedFd::from(socket), *fd))
    });
    let opened = order.open.iter().map(|Handed { path, fd, write }| {
        let file = File::options()
            .read(true)
            .write(*write)
            .open(path)
            .with_context(|| format!("failed to open {}", path.display()))?;
        Ok((OwnedFd::from(file), *fd))
    });
    let input = order.input.map(|fd| {
        let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
        Ok((input.context("failed to hand over standard input")?, fd))
    });
    let handed = listening.chain(opened).chain(input).collect::<anyhow::Result<Vec<_>>>()?;
    for (own, number) in &handed {
        ensure!(*number >= FIRST_HANDED_FD && own.as_raw_fd() < FIRST_HANDED_FD, "descriptor {number} is out of place");
    }
    Ok(handed)
}

impl Becoming {
    #[allow(unsafe_code, reason = "dup2 onto a bare number, a signal mask, and namespaces before any thread exists")]
    fn become_it(&self) -> io::Result<()> {
        for (own, number) in &self.handed {
            // SAFETY: both are plain numbers; the copy is not closed at exec, as is wanted.
            if unsafe { libc::dup2(own.as_raw_fd(), *number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: the set lives on this stack and is initialised before use.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        }
        let nothing = Rlimit { current: Some(0), maximum: Some(0) };
        // A core dump would hold the guest's memory; and no file should ever grow, but for a template's.
        let largest = Rlimit { current: Some(self.largest_file_bytes), maximum: Some(self.largest_file_bytes) };
        rustix::process::setrlimit(Resource::Core, nothing)?;
        rustix::process::setrlimit(Resource::Fsize, largest)?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        if self.namespaces {
            // No way to any network, and nobody else's shared memory. The sockets that were handed
            // over work on: they are found by their path.
            // SAFETY: this process has one thread and shares no memory.
            if unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_thread_groups(&self.groups)?;
            rustix::thread::set_thread_gid(self.gid)?;
            rustix::thread::set_thread_uid(self.uid)?;
        }
        rustix::thread::set_no_new_privs(true)?;
        if let Some(rules) = &self.sight {
            sight::restrict(rules)?;
        }
        // After the change of user, which would clear it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The guard may have died before the line above: then nobody would send the signal.
        match rustix::process::getppid() {
            Some(parent) if parent.as_raw_pid() as u32 == self.parent => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        }
    }
}
