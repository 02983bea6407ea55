//! What is on its way to the host, never without bound.

use alloc::vec::Vec;
use sublet_guest::frames;
use sublet_guest::messages::{Refused, kind};

/// Above this nothing more is taken from jobs.
const FULL_BYTES: usize = 256 * 1024;
/// Above this nothing more is read from the host either: it asks and does not listen.
const CHOKED_BYTES: usize = 1024 * 1024;

/// Bytes on their way to the host.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    session: Option<u64>,
}

impl Outbox {
    /// Begins a session: what was meant for an older one is gone.
    pub fn enter(&mut self, session: u64) {
        self.leave();
        self.session = Some(session);
    }

    /// Nobody listens any more.
    pub fn leave(&mut self) {
        *self = Self::default();
    }

    /// Whether a host listens.
    pub fn in_session(&self) -> bool {
        self.session.is_some()
    }

    /// Queues a frame; without a session there is nobody to tell.
    pub fn send(&mut self, stream: u32, kind: u16, channel: u16, payload: &[u8]) {
        if let Some(session) = self.session {
            frames::write(&mut self.bytes, session, stream, kind, channel, payload);
        }
    }

    /// Queues a refusal.
    pub fn refuse(&mut self, stream: u32, refusal: &Refused) {
        self.send(stream, kind::REFUSED, 0, &refusal.encode());
    }

    /// Tells a host that speaks to an earlier life of this kernel to begin anew.
    pub fn send_lost(&mut self) {
        self.bytes.resize(self.bytes.len() + frames::FILLER_BYTES, 0);
        frames::write(&mut self.bytes, 0, 0, kind::LOST, 0, &[]);
    }

    /// What is to be written now.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So much of it was.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent > FULL_BYTES {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Whether jobs have to wait.
    pub fn full(&self) -> bool {
        self.waiting().len() >= FULL_BYTES
    }

    /// Whether the host has to.
    pub fn choked(&self) -> bool {
        self.waiting().len() >= CHOKED_BYTES
    }
}
