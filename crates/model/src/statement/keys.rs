//! The keys of a market: which signed what, and when. A market takes another key with the one before,
//! so whoever knows an old one can follow to the newest.

use super::check::{instant, plausible, signed};
use super::fault::{Problem, Wrong, same};
use super::record::{Head, KeyChange};
use crate::identity::PublicKey;
use crate::units::Timestamp;

/// The keys of a market, oldest first, with when each signed.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(Vec<Span>);

#[derive(Debug, Clone, Copy)]
struct Span {
    key: PublicKey,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Keys {
    /// Those of a head, if each change is signed by the key before and the last leads to the market's.
    /// `known` has to be one of them.
    pub fn of(head: &Head, known: Option<PublicKey>) -> Result<Self, Wrong> {
        let mut spans: Vec<Span> = Vec::new();
        let first = head.keys.first().map_or(head.market, |change| change.key);
        spans.push(Span { key: first, from: None, until: None });
        for (at, record) in head.keys.iter().enumerate() {
            let within = |wrong: Wrong| wrong.field(format!("keys[{at}]"));
            let Some(last) = spans.last_mut() else { break };
            let change: KeyChange = signed(&record.payload, record.key, &record.signature, last.key).map_err(within)?;
            instant("from", Some(change.from)).and(instant("until", Some(change.until))).map_err(within)?;
            let follows = change.from <= change.until && last.from.is_none_or(|from| from < change.from);
            plausible("from", follows).map_err(within)?;
            last.until = Some(change.until);
            spans.push(Span { key: change.key, from: Some(change.from), until: None });
        }
        let newest = spans.last().map_or(head.market, |span| span.key);
        same(Problem::Key, newest, head.market)?;
        let is_one = |known: PublicKey| spans.iter().any(|span| span.key == known);
        match known {
            Some(known) if !is_one(known) => Err(Wrong::new(Problem::Key).expected(known).found(head.market)),
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
