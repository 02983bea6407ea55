//! Bytes that came from the guest and were not taken yet: one channel, at most one window.

use super::LinkError;
use bytes::{Bytes, BytesMut};
use std::sync::Mutex;
use sublet_guest::frames::WINDOW_BYTES;
use tokio::sync::Notify;

/// Take no more than this at a time, so that a chunk fits what comes after (an SSH packet's limit).
const CHUNK_BYTES: usize = 64 * 1024;

/// A bounded buffer with one writer (the link's reader) and one reader.
#[derive(Debug)]
pub struct Inflow {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    bytes: BytesMut,
    /// What the guest may still send.
    granted: u32,
    /// Taken by the reader and not granted again yet.
    taken: u32,
    end: Option<Result<(), LinkError>>,
}

/// What a reader got.
pub struct Taken {
    /// The bytes.
    pub bytes: Bytes,
    /// To be granted to the guest, if it is worth a frame.
    pub grant: u32,
}

impl Inflow {
    pub fn new() -> Self {
        let state = State { bytes: BytesMut::new(), granted: WINDOW_BYTES, taken: 0, end: None };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Takes bytes in; more than was granted breaks the protocol.
    pub fn push(&self, bytes: &[u8]) -> Result<(), LinkError> {
        let mut state = self.lock();
        if bytes.len() > state.granted as usize {
            return Err(LinkError::Nonsense("more output than was granted"));
        }
        if state.end.is_some() {
            return Err(LinkError::Nonsense("output after its end"));
        }
        state.granted -= bytes.len() as u32;
        state.bytes.extend_from_slice(bytes);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// No more will come. The first end counts.
    pub fn end(&self, end: Result<(), LinkError>) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_one();
    }

    /// Whether the end was said.
    pub fn ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// The next bytes, `None` after the last.
    pub async fn take(&self) -> Result<Option<Taken>, LinkError> {
        loop {
            let changed = self.changed.notified();
            if let Some(answer) = self.try_take() {
                return answer;
            }
            changed.await;
        }
    }

    fn try_take(&self) -> Option<Result<Option<Taken>, LinkError>> {
        let mut state = self.lock();
        if state.bytes.is_empty() {
            return state.end.clone().map(|end| end.map(|()| None));
        }
        let count = state.bytes.len().min(CHUNK_BYTES);
        let bytes = state.bytes.split_to(count).freeze();
        state.taken += count as u32;
        let grant = if state.taken >= WINDOW_BYTES / 4 { std::mem::take(&mut state.taken) } else { 0 };
        state.granted += grant;
        Some(Ok(Some(Taken { bytes, grant })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
