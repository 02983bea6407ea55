//! One job: what it says and is told, and what of that the host has.
//!
//! A job and its host are two ends of a few bounded queues ([`Streams`]); the job reads and writes at one
//! end whenever it has its slice, the frames come and go at the other.

use crate::link::Outbox;
use crate::program::Program;
use crate::world::World;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use sublet_guest::frames::{MAX_PAYLOAD_BYTES, WINDOW_BYTES};
use sublet_guest::messages::{Refusal, Refused, Status, TAIL_BYTES, Tail, kind};
use sublet_guest::record::Record;

/// What a job may have said and nobody taken.
const OUTPUT_BYTES: usize = 64 * 1024;

/// The signal of a writer that nobody reads.
const BROKEN_PIPE: u8 = 13;
/// Signals that end nobody: child, continue, stop and its kin, urgent, window.
const HARMLESS: [u8; 8] = [17, 18, 19, 20, 21, 22, 23, 28];

/// What lies between a job and its host.
#[derive(Default)]
pub struct Streams {
    /// Bytes for the job.
    pub input: VecDeque<u8>,
    /// No more of them will come.
    pub input_ended: bool,
    /// The job has taken so many, which were not granted to the host again.
    taken: u32,
    outputs: [VecDeque<u8>; 2],
    /// stdout and stderr are one.
    one_output: bool,
    /// Nobody reads any more.
    pub hung_up: bool,
}

impl Streams {
    /// Takes input, at most as much as there is room for.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.input.len());
        for (place, byte) in into.iter_mut().zip(self.input.drain(..count)) {
            *place = byte;
        }
        self.taken += count as u32;
        count
    }

    /// Takes output, as much as there is room for.
    pub fn write(&mut self, channel: usize, bytes: &[u8]) -> usize {
        let output = &mut self.outputs[if self.one_output { 0 } else { channel }];
        let count = bytes.len().min(OUTPUT_BYTES.saturating_sub(output.len()));
        output.extend(&bytes[..count]);
        count
    }

    /// How much output there is room for.
    pub fn room(&self, channel: usize) -> usize {
        OUTPUT_BYTES.saturating_sub(self.outputs[if self.one_output { 0 } else { channel }].len())
    }
}

/// A job and everything held for it; all of it is bounded.
pub struct Job {
    /// The host's name for it.
    pub id: String,
    /// Where the host listens; `None` once it is detached.
    pub stream: Option<u32>,
    /// How it ended.
    pub ended: Option<Status>,
    /// What it said that nobody listened to.
    pub tail: Tail,
    /// Of a detached job: what its host has not confirmed yet. Kept until the host forgets the job.
    pub record: Option<Record>,
    streams: Rc<RefCell<Streams>>,
    program: Option<Program>,
    /// What the host may still send, and what it is ready to take.
    window: u32,
    credit: [u64; 2],
    end_said: [bool; 2],
}

impl Job {
    /// One that begins now.
    pub fn new(id: String, stream: u32, recorded: bool, streams: Rc<RefCell<Streams>>, program: Program) -> Self {
        streams.borrow_mut().one_output = recorded;
        streams.borrow_mut().input_ended = recorded;
        Self {
            id,
            stream: Some(stream),
            ended: None,
            tail: Tail::default(),
            record: recorded.then(Record::default),
            streams,
            program: Some(program),
            window: WINDOW_BYTES,
            credit: [WINDOW_BYTES.into(); 2],
            end_said: [false; 2],
        }
    }

    /// Nothing more will come of it.
    pub fn over(&self) -> bool {
        self.ended.is_some() && self.is_drained() && self.record.is_none() && (self.stream.is_none() || self.is_said())
    }

    /// All that it said has gone somewhere.
    fn is_drained(&self) -> bool {
        self.streams.borrow().outputs.iter().all(VecDeque::is_empty)
    }

    /// The host knows that nothing more comes.
    pub fn is_said(&self) -> bool {
        self.end_said == [true; 2]
    }

    /// Lets it run for a slice; true if it could go on at once. Else `wake` may become the time at which
    /// it can.
    pub fn run(&mut self, world: &World, wake: &mut Option<u64>, outbox: &mut Outbox) -> bool {
        let Some(program) = &mut self.program else { return false };
        let goes_on = match program.run(world, wake) {
            Ok(goes_on) => goes_on,
            Err(status) => {
                self.end(status, outbox);
                return false;
            }
        };
        self.grant(outbox);
        goes_on
    }

    /// It ended.
    fn end(&mut self, status: Status, outbox: &mut Outbox) {
        self.program = None;
        self.ended = Some(status);
        self.streams.borrow_mut().input = VecDeque::new();
        if let Some(stream) = self.stream {
            outbox.send(stream, kind::EXITED, 0, &status.encode());
        }
    }

    /// What a signal does where nobody can catch one.
    pub fn signal(&mut self, signal: u8, outbox: &mut Outbox) {
        if self.ended.is_none() && !HARMLESS.contains(&signal) {
            self.end(Status::Signal(signal), outbox);
        }
    }

    /// Bytes from the host.
    pub fn take_input(&mut self, bytes: &[u8], outbox: &mut Outbox) -> Result<(), Refused> {
        let count = bytes.len() as u32;
        let mut streams = self.streams.borrow_mut();
        if count > self.window || streams.input_ended {
            return Err(Refused { why: Refusal::Protocol, words: "more input than was granted".into() });
        }
        self.window -= count;
        if self.program.is_some() {
            streams.input.extend(bytes);
        } else {
            // Dropped, so that the host is not held up.
            streams.taken += count;
        }
        drop(streams);
        self.grant(outbox);
        Ok(())
    }

    /// The host has no more input.
    pub fn end_input(&mut self) {
        self.streams.borrow_mut().input_ended = true;
    }

    fn grant(&mut self, outbox: &mut Outbox) {
        let mut streams = self.streams.borrow_mut();
        if streams.taken >= WINDOW_BYTES / 4
            && let Some(stream) = self.stream
        {
            outbox.send(stream, kind::CREDIT, 0, &streams.taken.to_le_bytes());
            self.window += streams.taken;
            streams.taken = 0;
        }
    }

    /// More output may be sent.
    pub fn credit(&mut self, channel: u16, bytes: u32) {
        match (&mut self.record, self.credit.get_mut(usize::from(channel))) {
            (Some(record), _) => record.confirm(bytes),
            (None, Some(credit)) => *credit = (*credit + u64::from(bytes)).min(1 << 32),
            (None, None) => {}
        }
    }

    /// Moves what it said to where it goes.
    pub fn pump(&mut self, outbox: &mut Outbox) {
        match self.stream {
            _ if self.record.is_some() => self.pump_record(outbox),
            Some(stream) => (0..2).for_each(|channel| self.pump_output(stream, channel, outbox)),
            None => self.pump_tail(),
        }
    }

    fn pump_output(&mut self, stream: u32, channel: usize, outbox: &mut Outbox) {
        let mut streams = self.streams.borrow_mut();
        let output = &mut streams.outputs[channel];
        while !output.is_empty() && self.credit[channel] > 0 && !outbox.full() {
            let front = output.as_slices().0;
            let count = front.len().min(MAX_PAYLOAD_BYTES).min(self.credit[channel].min(1 << 20) as usize);
            outbox.send(stream, kind::DATA, channel as u16, &front[..count]);
            self.credit[channel] -= count as u64;
            output.drain(..count);
        }
        if output.is_empty() && self.ended.is_some() && !self.end_said[channel] {
            self.end_said[channel] = true;
            outbox.send(stream, kind::EOF, channel as u16, &[]);
        }
    }

    fn pump_record(&mut self, outbox: &mut Outbox) {
        let Some(record) = &mut self.record else { return };
        if self.stream.is_none() || record.has_room() {
            let mut streams = self.streams.borrow_mut();
            record.bytes.extend(streams.outputs[0].drain(..));
        }
        let Some(stream) = self.stream else { return record.cut() };
        while !outbox.full() {
            let bytes = record.next();
            if bytes.is_empty() {
                break;
            }
            outbox.send(stream, kind::DATA, 0, bytes);
        }
        let all = self.ended.is_some() && record.is_sent() && self.streams.borrow().outputs[0].is_empty();
        if all && !record.end_said {
            record.end_said = true;
            self.end_said = [true; 2];
            outbox.send(stream, kind::EOF, 0, &[]);
            outbox.send(stream, kind::EOF, 1, &[]);
        }
    }

    fn pump_tail(&mut self) {
        let mut streams = self.streams.borrow_mut();
        for output in &mut streams.outputs {
            self.tail.bytes.extend(output.drain(..));
        }
        let over = self.tail.bytes.len().saturating_sub(TAIL_BYTES);
        self.tail.bytes.drain(..over);
        self.tail.dropped_bytes += over as u64;
    }

    /// Another host listens to a detached job: what that one has not is sent again.
    pub fn attach(&mut self, stream: u32, from: u64, outbox: &mut Outbox) {
        let Some(record) = &mut self.record else { return };
        let start = record.attach(from);
        self.end_said = [false; 2];
        self.stream = Some(stream);
        outbox.send(stream, kind::ATTACHED, 0, &start.to_le_bytes());
        if let Some(status) = self.ended {
            outbox.send(stream, kind::EXITED, 0, &status.encode());
        }
    }

    /// The host is gone or wants no more of it. A job goes on unless the host let go of it alone.
    pub fn detach(&mut self, goes_on: bool) {
        if self.stream.take().is_none() {
            return;
        }
        if goes_on || self.record.is_some() {
            self.end_input();
        } else {
            self.hang_up();
        }
    }

    /// Nobody reads any more, and nobody writes: a job that writes ends.
    pub fn hang_up(&mut self) {
        self.stream = None;
        self.record = None;
        let mut streams = self.streams.borrow_mut();
        (streams.hung_up, streams.input_ended) = (true, true);
        streams.outputs = Default::default();
    }
}

/// How a job ends that writes to nobody.
pub const UNHEARD: Status = Status::Signal(BROKEN_PIPE);
