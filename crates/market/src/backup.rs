//! Backing a market up while it runs, and bringing it back.
//!
//! The database alone is no market: hosts pin the key with which it signs, clients its certificate.
//! They never change by themselves, so they are copied once and kept apart; or, where that is asked
//! for, they go into the backup, which is then as secret as they are.

use crate::db::backup::{self, KeptFile, Restored, Summary};
use crate::db::{DbError, FILE};
use crate::engine::clock::{Clock, MarketClock};
use crate::keys::{Keys, KeysError, private_dir, private_file};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use sublet_model::units::Timestamp;

/// Larger than any settings, key or certificate.
const LARGEST_FILE_BYTES: u64 = 1 << 20;
const FOLDERS: [&str; 2] = ["keys", "tls"];
const SETTINGS: &str = "market.toml";

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database could not be copied.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The keys can't be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The file system would not.
    #[error("failed to {attempt} {path}")]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The rows alone are no market.
    #[error(
        "{0} has no keys of the market, and the backup has none either: put its market.toml and the folders keys and tls \
         there first; without them no host and no client knows this market again"
    )]
    NoKeys(PathBuf),
    /// A file that no market has.
    #[error("the backup names a file {0:?} that no market has: it is not one of ours")]
    StrangeFile(String),
}

/// Copies the market in `dir` to the new file `to`, whether it runs or not; its keys, certificate
/// and settings too if that is asked for.
pub fn back_up(dir: &Path, to: &Path, with_keys: bool) -> Result<Summary, BackupError> {
    let files = if with_keys { own_files(dir)? } else { Vec::new() };
    Ok(backup::copy(dir, to, &files)?)
}

/// Makes `dir` the market of a backup, under a new epoch. Keys that are there stay; where there are
/// none they have to be in the backup.
pub fn restore(from: &Path, dir: &Path) -> Result<(Summary, Restored), BackupError> {
    let summary = backup::summary(from)?;
    let files = backup::files(from)?;
    let strange = files.iter().find(|file| !is_ours(&file.path));
    if let Some(file) = strange {
        return Err(BackupError::StrangeFile(file.path.clone()));
    }
    let has_keys = dir.join(FOLDERS[0]).exists();
    if !has_keys && files.is_empty() {
        return Err(BackupError::NoKeys(dir.into()));
    }
    if !dir.exists() {
        private_dir(dir)?;
    }
    if !has_keys {
        put(dir, &files)?;
    }
    // A market that can't sign is not brought back.
    Keys::load(dir)?;
    let now = MarketClock::new(Timestamp(summary.market_time.0 + 1)).now();
    Ok((summary, backup::restore(from, dir, now)?))
}

fn put(dir: &Path, files: &[KeptFile]) -> Result<(), BackupError> {
    for folder in FOLDERS.iter().map(|name| dir.join(name)).filter(|folder| !folder.exists()) {
        private_dir(&folder)?;
    }
    for file in files {
        let path = dir.join(&file.path);
        if !path.exists() {
            private_file(&path, &file.content)?;
        }
    }
    Ok(())
}

/// `market.toml`, or a file right below `keys` or `tls`.
fn is_ours(path: &str) -> bool {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    match parts.as_slice() {
        [Component::Normal(name)] => *name == SETTINGS,
        [Component::Normal(folder), Component::Normal(_)] => FOLDERS.iter().any(|known| folder == known),
        _ => false,
    }
}

fn own_files(dir: &Path) -> Result<Vec<KeptFile>, BackupError> {
    debug_assert!(!is_ours(FILE), "the database is copied by itself");
    let mut files = vec![read(dir, SETTINGS.into())?];
    for folder in FOLDERS {
        let path = dir.join(folder);
        let failed = |source| BackupError::Io { attempt: "read", path: path.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        for name in names {
            files.push(read(dir, format!("{folder}/{name}"))?);
        }
    }
    Ok(files)
}

fn read(dir: &Path, path: String) -> Result<KeptFile, BackupError> {
    let whole = dir.join(&path);
    let failed = |source| BackupError::Io { attempt: "read", path: whole.clone(), source };
    if fs::metadata(&whole).map_err(failed)?.len() > LARGEST_FILE_BYTES {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for a key or settings")));
    }
    Ok(KeptFile { content: fs::read(&whole).map_err(failed)?, path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lab;
    use crate::init::init;

    fn market() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let market = dir.path().join("market");
        init(&market, &lab(), &["localhost".into()]).unwrap();
        (dir, market)
    }

    #[test]
    fn a_market_comes_back_from_one_file_under_another_epoch() {
        let (dir, market) = market();
        let file = dir.path().join("backup");
        let kept = back_up(&market, &file, true).unwrap();
        assert_eq!((kept.epoch, kept.leases), (1, 0));
        assert_eq!(kept.files, ["keys/market.key", "keys/ssh_ca", "market.toml", "tls/cert.pem", "tls/key.pem"]);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(back_up(&market, &file, true), Err(BackupError::Database(DbError::Taken(_)))));

        let other = dir.path().join("other");
        let (_, restored) = restore(&file, &other).unwrap();
        assert!(restored.epoch > 1_700_000_000 && restored.put_aside.is_none());
        assert_eq!(Keys::load(&other).unwrap().signing.public(), Keys::load(&market).unwrap().signing.public());
        let again = restore(&file, &other).unwrap().1;
        assert!(again.epoch > restored.epoch, "each restore is an epoch of its own");
        assert!(again.put_aside.is_some_and(|path| path.exists()));
        let db = crate::db::Sqlite::open(&other).unwrap();
        assert_eq!(db.count("select count(*) from sqlite_master where name = 'kept_files'"), 0);
        assert!(matches!(restore(&file, &other), Err(BackupError::Database(DbError::InUse(_)))), "while it is served");
    }

    #[test]
    fn rows_without_keys_are_no_market() {
        let (dir, market) = market();
        let file = dir.path().join("backup");
        assert!(back_up(&market, &file, false).unwrap().files.is_empty());
        let secret = fs::read_to_string(market.join("keys/market.key")).unwrap();
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "no secret of the market is in it");
        let other = dir.path().join("other");
        assert!(matches!(restore(&file, &other), Err(BackupError::NoKeys(_))));
        assert!(!other.exists(), "nothing is left behind");
        restore(&file, &market).unwrap();
    }

    #[test]
    fn what_is_no_backup_is_refused_and_the_market_stays() {
        let (dir, market) = market();
        let whole = dir.path().join("whole");
        back_up(&market, &whole, true).unwrap();
        let mut bytes = fs::read(&whole).unwrap();
        for at in (4096..bytes.len()).step_by(97) {
            bytes[at] ^= 0x40;
        }
        let bad = [("torn", bytes.clone()), ("text", b"hello".to_vec()), ("empty", Vec::new())];
        let before = fs::read(market.join(FILE)).unwrap();
        for (name, content) in bad {
            let file = dir.path().join(name);
            fs::write(&file, content).unwrap();
            assert!(restore(&file, &market).is_err(), "{name}");
        }
        assert_eq!(fs::read(market.join(FILE)).unwrap(), before);
        for path in ["../x", "/etc/passwd", "keys/../../x", "market.db", "other/x", "keys", "keys/a/b", ""] {
            assert!(!is_ours(path), "{path}");
        }
    }
}
