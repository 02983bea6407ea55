//! The market in memory: tables, indexes over them, and what was heard. Readers get a copy of it
//! that holds only what is committed.
//!
//! Free capacity is not here: it is derived from leases and allocations wherever it is asked for.

use super::epoch::Epoch;
use super::live::{HostLive, SILENT};
use super::rows::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use sublet_model::book::Book;
use sublet_model::identity::{PublicKey, Sha256Digest};
use sublet_model::ids::{AccountId, DisputeId, HostId, LeaseId, MemberId, OfferId, PartitionId, TokenId};
use sublet_model::ledger::Ledger;
use sublet_model::partition::alter::{self, Slot};
use sublet_model::resources::Resources;
use sublet_model::units::{Seconds, Timestamp};

mod apply;
mod heard;
mod index;
mod listed;
mod money;
#[cfg(test)]
mod tests;

pub use apply::Undo;
use heard::Heard;
use index::Index;
pub use money::{FORK, Reference, Referred, referred};

/// The rows, as the database has them.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "each is the table of its name")]
pub struct Tables {
    /// Rows of the table `meta`.
    pub epoch: Epoch,
    pub accounts: BTreeMap<AccountId, Account>,
    pub members: BTreeMap<MemberId, Member>,
    pub tokens: BTreeMap<TokenId, Token>,
    pub join_tokens: BTreeMap<TokenId, JoinToken>,
    pub hosts: BTreeMap<HostId, Host>,
    pub partitions: BTreeMap<PartitionId, PartitionRow>,
    pub offers: BTreeMap<(OfferId, u32), OfferRow>,
    pub images: BTreeMap<Sha256Digest, Image>,
    pub leases: BTreeMap<LeaseId, Arc<Lease>>,
    pub charges: BTreeMap<LeaseId, ChargeRow>,
    /// What the tables `transfers` and `postings` come to.
    pub ledger: Ledger,
    pub credits: BTreeMap<(LeaseId, u64), CreditRow>,
    pub disputes: BTreeMap<DisputeId, DisputeRow>,
    pub alerts: BTreeMap<u64, AlertRow>,
    /// Deposits and refunds, by what proves them outside.
    pub references: BTreeMap<Reference, Referred>,
    /// Rows of the table `meta`.
    pub settings: Settings,
}

/// The market.
#[derive(Debug, Clone, Default)]
pub struct State {
    tables: Tables,
    index: Index,
    /// What is lent, arranged for searching.
    book: Book,
    /// Whom the book has to list anew.
    outdated: BTreeSet<HostId>,
    live: HashMap<HostId, HostLive>,
    heard: Heard,
    started_at: Timestamp,
    /// Counts changes that a view of a lease shows. Starts at the time of the start, so that a
    /// version seen before a restart is not met again.
    view_clock: u64,
    views: HashMap<LeaseId, u64>,
    /// The version of every view that is not among these.
    views_from: u64,
}

impl State {
    /// The market as these rows tell it; nothing was heard yet.
    pub fn new(tables: Tables) -> Self {
        let index = Index::of(&tables);
        Self { tables, index, ..Self::default() }.with_book()
    }

    /// The rows.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The same market with other rows, after the database was edited by hand: what was heard stays.
    pub fn reloaded(&self, tables: Tables) -> Self {
        let Self { live, heard, started_at, view_clock, .. } = self.clone();
        // Every view may have changed: each has a version that was not seen before.
        let view_clock = view_clock + 1;
        let index = Index::of(&tables);
        Self { index, tables, live, heard, started_at, view_clock, views_from: view_clock, ..Self::default() }
            .with_book()
    }

    /// Whether the indexes are what the rows make them. For tests.
    pub fn is_consistent(&self) -> bool {
        self.index == Index::of(&self.tables) && self.book_is_consistent() && self.heard_is_consistent()
    }

    fn heard_is_consistent(&self) -> bool {
        let listened = self
            .live
            .iter()
            .filter(|(id, live)| !live.silent && self.host(**id).is_some_and(|host| host.forgotten_at.is_none()));
        let by_time: BTreeSet<_> = listened.map(|(id, live)| (live.heard_at, *id)).collect();
        let unheard = self.holding().filter(|lease| !self.live.contains_key(&lease.host));
        self.heard.is(&by_time) && unheard.into_iter().all(|lease| self.heard.unheard().any(|id| id == lease.host))
    }

    /// When this market started.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }
}

/// Accounts, members, tokens.
impl State {
    /// An account by its id.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.tables.accounts.get(&id)
    }

    /// An account by its name.
    pub fn account_by_name(&self, name: &str) -> Option<&Account> {
        self.account(*self.index.account_names.get(name)?)
    }

    /// Every account, oldest first.
    pub fn accounts(&self) -> impl DoubleEndedIterator<Item = &Account> {
        self.tables.accounts.values()
    }

    /// A member.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.tables.members.get(&id)
    }

    /// Every member, oldest first.
    pub fn members(&self) -> impl DoubleEndedIterator<Item = &Member> {
        self.tables.members.values()
    }

    /// A token by its id.
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.tables.tokens.get(&id)
    }

    /// Every token, oldest first.
    pub fn tokens(&self) -> impl DoubleEndedIterator<Item = &Token> {
        self.tables.tokens.values()
    }

    /// A token by the hash of its secret, good or not.
    pub fn token_by_hash(&self, hash: &Sha256Digest) -> Option<&Token> {
        self.token(*self.index.token_hashes.get(hash)?)
    }

    /// A join token by the hash of its secret, used up or not.
    pub fn join_token_by_hash(&self, hash: &Sha256Digest) -> Option<&JoinToken> {
        self.tables.join_tokens.get(self.index.join_token_hashes.get(hash)?)
    }
}

/// Hosts and partitions.
impl State {
    /// A host, forgotten or not.
    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.tables.hosts.get(&id)
    }

    /// A host that is not forgotten, by its name.
    pub fn host_by_name(&self, name: &str) -> Option<&Host> {
        self.host(*self.index.host_names.get(name)?)
    }

    /// A host that is not forgotten, by its key.
    pub fn host_by_key(&self, key: &PublicKey) -> Option<&Host> {
        self.host(*self.index.host_keys.get(key)?)
    }

    /// Every host that is not forgotten, oldest first.
    pub fn hosts(&self) -> impl DoubleEndedIterator<Item = &Host> {
        self.tables.hosts.values().filter(|h| h.forgotten_at.is_none())
    }

    /// What was last heard of a host; none if nothing since the market started.
    pub fn live(&self, host: HostId) -> Option<&HostLive> {
        self.live.get(&host)
    }

    /// When a host was heard last; the market's own start counts where nothing was heard since.
    pub fn heard_at(&self, host: HostId) -> Timestamp {
        self.live(host).map_or(self.started_at, |l| l.heard_at)
    }

    /// `online`, `suspect`, `silent`, `suspended` or `forgotten`.
    pub fn host_status(&self, host: &Host, now: Timestamp) -> &'static str {
        match self.live(host.id) {
            _ if host.forgotten_at.is_some() => "forgotten",
            _ if host.suspended => "suspended",
            Some(live) if live.is_fresh(now) => "online",
            Some(live) if now.since(live.heard_at) < SILENT => "suspect",
            _ => "silent",
        }
    }

    /// Hosts that were heard since the start, but no later than `at`, and not declared silent.
    pub fn heard_by(&self, at: Timestamp) -> impl Iterator<Item = HostId> {
        self.heard.by(at)
    }

    /// How many hosts were heard since the start and not declared silent.
    pub fn listened_to(&self) -> usize {
        self.heard.count()
    }

    /// Hosts that had leases when the market started and were not heard since.
    pub fn unheard(&self) -> impl Iterator<Item = HostId> {
        self.heard.unheard()
    }

    /// A partition, retired or not.
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionRow> {
        self.tables.partitions.get(&id)
    }

    /// Every partition that is not retired, oldest first.
    pub fn partitions(&self) -> impl DoubleEndedIterator<Item = &PartitionRow> {
        self.tables.partitions.values().filter(|p| p.retired_at.is_none())
    }

    /// The partitions whose owner wants them back.
    pub fn taken_back(&self) -> impl Iterator<Item = &PartitionRow> {
        self.index.taken_back.iter().filter_map(|id| self.partition(*id))
    }

    /// The partitions of a host that are not retired, oldest first.
    pub fn partitions_of(&self, host: HostId) -> impl DoubleEndedIterator<Item = &PartitionRow> {
        self.index.host_partitions.get(&host).into_iter().flatten().filter_map(|id| self.partition(*id))
    }

    /// Where the newest generation of a partition stands on its host, as far as was heard.
    pub fn phase(&self, partition: &PartitionRow) -> Option<sublet_model::partition::Phase> {
        self.live(partition.host)?.phase(partition.id, partition.allocation.generation)
    }

    /// The lease that holds a partition.
    pub fn holder(&self, partition: PartitionId) -> Option<&Arc<Lease>> {
        self.lease(*self.index.holders.get(&partition)?)
    }

    /// The partitions of a host as the rule of alteration sees them. What is not lent is the
    /// owner's own: it never shrinks for a client.
    pub fn slots(&self, host: HostId) -> Vec<Slot> {
        let slot = |p: &PartitionRow| Slot {
            id: p.id,
            profile: p.profile,
            has: p.allocation.resources,
            held: !p.lendable || self.holder(p.id).is_some(),
        };
        self.partitions_of(host).map(slot).collect()
    }

    /// The most that a lent, idle partition could become now.
    pub fn reach(&self, partition: PartitionId) -> Option<Resources> {
        let host = self.host(self.partition(partition)?.host)?;
        alter::reach(host.lendable(), &self.slots(host.id), partition)
    }

    /// Of a host's last 100 leases, how many of a thousand did not end by its own fault.
    pub fn reliability_permille(&self, host: HostId) -> u16 {
        self.index.reliability.get(&host).copied().unwrap_or(1000)
    }
}

/// Offers and images.
impl State {
    /// A version of an offer.
    pub fn offer(&self, id: OfferId, version: u32) -> Option<&OfferRow> {
        self.tables.offers.get(&(id, version))
    }

    /// The newest version of an offer.
    pub fn newest_offer(&self, id: OfferId) -> Option<&OfferRow> {
        self.tables.offers.range((id, 0)..=(id, u32::MAX)).next_back().map(|(_, offer)| offer)
    }

    /// The newest version of every offer.
    pub fn offers(&self) -> impl Iterator<Item = &OfferRow> {
        // Versions of one offer stand side by side, the newest last.
        let mut rows = self.tables.offers.iter().peekable();
        std::iter::from_fn(move || {
            loop {
                let ((id, _), row) = rows.next()?;
                if rows.peek().is_none_or(|((next, _), _)| next != id) {
                    return Some(row);
                }
            }
        })
    }

    /// An image by the digest of its signed manifest.
    pub fn image_by_digest(&self, digest: &Sha256Digest) -> Option<&Image> {
        self.tables.images.get(digest)
    }

    /// An image by its reference, such as `debian-12@12.11-1`.
    pub fn image(&self, reference: &str) -> Option<&Image> {
        self.image_by_digest(self.index.image_references.get(reference)?)
    }

    /// Every image, by reference.
    pub fn images(&self) -> impl DoubleEndedIterator<Item = &Image> {
        self.index.image_references.values().filter_map(|digest| self.image_by_digest(digest))
    }
}

/// Leases and charges.
impl State {
    /// A lease.
    pub fn lease(&self, id: LeaseId) -> Option<&Arc<Lease>> {
        self.tables.leases.get(&id)
    }

    /// Every lease, oldest first.
    pub fn leases(&self) -> impl DoubleEndedIterator<Item = &Arc<Lease>> {
        self.tables.leases.values()
    }

    /// The leases that an account rented, oldest first.
    pub fn leases_of(&self, account: AccountId) -> impl DoubleEndedIterator<Item = &Arc<Lease>> {
        self.index.client_leases.get(&account).into_iter().flatten().filter_map(|id| self.lease(*id))
    }

    /// The leases by which an account lent, oldest first.
    pub fn leases_lent_by(&self, account: AccountId) -> impl DoubleEndedIterator<Item = &Arc<Lease>> {
        self.index.lender_leases.get(&account).into_iter().flatten().filter_map(|id| self.lease(*id))
    }

    /// The leases of a host, oldest first, ended ones too.
    pub fn leases_on(&self, host: HostId) -> impl DoubleEndedIterator<Item = &Arc<Lease>> {
        self.index.host_leases.get(&host).into_iter().flatten().filter_map(|id| self.lease(*id))
    }

    /// The slot-holding lease of an account with this name.
    pub fn lease_by_name(&self, account: AccountId, name: &str) -> Option<&Arc<Lease>> {
        self.lease(*self.index.lease_names.get(&(account, name.to_string()))?)
    }

    /// How many slot-holding leases an account rents.
    pub fn holding_of(&self, account: AccountId) -> usize {
        self.index.holding.get(&account).copied().unwrap_or(0)
    }

    /// Every lease that holds a slot.
    pub fn holding(&self) -> impl Iterator<Item = &Arc<Lease>> {
        self.index.holders.values().filter_map(|id| self.lease(*id))
    }

    /// Leases that may have to end by `now`, by the market's own clock.
    pub fn ending_by(&self, now: Timestamp) -> Vec<Arc<Lease>> {
        self.due(&self.index.ending, now)
    }

    /// Leases whose end falls from one moment until before another, as things stand.
    pub(super) fn ending_between(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = &Arc<Lease>> {
        let first = |at: Timestamp| (at, LeaseId::from(uuid::Uuid::nil()));
        self.index.ending.range(first(from)..first(until)).filter_map(|(_, id)| self.lease(*id))
    }

    /// Leases that can be billed for good by `now`.
    pub fn settling_by(&self, now: Timestamp) -> Vec<Arc<Lease>> {
        self.due(&self.index.settling, now)
    }

    fn due(&self, order: &BTreeSet<(Timestamp, LeaseId)>, now: Timestamp) -> Vec<Arc<Lease>> {
        let due = order.iter().take_while(|(at, _)| *at <= now);
        due.filter_map(|(_, id)| self.lease(*id)).cloned().collect()
    }

    /// Every lease without a final bill, oldest first.
    pub fn unsettled(&self) -> impl Iterator<Item = &Arc<Lease>> {
        self.index.unsettled.iter().filter_map(|id| self.lease(*id))
    }

    /// The final bill of a lease.
    pub fn charge(&self, lease: LeaseId) -> Option<&ChargeRow> {
        self.tables.charges.get(&lease)
    }

    /// Seconds metered so far: the newest receipt, or what the host said since for progress.
    pub fn seconds_so_far(&self, lease: &Lease) -> Seconds {
        let receipted = lease.chain.as_ref().map_or(Seconds::ZERO, |end| end.seconds);
        let live = self.live(lease.host).and_then(|l| l.observed(lease.partition));
        let said = live.filter(|o| o.applied.generation == lease.generation && o.lease == Some(lease.id));
        said.map_or(receipted, |o| receipted.max(o.seconds.min(lease.term_seconds)))
    }

    /// Rises with every change that a view of the lease shows, across restarts too.
    pub fn lease_version(&self, id: LeaseId) -> u64 {
        self.views.get(&id).copied().unwrap_or(self.views_from.max(self.started_at.0.max(0).unsigned_abs()))
    }

    /// The slot-holding leases of a host.
    pub fn held_on(&self, host: HostId) -> impl Iterator<Item = &Arc<Lease>> {
        self.partitions_of(host).filter_map(|p| self.holder(p.id))
    }
}
