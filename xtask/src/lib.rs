//! Chores of the repository.

use std::path::PathBuf;

pub mod tidy;

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
