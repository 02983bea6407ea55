//! The guest's end of the byte stream: what is to be written, never without bound.

use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use sublet_guest::frames;
use sublet_guest::messages::kind;

/// Above this nothing more is read from jobs.
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
        self.bytes = Vec::new();
        self.sent = 0;
        self.session = None;
    }

    pub fn in_session(&self) -> bool {
        self.session.is_some()
    }

    /// Queues a frame; without a session there is nobody to tell.
    pub fn send(&mut self, stream: u32, kind: u16, channel: u16, payload: &[u8]) {
        if let Some(session) = self.session {
            frames::write(&mut self.bytes, session, stream, kind, channel, payload);
        }
    }

    /// Queues what a job's output holds now, at most `most` bytes; the bytes go straight into place.
    pub fn send_from(&mut self, fd: &OwnedFd, stream: u32, channel: u16, most: usize) -> rustix::io::Result<usize> {
        let Some(session) = self.session else { return Err(Errno::AGAIN) };
        let start = self.bytes.len();
        self.bytes.reserve(frames::MAX_FRAME_BYTES);
        self.bytes.extend_from_slice(&[0; frames::HEADER_BYTES]);
        let count = match crate::sys::read_onto(fd, &mut self.bytes, most.min(frames::MAX_PAYLOAD_BYTES)) {
            Ok(count) if count > 0 => count,
            other => {
                self.bytes.truncate(start);
                return other;
            }
        };
        let header = frames::header(session, stream, kind::DATA, channel, count as u32);
        self.bytes[start..start + frames::HEADER_BYTES].copy_from_slice(&header);
        self.bytes.extend_from_slice(&frames::trailer(session));
        Ok(count)
    }

    /// Tells a host that speaks to an earlier life of this program to begin anew.
    pub fn send_lost(&mut self) {
        self.bytes.resize(self.bytes.len() + frames::FILLER_BYTES, 0);
        frames::write(&mut self.bytes, 0, 0, kind::LOST, 0, &[]);
    }

    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub fn full(&self) -> bool {
        self.waiting() >= FULL_BYTES
    }

    pub fn choked(&self) -> bool {
        self.waiting() >= CHOKED_BYTES
    }

    /// Writes what the other side takes now.
    pub fn flush(&mut self, fd: &OwnedFd) -> io::Result<()> {
        while self.waiting() > 0 {
            match rustix::io::write(fd, &self.bytes[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.waiting() == 0 {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent > FULL_BYTES {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}
