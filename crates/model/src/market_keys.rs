//! The keys of a market, from its first to its newest. It takes new ones with the ones before: each
//! [`KeyChange`] is signed by the old key, and by the new one, which proves that the market has it.
//! So whoever knows any key of a market can follow to its newest, offline, and nobody else can lead
//! them elsewhere.
//!
//! ```text
//! first key ──change 1──► second key ──change 2──► … newest key
//!   signs to before at      signs from at on
//!   its SSH authority's certificates are accepted to ssh_until
//! ```
//!
//! Told in `docs/decisions/0015-another-key.md`.

use crate::billing::Terms;
use crate::identity::{IdentityError, PublicKey, SecretKey, Sha256Digest, Signed, Statement};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod link;

pub use link::{BadLink, LinkProblem};

/// The most changes that one market may have: one a month for twenty years.
pub const MOST_CHANGES: usize = 256;
/// What the new key signs, before the text of the change: that it is known to whoever says so.
const PROOF: &str = "sublet key proof 1";

/// What a market signs with its key when it takes another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// Counts the changes of a market from 1.
    pub number: u64,
    /// The digest of the change before; none in the first.
    pub previous: Option<Sha256Digest>,
    /// The key before, which signs this and nothing later.
    pub old: PublicKey,
    /// The key from then on.
    pub new: PublicKey,
    /// The SSH authority before, in OpenSSH's form without a comment.
    pub old_ssh_ca: String,
    /// The SSH authority from then on.
    pub new_ssh_ca: String,
    /// From when on the new keys sign, and the old key does not, by the market's clock.
    pub at: Timestamp,
    /// Until when certificates of the old SSH authority are accepted.
    pub ssh_until: Timestamp,
}

impl Statement for KeyChange {
    const KIND: &'static str = "sublet key 1";
}

/// A change of the market's key, exactly as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The signed text.
    pub payload: String,
    /// The key before.
    pub key: PublicKey,
    /// Its signature; Ed25519, base 64.
    pub signature: String,
    /// The new key's signature over a word of its own and the same text.
    pub proof: String,
}

impl KeyRecord {
    /// What the next change calls this one, and a host by what it knows.
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(format!("{}\n{}", KeyChange::KIND, self.payload).as_bytes())
    }
}

/// The keys of a market, each change verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChain {
    first: PublicKey,
    records: Vec<KeyRecord>,
    changes: Vec<KeyChange>,
}

/// The keys that a market takes, and those that it gives up.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The key before.
    pub old: &'a SecretKey,
    /// The key from then on.
    pub new: &'a SecretKey,
    /// The SSH authority before.
    pub old_ssh_ca: String,
    /// The SSH authority from then on.
    pub new_ssh_ca: String,
    /// From when on.
    pub at: Timestamp,
    /// Until when certificates of the old SSH authority are accepted.
    pub ssh_until: Timestamp,
}

/// Why a chain that was offered is not the one to follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFollowed {
    /// Something in it does not hold.
    #[error(transparent)]
    Bad(#[from] BadLink),
    /// It begins with another key than the first that is known.
    #[error("it does not begin with the first key that is known here, {known}")]
    Begins {
        /// Which is known.
        known: PublicKey,
    },
    /// It has less than is known already: old keys, or a replay.
    #[error(
        "it has {offered} changes of key, and {known} are known here: the market signs with keys that it gave up \
         (was an old backup restored without the newest keys?)"
    )]
    Shortened {
        /// How many are known.
        known: usize,
        /// How many were offered.
        offered: usize,
    },
    /// It turns off from what is known.
    #[error(
        "its change {number} is another than the one that is known here: somebody else has an old key of the market"
    )]
    Forked {
        /// The first change that differs, from 1.
        number: usize,
    },
}

impl KeyChain {
    /// Of a market that has its first key still.
    pub fn new(first: PublicKey) -> Self {
        Self { first, records: Vec::new(), changes: Vec::new() }
    }

    /// A chain as it was written, if every change follows from the one before.
    pub fn read(first: PublicKey, records: &[KeyRecord]) -> Result<Self, BadLink> {
        link::few_enough(records)?;
        records.iter().try_fold(Self::new(first), |chain, record| chain.with(record))
    }

    /// As [`Self::read`], from the first key that the records name; a market of no changes has one key only.
    pub fn told(records: &[KeyRecord], only: PublicKey) -> Result<Self, BadLink> {
        Self::read(records.first().map_or(only, |record| record.key), records)
    }

    /// With one change more, if that follows.
    fn with(mut self, record: &KeyRecord) -> Result<Self, BadLink> {
        let change = link::check(&self, record)?;
        self.records.push(record.clone());
        self.changes.push(change);
        Ok(self)
    }

    /// Takes new keys: the change, signed by both. It has to follow like any other.
    pub fn turned(self, turn: Turn<'_>) -> Result<Self, BadLink> {
        let Turn { old, new, old_ssh_ca, new_ssh_ca, at, ssh_until } = turn;
        let (number, previous) = (self.changes.len() as u64 + 1, self.head());
        let (old_key, new_key) = (old.public(), new.public());
        let change = KeyChange { number, previous, old: old_key, new: new_key, old_ssh_ca, new_ssh_ca, at, ssh_until };
        let malformed = |_| BadLink::at(self.changes.len(), LinkProblem::Malformed);
        let Signed { payload, key, signature, .. } = Signed::sign(&change, old).map_err(malformed)?;
        let proof = new.sign_bytes(&proof_of(&payload));
        let records = [&self.records[..], &[KeyRecord { payload, key, signature, proof }]].concat();
        Self::read(self.first, &records)
    }

    /// What becomes of what is known here by a chain that was offered: none if it says nothing new.
    pub fn follow(&self, offered: &[KeyRecord]) -> Result<Option<Self>, NotFollowed> {
        let both = self.records.iter().zip(offered);
        if let Some(at) = both.clone().position(|(known, offered)| known.payload != offered.payload) {
            return Err(NotFollowed::Forked { number: at + 1 });
        }
        if offered.len() < self.records.len() {
            return Err(NotFollowed::Shortened { known: self.records.len(), offered: offered.len() });
        }
        if offered.first().is_some_and(|record| record.key != self.first) {
            return Err(NotFollowed::Begins { known: self.first });
        }
        let news = &offered[self.records.len()..];
        if news.is_empty() {
            return Ok(None);
        }
        link::few_enough(offered)?;
        Ok(Some(news.iter().try_fold(self.clone(), |chain, record| chain.with(record))?))
    }

    /// The first key.
    pub fn first(&self) -> PublicKey {
        self.first
    }

    /// The key that signs now.
    pub fn newest(&self) -> PublicKey {
        self.changes.last().map_or(self.first, |change| change.new)
    }

    /// The changes as they were signed, oldest first.
    pub fn records(&self) -> &[KeyRecord] {
        &self.records
    }

    /// The changes, oldest first.
    pub fn changes(&self) -> &[KeyChange] {
        &self.changes
    }

    /// Names the newest change, and by it the whole chain; none before the first.
    pub fn head(&self) -> Option<Sha256Digest> {
        self.records.last().map(KeyRecord::digest)
    }

    /// Every key, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> + '_ {
        std::iter::once(self.first).chain(self.changes.iter().map(|change| change.new))
    }

    /// Whether a key is one of them, at any time.
    pub fn has(&self, key: PublicKey) -> bool {
        self.keys().any(|one| one == key)
    }

    /// The key that signed what is dated so.
    pub fn signer_at(&self, at: Timestamp) -> PublicKey {
        self.changes.iter().rfind(|change| change.at <= at).map_or(self.first, |change| change.new)
    }

    /// The key that had to sign these terms, by what they say of their time: that they say it, whoever had
    /// the key then signed.
    pub fn signer_of(&self, terms: &Signed<Terms>) -> Result<PublicKey, IdentityError> {
        terms.read().map(|terms| self.signer_at(terms.granted_at))
    }

    /// The SSH authorities whose certificates are accepted at that time, the newest first. Of a market that has
    /// its first keys still this chain knows none: then they are `first`.
    pub fn ssh_authorities(&self, now: Timestamp, first: &[String]) -> Vec<String> {
        let Some(newest) = self.changes.last() else { return first.to_vec() };
        let older = self.changes.iter().rev().filter(|change| now <= change.ssh_until);
        std::iter::once(&newest.new_ssh_ca).chain(older.map(|change| &change.old_ssh_ca)).cloned().collect()
    }
}

fn proof_of(payload: &str) -> Vec<u8> {
    format!("{PROOF}\n{payload}").into_bytes()
}

#[cfg(test)]
mod tests;
