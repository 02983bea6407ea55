//! What partitions have in common, apart from amounts and prices: architecture, tier, labels,
//! audience, images allowed. Each such class is asked about once a search, not each partition.
//!
//! A class keeps the most favourable listing there could be in it: endless reach, no price. Where
//! [`admit`](super::admit()) refuses even that one, it refuses every partition of the class.

use super::admit::Listing;
use super::price::resources;
use super::unfit::Unfit;
use crate::host::{Inventory, Tier};
use crate::ids::{AccountId, PartitionId};
use crate::offer::{Audience, Conditions, Offer};
use crate::resources::Resources;
use crate::units::{GiB, MiB, Seconds, Timestamp};
use std::collections::HashMap;
use uuid::Uuid;

/// A set of facts, a bit for each. Different facts may share a bit: a bit that is set proves
/// nothing, one that is not set does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signature(pub [u64; 4]);

impl Signature {
    /// No fact.
    pub const NONE: Self = Self([0; 4]);

    /// All facts of both.
    pub fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// Whether there is a fact in both.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |met, (a, b)| met | (a & b)) != 0
    }

    fn bit(word: usize, at: u64) -> Self {
        Self(std::array::from_fn(|i| if i == word { 1 << (at % 64) } else { 0 }))
    }

    /// An architecture.
    pub fn arch(name: &str) -> Self {
        Self::bit(0, hash(&[name]) % 32)
    }

    /// What runs the partition.
    pub fn tier(tier: Tier) -> Self {
        Self::bit(0, if tier == Tier::Kvm { 32 } else { 33 })
    }

    /// Whether partitions run confined.
    pub fn confined(confined: bool) -> Self {
        Self::bit(0, if confined { 34 } else { 35 })
    }

    /// Lent to everybody, or to some.
    pub fn everyone(everyone: bool) -> Self {
        Self::bit(0, if everyone { 36 } else { 37 })
    }

    /// A label of the offer.
    pub fn label(key: &str, value: &str) -> Self {
        let hash = hash(&[key, value]);
        Self::bit(1 + (hash >> 32) as usize % 2, hash)
    }

    /// A flag of the processor.
    pub fn flag(name: &str) -> Self {
        Self::bit(3, hash(&[name]))
    }

    fn of(inventory: &Inventory, conditions: &Conditions) -> Self {
        let facts = [
            Self::arch(&inventory.arch),
            Self::tier(inventory.tier),
            Self::confined(inventory.confined),
            Self::everyone(conditions.audience == Audience::Everyone),
        ];
        let labels = conditions.labels.iter().map(|(k, v)| Self::label(k, v));
        let flags = inventory.cpu_flags.iter().map(|f| Self::flag(f));
        facts.into_iter().chain(labels).chain(flags).fold(Self::NONE, |all, fact| all.or(&fact))
    }
}

/// FNV-1a, with its bits mixed at the end: the same on every computer.
fn hash(words: &[&str]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    let sum =
        bytes.fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (sum ^ sum >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ mixed >> 32
}

#[derive(Debug, Clone)]
struct Class {
    inventory: Inventory,
    /// Lent by nobody: to every client a stranger's.
    offer: Offer,
    signature: Signature,
    hash: u64,
    rows: u32,
}

/// Every class that a listed partition is of.
#[derive(Debug, Clone, Default)]
pub(super) struct Classes {
    all: Vec<Class>,
    numbers: HashMap<u64, Vec<u32>>,
    unused: Vec<u32>,
    /// Accounts that stand in an audience: they see more than strangers do.
    guests: HashMap<AccountId, u32>,
}

impl Classes {
    /// How many there may be: each has a number below this.
    pub fn bound(&self) -> usize {
        self.all.len()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len() - self.unused.len()
    }

    /// All that a class is.
    pub fn signature(&self, class: u32) -> Signature {
        self.all[class as usize].signature
    }

    /// Whether an account stands in some offer's audience by name.
    pub fn invites(&self, account: AccountId) -> bool {
        self.guests.contains_key(&account)
    }

    /// The class of a partition, made if it is the first of it. Counts it in.
    pub fn enter(&mut self, inventory: &Inventory, conditions: &Conditions) -> u32 {
        let hash = identity(inventory, conditions);
        let known = self.numbers.get(&hash).into_iter().flatten().copied();
        let same = |class: &u32| self.all[*class as usize].is_of(inventory, conditions);
        let number = known.into_iter().find(same).unwrap_or_else(|| self.make(hash, inventory, conditions));
        self.all[number as usize].rows += 1;
        number
    }

    /// One more of a class that is known.
    pub fn again(&mut self, class: u32) {
        self.all[class as usize].rows += 1;
    }

    /// One less; the last one takes the class along.
    pub fn leave(&mut self, class: u32) {
        let row = &mut self.all[class as usize];
        row.rows -= 1;
        if row.rows > 0 {
            return;
        }
        for guest in guests(&row.offer.conditions) {
            if let Some(count) = self.guests.get_mut(&guest) {
                *count -= 1;
                if *count == 0 {
                    self.guests.remove(&guest);
                }
            }
        }
        if let Some(numbers) = self.numbers.get_mut(&row.hash) {
            numbers.retain(|n| *n != class);
            if numbers.is_empty() {
                self.numbers.remove(&row.hash);
            }
        }
        self.unused.push(class);
    }

    fn make(&mut self, hash: u64, inventory: &Inventory, conditions: &Conditions) -> u32 {
        let class = Class {
            inventory: favourable_inventory(inventory),
            offer: Offer {
                id: Uuid::nil().into(),
                version: 0,
                account: Uuid::nil().into(),
                conditions: favourable_conditions(conditions),
            },
            signature: Signature::of(inventory, conditions),
            hash,
            rows: 0,
        };
        guests(conditions).for_each(|guest| *self.guests.entry(guest).or_default() += 1);
        let number = match self.unused.pop() {
            Some(number) => {
                self.all[number as usize] = class;
                number
            }
            None => {
                self.all.push(class);
                u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.entry(hash).or_default().push(number);
        number
    }

    /// The most favourable listing of a class, on a host of this name, lent by a stranger.
    pub fn favourable<'a>(&'a self, class: u32, host_name: &'a str) -> Listing<'a> {
        let Class { inventory, offer, .. } = &self.all[class as usize];
        Listing {
            partition: PartitionId::from(Uuid::nil()),
            host_name,
            inventory,
            offer,
            reach: Some(resources(&[u32::MAX; 3])),
            least: Resources::ZERO,
            reliability_permille: 1000,
            listed_at: Timestamp(0),
        }
    }
}

impl Class {
    /// Whether a partition is of this class: the same but for what was made favourable.
    fn is_of(&self, inventory: &Inventory, conditions: &Conditions) -> bool {
        let (a, b) = (&self.inventory, inventory);
        let same_host = a.arch == b.arch
            && a.tier == b.tier
            && a.confined == b.confined
            && a.cpu_model == b.cpu_model
            && a.cpu_flags == b.cpu_flags;
        same_host && self.offer.conditions == favourable_conditions(conditions)
    }
}

fn favourable_inventory(inventory: &Inventory) -> Inventory {
    Inventory {
        threads: u16::MAX,
        cores: u16::MAX,
        memory: MiB::MAX,
        disk: GiB::MAX,
        speed: u32::MAX,
        kernel: String::new(),
        qemu: String::new(),
        ..inventory.clone()
    }
}

fn favourable_conditions(conditions: &Conditions) -> Conditions {
    Conditions {
        prices: crate::billing::PriceList::default(),
        shortest_term_seconds: Seconds::ZERO,
        longest_term_seconds: Seconds(i64::MAX),
        reclaim_notice_seconds: None,
        eviction_credit: crate::units::Micros::ZERO,
        ..conditions.clone()
    }
}

fn guests(conditions: &Conditions) -> impl Iterator<Item = AccountId> {
    let named = match &conditions.audience {
        Audience::Accounts(accounts) => accounts.clone(),
        Audience::Everyone | Audience::Own => Vec::new(),
    };
    named.into_iter()
}

/// Equal for what is of one class; seldom equal otherwise.
fn identity(inventory: &Inventory, conditions: &Conditions) -> u64 {
    let tier = if inventory.tier == Tier::Kvm { "kvm" } else { "emulated" };
    let fixed = [inventory.arch.as_str(), &inventory.cpu_model, tier];
    let flags = inventory.cpu_flags.iter().map(String::as_str);
    let labels = conditions.labels.iter().flat_map(|(k, v)| [k.as_str(), v.as_str()]);
    let images = conditions.images.iter().map(String::as_str);
    let words: Vec<&str> = fixed.into_iter().chain(flags).chain(labels).chain(images).collect();
    hash(&words) ^ u64::from(inventory.confined) ^ u64::from(conditions.emulated_to_strangers) << 1
}

/// Whether all partitions of a class break this clause or none does: those of strangers one way,
/// the client's own perhaps another.
pub(super) fn is_of_class(clause: Unfit) -> bool {
    match clause {
        Unfit::Arch
        | Unfit::Audience
        | Unfit::Unconfined
        | Unfit::Emulated
        | Unfit::EmulatedToStrangers
        | Unfit::Tier
        | Unfit::Window
        | Unfit::Label(_)
        | Unfit::Trait(_)
        | Unfit::CpuModel
        | Unfit::Os
        | Unfit::Image => true,
        Unfit::Host
        | Unfit::Term
        | Unfit::Speed
        | Unfit::Reliability
        | Unfit::Vcpus
        | Unfit::TooManyVcpus
        | Unfit::Busy
        | Unfit::TooSmall(_)
        | Unfit::TooLarge(_)
        | Unfit::Boots
        | Unfit::Price
        | Unfit::Total => false,
    }
}

#[cfg(test)]
mod tests;
