//! How a request ended that has nothing else to say.

use crate::files::Trouble;
use alloc::string::String;
use alloc::vec::Vec;
use sublet_guest::sftp_wire::{self as wire, Malformed};

/// How a request ended.
#[derive(Debug)]
pub struct Status {
    code: u32,
    words: String,
}

impl Status {
    /// It was done.
    pub const OK: u32 = 0;
    /// There is no more.
    pub const END: u32 = 1;
    const NO_SUCH_FILE: u32 = 2;
    /// It could not be done.
    pub const FAILURE: u32 = 4;
    const MALFORMED: u32 = 5;
    /// There is no such request.
    pub const UNSUPPORTED: u32 = 8;

    /// With words.
    pub fn new(code: u32, words: impl Into<String>) -> Self {
        Self { code, words: words.into() }
    }

    /// Appends it to an answer.
    pub fn write(&self, out: &mut Vec<u8>) {
        wire::u32(out, self.code);
        wire::bytes(out, self.words.as_bytes());
        wire::bytes(out, b"");
    }
}

impl From<Trouble> for Status {
    fn from(trouble: Trouble) -> Self {
        let (code, words) = match trouble {
            Trouble::NotFound => (Self::NO_SUCH_FILE, "no such file or folder"),
            Trouble::NotFolder => (Self::NO_SUCH_FILE, "not a folder"),
            Trouble::IsFolder => (Self::FAILURE, "it is a folder"),
            Trouble::Exists => (Self::FAILURE, "it is there already"),
            Trouble::NotEmpty => (Self::FAILURE, "the folder is not empty"),
            Trouble::NoRoom => (Self::FAILURE, "no memory left for files"),
            Trouble::TooLong => (Self::FAILURE, "a name too long, or a path too deep"),
            Trouble::Outside | Trouble::Invalid => (Self::FAILURE, "that can't be done"),
        };
        Self::new(code, words)
    }
}

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Self {
        Self::new(Self::MALFORMED, "a request that does not decode")
    }
}
