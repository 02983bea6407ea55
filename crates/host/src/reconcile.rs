//! What to do so that the host becomes what the market wants, as far as the owner's policy lets
//! it. Pure: plan, what is seen and the policy in; steps out. The agent does them in order and
//! asks again; when nothing is left the plan is reached, or what is refused has been said.
//!
//! Rules that hold whatever the market says:
//! - a generation lower than the applied one is refused, and so is any change of an allocation
//!   while a lease holds it;
//! - two generations of a partition never run at once: the old one is stopped and gone first;
//! - nothing starts unless all that is applied, taken together, is within what the owner lends,
//!   and the steps that shrink others stand before it;
//! - nothing starts without terms signed by a key of the market, the one it had then, that name this host,
//!   partition, generation, lease, image and amounts.

use crate::terms::check_run;
use std::collections::BTreeMap;
use sublet_model::ids::{HostId, LeaseId, PartitionId};
use sublet_model::lease::EndReason;
use sublet_model::market_keys::KeyChain;
use sublet_model::partition::{Allocation, Profile};
use sublet_model::resources::Resources;
use sublet_model::units::Seconds;
use sublet_wire::sync::{Division, Run, Wanted};

/// What the owner and this computer allow. Final, whatever the market wants.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Who this is.
    pub host: HostId,
    /// Sign terms, each in its own time.
    pub market_keys: KeyChain,
    /// Such as `x86_64`.
    pub arch: String,
    /// Hardware threads.
    pub threads: u16,
    /// All that may be lent: what there is, less what the owner keeps.
    pub lendable: Resources,
    /// The partitions.
    pub partitions: BTreeMap<PartitionId, Local>,
}

/// The owner's word on one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// Between which bounds it may be shaped.
    pub profile: Profile,
    /// Whether it is lent.
    pub lendable: bool,
    /// The generation that the owner wants back at once.
    pub taken_back: Option<u64>,
}

impl Policy {
    /// The partitions of a division.
    pub fn partitions_of(division: &Division) -> BTreeMap<PartitionId, Local> {
        let local = |d: &sublet_wire::sync::Declared| Local {
            profile: d.profile,
            lendable: d.lendable && division.conditions.is_some(),
            taken_back: d.taken_back,
        };
        division.partitions.iter().map(|d| (d.id, local(d))).collect()
    }
}

/// One partition as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which one.
    pub partition: PartitionId,
    /// What was applied last.
    pub applied: Allocation,
    /// What became of that generation.
    pub life: Life,
}

/// What became of the applied generation.
///
/// ```text
/// Idle --Begin--> Held --Stop--> Held, stopping --(stopped, wiped)--> Gone --Acknowledge--> Gone, known
///   |                                                                  ^
///   +--SayGone---------------------------------------------------------+
/// ```
/// Applying a higher generation begins at Idle again; only what is Idle or Gone can be applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It never ran.
    Idle,
    /// A lease holds it.
    Held {
        /// Which lease.
        lease: LeaseId,
        /// May run so long.
        term: Seconds,
        /// Is paid for so long.
        paid: Seconds,
        /// Whether it is being ended.
        stopping: bool,
    },
    /// It is stopped and wiped, or never ran and won't.
    Gone {
        /// Whether the market knows.
        acknowledged: bool,
    },
}

/// One thing to do. Each may be repeated.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// End what runs.
    Stop {
        /// In which partition.
        partition: PartitionId,
        /// Why, where the host decides it; none: the market wants it.
        reason: Option<EndReason>,
    },
    /// Record durably what a partition has from now on.
    Apply {
        /// Which one.
        partition: PartitionId,
        /// How much.
        allocation: Allocation,
    },
    /// Begin a life: fetch, start, identify.
    Begin {
        /// In which partition.
        partition: PartitionId,
        /// Of which generation.
        generation: u64,
        /// What is to run.
        run: Box<Run>,
    },
    /// Move the ends of a life.
    Extend {
        /// In which partition.
        partition: PartitionId,
        /// May run so long.
        term: Seconds,
        /// Is paid for so long.
        paid: Seconds,
    },
    /// Record that a generation won't run here, so that its slot becomes free.
    SayGone {
        /// In which partition.
        partition: PartitionId,
        /// Which generation.
        generation: u64,
        /// Why, and in words, where the host decides it.
        why: Option<(EndReason, String)>,
    },
    /// The market knows durably that a generation is gone.
    Acknowledge {
        /// In which partition.
        partition: PartitionId,
        /// Which generation.
        generation: u64,
    },
    /// Nothing is done, and why is said.
    Refuse {
        /// For which partition.
        partition: PartitionId,
        /// In words.
        why: String,
    },
}

/// What to do next. Steps of one answer are done in order; where one fails, the later ones of
/// this answer that start something are not done.
pub fn reconcile(plan: &[Wanted], seen: &[Seen], policy: &Policy) -> Vec<Step> {
    let seen: BTreeMap<PartitionId, &Seen> = seen.iter().map(|s| (s.partition, s)).collect();
    let mut steps = owner_stops(&seen, policy);
    let mut unique = BTreeMap::new();
    for wanted in plan {
        if unique.insert(wanted.partition, wanted).is_some() {
            // A plan that says two things of one partition says nothing.
            return vec![refuse(wanted.partition, "the plan names this partition twice; all of it is refused".into())];
        }
    }
    let stopped =
        |steps: &[Step], id| steps.iter().any(|s| matches!(s, Step::Stop { partition, .. } if *partition == id));
    for (id, seen) in &seen {
        let unwanted = match unique.get(id) {
            None => true,
            Some(w) => {
                w.allocation.generation > seen.applied.generation
                    || (w.allocation.generation == seen.applied.generation && w.run.is_none())
            }
        };
        if unwanted && matches!(seen.life, Life::Held { stopping: false, .. }) && !stopped(&steps, *id) {
            steps.push(Step::Stop { partition: *id, reason: None });
        }
    }
    let (applies, after, refused) = applies(&unique, &seen, policy);
    steps.extend(applies);
    let ended_now = steps.clone();
    for (id, wanted) in &unique {
        if let Some(why) = refused.get(id) {
            steps.push(refuse(*id, why.clone()));
        } else if let Some((allocation, life)) = after.get(id)
            && !stopped(&ended_now, *id)
        {
            steps.extend(goal(wanted, allocation, life, total(&after, policy), policy));
        }
    }
    steps
}

/// What to do while no plan is known: the owner's word holds without a market, and nothing else
/// changes. No plan is not the same as a plan that wants nothing.
pub fn without_plan(seen: &[Seen], policy: &Policy) -> Vec<Step> {
    owner_stops(&seen.iter().map(|s| (s.partition, s)).collect(), policy)
}

fn refuse(partition: PartitionId, why: String) -> Step {
    Step::Refuse { partition, why }
}

/// What the owner wants back at once goes first.
fn owner_stops(seen: &BTreeMap<PartitionId, &Seen>, policy: &Policy) -> Vec<Step> {
    let wanted_back = |s: &&&Seen| {
        let back = policy.partitions.get(&s.partition).and_then(|local| local.taken_back);
        matches!(s.life, Life::Held { stopping: false, .. }) && back.is_some_and(|g| s.applied.generation <= g)
    };
    let back = seen.values().filter(wanted_back);
    back.map(|s| Step::Stop { partition: s.partition, reason: Some(EndReason::Evicted) }).collect()
}

/// Allocation and life of each partition once the steps so far are done.
type After = BTreeMap<PartitionId, (Allocation, Life)>;

/// What is taken, together. A partition that the owner divided away and no lease holds takes
/// nothing any more: it never starts again.
fn total(after: &After, policy: &Policy) -> Resources {
    let takes = |id: &PartitionId, life: &Life| policy.partitions.contains_key(id) || matches!(life, Life::Held { .. });
    after.iter().filter(|(id, (_, life))| takes(id, life)).map(|(_, (allocation, _))| allocation.resources).sum()
}

/// Whether a partition of the owner's own may have `resources`, beside all that is applied.
pub fn has_room(seen: &[Seen], policy: &Policy, own: PartitionId, resources: Resources) -> bool {
    let others = seen.iter().filter(|s| s.partition != own);
    let others: After = others.map(|s| (s.partition, (s.applied, s.life.clone()))).collect();
    (total(&others, policy) + resources).fits(policy.lendable)
}

/// The allocations to apply, shrunk ones first, and those refused, each with why.
fn applies(
    plan: &BTreeMap<PartitionId, &Wanted>,
    seen: &BTreeMap<PartitionId, &Seen>,
    policy: &Policy,
) -> (Vec<Step>, After, BTreeMap<PartitionId, String>) {
    let mut after: After = seen.iter().map(|(id, s)| (*id, (s.applied, s.life.clone()))).collect();
    let mut refused = BTreeMap::new();
    let (mut shrinking, mut growing) = (Vec::new(), Vec::new());
    for (id, wanted) in plan {
        match judge(wanted, seen.get(id).copied(), policy) {
            Verdict::Same | Verdict::Wait => {}
            Verdict::Refused(why) => drop(refused.insert(*id, why)),
            Verdict::Apply => {
                let had = seen.get(id).map_or(Resources::ZERO, |s| s.applied.resources);
                let list = if wanted.allocation.resources.fits(had) { &mut shrinking } else { &mut growing };
                list.push((*id, wanted.allocation));
            }
        }
    }
    let become_ = |after: &mut After, id: PartitionId, allocation: Allocation| {
        let same = after.get(&id).filter(|(had, _)| had.generation == allocation.generation);
        let life = same.map_or(Life::Idle, |(_, life)| life.clone());
        after.insert(id, (allocation, life))
    };
    for (id, allocation) in &shrinking {
        become_(&mut after, *id, *allocation);
    }
    let mut grown = after.clone();
    for (id, allocation) in &growing {
        become_(&mut grown, *id, *allocation);
    }
    if total(&grown, policy).fits(policy.lendable) {
        after = grown;
    } else {
        // One by one, as far as there is room: a part of a plan is better than none of it.
        growing.retain(|(id, allocation)| {
            let mut tried = after.clone();
            become_(&mut tried, *id, *allocation);
            let fits = total(&tried, policy).fits(policy.lendable);
            if fits {
                after = tried;
            } else {
                let why =
                    format!("{} more would be above the {} that is lent here", allocation.resources, policy.lendable);
                refused.insert(*id, why);
            }
            fits
        });
    }
    let steps = shrinking.into_iter().chain(growing);
    (steps.map(|(partition, allocation)| Step::Apply { partition, allocation }).collect(), after, refused)
}

enum Verdict {
    /// Applied already.
    Same,
    /// An older generation has to be gone first.
    Wait,
    /// To be recorded.
    Apply,
    /// Never, and why.
    Refused(String),
}

/// Whether this host may apply an allocation.
fn judge(wanted: &Wanted, seen: Option<&Seen>, policy: &Policy) -> Verdict {
    let new = wanted.allocation;
    let Some(local) = policy.partitions.get(&wanted.partition) else {
        return Verdict::Refused("there is no such partition here".into());
    };
    if let Some(seen) = seen {
        let had = seen.applied;
        if had == new {
            return Verdict::Same;
        }
        if new.generation < had.generation {
            let why = format!("generation {} is older than {}, which was applied here", new.generation, had.generation);
            return Verdict::Refused(why);
        }
        let held = matches!(seen.life, Life::Held { .. });
        if new.generation == had.generation && held {
            return Verdict::Refused("a lease holds the partition: its allocation is frozen".into());
        }
        if new.generation == had.generation && new.revision <= had.revision {
            return Verdict::Refused(format!(
                "revision {} of generation {} is applied already",
                had.revision, had.generation
            ));
        }
        if held {
            return Verdict::Wait;
        }
    }
    if !new.resources.is_plausible() || new.vcpus == 0 || new.resources.cpu.0 > i64::from(new.vcpus) * 1000 {
        return Verdict::Refused(format!("no partition can have {} on {} vcpus", new.resources, new.vcpus));
    }
    if let Some(dimension) = new.resources.exceeds(local.profile.max) {
        return Verdict::Refused(format!("{} is above what the owner allows in {dimension}", new.resources));
    }
    // It may run on the owner's word alone, so no plan takes any of it.
    if let Some(dimension) = local.profile.min.exceeds(new.resources).filter(|_| !local.lendable) {
        return Verdict::Refused(format!("{} is below what the owner's own has in {dimension}", new.resources));
    }
    Verdict::Apply
}

/// What is left to do for a partition that has its allocation.
fn goal(wanted: &Wanted, allocation: &Allocation, life: &Life, total: Resources, policy: &Policy) -> Option<Step> {
    let partition = wanted.partition;
    let generation = allocation.generation;
    if wanted.allocation.generation != generation {
        // An older generation is on its way out; what it waits for is not due yet.
        return None;
    }
    match (life, &wanted.run) {
        (Life::Idle, Some(run)) => Some(match may_begin(wanted, run, total, policy) {
            Ok(()) => Step::Begin { partition, generation, run: Box::new(run.clone()) },
            // Recorded as gone, so that the client hears why instead of waiting.
            Err(No::Never(reason, words)) => Step::SayGone { partition, generation, why: Some((reason, words)) },
            Err(No::NotNow(why)) => refuse(partition, why),
        }),
        // Generation 0 is before the first grant: there is nothing that could be gone.
        (Life::Idle, None) if generation == 0 || wanted.gone == Some(generation) => None,
        (Life::Idle, None) => Some(Step::SayGone { partition, generation, why: None }),
        (Life::Held { lease, .. }, Some(run)) if *lease != run.lease => {
            Some(refuse(partition, format!("{lease} holds this generation, not {}", run.lease)))
        }
        (Life::Held { term, paid, stopping: false, .. }, Some(run)) => {
            let (more_term, more_paid) = (run.term_seconds.max(*term), run.paid_seconds.max(*paid));
            let more = more_term > *term || more_paid > *paid;
            more.then_some(Step::Extend { partition, term: more_term, paid: more_paid })
        }
        // What has to be stopped was said above; what is stopping goes its way.
        (Life::Held { .. }, _) => None,
        (Life::Gone { acknowledged: false }, None) if wanted.gone >= Some(generation) => {
            Some(Step::Acknowledge { partition, generation })
        }
        (Life::Gone { .. }, _) => None,
    }
}

enum No {
    /// This generation will never run here, for this reason.
    Never(EndReason, String),
    /// Not as things are.
    NotNow(String),
}

fn may_begin(wanted: &Wanted, run: &Run, total: Resources, policy: &Policy) -> Result<(), No> {
    let local = policy.partitions.get(&wanted.partition);
    let local = local.ok_or_else(|| No::NotNow("there is no such partition here".into()))?;
    let generation = wanted.allocation.generation;
    if generation == 0 {
        return Err(No::NotNow("generation 0 is before the first grant: nothing can run".into()));
    }
    let wrong = |why| No::Never(EndReason::BootFailed, format!("the host refuses it: {why}"));
    check_run(wanted.partition, &wanted.allocation, run, policy).map_err(wrong)?;
    if !local.lendable || local.taken_back.is_some_and(|g| generation <= g) {
        return Err(No::Never(EndReason::Evicted, "the owner does not lend this partition any more".into()));
    }
    if !total.fits(policy.lendable) {
        let why = format!("{total} is allocated in all, but only {} is lent here", policy.lendable);
        return Err(No::NotNow(why));
    }
    Ok(())
}

#[cfg(test)]
mod sequences;
#[cfg(test)]
mod tests;
