//! One blob from the depot to a file, digested on the way, continued where it broke off.

use super::ImageError;
use super::cache::disk;
use sha2::{Digest, Sha256};
use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use sublet_model::identity::Sha256Digest;
use sublet_model::image::Blob;
use sublet_wire::client::Client;

/// How often a transfer that broke off is continued, unless it made progress.
const TRIES: u32 = 4;
/// A transfer that gives no byte for so long has broken off.
const STALLED_AFTER: Duration = Duration::from_secs(20);
/// Pause before the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// A blob on its way.
pub struct Part<'a> {
    /// Where it grows.
    pub path: &'a Path,
    /// Kernel, initrd or root.
    pub what: &'static str,
    /// Which blob.
    pub blob: &'a Blob,
    /// From where.
    pub depot: &'a str,
    /// How many bytes are here.
    pub done: &'a AtomicU64,
}

struct Growing {
    file: File,
    hasher: Sha256,
    bytes: u64,
}

/// Why a try ended.
enum Break {
    /// It may be continued.
    Off(String),
    /// It may not.
    Error(ImageError),
}

/// Fetches the blob into its file. Wrong bytes are removed.
pub async fn download(part: &Part<'_>) -> Result<(), ImageError> {
    let client = Client::new(part.depot, None, None).map_err(ImageError::Depot)?;
    let mut growing = Growing::resume(part)?;
    // What an earlier agent left may have gone bad on the disk: that is not the depot's fault.
    let mut doubtful = growing.bytes > 0;
    let (mut tries, mut reached) = (0, growing.bytes);
    loop {
        part.done.store(growing.bytes, Ordering::Relaxed);
        match growing.receive(&client, part).await {
            Ok(()) if doubtful && !growing.is_right(part) => {
                growing.restart(part)?;
                (doubtful, reached) = (false, 0);
            }
            Ok(()) => return growing.finish(part),
            Err(Break::Error(error)) => {
                let _ = std::fs::remove_file(part.path);
                return Err(error);
            }
            Err(Break::Off(reason)) => {
                tries = if growing.bytes > reached { 1 } else { tries + 1 };
                reached = growing.bytes;
                if tries >= TRIES {
                    let (what, digest, depot) = (part.what, part.blob.sha256, part.depot.to_owned());
                    return Err(ImageError::Fetch { what, digest, depot, reason });
                }
                tracing::debug!(what = part.what, from = growing.bytes, %reason, "continuing a transfer");
                tokio::time::sleep(PAUSE * tries).await;
            }
        }
    }
}

impl Growing {
    /// Continues what an earlier try left, if it is not too long.
    fn resume(part: &Part<'_>) -> Result<Self, ImageError> {
        // Whoever runs a partition reads it by another user; its directory is entered by the owner only.
        let mut options = File::options();
        let file = options.create(true).read(true).write(true).truncate(false).open(part.path);
        let file = file.and_then(|f| f.set_permissions(Permissions::from_mode(0o644)).map(|()| f));
        let mut growing = Self { file: file.map_err(disk("open", part.path))?, hasher: Sha256::new(), bytes: 0 };
        let mut buffer = vec![0; 1 << 20];
        loop {
            match growing.file.read(&mut buffer).map_err(disk("read", part.path))? {
                0 => break,
                count => {
                    growing.hasher.update(&buffer[..count]);
                    growing.bytes += count as u64;
                }
            }
        }
        if growing.bytes > part.blob.bytes {
            growing.restart(part)?;
        }
        Ok(growing)
    }

    fn restart(&mut self, part: &Part<'_>) -> Result<(), ImageError> {
        self.file.set_len(0).map_err(disk("empty", part.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(disk("rewind", part.path))?;
        (self.hasher, self.bytes) = (Sha256::new(), 0);
        Ok(())
    }

    async fn receive(&mut self, client: &Client, part: &Part<'_>) -> Result<(), Break> {
        if self.bytes == part.blob.bytes {
            return Ok(());
        }
        let path = format!("/v1/blobs/sha256/{}", part.blob.sha256);
        let asked = tokio::time::timeout(STALLED_AFTER, client.fetch(&path, self.bytes)).await;
        let mut response = asked.map_err(|_| stalled())?.map_err(|e| Break::Off(e.to_string()))?;
        if self.bytes > 0 && response.status().as_u16() != 206 {
            // A server that does not know ranges begins anew.
            self.restart(part).map_err(Break::Error)?;
        }
        loop {
            let chunk = tokio::time::timeout(STALLED_AFTER, response.chunk()).await.map_err(|_| stalled())?;
            match chunk.map_err(|e| Break::Off(e.to_string()))? {
                Some(bytes) => self.take(&bytes, part).map_err(Break::Error)?,
                None if self.bytes < part.blob.bytes => {
                    return Err(Break::Off(format!("it ended after {} of {} bytes", self.bytes, part.blob.bytes)));
                }
                None => return Ok(()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], part: &Part<'_>) -> Result<(), ImageError> {
        if self.bytes + bytes.len() as u64 > part.blob.bytes {
            let (what, bytes, depot) = (part.what, part.blob.bytes, part.depot.to_owned());
            return Err(ImageError::TooLong { what, bytes, depot });
        }
        self.file.write_all(bytes).map_err(disk("write", part.path))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        part.done.store(self.bytes, Ordering::Relaxed);
        Ok(())
    }

    fn digest(&self) -> Sha256Digest {
        Sha256Digest(self.hasher.clone().finalize().into())
    }

    fn is_right(&self, part: &Part<'_>) -> bool {
        self.digest() == part.blob.sha256
    }

    fn finish(self, part: &Part<'_>) -> Result<(), ImageError> {
        let got = self.digest();
        if got == part.blob.sha256 {
            // Not synced: an agent that starts after a power cut reads everything through again.
            return Ok(());
        }
        part.done.store(0, Ordering::Relaxed);
        std::fs::remove_file(part.path).map_err(disk("remove", part.path))?;
        Err(ImageError::WrongDigest { what: part.what, digest: part.blob.sha256, got, depot: part.depot.to_owned() })
    }
}

fn stalled() -> Break {
    Break::Off(format!("no byte came for {} seconds", STALLED_AFTER.as_secs()))
}
