//! The grant: the best partition that fits, altered to fit, locked, and agreed in signed terms.
//! All of it is one commit.

use super::alter::revise;
use super::change::Change;
use super::command::{Actor, Command, Outcome, Refusal};
use super::draft::Draft;
use super::host::check_ssh_key;
use super::listing;
use super::rows::{Agreed, Host, Image, Lease};
use std::sync::Arc;
use sublet_model::account::{Role, check_name};
use sublet_model::billing::Terms;
use sublet_model::book::{self, Match, Unfit};
use sublet_model::identity::{Sha256Digest, Signed};
use sublet_model::ids::{LeaseId, PartitionId};
use sublet_model::lease::LeaseState;
use sublet_model::partition::{Allocation, alter};
use sublet_model::requirements::Resolved;
use sublet_model::units::{Micros, Seconds};
use sublet_wire::api::{Timeline, UnfitCount};
use sublet_wire::problem::Kind;

/// The longest that a one-shot lease may outlive its client.
const LONGEST_AFTERLIFE: Seconds = Seconds(86_400);
/// The most slot-holding leases of one account.
const MOST_LEASES: usize = 10_000;

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<Outcome, Refusal> {
    let Command::Rent { actor, id, name, requirements, ssh_public_key, one_shot, release_after_disconnect } = command
    else {
        unreachable!("the step sends only this here")
    };
    actor.must_be(draft, Role::Client)?;
    if draft.account(actor.account).is_none_or(|a| a.suspended) {
        return Err(Refusal::forbidden("the account is suspended: it can't rent"));
    }
    check_ssh_key(ssh_public_key)?;
    if !(Seconds::ZERO..=LONGEST_AFTERLIFE).contains(release_after_disconnect) {
        return Err(Refusal::invalid("a one-shot lease outlives its client by a day at most"));
    }
    let name = name_of(draft, actor, *id, name.as_deref())?;
    let (needs, assumed) = requirements.resolve().map_err(|e| Refusal::invalid(e.to_string()))?;
    let (found, image) = best(draft, actor, &needs)?;
    if found.total == Micros(i64::MAX) {
        return Err(Refusal::invalid("price times term is more than can be counted").advise("ask for a shorter term"));
    }
    let (partition, host) = alter_for(draft, &found, &needs)?;
    let terms = terms(draft, actor, *id, &partition, &host, image.digest)?;
    let signed = Signed::sign(&terms, &draft.keys.market)
        .map_err(|e| Refusal::new(Kind::Internal, format!("signing the terms: {e}")))?;
    draft.put(Change::Lease(Arc::new(Lease {
        id: *id,
        name,
        account: actor.account,
        member: actor.member,
        host: host.id,
        partition: partition.0,
        generation: terms.generation,
        state: LeaseState::Granted { silent_since: None },
        timeline: Timeline { granted_at: Some(draft.now), ..Timeline::default() },
        agreed: Arc::new(Agreed { terms, signed }),
        image: image.manifest.reference(),
        term_seconds: needs.term,
        // Holds of money come with the ledger: until then the whole term counts as paid.
        paid_seconds: needs.term,
        one_shot: *one_shot,
        release_after_disconnect: *release_after_disconnect,
        ssh_public_key: ssh_public_key.clone(),
        detail: None,
        chain: None,
    })));
    Ok(Outcome::Granted { lease: *id, assumed })
}

/// The name asked for, if it is free; else one made of the id.
fn name_of(draft: &Draft<'_>, actor: &Actor, id: LeaseId, asked: Option<&str>) -> Result<String, Refusal> {
    if draft.lease(id).is_some() {
        return Err(Refusal::conflict(format!("there is a lease {id} already")));
    }
    if draft.leases_of(actor.account).filter(|l| l.state.holds_slot()).take(MOST_LEASES).count() == MOST_LEASES {
        return Err(Refusal::conflict(format!("an account has at most {MOST_LEASES} running leases")));
    }
    let Some(name) = asked else {
        // The end of an id is its random part; the whole id is unique for sure.
        let whole = id.to_string().replace('_', "-");
        let short = format!("lease-{}", &whole[whole.len() - 8..]);
        let taken = draft.lease_by_name(actor.account, &short).is_some();
        return Ok(if taken { whole } else { short });
    };
    check_name(name).map_err(Refusal::invalid)?;
    match draft.lease_by_name(actor.account, name) {
        None => Ok(name.into()),
        Some(other) => {
            Err(Refusal::conflict(format!("lease {} is called {name} and is {}", other.id, other.state.word()))
                .advise("choose another name, or release that one first"))
        }
    }
}

/// The best partition that fits, and the image that will boot in it.
fn best(draft: &Draft<'_>, actor: &Actor, needs: &Resolved) -> Result<(Match, Image), Refusal> {
    let listings = listing::listings(draft, draft.now);
    let (images, manifests) = listing::images(draft);
    let found = book::find(&listings, needs, actor.account, &manifests).map_err(no_match)?;
    let best = found.into_iter().next().ok_or_else(|| no_match(Vec::new()))?;
    let image = images.get(best.image).copied().cloned().ok_or_else(|| no_match(Vec::new()))?;
    Ok((best, image))
}

fn no_match(unfit: Vec<(Unfit, usize)>) -> Refusal {
    let count = |(reason, partitions): &(Unfit, usize)| UnfitCount {
        reason: *reason,
        words: reason.explanation().into(),
        partitions: *partitions,
    };
    let all: usize = unfit.iter().map(|(_, partitions)| partitions).sum();
    let detail = match all {
        0 => "no partition is lent at the moment".to_string(),
        _ => format!("none of the {all} partitions that are lent fits"),
    };
    let advice = unfit
        .iter()
        .max_by_key(|(_, partitions)| *partitions)
        .map(|(reason, partitions)| format!("most often ({partitions} of {all}): {}", reason.explanation()));
    Refusal { advice, unfit: unfit.iter().map(count).collect(), ..Refusal::new(Kind::NoMatch, detail) }
}

/// Alters the host so that the match has what was asked: shrunk ones first, then the chosen one
/// at its next generation. Answers it with its new allocation.
fn alter_for(
    draft: &mut Draft<'_>,
    found: &Match,
    needs: &Resolved,
) -> Result<((PartitionId, Allocation), Host), Refusal> {
    let gone = || Refusal::new(Kind::Internal, "the partition that was found is not there");
    let partition = draft.partition(found.partition).ok_or_else(gone)?;
    let (id, has) = (partition.id, partition.allocation);
    let host = draft.host(partition.host).ok_or_else(gone)?.clone();
    let mut changes = alter::plan(host.lendable(), &draft.slots(host.id), id, found.resources).ok_or_else(gone)?;
    let chosen = changes.iter().position(|c| c.id == id).map(|at| changes.remove(at)).ok_or_else(gone)?;
    revise(draft, changes);
    // A host whose record is ahead of ours (we were restored from a backup) is believed: the
    // generation rises above everything it ever ran.
    let seen = draft.live(host.id).and_then(|l| l.observed(id)).map_or(0, |o| o.applied.generation);
    let generation = has.generation.max(seen) + 1;
    // Where the partition's min is more than was asked, the shape grows with it.
    let vcpus = needs.vcpus.max(Allocation::vcpus_for(chosen.to));
    let allocation = Allocation { generation, revision: 0, resources: chosen.to, vcpus };
    draft.put(Change::Allocation { partition: id, allocation, at: draft.now });
    Ok(((id, allocation), host))
}

fn terms(
    draft: &Draft<'_>,
    actor: &Actor,
    lease: LeaseId,
    partition: &(PartitionId, Allocation),
    host: &Host,
    image: Sha256Digest,
) -> Result<Terms, Refusal> {
    let offer = draft.partition(partition.0).and_then(|p| draft.newest_offer(p.offer?));
    let offer = &offer.ok_or_else(|| Refusal::new(Kind::Internal, "the partition that was found is not lent"))?.offer;
    Ok(Terms {
        lease,
        client: actor.account,
        lender: host.account,
        host: host.id,
        partition: partition.0,
        generation: partition.1.generation,
        resources: partition.1.resources,
        vcpus: partition.1.vcpus,
        offer: offer.id,
        offer_version: offer.version,
        prices: offer.conditions.prices,
        image,
        granted_at: draft.now,
    })
}
