//! Disputes: a client says that a charge is wrong, the lender's part is kept back, the operator
//! resolves it with a credit note or without one.

use super::settle::{credit, pay_out};
use super::{is_older, transfer};
use crate::engine::change::Change;
use crate::engine::command::{Actor, Command, Outcome, Refusal};
use crate::engine::draft::Draft;
use crate::engine::rows::{DisputeRow, Lease, Resolved};
use crate::engine::state::FORK;
use std::sync::Arc;
use sublet_model::account::Role;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::{DisputeId, LeaseId};
use sublet_model::ledger::{Book, Cause, fee};
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Seconds};
use uuid::{Builder, Variant, Version};

/// How long after its bill a lease can be disputed.
const DISPUTABLE: Seconds = Seconds(90 * 86_400);
/// The most open disputes of one account.
const MOST_OPEN: usize = 100;
/// The longest words.
const LONGEST: usize = 1000;

pub(in crate::engine) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::OpenDispute { actor, id, lease, line, reason, words } => {
            let row = DisputeRow {
                id: *id,
                lease: *lease,
                line: *line,
                reason: reason.clone(),
                words: words.clone(),
                opened_by: actor.member.to_string(),
                opened_at: draft.now,
                resolved: None,
            };
            open(draft, actor, row)
        }
        Command::ResolveDispute { actor, id, credit, borne_by, note } => {
            resolve(draft, actor, *id, *credit, *borne_by, note)
        }
        _ => unreachable!("the step sends only these here"),
    }
}

fn open(draft: &mut Draft<'_>, actor: &Actor, row: DisputeRow) -> Result<Outcome, Refusal> {
    let lease = Arc::clone(actor.lease(draft, row.lease, false)?);
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if !(1..=63).contains(&row.reason.len()) || !row.reason.chars().all(word) || row.reason == FORK {
        return Err(Refusal::invalid("reason: a word such as unreachable, of 1 to 63 of a-z, 0-9, - and _"));
    }
    check_words(&row.words, "words")?;
    // What the market says by itself is no word of the client's.
    if draft.open_disputes().any(|open| open.lease == row.lease && open.reason != FORK) {
        return Err(Refusal::conflict("this lease is disputed already").advise("wait until that one is resolved"));
    }
    let own = |open: &&DisputeRow| draft.lease(open.lease).is_some_and(|l| l.account == lease.account);
    if draft.open_disputes().filter(own).count() >= MOST_OPEN {
        return Err(Refusal::conflict(format!("an account has at most {MOST_OPEN} open disputes")));
    }
    let settled = draft.charge(lease.id).map(|charge| charge.settled_at);
    if settled.is_some_and(|at| draft.now > at.after(DISPUTABLE)) {
        return Err(Refusal::conflict("the bill is older than 90 days, and stands"));
    }
    let id = row.id;
    begin(draft, &lease, row)?;
    draft.audit(actor.member, "dispute.open", lease.id, "");
    Ok(Outcome::Dispute(id))
}

/// The market itself opens one: the receipts of a lease fork. Nothing that this host earns is paid
/// out until it is resolved.
pub(in crate::engine) fn open_for_fork(draft: &mut Draft<'_>, lease: LeaseId, receipt: Sha256Digest, words: &str) {
    let known = draft.open_disputes().any(|open| open.lease == lease && open.reason == FORK);
    let Some(lease) = draft.lease(lease).filter(|_| !known).cloned() else { return };
    let row = DisputeRow {
        id: fork_id(lease.id, receipt),
        lease: lease.id,
        line: None,
        reason: FORK.into(),
        words: words.chars().take(LONGEST).collect(),
        opened_by: "market".into(),
        opened_at: draft.now,
        resolved: None,
    };
    if draft.dispute(row.id).is_some() {
        return;
    }
    if let Err(error) = begin(draft, &lease, row) {
        tracing::error!(%error, "a dispute can't be opened");
    }
}

/// A receipt forks once: the dispute has its digest, and the time of its lease, so that the engine needs no
/// chance. Told again, it was explained already; another one was not.
fn fork_id(lease: LeaseId, receipt: Sha256Digest) -> DisputeId {
    let mut bytes = *lease.uuid().as_bytes();
    bytes[6..].copy_from_slice(&receipt.0[..10]);
    DisputeId::from(
        Builder::from_bytes(bytes).with_version(Version::SortRand).with_variant(Variant::RFC4122).into_uuid(),
    )
}

/// Keeps the lender's part back: of a lease that is billed already, as much as is still there.
fn begin(draft: &mut Draft<'_>, lease: &Lease, row: DisputeRow) -> Result<(), Refusal> {
    let there = draft.balance(Book::Available(lease.terms().lender));
    let kept = (earned(draft, lease) - draft.balance(Book::Withheld(lease.id))).min(there);
    let (from, to) = (Book::Available(lease.terms().lender), Book::Withheld(lease.id));
    transfer(draft, Cause::Withhold { lease: lease.id }, from, to, kept)?;
    draft.put(Change::Dispute(row));
    Ok(())
}

/// What the lender has of a lease, less what it gave back.
fn earned(draft: &Draft<'_>, lease: &Lease) -> Micros {
    let Some(of) = draft.ledger().lease(lease.id).filter(|of| of.lender.is_some()) else { return Micros::ZERO };
    let charged = Micros(i64::try_from(of.charged).unwrap_or(i64::MAX));
    let back = draft.credits(lease.id).filter(|row| row.borne_by == CreditBearer::Lender).map(|row| row.micros);
    charged - fee(charged, lease.terms().fee_permille) - back.sum()
}

fn resolve(
    draft: &mut Draft<'_>,
    actor: &Actor,
    id: DisputeId,
    micros: Micros,
    borne_by: CreditBearer,
    note: &str,
) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    let missing = || Refusal::not_found(format!("dispute {id}"));
    let row = draft.dispute(id).ok_or_else(missing)?.clone();
    if let Some(resolved) = &row.resolved {
        return Err(Refusal::conflict(format!("dispute {id} was resolved at {}", resolved.at)));
    }
    check_words(note, "note")?;
    let lease = draft.lease(row.lease).cloned().ok_or_else(missing)?;
    check_credit(draft, &lease, micros, borne_by)?;
    let micros = credit(draft, &lease, micros, borne_by, note.to_owned())?;
    let resolved = Resolved { by: actor.member.to_string(), at: draft.now, credited: micros, note: note.to_owned() };
    draft.put(Change::DisputeResolved { dispute: id, resolved });
    // What no other dispute keeps back is paid out: of this lease, and, after a fork, of the host's others.
    let freed: Vec<Arc<Lease>> = match row.reason == FORK {
        true => draft.leases_on(lease.host).cloned().collect(),
        false => vec![Arc::clone(&lease)],
    };
    for one in freed {
        if !draft.is_withheld(one.id, one.host) {
            pay_out(draft, &one)?;
        }
    }
    draft.audit(actor.member, "dispute.resolve", lease.id, format!("{micros} given back: {note}"));
    Ok(Outcome::Dispute(id))
}

fn check_credit(draft: &Draft<'_>, lease: &Lease, micros: Micros, borne_by: CreditBearer) -> Result<(), Refusal> {
    if micros == Micros::ZERO {
        return Ok(());
    }
    let of = draft.ledger().lease(lease.id).filter(|of| of.lender.is_some());
    let of = of.ok_or_else(|| nothing_to_give(draft, lease))?;
    if borne_by == CreditBearer::Lender && of.client == lease.terms().lender {
        return Err(Refusal::conflict("its client is its lender: what one gives the other changes nothing")
            .advise("give nothing back, or let the operator bear it"));
    }
    let left = Micros(i64::try_from(of.charged - of.credited).unwrap_or(i64::MAX));
    let there = match borne_by {
        CreditBearer::Operator => draft.balance(Book::Fees),
        CreditBearer::Lender => earned(draft, lease)
            .min(draft.balance(Book::Available(lease.terms().lender)) + draft.balance(Book::Withheld(lease.id))),
    };
    let most = left.min(there);
    if !(Micros::ZERO..=most).contains(&micros) {
        let other = if borne_by == CreditBearer::Lender { "operator" } else { "lender" };
        return Err(Refusal::conflict(format!("{micros} is more than can be given back here: {most}"))
            .advise(format!("give back less, or let the {other} bear it")));
    }
    Ok(())
}

fn nothing_to_give(draft: &Draft<'_>, lease: &Lease) -> Refusal {
    if is_older(draft, lease) {
        return Refusal::conflict("this lease is from before the ledger, and its bill is not in the books")
            .advise("give back nothing here, and settle it outside");
    }
    Refusal::conflict("nothing was charged for this lease yet, so nothing can be given back")
}

fn check_words(words: &str, field: &str) -> Result<(), Refusal> {
    if words.chars().count() <= LONGEST && !words.chars().any(|c| c.is_control() && c != '\n') {
        return Ok(());
    }
    Err(Refusal::invalid(format!("{field}: at most {LONGEST} characters, without control characters")))
}
