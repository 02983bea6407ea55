//! The kernel's control files: one value each, or `key value` lines.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Writes one value. Each write is one request to the kernel: never buffered, never split.
pub fn write(path: &Path, value: impl Display) -> io::Result<()> {
    let named = |verb: &str, e: io::Error| {
        io::Error::new(e.kind(), format!("failed to {verb} {value} to {}: {e}", path.display()))
    };
    let mut file = fs::File::options().write(true).open(path).map_err(|e| named("write", e))?;
    file.write_all(value.to_string().as_bytes()).map_err(|e| named("write", e))
}

/// A file that holds one number.
pub fn read_number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?.trim().parse().map_err(|_| unreadable(path))
}

/// The number after `key` in a file of such lines.
pub fn read_keyed(path: &Path, key: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|v| v.trim().parse().ok()).ok_or_else(|| unreadable(path))
}

fn unreadable(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} does not hold what it should", path.display()))
}
