//! Server-sent events, as a client reads them: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

/// The header that names the last event that was read.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// An event larger than this is not read.
const LARGEST_BYTES: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Happened {
    /// Names it, for coming back.
    pub id: String,
    /// Its kind.
    pub event: String,
    /// What it says: JSON, as the market writes it.
    pub data: String,
}

/// An event that is larger than any the market sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event larger than {LARGEST_BYTES} bytes")]
pub struct TooLarge;

/// Puts events together from what comes in, in pieces of whatever size.
#[derive(Debug, Default)]
pub struct Reader {
    /// Of the line that is not whole yet.
    line: Vec<u8>,
    event: Happened,
    has_data: bool,
}

impl Reader {
    /// Takes a piece in; answers the events that it completes.
    pub fn read(&mut self, piece: &[u8]) -> Result<Vec<Happened>, TooLarge> {
        let mut whole = Vec::new();
        for &byte in piece {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                whole.extend(self.take(line.trim_end_matches('\r')));
            } else {
                self.line.push(byte);
                if self.line.len() + self.event.data.len() > LARGEST_BYTES {
                    return Err(TooLarge);
                }
            }
        }
        Ok(whole)
    }

    /// One line: a field, a comment, or the end of an event.
    fn take(&mut self, line: &str) -> Option<Happened> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = value.into(),
            "event" => self.event.event = value.into(),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment begins with a colon: it says only that somebody is there.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_in_whatever_pieces_they_come() {
        let text = ": still here\n\nid: 7-1\nevent: ready\ndata: {\"a\":\ndata: 1}\n\nid:7-2\r\ndata:x\r\n\r\nevent: lost\n\nid: 7-3\nda";
        let expected = [
            Happened { id: "7-1".into(), event: "ready".into(), data: "{\"a\":\n1}".into() },
            Happened { id: "7-2".into(), event: String::new(), data: "x".into() },
        ];
        for size in 1..=text.len() {
            let mut reader = Reader::default();
            let read: Vec<Happened> =
                text.as_bytes().chunks(size).flat_map(|piece| reader.read(piece).unwrap()).collect();
            assert_eq!(read, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let mut reader = Reader::default();
        let piece = [b'a'; 65_536];
        assert!((0..17).any(|_| reader.read(&piece) == Err(TooLarge)));
        let mut reader = Reader::default();
        let line = [b"data: ".as_slice(), &[b'a'; 65_536], b"\n"].concat();
        assert!((0..17).any(|_| reader.read(&line) == Err(TooLarge)), "in many lines");
    }
}
