//! Everything the kernel knows: its identity, the jobs that run, those that ended. It outlives
//! connections, so that a host that comes back finds its jobs.

use crate::guest;
use crate::job::{Job, Streams};
use crate::link::Outbox;
use crate::program::{self, refused};
use crate::world::World;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use sublet_guest::frames::Frame;
use sublet_guest::messages::{
    self, Attach, Exec, Identity, JobState, MAX_ENDED_JOBS, PROTOCOL_VERSION, Ready, Refusal, Refused, Stats, Tail,
    Welcome, kind,
};

/// Most jobs that run at a time, or have ended and were not forgotten: each has windows of its own.
const MOST_JOBS: usize = 32;
/// Ended jobs whose last output is still kept.
const KEPT_TAILS: usize = 8;
/// Least randomness that makes a copy differ.
const LEAST_ENTROPY_BYTES: usize = 64;
/// A clock nearer than this is left alone when the identity is told again: jobs run by then.
const CLOCK_SLACK_MICROS: u64 = 500_000;

/// What has to be done after a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// Frames of this session are let through from now on.
    Enter(u64),
    /// Turn the machine off.
    PowerOff,
}

/// Identity and jobs.
pub struct Table {
    world: Rc<World>,
    jobs: Vec<Job>,
    ended: VecDeque<(JobState, Tail)>,
    identity: Option<Identity>,
    boot_id: String,
}

impl Table {
    /// Of a machine that nobody has spoken to.
    pub fn new(world: Rc<World>) -> Self {
        Self { world, jobs: Vec::new(), ended: VecDeque::new(), identity: None, boot_id: String::new() }
    }

    /// Does what a frame says; answers go to the outbox.
    pub fn handle(&mut self, frame: &Frame<'_>, outbox: &mut Outbox) -> After {
        if frame.kind == kind::HELLO {
            return self.hello(frame, outbox);
        }
        if frame.kind == kind::SHUTDOWN {
            outbox.send(frame.stream, kind::DONE, 0, &[]);
            return After::PowerOff;
        }
        match self.answer(frame, outbox) {
            Ok(Some((kind, payload))) => outbox.send(frame.stream, kind, 0, &payload),
            Ok(None) => {}
            Err(refusal) => outbox.refuse(frame.stream, &refusal),
        }
        After::Nothing
    }

    /// A host begins: whatever an earlier one listened to goes on without it.
    fn hello(&mut self, frame: &Frame<'_>, outbox: &mut Outbox) -> After {
        self.detach_all();
        outbox.enter(frame.session);
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            boot_id: self.boot_id.clone(),
            identity: self.identity.as_ref().map(|identity| (identity.lease.clone(), identity.generation)),
            jobs: self.states(),
        };
        outbox.send(0, kind::WELCOME, 0, &welcome.encode());
        After::Enter(frame.session)
    }

    fn answer(&mut self, frame: &Frame<'_>, outbox: &mut Outbox) -> Result<Option<(u16, Vec<u8>)>, Refused> {
        let malformed = |_| refused(Refusal::Protocol, "a message that does not decode");
        let text = || core::str::from_utf8(frame.payload).unwrap_or_default();
        match frame.kind {
            kind::DATA => self.input(frame, outbox)?,
            kind::EOF => self.with(frame.stream, Job::end_input),
            kind::CREDIT => {
                let bytes = frame.payload.try_into().map(u32::from_le_bytes).unwrap_or(0);
                self.with(frame.stream, |job| job.credit(frame.channel, bytes));
            }
            kind::PING => return Ok(Some((kind::PONG, frame.payload.to_vec()))),
            kind::IDENTITY => {
                self.identify(Identity::decode(frame.payload).map_err(malformed)?)?;
                return Ok(Some((kind::READY, self.ready().encode())));
            }
            // It boots as quickly as a copy starts.
            kind::TEMPLATE => return Err(refused(Refusal::Pointless, "a copy of it starts no sooner than it boots")),
            kind::EXEC | kind::RECORD => {
                let exec = Exec::decode(frame.payload).map_err(malformed)?;
                self.start(exec, frame.kind == kind::RECORD, frame.stream, outbox)?;
            }
            kind::ATTACH => {
                let attach = Attach::decode(frame.payload).map_err(malformed)?;
                self.recorded(&attach.job)?.attach(frame.stream, attach.from, outbox);
            }
            kind::FORGET => {
                self.forget(text())?;
                return Ok(Some((kind::DONE, Vec::new())));
            }
            kind::SIGNAL => match frame.payload.first() {
                Some(&signal @ 1..=31) => self.with(frame.stream, |job| job.signal(signal, outbox)),
                other => return Err(refused(Refusal::Protocol, format!("no signal {other:?}"))),
            },
            kind::WINDOW => {}
            kind::CLOSE => {
                let keep = frame.payload.first() == Some(&1);
                self.with(frame.stream, |job| job.detach(keep));
            }
            kind::JOBS => return Ok(Some((kind::JOBS_ARE, messages::encode_jobs(&self.states())))),
            kind::TAIL => return self.tail(text()).map(|tail| Some((kind::TAIL_IS, tail.encode()))),
            kind::STATS => return Ok(Some((kind::STATS_ARE, self.stats().encode()))),
            other => return Err(refused(Refusal::Protocol, format!("no message of kind {other}"))),
        }
        Ok(None)
    }

    fn identify(&mut self, identity: Identity) -> Result<(), Refused> {
        let again = match &self.identity {
            Some(mine) if (&mine.lease, mine.generation) != (&identity.lease, identity.generation) => {
                let words = format!("this is {} of generation {}", mine.lease, mine.generation);
                return Err(refused(Refusal::OtherIdentity, words));
            }
            known => known.is_some(),
        };
        let bytes = identity.entropy.len();
        if bytes < LEAST_ENTROPY_BYTES {
            return Err(refused(Refusal::Failed, format!("{bytes} bytes of entropy, {LEAST_ENTROPY_BYTES} needed")));
        }
        if identity.disk_gib > 0 {
            let words = "this partition runs WebAssembly: it has no use for a scratch disk; rent it without one";
            return Err(refused(Refusal::Failed, words));
        }
        let world = &self.world;
        world.random.borrow_mut().add(&identity.entropy);
        if !again || world.wall_micros().abs_diff(identity.wall_clock_micros) >= CLOCK_SLACK_MICROS {
            world.began.set(identity.wall_clock_micros.saturating_sub(world.machine.micros()));
        }
        if !again {
            self.boot_id = world.random.borrow_mut().uuid();
        }
        self.identity = Some(identity);
        Ok(())
    }

    fn ready(&self) -> Ready {
        Ready {
            uptime_micros: self.world.machine.micros(),
            kernel: concat!("sublet-wasm ", env!("CARGO_PKG_VERSION")).into(),
            vcpus: self.world.machine.vcpus().into(),
            memory_kib: self.world.machine.memory_bytes() / 1024,
        }
    }

    fn stats(&self) -> Stats {
        let machine = self.world.machine;
        let running = self.jobs.iter().filter(|job| job.ended.is_none()).count() as u32;
        Stats {
            uptime_micros: machine.micros(),
            memory_total_kib: machine.memory_bytes() / 1024,
            memory_available_kib: machine.free_bytes().saturating_sub(crate::KEPT_BYTES) as u64 / 1024,
            load_permille: running * 1000,
            processes: running,
            jobs: self.jobs.len() as u32,
        }
    }

    fn start(&mut self, exec: Exec, recorded: bool, stream: u32, outbox: &mut Outbox) -> Result<(), Refused> {
        let Some(identity) = &self.identity else {
            return Err(refused(Refusal::NoIdentity, "nothing runs before the identity is set"));
        };
        if self.jobs.len() >= MOST_JOBS {
            return Err(refused(Refusal::TooMany, format!("{MOST_JOBS} jobs run already")));
        }
        if stream == 0 || self.jobs.iter().any(|job| job.stream == Some(stream)) {
            return Err(refused(Refusal::Protocol, format!("stream {stream} is in use")));
        }
        let streams = Rc::new(RefCell::new(Streams::default()));
        let id = exec.job.clone();
        let program = program::start(exec, identity, self.jobs.len(), Rc::clone(&streams), &self.world)?;
        outbox.send(stream, kind::STARTED, 0, &1u32.to_le_bytes());
        self.jobs.push(Job::new(id, stream, recorded, streams, program));
        Ok(())
    }

    /// Gives every job a slice.
    pub fn turn(&mut self, outbox: &mut Outbox) -> guest::After {
        let (mut goes_on, mut wake) = (false, None);
        for job in &mut self.jobs {
            goes_on |= job.run(&self.world, &mut wake, outbox);
            job.pump(outbox);
        }
        self.sweep();
        if goes_on { guest::After::Go } else { guest::After::Wait(wake) }
    }

    fn recorded(&mut self, id: &str) -> Result<&mut Job, Refused> {
        let words = || refused(Refusal::NotFound, format!("no detached job {id}"));
        self.jobs.iter_mut().find(|job| job.id == id && job.record.is_some()).ok_or_else(words)
    }

    /// The host has all that it wants of an ended job.
    fn forget(&mut self, id: &str) -> Result<(), Refused> {
        let job = self.recorded(id)?;
        if job.ended.is_none() {
            return Err(refused(Refusal::Failed, format!("job {id} still runs")));
        }
        job.hang_up();
        Ok(())
    }

    fn input(&mut self, frame: &Frame<'_>, outbox: &mut Outbox) -> Result<(), Refused> {
        let mut taken = Ok(());
        self.with(frame.stream, |job| {
            taken = job.take_input(frame.payload, outbox);
            if taken.is_err() {
                job.hang_up();
            }
        });
        taken
    }

    /// Does it to the job on a stream. One that has just ended may still be spoken to: that is no fault.
    fn with(&mut self, stream: u32, what: impl FnOnce(&mut Job)) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.stream == Some(stream)) {
            what(job);
        }
    }

    fn tail(&self, id: &str) -> Result<Tail, Refused> {
        let running = self.jobs.iter().find(|job| job.id == id).map(|job| &job.tail);
        let known = running.or_else(|| self.ended.iter().find(|(state, _)| state.job == id).map(|(_, tail)| tail));
        known.cloned().ok_or_else(|| refused(Refusal::NotFound, format!("no job {id}")))
    }

    fn states(&self) -> Vec<JobState> {
        // Who listens is to have all of a job's output before anybody calls it ended.
        let ended = |job: &Job| job.ended.filter(|_| job.stream.is_none() || job.is_said());
        let running = self.jobs.iter().map(|job| JobState { job: job.id.to_string(), ended: ended(job) });
        running.chain(self.ended.iter().map(|(state, _)| state.clone())).collect()
    }

    /// Nobody listens any more; jobs go on.
    pub fn detach_all(&mut self) {
        self.jobs.iter_mut().for_each(|job| job.detach(job.ended.is_none()));
    }

    /// Moves jobs that are over to the list of those that were.
    fn sweep(&mut self) {
        let mut at = 0;
        while at < self.jobs.len() {
            if self.jobs[at].over() {
                let job = self.jobs.swap_remove(at);
                self.bury(job);
            } else {
                at += 1;
            }
        }
    }

    fn bury(&mut self, job: Job) {
        self.ended.push_back((JobState { job: job.id, ended: job.ended }, job.tail));
        if self.ended.len() > MAX_ENDED_JOBS {
            self.ended.pop_front();
        }
        if let Some((_, tail)) = self.ended.iter_mut().rev().nth(KEPT_TAILS) {
            *tail = Tail { dropped_bytes: tail.dropped_bytes + tail.bytes.len() as u64, bytes: Vec::new() };
        }
    }
}
