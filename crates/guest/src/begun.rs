//! Which detached jobs were begun in this machine: remembered beside this program, not in it, so that one
//! that was killed and started anew begins nothing a second time.
//!
//! One empty file a job in memory (`/run`), made before the job and removed when its host forgets the job or
//! it could not be started. A machine that ends forgets all of them, and all that ran in it with them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Below `/run`, which is new at every boot.
pub const FOLDER: &str = "/run/sublet/begun";
/// A file's name may be no longer.
const MOST_NAME_BYTES: usize = 200;

/// A note of each.
#[derive(Debug)]
pub struct Begun(PathBuf);

impl Begun {
    /// Notes in a folder, which is made when the first comes.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Notes that a job is about to begin; false if it stands there already.
    pub fn note(&self, job: &str) -> io::Result<bool> {
        let path = self.path(job).ok_or_else(|| io::Error::other("its name can't be noted"))?;
        fs::create_dir_all(&self.0)?;
        match File::create_new(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Nobody will ask for it again, or it never began.
    pub fn forget(&self, job: &str) {
        if let Some(path) = self.path(job) {
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, job: &str) -> Option<PathBuf> {
        let plain = (1..=MOST_NAME_BYTES).contains(&job.len()) && !job.contains(['/', '\0']) && !job.starts_with('.');
        plain.then(|| Path::new(&self.0).join(job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_stands_until_it_is_forgotten() {
        let folder = std::env::temp_dir().join(format!("sublet-begun-{}", std::process::id()));
        let (begun, another_life) = (Begun::new(folder.join("notes")), Begun::new(folder.join("notes")));
        assert!(begun.note("detached_a.1").unwrap());
        assert!(!another_life.note("detached_a.1").unwrap());
        assert!(another_life.note("detached_a.2").unwrap());
        another_life.forget("detached_a.1");
        assert!(begun.note("detached_a.1").unwrap());
        for odd in ["", "../a", "a/b", ".", "..", "a\0b", &"x".repeat(201)] {
            assert!(begun.note(odd).is_err(), "{odd:?}");
            begun.forget(odd);
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
