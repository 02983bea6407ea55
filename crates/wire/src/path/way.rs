//! A connection between a client and a host: how it begins, by which route it goes, its streams.

use super::PathError;
use futures_util::StreamExt;
use iroh::endpoint::{Connection, Incoming, RecvStream, SendStream};
use iroh::{RelayUrl, TransportAddr};
use std::fmt;
use std::net::SocketAddr;
use tokio::io::Join;

/// One stream, both ways.
pub type Joined = Join<RecvStream, SendStream>;

/// A client who knocks.
#[derive(Debug)]
pub struct Knock(Incoming);

impl Knock {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self(incoming)
    }

    /// Whether it is known to be where it says: else answers to it may hit somebody else.
    pub fn is_validated(&self) -> bool {
        self.0.remote_addr_validated()
    }

    /// Has it come again, with a proof of where it is.
    pub fn validate(self) {
        let _ = self.0.retry();
    }

    /// Sends it away.
    pub fn refuse(self) {
        self.0.refuse();
    }

    /// Lets it in.
    pub async fn enter(self) -> Result<Way, PathError> {
        let connection = self.0.await.map_err(|error| PathError::Broken(chain(&error)))?;
        Ok(Way::new(connection))
    }
}

/// By which route packets go now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Straight to the other end.
    Direct(SocketAddr),
    /// Through the market's relay.
    Relayed(RelayUrl),
    /// Not decided yet.
    Open,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(address) => write!(f, "directly, at {address}"),
            Self::Relayed(relay) => write!(f, "through the relay {relay}"),
            Self::Open => f.write_str("by a route not known yet"),
        }
    }
}

/// A connection between a client and a host.
#[derive(Debug, Clone)]
pub struct Way {
    connection: Connection,
}

impl Way {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// By which route packets go now.
    pub fn route(&self) -> Route {
        let paths = self.connection.paths();
        let selected = paths.iter().find(|path| path.is_selected());
        selected.map_or(Route::Open, |path| match path.remote_addr() {
            TransportAddr::Ip(address) => Route::Direct(*address),
            TransportAddr::Relay(url) => Route::Relayed(url.clone()),
            _ => Route::Open,
        })
    }

    /// Tells of each route that is taken, until the connection ends.
    pub async fn follow(&self, mut told: impl FnMut(Route)) {
        let (mut paths, mut last) = (self.connection.paths_stream(), Route::Open);
        while paths.next().await.is_some() {
            let now = self.route();
            if now != last {
                last = now.clone();
                told(now);
            }
        }
    }

    /// Opens a stream. The other end sees it with the first byte.
    pub async fn open(&self) -> Result<Joined, PathError> {
        let opened = self.connection.open_bi().await.map_err(|error| PathError::Broken(chain(&error)))?;
        Ok(tokio::io::join(opened.1, opened.0))
    }

    /// The next stream that the other end opens.
    pub async fn accept(&self) -> Result<Joined, PathError> {
        let opened = self.connection.accept_bi().await.map_err(|error| PathError::Broken(chain(&error)))?;
        Ok(tokio::io::join(opened.1, opened.0))
    }

    /// Ends it.
    pub fn close(&self, reason: &str) {
        self.connection.close(0u32.into(), reason.as_bytes());
    }

    /// Returns when it has ended.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}
