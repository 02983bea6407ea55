//! Whether a change of keys follows from those before.

use super::{KeyChain, KeyChange, KeyRecord, MOST_CHANGES, proof_of};
use crate::identity::{IdentityError, Statement};
use crate::units::Timestamp;
use std::fmt;

/// The last instant of the year 9999.
const LAST_INSTANT: Timestamp = Timestamp(253_402_300_799_999_999);
/// How the text of every Ed25519 key of OpenSSH begins, and how long the rest is: 51 bytes in base 64.
const SSH_KEY: (&str, usize) = ("ssh-ed25519 ", 68);

/// Which change of keys does not hold, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {number} of the market's keys can't be followed: {problem}")]
pub struct BadLink {
    /// Which one, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub problem: LinkProblem,
}

/// What is wrong with a change of keys, in the order in which it is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkProblem {
    /// There are more than any market has.
    TooMany,
    /// The key before is another one: a change is missing, or it is somebody else's.
    Key {
        /// The key before.
        expected: String,
        /// Who signed.
        found: String,
    },
    /// The key before did not sign this text.
    Signature,
    /// It is not written as it has to be.
    Malformed,
    /// It is not the next one: one is missing, or there twice.
    Number {
        /// Which is due.
        expected: u64,
        /// Which it is.
        found: u64,
    },
    /// It does not name the change before: the chain forks.
    Previous {
        /// The digest of the change before.
        expected: String,
        /// What it names.
        found: String,
    },
    /// The text names another old key than the one that signed.
    Old {
        /// Who signed.
        expected: String,
        /// Whom it names.
        found: String,
    },
    /// Nothing shows that the market has the new key.
    Proof,
    /// The SSH authority before is another one.
    OldSshCa {
        /// The one before.
        expected: String,
        /// The one that is named.
        found: String,
    },
    /// What it names in this member no market accepts: a key that was used before, a time out of order.
    Implausible(&'static str),
}

impl fmt::Display for LinkProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "there are more than {MOST_CHANGES}"),
            Self::Key { expected, found } => write!(f, "it was signed by {found}, and the key before it is {expected}"),
            Self::Signature => f.write_str("its signature does not hold"),
            Self::Malformed => f.write_str("it is not written as it has to be"),
            Self::Number { expected, found } => write!(f, "it says that it is number {found}, and {expected} is due"),
            Self::Previous { .. } => f.write_str("it does not name the change before it: the chain forks"),
            Self::Old { .. } => f.write_str("it names another old key than the one that signed it"),
            Self::Proof => f.write_str("the new key did not sign it too"),
            Self::OldSshCa { .. } => f.write_str("it names another SSH authority than the one before it"),
            Self::Implausible(member) => write!(f, "no market accepts its `{member}`"),
        }
    }
}

impl BadLink {
    /// Of the change with that index, from 0.
    pub(super) fn at(index: usize, problem: LinkProblem) -> Self {
        Self { number: index + 1, problem }
    }
}

pub(super) fn few_enough(records: &[KeyRecord]) -> Result<(), BadLink> {
    if records.len() <= MOST_CHANGES { Ok(()) } else { Err(BadLink::at(MOST_CHANGES, LinkProblem::TooMany)) }
}

/// The change in a record, if it follows the newest of `chain`.
pub(super) fn check(chain: &KeyChain, record: &KeyRecord) -> Result<KeyChange, BadLink> {
    let bad = |problem| BadLink::at(chain.changes.len(), problem);
    let change = read(chain, record).map_err(bad)?;
    follows(chain, record, &change).and_then(|()| plausible(chain, &change)).map_err(bad)?;
    Ok(change)
}

fn read(chain: &KeyChain, record: &KeyRecord) -> Result<KeyChange, LinkProblem> {
    let expected = chain.newest();
    if record.key != expected {
        return Err(LinkProblem::Key { expected: expected.to_string(), found: record.key.to_string() });
    }
    let text = format!("{}\n{}", KeyChange::KIND, record.payload);
    let signed = |_: IdentityError| LinkProblem::Signature;
    expected.verify_bytes(text.as_bytes(), &record.signature).map_err(signed)?;
    let change: KeyChange = serde_json::from_str(&record.payload).map_err(|_| LinkProblem::Malformed)?;
    match serde_json::to_string(&change) {
        Ok(text) if text == record.payload => Ok(change),
        _ => Err(LinkProblem::Malformed),
    }
}

fn follows(chain: &KeyChain, record: &KeyRecord, change: &KeyChange) -> Result<(), LinkProblem> {
    let due = chain.changes.len() as u64 + 1;
    if change.number != due {
        return Err(LinkProblem::Number { expected: due, found: change.number });
    }
    if change.previous != chain.head() {
        let told = |digest: Option<crate::identity::Sha256Digest>| digest.map_or("none".into(), |d| d.to_string());
        return Err(LinkProblem::Previous { expected: told(chain.head()), found: told(change.previous) });
    }
    if change.old != record.key {
        return Err(LinkProblem::Old { expected: record.key.to_string(), found: change.old.to_string() });
    }
    change.new.verify_bytes(&proof_of(&record.payload), &record.proof).map_err(|_| LinkProblem::Proof)?;
    match chain.changes.last() {
        Some(last) if last.new_ssh_ca != change.old_ssh_ca => {
            let (expected, found) = (last.new_ssh_ca.clone(), change.old_ssh_ca.clone());
            Err(LinkProblem::OldSshCa { expected, found })
        }
        _ => Ok(()),
    }
}

fn plausible(chain: &KeyChain, change: &KeyChange) -> Result<(), LinkProblem> {
    let implausible = |member| Err(LinkProblem::Implausible(member));
    let had_ssh = |ca: &str| chain.changes.iter().any(|before| before.old_ssh_ca == ca || before.new_ssh_ca == ca);
    let instants = Timestamp(0)..=LAST_INSTANT;
    let last = chain.changes.last().map_or(Timestamp(-1), |last| last.at);
    // A key that was given up may be known to others: taken again, it would sign for two times.
    match change {
        _ if chain.has(change.new) => implausible("new"),
        _ if !is_ssh_key(&change.old_ssh_ca) => implausible("old_ssh_ca"),
        _ if !is_ssh_key(&change.new_ssh_ca) => implausible("new_ssh_ca"),
        _ if change.new_ssh_ca == change.old_ssh_ca || had_ssh(&change.new_ssh_ca) => implausible("new_ssh_ca"),
        _ if !instants.contains(&change.at) || change.at <= last => implausible("at"),
        _ if !instants.contains(&change.ssh_until) || change.ssh_until < change.at => implausible("ssh_until"),
        _ => Ok(()),
    }
}

fn is_ssh_key(text: &str) -> bool {
    let (begins, length) = SSH_KEY;
    let is_base64 = |rest: &str| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    text.strip_prefix(begins).is_some_and(|rest| rest.len() == length && is_base64(rest))
}
