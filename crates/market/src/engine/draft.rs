//! One command while it is decided: what it has changed so far, and how to take that back.

use super::change::Change;
use super::command::Refusal;
use super::state::{State, Undo};
use std::collections::BTreeSet;
use std::ops::Deref;
use sublet_model::identity::SecretKey;
use sublet_model::ids::{HostId, LeaseId};
use sublet_model::lease::{EndReason, LeaseEvent, LeaseState, Step};
use sublet_model::market_keys::KeyChain;
use sublet_model::units::Timestamp;
use sublet_wire::problem::Kind;

/// The keys of the market, made and kept outside the engine.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Signs terms.
    pub market: SecretKey,
    /// The first public keys that might sign client certificates, in OpenSSH's form.
    pub ssh_ca: Vec<String>,
    /// How the market came to its keys, from its first ones on.
    pub chain: KeyChain,
}

impl Keys {
    /// Those of a market that has its first keys still.
    pub fn first(market: SecretKey, ssh_ca: Vec<String>) -> Self {
        Self { chain: KeyChain::new(market.public()), market, ssh_ca }
    }

    /// The public keys that may sign client certificates then; the newest first.
    pub fn ssh_authorities(&self, now: Timestamp) -> Vec<String> {
        self.chain.ssh_authorities(now, &self.ssh_ca)
    }
}

/// A command in the making. Reads like the state as it will be.
pub(crate) struct Draft<'a> {
    state: &'a mut State,
    /// The keys of the market.
    pub keys: &'a Keys,
    /// The market's clock.
    pub now: Timestamp,
    changes: Vec<Change>,
    undos: Vec<Undo>,
    replanned: BTreeSet<HostId>,
}

impl Deref for Draft<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        self.state
    }
}

impl<'a> Draft<'a> {
    pub fn new(state: &'a mut State, keys: &'a Keys, now: Timestamp) -> Self {
        Self { state, keys, now, changes: Vec::new(), undos: Vec::new(), replanned: BTreeSet::new() }
    }

    /// Makes a change.
    pub fn put(&mut self, change: Change) {
        if let Some(host) = self.host_to_replan(&change) {
            self.replanned.insert(host);
        }
        self.undos.push(self.state.apply_unlisted(&change));
        self.changes.push(change);
    }

    /// Does several things together, or none of them: where one is refused, those before it are taken back.
    pub fn together<R>(&mut self, act: impl FnOnce(&mut Self) -> Result<R, Refusal>) -> Result<R, Refusal> {
        let before = self.changes.len();
        let done = act(self);
        if done.is_err() {
            self.changes.truncate(before);
            self.state.undo_all(self.undos.split_off(before));
        }
        done
    }

    /// Which host should have something else after this change.
    fn host_to_replan(&self, change: &Change) -> Option<HostId> {
        use Change as C;
        match change {
            C::Partition(row) => Some(row.host),
            C::PartitionRetired { partition, .. } | C::Allocation { partition, .. } => {
                self.partition(*partition).map(|row| row.host)
            }
            C::Lease(lease) => Some(lease.host),
            C::LeaseExtended { lease, .. } => self.lease(*lease).map(|row| row.host),
            C::LeaseMoved { lease, state, .. } => self.lease(*lease).and_then(|row| {
                let of = |state: LeaseState| (state.is_wanted(), state.holds_slot());
                (of(row.state) != of(*state)).then_some(row.host)
            }),
            _ => None,
        }
    }

    /// Brings the book up to what was changed so far, to look into it.
    pub fn relist(&mut self) {
        self.state.relist();
    }

    /// Writes into the audit log, in the same commit.
    pub fn audit(&mut self, actor: impl ToString, action: &str, object: impl ToString, detail: impl Into<String>) {
        let (actor, object) = (actor.to_string(), object.to_string());
        let at = self.now;
        self.put(Change::Audit { actor, action: action.into(), object, detail: detail.into(), at });
    }

    /// Lets something happen to a lease. Answers whether it moved on.
    pub fn happen(&mut self, id: LeaseId, event: LeaseEvent) -> Result<bool, Refusal> {
        let lease = self.lease(id).cloned().ok_or_else(|| Refusal::not_found(format!("lease {id}")))?;
        let next = match lease.state.after(event) {
            Step::To(next) => next,
            Step::Stay => return Ok(false),
            Step::Refused(why) => return Err(Refusal::new(Kind::Conflict, format!("lease {id}: {why}"))),
        };
        let mut timeline = lease.timeline.clone();
        match next {
            LeaseState::Active { ready_at, .. } => timeline.ready_at = Some(ready_at),
            LeaseState::Stopping { .. } | LeaseState::Lost { .. } => {
                timeline.stopped_at.get_or_insert(self.now);
            }
            LeaseState::Ended { at, .. } => {
                timeline.stopped_at.get_or_insert(at);
                timeline.ended_at = Some(at);
            }
            LeaseState::Granted { .. } => {}
        }
        self.put(Change::LeaseMoved { lease: id, state: next, timeline, detail: lease.detail.clone() });
        if next.reason() == Some(EndReason::OutOfFunds) && lease.state.reason().is_none() {
            super::money::ended(self, &lease);
        }
        Ok(true)
    }

    /// Gives a host a new version of its plan when this draft closes.
    pub fn replan(&mut self, host: HostId) {
        self.replanned.insert(host);
    }

    /// Whether a host gets a new version of its plan when this draft closes.
    pub fn is_replanned(&self, host: HostId) -> bool {
        self.replanned.contains(&host)
    }

    /// Closes the draft: hosts whose plan changed get a new version of it.
    pub fn finish(mut self) -> (Vec<Change>, Vec<Undo>) {
        for host in std::mem::take(&mut self.replanned) {
            let Some(version) = self.host(host).map(|row| row.plan_version + 1) else { continue };
            self.put(Change::Plan { host, version });
        }
        self.state.relist();
        (self.changes, self.undos)
    }

    /// Takes everything back.
    pub fn abandon(self) {
        self.state.undo_all(self.undos);
    }
}
