//! One line of the monitor protocol, told apart.

use serde_json::Value;

/// What went wrong between us and a monitor.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket failed.
    #[error("the monitor's socket failed: {0}")]
    Io(#[source] std::io::Error),
    /// The monitor closed the connection.
    #[error("the monitor closed the connection")]
    Closed,
    /// The connection ended for a reason met elsewhere.
    #[error("the connection to the monitor ended: {0}")]
    Ended(String),
    /// No answer in time.
    #[error("the monitor did not answer in time")]
    Deadline,
    /// A line had no end.
    #[error("the monitor sent a line of more than {} bytes", super::MAX_LINE_BYTES)]
    TooLong,
    /// The connection ended within a line.
    #[error("the monitor closed the connection within a line")]
    Truncated,
    /// A line that is not of the protocol.
    #[error("the monitor sent nonsense: {0}")]
    Nonsense(String),
    /// The monitor refused the command.
    #[error("the monitor refused: {class}: {description}")]
    Refused {
        /// QEMU's class of error.
        class: String,
        /// In words.
        description: String,
    },
}

/// A line, by what it is.
#[derive(Debug)]
pub enum Message {
    /// The first line.
    Greeting,
    /// Something happened.
    Event {
        /// What.
        name: String,
    },
    /// To a request of ours.
    Answer {
        /// Which one.
        id: u64,
        /// What it came to.
        result: Result<Value, QmpError>,
    },
}

/// Tells what a line is.
pub fn parse(line: &[u8]) -> Result<Message, QmpError> {
    let nonsense = |what: &str| QmpError::Nonsense(what.to_owned());
    let Value::Object(mut fields) =
        serde_json::from_slice(line).map_err(|error| QmpError::Nonsense(error.to_string()))?
    else {
        return Err(nonsense("a line that is not an object"));
    };
    if let Some(Value::String(name)) = fields.remove("event") {
        return Ok(Message::Event { name });
    }
    if fields.contains_key("QMP") {
        return Ok(Message::Greeting);
    }
    let id = fields.get("id").and_then(Value::as_u64);
    match (fields.remove("return"), fields.remove("error"), id) {
        (Some(value), None, Some(id)) => Ok(Message::Answer { id, result: Ok(value) }),
        (None, Some(error), Some(id)) => Ok(Message::Answer { id, result: Err(refusal(&error)) }),
        (None, Some(error), None) => Err(refusal(&error)),
        _ => Err(nonsense("an object that is no greeting, event or answer")),
    }
}

fn refusal(error: &Value) -> QmpError {
    let text = |key: &str| error[key].as_str().unwrap_or_default().chars().take(500).collect();
    QmpError::Refused { class: text("class"), description: text("desc") }
}
