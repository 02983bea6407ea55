//! Keeps the book in step with the rows: a computer is listed anew whenever something changed that
//! the book says of it, whichever way the change went.

use super::State;
use super::apply::Before;
use crate::engine::live::HostLive;
use crate::engine::rows::*;
use std::sync::Arc;
use sublet_model::book::{Book, Lending, Lent};
use sublet_model::ids::{HostId, PartitionId};
use sublet_model::offer::Offer;
use sublet_model::partition::alter;

impl State {
    /// Everything that is lent, arranged for searching. Who was heard when is not in it: ask
    /// [`State::live`].
    pub fn book(&self) -> &Book {
        debug_assert!(self.outdated.is_empty(), "the book is behind: relist before looking into it");
        &self.book
    }

    pub(super) fn with_book(mut self) -> Self {
        self.book = self.make_book();
        self
    }

    fn make_book(&self) -> Book {
        let told = |host| (lending(host, self.reliability_permille(host.id)), self.lent_by(host));
        Book::of(self.hosts().map(told))
    }

    pub(super) fn book_is_consistent(&self) -> bool {
        self.book.fault().is_none() && self.book.says_the_same(&self.make_book())
    }

    /// Lists anew whom changes concerned since the last time.
    pub fn relist(&mut self) {
        for host in std::mem::take(&mut self.outdated) {
            self.list(host);
        }
    }

    /// Notes whom this change concerns: `before` is the row that was replaced.
    pub(super) fn outdate(&mut self, before: &Before) {
        match before {
            Before::Account(id, was) => {
                let suspended = |row: Option<&Account>| row.is_none_or(|row| row.suspended);
                if suspended(was.as_ref()) != suspended(self.account(*id)) {
                    let own: Vec<HostId> = self.hosts().filter(|h| h.account == *id).map(|h| h.id).collect();
                    self.outdated.extend(own);
                }
            }
            Before::Host(id, was) if !same_host(was.as_ref(), self.host(*id)) => drop(self.outdated.insert(*id)),
            Before::Partition(id, was) => self.outdate_partition(*id, was.as_ref()),
            Before::Offer((id, _), _) => {
                let hosts = self.index.offer_hosts.get(id).cloned().unwrap_or_default();
                self.outdated.extend(hosts);
            }
            Before::Lease(id, was) => {
                let now = self.lease(*id);
                let holds = |row: Option<&Arc<Lease>>| row.is_some_and(|row| row.state.holds_slot());
                let host = was.as_ref().or(now).map(|lease| lease.host);
                let moved = holds(was.as_ref()) != holds(now);
                self.outdated.extend(host.filter(|_| moved));
            }
            Before::Live(id, was) if is_listed_as_free(was.as_ref()) != is_listed_as_free(self.live(*id)) => {
                self.outdated.insert(*id);
            }
            Before::Host(..)
            | Before::Live(..)
            | Before::Same
            | Before::Member(..)
            | Before::Token(..)
            | Before::JoinToken(..)
            | Before::Image(..)
            | Before::Charge(..)
            | Before::Money(..)
            | Before::Started(..) => {}
        }
    }

    fn outdate_partition(&mut self, id: PartitionId, was: Option<&PartitionRow>) {
        let now = self.partition(id);
        if let (Some(was), Some(now)) = (was, now)
            && same_partition(was, now)
            // What an idle, lent partition has takes nothing from the others: only its min does.
            && (was.allocation.resources == now.allocation.resources || (now.lendable && self.holder(id).is_none()))
        {
            return;
        }
        let host = now.or(was).map(|row| row.host);
        self.outdated.extend(host);
    }

    fn list(&mut self, id: HostId) {
        let lent = self.host(id).filter(|host| host.forgotten_at.is_none()).map(|host| self.lent_by(host));
        let reliability = self.reliability_permille(id);
        match (self.tables.hosts.get(&id), lent) {
            (Some(host), Some(lent)) => self.book.set(&lending(host, reliability), &lent),
            _ => self.book.remove(id),
        }
    }

    /// Every partition that a host lends, held ones too.
    fn lent_by(&self, host: &Host) -> Vec<Lent> {
        if host.suspended || self.account(host.account).is_none_or(|a| a.suspended) {
            return Vec::new();
        }
        let (slots, lendable) = (self.slots(host.id), host.lendable());
        let heard = is_listed_as_free(self.live(host.id));
        let mut offer: Option<Arc<Offer>> = None;
        let mut all = Vec::new();
        for (slot, p) in slots.iter().zip(self.partitions_of(host.id)) {
            let Some(id) = p.offer.filter(|_| p.lendable && !p.leaving) else { continue };
            if offer.as_ref().is_none_or(|offer| offer.id != id) {
                offer = self.newest_offer(id).map(|row| Arc::clone(&row.offer));
            }
            let Some(offer) = &offer else { continue };
            all.push(Lent {
                partition: p.id,
                offer: Arc::clone(offer),
                reach: alter::reach_if_idle(lendable, &slots, slot),
                free: heard && !slot.held,
                least: p.profile.min,
                listed_at: p.listed_at.unwrap_or(p.declared_at),
                closed_until: p.unlisted_until,
            });
        }
        all
    }
}

fn lending(host: &Host, reliability_permille: u16) -> Lending<'_> {
    Lending { host: host.id, name: &host.name, inventory: &host.inventory, reliability_permille }
}

/// Whether the idle partitions of a host are free in the book. A host that falls silent is still
/// so for a while: whoever searches asks when it was heard.
fn is_listed_as_free(live: Option<&HostLive>) -> bool {
    live.is_some_and(|live| !live.silent && live.clock_is_right())
}

/// Whether the book says the same of a host, as far as its own row goes; its name never changes.
fn same_host(was: Option<&Host>, now: Option<&Host>) -> bool {
    let (Some(a), Some(b)) = (was, now) else { return false };
    (a.account, a.keep, a.suspended, a.forgotten_at) == (b.account, b.keep, b.suspended, b.forgotten_at)
        && (Arc::ptr_eq(&a.inventory, &b.inventory) || a.inventory == b.inventory)
}

/// Whether the book says the same of a partition, whatever is allocated to it.
fn same_partition(a: &PartitionRow, b: &PartitionRow) -> bool {
    (a.host, a.lendable, a.offer, a.profile) == (b.host, b.lendable, b.offer, b.profile)
        && (a.listed_at, a.declared_at, a.unlisted_until) == (b.listed_at, b.declared_at, b.unlisted_until)
        && (a.leaving, a.retired_at) == (b.leaving, b.retired_at)
}
