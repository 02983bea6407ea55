//! A job in the guest, as the host holds it.

use super::inflow::Inflow;
use super::pump::Entry;
use super::{ExecRequest, Held, LinkError, refusal};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use sublet_guest::frames::{Frame, MAX_PAYLOAD_BYTES, WINDOW_BYTES};
use sublet_guest::messages::{Attach, Status, kind};
use tokio::sync::{Semaphore, watch};

/// A running job: what goes in, what comes out, and how it is steered.
///
/// When all parts are dropped without [`JobControl::close`], the guest is told that nobody listens:
/// a job with `keep` goes on by itself, any other finds its pipes or terminal closed.
#[derive(Debug)]
pub struct Exec {
    /// Its standard input.
    pub stdin: Stdin,
    /// Its standard output, or its terminal's.
    pub stdout: Output,
    /// Its standard error; ends at once on a terminal.
    pub stderr: Output,
    /// Signals, size, end.
    pub control: JobControl,
}

/// What the link's reader keeps of a job.
#[derive(Debug)]
pub struct Job {
    outputs: [Inflow; 2],
    /// One permit for each byte the guest is ready to take.
    credit: Semaphore,
    /// From which byte of its output on it is heard.
    started: watch::Sender<Option<Result<u64, LinkError>>>,
    status: watch::Sender<Option<Result<Status, LinkError>>>,
}

impl Job {
    fn new() -> Self {
        Self {
            outputs: [Inflow::new(), Inflow::new()],
            credit: Semaphore::new(WINDOW_BYTES as usize),
            started: watch::Sender::new(None),
            status: watch::Sender::new(None),
        }
    }

    /// Takes in what the guest says about it.
    pub fn hear(&self, frame: &Frame<'_>) -> Result<(), LinkError> {
        let output = self.outputs.get(usize::from(frame.channel));
        match (frame.kind, output) {
            (kind::DATA, Some(output)) => output.push(frame.payload)?,
            (kind::EOF, Some(output)) => output.end(Ok(())),
            (kind::CREDIT, _) => self.add_credit(frame.payload)?,
            (kind::STARTED, _) => set_once(&self.started, Ok(0)),
            (kind::ATTACHED, _) => {
                let start = frame.payload.try_into().map(u64::from_le_bytes);
                let start = start.map_err(|_| LinkError::Nonsense("an attached job without a place"))?;
                set_once(&self.started, Ok(start));
            }
            (kind::EXITED, _) => {
                let status =
                    Status::decode(frame.payload).map_err(|_| LinkError::Nonsense("a status that does not decode"))?;
                set_once(&self.status, Ok(status));
            }
            (kind::REFUSED, _) => {
                let error = refusal(frame.payload).ok_or(LinkError::Nonsense("a refusal that does not decode"))?;
                self.fail(&error);
            }
            _ => return Err(LinkError::Nonsense("a job's stream that says what jobs do not")),
        }
        Ok(())
    }

    fn add_credit(&self, payload: &[u8]) -> Result<(), LinkError> {
        let bytes =
            payload.try_into().map(u32::from_le_bytes).map_err(|_| LinkError::Nonsense("credit without an amount"))?;
        if self.credit.available_permits() + bytes as usize > WINDOW_BYTES as usize {
            return Err(LinkError::Nonsense("more credit than there is room"));
        }
        self.credit.add_permits(bytes as usize);
        Ok(())
    }

    /// Nothing more will be heard of it.
    pub fn fail(&self, error: &LinkError) {
        set_once(&self.started, Err(error.clone()));
        set_once(&self.status, Err(error.clone()));
        self.outputs.iter().for_each(|output| output.end(Err(error.clone())));
        self.credit.close();
    }
}

fn set_once<T>(cell: &watch::Sender<Option<T>>, value: T) {
    cell.send_if_modified(|held| {
        let first = held.is_none();
        held.get_or_insert(value);
        first
    });
}

async fn when_set<T: Clone>(cell: &watch::Sender<Option<Result<T, LinkError>>>) -> Result<T, LinkError> {
    match cell.subscribe().wait_for(Option::is_some).await {
        Ok(value) => value.clone().unwrap_or(Err(LinkError::Gone)),
        Err(_) => Err(LinkError::Gone),
    }
}

/// The stream itself; forgets itself, here and in the guest, with its last holder.
#[derive(Debug)]
struct Stream {
    held: Arc<Held>,
    job: Arc<Job>,
    id: u32,
    keep: bool,
    /// The guest holds output until it is granted again: that is done once it is safe here.
    recorded: bool,
    closed: Mutex<bool>,
}

impl Stream {
    async fn send(&self, kind: u16, channel: u16, payload: Vec<u8>) -> Result<(), LinkError> {
        self.held.0.send(self.id, kind, channel, payload).await
    }

    async fn begin(&self, kind: u16, payload: Vec<u8>) -> Result<u64, LinkError> {
        self.send(kind, 0, payload).await.inspect_err(|error| self.job.fail(error))?;
        when_set(&self.job.started).await
    }

    fn over(&self) -> bool {
        self.job.outputs.iter().all(Inflow::ended) && self.job.status.borrow().is_some()
    }

    fn mark_closed(&self) -> bool {
        std::mem::replace(&mut *self.closed.lock().unwrap_or_else(PoisonError::into_inner), true)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.held.0.leave(self.id);
        if self.over() || self.mark_closed() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (held, id, keep) = (Arc::clone(&self.held), self.id, self.keep);
            runtime.spawn(async move { held.0.send(id, kind::CLOSE, 0, vec![keep.into()]).await });
        }
    }
}

/// Asks the guest for a job and waits until it runs.
pub async fn start(held: &Arc<Held>, request: &ExecRequest) -> Result<Exec, LinkError> {
    let stream = open(held, request.keep, false)?;
    stream.begin(kind::EXEC, request.encode()).await?;
    Ok(parts(stream))
}

/// The same for a detached job, which the guest holds until it is forgotten.
pub async fn record(held: &Arc<Held>, request: &ExecRequest) -> Result<Exec, LinkError> {
    let stream = open(held, true, true)?;
    stream.begin(kind::RECORD, request.encode()).await?;
    Ok(parts(stream))
}

/// Listens to a detached job again, of whose output `from` bytes are here. From which byte on it goes.
pub async fn attach(held: &Arc<Held>, job: &str, from: u64) -> Result<(u64, Exec), LinkError> {
    let stream = open(held, true, true)?;
    let start = stream.begin(kind::ATTACH, Attach { job: job.to_owned(), from }.encode()).await?;
    Ok((start, parts(stream)))
}

fn open(held: &Arc<Held>, keep: bool, recorded: bool) -> Result<Stream, LinkError> {
    let job = Arc::new(Job::new());
    let id = held.0.enter(Entry::Job(Arc::clone(&job)))?;
    Ok(Stream { held: Arc::clone(held), job, id, keep, recorded, closed: Mutex::new(false) })
}

fn parts(stream: Stream) -> Exec {
    let stream = Arc::new(stream);
    Exec {
        stdin: Stdin { stream: Arc::clone(&stream) },
        stdout: Output { stream: Arc::clone(&stream), channel: 0, owed: 0 },
        stderr: Output { stream: Arc::clone(&stream), channel: 1, owed: 0 },
        control: JobControl { stream },
    }
}

/// A job's standard input.
#[derive(Debug)]
pub struct Stdin {
    stream: Arc<Stream>,
}

impl Stdin {
    /// Writes all of it; waits while the job does not read.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            let credit = &self.stream.job.credit;
            let gone = |_| self.stream.job.status.borrow().clone().and_then(Result::err).unwrap_or(LinkError::Gone);
            // Wait for one byte, then take what else there is.
            credit.acquire().await.map_err(gone)?.forget();
            let more = credit.forget_permits(bytes.len().min(MAX_PAYLOAD_BYTES) - 1);
            let (now, later) = bytes.split_at(1 + more);
            self.stream.send(kind::DATA, 0, now.to_vec()).await?;
            bytes = later;
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        self.stream.send(kind::EOF, 0, Vec::new()).await
    }
}

/// One of a job's outputs.
#[derive(Debug)]
pub struct Output {
    stream: Arc<Stream>,
    channel: u16,
    /// To be granted again once the next bytes are asked for: those before are safe then.
    owed: u32,
}

impl Output {
    /// The next bytes; `None` after the last. What is not taken holds the job up, not the host.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        self.grant().await;
        let Some(taken) = self.stream.job.outputs[usize::from(self.channel)].take().await? else { return Ok(None) };
        self.owed = taken.grant;
        if !self.stream.recorded {
            self.grant().await;
        }
        Ok(Some(taken.bytes))
    }

    async fn grant(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 {
            // A link that ended meanwhile is told of by whoever asks it next; bytes that came are good.
            let _ = self.stream.send(kind::CREDIT, self.channel, owed.to_le_bytes().to_vec()).await;
        }
    }

    /// Everything up to the end, but not more than `limit` bytes.
    pub async fn collect(&mut self, limit: usize) -> Result<Vec<u8>, LinkError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes[..bytes.len().min(limit - all.len())]);
        }
        Ok(all)
    }
}

/// Steers a job.
#[derive(Debug, Clone)]
pub struct JobControl {
    stream: Arc<Stream>,
}

impl JobControl {
    /// Sends a signal, by its Linux number, to the job's process group.
    pub async fn signal(&self, number: u8) -> Result<(), LinkError> {
        self.stream.send(kind::SIGNAL, 0, vec![number]).await
    }

    /// Tells its terminal a new size.
    pub async fn resize(&self, rows: u16, cols: u16) -> Result<(), LinkError> {
        let [r, c] = [rows.to_le_bytes(), cols.to_le_bytes()];
        self.stream.send(kind::WINDOW, 0, vec![r[0], r[1], c[0], c[1]]).await
    }

    /// Stops listening: with `keep` the job goes on by itself, otherwise its terminal hangs up and
    /// its pipes close.
    pub async fn close(&self, keep: bool) -> Result<(), LinkError> {
        if self.stream.mark_closed() || self.stream.over() {
            return Ok(());
        }
        self.stream.send(kind::CLOSE, 0, vec![keep.into()]).await
    }

    /// Waits until the job's own process has ended. What it wrote may still be on its way.
    pub async fn wait(&self) -> Result<Status, LinkError> {
        when_set(&self.stream.job.status).await
    }
}
