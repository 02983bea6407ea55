//! Partitions of the owner's own: said here, local to this computer. The market hears of each as of a
//! partition that is not lent, and of nothing that runs in it.

use super::{DivisionError, joined, lendable};
use crate::store::{Own, Stand, Store, StoreError, Wish};
use crate::terms::{check_fit, check_manifest};
use std::collections::BTreeSet;
use sublet_model::account::check_name;
use sublet_model::host::Inventory;
use sublet_model::identity::Signed;
use sublet_model::ids::PartitionId;
use sublet_model::image::ImageManifest;
use sublet_model::partition::alter::check_division;
use sublet_model::partition::{Allocation, Profile};
use sublet_model::resources::Resources;
use sublet_wire::sync::{Declared, Division, MOST_PARTITIONS};

/// One as the owner asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOwn {
    /// One of a kind on the host.
    pub name: String,
    /// What it has, always.
    pub resources: Resources,
    /// What boots in it.
    pub image: Signed<ImageManifest>,
    /// Where the image's blobs are.
    pub depot: String,
}

/// Makes partitions of the owner's own. What is lent stays as it is, but for what idle partitions have
/// above their least.
pub fn divide(store: &Store, inventory: &Inventory, new: Vec<NewOwn>) -> Result<Division, DivisionError> {
    joined(store)?;
    let mut division = store.division()?;
    let mut names: BTreeSet<String> = division.partitions.iter().map(|p| p.name.clone()).collect();
    let mut own = Vec::new();
    for new in new {
        check(inventory, &new)?;
        if !names.insert(new.name.clone()) {
            return Err(DivisionError::Taken(new.name));
        }
        let partition: PartitionId = sublet_wire::new_id();
        division.partitions.push(Declared {
            id: partition,
            name: new.name.clone(),
            profile: Profile::fixed(new.resources),
            lendable: false,
            taken_back: None,
        });
        own.push(new.into_own(partition));
    }
    if own.is_empty() || division.partitions.len() > MOST_PARTITIONS {
        return Err(DivisionError::Count);
    }
    let profiles: Vec<Profile> = division.partitions.iter().map(|p| p.profile).collect();
    check_division(lendable(inventory, division.keep), &profiles)?;
    division.revision += 1;
    store.divide_for_own(&division, &own)?;
    Ok(division)
}

/// What the partitions of the owner's own have, all together.
pub fn own_in_all(store: &Store) -> Result<Resources, StoreError> {
    Ok(store.own()?.iter().map(|own| own.resources).sum())
}

fn check(inventory: &Inventory, new: &NewOwn) -> Result<(), DivisionError> {
    check_name(&new.name).map_err(|_| DivisionError::Name(new.name.chars().take(64).collect()))?;
    let named = |source| DivisionError::Profile { name: new.name.clone(), source };
    Profile::fixed(new.resources).check().map_err(named)?;
    let unfit = |image: String, problem: String| DivisionError::Image {
        image,
        name: new.name.clone(),
        has: new.resources,
        problem,
    };
    let image = check_manifest(&new.image).map_err(|problem| unfit("the image".into(), problem))?;
    let vcpus = Allocation::vcpus_for(new.resources);
    if vcpus > inventory.threads {
        return Err(unfit(image.reference(), format!("this computer has only {} hardware threads", inventory.threads)));
    }
    check_fit(&image, &inventory.arch, new.resources, vcpus).map_err(|problem| {
        unfit(
            image.reference(),
            format!("{problem} (at least {}, {} vcpus)", image.minimum_memory, image.minimum_vcpus),
        )
    })
}

impl NewOwn {
    fn into_own(self, partition: PartitionId) -> Own {
        Own {
            partition,
            name: self.name,
            resources: self.resources,
            image: self.image,
            depot: self.depot,
            wish: Wish::Run,
            starts: 0,
            start: None,
            stand: Stand::Down,
            waits: None,
            said: None,
        }
    }
}

/// Has one run, stop, or go for good; the agent does so.
pub fn wish(store: &Store, name: &str, wish: Wish) -> Result<Own, DivisionError> {
    let unknown = || DivisionError::NotOwn(name.chars().take(64).collect());
    let own = store.own()?.into_iter().find(|own| own.name == name).ok_or_else(unknown)?;
    store.wish_own(own.partition, wish)?;
    Ok(store.own_of(own.partition)?.unwrap_or(own))
}

/// Takes one that is down out of the division: what it had is free.
pub fn remove_own(store: &Store, partition: PartitionId) -> Result<(), StoreError> {
    let mut division = store.division()?;
    division.partitions.retain(|declared| declared.id != partition);
    division.revision += 1;
    store.divide_without_own(&division, partition)
}
