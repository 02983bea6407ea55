//! Lives of partitions that hosts tell a market which was restored from a backup. What it granted
//! after the backup it signed, so it can believe its own terms: the lease is there again, under the
//! generation that it had.
//!
//! A host can't make a lease of its own, nor one longer than what was signed. What the market can't
//! know any more, such as whether a lease was released, it has to take from the host.

use super::Intake;
use crate::engine::change::Change;
use crate::engine::money;
use crate::engine::rows::{Account, Agreed, Image, Lease, Member, PartitionRow};
use std::sync::Arc;
use sublet_model::account::Role;
use sublet_model::billing::Terms;
use sublet_model::identity::IdentityError;
use sublet_model::ids::{AccountId, LeaseId, MemberId};
use sublet_model::lease::{EndReason, LeaseEvent, LeaseState};
use sublet_model::partition::{Allocation, Partition, Profile};
use sublet_model::units::Seconds;
use sublet_wire::api::Timeline;
use sublet_wire::sync::KeptLife;

impl Intake<'_, '_> {
    /// Takes lives in, older generations first. All of them are told then, whatever came of each:
    /// what is refused now would be refused again.
    pub(super) fn lives(&mut self, lives: &[KeptLife]) -> Vec<LeaseId> {
        let mut lives: Vec<&KeptLife> = lives.iter().collect();
        lives.sort_by_key(|life| life.run.terms.read().map_or(0, |terms| terms.generation));
        for life in &lives {
            if let Err(why) = self.life(life) {
                self.flag("lease.recover.refused", life.run.lease, format!("lease {}: {why}", life.run.lease));
            }
        }
        lives.iter().map(|life| life.run.lease).collect()
    }

    fn life(&mut self, life: &KeptLife) -> Result<(), String> {
        let not_ours = |e: IdentityError| format!("its terms are not ours: {e}");
        let key = self.draft.keys.chain.signer_of(&life.run.terms).map_err(not_ours)?;
        let terms = life.run.terms.verify_plain(&key).map_err(not_ours)?;
        if terms.host != self.host || terms.lease != life.run.lease {
            return Err("its terms are for another lease or host".into());
        }
        if self.draft.lease(terms.lease).is_none() {
            self.recover(life, &terms)?;
        }
        if self.draft.lease(terms.lease).is_some_and(|lease| lease.state.holds_slot()) {
            let held = money::hold_again(self.draft, terms.lease, life.paid_seconds);
            held.map_err(|refusal| refusal.detail)?;
        }
        if life.over && life.ready {
            // When that was nobody knows any more; that it was decides about the set-up.
            self.event(terms.lease, LeaseEvent::Ready { at: self.draft.now });
        }
        if life.over && self.draft.lease(terms.lease).is_some_and(|lease| lease.state.holds_slot()) {
            // Why it ended the host says where it knows; else it was the market, which has forgotten.
            self.event(terms.lease, LeaseEvent::End(life.reason.unwrap_or(EndReason::Released)));
            self.gone(terms.lease);
        }
        Ok(())
    }

    /// A lease that was granted after the backup.
    fn recover(&mut self, life: &KeptLife, terms: &Terms) -> Result<(), String> {
        self.know_the_partition(terms)?;
        self.end_the_one_before(terms);
        let image = self.know_the_image(life, terms)?;
        let account = self.know_the_account(terms.client);
        let member = self.know_the_member(life, account);
        let allocation =
            Allocation { generation: terms.generation, revision: 0, resources: terms.resources, vcpus: terms.vcpus };
        self.draft.put(Change::Allocation { partition: terms.partition, allocation, at: self.draft.now });
        let name = match self.draft.lease_by_name(account, &life.run.hostname) {
            None => life.run.hostname.clone(),
            Some(_) => terms.lease.to_string().replace('_', "-"),
        };
        // What was signed bounds what a host may say.
        let term = terms.term_seconds.unwrap_or(life.run.term_seconds);
        self.draft.put(Change::Lease(Arc::new(Lease {
            id: terms.lease,
            name,
            account,
            member,
            host: self.host,
            partition: terms.partition,
            generation: terms.generation,
            state: LeaseState::Granted { silent_since: None },
            agreed: Arc::new(Agreed { terms: terms.clone(), signed: life.run.terms.clone() }),
            image,
            term_seconds: term,
            paid_seconds: life.paid_seconds.clamp(Seconds(1), term),
            one_shot: life.run.one_shot,
            release_after_disconnect: life.run.release_after_disconnect,
            ssh_public_key: life.run.renter.as_ref().map(|r| r.ssh_public_key.clone()).unwrap_or_default(),
            timeline: Timeline { granted_at: Some(terms.granted_at), ..Timeline::default() },
            detail: None,
            chain: None,
            budget: Default::default(),
        })));
        let detail = format!("granted {}, after the backup; told again by its host", terms.granted_at);
        self.draft.audit("market", "lease.recover", terms.lease, detail);
        Ok(())
    }

    /// The partition of a lease, at an older generation. One that was declared and given up after the
    /// backup is there again, to be retired with its lease.
    fn know_the_partition(&mut self, terms: &Terms) -> Result<(), String> {
        if let Some(known) = self.draft.partition(terms.partition) {
            return match () {
                () if known.host != self.host => Err("its partition is another host's".into()),
                () if known.retired_at.is_some() => Err("its partition was given up".into()),
                () if known.allocation.generation >= terms.generation => {
                    Err(format!("generation {} of its partition is known to be over", terms.generation))
                }
                () => Ok(()),
            };
        }
        let (resources, at) = (terms.resources, self.draft.now);
        let whole = terms.partition.to_string().replace('_', "-");
        self.draft.put(Change::Partition(PartitionRow {
            partition: Partition {
                id: terms.partition,
                host: self.host,
                name: whole,
                lendable: false,
                offer: None,
                profile: Profile { min: resources, desired: resources, max: resources },
                allocation: Allocation { generation: 0, revision: 0, resources, vcpus: terms.vcpus },
                access: None,
                failed_boots: 0,
            },
            listed_at: None,
            unlisted_until: None,
            taken_back: None,
            leaving: true,
            retired_at: None,
            declared_at: at,
        }));
        Ok(())
    }

    /// A host applies a generation only when the one before is stopped and wiped.
    fn end_the_one_before(&mut self, terms: &Terms) {
        if let Some(holder) = self.draft.holder(terms.partition).map(|lease| lease.id) {
            self.event(holder, LeaseEvent::End(EndReason::Released));
            self.gone(holder);
        }
    }

    /// The catalogue's name of what boots. The terms pin the very manifest.
    fn know_the_image(&mut self, life: &KeptLife, terms: &Terms) -> Result<String, String> {
        if let Some(known) = self.draft.image_by_digest(&terms.image) {
            return Ok(known.manifest.reference());
        }
        let signed = &life.run.image;
        let manifest = signed.verify(&signed.key).map_err(|e| format!("its image: {e}"))?;
        let reference = manifest.reference();
        if signed.digest() != terms.image || self.draft.image(&reference).is_some() || life.run.depot.len() > 500 {
            return Err(format!("its image is not the {reference} of the catalogue"));
        }
        // It was registered after the backup: whether it may boot again is for the operator to say.
        self.draft.put(Change::Image(Image {
            manifest,
            signed: signed.clone(),
            digest: terms.image,
            depot: life.run.depot.clone(),
            suspended: true,
            registered_at: self.draft.now,
        }));
        self.draft.audit("market", "image.recover", &reference, "suspended: a lease that was recovered boots it");
        Ok(reference)
    }

    /// The client's account. One that was made after the backup is there again, under a name of ours
    /// and without anybody who may act for it.
    fn know_the_account(&mut self, id: AccountId) -> AccountId {
        if self.draft.account(id).is_none() {
            let whole = id.to_string().replace('_', "-");
            let purse = crate::engine::rows::Purse::on_account();
            self.draft.put(Change::Account(Account {
                id,
                name: whole,
                suspended: true,
                created_at: self.draft.now,
                purse,
            }));
            self.draft.audit("market", "account.recover", id, "suspended: a lease that was recovered is its own");
        }
        id
    }

    fn know_the_member(&mut self, life: &KeptLife, account: AccountId) -> MemberId {
        let told = life.run.renter.as_ref().map(|renter| renter.member);
        let own = |id: &MemberId| self.draft.member(*id).is_some_and(|member| member.account == account);
        if let Some(member) = told.filter(own) {
            return member;
        }
        // An id that somebody else has is not taken for this one.
        let free = told.filter(|id| self.draft.member(*id).is_none());
        let first = self.draft.members().find(|member| member.account == account).map(|member| member.id);
        let id = match (free, first) {
            (None, Some(first)) => return first,
            (free, _) => free.unwrap_or_else(|| MemberId::from(life.run.lease.uuid())),
        };
        let name = id.to_string().replace('_', "-");
        let created_at = self.draft.now;
        self.draft.put(Change::Member(Member { id, account, name, roles: vec![Role::Client], created_at }));
        id
    }
}
