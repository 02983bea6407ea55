//! Frames: how messages are cut out of the byte stream between host and guest.
//!
//! ```text
//! | magic 4 | session 8 | stream 4 | length 4 | kind 2 | channel 2 | check 4 | payload | trailer 4 |
//! ```
//!
//! The stream is reliable but may be *cut*: the host's end can be killed at any byte, and what lies
//! between may still hold bytes of the old connection, either way. So:
//!
//! - every connection has a random `session`; frames of another one are dropped;
//! - the trailer repeats it, so half a frame glued to the bytes of a new connection is noticed
//!   without a checksum over the payload (the transport itself does not flip bits);
//! - the host begins with [`FILLER_BYTES`] zeros, which complete any half frame the guest waits
//!   for, and then says Hello. Payloads are never searched for frames: they belong to users;
//! - the host looks for the answer byte by byte, because nobody can have guessed its session.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// Most bytes of payload in one frame.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 32;
/// Bytes after the payload.
pub const TRAILER_BYTES: usize = 4;
/// Most bytes of one whole frame.
pub const MAX_FRAME_BYTES: usize = HEADER_BYTES + MAX_PAYLOAD_BYTES + TRAILER_BYTES;
/// Zeros that end any half frame the other side may still be waiting for.
pub const FILLER_BYTES: usize = MAX_FRAME_BYTES;
/// Bytes that may be under way on one channel of a stream before the receiver grants more.
pub const WINDOW_BYTES: u32 = 256 * 1024;

const MAGIC: [u8; 4] = *b"\xd7SbL";
const BUFFER_BYTES: usize = 2 * MAX_FRAME_BYTES;

/// One frame, still lying in the decoder's buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The connection it was said in.
    pub session: u64,
    /// Which request or job it belongs to; chosen by the host.
    pub stream: u32,
    /// What it says: see [`crate::messages::kind`].
    pub kind: u16,
    /// Of data: 0 is stdin or stdout, 1 is stderr.
    pub channel: u16,
    /// The bytes said.
    pub payload: &'a [u8],
}

/// The other side does not keep to the format. Only the strict side (the host) reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Where a frame should begin there is something else.
    Header,
    /// A frame claims more than [`MAX_PAYLOAD_BYTES`].
    Length(u32),
    /// A frame of another connection.
    Session,
    /// A frame does not end where it said it would.
    Trailer,
}

impl core::fmt::Display for Broken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Header => write!(f, "bytes that are no frame"),
            Self::Length(n) => write!(f, "a frame of {n} bytes where {MAX_PAYLOAD_BYTES} is the most"),
            Self::Session => write!(f, "a frame of another session"),
            Self::Trailer => write!(f, "a frame that does not end where it said"),
        }
    }
}

impl core::error::Error for Broken {}

/// The bytes before a payload of `length` bytes.
pub fn header(session: u64, stream: u32, kind: u16, channel: u16, length: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4..12].copy_from_slice(&session.to_le_bytes());
    bytes[12..16].copy_from_slice(&stream.to_le_bytes());
    bytes[16..20].copy_from_slice(&length.to_le_bytes());
    bytes[20..22].copy_from_slice(&kind.to_le_bytes());
    bytes[22..24].copy_from_slice(&channel.to_le_bytes());
    let check = check(&bytes[..24]);
    bytes[24..32].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// The bytes after a payload.
pub fn trailer(session: u64) -> [u8; TRAILER_BYTES] {
    // No byte of it is zero, so that filler is never taken for any part.
    ((session ^ (session >> 32)) as u32 | 0x0101_0101).to_le_bytes()
}

/// Appends one whole frame.
///
/// # Panics
/// If the payload is longer than [`MAX_PAYLOAD_BYTES`]: the caller cuts it.
pub fn write(out: &mut Vec<u8>, session: u64, stream: u32, kind: u16, channel: u16, payload: &[u8]) {
    assert!(payload.len() <= MAX_PAYLOAD_BYTES, "payload longer than a frame");
    out.reserve(HEADER_BYTES + payload.len() + TRAILER_BYTES);
    out.extend_from_slice(&header(session, stream, kind, channel, payload.len() as u32));
    out.extend_from_slice(payload);
    out.extend_from_slice(&trailer(session));
}

/// FNV-1a over the header's words, folded: enough to tell a header from chance.
fn check(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        let mut eight = [0; 8];
        eight[..word.len()].copy_from_slice(word);
        let mixed = (hash ^ u64::from_le_bytes(eight)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    })
}

/// Which frames a decoder lets through, and what it makes of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// The guest: Hello of any session, the rest only of the present one; anything else is skipped.
    Lenient { session: Option<u64> },
    /// The host before its Hello was answered: searches byte by byte for its own session.
    Hunting { session: u64 },
    /// The host afterwards: anything unexpected is an error.
    Strict { session: u64 },
}

/// Cuts frames out of bytes. Its memory is fixed.
#[derive(Debug)]
pub struct Decoder {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of a refused frame that are still to come and to be dropped.
    skip: usize,
    manner: Manner,
    dropped_bytes: u64,
    strangers: u64,
}

impl Decoder {
    /// For the guest: takes Hello of any session and never fails.
    pub fn for_guest() -> Self {
        Self::new(Manner::Lenient { session: None })
    }

    /// For the host: skips whatever comes before the first frame of `session`, strict afterwards.
    pub fn for_host(session: u64) -> Self {
        Self::new(Manner::Hunting { session })
    }

    fn new(manner: Manner) -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0, skip: 0, manner, dropped_bytes: 0, strangers: 0 }
    }

    /// Guest: from now on frames of `session` are let through, and those of others are not.
    pub fn enter(&mut self, session: u64) {
        self.manner = Manner::Lenient { session: Some(session) };
    }

    /// Guest: forgets the session and any half frame.
    pub fn reset(&mut self) {
        *self = Self { buffer: core::mem::take(&mut self.buffer), start: 0, end: 0, skip: 0, ..*self };
        self.manner = Manner::Lenient { session: None };
    }

    /// How many bytes were thrown away because they were no frame for us.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// How many frames of other sessions came.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Room to read into; never empty once [`Self::next`] has returned nothing.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < MAX_FRAME_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// Says that `count` bytes of [`Self::room`] were filled.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// Copies in what fits of `bytes`, returns how much that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let room = self.room();
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.filled(count);
        count
    }

    /// The next whole frame, if there is one.
    #[allow(clippy::should_implement_trait, reason = "lends from itself, so it is no Iterator")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Broken> {
        loop {
            self.drop_skipped();
            let Some(head) = self.find_header()? else { return Ok(None) };
            let whole = HEADER_BYTES + head.length as usize + TRAILER_BYTES;
            if !self.wanted(&head)? {
                self.strangers += 1;
                self.refuse(whole);
                continue;
            }
            if self.end - self.start < whole {
                return Ok(None);
            }
            if !self.ends_well(&head, whole)? {
                continue;
            }
            let payload = self.start + HEADER_BYTES..self.start + whole - TRAILER_BYTES;
            self.start += whole;
            if let Manner::Hunting { session } = self.manner {
                self.manner = Manner::Strict { session };
            }
            return Ok(Some(Frame {
                session: head.session,
                stream: head.stream,
                kind: head.kind,
                channel: head.channel,
                payload: &self.buffer[payload],
            }));
        }
    }

    fn drop_skipped(&mut self) {
        let count = self.skip.min(self.end - self.start);
        self.start += count;
        self.skip -= count;
        self.dropped_bytes += count as u64;
    }

    /// Steps to the next header that checks; `None` if more bytes are needed.
    fn find_header(&mut self) -> Result<Option<Head>, Broken> {
        loop {
            let waiting = &self.buffer[self.start..self.end];
            let strict = matches!(self.manner, Manner::Strict { .. });
            let known = waiting.len().min(MAGIC.len());
            if waiting[..known] != MAGIC[..known] {
                if strict {
                    return Err(Broken::Header);
                }
                self.step_to_magic();
                continue;
            }
            if waiting.len() < HEADER_BYTES {
                return Ok(None);
            }
            match Head::parse(&waiting[..HEADER_BYTES]) {
                Ok(head) => return Ok(Some(head)),
                Err(broken) if strict => return Err(broken),
                Err(_) => self.drop_one(),
            }
        }
    }

    fn step_to_magic(&mut self) {
        let waiting = &self.buffer[self.start + 1..self.end];
        let count = 1 + waiting.iter().position(|b| *b == MAGIC[0]).unwrap_or(waiting.len());
        self.start += count;
        self.dropped_bytes += count as u64;
    }

    fn drop_one(&mut self) {
        self.start += 1;
        self.dropped_bytes += 1;
    }

    fn wanted(&mut self, head: &Head) -> Result<bool, Broken> {
        match self.manner {
            Manner::Lenient { session } => {
                Ok(head.kind == crate::messages::kind::HELLO || session == Some(head.session))
            }
            Manner::Strict { session } if session != head.session => Err(Broken::Session),
            Manner::Strict { .. } => Ok(true),
            Manner::Hunting { session } => Ok(session == head.session),
        }
    }

    /// Checks the trailer; a frame with a wrong one is dropped whole (or is an error).
    fn ends_well(&mut self, head: &Head, whole: usize) -> Result<bool, Broken> {
        let at = self.start + whole - TRAILER_BYTES;
        if self.buffer[at..at + TRAILER_BYTES] == trailer(head.session) {
            return Ok(true);
        }
        if matches!(self.manner, Manner::Strict { .. }) {
            return Err(Broken::Trailer);
        }
        self.refuse(whole);
        Ok(false)
    }

    /// Drops a frame: whole where payloads must not be searched; byte by byte where the frame may
    /// have been cut short and what is sought cannot lie in it by chance.
    fn refuse(&mut self, whole: usize) {
        match self.manner {
            Manner::Hunting { .. } => self.drop_one(),
            _ => self.skip = whole,
        }
    }
}

struct Head {
    session: u64,
    stream: u32,
    length: u32,
    kind: u16,
    channel: u16,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
        let half = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap_or_default());
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        if bytes[..4] != MAGIC || long(24) != check(&bytes[..24]) {
            return Err(Broken::Header);
        }
        let length = word(16);
        if length as usize > MAX_PAYLOAD_BYTES {
            return Err(Broken::Length(length));
        }
        Ok(Self { session: long(4), stream: word(12), length, kind: half(20), channel: half(22) })
    }
}

#[cfg(test)]
mod tests;
