//! What a client sent and its job has not taken yet.
//!
//! russh grants a client more window as soon as data came in, whether or not anybody took it, and
//! its one loop serves both directions: to stop it until the job reads would stop the job's output
//! as well, and a job that waits for its output to go (`cat`, `rsync`) would never read again. So
//! a channel whose job does not keep up is granted a trickle instead: two bytes at a time. That
//! keeps the window messages coming, and lets the next of those bytes open the window again.
//! A client that ignores windows meets [`MOST_BYTES`], where the loop does stop.

use bytes::{Bytes, BytesMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The window of a channel whose job keeps up.
pub const WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// The window of one whose job does not; half of it is the least a client has left.
pub const TRICKLE_BYTES: u32 = 2;
/// How long each packet of the trickle is held.
pub const TRICKLE_EVERY: Duration = Duration::from_millis(20);
/// From here on a job does not keep up.
const ENOUGH_BYTES: usize = 512 * 1024;
/// Most that all channels of one connection hold.
pub const MOST_BYTES: usize = 8 * 1024 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;

/// What all channels of a connection hold together.
#[derive(Debug, Default)]
pub struct Held {
    bytes: AtomicUsize,
    less: Notify,
}

impl Held {
    /// Waits until there is room.
    pub async fn room(&self) {
        while self.bytes.load(Ordering::Acquire) > MOST_BYTES {
            self.less.notified().await;
        }
    }
}

/// Input of one channel.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    changed: Notify,
    held: Arc<Held>,
}

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    ended: bool,
    /// The job is gone; nothing is kept any more.
    closed: bool,
}

impl Inbox {
    pub fn new(held: Arc<Held>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), held }
    }

    /// Takes in what the client sent.
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.closed || state.ended {
            return;
        }
        state.bytes.extend_from_slice(bytes);
        self.held.bytes.fetch_add(bytes.len(), Ordering::AcqRel);
        drop(state);
        self.changed.notify_one();
    }

    /// The client sends no more.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    /// Nobody takes any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let bytes = std::mem::take(&mut state.bytes);
        drop(state);
        self.took(bytes.len());
    }

    /// Whether the job does not keep up.
    pub fn enough(&self) -> bool {
        self.lock().bytes.len() >= ENOUGH_BYTES
    }

    /// The next bytes; `None` after the last.
    pub async fn take(&self) -> Option<Bytes> {
        loop {
            let changed = self.changed.notified();
            if let Some(taken) = self.try_take() {
                return taken;
            }
            changed.await;
        }
    }

    fn try_take(&self) -> Option<Option<Bytes>> {
        let mut state = self.lock();
        if state.bytes.is_empty() {
            return (state.ended || state.closed).then_some(None);
        }
        let count = state.bytes.len().min(CHUNK_BYTES);
        let bytes = state.bytes.split_to(count).freeze();
        drop(state);
        self.took(count);
        Some(Some(bytes))
    }

    fn took(&self, count: usize) {
        self.held.bytes.fetch_sub(count, Ordering::AcqRel);
        self.held.less.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.close();
    }
}
