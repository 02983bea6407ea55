//! One job: its process, and the bytes that go in and come out.

use crate::link::Outbox;
use crate::spawn::Started;
use crate::sys;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use sublet_guest::frames::{MAX_PAYLOAD_BYTES, WINDOW_BYTES};
use sublet_guest::messages::{Exec, Refusal, Refused, Status, TAIL_BYTES, Tail, kind};
use sublet_guest::record::Record;

/// A job and everything held for it; all of it is bounded.
pub struct Job {
    pub id: String,
    /// Where the host listens; `None` once it is detached.
    pub stream: Option<u32>,
    pub pid: i32,
    pub ended: Option<Status>,
    /// Until the program runs: tells whether it could be started.
    pub failure: Option<OwnedFd>,
    pub stdin: Stdin,
    pub outputs: [Option<Output>; 2],
    pub place: Option<PathBuf>,
    pub tail: Tail,
    /// Of a detached job: what its host has not confirmed yet. Kept until the host forgets the job.
    pub record: Option<Record>,
    /// The program could not be started; the host knows.
    pub never_ran: bool,
    pty: bool,
    keep: bool,
}

/// Bytes on their way into the job.
pub struct Stdin {
    pub fd: Option<OwnedFd>,
    pub queue: VecDeque<u8>,
    ending: bool,
    /// What the host may still send.
    window: u32,
    /// Consumed, and not yet granted to the host again.
    consumed: u32,
    ended_line: bool,
}

/// One of stdout and stderr.
pub struct Output {
    pub fd: OwnedFd,
    /// What the host is ready to take.
    pub credit: u64,
}

impl Job {
    pub fn new(exec: &Exec, stream: u32, started: Started, place: Option<PathBuf>) -> Self {
        let output = |fd: OwnedFd| Output { fd, credit: WINDOW_BYTES.into() };
        Self {
            id: exec.job.clone(),
            stream: Some(stream),
            pid: started.pid,
            ended: None,
            failure: Some(started.failure),
            stdin: Stdin {
                fd: Some(started.stdin),
                queue: VecDeque::new(),
                ending: false,
                window: WINDOW_BYTES,
                consumed: 0,
                ended_line: true,
            },
            outputs: started.outputs.map(|fd| fd.map(output)),
            place,
            tail: Tail::default(),
            record: None,
            never_ran: false,
            pty: exec.pty.is_some(),
            keep: exec.keep,
        }
    }

    /// Nothing more will come of it.
    pub fn over(&self) -> bool {
        self.is_silent() && (self.record.is_none() || self.never_ran)
    }

    /// It has ended, and nothing is left in its pipes.
    pub fn is_silent(&self) -> bool {
        self.ended.is_some() && self.failure.is_none() && self.outputs.iter().all(Option::is_none)
    }

    /// Learns whether the program was started, and tells the host.
    pub fn learn_start(&mut self, outbox: &mut Outbox) {
        let Some(failure) = &self.failure else { return };
        let mut bytes = [0; 4];
        let answer = match rustix::io::read(failure, &mut bytes) {
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(4) => Err(i32::from_ne_bytes(bytes)),
            Ok(_) | Err(_) => Ok(()),
        };
        self.failure = None;
        let stream = self.stream;
        match answer {
            Ok(()) => {
                let started = (self.pid as u32).to_le_bytes();
                if let Some(stream) = stream {
                    outbox.send(stream, kind::STARTED, 0, &started);
                }
                if let (Some(stream), Some(status)) = (stream, self.ended) {
                    outbox.send(stream, kind::EXITED, 0, &status.encode());
                }
            }
            Err(number) => {
                let error = std::io::Error::from_raw_os_error(number);
                let why = crate::spawn::refusal_of(number);
                let words = format!("cannot start it: {error}");
                self.never_ran = true;
                if let Some(stream) = self.stream.take() {
                    outbox.send(stream, kind::REFUSED, 0, &Refused { why, words }.encode());
                }
            }
        }
    }

    /// The process ended. What it wrote may still be in the pipes.
    pub fn end(&mut self, status: Status, outbox: &mut Outbox) {
        self.ended = Some(status);
        if let (Some(stream), None) = (self.stream, &self.failure) {
            outbox.send(stream, kind::EXITED, 0, &status.encode());
        }
    }

    /// Bytes from the host for its stdin.
    pub fn take_input(&mut self, bytes: &[u8], outbox: &mut Outbox) -> Result<(), Refused> {
        let stdin = &mut self.stdin;
        let count = bytes.len() as u32;
        if count > stdin.window || stdin.ending {
            let words = "more input than was granted".into();
            return Err(Refused { why: Refusal::Protocol, words });
        }
        stdin.window -= count;
        let direct = if stdin.queue.is_empty() { stdin.write(bytes) } else { 0 };
        if stdin.fd.is_some() {
            stdin.queue.extend(&bytes[direct..]);
        }
        self.grant(outbox);
        Ok(())
    }

    /// The host has no more input.
    pub fn end_input(&mut self) {
        self.stdin.ending = true;
        self.pump_input(None);
    }

    /// Writes queued input for as long as the job takes it.
    pub fn pump_input(&mut self, outbox: Option<&mut Outbox>) {
        let mut queue = std::mem::take(&mut self.stdin.queue);
        while !queue.is_empty() {
            let front = queue.as_slices().0;
            let (count, offered) = (self.stdin.write(front), front.len());
            queue.drain(..count);
            if count < offered {
                break;
            }
        }
        self.stdin.queue = queue;
        if self.stdin.queue.is_empty() && self.stdin.ending {
            self.close_input();
        }
        if let Some(outbox) = outbox {
            self.grant(outbox);
        }
    }

    /// Ends the job's input: a pipe closes, a terminal that reads lines is told so.
    fn close_input(&mut self) {
        let Some(fd) = self.stdin.fd.take() else { return };
        if self.pty
            && self.stream.is_some()
            && let Some(end) = sys::end_of_input(std::os::fd::AsFd::as_fd(&fd))
        {
            // In the middle of a line the first only ends the line.
            let ends = if self.stdin.ended_line { &[end][..] } else { &[end, end][..] };
            let _ = rustix::io::write(&fd, ends);
        }
    }

    fn grant(&mut self, outbox: &mut Outbox) {
        let stdin = &mut self.stdin;
        if stdin.fd.is_none() {
            // The job reads no more; what comes is dropped, so that the host is not held up.
            stdin.consumed += stdin.queue.len() as u32;
            stdin.queue = VecDeque::new();
        }
        if stdin.consumed >= WINDOW_BYTES / 4
            && let Some(stream) = self.stream
        {
            outbox.send(stream, kind::CREDIT, 0, &stdin.consumed.to_le_bytes());
            stdin.window += stdin.consumed;
            stdin.consumed = 0;
        }
    }

    /// More output may be sent.
    pub fn credit(&mut self, channel: u16, bytes: u32) {
        if let Some(record) = &mut self.record {
            return record.confirm(bytes);
        }
        if let Some(Some(output)) = self.outputs.get_mut(usize::from(channel)) {
            output.credit = (output.credit + u64::from(bytes)).min(1 << 32);
        }
    }

    /// Whether output of this channel could go anywhere now.
    pub fn wants_output(&self, channel: usize, outbox: &Outbox) -> bool {
        match (&self.outputs[channel], &self.record) {
            (None, _) => false,
            (Some(_), _) if self.stream.is_none() => true,
            (Some(_), Some(record)) => self.failure.is_none() && record.has_room(),
            (Some(output), None) => self.failure.is_none() && output.credit > 0 && !outbox.full(),
        }
    }

    /// Moves one buffer of output.
    pub fn pump_output(&mut self, channel: usize, outbox: &mut Outbox) {
        let Some(output) = &mut self.outputs[channel] else { return };
        let read = match (&mut self.record, self.stream) {
            (Some(record), _) => sys::read_onto(&output.fd, &mut record.bytes, MAX_PAYLOAD_BYTES),
            (None, Some(stream)) => {
                let read = outbox.send_from(&output.fd, stream, channel as u16, output.credit.min(1 << 20) as usize);
                output.credit -= read.unwrap_or(0) as u64;
                read
            }
            (None, None) => sys::read_onto(&output.fd, &mut self.tail.bytes, MAX_PAYLOAD_BYTES),
        };
        match read {
            Err(Errno::AGAIN | Errno::INTR) => self.settle_output(channel, outbox),
            Ok(0) | Err(_) => self.close_output(channel, outbox),
            Ok(_) if self.tail.bytes.len() > 2 * TAIL_BYTES => self.cut_tail(),
            Ok(_) => {}
        }
        if let (Some(record), None) = (&mut self.record, self.stream) {
            record.cut();
        }
    }

    /// Nothing to read now. A terminal whose job has ended is closed, so that what the job left
    /// running hangs up; pipes that a detached job left to others are not waited for.
    fn settle_output(&mut self, channel: usize, outbox: &mut Outbox) {
        if self.ended.is_some() && (self.pty || self.stream.is_none() || self.record.is_some()) {
            self.close_output(channel, outbox);
        }
    }

    fn close_output(&mut self, channel: usize, outbox: &mut Outbox) {
        self.outputs[channel] = None;
        if self.pty {
            self.stdin.fd = None;
        }
        if let (Some(stream), None) = (self.stream, &self.record) {
            outbox.send(stream, kind::EOF, channel as u16, &[]);
            if self.pty {
                outbox.send(stream, kind::EOF, 1, &[]);
            }
        }
    }

    /// Another host listens to a detached job: what that one has not is sent again.
    pub fn attach(&mut self, stream: u32, from: u64, outbox: &mut Outbox) {
        let Some(record) = &mut self.record else { return };
        let start = record.attach(from);
        self.stream = Some(stream);
        outbox.send(stream, kind::ATTACHED, 0, &start.to_le_bytes());
        if let (Some(status), None) = (self.ended, &self.failure) {
            outbox.send(stream, kind::EXITED, 0, &status.encode());
        }
    }

    /// Sends what a detached job has said, and at last that this was all.
    pub fn send_record(&mut self, outbox: &mut Outbox) {
        let (Some(record), Some(stream), None) = (&mut self.record, self.stream, &self.failure) else { return };
        while !outbox.full() {
            let bytes = record.next();
            if !bytes.is_empty() {
                outbox.send(stream, kind::DATA, 0, bytes);
                continue;
            }
            if self.outputs[0].is_none() && record.is_sent() && !record.end_said {
                record.end_said = true;
                outbox.send(stream, kind::EOF, 0, &[]);
                outbox.send(stream, kind::EOF, 1, &[]);
            }
            return;
        }
    }

    /// Drops what exceeds the tail that is kept.
    pub fn cut_tail(&mut self) {
        let over = self.tail.bytes.len().saturating_sub(TAIL_BYTES);
        self.tail.bytes.drain(..over);
        self.tail.dropped_bytes += over as u64;
    }

    /// The host is gone or wants no more of it.
    pub fn detach(&mut self, keep: bool) {
        if self.stream.take().is_none() {
            return;
        }
        if keep || self.record.is_some() || (self.keep || !self.pty) && self.ended.is_none() {
            // What is left in the pipe of a detached job belongs to whoever listens next.
            // A terminal stays as it is; a pipe's reader is told that nothing more comes.
            self.stdin.ending |= !self.pty;
            self.pump_input(None);
        } else {
            self.hang_up();
        }
    }

    /// Closes our ends, as when a connection breaks: a terminal sends SIGHUP, writers get SIGPIPE.
    pub fn hang_up(&mut self) {
        self.stream = None;
        self.stdin.fd = None;
        self.stdin.queue = VecDeque::new();
        self.outputs = [None, None];
    }

    /// Signals everything in the job's process group, and what its terminal has in front.
    pub fn signal(&self, signal: i32) -> std::io::Result<()> {
        if self.ended.is_some() && !self.pty {
            // The group outlives its leader while a child of the job is in it.
            return sys::kill_group(self.pid, signal);
        }
        let front = self.outputs[0].as_ref().filter(|_| self.pty).and_then(|output| sys::foreground_group(&output.fd));
        if let Some(front) = front.filter(|group| *group != self.pid) {
            let _ = sys::kill_group(front, signal);
        }
        sys::kill_group(self.pid, signal)
    }

    /// A detached job that is killed leaves nothing running, whatever group its children are in.
    pub fn kill_place(&self, signal: i32) {
        if let (libc::SIGKILL, Some(place), Some(_)) = (signal, &self.place, &self.record) {
            let _ = std::fs::write(place.join("cgroup.kill"), "1");
        }
    }

    /// Tells the terminal its new size.
    pub fn resize(&self, rows: u16, cols: u16) {
        if let (true, Some(output)) = (self.pty, &self.outputs[0]) {
            crate::spawn::resize(&output.fd, rows, cols);
        }
    }
}

impl Stdin {
    /// Writes what the job takes now; all counts as taken once it reads no more.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(fd) = &self.fd else {
            self.consumed += bytes.len() as u32;
            return bytes.len();
        };
        let count = match rustix::io::write(fd, bytes) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.fd = None;
                bytes.len()
            }
        };
        if count > 0 {
            self.ended_line = bytes[count - 1] == b'\n';
        }
        self.consumed += count as u32;
        count
    }
}

#[cfg(test)]
mod tests;
