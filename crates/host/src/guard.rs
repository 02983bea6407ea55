//! `sublet guard`: the parent of one partition's QEMU, and nothing else.
//!
//! ```text
//!   start --order read, groups joined, sockets bound, QEMU forked--> watching --QEMU ends--> recorded
//!     | anything fails: said on standard output, nothing left           ^  |
//!     v                                                      deadline moved, or reached: kill
//!    end
//! ```
//!
//! It exists so that a partition stops at its paid end even if the agent hangs or is gone, and so
//! that the agent can be replaced without touching the guest. It is one thread on purpose: QEMU's
//! death signal fires when the *thread* that forked it ends. If the guard itself is killed, QEMU
//! goes with it.

pub mod record;

mod privileges;
pub mod sight;
mod spawn;

use anyhow::{Context, bail};
use record::{Answer, Boottime, ExitCause, ExitRecord, PidRecord, ProcessId, RunDir, boot_id, monotonic_micros};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// What the guard is told on its command line; the rest is in the run directory.
#[derive(Debug, Clone)]
pub struct GuardArgs {
    /// The partition's run directory.
    pub run_dir: PathBuf,
}

/// So much of QEMU's standard error is kept.
const SAID_BYTES: usize = 4096;

/// Runs until the machine has ended. Call it on the main thread of a process that has no other.
pub fn run(args: GuardArgs) -> anyhow::Result<()> {
    let run_dir = RunDir::new(&args.run_dir);
    match Guard::start(run_dir) {
        Ok(mut guard) => {
            answer(&Answer::Started(guard.pids.clone()));
            guard.watch()
        }
        Err(error) => {
            answer(&Answer::Failed(format!("{error:#}")));
            Err(error)
        }
    }
}

/// Says the one line and closes standard output. An agent that died meanwhile is no reason to stop.
fn answer(answer: &Answer) {
    let line = serde_json::to_string(answer).unwrap_or_default();
    let mut out = io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

struct Guard {
    run_dir: RunDir,
    /// Held for life: one machine a run directory.
    _lock: File,
    pids: PidRecord,
    monitor: OwnedFd,
    /// Until QEMU closes its end.
    stderr: Option<File>,
    said: Vec<u8>,
    timer: OwnedFd,
    moves: OwnedFd,
    signals: OwnedFd,
    stop_at: Boottime,
    /// Why it was killed by us, once it was.
    killed: Option<ExitCause>,
}

impl Guard {
    fn start(run_dir: RunDir) -> anyhow::Result<Self> {
        // A session of its own: not ended with the agent's terminal.
        let _ = rustix::process::setsid();
        privileges::forbid_tracing().context("failed to forbid tracing of the guard")?;
        let lock = take_lock(&run_dir)?;
        let order = run_dir.read_order().context("failed to read the order")?;
        run_dir
            .remove_live_files()
            .and_then(|()| run_dir.remove_exit())
            .context("failed to clear the run directory")?;

        // Watched before it is first read, so that no move is missed.
        let moves = watch_moves(&run_dir).context("failed to watch the run directory")?;
        let stop_at = run_dir.read_deadline().context("failed to read the deadline")?;
        if stop_at <= Boottime::now() {
            bail!("the paid end has passed already");
        }
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
            .context("failed to make a timer")?;
        let signals = privileges::catch_termination().context("failed to catch signals")?;

        for group in &order.control_groups {
            // Zero means the writer; whatever it forks later is in the group from birth.
            std::fs::write(group.join("cgroup.procs"), "0")
                .with_context(|| format!("failed to join the control group {}", group.display()))?;
        }
        let mut child = spawn::spawn(&order)?;
        // What came on standard input is QEMU's alone from here on.
        let null = File::open("/dev/null").context("failed to open /dev/null")?;
        rustix::stdio::dup2_stdin(&null).context("failed to let go of standard input")?;
        let stderr = File::from(OwnedFd::from(child.stderr.take().context("no pipe to QEMU")?));
        rustix::io::ioctl_fionbio(&stderr, true).context("failed to prepare the pipe to QEMU")?;
        // Dropping `child` later neither waits nor kills; the descriptor below does both.
        let pid = Pid::from_child(&child);
        let monitor = pidfd_open(pid, PidfdFlags::empty()).context("failed to open QEMU's process")?;
        let mut guard = Self {
            pids: PidRecord {
                boot_id: boot_id().context("failed to read the boot id")?,
                generation: order.generation,
                uuid: order.uuid,
                guard: ProcessId::of(std::process::id() as i32).context("failed to read the guard's own process")?,
                // A child that is dead already is still to be recorded: as started at an unknown time.
                monitor: ProcessId::of(pid.as_raw_pid()).unwrap_or(ProcessId { pid: pid.as_raw_pid(), start_ticks: 0 }),
            },
            _lock: lock,
            run_dir,
            monitor,
            stderr: Some(stderr),
            said: Vec::new(),
            timer,
            moves,
            signals,
            stop_at,
            killed: None,
        };
        if let Err(error) = guard.settle(order.uid) {
            guard.kill(ExitCause::Stopped);
            let _ = guard.reap();
            let _ = guard.run_dir.remove_live_files();
            return Err(error);
        }
        Ok(guard)
    }

    /// What is left to do once QEMU runs.
    fn settle(&mut self, uid: u32) -> anyhow::Result<()> {
        // When memory is short the lent partition goes first, the owner's programs later.
        let _ = std::fs::write(format!("/proc/{}/oom_score_adj", self.pids.monitor.pid), "500");
        self.run_dir.write_pid(&self.pids).context("failed to record who runs")?;
        self.set_timer().context("failed to set the timer")?;
        privileges::drop_all_but_kill(uid).context("failed to drop privileges")
    }

    fn watch(&mut self) -> anyhow::Result<()> {
        loop {
            let [ended, due, moved, told, said] = self.wait().context("failed to wait")?;
            if said {
                self.listen();
            }
            if ended {
                return self.record();
            }
            // Before the timer is believed: the end may have been moved in the same moment.
            if moved {
                self.read_moved_deadline();
            }
            if due && Boottime::now() >= self.stop_at {
                self.kill(ExitCause::Deadline);
            }
            if told {
                self.kill(ExitCause::Stopped);
            }
        }
    }

    /// Waits for anything to happen: QEMU ended, timer, deadline file, signal, QEMU's standard error.
    fn wait(&self) -> io::Result<[bool; 5]> {
        let always = [&self.monitor, &self.timer, &self.moves, &self.signals].map(AsFd::as_fd);
        let all = always.into_iter().chain(self.stderr.as_ref().map(AsFd::as_fd));
        let mut polled: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        loop {
            match poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        Ok([0, 1, 2, 3, 4].map(|i| polled.get(i).is_some_and(|fd| !fd.revents().is_empty())))
    }

    fn set_timer(&self) -> io::Result<()> {
        // A zero time would disarm the timer.
        let at = self.stop_at.0.max(1);
        let value = Timespec { tv_sec: at / 1_000_000, tv_nsec: at % 1_000_000 * 1000 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }

    /// An unreadable deadline changes nothing: the last one that was read holds.
    fn read_moved_deadline(&mut self) {
        let mut buffer = [0; 4096];
        while matches!(rustix::io::read(&self.moves, &mut buffer), Ok(n) if n > 0) {}
        if let Ok(stop_at) = self.run_dir.read_deadline() {
            self.stop_at = stop_at;
            // A timer that cannot be set must not let the machine run on unpaid.
            if self.set_timer().is_err() {
                self.kill(ExitCause::Stopped);
            }
        }
    }

    fn kill(&mut self, cause: ExitCause) {
        let _ = pidfd_send_signal(&self.monitor, Signal::KILL);
        self.killed.get_or_insert(cause);
        // Said once; the timer would otherwise stay ready until the process is gone.
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let disarmed = Itimerspec { it_interval: never, it_value: never };
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &disarmed);
        let mut buffer = [0; 1024];
        let _ = rustix::io::read(&self.signals, &mut buffer);
    }

    /// Keeps the end of what QEMU says, and never more.
    fn listen(&mut self) {
        let mut buffer = [0; SAID_BYTES];
        let Some(stderr) = &mut self.stderr else { return };
        match stderr.read(&mut buffer) {
            // Closed: a closed pipe would be ready for ever.
            Ok(0) => self.stderr = None,
            Ok(n) => {
                self.said.extend_from_slice(&buffer[..n]);
                let excess = self.said.len().saturating_sub(SAID_BYTES);
                self.said.drain(..excess);
            }
            Err(_) => {}
        }
    }

    fn reap(&self) -> io::Result<ExitCause> {
        let status = waitid(WaitId::PidFd(self.monitor.as_fd()), WaitIdOptions::EXITED)?;
        Ok(match status {
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ExitCause::Exited { code },
                (None, Some(signal)) => ExitCause::Signalled { signal },
                (None, None) => ExitCause::Vanished,
            },
            None => ExitCause::Vanished,
        })
    }

    fn record(&mut self) -> anyhow::Result<()> {
        self.listen();
        let seen = self.reap().context("failed to learn how QEMU ended")?;
        // What we killed may have ended by itself in the same moment: then that is the truth.
        let cause = match (self.killed.take(), seen) {
            (Some(ours), ExitCause::Signalled { signal: 9 }) => ours,
            (_, seen) => seen,
        };
        let exit = ExitRecord {
            generation: self.pids.generation,
            uuid: self.pids.uuid,
            cause,
            at_monotonic_us: monotonic_micros(),
            at_boottime_us: Boottime::now().0,
            boot_id: self.pids.boot_id.clone(),
            said: String::from_utf8_lossy(&self.said).into_owned(),
        };
        self.run_dir.write_exit(&exit).context("failed to record how QEMU ended")?;
        self.run_dir.remove_live_files().context("failed to clear the run directory")
    }
}

fn take_lock(run_dir: &RunDir) -> anyhow::Result<File> {
    let path = run_dir.lock();
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.with_context(|| format!("failed to open {}", path.display()))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!("another guard runs a machine in {}", run_dir.path().display()),
        Err(error) => Err(error).context("failed to take the lock"),
    }
}

fn watch_moves(run_dir: &RunDir) -> io::Result<OwnedFd> {
    let moves = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let flags = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&moves, run_dir.path(), flags)?;
    Ok(moves)
}
