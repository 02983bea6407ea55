//! The depot: the file server of operating systems. Signed manifests, and blobs known by their
//! digest, in a folder that is served over HTTP with ranges.
//!
//! ```text
//! DIR/manifests/<name>@<version>.json   a signed manifest
//! DIR/blobs/sha256/<hex>                immutable bytes
//! DIR/keys/image-signing.key            never served
//! ```
//!
//! What is not here: who may boot what. The market's catalogue decides that, and a host checks
//! every byte itself.

mod disk;
mod error;
mod folder;
mod key;
mod recipe;
mod server;
mod verified;

pub use disk::format_of;
pub use error::DepotError;
pub use folder::{Added, Depot, Finding, Step};
pub use recipe::{BootFiles, Minimum, Recipe};
pub use server::{DEFAULT_ADDRESS, Server, serve};
