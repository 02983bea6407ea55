//! QEMU's monitor protocol: one JSON object a line, answers and events interleaved.
//!
//! QEMU is not trusted: a guest may have taken it over. A line that is too long, cut off or
//! nonsense ends the connection with a typed error; nothing grows with what is sent. Events are
//! hints: they say that something changed, and the state is then asked for.

mod message;

pub use message::QmpError;

use message::{Message, parse};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// No answer we ask for is longer. (The longest is the console's ring, with every byte escaped.)
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// So many requests may wait for their answers.
const MAX_PENDING: usize = 16;

/// What the events told so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// How many told of a change of state.
    pub changes: u64,
    /// Why the connection ended, once it has.
    pub ended: Option<String>,
}

/// A connection. Clones share it; it closes with the last one.
#[derive(Debug, Clone)]
pub struct Qmp {
    requests: mpsc::Sender<Request>,
    hints: watch::Receiver<Hints>,
}

#[derive(Debug)]
struct Request {
    command: &'static str,
    arguments: Value,
    answer: oneshot::Sender<Result<Value, QmpError>>,
}

impl Qmp {
    /// Connects and agrees on capabilities, all within `patience`.
    pub async fn connect(socket: &Path, patience: Duration) -> Result<Self, QmpError> {
        let connecting = async {
            let stream = UnixStream::connect(socket).await.map_err(QmpError::Io)?;
            let (read, write) = stream.into_split();
            let mut lines = Lines::new(read);
            match parse(&lines.next().await?)? {
                Message::Greeting => {}
                _ => return Err(QmpError::Nonsense("no greeting".to_owned())),
            }
            let (requests, inbox) = mpsc::channel(MAX_PENDING);
            let (hints_out, hints) = watch::channel(Hints::default());
            tokio::spawn(
                Connection { lines, write, inbox, hints: hints_out, pending: HashMap::new(), last_id: 0 }.run(),
            );
            let qmp = Self { requests, hints };
            qmp.ask("qmp_capabilities", Value::Null).await?;
            Ok(qmp)
        };
        timeout(patience, connecting).await.unwrap_or(Err(QmpError::Deadline))
    }

    /// Asks and waits for the answer, at most `patience`.
    pub async fn execute(
        &self,
        command: &'static str,
        arguments: Value,
        patience: Duration,
    ) -> Result<Value, QmpError> {
        timeout(patience, self.ask(command, arguments)).await.unwrap_or(Err(QmpError::Deadline))
    }

    /// Changes with every event that tells of a change of state, and when the connection ends.
    pub fn hints(&self) -> watch::Receiver<Hints> {
        self.hints.clone()
    }

    async fn ask(&self, command: &'static str, arguments: Value) -> Result<Value, QmpError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { command, arguments, answer };
        self.requests.send(request).await.map_err(|_| QmpError::Closed)?;
        answered.await.unwrap_or(Err(QmpError::Closed))
    }
}

struct Connection {
    lines: Lines,
    write: OwnedWriteHalf,
    inbox: mpsc::Receiver<Request>,
    hints: watch::Sender<Hints>,
    pending: HashMap<u64, oneshot::Sender<Result<Value, QmpError>>>,
    last_id: u64,
}

impl Connection {
    async fn run(mut self) {
        let error = loop {
            let step = tokio::select! {
                line = self.lines.next() => line.and_then(|line| self.hear(&line)),
                request = self.inbox.recv(), if self.pending.len() < MAX_PENDING => match request {
                    Some(request) => self.send(request).await,
                    None => return,
                },
            };
            if let Err(error) = step {
                break error;
            }
        };
        let reason = error.to_string();
        for (_, answer) in self.pending.drain() {
            let _ = answer.send(Err(QmpError::Ended(reason.clone())));
        }
        self.hints.send_modify(|hints| hints.ended = Some(reason));
    }

    async fn send(&mut self, request: Request) -> Result<(), QmpError> {
        self.last_id += 1;
        let mut message = serde_json::json!({ "execute": request.command, "id": self.last_id });
        if !request.arguments.is_null() {
            message["arguments"] = request.arguments;
        }
        // Someone who stopped waiting leaves no trace here.
        self.pending.retain(|_, answer| !answer.is_closed());
        self.pending.insert(self.last_id, request.answer);
        let line = format!("{message}\n");
        // A monitor that no longer reads must not hold us for ever.
        let written = timeout(Duration::from_secs(5), self.write.write_all(line.as_bytes())).await;
        written.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(QmpError::Io)
    }

    fn hear(&mut self, line: &[u8]) -> Result<(), QmpError> {
        match parse(line)? {
            Message::Greeting => Err(QmpError::Nonsense("a second greeting".to_owned())),
            Message::Event { name } => {
                if tells_of_a_change(&name) {
                    self.hints.send_modify(|hints| hints.changes += 1);
                }
                Ok(())
            }
            Message::Answer { id, result } if id <= self.last_id => {
                // Nobody may be waiting any more: the deadline was theirs.
                if let Some(answer) = self.pending.remove(&id) {
                    let _ = answer.send(result);
                }
                Ok(())
            }
            Message::Answer { id, .. } => Err(QmpError::Nonsense(format!("an answer to {id}, which was never asked"))),
        }
    }
}

fn tells_of_a_change(event: &str) -> bool {
    matches!(event, "SHUTDOWN" | "STOP" | "RESUME" | "RESET" | "GUEST_PANICKED" | "GUEST_CRASHLOADED" | "WATCHDOG")
}

/// Lines of bounded length. May be dropped while it waits and asked again: nothing is lost.
#[derive(Debug)]
struct Lines {
    from: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl Lines {
    fn new(from: OwnedReadHalf) -> Self {
        Self { from: BufReader::new(from), line: Vec::new() }
    }

    async fn next(&mut self) -> Result<Vec<u8>, QmpError> {
        loop {
            let bytes = self.from.fill_buf().await.map_err(QmpError::Io)?;
            if bytes.is_empty() {
                return Err(if self.line.is_empty() { QmpError::Closed } else { QmpError::Truncated });
            }
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(bytes.len(), |at| at + 1);
            if self.line.len() + taken > MAX_LINE_BYTES {
                return Err(QmpError::TooLong);
            }
            self.line.extend_from_slice(&bytes[..taken]);
            self.from.consume(taken);
            if newline.is_some() {
                return Ok(std::mem::take(&mut self.line));
            }
        }
    }
}

#[cfg(test)]
mod tests;
