//! Which blobs were read whole and found right since this server started: nothing else is served.

use crate::Depot;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};
use sublet_model::identity::Sha256Digest;
use sublet_model::image::Blob;

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed_ns: i128,
}

/// How a look at a blob ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// Its bytes are what its name says.
    Whole,
    /// No such blob.
    Absent,
    /// It is there and must not be served.
    Damaged(String),
}

type Verdict = Option<(Stamp, Result<(), String>)>;

/// Remembers verdicts. One blob is read by one thread at a time; others wait for that verdict.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    verdicts: Mutex<HashMap<Sha256Digest, Arc<Mutex<Verdict>>>>,
}

impl Verified {
    /// Looks at a blob; reads it whole the first time and whenever the file changed. Blocks.
    pub(crate) fn look(&self, depot: &Depot, digest: Sha256Digest) -> Look {
        let Some(stamp) = stamp(depot, digest) else { return Look::Absent };
        let slot = self.slot(digest);
        let mut verdict = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if verdict.as_ref().is_none_or(|(seen, _)| *seen != stamp) {
            let blob = Blob { sha256: digest, bytes: stamp.bytes };
            let outcome = depot.check_blob(&blob, "blob", &mut |_| {});
            if let Err(problem) = &outcome {
                tracing::error!(%digest, problem, "a blob is not served");
            }
            *verdict = Some((stamp, outcome));
        }
        match &*verdict {
            Some((_, Err(problem))) => Look::Damaged(problem.clone()),
            _ => Look::Whole,
        }
    }

    // Only digests of files that exist get here, so this grows no further than the depot.
    fn slot(&self, digest: Sha256Digest) -> Arc<Mutex<Verdict>> {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        verdicts.entry(digest).or_default().clone()
    }
}

fn stamp(depot: &Depot, digest: Sha256Digest) -> Option<Stamp> {
    let meta = std::fs::metadata(depot.blob_path(digest)).ok().filter(|meta| meta.is_file())?;
    let changed_ns = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
    Some(Stamp { inode: meta.ino(), bytes: meta.len(), changed_ns })
}
