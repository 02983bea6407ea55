//! The image cache: blobs by digest, verified while they arrive, bounded, oldest use out first.
//!
//! A blob is kept under its digest only once every byte is there and the digest is right; what is
//! half there waits beside it and is continued by a range request. A blob found in the cache is
//! read through once by each agent, and again whenever its file changed: a flipped byte on the
//! disk is as bad as one from the network.

mod cache;
mod download;

pub use cache::{Cache, DEFAULT_LIMIT_BYTES};

use std::path::PathBuf;
use sublet_model::identity::Sha256Digest;

/// Why a blob can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The depot's address is none.
    #[error("the depot can't be used: {0}")]
    Depot(sublet_wire::client::ClientError),
    /// The depot did not give it, though it was asked again.
    #[error("failed to fetch the {what} {digest} from {depot}: {reason}")]
    Fetch {
        /// Which part of the image.
        what: &'static str,
        /// Which blob.
        digest: Sha256Digest,
        /// From where.
        depot: String,
        /// What happened the last time.
        reason: String,
    },
    /// The bytes are not the ones that were signed.
    #[error(
        "the {what} from {depot} is not what was signed: its digest is {got}, not {digest}; nothing of it was kept"
    )]
    WrongDigest {
        /// Which part of the image.
        what: &'static str,
        /// Which blob it should be.
        digest: Sha256Digest,
        /// Which it is.
        got: Sha256Digest,
        /// From where.
        depot: String,
    },
    /// More bytes than the manifest says.
    #[error("the {what} from {depot} has more than the {bytes} bytes of its manifest; nothing of it was kept")]
    TooLong {
        /// Which part of the image.
        what: &'static str,
        /// How many it should be.
        bytes: u64,
        /// From where.
        depot: String,
    },
    /// It would never fit.
    #[error("the image needs {bytes} bytes, the cache may have {limit}: raise its limit")]
    TooLarge {
        /// How many it needs.
        bytes: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The disk.
    #[error("failed to {attempt} {path}: {source}")]
    Disk {
        /// What was tried.
        attempt: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests;
