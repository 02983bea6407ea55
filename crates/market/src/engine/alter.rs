//! Changing the allocation of an idle partition by hand, and bringing a host's idle partitions
//! back to what is desired of them.

use super::change::Change;
use super::command::{Actor, Outcome, Refusal};
use super::draft::Draft;
use sublet_model::ids::{HostId, PartitionId};
use sublet_model::partition::Allocation;
use sublet_model::partition::alter::{self, Slot};
use sublet_model::resources::Resources;
use sublet_wire::problem::Kind;

pub(super) fn decide(
    draft: &mut Draft<'_>,
    actor: &Actor,
    id: PartitionId,
    resources: Resources,
) -> Result<Outcome, Refusal> {
    let (partition, host) = actor.partition(draft, id)?;
    let (profile, now_has, host_id, lendable) = (partition.profile, partition.allocation, host.id, host.lendable());
    if let Some(lease) = draft.holder(id) {
        let until = lease.ends_at().map_or("it has ended".to_string(), |at| format!("{at} at the latest"));
        return Err(Refusal::new(
            Kind::Locked,
            format!(
                "lease {} ({}) holds the partition: its allocation is frozen until {until}",
                lease.id,
                lease.state.word()
            ),
        )
        .advise("wait for the lease to end, or end it first"));
    }
    if !resources.fits(profile.max) || !profile.min.fits(resources) {
        return Err(Refusal::invalid(format!("the partition is between {} and {}", profile.min, profile.max)));
    }
    if resources == now_has.resources {
        return Ok(Outcome::Partition(id));
    }
    // The owner may shape what is not lent, too.
    let slots: Vec<Slot> = own_slots(draft, host_id, id);
    let changes = alter::plan(lendable, &slots, id, resources).ok_or_else(|| {
        let reach = alter::reach(lendable, &slots, id).unwrap_or(Resources::ZERO);
        Refusal::conflict(format!("the partition can become {reach} at most now")).advise("ask for less, or wait")
    })?;
    revise(draft, changes);
    draft.audit(actor.member, "partition.alter", id, format!("from {} to {resources}", now_has.resources));
    Ok(Outcome::Partition(id))
}

fn own_slots(draft: &Draft<'_>, host: HostId, id: PartitionId) -> Vec<Slot> {
    let mut slots = draft.slots(host);
    slots.iter_mut().filter(|s| s.id == id).for_each(|s| s.held = false);
    slots
}

/// Gives idle partitions other amounts: the same generation, the next revision.
pub(super) fn revise(draft: &mut Draft<'_>, changes: Vec<alter::Change>) {
    for alter::Change { id, to } in changes {
        let Some(has) = draft.partition(id).map(|p| p.allocation) else { continue };
        if has.resources == to {
            continue;
        }
        let allocation =
            Allocation { revision: has.revision + 1, resources: to, vcpus: Allocation::vcpus_for(to), ..has };
        draft.put(Change::Allocation { partition: id, allocation, at: draft.now });
    }
}

/// Brings the idle partitions of a host back to what is desired, as far as there is room.
pub(crate) fn settle(draft: &mut Draft<'_>, host: HostId) {
    let Some(lendable) = draft.host(host).map(|h| h.lendable()) else { return };
    let mut slots = draft.slots(host);
    // Here only leases hold: what is not lent is the owner's own, and returns to what it desires.
    slots.iter_mut().for_each(|s| s.held = draft.holder(s.id).is_some());
    revise(draft, alter::settle(lendable, &slots));
}
