//! The scratch disk of a lease: a file as large as was agreed, with an empty file system on it,
//! encrypted under a key that is made here and handed to the monitor alone.
//!
//! ```text
//!  mkfs, sparse --> what it wrote is encrypted --> the file --> QEMU (luks) --> virtio-blk, /scratch
//!  random secret --------------+----------------- memory only ---+
//! ```
//!
//! The secret stands in no file: with the monitor's end nobody has it any more, so whatever is left of
//! the file on the owner's disk says nothing. All of its room is taken at the start: what was agreed is
//! there even where the owner's disk runs full, and no lease takes more.

pub mod luks;

use luks::{Master, NoRandomness, PAYLOAD_BYTES, SECTOR};
use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom, fallocate, memfd_create, seek};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use sublet_model::units::GiB;
use zeroize::Zeroizing;

/// In a partition's run directory.
pub const FILE: &str = "scratch";

/// Makes the file system; part of every distribution.
const MKFS: [&str; 2] = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"];
/// Encrypted at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Why there is no scratch disk.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// More was lent than there is.
    #[error("this computer's disk has no room for a scratch disk of {0}: lend less, or make room")]
    NoRoom(GiB),
    /// No program for it.
    #[error("there is no mkfs.ext4 on this computer: install e2fsprogs")]
    NoMkfs,
    /// It did not do it.
    #[error("mkfs.ext4 failed to make a file system of {0}: {1}")]
    Mkfs(GiB, String),
    /// No key.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// A file.
    #[error("failed to {0} a scratch disk: {1}")]
    File(&'static str, io::Error),
}

fn file(attempt: &'static str) -> impl Fn(io::Error) -> ScratchError {
    move |error| ScratchError::File(attempt, error)
}

/// What opens the disks of one life, and is kept nowhere.
pub struct Secret(Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one.
    pub fn random() -> Result<Self, ScratchError> {
        let bytes = Zeroizing::new(sublet_wire::random_bytes::<32>());
        // As text, for the monitor takes nothing else.
        Ok(Self(Zeroizing::new(data_encoding::HEXLOWER.encode(bytes.as_slice()))))
    }

    /// A file in memory to be handed to whoever may read it.
    pub fn hand_over(&self) -> io::Result<OwnedFd> {
        let handed = memfd_create("sublet-scratch", MemfdFlags::CLOEXEC)?;
        let mut written = File::from(handed);
        written.write_all(self.0.as_bytes())?;
        seek(&written, SeekFrom::Start(0))?;
        Ok(written.into())
    }
}

/// How large the file of a disk is.
pub fn file_bytes(size: GiB) -> u64 {
    PAYLOAD_BYTES + size.0.max(0).unsigned_abs() * (1 << 30)
}

/// Makes the file, in place of any that was there. Blocks for a fraction of a second.
pub fn make(path: &Path, size: GiB, secret: &Secret) -> Result<(), ScratchError> {
    let plain = path.with_extension("new");
    let made = empty_file_system(&plain, size).and_then(|from| {
        let to = new_file(path)?;
        take_room(&to, size)?;
        encrypt(&from, &to, secret)
    });
    let _ = std::fs::remove_file(&plain);
    if made.is_err() {
        let _ = std::fs::remove_file(path);
    }
    made
}

/// An empty file, in place of any that was there.
pub fn new_file(path: &Path) -> Result<File, ScratchError> {
    let _ = std::fs::remove_file(path);
    let options = File::options().read(true).write(true).create_new(true).mode(0o600).to_owned();
    options.open(path).map_err(file("make"))
}

/// An empty file system in a sparse file: but for what describes it nothing of it is written.
fn empty_file_system(path: &Path, size: GiB) -> Result<File, ScratchError> {
    let plain = new_file(path)?;
    plain.set_len(file_bytes(size) - PAYLOAD_BYTES).map_err(file("make"))?;
    let mkfs = MKFS.into_iter().find(|mkfs| Path::new(mkfs).exists()).ok_or(ScratchError::NoMkfs)?;
    let mut command = Command::new(mkfs);
    // What is not written is not zero once it is encrypted: nothing may rely on it. It is scratch, so
    // no journal; and it is never grown.
    command.args(["-q", "-F", "-m", "0", "-L", FILE, "-O", "^has_journal,^resize_inode,metadata_csum"]);
    command.args(["-E", "nodiscard,lazy_itable_init=1"]).arg(path);
    let out = command.env_clear().stdin(Stdio::null()).output().map_err(file("run mkfs.ext4 for"))?;
    if out.status.success() {
        return Ok(plain);
    }
    let words = String::from_utf8_lossy(&out.stderr).chars().filter(|c| !c.is_control()).take(400).collect();
    Err(ScratchError::Mkfs(size, words))
}

/// Writes what a sparse file holds to another, encrypted, behind a header that `secret` opens.
pub fn encrypt(from: &File, to: &File, secret: &Secret) -> Result<(), ScratchError> {
    let master = Master::random()?;
    let header = master.header(secret.0.as_bytes(), uuid::Uuid::now_v7())?;
    to.write_all_at(&header, 0).map_err(file("write"))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    for (start, end) in written(from).map_err(file("read"))? {
        let mut at = start;
        while at < end {
            let count = (end - at).min(CHUNK_BYTES as u64) as usize;
            let part = &mut chunk[..count];
            from.read_exact_at(part, at).map_err(file("read"))?;
            master.encrypt(at / SECTOR as u64, part);
            to.write_all_at(part, PAYLOAD_BYTES + at).map_err(file("write"))?;
            at += count as u64;
        }
    }
    Ok(())
}

/// All of it, at once: later it can't be missing.
fn take_room(file_: &File, size: GiB) -> Result<(), ScratchError> {
    match fallocate(file_, FallocateFlags::empty(), 0, file_bytes(size)) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::FBIG) => {
            Err(ScratchError::NoRoom(size))
        }
        // A file system that can't: then it is as large, and its room is taken as it is written.
        Err(rustix::io::Errno::OPNOTSUPP) => file_.set_len(file_bytes(size)).map_err(file("make")),
        Err(errno) => Err(ScratchError::File("make room for", errno.into())),
    }
}

/// Where something was written to a sparse file: from, to. Both are whole sectors.
fn written(sparse: &File) -> io::Result<Vec<(u64, u64)>> {
    let length = sparse.metadata()?.len();
    let mut parts = Vec::new();
    let mut at = 0;
    while at < length {
        let start = match seek(sparse, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(sparse, SeekFrom::Hole(start))?;
        let sector = SECTOR as u64;
        parts.push((start / sector * sector, end.next_multiple_of(sector).min(length)));
        at = end;
    }
    Ok(parts)
}

/// What the scratch disks below a state directory take of its file system. It is lent already, so it
/// does not count as gone.
pub fn taken(state: &Path) -> GiB {
    let runs = std::fs::read_dir(state.join("run")).into_iter().flatten().flatten();
    let file = |run: PathBuf| std::fs::metadata(run.join(FILE)).map_or(0, |meta| meta.blocks());
    GiB(((runs.map(|run| file(run.path())).sum::<u64>() * 512) >> 30) as i64)
}

#[cfg(test)]
mod tests;
