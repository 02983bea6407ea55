//! The keys of a statement's head: which signed what, and when.

use super::fault::{Problem, Wrong, same};
use super::record::Head;
use crate::identity::PublicKey;
use crate::market_keys::{BadLink, KeyChain, LinkProblem};

/// The chain of a head, if every change follows and the last leads to the market's key. `known` has to
/// be one of its keys.
pub(super) fn chain_of(head: &Head, known: Option<PublicKey>) -> Result<KeyChain, Wrong> {
    let chain = KeyChain::told(&head.keys, head.market).map_err(wrong)?;
    same(Problem::Key, chain.newest(), head.market)?;
    match known {
        Some(known) if !chain.has(known) => Err(Wrong::new(Problem::Key).expected(known).found(head.market)),
        _ => Ok(chain),
    }
}

/// Told as the head's, with the change as its field.
fn wrong(BadLink { number, problem }: BadLink) -> Wrong {
    let named = |problem, member: &str| {
        let dot = if member.is_empty() { "" } else { "." };
        Wrong::new(problem).field(format!("keys[{}]{dot}{member}", number - 1))
    };
    let both = |wrong: Wrong, expected: String, found: String| wrong.expected(expected).found(found);
    match problem {
        LinkProblem::TooMany => Wrong::new(Problem::Implausible).field("keys"),
        LinkProblem::Key { expected, found } => both(named(Problem::Key, ""), expected, found),
        LinkProblem::Signature => named(Problem::Signature, ""),
        LinkProblem::Malformed => named(Problem::Malformed, ""),
        LinkProblem::Number { expected, found } => {
            both(named(Problem::Order, "number"), expected.to_string(), found.to_string())
        }
        LinkProblem::Previous { expected, found } => both(named(Problem::Previous, "previous"), expected, found),
        LinkProblem::Old { expected, found } => both(named(Problem::Key, "old"), expected, found),
        LinkProblem::Proof => named(Problem::Signature, "proof"),
        LinkProblem::OldSshCa { expected, found } => both(named(Problem::Key, "old_ssh_ca"), expected, found),
        LinkProblem::Implausible(member) => named(Problem::Implausible, member),
    }
}
