//! Renting: the best partitions that fit, all that were asked for or none of them, in one commit.
//! A preview does the same and is taken back before anybody sees it.

use super::command::{Foreseen, Outcome, Preview, Refusal, Rent};
use super::draft::Draft;
use super::host::check_ssh_key;
use sublet_model::account::{Role, check_name};
use sublet_model::ids::LeaseId;
use sublet_model::requirements::{Assumed, Resolved};
use sublet_model::units::Seconds;
use sublet_wire::problem::Kind;

mod grant;

/// The longest that a one-shot lease may outlive its client.
const LONGEST_AFTERLIFE: Seconds = Seconds(86_400);
/// The longest outage that is paid for ahead.
const LONGEST_ALLOWANCE: Seconds = Seconds(7 * 86_400);
/// The most slot-holding leases of one account.
const MOST_LEASES: usize = 10_000;
/// The most partitions that one request may ask for.
pub(crate) const MOST_AT_ONCE: usize = 64;

/// Grants what was asked for, or says why not.
pub(super) fn decide(draft: &mut Draft<'_>, rent: &Rent) -> Result<Outcome, Refusal> {
    let (_, assumed) = all(draft, rent, true)?;
    let (first, others) = rent.ids.split_first().ok_or_else(none_asked)?;
    Ok(Outcome::Granted { lease: *first, others: others.to_vec(), assumed })
}

/// Grants what was asked for, and tells what that is. The draft is to be abandoned.
pub(super) fn preview(draft: &mut Draft<'_>, rent: &Rent) -> Result<Preview, Refusal> {
    // What it would cost is worth knowing before there is money for it.
    let (grants, assumed) = all(draft, rent, false)?;
    Ok(Preview { grants, assumed })
}

fn none_asked() -> Refusal {
    Refusal::invalid("ask for one partition at least")
}

fn all(draft: &mut Draft<'_>, rent: &Rent, pay: bool) -> Result<(Vec<Foreseen>, Vec<Assumed>), Refusal> {
    let (needs, assumed) = check(draft, rent)?;
    let mut grants = Vec::new();
    for id in &rent.ids {
        let name = name_of(draft, rent, *id, grants.len() + 1)?;
        // Each one that is granted leaves less for the next: only trying tells how many fit.
        let granted = grant::one(draft, rent, *id, &name, &needs, pay);
        let mut foreseen = granted.map_err(|refusal| of_several(refusal, grants.len(), rent.ids.len()))?;
        foreseen.name = rent.name.is_some().then_some(name);
        grants.push(foreseen);
    }
    Ok((grants, assumed))
}

/// What is wrong with a request whatever is lent.
fn check(draft: &Draft<'_>, rent: &Rent) -> Result<(Resolved, Vec<Assumed>), Refusal> {
    rent.actor.must_be(draft, Role::Client)?;
    if draft.account(rent.actor.account).is_none_or(|a| a.suspended) {
        return Err(Refusal::forbidden("the account is suspended: it can't rent"));
    }
    check_ssh_key(&rent.ssh_public_key)?;
    if !(Seconds::ZERO..=LONGEST_AFTERLIFE).contains(&rent.release_after_disconnect) {
        return Err(Refusal::invalid("a one-shot lease outlives its client by a day at most"));
    }
    if !(Seconds::ZERO..=LONGEST_ALLOWANCE).contains(&rent.outage_allowance) {
        return Err(Refusal::invalid("outage_allowance: from nothing to a week"));
    }
    if !(1..=MOST_AT_ONCE).contains(&rent.ids.len()) {
        return Err(Refusal::invalid(format!("one request is for 1 to {MOST_AT_ONCE} partitions")));
    }
    let room = MOST_LEASES.saturating_sub(draft.holding_of(rent.actor.account));
    if rent.ids.len() > room {
        return Err(Refusal::conflict(format!("an account has at most {MOST_LEASES} running leases")));
    }
    let (needs, assumed) = rent.requirements.resolve().map_err(|e| Refusal::invalid(e.to_string()))?;
    if needs.asked.count.is_some_and(|count| usize::from(count) != rent.ids.len()) {
        return Err(Refusal::invalid("count: there must be as many new leases as partitions are asked for"));
    }
    Ok((needs, assumed))
}

/// All or none: where not all fit, the refusal says how many would.
fn of_several(refusal: Refusal, fit: usize, asked: usize) -> Refusal {
    if refusal.kind != Kind::NoMatch || asked == 1 {
        return refusal;
    }
    let detail = match fit {
        0 => refusal.detail,
        _ => format!("{asked} were asked for, all or none, but only {fit} fit at the moment"),
    };
    let advice = match fit {
        0 => refusal.advice,
        _ => Some(format!("ask for {fit}, or for smaller ones")),
    };
    Refusal { detail, advice, ..refusal }
}

/// The name asked for, if it is free, with a number behind it where several are rented; else one
/// made of the id.
fn name_of(draft: &Draft<'_>, rent: &Rent, id: LeaseId, number: usize) -> Result<String, Refusal> {
    let account = rent.actor.account;
    if draft.lease(id).is_some() {
        return Err(Refusal::conflict(format!("there is a lease {id} already")));
    }
    let Some(asked) = &rent.name else {
        // The end of an id is its random part; the whole id is unique for sure.
        let whole = id.to_string().replace('_', "-");
        let short = format!("lease-{}", &whole[whole.len() - 8..]);
        let taken = draft.lease_by_name(account, &short).is_some();
        return Ok(if taken { whole } else { short });
    };
    let name = if rent.ids.len() > 1 { format!("{asked}-{number}") } else { asked.clone() };
    check_name(&name).map_err(Refusal::invalid)?;
    match draft.lease_by_name(account, &name) {
        None => Ok(name),
        Some(other) => {
            Err(Refusal::conflict(format!("lease {} is called {name} and is {}", other.id, other.state.word()))
                .advise("choose another name, or release that one first"))
        }
    }
}
