//! Indexes over the tables: always what [`Index::of`] would make of them anew.

use super::Tables;
use crate::engine::rows::*;
use crate::tasks;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use sublet_model::identity::{PublicKey, Sha256Digest};
use sublet_model::ids::{AccountId, DisputeId, HostId, LeaseId, OfferId, PartitionId, TokenId};
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::units::{Seconds, Timestamp};

/// How many of its last leases a host is judged by.
const JUDGED: usize = 100;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Index {
    pub account_names: HashMap<String, AccountId>,
    pub token_hashes: HashMap<Sha256Digest, TokenId>,
    pub join_token_hashes: HashMap<Sha256Digest, TokenId>,
    /// Of the hosts that are not forgotten.
    pub host_names: HashMap<String, HostId>,
    /// Of the same.
    pub host_keys: HashMap<PublicKey, HostId>,
    /// Hosts by the offer on whose conditions they lend.
    pub offer_hosts: HashMap<OfferId, BTreeSet<HostId>>,
    /// Of the partitions that are not retired.
    pub host_partitions: HashMap<HostId, BTreeSet<PartitionId>>,
    pub image_references: BTreeMap<String, Sha256Digest>,
    /// The slot-holding lease of a partition (I1: at most one).
    pub holders: BTreeMap<PartitionId, LeaseId>,
    /// Names of slot-holding leases.
    pub lease_names: HashMap<(AccountId, String), LeaseId>,
    /// How many slot-holding leases an account rents; absent for none.
    pub holding: HashMap<AccountId, usize>,
    pub client_leases: HashMap<AccountId, BTreeSet<LeaseId>>,
    pub lender_leases: HashMap<AccountId, BTreeSet<LeaseId>>,
    pub host_leases: HashMap<HostId, BTreeSet<LeaseId>>,
    /// Leases without a charge.
    pub unsettled: BTreeSet<LeaseId>,
    /// Of those, the ones that will be billed, by when at the earliest.
    pub settling: BTreeSet<(Timestamp, LeaseId)>,
    /// Leases that end by the market's own clock, by when at the earliest.
    pub ending: BTreeSet<(Timestamp, LeaseId)>,
    /// Leases for which more may have to be held, by when at the earliest.
    pub funding: BTreeSet<(Timestamp, LeaseId)>,
    /// What was charged to an account in a month.
    pub spent: HashMap<(AccountId, i32), i128>,
    /// What the clients of leases were told, and how far each was paid then: the number of the alert.
    pub told: BTreeMap<(LeaseId, AlertKind, Seconds), u64>,
    /// Alerts by whom they tell.
    pub account_alerts: BTreeSet<(AccountId, u64)>,
    pub open_disputes: BTreeSet<DisputeId>,
    /// Partitions whose owner wants them back.
    pub taken_back: BTreeSet<PartitionId>,
    /// Leases that ended by a host's own fault. Most hosts have none.
    pub faults: HashMap<HostId, BTreeSet<LeaseId>>,
    /// Of the hosts that have such leases.
    pub reliability: HashMap<HostId, u16>,
    /// How far ahead leases are paid at the least: as long as a market runs.
    chunk: Seconds,
}

fn remove_from<K: std::hash::Hash + Eq, V: Ord>(sets: &mut HashMap<K, BTreeSet<V>>, key: K, value: &V) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}

impl Index {
    /// The indexes over these tables.
    pub fn of(tables: &Tables) -> Self {
        let mut index = Self { chunk: tables.settings.chunk, ..Self::default() };
        tables.accounts.values().for_each(|row| index.add_account(row));
        tables.tokens.values().for_each(|row| index.add_token(row));
        tables.join_tokens.values().for_each(|row| index.add_join_token(row));
        tables.hosts.values().for_each(|row| index.add_host(row));
        tables.partitions.values().for_each(|row| index.add_partition(row));
        tables.images.values().for_each(|row| index.add_image(row));
        for lease in tables.leases.values() {
            index.add_lease(lease, tables.charges.contains_key(&lease.id));
        }
        tables.charges.values().for_each(|row| index.add_spent(row));
        tables.alerts.values().for_each(|row| index.add_alert(row));
        let open = tables.disputes.values().filter(|row| row.resolved.is_none());
        index.open_disputes = open.map(|row| row.id).collect();
        let hosts: Vec<HostId> = index.faults.keys().copied().collect();
        hosts.into_iter().for_each(|host| index.judge(host, tables));
        index
    }

    pub fn add_account(&mut self, row: &Account) {
        self.account_names.insert(row.name.clone(), row.id);
    }

    pub fn remove_account(&mut self, row: &Account) {
        self.account_names.remove(&row.name);
    }

    pub fn add_token(&mut self, row: &Token) {
        self.token_hashes.insert(row.hash, row.id);
    }

    pub fn remove_token(&mut self, row: &Token) {
        self.token_hashes.remove(&row.hash);
    }

    pub fn add_join_token(&mut self, row: &JoinToken) {
        self.join_token_hashes.insert(row.hash, row.id);
    }

    pub fn remove_join_token(&mut self, row: &JoinToken) {
        self.join_token_hashes.remove(&row.hash);
    }

    pub fn add_host(&mut self, row: &Host) {
        if row.forgotten_at.is_none() {
            self.host_names.insert(row.name.clone(), row.id);
            self.host_keys.insert(row.key, row.id);
        }
        if let Some((offer, _)) = row.offer {
            self.offer_hosts.entry(offer).or_default().insert(row.id);
        }
    }

    pub fn remove_host(&mut self, row: &Host) {
        if row.forgotten_at.is_none() {
            self.host_names.remove(&row.name);
            self.host_keys.remove(&row.key);
        }
        if let Some((offer, _)) = row.offer {
            remove_from(&mut self.offer_hosts, offer, &row.id);
        }
    }

    pub fn add_partition(&mut self, row: &PartitionRow) {
        if row.retired_at.is_none() {
            self.host_partitions.entry(row.host).or_default().insert(row.id);
            if row.taken_back.is_some() {
                self.taken_back.insert(row.id);
            }
        }
    }

    pub fn remove_partition(&mut self, row: &PartitionRow) {
        remove_from(&mut self.host_partitions, row.host, &row.id);
        self.taken_back.remove(&row.id);
    }

    pub fn add_image(&mut self, row: &Image) {
        self.image_references.insert(row.manifest.reference(), row.digest);
    }

    pub fn remove_image(&mut self, row: &Image) {
        self.image_references.remove(&row.manifest.reference());
    }

    pub fn add_lease(&mut self, row: &Lease, settled: bool) {
        if row.state.holds_slot() {
            self.holders.insert(row.partition, row.id);
            self.lease_names.insert((row.account, row.name.clone()), row.id);
            *self.holding.entry(row.account).or_default() += 1;
        }
        self.client_leases.entry(row.account).or_default().insert(row.id);
        self.lender_leases.entry(row.terms().lender).or_default().insert(row.id);
        self.host_leases.entry(row.host).or_default().insert(row.id);
        if ended_by_fault(row) {
            self.faults.entry(row.host).or_default().insert(row.id);
        }
        if !settled {
            self.unsettle(row);
        }
        self.ending.extend(tasks::earliest_end(row).map(|at| (at, row.id)));
        self.funding.extend(tasks::funding_due(row, self.chunk).map(|at| (at, row.id)));
    }

    pub fn remove_lease(&mut self, row: &Lease) {
        if row.state.holds_slot() {
            self.holders.remove(&row.partition);
            self.lease_names.remove(&(row.account, row.name.clone()));
            if let Some(count) = self.holding.get_mut(&row.account) {
                *count -= 1;
                if *count == 0 {
                    self.holding.remove(&row.account);
                }
            }
        }
        remove_from(&mut self.client_leases, row.account, &row.id);
        remove_from(&mut self.lender_leases, row.terms().lender, &row.id);
        remove_from(&mut self.host_leases, row.host, &row.id);
        remove_from(&mut self.faults, row.host, &row.id);
        self.settle(row);
        if let Some(at) = tasks::earliest_end(row) {
            self.ending.remove(&(at, row.id));
        }
        if let Some(at) = tasks::funding_due(row, self.chunk) {
            self.funding.remove(&(at, row.id));
        }
    }

    pub fn add_spent(&mut self, row: &ChargeRow) {
        let month = (row.client, row.settled_at.month());
        if row.charge.total.0 != 0 {
            *self.spent.entry(month).or_default() += i128::from(row.charge.total.0);
        }
    }

    pub fn remove_spent(&mut self, row: &ChargeRow) {
        let month = (row.client, row.settled_at.month());
        let left = self.spent.get(&month).copied().unwrap_or(0) - i128::from(row.charge.total.0);
        match left {
            0 => drop(self.spent.remove(&month)),
            left => drop(self.spent.insert(month, left)),
        }
    }

    pub fn add_alert(&mut self, row: &AlertRow) {
        self.told.extend(row.lease.map(|lease| ((lease, row.kind, row.paid), row.seq)));
        self.account_alerts.insert((row.account, row.seq));
    }

    pub fn remove_alert(&mut self, row: &AlertRow) {
        self.account_alerts.remove(&(row.account, row.seq));
        if let Some(lease) = row.lease {
            self.told.remove(&(lease, row.kind, row.paid));
        }
    }

    /// A lease has its charge, or is none any more.
    pub fn settle(&mut self, row: &Lease) {
        self.unsettled.remove(&row.id);
        if let Some(at) = tasks::due_at(row) {
            self.settling.remove(&(at, row.id));
        }
    }

    /// A lease has no charge.
    pub fn unsettle(&mut self, row: &Lease) {
        self.unsettled.insert(row.id);
        self.settling.extend(tasks::due_at(row).map(|at| (at, row.id)));
    }

    /// Judges a host by its last leases.
    pub fn judge(&mut self, host: HostId, tables: &Tables) {
        let Some(faults) = self.faults.get(&host) else {
            self.reliability.remove(&host);
            return;
        };
        let leases = self.host_leases.get(&host).into_iter().flatten().rev().filter_map(|id| tables.leases.get(id));
        let ended = leases.filter(|lease| !lease.state.holds_slot());
        let (mut all, mut own) = (0u32, 0u32);
        for lease in ended.take(JUDGED) {
            all += 1;
            own += u32::from(faults.contains(&lease.id));
        }
        let permille = u16::try_from((all - own) * 1000 / all.max(1)).unwrap_or(1000);
        self.reliability.insert(host, permille);
    }
}

fn ended_by_fault(lease: &Lease) -> bool {
    matches!(lease.state, LeaseState::Ended { reason, .. } if is_hosts_fault(reason))
}

/// Whether a lease ended because its host did not keep what it lent.
fn is_hosts_fault(reason: EndReason) -> bool {
    use EndReason::*;
    match reason {
        Evicted | BootFailed | HostLost | HostRestarted | ImageUnavailable => true,
        Released | Expired | Reclaimed | OutOfFunds | GuestCrashed | GuestShutdown | Operator => false,
    }
}
