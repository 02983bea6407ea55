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
//! What a partition says of names is not believed: nothing is written outside the folder that is meant.

mod list;
mod local;
mod plan;
mod remote;

use crate::output::say;
use crate::progress::Progress;
use crate::ssh::{ClientKey, Pass};
use anyhow::{Context, bail, ensure};
pub use list::is_plain;
use plan::{Part, plan};
use remote::Remote;
use std::collections::BTreeSet;
use std::path::Path;

/// How often a transfer whose way broke is gone on with.
const TRIES: u32 = 5;

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
            let there = remote.list(".").await?;
            let parts = plan(&here, &there, |part| local::has_prefix(&root, part))?;
            if parts.is_empty() && here.folders.is_subset(&there.folders) {
                return Ok(());
            }
            let total = parts.iter().map(|part| part.bytes - part.from).sum();
            let shown = progress.counted(from.display().to_string(), total);
            remote.make(&here.folders).await?;
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
            let there = remote.list(from).await?;
            if there.files.is_empty() && there.folders.is_empty() {
                bail!("there is no {from} in {base} in the partition");
            }
            let root = to.to_owned();
            local::make(&root, &there.folders)?;
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

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || work(&path)).await.context("a thread ended early")?
}
