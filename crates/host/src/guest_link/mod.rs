//! The host's end of the link to the program in a partition.
//!
//! One byte stream (the virtio port, which the machine offers as a socket) carries every job of
//! the partition. Whatever the guest sends, this side stays bounded: it holds at most a window for
//! each open channel and one decoder, and a guest that does not keep to the protocol loses its
//! link with a typed error. The frames themselves are defined in [`sublet_guest`].

mod exec;
mod inflow;
mod pump;

pub use exec::{Exec, JobControl, Output, Stdin};
pub use sublet_guest::messages::{
    CONNECTED, Command, Exec as ExecRequest, Identity, JobState, OWN_PROGRAM, Pty, Ready, Refusal, Stats, Status, Tail,
    Welcome,
};

use pump::{Entry, Shared};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use sublet_guest::frames::{self, Broken, Decoder};
use sublet_guest::messages::{self, PROTOCOL_VERSION, Refused, kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

/// How long the guest may take to answer a question that needs no work.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How often a socket that is not there yet is tried.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// What went wrong between host and guest.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// The machine's socket could not be reached.
    #[error("cannot reach the guest's port at {path}: {reason}")]
    Connect {
        /// Where the socket should be.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The guest did not answer in time.
    #[error("the guest did not answer within {0:?}")]
    Silent(Duration),
    /// Host and guest do not understand each other.
    #[error("the guest program speaks version {theirs} where {PROTOCOL_VERSION} is needed: rebuild the image")]
    Version {
        /// What the guest speaks.
        theirs: u16,
    },
    /// The guest sent bytes that are no frames.
    #[error("the guest broke the protocol: {0}")]
    Broken(#[from] Broken),
    /// The guest sent frames that make no sense.
    #[error("the guest broke the protocol: {0}")]
    Nonsense(&'static str),
    /// The other end of the port is closed: the machine is gone, or this host let go of it.
    #[error("the guest is gone")]
    Gone,
    /// The guest could not do what it was asked to.
    #[error("refused by the guest: {words}")]
    Refused {
        /// What kind of refusal.
        why: Refusal,
        /// In words.
        words: String,
    },
    /// More than one frame holds.
    #[error("a command of {0} bytes, {max} are the most", max = frames::MAX_PAYLOAD_BYTES)]
    TooLong(usize),
}

/// A connection to a guest; clones share it. It closes when the last clone and job are dropped, or
/// by [`GuestLink::close`].
#[derive(Clone, Debug)]
pub struct GuestLink {
    shared: Arc<Shared>,
    held: Arc<Held>,
    welcome: Arc<Welcome>,
}

impl GuestLink {
    /// Connects to a machine's port and waits until the guest program answers.
    ///
    /// May be called before the machine or its socket exists: it tries until `deadline`.
    pub async fn connect(path: &Path, deadline: Instant) -> Result<Self, LinkError> {
        let begun = Instant::now();
        let silent = |_| LinkError::Silent(deadline - begun);
        let mut socket = reach(path, deadline).await?;
        let session = random_session();
        timeout_at(deadline, say_hello(&mut socket, session)).await.map_err(silent)??;
        let mut decoder = Decoder::for_host(session);
        let welcome = timeout_at(deadline, hear_welcome(&mut socket, &mut decoder)).await.map_err(silent)??;
        if welcome.version != PROTOCOL_VERSION {
            return Err(LinkError::Version { theirs: welcome.version });
        }
        let shared = pump::start(socket, session, decoder);
        let held = Arc::new(Held(Arc::clone(&shared)));
        Ok(Self { shared, held, welcome: Arc::new(welcome) })
    }

    /// What the guest said when this link was made: its boot, its identity, its jobs.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Tells the guest who it is. Must be the first thing; may be repeated for the same lease.
    pub async fn identify(&self, identity: &Identity) -> Result<Ready, LinkError> {
        let payload = self.ask(kind::IDENTITY, &identity.encode(), kind::READY).await?;
        Ready::decode(&payload).map_err(|_| self.nonsense("a Ready that does not decode"))
    }

    /// Has the guest become a template, of which copies are started. One that has an identity, or
    /// still boots, refuses.
    pub async fn become_template(&self) -> Result<(), LinkError> {
        self.ask(kind::TEMPLATE, &[], kind::DONE).await.map(drop)
    }

    /// Starts a job.
    pub async fn exec(&self, request: &ExecRequest) -> Result<Exec, LinkError> {
        exec::start(&self.held, request).await
    }

    /// Starts a detached job: the guest holds its output until that is taken, and it until it is forgotten.
    pub async fn record(&self, request: &ExecRequest) -> Result<Exec, LinkError> {
        exec::record(&self.held, request).await
    }

    /// Listens to a detached job of whose output `from` bytes are here; says from which byte on it goes.
    pub async fn attach(&self, job: &str, from: u64) -> Result<(u64, Exec), LinkError> {
        exec::attach(&self.held, job, from).await
    }

    /// Has the guest forget a detached job that has ended.
    pub async fn forget(&self, job: &str) -> Result<(), LinkError> {
        self.ask(kind::FORGET, job.as_bytes(), kind::DONE).await.map(drop)
    }

    /// Jobs that run and those that ended lately.
    pub async fn jobs(&self) -> Result<Vec<JobState>, LinkError> {
        let payload = self.ask(kind::JOBS, &[], kind::JOBS_ARE).await?;
        messages::decode_jobs(&payload).map_err(|_| self.nonsense("jobs that do not decode"))
    }

    /// The last output of a job nobody listened to.
    pub async fn tail(&self, job: &str) -> Result<Tail, LinkError> {
        let payload = self.ask(kind::TAIL, job.as_bytes(), kind::TAIL_IS).await?;
        Tail::decode(&payload).map_err(|_| self.nonsense("a tail that does not decode"))
    }

    /// Memory, load and processes.
    pub async fn stats(&self) -> Result<Stats, LinkError> {
        let payload = self.ask(kind::STATS, &[], kind::STATS_ARE).await?;
        Stats::decode(&payload).map_err(|_| self.nonsense("statistics that do not decode"))
    }

    /// Asks the guest to write everything down and power off; returns once it heard.
    pub async fn shutdown(&self) -> Result<(), LinkError> {
        self.ask(kind::SHUTDOWN, &[], kind::DONE).await.map(drop)
    }

    /// How long the guest takes to answer.
    pub async fn ping(&self) -> Result<Duration, LinkError> {
        let begun = Instant::now();
        self.ask(kind::PING, b"ping", kind::PONG).await?;
        Ok(begun.elapsed())
    }

    /// Lets go of the guest. Its jobs go on.
    pub fn close(&self) {
        self.shared.fail(LinkError::Gone);
    }

    /// Waits until the link is no more, and says why.
    pub async fn closed(&self) -> LinkError {
        self.shared.closed().await
    }

    async fn ask(&self, kind: u16, payload: &[u8], expected: u16) -> Result<Vec<u8>, LinkError> {
        let (tell, told) = oneshot::channel();
        let stream = self.shared.enter(Entry::Call(tell))?;
        let leave = Leave { shared: &self.shared, stream };
        let answer = async {
            self.shared.send(stream, kind, 0, payload.to_vec()).await?;
            told.await.map_err(|_| self.shared.error())
        };
        let (answered, payload) =
            timeout(ANSWER_WITHIN, answer).await.map_err(|_| LinkError::Silent(ANSWER_WITHIN))??;
        drop(leave);
        match answered {
            answered if answered == expected => Ok(payload),
            kind::REFUSED => Err(refusal(&payload).unwrap_or_else(|| self.nonsense("a refusal that does not decode"))),
            _ => Err(self.nonsense("an answer to another question")),
        }
    }

    fn nonsense(&self, words: &'static str) -> LinkError {
        let error = LinkError::Nonsense(words);
        self.shared.fail(error.clone());
        error
    }
}

/// Forgets a question that nobody waits for any more.
struct Leave<'a> {
    shared: &'a Shared,
    stream: u32,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.shared.leave(self.stream);
    }
}

fn refusal(payload: &[u8]) -> Option<LinkError> {
    let Refused { why, words } = Refused::decode(payload).ok()?;
    Some(LinkError::Refused { why, words })
}

/// Never zero, which is nobody's session.
fn random_session() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the time still tells sessions of this host apart.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = (now.as_nanos() as u64).to_le_bytes();
    }
    u64::from_le_bytes(bytes).max(1)
}

async fn reach(path: &Path, deadline: Instant) -> Result<UnixStream, LinkError> {
    loop {
        match UnixStream::connect(path).await {
            Ok(socket) => return Ok(socket),
            Err(error) if Instant::now() + RETRY_EVERY >= deadline => {
                let path = path.display().to_string();
                return Err(LinkError::Connect { path, reason: error.to_string() });
            }
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    }
}

async fn say_hello(socket: &mut UnixStream, session: u64) -> Result<(), LinkError> {
    let mut bytes = vec![0; frames::FILLER_BYTES];
    frames::write(&mut bytes, session, 0, kind::HELLO, 0, &PROTOCOL_VERSION.to_le_bytes());
    socket.write_all(&bytes).await.map_err(|_| LinkError::Gone)
}

async fn hear_welcome(socket: &mut UnixStream, decoder: &mut Decoder) -> Result<Welcome, LinkError> {
    loop {
        if let Some(frame) = decoder.next()? {
            if frame.kind != kind::WELCOME {
                return Err(LinkError::Nonsense("something else than Welcome after Hello"));
            }
            return Welcome::decode(frame.payload).map_err(|_| LinkError::Nonsense("a Welcome that does not decode"));
        }
        match socket.read(decoder.room()).await {
            Ok(0) | Err(_) => return Err(LinkError::Gone),
            Ok(count) => decoder.filled(count),
        }
    }
}

/// Held by every handle and job of a link; the last one dropped closes it.
#[derive(Debug)]
struct Held(Arc<Shared>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fail(LinkError::Gone);
    }
}
