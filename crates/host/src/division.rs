//! How the owner divides the computer: said here, on the owner's machine, and final here.

mod own;

pub use own::{NewOwn, divide, own_in_all, remove_own, wish};

use crate::qemu::memory_overhead;
use crate::store::{Own, Store, StoreError};
use std::collections::BTreeSet;
use sublet_model::account::check_name;
use sublet_model::host::Inventory;
use sublet_model::ids::PartitionId;
use sublet_model::offer::Conditions;
use sublet_model::partition::alter::check_division;
use sublet_model::partition::{Allocation, Profile};
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Millicores};
use sublet_wire::sync::{Declared, Division, MOST_PARTITIONS};

/// Why the computer can't be divided so.
#[derive(Debug, thiserror::Error)]
pub enum DivisionError {
    /// It did not join yet.
    #[error("this computer has not joined a market: run `sublet host join` first")]
    NotJoined,
    /// More is kept than there is.
    #[error("{keep} can't be kept: the computer has {has}")]
    KeepsTooMuch {
        /// What was to be kept.
        keep: Resources,
        /// What there is.
        has: Resources,
    },
    /// The bounds of a partition.
    #[error("partition {name}: {source}")]
    Profile {
        /// Which one.
        name: String,
        /// What is wrong.
        source: sublet_model::partition::ProfileError,
    },
    /// Taken together.
    #[error("{0}")]
    Sum(#[from] sublet_model::partition::alter::DivisionError),
    /// The conditions.
    #[error("the conditions can't be offered: {0}")]
    Conditions(String),
    /// A name.
    #[error("{0:?} can't be a partition's name: use 1 to 63 of a-z, 0-9 and -, not at an end, each name once")]
    Name(String),
    /// No such partition.
    #[error("there is no partition {0:?} here; `sublet host status` names them")]
    Unknown(String),
    /// A lease holds it.
    #[error("a lease holds partition {0}: it stays as it is until that ends (`sublet host take-back --now` ends it)")]
    Held(String),
    /// The owner's own is not lent.
    #[error("partition {0} is your own: `sublet host own` is for it")]
    Own(String),
    /// No such partition of the owner's own.
    #[error("you have no partition {0:?} of your own here; `sublet host own list` names them")]
    NotOwn(String),
    /// Two of one name.
    #[error("there is a partition {0} here already: give the new one another name, as in mine=debian:2cpu,4GiB")]
    Taken(String),
    /// The image.
    #[error("{image} can't boot in {name}, which has {has}: {problem}")]
    Image {
        /// Which image.
        image: String,
        /// In which partition.
        name: String,
        /// What that has.
        has: Resources,
        /// What is wrong.
        problem: String,
    },
    /// None, or too many.
    #[error("a computer is divided into 1 to {MOST_PARTITIONS} partitions")]
    Count,
    /// What is lent is too little for so many.
    #[error("{lendable} divided into {count} partitions is less than the smallest can have: divide it into fewer")]
    TooSmall {
        /// What is lent in all.
        lendable: Resources,
        /// Into how many.
        count: usize,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What may be lent: what there is, less what the owner keeps. Below zero if the computer shrank.
pub fn lendable(inventory: &Inventory, keep: Resources) -> Resources {
    inventory.resources() - keep
}

/// One partition as the owner asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// One of a kind on the host.
    pub name: String,
    /// Between which bounds.
    pub profile: Profile,
}

/// What the owner lends, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lending {
    /// What the owner keeps.
    pub keep: Resources,
    /// On what conditions the rest is lent.
    pub conditions: Conditions,
    /// The partitions.
    pub partitions: Vec<Asked>,
}

/// So many partitions of what is lendable, evenly: each may shrink to a small one and grow to all
/// of it while the others idle. Each leaves room for the monitor that will run it.
pub fn evenly(inventory: &Inventory, keep: Resources, count: usize) -> Result<Vec<Asked>, DivisionError> {
    if count == 0 || count > MOST_PARTITIONS {
        return Err(DivisionError::Count);
    }
    let all = lendable(inventory, keep);
    let n = count as i64;
    let share = |whole: Resources| Resources {
        cpu: Millicores(whole.cpu.0 / n / 100 * 100),
        memory: MiB(whole.memory.0 / n / 64 * 64),
        disk: GiB(whole.disk.0 / n),
    };
    let headroom = MiB(memory_overhead(MiB(all.memory.0 / n)).0);
    let within = |part: Resources| Resources { memory: part.memory - headroom, ..part };
    let desired = share(within(Resources { memory: all.memory - MiB(headroom.0 * (n - 1)), ..all }));
    if !Profile::SMALLEST.fits(desired) {
        return Err(DivisionError::TooSmall { lendable: all, count });
    }
    let least = Resources { disk: GiB(0), ..Profile::SMALLEST };
    // The others keep their least, so no one can become more than the rest.
    let others =
        Resources { cpu: Millicores(least.cpu.0 * (n - 1)), memory: MiB(least.memory.0 * (n - 1)), disk: GiB(0) };
    let spare = MiB(headroom.0 * n);
    let max = (all - others - Resources { memory: spare, ..Resources::ZERO }).max(desired);
    let profile = Profile { min: least.min(desired), desired, max };
    let names = (1..=count).map(|i| format!("p{i}"));
    Ok(names.map(|name| Asked { name, profile }).collect())
}

fn check(inventory: &Inventory, lending: &Lending, own: &[Own]) -> Result<(), DivisionError> {
    let has = inventory.resources();
    if !Resources::ZERO.fits(lending.keep) || !lending.keep.fits(has) {
        return Err(DivisionError::KeepsTooMuch { keep: lending.keep, has });
    }
    if lending.partitions.is_empty() || lending.partitions.len() + own.len() > MOST_PARTITIONS {
        return Err(DivisionError::Count);
    }
    lending.conditions.check().map_err(DivisionError::Conditions)?;
    let mut names = BTreeSet::new();
    for asked in &lending.partitions {
        if check_name(&asked.name).is_err() || !names.insert(&asked.name) {
            return Err(DivisionError::Name(asked.name.chars().take(64).collect()));
        }
        let named = |source| DivisionError::Profile { name: asked.name.clone(), source };
        asked.profile.check().map_err(named)?;
        if own.iter().any(|own| own.name == asked.name) {
            return Err(DivisionError::Own(asked.name.clone()));
        }
    }
    let own = own.iter().map(|own| Profile::fixed(own.resources));
    let profiles: Vec<Profile> = lending.partitions.iter().map(|p| p.profile).chain(own).collect();
    Ok(check_division(lendable(inventory, lending.keep), &profiles)?)
}

/// The partitions that leases hold now.
fn held(store: &Store) -> Result<BTreeSet<PartitionId>, StoreError> {
    Ok(store.live_runs()?.into_iter().map(|run| run.partition).collect())
}

/// Divides the computer and lends its partitions. Partitions keep their id by their name; one that
/// a lease holds can neither go nor change. What is the owner's own stays.
pub fn lend(store: &Store, inventory: &Inventory, lending: &Lending) -> Result<Division, DivisionError> {
    joined(store)?;
    let own = store.own()?;
    check(inventory, lending, &own)?;
    let old = store.division()?;
    let held = held(store)?;
    let known = |name: &str| old.partitions.iter().find(|p| p.name == name);
    let mut partitions = Vec::new();
    for asked in &lending.partitions {
        let before = known(&asked.name);
        if let Some(before) = before.filter(|b| held.contains(&b.id) && b.profile != asked.profile) {
            return Err(DivisionError::Held(before.name.clone()));
        }
        partitions.push(Declared {
            id: before.map_or_else(sublet_wire::new_id, |b| b.id),
            name: asked.name.clone(),
            profile: asked.profile,
            lendable: true,
            taken_back: before.and_then(|b| b.taken_back),
        });
    }
    partitions.extend(old.partitions.iter().filter(|old| own.iter().any(|own| own.partition == old.id)).cloned());
    let gone = old.partitions.iter().find(|o| held.contains(&o.id) && !partitions.iter().any(|p| p.id == o.id));
    if let Some(gone) = gone {
        return Err(DivisionError::Held(gone.name.clone()));
    }
    let conditions = Some(lending.conditions.clone());
    keep(store, Division { revision: old.revision + 1, keep: lending.keep, conditions, partitions })
}

fn keep(store: &Store, division: Division) -> Result<Division, DivisionError> {
    store.set_division(&division)?;
    Ok(division)
}

fn joined(store: &Store) -> Result<(), DivisionError> {
    store.identity()?.map(drop).ok_or(DivisionError::NotJoined)
}

/// Which partitions a word of the owner is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// These, by name.
    Named(Vec<String>),
}

fn change(store: &Store, which: &Which, act: impl Fn(&mut Declared)) -> Result<Division, DivisionError> {
    joined(store)?;
    let mut division = store.division()?;
    let own = store.own()?;
    let is_own = |p: &Declared| own.iter().any(|own| own.partition == p.id);
    if let Which::Named(names) = which
        && let Some(unknown) = names.iter().find(|n| !division.partitions.iter().any(|p| p.name == **n))
    {
        return Err(DivisionError::Unknown(unknown.chars().take(64).collect()));
    }
    let named = |p: &Declared| matches!(which, Which::Named(names) if names.contains(&p.name));
    if let Some(own) = division.partitions.iter().find(|p| named(p) && is_own(p)) {
        return Err(DivisionError::Own(own.name.clone()));
    }
    let meant = |p: &&mut Declared| named(p) || matches!(which, Which::All) && !is_own(p);
    division.partitions.iter_mut().filter(meant).for_each(act);
    division.revision += 1;
    keep(store, division)
}

/// Lends these no more. Leases that hold one go on to their end.
pub fn unlist(store: &Store, which: &Which) -> Result<Division, DivisionError> {
    change(store, which, |p| p.lendable = false)
}

/// Takes these back at once: a lease that holds one is evicted, and it is lent no more.
pub fn take_back(store: &Store, which: &Which) -> Result<Division, DivisionError> {
    let applied = store.applied()?;
    change(store, which, |p| {
        p.lendable = false;
        p.taken_back = Some(applied.get(&p.id).map_or(0, |a| a.generation));
    })
}

/// One partition, for its owner.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionStatus {
    /// As it was declared.
    pub declared: Declared,
    /// What was applied last.
    pub applied: Option<Allocation>,
    /// What a lease runs in it.
    pub run: Option<crate::store::Run>,
    /// If it is the owner's own.
    pub own: Option<Own>,
}

/// The computer, for its owner.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Who it is; none before it joined.
    pub identity: Option<crate::store::Identity>,
    /// Whether an agent runs.
    pub agent_runs: bool,
    /// How it is divided.
    pub division: Division,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
}

/// What is known here, whether an agent runs or not.
pub fn status(store: &Store) -> Result<Status, StoreError> {
    let (division, applied, runs) = (store.division()?, store.applied()?, store.live_runs()?);
    let own = store.own()?;
    let partitions = division.partitions.iter().map(|declared| PartitionStatus {
        declared: declared.clone(),
        applied: applied.get(&declared.id).copied(),
        run: runs.iter().find(|run| run.partition == declared.id).cloned(),
        own: own.iter().find(|own| own.partition == declared.id).cloned(),
    });
    let partitions = partitions.collect();
    Ok(Status { identity: store.identity()?, agent_runs: store.has_agent(), division, partitions })
}

#[cfg(test)]
mod tests;
