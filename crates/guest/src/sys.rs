//! The few calls that neither the standard library nor rustix makes for us.
#![allow(unsafe_code, reason = "system calls; each block says why it is sound")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor that was inherited by number.
pub fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: given to us on the command line for this purpose; nobody else in this process has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Stdin and stdout without buffers, taken over: both numbers then lead nowhere, so that dropping
/// one ends it.
pub fn take_stdio() -> io::Result<(std::fs::File, std::fs::File)> {
    use std::os::fd::AsFd;
    let taken = (io::stdin().as_fd().try_clone_to_owned()?.into(), io::stdout().as_fd().try_clone_to_owned()?.into());
    let nowhere = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nowhere)?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(taken)
}

/// Makes this process the last to suffer: not chosen when memory runs out, not paged out, ahead of
/// every job. Children start from ordinary values (see [`crate::spawn`]).
pub fn protect_self() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    // SAFETY: plain calls on this process with valid arguments; failure only means less protection.
    unsafe {
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE);
        let param = libc::sched_param { sched_priority: 1 };
        libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &param);
        // Where kernels refuse real time to services, niceness must do.
        libc::setpriority(libc::PRIO_PROCESS, 0, -20);
    }
}

/// A descriptor that tells of the signals we handle in the loop, which are blocked otherwise.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the descriptor is new and ours.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// The next signal waiting on a descriptor of [`signal_fd`].
pub fn next_signal(fd: &OwnedFd) -> Option<i32> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut info) {
        Ok(n) if n == info.len() => Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])),
        _ => None,
    }
}

/// Asks for SIGIO when the other end of a port opens or closes, or stops asking.
pub fn tell_when_opened(fd: &OwnedFd, on: bool) {
    // SAFETY: plain fcntl on an open descriptor.
    unsafe {
        libc::fcntl(fd.as_raw_fd(), libc::F_SETOWN, libc::getpid());
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        let flags = if on { flags | libc::O_ASYNC } else { flags & !libc::O_ASYNC };
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags);
    }
}

/// Reads at most `most` bytes onto the end of a vector, without a copy in between.
pub fn read_onto(fd: &OwnedFd, bytes: &mut Vec<u8>, most: usize) -> rustix::io::Result<usize> {
    bytes.reserve(most);
    let count = rustix::io::read(fd, &mut bytes.spare_capacity_mut()[..most])?.0.len();
    // SAFETY: the kernel has written `count` bytes behind the old length.
    unsafe { bytes.set_len(bytes.len() + count) };
    Ok(count)
}

/// Gives the kernel randomness, counts it, and makes it take effect at once.
pub fn add_entropy(bytes: &[u8]) -> io::Result<()> {
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    let random = std::fs::File::options().write(true).open("/dev/urandom")?;
    let mut info = Vec::with_capacity(8 + bytes.len());
    info.extend_from_slice(&(bytes.len() as i32 * 8).to_ne_bytes());
    info.extend_from_slice(&(bytes.len() as i32).to_ne_bytes());
    info.extend_from_slice(bytes);
    // SAFETY: `info` is laid out as struct rand_pool_info and outlives the calls.
    unsafe {
        if libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, info.as_ptr()) != 0
            || libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG as _) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Brings the loopback interface up.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: ifreq is plain data, zeroed, with the name filled in; the socket is closed on return.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = OwnedFd::from_raw_fd(fd);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as _;
        request.ifr_name[1] = b'o' as _;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
        if libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// All a child needs to become a job, made before the fork so that the child only makes calls.
pub struct Child {
    pub program: CString,
    pub argv: Vec<CString>,
    pub envp: Vec<CString>,
    pub cwd: CString,
    pub fallback_cwd: CString,
    pub uid: u32,
    pub gid: u32,
    /// `None` leaves user and groups alone (a rehearsal without privileges).
    pub groups: Option<Vec<u32>>,
    pub stdio: [RawFd; 3],
    /// Whether stdin is a terminal that becomes the session's own.
    pub terminal: bool,
    /// Told the error number if the program cannot be started; closed by starting it.
    pub failure: RawFd,
    /// The cgroup directory it starts in.
    pub cgroup: Option<RawFd>,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Starts a child; returns its process id.
pub fn start(child: &Child) -> io::Result<i32> {
    let argv = pointers(&child.argv);
    let envp = pointers(&child.envp);
    // SAFETY: this process has one thread, so the child may run ordinary code; it ends in execve
    // or _exit and never returns.
    unsafe {
        let pid = fork_into(child.cgroup)?;
        if pid == 0 {
            let error = become_job(child, &argv, &envp);
            let bytes = error.to_ne_bytes();
            libc::write(child.failure, bytes.as_ptr().cast(), bytes.len());
            libc::_exit(127);
        }
        Ok(pid)
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// A fork that begins life in the cgroup, so that no job's first moments are uncounted and no
/// migration (an RCU wait) is needed.
unsafe fn fork_into(cgroup: Option<RawFd>) -> io::Result<i32> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    if let Some(cgroup) = cgroup {
        let args = CloneArgs {
            flags: CLONE_INTO_CGROUP,
            exit_signal: libc::SIGCHLD as u64,
            cgroup: cgroup as u64,
            ..CloneArgs::default()
        };
        // SAFETY: without CLONE_VM this is a fork; args has the size said.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<CloneArgs>()) };
        if pid >= 0 {
            return Ok(pid as i32);
        }
    }
    // SAFETY: see `start`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// In the child: returns only the number of the error that kept it from running the program.
unsafe fn become_job(child: &Child, argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> i32 {
    let check = |result: i32| if result < 0 { Err(errno()) } else { Ok(()) };
    // SAFETY: only system calls on descriptors and strings that live until execve.
    let steps = || unsafe {
        check(libc::setsid())?;
        if child.terminal {
            check(libc::ioctl(child.stdio[0], libc::TIOCSCTTY, 0))?;
        }
        for (target, source) in child.stdio.iter().enumerate() {
            check(libc::dup2(*source, target as i32))?;
        }
        ordinary_again();
        // Whatever this process was given itself is not for jobs.
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if let Some(groups) = &child.groups {
            check(libc::setgroups(groups.len(), groups.as_ptr()))?;
            check(libc::setgid(child.gid))?;
            check(libc::setuid(child.uid))?;
        }
        if libc::chdir(child.cwd.as_ptr()) != 0 && check(libc::chdir(child.fallback_cwd.as_ptr())).is_err() {
            return Err(errno());
        }
        libc::execve(child.program.as_ptr(), argv.as_ptr(), envp.as_ptr());
        Err(errno())
    };
    let result: Result<(), i32> = steps();
    result.err().unwrap_or(0)
}

/// Undoes in a child what protects the guest program.
unsafe fn ordinary_again() {
    // SAFETY: plain calls with valid arguments in a process of one thread.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, b"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
        let param = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &param);
        if libc::getpriority(libc::PRIO_PROCESS, 0) < 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::umask(0o022);
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Whether a terminal reads whole lines, and the character that ends its input.
pub fn end_of_input(terminal: BorrowedFd<'_>) -> Option<u8> {
    let termios = rustix::termios::tcgetattr(terminal).ok()?;
    let canonical = termios.local_modes.contains(rustix::termios::LocalModes::ICANON);
    canonical.then(|| termios.special_codes[rustix::termios::SpecialCodeIndex::VEOF])
}

/// The process group in a terminal's foreground.
pub fn foreground_group(terminal: &OwnedFd) -> Option<i32> {
    // SAFETY: plain call on an open descriptor.
    match unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) } {
        group if group > 1 => Some(group),
        _ => None,
    }
}

/// Signals a process group.
pub fn kill_group(group: i32, signal: i32) -> io::Result<()> {
    // SAFETY: plain call; group is a child's id and greater than 1.
    match unsafe { libc::kill(-group, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals every process but this one and the first.
pub fn kill_all(signal: i32) -> io::Result<()> {
    // SAFETY: plain call.
    match unsafe { libc::kill(-1, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes one ended child, whoever it was: as process 1 every orphan is ours.
pub fn reap() -> Option<(i32, sublet_guest::messages::Status)> {
    use sublet_guest::messages::Status;
    let mut status = 0;
    // SAFETY: plain call with a valid pointer.
    match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
        pid if pid > 0 && libc::WIFSIGNALED(status) => Some((pid, Status::Signal(libc::WTERMSIG(status) as u8))),
        pid if pid > 0 => Some((pid, Status::Code(libc::WEXITSTATUS(status) as u8))),
        _ => None,
    }
}

/// What asks this process to end is passed over: its child gets the same signal, and it ends with that.
pub fn ignore_endings() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: plain call with a constant; no handler of ours is run.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Ends this process by a signal, as its child was; returns where that is not deadly.
pub fn end_by(signal: i32) {
    // SAFETY: plain calls on this process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
