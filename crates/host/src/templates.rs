//! Templates: machines that booted once, were stopped before anybody used them, and from which
//! partitions start within moments instead of booting.
//!
//! ```text
//!            a lease boots cold            room that nobody holds         digest noted
//!  (nothing) ------------------> in demand ----------------------> made ---------------> kept
//!                                    ^  |  the room is wanted, or it fails               |  |
//!                                    |  +--> given up, tried again <---------------------+  |
//!                                    +------ thrown out: damaged, or least lately used -----+
//! ```
//!
//! No data of a tenant can be in one, by construction: what makes them ([`crate::agent`]) knows an
//! image and a shape, no lease; the machine has an own user and never an identity, without which
//! the guest runs nothing; a guest that has one refuses to become a template; and QEMU can write
//! its memory to no file but where it was started for that.

pub mod decide;
mod shelf;

pub use shelf::{Shelf, ShelfError, Taken};

use crate::qemu::command_line;
use crate::vmm::Accelerator;
use serde::{Deserialize, Serialize};
use sublet_model::identity::Sha256Digest;
use sublet_model::image::{Boot, ImageManifest};
use sublet_model::partition::Allocation;
use sublet_model::units::MiB;

/// How many bytes of templates are kept unless told otherwise: 4 GiB.
pub const DEFAULT_LIMIT_BYTES: u64 = 4 << 30;
/// Rises when templates made before can't be used any more, for a reason that no other field shows.
const FORMAT: u32 = 1;

/// What a template is good for: machines that are equal in all of this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    format: u32,
    /// What boots.
    boot: Boot,
    /// The image's own part of the kernel's command line.
    command_line: String,
    /// The name of the guest program's port.
    guest_channel: String,
    /// Hardware threads the guest sees.
    pub vcpus: u16,
    /// The guest's memory.
    pub memory: MiB,
    accelerator: Accelerator,
    /// The machine, in the monitor's words.
    machine: String,
    /// The monitor, and the processor it runs on.
    host: String,
}

/// The name of a shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// From a folder's name; none if it is not one of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let plain = name.len() == 32 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        plain.then(|| Self(name.to_owned()))
    }

    /// As a folder's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0[..12])
    }
}

impl Shape {
    /// What a partition with this image and this allocation is, on a `host` that says what its
    /// monitor and processor are.
    pub fn of(image: &ImageManifest, has: &Allocation, accelerator: Accelerator, host: &str) -> Self {
        Self {
            format: FORMAT,
            boot: image.boot.clone(),
            command_line: image.command_line.clone(),
            guest_channel: image.guest_channel.clone(),
            vcpus: has.vcpus,
            memory: has.resources.memory,
            accelerator,
            machine: command_line::fingerprint(accelerator),
            host: host.to_owned(),
        }
    }

    /// Its name.
    pub fn key(&self) -> Key {
        let text = serde_json::to_vec(self).unwrap_or_default();
        Key(Sha256Digest::of(&text).to_string()[..32].to_owned())
    }
}

#[cfg(test)]
mod tests;
