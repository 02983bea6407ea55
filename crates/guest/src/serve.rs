//! The loop: waits for the host, the jobs and the kernel, and moves bytes between them.

use crate::job::Job;
use crate::link::Outbox;
use crate::table::{After, Table};
use crate::{init, sys};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use sublet_guest::frames::Decoder;

/// In what place the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As the first process.
    Init,
    /// Beside another init.
    Service,
    /// On somebody's machine, for a test: changes nothing of it.
    Rehearse,
}

/// Why serving ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// The other end went; a port that has no listener does not end the loop.
    Closed,
    /// The program was asked to stop.
    Stop,
}

/// How often a port without a listener is looked at, should the kernel's own hint be missed.
const ABSENT_MILLIS: i64 = 200;
/// How often places of ended jobs are looked at.
const CHORES_MILLIS: i64 = 500;
/// How often such a host is told to begin anew; not in the first moments, when its Hello may follow.
const TELL_LOST_EVERY: Duration = Duration::from_millis(200);
/// Reads from the host before the jobs have their turn.
const READS_A_TURN: usize = 32;

/// Serves one opened port or socket.
pub fn serve(fd: OwnedFd, table: &mut Table) -> io::Result<Ending> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    let signals = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGIO];
    let signals = sys::signal_fd(&signals)?;
    let mut turn = Turn {
        port: table.manner != Manner::Rehearse,
        fd,
        signals,
        decoder: Decoder::for_guest(),
        outbox: Outbox::default(),
        absent: false,
        strangers: 0,
        told_lost: Instant::now(),
    };
    let ending = turn.run(table);
    table.detach_all();
    ending
}

struct Turn {
    port: bool,
    fd: OwnedFd,
    signals: OwnedFd,
    decoder: Decoder,
    outbox: Outbox,
    /// Nobody has the other end of the port open.
    absent: bool,
    /// Frames of unknown sessions so far: a host that speaks to an earlier life of this program.
    strangers: u64,
    told_lost: Instant,
}

/// What a descriptor in the poll set belongs to.
#[derive(Clone, Copy)]
enum Source {
    Host,
    Signals,
    Failure(usize),
    Stdin(usize),
    Output(usize, usize),
}

impl Turn {
    fn run(&mut self, table: &mut Table) -> io::Result<Ending> {
        loop {
            table.sweep();
            let ready = self.wait(table)?;
            for (source, flags) in ready {
                match source {
                    Source::Signals => {
                        if let Some(ending) = self.signals(table) {
                            return Ok(ending);
                        }
                    }
                    Source::Host => match self.host(flags, table)? {
                        Some(Ending::Closed) if self.port => self.leave(table),
                        Some(ending) => return Ok(ending),
                        None => {}
                    },
                    Source::Failure(job) => table.learn_start(job, &mut self.outbox),
                    Source::Stdin(job) => table.jobs[job].pump_input(Some(&mut self.outbox)),
                    Source::Output(job, channel) => {
                        table.jobs[job].pump_output(channel, &mut self.outbox);
                    }
                }
            }
            self.settle(table);
            if !self.absent {
                self.flush(table)?;
            }
        }
    }

    /// Waits until something can be done; says what.
    fn wait(&mut self, table: &mut Table) -> io::Result<Vec<(Source, PollFlags)>> {
        if self.absent {
            self.look_again();
        }
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if !self.absent {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !self.outbox.choked());
            flags.set(PollFlags::OUT, self.outbox.waiting() > 0);
            sources.push(Source::Host);
            fds.push(PollFd::new(&self.fd, flags));
        }
        for (index, job) in table.jobs.iter().enumerate() {
            watch(index, job, &self.outbox, &mut sources, &mut fds);
        }
        let millis = match (self.absent, table.has_chores()) {
            (true, _) => Some(ABSENT_MILLIS),
            (false, true) => Some(CHORES_MILLIS),
            (false, false) => None,
        };
        let timeout = millis.map(|ms| Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => {
                drop(fds);
                table.idle();
                return Ok(Vec::new());
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = sources.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(source, fd)| (source, fd.revents())).collect())
    }

    fn signals(&mut self, table: &mut Table) -> Option<Ending> {
        let mut died = false;
        while let Some(signal) = sys::next_signal(&self.signals) {
            match (signal, table.manner) {
                (libc::SIGCHLD, _) => died = true,
                (libc::SIGIO, _) => {}
                // What halt, poweroff and reboot send to the first process.
                (libc::SIGTERM | libc::SIGINT, Manner::Init) => init::reboot(),
                (_, Manner::Init) => init::power_off(),
                (libc::SIGTERM | libc::SIGINT, _) => return Some(Ending::Stop),
                _ => {}
            }
        }
        if died {
            table.reap(&mut self.outbox);
        }
        None
    }

    /// Reads from the host and does what it says.
    fn host(&mut self, flags: PollFlags, table: &mut Table) -> io::Result<Option<Ending>> {
        if self.port && flags.contains(PollFlags::HUP) {
            return Ok(Some(Ending::Closed));
        }
        for _ in 0..READS_A_TURN {
            if self.outbox.choked() {
                break;
            }
            match rustix::io::read(&self.fd, self.decoder.room()) {
                Ok(0) => return Ok(Some(Ending::Closed)),
                Ok(count) => self.decoder.filled(count),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(Errno::CONNRESET | Errno::PIPE) => return Ok(Some(Ending::Closed)),
                Err(error) => return Err(error.into()),
            }
            if self.frames(table) == After::PowerOff {
                let _ = self.outbox.flush(&self.fd);
                match table.manner {
                    Manner::Rehearse => return Ok(Some(Ending::Stop)),
                    Manner::Init => init::power_off(),
                    Manner::Service => init::ask_for_power_off(),
                }
            }
        }
        Ok(None)
    }

    fn frames(&mut self, table: &mut Table) -> After {
        // The guest's decoder skips what it does not like and never fails.
        while let Ok(Some(frame)) = self.decoder.next() {
            match table.handle(&frame, &mut self.outbox) {
                After::Nothing => {}
                After::Enter(session) => self.decoder.enter(session),
                After::PowerOff => return After::PowerOff,
            }
        }
        let strangers = self.decoder.strangers();
        if strangers > self.strangers && !self.outbox.in_session() && self.told_lost.elapsed() > TELL_LOST_EVERY {
            self.outbox.send_lost();
            self.told_lost = Instant::now();
        }
        self.strangers = strangers;
        After::Nothing
    }

    /// Jobs that ended while nothing more can be read from them, and what detached ones have said.
    fn settle(&mut self, table: &mut Table) {
        for job in &mut table.jobs {
            for channel in 0..2 {
                if job.ended.is_some() && job.wants_output(channel, &self.outbox) {
                    job.pump_output(channel, &mut self.outbox);
                }
            }
            job.send_record(&mut self.outbox);
        }
    }

    fn flush(&mut self, table: &mut Table) -> io::Result<()> {
        match self.outbox.flush(&self.fd) {
            Ok(()) => Ok(()),
            Err(_) if self.port => {
                self.leave(table);
                Ok(())
            }
            // The reader side will tell that it is closed.
            Err(_) => Ok(()),
        }
    }

    /// The host's end is closed: jobs go on, half frames are forgotten.
    fn leave(&mut self, table: &mut Table) {
        table.detach_all();
        self.outbox.leave();
        self.decoder.reset();
        self.absent = true;
        sys::tell_when_opened(&self.fd, true);
    }

    fn look_again(&mut self) {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN | PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().contains(PollFlags::HUP) {
            self.absent = false;
            sys::tell_when_opened(&self.fd, false);
        }
    }
}

fn watch<'a>(index: usize, job: &'a Job, outbox: &Outbox, sources: &mut Vec<Source>, fds: &mut Vec<PollFd<'a>>) {
    let mut add = |source, fd: &'a OwnedFd, flags| {
        sources.push(source);
        fds.push(PollFd::new(fd, flags));
    };
    if let Some(fd) = &job.failure {
        add(Source::Failure(index), fd, PollFlags::IN);
    }
    if let (Some(fd), false) = (&job.stdin.fd, job.stdin.queue.is_empty()) {
        add(Source::Stdin(index), fd, PollFlags::OUT);
    }
    for channel in 0..2 {
        if let (Some(output), true) = (&job.outputs[channel], job.wants_output(channel, outbox)) {
            add(Source::Output(index, channel), &output.fd, PollFlags::IN);
        }
    }
}
