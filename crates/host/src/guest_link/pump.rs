//! The two tasks of a link: one reads frames and hands them out, one writes them.

use super::LinkError;
use super::exec::Job;
use std::collections::HashMap;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use sublet_guest::frames::{self, Decoder, Frame, MAX_PAYLOAD_BYTES};
use sublet_guest::messages::kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

/// Frames waiting to be written; with the frames' own limit this bounds the memory.
const QUEUED_FRAMES: usize = 16;
/// Said when nothing else is, so that a guest program that was started anew is noticed.
const PING_EVERY: Duration = Duration::from_secs(15);

/// A frame to be written.
struct Outgoing {
    stream: u32,
    kind: u16,
    channel: u16,
    payload: Vec<u8>,
}

/// Who waits for what a stream says.
#[derive(Debug)]
pub enum Entry {
    /// A question: its one answer.
    Call(oneshot::Sender<(u16, Vec<u8>)>),
    /// A job.
    Job(Arc<Job>),
}

/// What handles and tasks of a link share.
#[derive(Debug)]
pub struct Shared {
    entries: Mutex<HashMap<u32, Entry>>,
    next_stream: AtomicU32,
    outgoing: mpsc::Sender<Outgoing>,
    end: watch::Sender<Option<LinkError>>,
}

/// Starts both tasks on a socket whose guest has said Welcome.
pub fn start(socket: UnixStream, session: u64, decoder: Decoder) -> Arc<Shared> {
    let (outgoing, to_write) = mpsc::channel(QUEUED_FRAMES);
    let shared = Arc::new(Shared {
        entries: Mutex::default(),
        next_stream: AtomicU32::new(1),
        outgoing,
        end: watch::Sender::new(None),
    });
    let (read, write) = socket.into_split();
    tokio::spawn(run(Arc::clone(&shared), read_frames(Arc::clone(&shared), read, decoder)));
    tokio::spawn(run(Arc::clone(&shared), write_frames(write, session, to_write)));
    shared
}

/// Runs one of the tasks until it fails or the link is closed; either ends both.
async fn run(shared: Arc<Shared>, task: impl Future<Output = LinkError>) {
    let error = tokio::select! {
        error = task => error,
        error = shared.closed() => error,
    };
    shared.fail(error);
}

async fn read_frames(shared: Arc<Shared>, mut socket: OwnedReadHalf, mut decoder: Decoder) -> LinkError {
    loop {
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    if let Err(error) = shared.hand_out(&frame) {
                        return error;
                    }
                }
                Ok(None) => break,
                Err(broken) => return broken.into(),
            }
        }
        match socket.read(decoder.room()).await {
            Ok(0) | Err(_) => return LinkError::Gone,
            Ok(count) => decoder.filled(count),
        }
    }
}

async fn write_frames(mut socket: OwnedWriteHalf, session: u64, mut frames: mpsc::Receiver<Outgoing>) -> LinkError {
    loop {
        let frame = match tokio::time::timeout(PING_EVERY, frames.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return LinkError::Gone,
            Err(_) => Outgoing { stream: 0, kind: kind::PING, channel: 0, payload: Vec::new() },
        };
        if write_frame(&mut socket, session, &frame).await.is_err() {
            return LinkError::Gone;
        }
    }
}

async fn write_frame(socket: &mut OwnedWriteHalf, session: u64, frame: &Outgoing) -> std::io::Result<()> {
    let header = frames::header(session, frame.stream, frame.kind, frame.channel, frame.payload.len() as u32);
    let trailer = frames::trailer(session);
    let parts = [IoSlice::new(&header), IoSlice::new(&frame.payload), IoSlice::new(&trailer)];
    let written = socket.write_vectored(&parts).await?;
    let mut before = 0;
    for part in &parts {
        let sent = written.saturating_sub(before).min(part.len());
        socket.write_all(&part[sent..]).await?;
        before += part.len();
    }
    Ok(())
}

impl Shared {
    /// Opens a stream.
    pub fn enter(&self, entry: Entry) -> Result<u32, LinkError> {
        let stream = self.next_stream.fetch_add(1, Ordering::Relaxed).max(1);
        self.entries().insert(stream, entry);
        // Checked afterwards, so that an end that came meanwhile cannot miss the entry.
        match self.end.borrow().clone() {
            None => Ok(stream),
            Some(error) => {
                self.leave(stream);
                Err(error)
            }
        }
    }

    /// Forgets a stream; what the guest still says on it is dropped.
    pub fn leave(&self, stream: u32) {
        self.entries().remove(&stream);
    }

    /// Queues a frame; waits while too many are queued.
    pub async fn send(&self, stream: u32, kind: u16, channel: u16, payload: Vec<u8>) -> Result<(), LinkError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(LinkError::TooLong(payload.len()));
        }
        let frame = Outgoing { stream, kind, channel, payload };
        tokio::select! {
            sent = self.outgoing.send(frame) => sent.map_err(|_| self.error()),
            error = self.closed() => Err(error),
        }
    }

    /// Ends the link. The first reason counts; everybody who waits is told.
    pub fn fail(&self, error: LinkError) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(error);
            first
        });
        let error = self.error();
        for (_, entry) in std::mem::take(&mut *self.entries()) {
            // A call's sender is dropped, which tells its waiter.
            if let Entry::Job(job) = entry {
                job.fail(&error);
            }
        }
    }

    /// Why the link ended; only asked once it has.
    pub fn error(&self) -> LinkError {
        self.end.borrow().clone().unwrap_or(LinkError::Gone)
    }

    /// Waits for the end.
    pub async fn closed(&self) -> LinkError {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or(LinkError::Gone),
            Err(_) => LinkError::Gone,
        }
    }

    fn hand_out(&self, frame: &Frame<'_>) -> Result<(), LinkError> {
        let mut entries = self.entries();
        if let Some(Entry::Job(job)) = entries.get(&frame.stream) {
            return job.hear(frame);
        }
        // No entry: a stream that was left, or an answer to our pings.
        if let Some(Entry::Call(tell)) = entries.remove(&frame.stream) {
            // Nobody waits any more: then nobody needs it.
            let _ = tell.send((frame.kind, frame.payload.to_vec()));
        }
        Ok(())
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
