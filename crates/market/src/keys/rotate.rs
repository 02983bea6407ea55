//! Taking other keys. Not while the market runs: it takes the lock that a running one holds.
//!
//! ```text
//! write the new keys ──► write the changes, with one more, beside ──► put them in place ──► remove the old key
//!          killed up to here: the old keys, whole                   │ killed from here on: the new keys, whole
//! ```
//!
//! What a step that was killed left behind, the next start or the next change takes away; new keys that
//! were not put in place, the next change.

use super::{
    CHANGES, FOLDER, Keys, KeysError, ROOT, failed, market_key, private_file, seed_text, ssh_ca_file, ssh_line,
    ssh_text,
};
use crate::certificate::LONGEST;
use crate::db::{DbError, Sqlite};
use crate::engine::clock::{Clock, MarketClock};
use std::fs;
use std::path::{Path, PathBuf};
use sublet_model::market_keys::{BadLink, KeyChain, KeyChange, Turn};
use sublet_model::units::{Seconds, Timestamp};

/// How long certificates of the old SSH authority are accepted: as long as the longest holds, and a
/// little more for hosts whose clock is a little ahead.
pub const OVERLAP: Seconds = Seconds(LONGEST.0 + 60);
/// Being written, in a file that counts for nothing yet.
const DRAFT: &str = "changes.json.new";

/// Why the keys are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The market runs, or its database can't be used.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The keys can't be read or written.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The folder is of before a change that was made.
    #[error(
        "{0} is older than the market: its audit log knows a change of keys that is not there; put the newest folder back, \
         no host follows the market with an older one"
    )]
    Older(PathBuf),
    /// There were too many changes.
    #[error("failed to change the keys")]
    Change(#[from] BadLink),
}

/// The market has other keys.
#[derive(Debug, Clone)]
pub struct Rotated {
    /// What was signed.
    pub change: KeyChange,
}

/// What is done with the files, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A new file that only its owner reads, durably.
    Write(String, Vec<u8>),
    /// What was made in the folder lasts.
    Sync,
    /// One file in another's place, at once.
    Rename(String, String),
    /// A file that is not needed any more, if it is there.
    Remove(String),
}

/// Takes other keys for the market in `dir`, which must not run.
pub fn rotate(dir: &Path) -> Result<Rotated, RotateError> {
    let database = Sqlite::open(dir)?;
    let keys = Keys::load(dir)?;
    if database.knows_more_keys(&keys.chain)? {
        return Err(RotateError::Older(dir.join(FOLDER)));
    }
    let before = database.market_time()?;
    let last = keys.chain.changes().last().map_or(before, |last| last.at.max(before));
    // Later than anything that was signed: so the old key signed all of that, and the new one nothing of it.
    let now = MarketClock::new(Timestamp(last.0 + 1)).now();
    tidy(dir, &keys.chain, now)?;
    let number = keys.chain.changes().len() + 1;
    let left = [DRAFT.into(), market_key(number), ssh_ca_file(number)];
    left.into_iter().try_for_each(|name| take(&dir.join(FOLDER), &Step::Remove(name)))?;
    let (chain, steps) = plan(&keys, Keys::generate(), now)?;
    let folder = dir.join(FOLDER);
    steps.iter().try_for_each(|step| take(&folder, step))?;
    database.audit_keys(&chain)?;
    let Some(change) = chain.changes().last().cloned() else { unreachable!("a change was made") };
    Ok(Rotated { change })
}

/// What has to be done for `next` to be the keys from `at` on.
fn plan(keys: &Keys, next: Keys, at: Timestamp) -> Result<(KeyChain, Vec<Step>), RotateError> {
    let chain = keys.chain.clone().turned(Turn {
        old: &keys.signing,
        new: &next.signing,
        old_ssh_ca: keys.ssh_ca_public(),
        new_ssh_ca: ssh_line(&next.ssh_ca),
        at,
        ssh_until: at.after(OVERLAP),
    })?;
    let number = chain.changes().len();
    let ca = ssh_ca_file(number);
    let text = serde_json::to_vec(chain.records()).map_err(|_| KeysError::Unreadable(CHANGES.into()))?;
    let mut steps = Vec::new();
    if number == 1 {
        steps.push(Step::Remove(ROOT.into()));
        steps.push(Step::Write(ROOT.into(), seed_text(&keys.root).into_bytes()));
    }
    steps.extend([
        Step::Write(market_key(number), seed_text(&next.signing.seed()).into_bytes()),
        Step::Write(ca.clone(), ssh_text(&next.ssh_ca, Path::new(&ca))?.into_bytes()),
        Step::Write(DRAFT.into(), text),
        Step::Sync,
        Step::Rename(DRAFT.into(), CHANGES.into()),
        Step::Sync,
        Step::Remove(market_key(number - 1)),
    ]);
    if number > 1 {
        steps.push(Step::Remove(ssh_ca_file(number - 2)));
    }
    steps.push(Step::Sync);
    Ok((chain, steps))
}

fn take(folder: &Path, step: &Step) -> Result<(), KeysError> {
    match step {
        Step::Write(name, content) => private_file(&folder.join(name), content),
        Step::Sync => fs::File::open(folder).and_then(|f| f.sync_all()).map_err(failed("make durable", folder)),
        Step::Rename(from, to) => {
            let to = folder.join(to);
            fs::rename(folder.join(from), &to).map_err(failed("put in its place", &to))
        }
        Step::Remove(name) => {
            let path = folder.join(name);
            if path.exists() { fs::remove_file(&path).map_err(failed("remove", &path)) } else { Ok(()) }
        }
    }
}

/// Takes away keys that were given up. Newer ones stay: they may be of a change that an older copy of
/// `changes.json` does not have.
pub fn tidy(dir: &Path, chain: &KeyChain, now: Timestamp) -> Result<(), KeysError> {
    let (folder, number) = (dir.join(FOLDER), chain.changes().len());
    let mut gone: Vec<String> = (0..number).map(market_key).collect();
    let accepted = chain.changes().last().is_some_and(|last| now < last.ssh_until);
    gone.extend((0..number.saturating_sub(usize::from(accepted))).map(ssh_ca_file));
    gone.into_iter().try_for_each(|name| take(&folder, &Step::Remove(name)))
}

#[cfg(test)]
mod tests;
