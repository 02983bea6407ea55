//! The depot as a folder: what is in it, how something comes in, whether it is still whole.

use crate::{DepotError, Recipe, key};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sublet_model::identity::{PublicKey, SecretKey, Sha256Digest, Signed};
use sublet_model::image::{Blob, ImageManifest};

const CHUNK_BYTES: usize = 1 << 20;
/// Manifests larger than this were not written by a depot.
const LARGEST_MANIFEST_BYTES: u64 = 64 << 10;
/// Before the name of a file that is not whole yet.
const UNFINISHED: &str = ".incoming-";

/// A folder of signed manifests and blobs.
#[derive(Debug, Clone)]
pub struct Depot {
    dir: PathBuf,
    key: SecretKey,
}

/// How far an addition or a verification is, for a progress bar.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// What is read, such as `kernel`.
    pub what: &'a str,
    /// Bytes of it that are done.
    pub done: u64,
    /// Bytes of it in all.
    pub total: u64,
}

/// What an addition did.
#[derive(Debug, Clone)]
pub struct Added {
    /// The manifest that stands in the depot now.
    pub signed: Signed<ImageManifest>,
    /// The same manifest, to be read.
    pub manifest: ImageManifest,
    /// Whether the very same image was there before.
    pub known: bool,
}

/// Something in the depot that is not as it should be, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which image, or which file.
    pub subject: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// A manifest file: what it says, or why it is not to be believed.
type Reading = Result<(Signed<ImageManifest>, ImageManifest), String>;

impl Depot {
    /// Opens a depot, or makes an empty one.
    pub fn create(dir: impl Into<PathBuf>) -> Result<Self, DepotError> {
        let dir = dir.into();
        for folder in [dir.join("manifests"), dir.join("blobs/sha256")] {
            fs::create_dir_all(&folder).map_err(DepotError::io("make", &folder))?;
        }
        let key = key::read_or_make(&dir)?;
        Ok(Self { dir, key })
    }

    /// Opens a depot that is there.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, DepotError> {
        let dir = dir.into();
        let key = key::read(&dir)?;
        Ok(Self { dir, key })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// With which key manifests are signed.
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// Where a blob lies, if it is there.
    pub fn blob_path(&self, digest: Sha256Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.to_string())
    }

    /// Takes a recipe's output in: copies each file by its digest, then signs what they make up.
    /// Until the manifest stands, nothing of it shows; the same output again changes nothing, and
    /// another output of the same version gets a version of its own.
    pub fn add(&self, output: &Path, progress: &mut dyn FnMut(Step<'_>)) -> Result<Added, DepotError> {
        let recipe = Recipe::read(output)?;
        self.sweep();
        for (role, file) in recipe.files() {
            if !output.join(file).is_file() {
                let recipe = Recipe::path_in(output);
                return Err(DepotError::MissingFile { recipe, file: file.into(), role });
            }
        }
        recipe.check_files(output)?;
        let mut blobs = BTreeMap::new();
        for (role, file) in recipe.files() {
            let source = output.join(file);
            blobs.insert(file.to_string(), self.take_in(&source, role, progress)?);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut manifest = recipe.manifest(|file| blobs[file].clone(), i64::try_from(now).unwrap_or(i64::MAX));
        let too_odd = |reason| DepotError::BadRecipe { path: Recipe::path_in(output), reason };
        manifest.check().map_err(too_odd)?;

        // A version never means two things: markets refuse that, and leases rely on it. What was
        // built again and differs becomes `12.11-1+2`, then `+3`.
        let version = manifest.version.clone();
        let mut path = self.manifest_path(&manifest);
        for attempt in 2.. {
            let Ok((signed, before)) = self.read_manifest(&path) else { break };
            // Keeping the older date keeps the digest, by which leases and catalogues know it.
            if (ImageManifest { created_at: before.created_at, ..manifest.clone() }) == before {
                return Ok(Added { signed, manifest: before, known: true });
            }
            manifest.created_at = manifest.created_at.max(before.created_at + 1);
            manifest.version = format!("{version}+{attempt}");
            path = self.manifest_path(&manifest);
        }
        let signed = Signed::sign(&manifest, &self.key)?;
        let text =
            serde_json::to_vec_pretty(&signed).map_err(|e| DepotError::io("write", &path)(std::io::Error::other(e)))?;
        self.write_whole(&path, |file| file.write_all(&text))?;
        Ok(Added { signed, manifest, known: false })
    }

    /// Every manifest that is readable and signed by this depot, by name and version. What is not
    /// is left out and logged.
    pub fn list(&self) -> Result<Vec<Signed<ImageManifest>>, DepotError> {
        Ok(self.manifests()?.into_iter().filter_map(|(_, found)| found.ok()).map(|(signed, _)| signed).collect())
    }

    /// Reads everything again and says what is not as it should be.
    pub fn verify(&self, progress: &mut dyn FnMut(Step<'_>)) -> Result<Vec<Finding>, DepotError> {
        let mut findings = Vec::new();
        let mut checked = BTreeMap::new();
        for (path, found) in self.manifests()? {
            let manifest = match found {
                Ok((_, manifest)) => manifest,
                Err(problem) => {
                    findings.push(Finding { subject: path.display().to_string(), problem });
                    continue;
                }
            };
            for (role, blob) in manifest.boot.blobs() {
                let what = format!("{} {role}", manifest.reference());
                let problem =
                    checked.entry(blob.sha256).or_insert_with(|| self.check_blob(blob, &what, progress).err());
                if let Some(problem) = problem {
                    findings.push(Finding { subject: what, problem: problem.clone() });
                }
            }
        }
        Ok(findings)
    }

    /// Whether a blob's bytes are what its name says.
    pub(crate) fn check_blob(&self, blob: &Blob, what: &str, progress: &mut dyn FnMut(Step<'_>)) -> Result<(), String> {
        let path = self.blob_path(blob.sha256);
        let advice = "build or add the image again";
        let mut file = File::open(&path).map_err(|e| format!("can't be read ({e}): {advice}"))?;
        let bytes = file.metadata().map_err(|e| format!("can't be read ({e}): {advice}"))?.len();
        if bytes != blob.bytes {
            return Err(format!("has {bytes} bytes, not {}: {advice}", blob.bytes));
        }
        let digest = digest(&mut file, |_| Ok(()), &mut |done| progress(Step { what, done, total: bytes }))
            .map_err(|e| format!("can't be read ({e}): {advice}"))?;
        match digest.0 == blob.sha256 {
            true => Ok(()),
            false => Err(format!("is damaged (its digest is {}): {advice}", digest.0)),
        }
    }

    fn manifest_path(&self, manifest: &ImageManifest) -> PathBuf {
        self.dir.join("manifests").join(format!("{}.json", manifest.reference()))
    }

    /// Every manifest file, read or with the reason why it can't be believed.
    fn manifests(&self) -> Result<Vec<(PathBuf, Reading)>, DepotError> {
        let dir = self.dir.join("manifests");
        let mut paths = Vec::new();
        for entry in fs::read_dir(&dir).map_err(DepotError::io("list", &dir))? {
            let path = entry.map_err(DepotError::io("list", &dir))?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if path.extension().is_some_and(|e| e == "json") && !hidden {
                paths.push(path);
            }
        }
        paths.sort();
        let read = |path: PathBuf| {
            let found = self.read_manifest(&path);
            if let Err(problem) = &found {
                tracing::error!(path = %path.display(), problem, "a manifest is left out");
            }
            (path, found)
        };
        Ok(paths.into_iter().map(read).collect())
    }

    fn read_manifest(&self, path: &Path) -> Reading {
        let unreadable = |e: std::io::Error| format!("can't be read: {e}");
        let file = File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        file.take(LARGEST_MANIFEST_BYTES).read_to_string(&mut text).map_err(unreadable)?;
        let signed: Signed<ImageManifest> =
            serde_json::from_str(&text).map_err(|e| format!("is no signed manifest: {e}"))?;
        let manifest = signed.verify(&self.key.public()).map_err(|e| format!("is not to be believed: {e}"))?;
        manifest.check()?;
        Ok((signed, manifest))
    }

    /// Copies a file to where its digest says.
    fn take_in(&self, source: &Path, role: &str, progress: &mut dyn FnMut(Step<'_>)) -> Result<Blob, DepotError> {
        let mut reader = File::open(source).map_err(DepotError::io("open", source))?;
        let total = reader.metadata().map_err(DepotError::io("open", source))?.len();
        let dir = self.dir.join("blobs/sha256");
        let fresh = dir.join(format!("{UNFINISHED}{}", uuid::Uuid::now_v7()));
        let mut copy = || {
            let mut writer = File::create_new(&fresh).map_err(DepotError::io("write", &fresh))?;
            let mut report = |done| progress(Step { what: role, done, total });
            let (sha256, bytes) = digest(&mut reader, |chunk| writer.write_all(chunk), &mut report)
                .map_err(DepotError::io("copy into the depot", source))?;
            writer.sync_all().map_err(DepotError::io("write", &fresh))?;
            // Over whatever lies there: a blob that was damaged is whole again.
            let place = self.blob_path(sha256);
            fs::rename(&fresh, &place).map_err(DepotError::io("name", &place))?;
            sync_dir(&dir)?;
            Ok(Blob { sha256, bytes })
        };
        copy().inspect_err(|_| drop(fs::remove_file(&fresh)))
    }

    fn write_whole(&self, path: &Path, write: impl Fn(&mut File) -> std::io::Result<()>) -> Result<(), DepotError> {
        let dir = path.parent().unwrap_or(&self.dir);
        let fresh = dir.join(format!("{UNFINISHED}{}", uuid::Uuid::now_v7()));
        let attempt = || {
            let mut file = File::create_new(&fresh)?;
            write(&mut file)?;
            file.sync_all()?;
            fs::rename(&fresh, path)
        };
        attempt().inspect_err(|_| drop(fs::remove_file(&fresh))).map_err(DepotError::io("write", path))?;
        sync_dir(dir)
    }

    /// Removes what a crash left half written an hour ago or more.
    fn sweep(&self) {
        let old = |path: &Path| {
            let changed = fs::metadata(path).and_then(|m| m.modified()).ok();
            changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > Duration::from_secs(3600))
        };
        for dir in [self.dir.join("blobs/sha256"), self.dir.join("manifests")] {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for path in entries.flatten().map(|e| e.path()) {
                let unfinished = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(UNFINISHED));
                if unfinished && old(&path) && fs::remove_file(&path).is_ok() {
                    tracing::info!(path = %path.display(), "removed what a crash had left");
                }
            }
        }
    }
}

/// Reads everything once: its digest and length, each chunk handed on.
fn digest(
    reader: &mut impl Read,
    mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
    progress: &mut dyn FnMut(u64),
) -> std::io::Result<(Sha256Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = 0;
    loop {
        let got = match reader.read(&mut chunk) {
            Ok(0) => return Ok((Sha256Digest(hasher.finalize().into()), done)),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        };
        hasher.update(&chunk[..got]);
        each(&chunk[..got])?;
        done += got as u64;
        progress(done);
    }
}

fn sync_dir(dir: &Path) -> Result<(), DepotError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(DepotError::io("write", dir))
}
