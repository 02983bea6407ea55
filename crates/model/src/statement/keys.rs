//! The keys of a market: which signed what, and when. A market takes another key with the one before,
//! so whoever knows an old one can follow to the newest.

use super::check::{canonical, instant, plausible, signed};
use super::fault::{Problem, Wrong, same};
use super::record::{Head, KeyChange, KeyRecord};
use crate::identity::PublicKey;
use crate::units::Timestamp;

/// The keys of a market, oldest first, with when each signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Span>);

/// Why nobody can follow from one key of a market to another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a change of the market's key {0}")]
pub struct BrokenKeys(&'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    key: PublicKey,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Keys {
    /// Those of a head, if each change is signed by the key before and the last leads to the market's.
    /// `known` has to be one of them.
    pub(super) fn of(head: &Head, known: Option<PublicKey>) -> Result<Self, Wrong> {
        Self::chain(&head.keys, head.market, known)
    }

    /// From one key of a market, by its changes, to its newest: to whoever knows that one.
    pub fn follow(known: PublicKey, changes: &[KeyRecord]) -> Result<Self, BrokenKeys> {
        let last =
            changes.last().map(|record| canonical::<KeyChange>(&record.payload).ok_or(BrokenKeys("can't be read")));
        let newest = last.transpose()?.map_or(known, |change| change.key);
        Self::chain(changes, newest, Some(known)).map_err(|wrong| BrokenKeys(wrong.problem.words()))
    }

    /// The key that signs now.
    pub fn newest(&self) -> Option<PublicKey> {
        self.0.last().map(|span| span.key)
    }

    fn chain(changes: &[KeyRecord], newest: PublicKey, known: Option<PublicKey>) -> Result<Self, Wrong> {
        let mut spans: Vec<Span> = Vec::new();
        let first = changes.first().map_or(newest, |change| change.key);
        spans.push(Span { key: first, from: None, until: None });
        for (at, record) in changes.iter().enumerate() {
            let within = |wrong: Wrong| wrong.field(format!("keys[{at}]"));
            let Some(last) = spans.last_mut() else { break };
            let change: KeyChange = signed(&record.payload, record.key, &record.signature, last.key).map_err(within)?;
            instant("from", Some(change.from)).and(instant("until", Some(change.until))).map_err(within)?;
            let follows = change.from <= change.until && last.from.is_none_or(|from| from < change.from);
            plausible("from", follows).map_err(within)?;
            last.until = Some(change.until);
            spans.push(Span { key: change.key, from: Some(change.from), until: None });
        }
        same(Problem::Key, spans.last().map_or(newest, |span| span.key), newest)?;
        let is_one = |known: PublicKey| spans.iter().any(|span| span.key == known);
        match known {
            Some(known) if !is_one(known) => Err(Wrong::new(Problem::Key).expected(known).found(newest)),
            _ => Ok(Self(spans)),
        }
    }

    /// Whether one of them signed at that time.
    pub fn signed(&self, named: PublicKey, at: Timestamp) -> bool {
        let within = |s: &Span| s.from.is_none_or(|from| from <= at) && s.until.is_none_or(|until| at <= until);
        self.0.iter().any(|span| span.key == named && within(span))
    }

    /// Whether a key is one of them, at any time.
    pub fn has(&self, named: PublicKey) -> bool {
        self.0.iter().any(|span| span.key == named)
    }
}
