//! What happened, as one number; and as lines, for whoever asks for them.

use super::time::{At, SECOND};

/// What happened.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    echo: bool,
}

impl Trace {
    /// Nothing yet; `echo` writes each line to standard error.
    pub fn new(echo: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, echo }
    }

    /// Something happened.
    pub fn note(&mut self, at: At, what: &str) {
        for byte in at.to_le_bytes().into_iter().chain(what.bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.echo && what.len() < 600 {
            eprintln!("{:>12.6} {what}", at as f64 / SECOND as f64);
        }
    }

    /// Stands for all of it (FNV-1a).
    pub fn digest(&self) -> u64 {
        self.hash
    }
}
