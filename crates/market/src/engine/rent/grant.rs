//! One grant: the best partition that fits, altered to fit, locked, and agreed in signed terms.

use crate::engine::alter::revise;
use crate::engine::change::Change;
use crate::engine::command::{Actor, Altered, Foreseen, Refusal, Rent};
use crate::engine::draft::Draft;
use crate::engine::listing;
use crate::engine::money;
use crate::engine::rows::{Agreed, Budget, Host, Image, Lease};
use std::sync::Arc;
use sublet_model::billing::Terms;
use sublet_model::book::{Match, Search, Unfit};
use sublet_model::identity::{Sha256Digest, Signed};
use sublet_model::ids::{LeaseId, PartitionId};
use sublet_model::lease::LeaseState;
use sublet_model::partition::{Allocation, alter};
use sublet_model::requirements::Resolved;
use sublet_model::units::{Micros, Timestamp};
use sublet_wire::api::{Timeline, UnfitCount};
use sublet_wire::problem::Kind;

/// Grants the best partition that fits.
pub(super) fn one(
    draft: &mut Draft<'_>,
    rent: &Rent,
    id: LeaseId,
    name: &str,
    needs: &Resolved,
    pay: bool,
) -> Result<Foreseen, Refusal> {
    draft.relist();
    let (found, image) = best(draft, &rent.actor, needs)?;
    if found.total == Micros(i64::MAX) {
        return Err(Refusal::invalid("price times term is more than can be counted").advise("ask for a shorter term"));
    }
    let Chosen { partition, host, altered } = alter_for(draft, &found, needs)?;
    let terms = terms(draft, &rent.actor, id, &partition, &host, (image.digest, found.until))?;
    let terms = Terms { term_seconds: Some(needs.term), ..terms };
    let signed = Signed::sign(&terms, &draft.keys.market)
        .map_err(|e| Refusal::new(Kind::Internal, format!("signing the terms: {e}")))?;
    let budget = Budget { most: needs.asked.total_at_most, outage_allowance: rent.outage_allowance };
    let lease = Lease {
        id,
        name: name.into(),
        account: rent.actor.account,
        member: rent.actor.member,
        host: host.id,
        partition: partition.0,
        generation: terms.generation,
        state: LeaseState::Granted { silent_since: None },
        timeline: Timeline { granted_at: Some(draft.now), ..Timeline::default() },
        agreed: Arc::new(Agreed { terms: terms.clone(), signed }),
        image: image.manifest.reference(),
        term_seconds: needs.term,
        paid_seconds: needs.term,
        one_shot: rent.one_shot,
        release_after_disconnect: rent.release_after_disconnect,
        ssh_public_key: rent.ssh_public_key.clone(),
        detail: None,
        chain: None,
        budget,
    };
    // The row says how far it is paid, and the hold names the row: what both say is decided first.
    let paid_seconds = if pay { money::first_hold(draft, &lease)? } else { (needs.term, Micros::ZERO) };
    let (paid_seconds, held) = paid_seconds;
    draft.put(Change::Lease(Arc::new(Lease { paid_seconds, ..lease })));
    if pay {
        money::hold(draft, id, terms.client, held)?;
    }
    Ok(Foreseen { name: None, terms, term: needs.term, altered })
}

/// The best partition that fits, and the image that will boot in it.
fn best(draft: &Draft<'_>, actor: &Actor, needs: &Resolved) -> Result<(Match, Image), Refusal> {
    let (images, manifests) = listing::images(draft);
    let search = Search { needs, client: actor.account, images: &manifests, now: draft.now };
    let found = listing::find(draft, &search, 1).matches.into_iter().next();
    let (best, _) = found.ok_or_else(|| no_match(draft, &search))?;
    let image = images.get(best.image).copied().cloned().ok_or_else(|| no_match(draft, &search))?;
    Ok((best, image))
}

fn no_match(draft: &Draft<'_>, search: &Search<'_>) -> Refusal {
    let (unfit, asked, all) = (listing::unfit(draft, search), &search.needs.asked, draft.book().len());
    let count = |(reason, partitions): &(Unfit, usize)| UnfitCount::new(*reason, asked, *partitions);
    let detail = match all {
        0 => "no partition is lent at the moment".to_string(),
        _ => format!("none of the {all} partitions that are lent fits"),
    };
    let advice = unfit
        .iter()
        .max_by_key(|(_, partitions)| *partitions)
        .map(|(reason, partitions)| format!("most often ({partitions} of {all}): {}", reason.explanation(asked)));
    Refusal { advice, unfit: unfit.iter().map(count).collect(), ..Refusal::new(Kind::NoMatch, detail) }
}

/// The partition that was chosen, as it is from now on.
struct Chosen {
    partition: (PartitionId, Allocation),
    host: Host,
    altered: Vec<Altered>,
}

/// Alters the host so that the match has what was asked: shrunk ones first, then the chosen one
/// at its next generation.
fn alter_for(draft: &mut Draft<'_>, found: &Match, needs: &Resolved) -> Result<Chosen, Refusal> {
    let gone = || Refusal::new(Kind::Internal, "the partition that was found is not there");
    let partition = draft.partition(found.partition).ok_or_else(gone)?;
    let (id, has) = (partition.id, partition.allocation);
    let host = draft.host(partition.host).ok_or_else(gone)?.clone();
    let slots = draft.slots(host.id);
    let mut changes = alter::plan(host.lendable(), &slots, id, found.resources).ok_or_else(gone)?;
    let altered = changes.iter().filter_map(|change| {
        let from = slots.iter().find(|slot| slot.id == change.id)?.has;
        Some(Altered { partition: change.id, from, to: change.to })
    });
    let altered = altered.filter(|a| a.from != a.to || a.partition == id).collect();
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
    Ok(Chosen { partition: (id, allocation), host, altered })
}

fn terms(
    draft: &Draft<'_>,
    actor: &Actor,
    lease: LeaseId,
    partition: &(PartitionId, Allocation),
    host: &Host,
    (image, until): (Sha256Digest, Option<Timestamp>),
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
        until,
        fee_permille: draft.settings().fee_permille,
        term_seconds: None,
    })
}
