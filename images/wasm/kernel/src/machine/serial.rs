//! The console: what is written there, the host keeps the end of.

use super::out8;
use core::fmt;

const PORT: u16 = 0x3f8;

/// The first serial port.
pub struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                out8(PORT, b'\r');
            }
            out8(PORT, byte);
        }
        Ok(())
    }
}

/// Says a line.
pub fn say(words: fmt::Arguments<'_>) {
    let _ = fmt::Write::write_fmt(&mut Serial, format_args!("{words}\n"));
}
