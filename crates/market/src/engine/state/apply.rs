//! The only door through which `State` changes.

use super::State;
use super::heard::Heard;
use crate::engine::change::Change;
use crate::engine::live::HostLive;
use crate::engine::rows::*;
use std::sync::Arc;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::{AccountId, HostId, LeaseId, MemberId, OfferId, PartitionId, TokenId};
use sublet_model::units::Timestamp;

/// The row as it was before a change; none if there was none. Applied newest first.
#[derive(Debug)]
#[must_use = "a change that may still be refused by the database needs its undo"]
pub struct Undo(Before);

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "lives for one batch")]
pub(super) enum Before {
    Same,
    Account(AccountId, Option<Account>),
    Member(MemberId, Option<Member>),
    Token(TokenId, Option<Token>),
    JoinToken(TokenId, Option<JoinToken>),
    Host(HostId, Option<Host>),
    Partition(PartitionId, Option<PartitionRow>),
    Offer((OfferId, u32), Option<OfferRow>),
    Image(Sha256Digest, Option<Image>),
    Lease(LeaseId, Option<Arc<Lease>>),
    Charge(LeaseId, Option<ChargeRow>),
    Money(Box<super::money::Before>),
    Live(HostId, Option<HostLive>),
    Started(Timestamp),
}

impl State {
    /// Makes a change, and says how to take it back.
    pub fn apply(&mut self, change: &Change) -> Undo {
        let undo = self.apply_unlisted(change);
        self.relist();
        undo
    }

    /// The same, but the book may fall behind: [`State::relist`] has to follow before anybody looks
    /// into it. Several changes of one computer list it anew once.
    pub fn apply_unlisted(&mut self, change: &Change) -> Undo {
        let before = self.make(change);
        self.outdate(&before);
        Undo(before)
    }

    fn make(&mut self, change: &Change) -> Before {
        use Change as C;
        match change {
            C::Account(row) => Before::Account(row.id, self.put_account(row.id, Some(row.clone()))),
            C::AccountSuspended { account, suspended } => self.edit_account(*account, |row| row.suspended = *suspended),
            C::Member(row) => Before::Member(row.id, self.tables.members.insert(row.id, row.clone())),
            C::Token(row) => Before::Token(row.id, self.put_token(row.id, Some(row.clone()))),
            C::TokenRevoked { token, at } => self.edit_token(*token, |row| row.revoked_at = Some(*at)),
            C::JoinToken(row) => Before::JoinToken(row.id, self.put_join_token(row.id, Some(row.clone()))),
            C::JoinTokenUsed { token } => self.edit_join_token(*token, |row| row.used += 1),
            C::Offer(row) => {
                let key = (row.offer.id, row.offer.version);
                Before::Offer(key, self.tables.offers.insert(key, row.clone()))
            }
            C::Image(row) => Before::Image(row.digest, self.put_image(row.digest, Some(row.clone()))),
            C::ImageMoved { digest, depot } => self.edit_image(*digest, |row| row.depot.clone_from(depot)),
            C::ImageSuspended { digest, suspended } => self.edit_image(*digest, |row| row.suspended = *suspended),
            C::Charge(row) => {
                self.touch(row.lease);
                Before::Charge(row.lease, self.put_charge(row.lease, Some(row.clone())))
            }
            C::Transfer { .. }
            | C::Credit(..)
            | C::Dispute(..)
            | C::DisputeResolved { .. }
            | C::Alert(..)
            | C::AlertsPruned { .. }
            | C::Purse { .. }
            | C::Fee { .. } => self.apply_to_money(change),
            C::Done { .. } | C::DonePruned { .. } | C::Audit { .. } => Before::Same,
            C::Started { at } => {
                self.view_clock = self.view_clock.max(at.0.max(0).unsigned_abs());
                self.heard = Heard::begin(self.holding().map(|lease| lease.host).collect());
                Before::Started(std::mem::replace(&mut self.started_at, *at))
            }
            C::Host(..)
            | C::HostMeasured { .. }
            | C::HostDialed { .. }
            | C::HostDivided { .. }
            | C::HostSession { .. }
            | C::HostSessionUsed { .. }
            | C::HostSessionReset { .. }
            | C::HostSuspended { .. }
            | C::HostForgotten { .. }
            | C::Plan { .. } => self.apply_to_host(change),
            C::Partition(..)
            | C::PartitionDeclared { .. }
            | C::PartitionTakenBack { .. }
            | C::PartitionAccess { .. }
            | C::PartitionBoots { .. }
            | C::PartitionRetired { .. }
            | C::Allocation { .. } => self.apply_to_partition(change),
            C::Lease(..) | C::LeaseMoved { .. } | C::LeaseExtended { .. } | C::Receipt { .. } => {
                self.apply_to_lease(change)
            }
            C::Heard { .. }
            | C::CatchingUp { .. }
            | C::KeysKnown { .. }
            | C::Seen { .. }
            | C::Silenced { .. }
            | C::Flagged { .. } => self.apply_to_live(change),
        }
    }

    /// Takes changes back, the newest first.
    pub fn undo_all(&mut self, undos: Vec<Undo>) {
        for undo in undos.into_iter().rev() {
            let now = self.swap(undo.0);
            self.outdate(&now);
        }
        self.relist();
    }

    /// Puts a row back as it was, and says how it was until now.
    fn swap(&mut self, before: Before) -> Before {
        match before {
            Before::Same => Before::Same,
            Before::Account(id, row) => Before::Account(id, self.put_account(id, row)),
            Before::Member(id, row) => Before::Member(id, put(&mut self.tables.members, id, row)),
            Before::Token(id, row) => Before::Token(id, self.put_token(id, row)),
            Before::JoinToken(id, row) => Before::JoinToken(id, self.put_join_token(id, row)),
            Before::Host(id, row) => {
                if row.as_ref().is_some_and(|row| row.forgotten_at.is_none()) {
                    self.heard.change(id, None, self.live.get(&id));
                }
                Before::Host(id, self.put_host(id, row))
            }
            Before::Partition(id, row) => Before::Partition(id, self.put_partition(id, row)),
            Before::Offer(key, row) => Before::Offer(key, put(&mut self.tables.offers, key, row)),
            Before::Image(digest, row) => Before::Image(digest, self.put_image(digest, row)),
            Before::Lease(id, row) => Before::Lease(id, self.put_lease(id, row)),
            Before::Charge(id, row) => Before::Charge(id, self.put_charge(id, row)),
            Before::Money(before) => {
                self.put_back(*before);
                Before::Same
            }
            Before::Live(id, live) => Before::Live(id, self.put_live(id, live)),
            Before::Started(at) => Before::Started(std::mem::replace(&mut self.started_at, at)),
        }
    }

    fn apply_to_host(&mut self, change: &Change) -> Before {
        use Change as C;
        match change {
            C::Host(row) => Before::Host(row.id, self.put_host(row.id, Some(row.clone()))),
            C::HostMeasured { host, inventory } => self.edit_host(*host, |row| row.inventory = Arc::clone(inventory)),
            C::HostDialed { host, dial } => self.edit_host(*host, |row| row.dial.clone_from(dial)),
            C::HostDivided { host, revision, keep, offer } => self.edit_host(*host, |row| {
                (row.division_revision, row.keep, row.offer) = (*revision, *keep, *offer);
            }),
            C::HostSession { host, session } => self.edit_host(*host, |row| row.session = *session),
            C::HostSessionUsed { host, session } => self.edit_host(*host, |row| {
                (row.used_session, row.session_reset) = (*session, false);
            }),
            C::HostSessionReset { host } => self.edit_host(*host, |row| row.session_reset = true),
            C::HostSuspended { host, suspended } => self.edit_host(*host, |row| row.suspended = *suspended),
            C::HostForgotten { host, at } => {
                self.heard.forget(*host, self.live.get(host));
                self.edit_host(*host, |row| row.forgotten_at = Some(*at))
            }
            C::Plan { host, version } => self.edit_host(*host, |row| row.plan_version = *version),
            _ => Before::Same,
        }
    }

    fn apply_to_partition(&mut self, change: &Change) -> Before {
        use Change as C;
        match change {
            C::Partition(row) => Before::Partition(row.id, self.put_partition(row.id, Some(row.clone()))),
            C::PartitionDeclared { partition, name, profile, lendable, offer, listed_at, leaving } => self
                .edit_partition(*partition, |row| {
                    row.partition.name.clone_from(name);
                    (row.partition.profile, row.partition.lendable, row.partition.offer) =
                        (*profile, *lendable, *offer);
                    (row.listed_at, row.leaving) = (*listed_at, *leaving);
                }),
            C::PartitionTakenBack { partition, taken_back } => {
                self.edit_partition(*partition, |row| row.taken_back = *taken_back)
            }
            C::PartitionAccess { partition, access } => {
                self.edit_partition(*partition, |row| row.partition.access.clone_from(access))
            }
            C::PartitionBoots { partition, failed_boots, unlisted_until } => self.edit_partition(*partition, |row| {
                (row.partition.failed_boots, row.unlisted_until) = (*failed_boots, *unlisted_until);
            }),
            C::PartitionRetired { partition, at } => self.edit_partition(*partition, |row| {
                row.retired_at = Some(*at);
                row.partition.lendable = false;
            }),
            C::Allocation { partition, allocation, .. } => {
                self.edit_partition(*partition, |row| row.partition.allocation = *allocation)
            }
            _ => Before::Same,
        }
    }

    fn apply_to_lease(&mut self, change: &Change) -> Before {
        use Change as C;
        match change {
            C::Lease(row) => {
                self.touch(row.id);
                Before::Lease(row.id, self.put_lease(row.id, Some(Arc::clone(row))))
            }
            C::LeaseMoved { lease, state, timeline, detail } => self.edit_lease(*lease, |row| {
                row.state = *state;
                row.timeline.clone_from(timeline);
                row.detail.clone_from(detail);
            }),
            C::LeaseExtended { lease, term_seconds, paid_seconds } => self.edit_lease(*lease, |row| {
                (row.term_seconds, row.paid_seconds) = (*term_seconds, *paid_seconds);
            }),
            C::Receipt { lease, end, .. } => self.edit_lease(*lease, |row| row.chain = Some(end.clone())),
            _ => Before::Same,
        }
    }

    fn apply_to_live(&mut self, change: &Change) -> Before {
        use Change as C;
        match change {
            C::Heard { host, at, clock_off } => self.edit_live(*host, |live| {
                (live.heard_at, live.clock_off, live.silent) = (*at, *clock_off, false);
            }),
            C::CatchingUp { host, catching_up } => self.edit_live(*host, |live| live.catching_up = *catching_up),
            C::KeysKnown { host, newest } => self.edit_live(*host, |live| live.keys = *newest),
            C::Seen { host, observed } => {
                let before = self.edit_live(*host, |live| {
                    live.observed = Arc::new(observed.iter().map(|o| (o.partition, o.clone())).collect());
                });
                self.touch_seen(*host, &before);
                before
            }
            C::Silenced { host } => self.edit_live(*host, |live| live.silent = true),
            C::Flagged { host, what } => self.edit_live(*host, |live| {
                Arc::make_mut(&mut live.flagged).insert(what.clone());
            }),
            _ => Before::Same,
        }
    }

    /// Views of leases show the phase: those whose phase is another one now are news.
    fn touch_seen(&mut self, host: HostId, before: &Before) {
        let Before::Live(_, before) = before else { return };
        let now = self.live.get(&host).cloned().unwrap_or_default();
        let changed: Vec<LeaseId> = self
            .held_on(host)
            .filter(|lease| {
                let was = before.as_ref().and_then(|l| l.phase(lease.partition, lease.generation));
                was != now.phase(lease.partition, lease.generation)
            })
            .map(|lease| lease.id)
            .collect();
        changed.into_iter().for_each(|id| self.touch(id));
    }

    /// A view of this lease shows something else from now on.
    pub(super) fn touch(&mut self, lease: LeaseId) {
        self.view_clock += 1;
        self.views.insert(lease, self.view_clock);
    }
}

pub(super) fn put<K: Ord, V>(table: &mut std::collections::BTreeMap<K, V>, key: K, row: Option<V>) -> Option<V> {
    match row {
        Some(row) => table.insert(key, row),
        None => table.remove(&key),
    }
}

/// For each table that is indexed: replaces a row (or removes it) and keeps the index in step;
/// and edits a row through that.
macro_rules! indexed {
    ($($put:ident $edit:ident $table:ident $key:ty => $row:ty, $before:ident, $add:ident, $remove:ident;)*) => {$(
        impl State {
            fn $put(&mut self, key: $key, row: Option<$row>) -> Option<$row> {
                if let Some(old) = self.tables.$table.get(&key) {
                    self.index.$remove(old);
                }
                if let Some(new) = &row {
                    self.index.$add(new);
                }
                put(&mut self.tables.$table, key, row)
            }

            pub(super) fn $edit(&mut self, key: $key, edit: impl FnOnce(&mut $row)) -> Before {
                let Some(mut row) = self.tables.$table.get(&key).cloned() else { return Before::Same };
                edit(&mut row);
                Before::$before(key, self.$put(key, Some(row)))
            }
        }
    )*};
}

indexed! {
    put_account edit_account accounts AccountId => Account, Account, add_account, remove_account;
    put_token edit_token tokens TokenId => Token, Token, add_token, remove_token;
    put_join_token edit_join_token join_tokens TokenId => JoinToken, JoinToken, add_join_token, remove_join_token;
    put_host edit_host hosts HostId => Host, Host, add_host, remove_host;
    put_partition edit_partition partitions PartitionId => PartitionRow, Partition, add_partition, remove_partition;
    put_image edit_image images Sha256Digest => Image, Image, add_image, remove_image;
}

impl State {
    fn put_lease(&mut self, id: LeaseId, row: Option<Arc<Lease>>) -> Option<Arc<Lease>> {
        let old = self.tables.leases.get(&id).cloned();
        if let Some(old) = &old {
            self.index.remove_lease(old);
        }
        if let Some(new) = &row {
            self.index.add_lease(new, self.tables.charges.contains_key(&id));
        }
        let host = row.as_ref().or(old.as_ref()).map(|lease| lease.host);
        let is_over = |lease: &Option<Arc<Lease>>| lease.as_ref().is_some_and(|l| !l.state.holds_slot());
        let judged_anew = is_over(&old) != is_over(&row);
        put(&mut self.tables.leases, id, row);
        if let (Some(host), true) = (host, judged_anew) {
            self.index.judge(host, &self.tables);
        }
        old
    }

    fn edit_lease(&mut self, id: LeaseId, edit: impl FnOnce(&mut Lease)) -> Before {
        let Some(mut row) = self.tables.leases.get(&id).map(|lease| Lease::clone(lease)) else { return Before::Same };
        edit(&mut row);
        self.touch(id);
        Before::Lease(id, self.put_lease(id, Some(Arc::new(row))))
    }

    fn put_charge(&mut self, lease: LeaseId, row: Option<ChargeRow>) -> Option<ChargeRow> {
        match (&row, self.tables.leases.get(&lease)) {
            (Some(_), Some(of)) => self.index.settle(of),
            (None, Some(of)) => self.index.unsettle(of),
            (_, None) => {}
        }
        if let Some(old) = self.tables.charges.get(&lease) {
            self.index.remove_spent(old);
        }
        if let Some(new) = &row {
            self.index.add_spent(new);
        }
        put(&mut self.tables.charges, lease, row)
    }

    fn edit_live(&mut self, host: HostId, edit: impl FnOnce(&mut HostLive)) -> Before {
        let mut live = self.live.get(&host).cloned().unwrap_or_default();
        edit(&mut live);
        Before::Live(host, self.put_live(host, Some(live)))
    }

    fn put_live(&mut self, host: HostId, live: Option<HostLive>) -> Option<HostLive> {
        self.heard.change(host, self.live.get(&host), live.as_ref());
        match live {
            Some(live) => self.live.insert(host, live),
            None => self.live.remove(&host),
        }
    }
}
