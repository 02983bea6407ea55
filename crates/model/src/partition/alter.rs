//! Alteration: how the partitions of a host change so that a request fits into one of them.
//!
//! A partition can become what is asked if, in every summed dimension, the request is at most its
//! max and at most `lendable - held allocations - min of the other idle ones`. Free capacity is
//! used first; then idle partitions shrink, the one with the largest slack first; a held partition
//! never changes. What is free is derived here each time and stored nowhere.

use super::Profile;
use crate::ids::PartitionId;
use crate::resources::Resources;
use crate::units::{GiB, MiB, Millicores};

/// What the rule needs to know of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Which one.
    pub id: PartitionId,
    /// Its bounds.
    pub profile: Profile,
    /// What it has now.
    pub has: Resources,
    /// Whether a lease holds it.
    pub held: bool,
}

/// What a partition is to have from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub id: PartitionId,
    /// How much.
    pub to: Resources,
}

/// The most that the idle partition `id` could become now.
pub fn reach(lendable: Resources, slots: &[Slot], id: PartitionId) -> Option<Resources> {
    slots.iter().find(|s| s.id == id && !s.held).map(|s| reach_if_idle(lendable, slots, s))
}

/// The most that one of these partitions could become if nobody held it.
pub fn reach_if_idle(lendable: Resources, slots: &[Slot], this: &Slot) -> Resources {
    let others = slots.iter().filter(|s| s.id != this.id);
    let taken: Resources = others.map(|s| if s.held { s.has } else { s.profile.min }).sum();
    this.profile.max.min(lendable - taken)
}

/// The changes after which the idle partition `id` has `wanted` (raised to its min where less was
/// asked), shrunk ones first; none if it can't become that.
pub fn plan(lendable: Resources, slots: &[Slot], id: PartitionId, wanted: Resources) -> Option<Vec<Change>> {
    let this = slots.iter().find(|s| s.id == id && !s.held)?;
    let to = wanted.max(this.profile.min);
    if !to.fits(reach(lendable, slots, id)?) {
        return None;
    }
    let others = slots.iter().filter(|s| s.id != id).map(|s| s.has).sum::<Resources>();
    let mut missing = (to + others - lendable).max(Resources::ZERO);
    let mut idle: Vec<Slot> = slots.iter().filter(|s| s.id != id && !s.held).copied().collect();
    let mut changes = Vec::new();
    // Largest slack first, so that few partitions change; ids settle ties, so that a plan is one.
    idle.sort_by_key(|s| {
        (std::cmp::Reverse(s.has.cpu - s.profile.min.cpu), std::cmp::Reverse(s.has.memory - s.profile.min.memory), s.id)
    });
    for slot in idle {
        let slack = (slot.has - slot.profile.min).max(Resources::ZERO);
        let give = missing.min(slack);
        if give != Resources::ZERO {
            changes.push(Change { id: slot.id, to: slot.has - give });
            missing -= give;
        }
    }
    changes.push(Change { id, to });
    Some(changes)
}

/// The changes by which idle partitions return towards what is desired of them, as far as there
/// is room; where the computer shrank, those by which they give back what is above their min.
pub fn settle(lendable: Resources, slots: &[Slot]) -> Vec<Change> {
    let held: Resources = slots.iter().filter(|s| s.held).map(|s| s.has).sum();
    let mins: Resources = slots.iter().filter(|s| !s.held).map(|s| s.profile.min).sum();
    let mut free = lendable - held - mins;
    let mut idle: Vec<Slot> = slots.iter().filter(|s| !s.held).copied().collect();
    idle.sort_by_key(|s| s.id);
    let mut changes = Vec::new();
    for slot in idle {
        let extra = (slot.profile.desired - slot.profile.min).min(free.max(Resources::ZERO));
        free -= extra;
        let to = slot.profile.min + extra;
        if to != slot.has {
            changes.push(Change { id: slot.id, to });
        }
    }
    // What shrinks comes first: the host never holds more than it has, even in between.
    changes.sort_by_key(|c| slots.iter().find(|s| s.id == c.id).is_some_and(|s| !c.to.fits(s.has)));
    changes
}

/// Why a division of a computer can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the partitions need at least {needed}, but only {lendable} is lendable: keep less, or ask for less")]
pub struct DivisionError {
    needed: String,
    lendable: String,
}

/// Checks that the owner can always be made whole: the sum of all min is within what is lendable.
pub fn check_division(lendable: Resources, profiles: &[Profile]) -> Result<(), DivisionError> {
    let needed: Resources = profiles.iter().map(|p| p.min).sum();
    if needed.fits(lendable) {
        return Ok(());
    }
    Err(DivisionError { needed: needed.to_string(), lendable: lendable.to_string() })
}

/// Shorthand for tests and fixtures.
pub fn resources(cpu: i64, memory: i64, disk: i64) -> Resources {
    Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(disk) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn id(n: u128) -> PartitionId {
        Uuid::from_u128(n).into()
    }

    fn slot(n: u128, min: i64, desired: i64, max: i64, has: i64, held: bool) -> Slot {
        let r = |cpu| resources(cpu, 64, 0);
        Slot { id: id(n), profile: Profile { min: r(min), desired: r(desired), max: r(max) }, has: r(has), held }
    }

    #[test]
    fn free_first_then_the_largest_slack_never_a_held_one() {
        let lendable = resources(4000, 4096, 0);
        let slots = [
            slot(1, 200, 1000, 3000, 1000, false),
            slot(2, 900, 1000, 3000, 1000, false),
            slot(3, 100, 1000, 3000, 1000, true),
        ];
        // 1000 is free: nobody shrinks.
        assert_eq!(
            plan(lendable, &slots, id(2), resources(2000, 64, 0)).unwrap(),
            [Change { id: id(2), to: resources(2000, 64, 0) }]
        );
        // 2500 needs 500 more: partition 1 has the slack; partition 3 is held.
        assert_eq!(
            plan(lendable, &slots, id(2), resources(2500, 64, 0)).unwrap(),
            [Change { id: id(1), to: resources(500, 64, 0) }, Change { id: id(2), to: resources(2500, 64, 0) }]
        );
        assert_eq!(reach(lendable, &slots, id(2)), Some(resources(2800, 3968, 0).min(resources(3000, 64, 0))));
        assert_eq!(plan(lendable, &slots, id(2), resources(2801, 64, 0)), None);
        assert_eq!(plan(lendable, &slots, id(3), resources(100, 64, 0)), None, "a held one can't be had");
    }

    fn markets() -> impl Strategy<Value = (Resources, Vec<Slot>)> {
        let one = (100i64..500, 0i64..2000, 0i64..2000, any::<bool>());
        proptest::collection::vec(one, 1..8)
            .prop_flat_map(|rows| {
                let mins: i64 = rows.iter().map(|r| r.0).sum();
                (Just(rows), mins..mins + 6000)
            })
            .prop_map(|(rows, cpu)| {
                let lendable = resources(cpu, 1 << 20, 0);
                let mut slots: Vec<Slot> = rows
                    .into_iter()
                    .enumerate()
                    .map(|(n, (min, d, m, held))| slot(n as u128 + 1, min, min + d, min + d + m, min, held))
                    .collect();
                for change in settle(lendable, &slots.iter().map(|s| Slot { held: false, ..*s }).collect::<Vec<_>>()) {
                    if let Some(s) = slots.iter_mut().find(|s| s.id == change.id) {
                        s.has = change.to
                    }
                }
                (lendable, slots)
            })
    }

    proptest! {
        #[test]
        fn a_plan_never_overbooks_touches_no_held_one_and_keeps_bounds((lendable, slots) in markets(), which in 0usize..8, cpu in 100i64..5000) {
            let target = slots[which % slots.len()].id;
            let wanted = resources(cpu, 64, 0);
            let planned = plan(lendable, &slots, target, wanted);
            // Exactly if what is asked, raised to the partition's own min, is within its reach.
            let least = slots.iter().find(|s| s.id == target).unwrap().profile.min;
            let possible = reach(lendable, &slots, target).is_some_and(|r| wanted.max(least).fits(r));
            prop_assert_eq!(planned.is_some(), possible);
            let Some(changes) = planned else { return Ok(()) };
            let mut after = slots.clone();
            for change in &changes {
                let s = after.iter_mut().find(|s| s.id == change.id).unwrap();
                prop_assert!(!s.held);
                prop_assert!(s.profile.min.fits(change.to) && change.to.fits(s.profile.max));
                s.has = change.to;
            }
            let sum: Resources = after.iter().map(|s| s.has).sum();
            prop_assert!(sum.fits(lendable));
            // Released again, all return to what they had, for that was settled.
            let back = settle(lendable, &after.iter().map(|s| Slot { held: false, ..*s }).collect::<Vec<_>>());
            for change in back {
                after.iter_mut().find(|s| s.id == change.id).unwrap().has = change.to;
            }
            prop_assert_eq!(after.iter().map(|s| s.has).collect::<Vec<_>>(), slots.iter().map(|s| s.has).collect::<Vec<_>>());
        }
    }
}
