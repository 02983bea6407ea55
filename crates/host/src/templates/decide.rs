//! Which template to make next and which to throw out. Pure.

use super::Key;
use std::collections::{BTreeMap, BTreeSet};
use sublet_model::resources::Resources;

/// So many of the last starts count as demand.
pub const LAST_STARTS: usize = 32;
/// A template whose making failed so often is not tried any more, until the agent starts anew.
pub const MOST_FAILURES: u32 = 3;

/// A shape that was started here lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which one.
    pub key: Key,
    /// The most its template can take on the disk.
    pub bytes: u64,
    /// What its making takes while it lasts.
    pub needs: Resources,
}

/// A template that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which one.
    pub key: Key,
    /// What it takes on the disk.
    pub bytes: u64,
    /// Rises with each use.
    pub used: u64,
    /// Whether a machine runs from it.
    pub in_use: bool,
}

/// Which to throw out so that `bytes` more fit: the least lately used first, never one in use.
/// None: they can't be made to fit.
pub fn evict(kept: &[Kept], bytes: u64, limit_bytes: u64) -> Option<Vec<Key>> {
    let mut sum = kept.iter().map(|k| k.bytes).fold(bytes, u64::saturating_add);
    let mut idle: Vec<&Kept> = kept.iter().filter(|k| !k.in_use).collect();
    idle.sort_by_key(|k| (k.used, k.key.clone()));
    let mut out = Vec::new();
    for oldest in idle {
        if sum <= limit_bytes {
            break;
        }
        sum = sum.saturating_sub(oldest.bytes);
        out.push(oldest.key.clone());
    }
    (sum <= limit_bytes).then_some(out)
}

/// What is known when the next one is chosen.
#[derive(Debug, Clone)]
pub struct Scene<'a> {
    /// The last starts, oldest first.
    pub starts: &'a [Wanted],
    /// The templates there are.
    pub kept: &'a [Kept],
    /// How often the making of each failed.
    pub failures: &'a BTreeMap<Key, u32>,
    /// What nobody holds.
    pub room: Resources,
    /// Whether some partition is on its way up: that goes first.
    pub busy: bool,
    /// The most bytes of templates.
    pub limit_bytes: u64,
}

/// Which template to make now: the most wanted that is missing, may be made, and for which
/// nothing has to go that is wanted as much.
pub fn next(scene: &Scene<'_>) -> Option<Key> {
    if scene.busy {
        return None;
    }
    let count = |key: &Key| scene.starts.iter().filter(|s| s.key == *key).count();
    let last = |key: &Key| scene.starts.iter().rposition(|s| s.key == *key);
    let missing: BTreeSet<&Key> =
        scene.starts.iter().map(|s| &s.key).filter(|key| scene.kept.iter().all(|k| k.key != **key)).collect();
    let may = |wanted: &&Wanted| {
        let tried = scene.failures.get(&wanted.key).copied().unwrap_or(0);
        let evicted = evict(scene.kept, wanted.bytes, scene.limit_bytes);
        tried < MOST_FAILURES
            && wanted.needs.fits(scene.room)
            && evicted.is_some_and(|out| out.iter().all(|key| count(key) < count(&wanted.key)))
    };
    let candidates = scene.starts.iter().filter(|s| missing.contains(&s.key)).filter(may);
    candidates.max_by_key(|s| (count(&s.key), last(&s.key))).map(|s| s.key.clone())
}
