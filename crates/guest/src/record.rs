//! What a detached job said and its host has not confirmed yet, so that an agent that was killed
//! finds every byte again.
//!
//! ```text
//!          start           sent              end
//!            | held: unconfirmed | held: unsent |
//! -----------+-------------------+--------------+----> bytes of output, counted from the job's start
//! ```
//!
//! While a host listens, the job waits once a window is unconfirmed. While none does, the job goes on
//! and what is oldest goes.

use crate::frames::{MAX_PAYLOAD_BYTES, WINDOW_BYTES};
use alloc::vec::Vec;

/// Most that is held while no host listens; twice that for a moment.
const HELD_BYTES: usize = WINDOW_BYTES as usize;

/// The unconfirmed end of a job's output.
#[derive(Debug, Default)]
pub struct Record {
    /// What is held; read straight onto its end.
    pub bytes: Vec<u8>,
    /// Where in the job's whole output the first held byte is.
    start: u64,
    /// Up to where it was sent to the host that listens now.
    sent: u64,
    /// That host was told that there is no more.
    pub end_said: bool,
}

impl Record {
    /// Another host listens, which has everything up to `from`. Where it will be given on.
    pub fn attach(&mut self, from: u64) -> u64 {
        self.confirm_to(from);
        self.sent = self.start;
        self.end_said = false;
        self.start
    }

    /// The host has so many more bytes.
    pub fn confirm(&mut self, bytes: u32) {
        self.confirm_to(self.start + u64::from(bytes));
    }

    fn confirm_to(&mut self, place: u64) {
        let count = place.saturating_sub(self.start).min(self.bytes.len() as u64);
        self.bytes.drain(..count as usize);
        self.start += count;
        self.sent = self.sent.max(self.start);
    }

    /// Whether all that there is was sent.
    pub fn is_sent(&self) -> bool {
        self.sent == self.start + self.bytes.len() as u64
    }

    /// Whether more may be read while a host listens.
    pub fn has_room(&self) -> bool {
        self.bytes.len() < WINDOW_BYTES as usize
    }

    /// Drops the oldest of what exceeds the limit.
    pub fn cut(&mut self) {
        if self.bytes.len() > 2 * HELD_BYTES {
            let over = self.bytes.len() - HELD_BYTES;
            self.confirm_to(self.start + over as u64);
        }
    }

    /// The next bytes to send; they count as sent. Empty when there are none, or a window is unconfirmed.
    #[allow(clippy::should_implement_trait, reason = "lends from itself, so it is no Iterator")]
    pub fn next(&mut self) -> &[u8] {
        let at = (self.sent - self.start) as usize;
        let end = self.bytes.len().min(at + MAX_PAYLOAD_BYTES).min(WINDOW_BYTES as usize).max(at);
        self.sent += (end - at) as u64;
        &self.bytes[at..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Record {
        Record { bytes: text.into(), ..Record::default() }
    }

    #[test]
    fn what_was_not_confirmed_is_sent_again() {
        let mut record = said("0123456789");
        assert_eq!(record.next(), b"0123456789");
        assert_eq!(record.next(), b"");
        record.confirm(4);
        record.bytes.extend_from_slice(b"ab");
        assert_eq!(record.next(), b"ab");
        assert_eq!(record.attach(6), 6, "the next host has six");
        assert_eq!(record.next(), b"6789ab");
        assert_eq!(record.attach(2), 6, "four bytes that it asks for are gone");
        record.confirm(100);
        assert_eq!(record.next(), b"");
        assert_eq!(record.attach(0), 12, "never more than there was");
    }

    #[test]
    fn with_nobody_there_the_oldest_goes() {
        let mut record = said(&"x".repeat(2 * HELD_BYTES));
        record.cut();
        assert_eq!(record.bytes.len(), 2 * HELD_BYTES);
        record.bytes.push(b'y');
        record.cut();
        assert_eq!((record.bytes.len(), record.attach(0)), (HELD_BYTES, HELD_BYTES as u64 + 1));
        record.bytes.extend_from_slice(b"more than a window");
        assert!(!record.has_room());
        record.confirm(18 + 1);
        assert!(record.has_room());
        record.bytes.extend_from_slice(b"more than a window");
        let frames = std::iter::repeat_with(|| record.next().len()).take_while(|count| *count > 0);
        assert_eq!(frames.collect::<Vec<_>>(), [MAX_PAYLOAD_BYTES; 4], "a frame at a time, a window in all");
        assert!(!record.is_sent());
        record.confirm(100);
        assert_eq!((record.next().len(), record.is_sent()), (17, true));
    }
}
