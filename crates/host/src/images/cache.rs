//! The folder of blobs.

use super::ImageError;
use super::download::{self, Part};
use crate::vmm::BootFiles;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use sublet_model::identity::Sha256Digest;
use sublet_model::image::{Blob, Boot, Firmware};

/// How many bytes of blobs are kept unless told otherwise: 20 GiB.
pub const DEFAULT_LIMIT_BYTES: u64 = 20 << 30;

/// What tells that a file is still the one that was read through.
type Print = (u64, u64, i64, i64, i64, i64);

fn print_of(meta: &fs::Metadata) -> Print {
    (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
}

/// One blob while somebody wants it: fetched once, however many wait.
#[derive(Debug, Default)]
struct Entry {
    turn: tokio::sync::Mutex<Option<Print>>,
    done: AtomicU64,
}

/// The folder of blobs.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    limit_bytes: u64,
    entries: Mutex<BTreeMap<Sha256Digest, Arc<Entry>>>,
    /// By whose name what is not thrown out.
    kept: Mutex<BTreeMap<String, BTreeSet<Sha256Digest>>>,
}

impl Cache {
    /// The cache in `dir`, which is made if need be.
    pub fn open(dir: &Path, limit_bytes: u64) -> Result<Self, ImageError> {
        let cache = Self { dir: dir.to_owned(), limit_bytes, entries: Mutex::default(), kept: Mutex::default() };
        for below in ["sha256", "part"] {
            let path = dir.join(below);
            fs::create_dir_all(&path).map_err(disk("make", &path))?;
        }
        Ok(cache)
    }

    /// Has the blobs of an image kept once they are here, whatever else needs room; none: no more.
    pub fn keep(&self, whose: &str, boot: Option<&Boot>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match boot {
            Some(boot) => {
                kept.insert(whose.to_owned(), boot.blobs().into_iter().map(|(_, blob)| blob.sha256).collect());
            }
            None => drop(kept.remove(whose)),
        }
    }

    fn is_kept(&self, digest: Sha256Digest) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.values().any(|digests| digests.contains(&digest))
    }

    /// Where a blob lies once it is verified.
    pub fn path(&self, digest: Sha256Digest) -> PathBuf {
        self.dir.join("sha256").join(digest.to_string())
    }

    /// How many bytes of these blobs are verified.
    pub fn done(&self, boot: &Boot) -> u64 {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let done =
            |blob: &Blob| entries.get(&blob.sha256).map_or(0, |e| e.done.load(Ordering::Relaxed)).min(blob.bytes);
        boot.blobs().into_iter().map(|(_, blob)| done(blob)).sum()
    }

    /// Has every blob of an image here, verified; fetches what is missing.
    pub async fn fetch(&self, boot: &Boot, depot: &str) -> Result<BootFiles, ImageError> {
        let blobs = boot.blobs();
        let needed = blobs.iter().map(|(_, b)| b.bytes).fold(0, u64::saturating_add);
        if needed > self.limit_bytes {
            return Err(ImageError::TooLarge { bytes: needed, limit: self.limit_bytes });
        }
        let digests: Vec<Sha256Digest> = blobs.iter().map(|(_, b)| b.sha256).collect();
        for (what, blob) in &blobs {
            self.have(what, blob, depot, &digests).await?;
        }
        let path = |blob: &Blob| self.path(blob.sha256);
        Ok(match boot {
            Boot::Direct { kernel, initrd, root } => BootFiles::Direct {
                kernel: path(kernel),
                initrd: initrd.as_ref().map(path),
                root: root.as_ref().map(path),
            },
            Boot::Disk { firmware: Firmware::Bios, format, disk, guest } => {
                BootFiles::Disk { format: *format, disk: path(disk), guest: path(guest) }
            }
        })
    }

    /// Reads through what is here already, so that the first start need not wait for it.
    pub async fn read_ahead(&self) {
        let found = fs::read_dir(self.dir.join("sha256")).into_iter().flatten().flatten();
        let found: Vec<(Sha256Digest, u64)> = found
            .filter_map(|file| Some((file.file_name().to_str()?.parse().ok()?, file.metadata().ok()?.len())))
            .collect();
        for (sha256, bytes) in found {
            let entry = self.entry(sha256);
            let mut verified = entry.turn.lock().await;
            if let Ok(Some(print)) = self.look(&Blob { sha256, bytes }, *verified).await {
                *verified = Some(print);
            }
        }
    }

    fn entry(&self, digest: Sha256Digest) -> Arc<Entry> {
        Arc::clone(self.entries.lock().unwrap_or_else(PoisonError::into_inner).entry(digest).or_default())
    }

    async fn have(
        &self,
        what: &'static str,
        blob: &Blob,
        depot: &str,
        wanted: &[Sha256Digest],
    ) -> Result<(), ImageError> {
        let entry = self.entry(blob.sha256);
        let mut verified = entry.turn.lock().await;
        let path = self.path(blob.sha256);
        if let Some(print) = self.look(blob, *verified).await? {
            *verified = Some(print);
            entry.done.store(blob.bytes, Ordering::Relaxed);
            return Ok(());
        }
        *verified = None;
        self.make_room(blob.bytes, wanted)?;
        let part = self.dir.join("part").join(blob.sha256.to_string());
        let part = Part { path: &part, what, blob, depot, done: &entry.done };
        download::download(&part).await?;
        fs::rename(part.path, &path).map_err(disk("keep", &path))?;
        let meta = fs::metadata(&path).map_err(disk("look at", &path))?;
        *verified = Some(print_of(&meta));
        Ok(())
    }

    /// Whether the blob is here; read through unless that was done and the file is unchanged.
    async fn look(&self, blob: &Blob, verified: Option<Print>) -> Result<Option<Print>, ImageError> {
        let path = self.path(blob.sha256);
        let Ok(mut file) = File::open(&path) else { return Ok(None) };
        // Used now: the last to be thrown out. Done before the look, for it changes the print.
        let _ = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
        let meta = file.metadata().map_err(disk("look at", &path))?;
        let without_ctime = |p: Print| (p.0, p.1, p.2, p.3);
        if verified.is_some_and(|v| without_ctime(v) == without_ctime(print_of(&meta))) {
            return Ok(Some(print_of(&meta)));
        }
        let (digest, bytes) = (blob.sha256, blob.bytes);
        let read = tokio::task::spawn_blocking(move || digest_of(&mut file)).await;
        let got = read.map_err(|e| std::io::Error::other(e.to_string())).and_then(|r| r);
        if meta.size() == bytes && got.as_ref().is_ok_and(|got| *got == digest) {
            return Ok(Some(print_of(&meta)));
        }
        tracing::warn!(%digest, "a blob of the cache is damaged; it is thrown out and fetched again");
        fs::remove_file(&path).map_err(disk("remove", &path))?;
        Ok(None)
    }

    /// Throws out what was not used for longest, until `bytes` more fit; nothing of `wanted`, and
    /// nothing that somebody waits for.
    fn make_room(&self, bytes: u64, wanted: &[Sha256Digest]) -> Result<(), ImageError> {
        let dir = self.dir.join("sha256");
        let mut files = Vec::new();
        for file in fs::read_dir(&dir).map_err(disk("list", &dir))? {
            let file = file.map_err(disk("list", &dir))?;
            let meta = file.metadata().map_err(disk("look at", &file.path()))?;
            files.push((meta.accessed().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), file.path()));
        }
        files.sort();
        let mut sum: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if sum.saturating_add(bytes) <= self.limit_bytes {
                break;
            }
            let digest = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let busy = digest.is_some_and(|d| {
                let waited_for = entries.get(&d).is_some_and(|e| e.turn.try_lock().is_err());
                waited_for || wanted.contains(&d) || self.is_kept(d)
            });
            if !busy {
                // A machine that runs from it has it open: its bytes stay until it ends.
                fs::remove_file(&path).map_err(disk("remove", &path))?;
                sum -= len;
            }
        }
        Ok(())
    }
}

pub(super) fn disk<'a>(attempt: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> ImageError + 'a {
    move |source| ImageError::Disk { attempt, path: path.to_owned(), source }
}

fn digest_of(file: &mut File) -> std::io::Result<Sha256Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256Digest(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}
