//! What can go wrong in a depot, in words for the person who runs it.

use std::io;
use std::path::{Path, PathBuf};

/// Why something in a depot failed.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// The folder is no depot.
    #[error("{0} is no depot: it has no keys/image-signing.key; `sublet image add --depot {0}` makes one")]
    NotADepot(PathBuf),
    /// The signing key can't be used.
    #[error("the depot's signing key {0} is not 32 bytes in hexadecimal: restore it from a backup")]
    BadKey(PathBuf),
    /// A file system call failed.
    #[error("failed to {attempt} {}", path.display())]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Nothing more fits.
    #[error("no room left while writing {}: free some space there, or choose another folder; nothing was added", path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// The recipe's output is not what a recipe makes.
    #[error("{} does not describe an image: {reason}", path.display())]
    BadRecipe {
        /// Its `image.toml`.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file that `image.toml` names is not there.
    #[error("{} names {file:?} as its {role}, which is not there: run the recipe again", recipe.display())]
    MissingFile {
        /// The `image.toml`.
        recipe: PathBuf,
        /// The file.
        file: String,
        /// What it should be.
        role: &'static str,
    },
    /// A file that is no disk that could be booted.
    #[error("{} is neither a qcow2 file nor a raw disk with a boot sector: `qemu-img convert -O qcow2` makes one", .path.display())]
    UnknownDisk {
        /// The file.
        path: PathBuf,
    },
    /// A disk that may not be booted.
    #[error("{} can't become an image: {reason}", path.display())]
    BadDisk {
        /// The disk.
        path: PathBuf,
        /// What is wrong.
        reason: sublet_model::image::disk::BadDisk,
    },
    /// The manifest could not be signed.
    #[error("failed to sign the manifest: {0}")]
    Sign(#[from] sublet_model::identity::IdentityError),
    /// The address can't be listened on.
    #[error("failed to listen on {address}: is another depot running there?")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl DepotError {
    /// For `map_err`: names the attempt and the path.
    pub(crate) fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path: path.into() },
            _ => Self::Io { attempt, path: path.into(), source },
        }
    }
}
