//! The disks of a machine whose image boots by a boot loader of its own.
//!
//! ```text
//!  the image's disk, of the cache, read-only <-- overlay of this life, encrypted --> first disk
//!  user-data, meta-data, the guest program --> seed of this life, read-only -------> second disk
//! ```
//!
//! The overlay names no other file: which disk it lies over, and in which format, QEMU is told with
//! both already open. It is encrypted under the secret of the life, as a scratch disk is, for a guest
//! writes there what it likes; it takes room as it is written to, and never more than its disk.

mod seed;

use crate::scratch::luks::PAYLOAD_BYTES;
use crate::scratch::{self, ScratchError, Secret};
use crate::vmm::MachineSpec;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use sublet_model::image::DiskFormat;
use sublet_model::image::disk::{self, BadDisk, HEAD_BYTES};

/// In a partition's run directory: what the guest changed of its disk.
pub const OVERLAY: &str = "overlay";
/// In a partition's run directory: what cloud-init reads.
pub const SEED: &str = "seed";

/// An overlay's tables are written in these.
const CLUSTER_BYTES: u64 = 64 << 10;

/// Why there is no system disk.
#[derive(Debug, thiserror::Error)]
pub enum SystemDiskError {
    /// The image's.
    #[error("the image's disk is not booted: {0}")]
    Bad(#[from] BadDisk),
    /// The overlay could not be encrypted.
    #[error("failed to make the overlay of a disk: {0}")]
    Encrypt(#[from] ScratchError),
    /// The tool failed.
    #[error("qemu-img failed to make the overlay of a disk: {0}")]
    QemuImg(String),
    /// A file.
    #[error("failed to {0}: {1}")]
    File(&'static str, io::Error),
}

fn file(attempt: &'static str) -> impl Fn(io::Error) -> SystemDiskError {
    move |error| SystemDiskError::File(attempt, error)
}

/// How large an image's disk is for its guest. Its bytes are known to be those that were signed;
/// whether they may be booted is decided here again, for a depot may sign anything.
pub fn disk_bytes(path: &Path, format: DiskFormat) -> Result<u64, SystemDiskError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let opened = File::open(path).map_err(file("open the image's disk"))?;
    let file_bytes = opened.metadata().map_err(file("look at the image's disk"))?.len();
    opened.take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(file("read the image's disk"))?;
    Ok(disk::disk_bytes(format, &head, file_bytes)?)
}

/// The most bytes of an overlay: all of its disk, the tables that say where what is, the header.
pub fn overlay_bytes(disk_bytes: u64) -> u64 {
    PAYLOAD_BYTES + (disk_bytes + disk_bytes / 4096).next_multiple_of(CLUSTER_BYTES) + 64 * CLUSTER_BYTES
}

/// Makes overlay and seed of a life in its run directory. Blocks for a fraction of a second.
pub fn make(
    spec: &MachineSpec,
    image: (&Path, DiskFormat),
    guest: &Path,
    qemu_img: &Path,
    secret: &Secret,
) -> Result<(), SystemDiskError> {
    let bytes = disk_bytes(image.0, image.1)?;
    overlay(&spec.run_dir.join(OVERLAY), bytes, qemu_img, secret)?;
    seed::write(&spec.run_dir.join(SEED), guest, spec.uuid).map_err(file("write the seed of a disk"))
}

fn overlay(path: &Path, disk_bytes: u64, qemu_img: &Path, secret: &Secret) -> Result<(), SystemDiskError> {
    let plain = path.with_extension("new");
    let made = empty_overlay(&plain, disk_bytes, qemu_img).and_then(|from| {
        let to = scratch::new_file(path)?;
        to.set_len(overlay_bytes(disk_bytes)).map_err(file("make room for an overlay"))?;
        Ok(scratch::encrypt(&from, &to, secret)?)
    });
    let _ = std::fs::remove_file(&plain);
    made
}

/// A qcow2 file that holds nothing yet: its tables only.
fn empty_overlay(path: &Path, disk_bytes: u64, qemu_img: &Path) -> Result<File, SystemDiskError> {
    let opened = scratch::new_file(path)?;
    let mut command = Command::new(qemu_img);
    command.args(["create", "-q", "-f", "qcow2", "-o", &format!("cluster_size={CLUSTER_BYTES}")]);
    command.arg(path).arg(disk_bytes.to_string());
    let out = command.env_clear().stdin(Stdio::null()).output();
    let out = out.map_err(|error| SystemDiskError::QemuImg(format!("{}: {error}", qemu_img.display())))?;
    if !out.status.success() {
        let words = String::from_utf8_lossy(&out.stderr).chars().filter(|c| !c.is_control()).take(400).collect();
        return Err(SystemDiskError::QemuImg(words));
    }
    // What is encrypted is whole sectors.
    let length = opened.metadata().map_err(file("look at an overlay"))?.len();
    opened.set_len(length.next_multiple_of(CLUSTER_BYTES)).map_err(file("make an overlay"))?;
    Ok(opened)
}

#[cfg(test)]
mod tests;
