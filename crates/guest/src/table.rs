//! Everything the guest program knows: its identity, the jobs that run, those that ended.
//!
//! It outlives connections, so that a host that comes back finds its jobs.

use crate::begun::Begun;
use crate::cgroup::Fence;
use crate::job::Job;
use crate::link::Outbox;
use crate::serve::Manner;
use crate::spawn::{self, refused};
use crate::{identity, scratch, stats, sys, template};
use std::collections::VecDeque;
use sublet_guest::frames::Frame;
use sublet_guest::messages::{
    self, Attach, Exec, Identity, JobState, MAX_ENDED_JOBS, MAX_RECORDED_JOBS, MAX_RUNNING_JOBS, PROTOCOL_VERSION,
    Refusal, Refused, Tail, Welcome, kind,
};
use sublet_guest::record::Record;

/// Ended jobs whose last output is still kept.
const KEPT_TAILS: usize = 8;

/// What the loop has to do after a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum After {
    Nothing,
    /// Frames of this session are let through from now on.
    Enter(u64),
    PowerOff,
}

/// Identity and jobs.
pub struct Table {
    pub manner: Manner,
    pub jobs: Vec<Job>,
    ended: VecDeque<(JobState, Tail)>,
    identity: Option<Identity>,
    /// Copies of this machine are started.
    template: bool,
    fence: Option<Fence>,
    begun: Begun,
}

impl Table {
    pub fn new(manner: Manner, begun: Begun) -> Self {
        let fence = if manner == Manner::Rehearse { None } else { Fence::set_up() };
        Self { manner, jobs: Vec::new(), ended: VecDeque::new(), identity: None, template: false, fence, begun }
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
            Err(refusal) => outbox.send(frame.stream, kind::REFUSED, 0, &refusal.encode()),
        }
        After::Nothing
    }

    /// A host begins: whatever an earlier one listened to goes on without it.
    fn hello(&mut self, frame: &Frame<'_>, outbox: &mut Outbox) -> After {
        self.detach_all();
        outbox.enter(frame.session);
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            // The kernel makes it when it is first asked for: not before copies were made.
            boot_id: self.identity.as_ref().map_or_else(String::new, |_| stats::boot_id()),
            identity: self.identity.as_ref().map(|identity| (identity.lease.clone(), identity.generation)),
            jobs: self.states(),
        };
        outbox.send(0, kind::WELCOME, 0, &welcome.encode());
        After::Enter(frame.session)
    }

    fn answer(&mut self, frame: &Frame<'_>, outbox: &mut Outbox) -> Result<Option<(u16, Vec<u8>)>, Refused> {
        let malformed = |_| refused(Refusal::Protocol, "a message that does not decode".into());
        match frame.kind {
            kind::DATA => self.input(frame, outbox).map(|()| None),
            kind::EOF => self.job(frame.stream).map(Job::end_input).map(|()| None).or(Ok(None)),
            kind::CREDIT => {
                let bytes = frame.payload.try_into().map(u32::from_le_bytes).unwrap_or(0);
                self.job(frame.stream).map(|job| job.credit(frame.channel, bytes)).map(|()| None).or(Ok(None))
            }
            kind::PING => Ok(Some((kind::PONG, frame.payload.to_vec()))),
            kind::IDENTITY => {
                let identity = Identity::decode(frame.payload).map_err(malformed)?;
                self.identify(identity).map(|()| Some((kind::READY, stats::ready().encode())))
            }
            kind::TEMPLATE => self.become_template().map(|()| Some((kind::DONE, Vec::new()))),
            kind::EXEC => {
                let exec = Exec::decode(frame.payload).map_err(malformed)?;
                self.start(&exec, false, frame.stream).map(|()| None)
            }
            kind::RECORD => {
                let exec = Exec::decode(frame.payload).map_err(malformed)?;
                self.start_recorded(exec, frame.stream).map(|()| None)
            }
            kind::ATTACH => {
                let attach = Attach::decode(frame.payload).map_err(malformed)?;
                self.recorded(&attach.job)?.attach(frame.stream, attach.from, outbox);
                Ok(None)
            }
            kind::FORGET => {
                let job = std::str::from_utf8(frame.payload).unwrap_or_default();
                self.forget(job).map(|()| Some((kind::DONE, Vec::new())))
            }
            kind::SIGNAL => {
                let signal = frame.payload.first().copied().unwrap_or(0);
                self.signal(frame.stream, i32::from(signal)).map(|()| None)
            }
            kind::WINDOW => {
                let [r0, r1, c0, c1] = frame.payload.try_into().unwrap_or([0; 4]);
                let (rows, cols) = (u16::from_le_bytes([r0, r1]), u16::from_le_bytes([c0, c1]));
                self.job(frame.stream).map(|job| job.resize(rows, cols)).map(|()| None).or(Ok(None))
            }
            kind::CLOSE => {
                let keep = frame.payload.first() == Some(&1);
                self.close(frame.stream, keep);
                Ok(None)
            }
            kind::JOBS => Ok(Some((kind::JOBS_ARE, messages::encode_jobs(&self.states())))),
            kind::TAIL => {
                let job = std::str::from_utf8(frame.payload).unwrap_or_default();
                self.tail(job).map(|tail| Some((kind::TAIL_IS, tail.encode())))
            }
            kind::STATS => Ok(Some((kind::STATS_ARE, stats::stats(self.jobs.len()).encode()))),
            other => Err(refused(Refusal::Protocol, format!("no message of kind {other}"))),
        }
    }

    fn identify(&mut self, identity: Identity) -> Result<(), Refused> {
        let again = match &self.identity {
            Some(mine) if (&mine.lease, mine.generation) != (&identity.lease, identity.generation) => {
                let words = format!("this is {} of generation {}", mine.lease, mine.generation);
                return Err(refused(Refusal::OtherIdentity, words));
            }
            known => known.is_some(),
        };
        if self.manner != Manner::Rehearse {
            let failed = |words| refused(Refusal::Failed, words);
            identity::apply(&identity, again).map_err(failed)?;
            if identity.disk_gib > 0 {
                scratch::mount_it().map_err(failed)?;
            }
            if self.template || template::is_marked() {
                template::renew(self.manner).map_err(failed)?;
                template::mark(false);
            } else if self.manner == Manner::Init && !again {
                // No other init does it; a root that can't be written has none.
                let _ = template::write_machine_id();
            }
        }
        self.template = false;
        if let Some(fence) = &mut self.fence {
            fence.fit_memory();
        }
        self.identity = Some(identity);
        Ok(())
    }

    /// What served a lease, or runs anything, is never copied.
    fn become_template(&mut self) -> Result<(), Refused> {
        if self.identity.is_some() || !self.jobs.is_empty() {
            return Err(refused(Refusal::OtherIdentity, "it serves a lease: no copies are made of it".into()));
        }
        if !template::is_settled(self.manner) {
            return Err(refused(Refusal::Failed, "it still boots".into()));
        }
        if self.manner != Manner::Rehearse {
            template::mark(true);
            rustix::fs::sync();
        }
        self.template = true;
        Ok(())
    }

    fn start(&mut self, exec: &Exec, recorded: bool, stream: u32) -> Result<(), Refused> {
        let Some(identity) = &self.identity else {
            return Err(refused(Refusal::NoIdentity, "nothing runs before the identity is set".into()));
        };
        if self.jobs.len() >= MAX_RUNNING_JOBS {
            return Err(refused(Refusal::TooMany, format!("{MAX_RUNNING_JOBS} jobs run already")));
        }
        if stream == 0 || self.jobs.iter().any(|job| job.stream == Some(stream)) {
            return Err(refused(Refusal::Protocol, format!("stream {stream} is in use")));
        }
        let place = self.fence.as_mut().and_then(Fence::take);
        let (path, fd) = place.map_or((None, None), |(path, fd)| (Some(path), Some(fd)));
        let rehearse = self.manner == Manner::Rehearse;
        let started = spawn::spawn(exec, recorded, rehearse, Some(&identity.lease), fd.as_ref());
        match (started, path) {
            (Ok(started), path) => self.jobs.push(Job::new(exec, stream, started, path)),
            (Err(refusal), path) => {
                if let (Some(fence), Some(path)) = (&mut self.fence, path) {
                    fence.give_back(path);
                }
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Starts a detached job: its output is held until the host has it.
    fn start_recorded(&mut self, exec: Exec, stream: u32) -> Result<(), Refused> {
        if self.jobs.iter().filter(|job| job.record.is_some()).count() >= MAX_RECORDED_JOBS {
            return Err(refused(Refusal::TooMany, format!("{MAX_RECORDED_JOBS} detached jobs are here already")));
        }
        if self.jobs.iter().any(|job| job.id == exec.job && !job.never_ran) {
            return Err(refused(Refusal::Protocol, format!("job {} is here already", exec.job)));
        }
        self.begin_once(&Exec { pty: None, keep: true, ..exec }, stream)?;
        if let Some(job) = self.jobs.last_mut() {
            job.record = Some(Record::default());
            job.end_input();
        }
        Ok(())
    }

    /// Starts a job unless an earlier life of this program did.
    fn begin_once(&mut self, exec: &Exec, stream: u32) -> Result<(), Refused> {
        let cannot = |error| refused(Refusal::Failed, format!("cannot note that it begins: {error}"));
        if !self.begun.note(&exec.job).map_err(cannot)? {
            let words =
                "it was begun before the program in the partition was started anew: what became of it is not known";
            return Err(refused(Refusal::Begun, words.into()));
        }
        self.start(exec, true, stream).inspect_err(|_| self.begun.forget(&exec.job))
    }

    /// Learns whether a job's program could be started: one that could not has not begun.
    pub fn learn_start(&mut self, at: usize, outbox: &mut Outbox) {
        let job = &mut self.jobs[at];
        job.learn_start(outbox);
        if job.never_ran && job.record.is_some() {
            self.begun.forget(&job.id);
        }
    }

    fn recorded(&mut self, id: &str) -> Result<&mut Job, Refused> {
        let words = || refused(Refusal::NotFound, format!("no detached job {id}"));
        self.jobs.iter_mut().find(|job| job.id == id && job.record.is_some() && !job.never_ran).ok_or_else(words)
    }

    /// The host has all that it wants of an ended job.
    fn forget(&mut self, id: &str) -> Result<(), Refused> {
        let job = self.recorded(id)?;
        if job.ended.is_none() {
            return Err(refused(Refusal::Failed, format!("job {id} still runs")));
        }
        job.hang_up();
        job.record = None;
        self.begun.forget(id);
        Ok(())
    }

    fn input(&mut self, frame: &Frame<'_>, outbox: &mut Outbox) -> Result<(), Refused> {
        // A job that has just ended may still be spoken to: that is no fault.
        let Ok(job) = self.job(frame.stream) else { return Ok(()) };
        let taken = job.take_input(frame.payload, outbox);
        if taken.is_err() {
            job.hang_up();
        }
        taken
    }

    fn signal(&mut self, stream: u32, signal: i32) -> Result<(), Refused> {
        if !(1..=31).contains(&signal) {
            return Err(refused(Refusal::Protocol, format!("no signal {signal}")));
        }
        if let Ok(job) = self.job(stream) {
            // Nobody left to signal is what was wanted.
            let _ = job.signal(signal);
            job.kill_place(signal);
        }
        Ok(())
    }

    fn close(&mut self, stream: u32, keep: bool) {
        if let Ok(job) = self.job(stream) {
            if keep { job.detach(true) } else { job.hang_up() }
        }
    }

    fn tail(&mut self, id: &str) -> Result<Tail, Refused> {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) {
            job.cut_tail();
            return Ok(job.tail.clone());
        }
        let ended = self.ended.iter().find(|(state, _)| state.job == id);
        ended.map(|(_, tail)| tail.clone()).ok_or_else(|| refused(Refusal::NotFound, format!("no job {id}")))
    }

    fn job(&mut self, stream: u32) -> Result<&mut Job, Refused> {
        let words = || refused(Refusal::NotFound, format!("no job on stream {stream}"));
        self.jobs.iter_mut().find(|job| job.stream == Some(stream)).ok_or_else(words)
    }

    fn states(&self) -> Vec<JobState> {
        let running = self.jobs.iter().filter(|job| !job.never_ran);
        // Who listens is to have all of a job's output before anybody calls it ended.
        let ended = |job: &Job| job.ended.filter(|_| job.stream.is_none() || job.outputs.iter().all(Option::is_none));
        let running = running.map(|job| JobState { job: job.id.clone(), ended: ended(job) });
        running.chain(self.ended.iter().map(|(state, _)| state.clone())).collect()
    }

    /// Nobody listens any more.
    pub fn detach_all(&mut self) {
        self.jobs.iter_mut().for_each(|job| job.detach(false));
    }

    /// Takes note of every child that ended.
    pub fn reap(&mut self, outbox: &mut Outbox) {
        while let Some((pid, status)) = sys::reap() {
            if let Some(job) = self.jobs.iter_mut().find(|job| job.pid == pid && job.ended.is_none()) {
                job.end(status, outbox);
            }
        }
    }

    /// Moves jobs that are over to the list of those that were.
    pub fn sweep(&mut self) {
        let mut at = 0;
        while at < self.jobs.len() {
            if let (Some(fence), true) = (&mut self.fence, self.jobs[at].is_silent())
                && let Some(place) = self.jobs[at].place.take()
            {
                fence.give_back(place);
            }
            if self.jobs[at].over() {
                let job = self.jobs.swap_remove(at);
                self.bury(job);
            } else {
                at += 1;
            }
        }
    }

    fn bury(&mut self, mut job: Job) {
        if job.never_ran {
            return;
        }
        job.cut_tail();
        self.ended.push_back((JobState { job: job.id, ended: job.ended }, job.tail));
        if self.ended.len() > MAX_ENDED_JOBS {
            self.ended.pop_front();
        }
        if let Some((_, tail)) = self.ended.iter_mut().rev().nth(KEPT_TAILS) {
            *tail = Tail { dropped_bytes: tail.dropped_bytes + tail.bytes.len() as u64, bytes: Vec::new() };
        }
    }

    /// Work that can wait until nothing else is to do.
    pub fn idle(&mut self) {
        if let Some(fence) = &mut self.fence {
            fence.prepare();
        }
    }

    /// Whether [`Self::idle`] should be tried again soon.
    pub fn has_chores(&self) -> bool {
        self.fence.as_ref().is_some_and(Fence::has_emptying)
    }
}
