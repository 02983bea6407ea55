//! The folder of templates: one folder each, named by its shape. A template is whole, or is not
//! there: it is made beside the others and moved in place once its digest was noted.
//!
//! A file is read through once by each agent before it is used, and again whenever it changed: a
//! flipped byte of a template would be every clone's.

use super::decide::{Kept, evict};
use super::{Key, Shape};
use crate::vmm::TemplateFiles;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, FileTimes, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use sublet_model::identity::Sha256Digest;

/// What tells that a file is still the one that was read through.
type Print = (u64, u64, i64, i64, i64, i64);

const NOTE: &str = "template.json";
const MAKING: &str = "making";
/// A note is short.
const MAX_NOTE_BYTES: u64 = 64 * 1024;

/// Why a template can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The disk.
    #[error("failed to {attempt} {path}: {source}")]
    Disk {
        /// What was tried.
        attempt: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is not what was made.
    #[error("the template is damaged: {0}; it is made anew")]
    Damaged(String),
}

/// What is noted beside a template's files.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    shape: Shape,
    memory_sha256: Sha256Digest,
    devices_sha256: Sha256Digest,
}

#[derive(Debug, Default)]
struct Inner {
    /// Of each template: its files as they were when they were read through.
    verified: BTreeMap<Key, [Print; 2]>,
    /// How many are about to start from each.
    taken: BTreeMap<Key, u32>,
}

/// The folder of templates.
#[derive(Debug, Clone)]
pub struct Shelf {
    dir: PathBuf,
    inner: Arc<Mutex<Inner>>,
}

/// A template that somebody is about to start from: until dropped it is not thrown out.
#[derive(Debug)]
pub struct Taken {
    /// Which one.
    pub key: Key,
    /// What it is made of.
    pub files: TemplateFiles,
    inner: Arc<Mutex<Inner>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inner.taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                inner.taken.remove(&self.key);
            }
        }
    }
}

impl Shelf {
    /// The shelf in `dir`. What an earlier agent left half made is removed.
    pub fn open(dir: &Path) -> Result<Self, ShelfError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(disk("make", dir))?;
        // Whatever an earlier one was: its files can be read by anybody who finds them.
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(disk("close", dir))?;
        let shelf = Self { dir: dir.to_owned(), inner: Arc::default() };
        for entry in fs::read_dir(dir).map_err(disk("list", dir))?.flatten() {
            let whole = entry.file_name().to_str().and_then(Key::parse).is_some_and(|key| shelf.note(&key).is_ok());
            if !whole {
                remove(&entry.path())?;
            }
        }
        Ok(shelf)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, key: &Key) -> PathBuf {
        self.dir.join(key.as_str())
    }

    fn files_in(folder: &Path) -> TemplateFiles {
        TemplateFiles { memory: folder.join("memory"), devices: folder.join("devices") }
    }

    fn note(&self, key: &Key) -> io::Result<Note> {
        let mut text = String::new();
        File::open(self.folder(key).join(NOTE))?.take(MAX_NOTE_BYTES).read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Every template there is. `running` are those that machines run from.
    pub fn kept(&self, running: &[Key]) -> Vec<Kept> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let keys = entries.filter_map(|entry| Key::parse(entry.file_name().to_str()?));
        let inner = self.inner();
        keys.map(|key| {
            let files = Self::files_in(&self.folder(&key));
            let bytes = [&files.memory, &files.devices].map(|path| fs::metadata(path).map_or(0, |m| m.blocks() * 512));
            let used = fs::metadata(self.folder(&key).join(NOTE)).and_then(|meta| meta.accessed());
            let used = used.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            let in_use = running.contains(&key) || inner.taken.contains_key(&key);
            Kept { bytes: bytes.iter().sum(), used: used.as_nanos() as u64, in_use, key }
        })
        .collect()
    }

    /// The template of which a file was handed to a machine.
    pub fn key_of(&self, path: &Path) -> Option<Key> {
        Key::parse(path.strip_prefix(&self.dir).ok()?.parent()?.to_str()?)
    }

    /// A template to start from, read through unless that was done and its files are unchanged;
    /// none if there is no such one.
    pub async fn take(&self, shape: &Shape) -> Result<Option<Taken>, ShelfError> {
        let key = shape.key();
        let Ok(note) = self.note(&key) else { return Ok(None) };
        let folder = self.folder(&key);
        *self.inner().taken.entry(key.clone()).or_default() += 1;
        let taken = Taken { key, files: Self::files_in(&folder), inner: Arc::clone(&self.inner) };
        // Used now: the last to be thrown out.
        let used = FileTimes::new().set_accessed(SystemTime::now());
        let _ = File::open(folder.join(NOTE)).and_then(|file| file.set_times(used));
        let known = self.inner().verified.get(&taken.key).copied();
        if known.is_some() && known == prints(&taken.files).ok() {
            return Ok(Some(taken));
        }
        let (files, expected) = (taken.files.clone(), [note.memory_sha256, note.devices_sha256]);
        let same = note.shape == *shape;
        let read = tokio::task::spawn_blocking(move || verify(&files, expected)).await;
        match read.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(prints) if same => {
                self.inner().verified.insert(taken.key.clone(), prints);
                Ok(Some(taken))
            }
            Ok(_) => Err(self.damaged(taken, "it is of another machine".into())),
            Err(why) => Err(self.damaged(taken, why)),
        }
    }

    fn damaged(&self, taken: Taken, why: String) -> ShelfError {
        if let Err(error) = self.throw_out(&taken.key) {
            tracing::error!(key = %taken.key, %error, "a damaged template can't be removed");
        }
        ShelfError::Damaged(why)
    }

    /// Removes one. A machine that runs from it has it open: its bytes stay until it ends.
    pub fn throw_out(&self, key: &Key) -> Result<(), ShelfError> {
        self.inner().verified.remove(key);
        remove(&self.folder(key))
    }

    /// Throws out what has to go so that `bytes` more fit; false if they can't be made to fit.
    pub fn make_room(&self, bytes: u64, limit_bytes: u64, running: &[Key]) -> Result<bool, ShelfError> {
        let Some(out) = evict(&self.kept(running), bytes, limit_bytes) else { return Ok(false) };
        for key in out {
            tracing::info!(%key, "the template least lately used is thrown out");
            self.throw_out(&key)?;
        }
        Ok(true)
    }

    /// Empty files for a template, which only `uid` can write.
    pub fn begin(&self, memory_bytes: u64, uid: u32, gid: u32) -> Result<TemplateFiles, ShelfError> {
        self.give_up()?;
        let folder = self.dir.join(MAKING);
        DirBuilder::new().mode(0o700).create(&folder).map_err(disk("make", &folder))?;
        let files = Self::files_in(&folder);
        for (path, bytes) in [(&files.memory, memory_bytes), (&files.devices, 0)] {
            let file = File::create_new(path).map_err(disk("make", path))?;
            let made = file.set_len(bytes).and_then(|()| file.set_permissions(Permissions::from_mode(0o600)));
            made.map_err(disk("make", path))?;
            if rustix::process::geteuid().is_root() {
                chown(path, Some(uid), Some(gid)).map_err(disk("give away", path))?;
            }
        }
        Ok(files)
    }

    /// Puts a template that was made in its place: from now on nobody can write it, and partitions
    /// of any user can read what they are handed of it.
    pub async fn finish(&self, shape: &Shape) -> Result<Key, ShelfError> {
        let (key, making) = (shape.key(), self.dir.join(MAKING));
        let files = Self::files_in(&making);
        for path in [&files.memory, &files.devices] {
            if rustix::process::geteuid().is_root() {
                chown(path, Some(0), Some(0)).map_err(disk("take back", path))?;
            }
            fs::set_permissions(path, Permissions::from_mode(0o444)).map_err(disk("seal", path))?;
        }
        let reading = files.clone();
        let read = tokio::task::spawn_blocking(move || {
            Ok::<_, io::Error>([digest_of(&reading.memory)?, digest_of(&reading.devices)?])
        });
        let read = read.await.map_err(|panic| io::Error::other(panic.to_string())).and_then(|read| read);
        let [memory_sha256, devices_sha256] = read.map_err(disk("read", &making))?;
        let note = Note { shape: shape.clone(), memory_sha256, devices_sha256 };
        let text = serde_json::to_vec(&note).map_err(io::Error::from);
        let noted = text.and_then(|text| fs::write(making.join(NOTE), text));
        noted.map_err(disk("note", &making))?;
        let folder = self.folder(&key);
        remove(&folder)?;
        fs::rename(&making, &folder).map_err(disk("keep", &folder))?;
        let kept = prints(&Self::files_in(&folder)).map_err(disk("look at", &folder))?;
        self.inner().verified.insert(key.clone(), kept);
        Ok(key)
    }

    /// Removes what is half made.
    pub fn give_up(&self) -> Result<(), ShelfError> {
        remove(&self.dir.join(MAKING))
    }
}

fn verify(files: &TemplateFiles, expected: [Sha256Digest; 2]) -> Result<[Print; 2], String> {
    // Looked at before it is read: what changes meanwhile is read again the next time.
    let before = prints(files).map_err(|error| error.to_string())?;
    for (path, expected) in [&files.memory, &files.devices].into_iter().zip(expected) {
        let name = path.file_name().unwrap_or_default().display();
        match digest_of(path) {
            Ok(digest) if digest == expected => {}
            Ok(_) => return Err(format!("the digest of its {name} is wrong")),
            Err(error) => return Err(format!("its {name} can't be read: {error}")),
        }
    }
    Ok(before)
}

fn prints(files: &TemplateFiles) -> io::Result<[Print; 2]> {
    let print = |path: &Path| -> io::Result<Print> {
        let meta = fs::metadata(path)?;
        Ok((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
    };
    Ok([print(&files.memory)?, print(&files.devices)?])
}

fn digest_of(path: &Path) -> io::Result<Sha256Digest> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256Digest(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn remove(folder: &Path) -> Result<(), ShelfError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn disk<'a>(attempt: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ShelfError + 'a {
    move |source| ShelfError::Disk { attempt, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
