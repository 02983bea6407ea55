//! How the owner divided the computer: taken in whole, or refused whole with a reason.

use super::Intake;
use crate::engine::alter;
use crate::engine::change::Change;
use crate::engine::rows::{OfferRow, PartitionRow, TakenBack};
use std::collections::HashSet;
use sublet_model::account::check_name;
use sublet_model::ids::{OfferId, PartitionId};
use sublet_model::lease::{EndReason, LeaseEvent};
use sublet_model::offer::{Conditions, Offer};
use sublet_model::partition::alter::check_division;
use sublet_model::partition::{Allocation, Partition, Profile};
use sublet_model::units::Seconds;
use sublet_wire::sync::{Declared, Division};

impl Intake<'_, '_> {
    /// Takes in a division that is newer than the one known. Refused ones leave nothing behind.
    pub(super) fn divide(&mut self, division: &Division) -> Result<(), String> {
        let Some(host) = self.draft.host(self.host) else { return Ok(()) };
        if division.revision < host.division_revision {
            let known = host.division_revision;
            self.warnings.push(format!(
                "revision {} of the division is older than {known}, which the market knows: was this disk rolled back? \
                 Allow a new start: sublet host reset-session",
                division.revision
            ));
        }
        if division.revision == host.division_revision && division.revision > 0 && !self.is_known(division) {
            let revision = division.revision;
            let warning = format!(
                "revision {revision} of the division says something else than the revision {revision} that the market \
                 knows, so it is not taken in: change it once more, and it gets a number of its own"
            );
            self.flag("division.differs", revision, warning);
            return Ok(());
        }
        if division.revision <= host.division_revision {
            return Ok(());
        }
        self.check_division(division)?;
        let (host_id, account) = (host.id, host.account);
        let old_offer = host.offer;
        let offer = self.offer_for(division.conditions.as_ref(), account, old_offer);
        self.draft.put(Change::HostDivided { host: host_id, revision: division.revision, keep: division.keep, offer });
        self.remove_undeclared(division);
        // Before the new ones come: one of them may have its name.
        self.retire_the_leaving();
        for declared in &division.partitions {
            self.declare(declared, offer.map(|(id, _)| id));
        }
        alter::settle(self.draft, host_id);
        let lent = division.partitions.iter().filter(|d| d.lendable).count();
        let detail = format!(
            "revision {}: {} partitions, {lent} of them lent, {} kept",
            division.revision,
            division.partitions.len(),
            division.keep
        );
        self.draft.audit(host_id, "host.divide", host_id, detail);
        Ok(())
    }

    /// Whether a division is the one that was taken in last.
    fn is_known(&self, division: &Division) -> bool {
        let Some(host) = self.draft.host(self.host) else { return true };
        let conditions = host.offer.and_then(|(id, version)| self.draft.offer(id, version));
        let conditions = conditions.map(|row| &row.offer.conditions);
        let same = |declared: &Declared| {
            self.draft.partition(declared.id).is_some_and(|p| {
                p.host == self.host
                    && (p.name == declared.name && p.profile == declared.profile && p.lendable == declared.lendable)
            })
        };
        let declared = self.draft.partitions_of(self.host).filter(|p| !p.leaving).count();
        host.keep == division.keep
            && division.conditions.as_ref().is_none_or(|said| Some(said) == conditions)
            && division.partitions.len() == declared
            && division.partitions.iter().all(same)
    }

    fn check_division(&self, division: &Division) -> Result<(), String> {
        let Some(host) = self.draft.host(self.host) else { return Err("no such host".into()) };
        if !division.keep.is_plausible() {
            return Err("what is kept must be between zero and what one computer can have".into());
        }
        let (mut ids, mut names) = (HashSet::new(), HashSet::new());
        for declared in &division.partitions {
            check_name(&declared.name)?;
            if !ids.insert(declared.id) || !names.insert(declared.name.as_str()) {
                return Err(format!("partition {} is declared twice", declared.name));
            }
            declared.profile.check().map_err(|e| format!("partition {}: {e}", declared.name))?;
            match self.draft.partition(declared.id) {
                Some(known) if known.host != host.id => {
                    return Err(format!("the id of partition {} belongs to another host", declared.name));
                }
                Some(known) if known.retired_at.is_some() => {
                    return Err(format!("the id of partition {} was retired: make it anew", declared.name));
                }
                _ => {}
            }
        }
        division
            .partitions
            .iter()
            .try_for_each(|declared| self.check_is_free(&declared.name, declared.id, division))?;
        let profiles: Vec<Profile> = division.partitions.iter().map(|d| d.profile).collect();
        check_division(host.inventory.resources() - division.keep, &profiles).map_err(|e| e.to_string())?;
        match &division.conditions {
            Some(conditions) => conditions.check(),
            None if division.partitions.iter().any(|d| d.lendable) => {
                Err("partitions are to be lent, but on no conditions".into())
            }
            None => Ok(()),
        }
    }

    /// No two partitions have one name, even for a moment: what stays is renamed first, and what is declared
    /// no more keeps its name while it is held.
    fn check_is_free(&self, name: &str, id: PartitionId, division: &Division) -> Result<(), String> {
        let Some(known) = self.draft.partitions_of(self.host).find(|p| p.name == name && p.id != id) else {
            return Ok(());
        };
        if division.partitions.iter().any(|declared| declared.id == known.id) {
            return Err(format!("the name {name} belongs to another partition that stays: rename that one first"));
        }
        if self.draft.holder(known.id).is_some() {
            return Err(format!("the name {name} belongs to a partition that a lease still holds"));
        }
        Ok(())
    }

    /// A change of conditions makes a new version; leases keep theirs. A host has one offer.
    fn offer_for(
        &mut self,
        conditions: Option<&Conditions>,
        account: sublet_model::ids::AccountId,
        old: Option<(OfferId, u32)>,
    ) -> Option<(OfferId, u32)> {
        let Some(conditions) = conditions else { return old };
        let same = old.filter(|(id, version)| {
            self.draft.offer(*id, *version).is_some_and(|row| row.offer.conditions == *conditions)
        });
        if same.is_some() {
            return same;
        }
        let (id, version) = old.map_or((OfferId::from(self.host.uuid()), 1), |(id, version)| (id, version + 1));
        let offer = Offer { id, version, account, conditions: conditions.clone() };
        self.draft.put(Change::Offer(OfferRow { offer: offer.into(), created_at: self.draft.now }));
        Some((id, version))
    }

    fn remove_undeclared(&mut self, division: &Division) {
        let declared: HashSet<PartitionId> = division.partitions.iter().map(|d| d.id).collect();
        let gone = |p: &&PartitionRow| !declared.contains(&p.id) && !p.leaving;
        let gone: Vec<PartitionRow> = self.draft.partitions_of(self.host).filter(gone).cloned().collect();
        for row in gone {
            self.draft.put(Change::PartitionDeclared {
                partition: row.id,
                name: row.name.clone(),
                profile: row.profile,
                lendable: false,
                offer: row.offer,
                listed_at: None,
                leaving: true,
            });
        }
    }

    /// What the owner removed retires as soon as nobody holds it.
    pub(super) fn retire_the_leaving(&mut self) {
        let idle = |p: &&PartitionRow| p.leaving && self.draft.holder(p.id).is_none();
        let idle: Vec<PartitionId> = self.draft.partitions_of(self.host).filter(idle).map(|p| p.id).collect();
        for partition in idle {
            self.draft.put(Change::PartitionRetired { partition, at: self.draft.now });
        }
    }

    fn declare(&mut self, declared: &Declared, offer: Option<OfferId>) {
        let now = self.draft.now;
        match self.draft.partition(declared.id).cloned() {
            None => self.draft.put(Change::Partition(PartitionRow {
                partition: Partition {
                    id: declared.id,
                    host: self.host,
                    name: declared.name.clone(),
                    lendable: declared.lendable,
                    offer,
                    profile: declared.profile,
                    // Raised to what is desired in the same commit, as far as there is room.
                    allocation: first_allocation(declared.profile),
                    access: None,
                    failed_boots: 0,
                },
                listed_at: declared.lendable.then_some(now),
                unlisted_until: None,
                taken_back: None,
                leaving: false,
                retired_at: None,
                declared_at: now,
            })),
            Some(known) => self.redeclare(declared, &known, offer),
        }
        self.take_back(declared);
    }

    fn redeclare(&mut self, declared: &Declared, known: &PartitionRow, offer: Option<OfferId>) {
        let now = self.draft.now;
        let relisted = declared.lendable && !known.lendable;
        let listed_at = declared.lendable.then(|| known.listed_at.unwrap_or(now));
        let change = Change::PartitionDeclared {
            partition: known.id,
            name: declared.name.clone(),
            profile: declared.profile,
            lendable: declared.lendable,
            offer,
            listed_at,
            leaving: false,
        };
        let same = known.name == declared.name
            && known.profile == declared.profile
            && known.lendable == declared.lendable
            && known.offer == offer
            && !known.leaving;
        if !same {
            self.draft.put(change);
        }
        if relisted && known.failed_boots > 0 {
            // Listing it again is the owner's word that it is mended.
            self.draft.put(Change::PartitionBoots { partition: known.id, failed_boots: 0, unlisted_until: None });
        }
    }

    fn take_back(&mut self, declared: &Declared) {
        let Some(generation) = declared.taken_back else { return };
        let Some(lease) = self.draft.holder(declared.id).filter(|l| l.generation == generation) else { return };
        let object = lease.id;
        let known = self.draft.partition(declared.id).and_then(|p| p.taken_back);
        if known.is_some_and(|t| t.generation == generation) {
            return;
        }
        let taken_back = TakenBack { generation, at: self.draft.now };
        self.draft.put(Change::PartitionTakenBack { partition: declared.id, taken_back: Some(taken_back) });
        self.draft.audit(self.host, "lease.take_back", object, format!("partition {}", declared.name));
    }

    /// Ends the leases whose owner wants the partition back, as soon as the notice has passed.
    pub(super) fn notices(&mut self) {
        for (name, rest) in reclaim_due(self.draft, self.host) {
            self.warnings.push(format!("partition {name} is yours again in {rest}: the offer promised that notice"));
        }
    }
}

/// The row that a partition begins with.
fn first_allocation(profile: Profile) -> Allocation {
    Allocation { generation: 0, revision: 0, resources: profile.min, vcpus: Allocation::vcpus_for(profile.min) }
}

/// Ends what is due on a host; answers what is not due yet, with the time that is left.
pub(crate) fn reclaim_due(
    draft: &mut crate::engine::draft::Draft<'_>,
    host: sublet_model::ids::HostId,
) -> Vec<(String, Seconds)> {
    let mut waiting = Vec::new();
    let rows: Vec<PartitionRow> = draft.partitions_of(host).filter(|p| p.taken_back.is_some()).cloned().collect();
    for row in rows {
        let Some(taken_back) = row.taken_back else { continue };
        let held = draft.holder(row.id).filter(|l| l.generation == taken_back.generation && l.state.is_wanted());
        let Some(lease) = held.cloned() else { continue };
        let terms = lease.terms();
        let notice =
            draft.offer(terms.offer, terms.offer_version).and_then(|o| o.offer.conditions.reclaim_notice_seconds);
        let rest = notice.map_or(Seconds::ZERO, |notice| notice - draft.now.since(taken_back.at));
        if rest > Seconds::ZERO {
            waiting.push((row.name.clone(), rest));
            continue;
        }
        // Without a notice in the offer nothing was to be reclaimed within the term: it is evicted.
        let reason = if notice.is_some() { EndReason::Reclaimed } else { EndReason::Evicted };
        if let Err(refusal) = draft.happen(lease.id, LeaseEvent::End(reason)) {
            tracing::warn!("{refusal}");
        }
    }
    waiting
}
