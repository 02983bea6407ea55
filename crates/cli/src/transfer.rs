//! Folders into a partition and out of it: only what differs, known by SHA-256; what broke off goes on
//! where it broke off; nothing counts as copied whose digest is wrong.
//!
//! ```text
//!  in:  what is here -- digests --+                     +--> tar, all files that differ
//!       what is there - digests --+--> plan (pure) -----+--> the rest of a file that is there in part
//!                                                       then the digests there are asked for again
//!  out: what is there - digests --+
//!       what is here -- digests --+--> plan (pure) ------> the bytes of all files that differ, in one go,
//!                                      each into a file beside it, renamed once its digest is right
//! ```
//!
//! In the partition it takes `find`, `sha256sum`, `tar`, `tail` and a shell, which every system has.
//! What a partition says of names is not believed: nothing is written here but the path that was asked
//! for and what is below it, and no link here is followed on the way there.

mod list;
mod local;
mod plan;
mod remote;

use crate::output::say;
use crate::progress::Progress;
use crate::ssh::{ClientKey, Pass};
use anyhow::{Context, bail, ensure};
use list::List;
pub use list::is_plain;
use plan::{Part, plan};
use remote::Remote;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// How often a transfer whose way broke is gone on with.
const TRIES: u32 = 5;

/// Before it is asked again; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What was to be copied out is not there.
#[derive(Debug)]
pub struct Missing {
    path: String,
    folder: String,
}

impl Missing {
    /// A path below a folder there.
    pub fn new(path: &str, folder: &str) -> Self {
        Self { path: path.into(), folder: folder.into() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no {} in {} in the partition", self.path, self.folder)
    }
}

impl std::error::Error for Missing {}

/// A partition and the way there.
pub struct Transfer<'a> {
    pass: &'a Pass,
    key: &'a ClientKey,
}

impl<'a> Transfer<'a> {
    /// To the partition of a pass.
    pub fn new(pass: &'a Pass, key: &'a ClientKey) -> Self {
        Self { pass, key }
    }

    /// Makes a folder there, if need be.
    pub async fn make(&self, folder: &str) -> anyhow::Result<()> {
        Remote { pass: self.pass, key: self.key, folder }.make(&BTreeSet::new()).await
    }

    /// Copies what is at `from` here into the folder `to` there: a folder's contents, or one file.
    pub async fn copy_in(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        let (root, here) = blocking(from, local::list).await?;
        ensure!(!here.files.is_empty() || !here.folders.is_empty(), "{} is empty", from.display());
        let remote = Remote { pass: self.pass, key: self.key, folder: to };
        let progress = Progress::start(format!("{}: looking at what is there", from.display()));
        for _ in 0..TRIES {
            let there = look(&remote, ".").await?;
            let parts = plan(&here, &there, |part| local::has_prefix(&root, part))?;
            if parts.is_empty() && here.folders.is_subset(&there.folders) {
                return Ok(());
            }
            let total = parts.iter().map(|part| part.bytes - part.from).sum();
            let shown = progress.counted(from.display().to_string(), total);
            again(FIRST_PAUSE, || remote.make(&here.folders)).await?;
            // Broken off or not: what is there now is looked at again.
            if let Err(error) = remote.put(&root, &parts, shown).await {
                tracing::info!(%error, "the transfer broke off; it is gone on with");
            }
        }
        bail!("what is in {to} in the partition is not what is in {}: does something else write there?", from.display())
    }

    /// Copies the file or folder `from`, which is below the folder `base` there, to the same place below
    /// `to` here.
    pub async fn copy_out(&self, base: &str, from: &str, to: &Path) -> anyhow::Result<()> {
        let remote = Remote { pass: self.pass, key: self.key, folder: base };
        let progress = Progress::start(format!("{from}: looking at what is there"));
        for left in (0..TRIES).rev() {
            let there = look(&remote, from).await?;
            there.check_within(from)?;
            if there.files.is_empty() && there.folders.is_empty() {
                return Err(Missing::new(from, base).into());
            }
            let root = to.to_owned();
            local::make(&root, &there)?;
            let (there, here) = blocking(&root, move |root| {
                let here = local::digests_of(root, &there)?;
                Ok((there, here))
            })
            .await?;
            let parts = plan(&there, &here, |_| Ok(false))?;
            let parts: Vec<Part> = parts.into_iter().map(|part| local::resumed(&root, part)).collect();
            if parts.is_empty() {
                return Ok(());
            }
            let total = parts.iter().map(|part| part.bytes - part.from).sum();
            let shown = progress.counted(from.to_owned(), total);
            match remote.get(&root, &parts, shown).await {
                Ok(()) => {}
                Err(error) if left == 0 => return Err(error.context(format!("failed to copy {from} out"))),
                Err(error) => tracing::info!(%error, "the transfer broke off; it is gone on with"),
            }
        }
        say(format!("{from}: it changes while it is copied"));
        bail!("{from} in the partition is not what was copied to {}", to.display())
    }
}

/// What is at a path there; asked again where the way breaks.
async fn look(remote: &Remote<'_>, path: &str) -> anyhow::Result<List> {
    ensure!(path == "." || is_plain(path), "{path:?} is no path below {}", remote.folder);
    list::parse(&again(FIRST_PAUSE, || remote.list(path)).await?)
}

/// Does what may be repeated until it is done, some times at most.
async fn again<T>(mut pause: Duration, mut attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 1..TRIES {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => tracing::info!(%error, "the way to the partition broke; it is tried again"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    attempt().await
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || work(&path)).await.context("a thread ended early")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_way_that_breaks_is_tried_again_and_not_for_ever() {
        for (fails, expected) in [(0, Some(1)), (4, Some(5)), (5, None)] {
            let mut tries = 0;
            let attempt = async || {
                tries += 1;
                if tries > fails { Ok(tries) } else { bail!("the way broke") }
            };
            assert_eq!(again(Duration::ZERO, attempt).await.ok(), expected);
            assert!(tries <= TRIES);
        }
    }
}
