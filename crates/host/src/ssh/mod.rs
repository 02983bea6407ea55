//! The SSH server in front of the partitions: certificates only, checked here and offline.
//!
//! The user name is the lease. Whoever holds a certificate of the market's authority whose
//! principal is that lease in its present generation gets exec, shell and terminal inside the
//! partition, over the guest link; the guest needs neither network nor sshd.
//!
//! - [`certificate`]: what is accepted, a pure function, and every refusal in words.
//! - `handler`: one connection, as russh tells of it; `client`: what is known of it. `guarded`: the socket under it.
//! - `work`: one channel, that is one job in the guest. `inbox`: its input, bounded.
//! - `jobs`: the subsystem by which detached jobs are submitted and asked after.
//! - `forward`: ports and connections forwarded, which begin and end inside the guest.
//!
//! Deliberately absent: passwords, plain keys, forwards to the host's own network.

pub mod certificate;
mod client;
mod forward;
mod guarded;
mod handler;
mod inbox;
mod jobs;
mod server;
mod work;

pub use certificate::Refusal;
pub use server::{SshError, SshServer};

use crate::guest_link::{GuestLink, Status};
use crate::jobs::LeaseJobs;
use std::sync::Arc;
use sublet_wire::jobs::Figures;
use tokio::sync::watch;

/// A lease in one generation: who is let in, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey {
    /// The lease.
    pub lease: String,
    /// Its partition's generation.
    pub generation: u64,
}

impl LeaseKey {
    /// That of a life.
    pub fn of(run: &crate::store::Run) -> Self {
        Self { lease: run.lease().to_string(), generation: run.generation }
    }

    /// What a certificate must name.
    pub fn principal(&self) -> String {
        format!("{}.g{}", self.lease, self.generation)
    }
}

/// A lease that clients may enter.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Which.
    pub key: LeaseKey,
    /// Authorities whose certificates count, as OpenSSH public key lines.
    pub authorities: Vec<String>,
    /// As whom the client's commands run.
    pub login_user: String,
    /// Whether the next command is the lease's one job.
    pub one_shot: bool,
    /// Set, to the reason in words, once the lease has ended; dropping the sender ends it too.
    pub ended: watch::Receiver<Option<String>>,
}

/// What the server needs of the agent.
pub trait Door: Send + Sync + 'static {
    /// The lease a client asks for. Waits a while for one this host is about to be told of;
    /// `None` refuses.
    fn lease(&self, user: &str) -> impl Future<Output = Option<Admission>> + Send;

    /// The link to its guest. Waits until the partition is ready; an error, in words, if it will
    /// not be.
    fn link(&self, key: &LeaseKey) -> impl Future<Output = Result<GuestLink, String>> + Send;

    /// The detached jobs of a lease; an error, in words, if it has ended.
    fn jobs(&self, key: &LeaseKey) -> impl Future<Output = Result<Arc<LeaseJobs>, String>> + Send;

    /// What the machine of a lease is, looked up now; an error, in words, if it does not run.
    fn figures(&self, key: &LeaseKey) -> impl Future<Output = Result<Figures, String>> + Send;

    /// Tells what clients do. Must not block.
    fn event(&self, key: &LeaseKey, event: SessionEvent);
}

/// What a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Came in: a certificate was accepted.
    Authenticated,
    /// Started a job in the guest.
    Opened {
        /// Its id, by which the guest remembers it.
        job: String,
        /// Whether it is the one job of a one-shot lease.
        only: bool,
    },
    /// A job ended and its client has all of its output (or takes none of it any more).
    Exited {
        /// Which.
        job: String,
        /// Whether it is the one job of a one-shot lease.
        only: bool,
        /// How.
        status: Status,
    },
    /// Nobody serves the one job of a one-shot lease any more: its client went, or the link to the
    /// guest did. The job may go on, or may never have started.
    Left {
        /// Which.
        job: String,
    },
    /// A connection ended.
    Closed {
        /// How many connections of the lease are still open.
        remaining: usize,
    },
}
