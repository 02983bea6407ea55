//! The book: every partition that is lent, so that a search looks at few of them.

use super::admit::Listing;
use super::class::Classes;
use super::entry::{Lending, Lent};
use super::leaf::{Leaf, Row};
use super::price::{Amounts, Prices, amounts, columns, most, resources};
use super::tree::Tree;
use crate::host::Inventory;
use crate::ids::{AccountId, HostId, PartitionId};
use crate::offer::Offer;
use crate::units::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// No number.
const NONE: u32 = u32::MAX;

/// Of a partition, what only those need who look closer.
#[derive(Debug, Clone, Copy)]
struct Card {
    partition: PartitionId,
    host: u32,
    offer: u32,
    /// The next one of the same host.
    next: u32,
}

#[derive(Debug, Clone)]
struct HostCard {
    host: HostId,
    name: Arc<str>,
    inventory: Arc<Inventory>,
    unreliable: u16,
    /// The first of its partitions.
    first: u32,
}

#[derive(Debug, Clone)]
struct OfferCard {
    offer: Arc<Offer>,
    rows: u32,
}

/// Every partition that is lent, held ones too. Derived from the market's rows: it is told of a
/// computer again whenever something about it changed.
#[derive(Debug, Clone)]
pub struct Book {
    pub(super) tree: Tree,
    pub(super) classes: Classes,
    cards: Vec<Card>,
    unused_cards: Vec<u32>,
    hosts: Vec<HostCard>,
    unused_hosts: Vec<u32>,
    host_numbers: HashMap<HostId, u32>,
    host_names: BTreeSet<(Arc<str>, u32)>,
    offers: Vec<OfferCard>,
    unused_offers: Vec<u32>,
    lenders: HashMap<AccountId, u32>,
    closed: HashMap<u32, Timestamp>,
    /// Offer and class of the last partition of the computer that is told of.
    recent: Option<(u32, u32)>,
    /// Nothing in the book was ever dearer, or had a larger least.
    pub(super) highest: Prices,
    pub(super) largest: Amounts,
}

impl Default for Book {
    fn default() -> Self {
        Self::of(std::iter::empty())
    }
}

impl Book {
    /// A book of all these at once: faster than one after the other, and better arranged.
    pub fn of<'a>(all: impl Iterator<Item = (Lending<'a>, Vec<Lent>)>) -> Self {
        let classes = Classes::default();
        let mut book = Self {
            tree: Tree::of(&mut [], &classes),
            classes,
            cards: Vec::new(),
            unused_cards: Vec::new(),
            hosts: Vec::new(),
            unused_hosts: Vec::new(),
            host_numbers: HashMap::new(),
            host_names: BTreeSet::new(),
            offers: Vec::new(),
            unused_offers: Vec::new(),
            lenders: HashMap::new(),
            closed: HashMap::new(),
            recent: None,
            highest: [0; 5],
            largest: [0; 3],
        };
        let mut rows = Vec::new();
        for (lending, lent) in all.filter(|(_, lent)| !lent.is_empty()) {
            let host = book.put_host(&lending);
            rows.extend(lent.iter().map(|lent| book.new_row(host, lent)));
        }
        book.tree = Tree::of(&mut rows, &book.classes);
        book
    }

    /// How many partitions are lent.
    pub fn len(&self) -> usize {
        self.cards.len() - self.unused_cards.len()
    }

    /// Whether nothing is lent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that a computer lends now; what it lent before and is not there is lent no more.
    pub fn set(&mut self, lending: &Lending<'_>, lent: &[Lent]) {
        if lent.is_empty() {
            return self.remove(lending.host);
        }
        let host = self.put_host(lending);
        for number in self.numbers_of(host) {
            if !lent.iter().any(|l| l.partition == self.cards[number as usize].partition) {
                self.remove_row(number);
            }
        }
        for lent in lent {
            let known = self.numbers_of(host).into_iter().find(|n| self.cards[*n as usize].partition == lent.partition);
            match known {
                Some(number) => self.change_row(number, lent),
                None => {
                    let row = self.new_row(host, lent);
                    self.tree.insert(&row, &self.classes);
                }
            }
        }
    }

    /// A computer that lends nothing any more.
    pub fn remove(&mut self, host: HostId) {
        let Some(number) = self.host_numbers.remove(&host) else { return };
        for row in self.numbers_of(number) {
            self.remove_row(row);
        }
        let card = &mut self.hosts[number as usize];
        self.host_names.remove(&(Arc::clone(&card.name), number));
        self.unused_hosts.push(number);
    }

    /// The numbers of a computer's partitions.
    fn numbers_of(&self, host: u32) -> Vec<u32> {
        let some = |number: u32| (number != NONE).then_some(number);
        let first = some(self.hosts[host as usize].first);
        std::iter::successors(first, |at| some(self.cards[*at as usize].next)).collect()
    }

    /// The numbers of the partitions of every computer of this name.
    pub(super) fn numbers_on(&self, name: &str) -> Vec<u32> {
        let name: Arc<str> = name.into();
        let hosts = self.host_names.range((Arc::clone(&name), 0)..=(name, u32::MAX));
        hosts.flat_map(|(_, host)| self.numbers_of(*host)).collect()
    }

    fn put_host(&mut self, lending: &Lending<'_>) -> u32 {
        self.recent = None;
        let unreliable = 1000u16.saturating_sub(lending.reliability_permille);
        if let Some(number) = self.host_numbers.get(&lending.host).copied() {
            let card = &mut self.hosts[number as usize];
            (card.inventory, card.unreliable) = (Arc::clone(lending.inventory), unreliable);
            if *card.name != *lending.name {
                self.host_names.remove(&(Arc::clone(&card.name), number));
                card.name = lending.name.into();
                self.host_names.insert((Arc::clone(&card.name), number));
            }
            return number;
        }
        let name: Arc<str> = lending.name.into();
        let inventory = Arc::clone(lending.inventory);
        let card = HostCard { host: lending.host, name: Arc::clone(&name), inventory, unreliable, first: NONE };
        let number = put(&mut self.hosts, &mut self.unused_hosts, card);
        self.host_numbers.insert(lending.host, number);
        self.host_names.insert((name, number));
        number
    }

    /// A card for a partition that is new here, and its row, which is not in the tree yet.
    fn new_row(&mut self, host: u32, lent: &Lent) -> Row {
        let offer = self.put_offer(host, &lent.offer);
        let next = self.hosts[host as usize].first;
        let card = Card { partition: lent.partition, host, offer, next };
        let number = put(&mut self.cards, &mut self.unused_cards, card);
        let class = self.enter_class(host, offer);
        self.hosts[host as usize].first = number;
        self.row(number, class, lent)
    }

    /// The partitions of one computer are mostly of one class: then it need not be looked up.
    fn enter_class(&mut self, host: u32, offer: u32) -> u32 {
        if let Some((_, class)) = self.recent.filter(|(recent, _)| *recent == offer) {
            self.classes.again(class);
            return class;
        }
        let conditions = &self.offers[offer as usize].offer.conditions;
        let class = self.classes.enter(&self.hosts[host as usize].inventory, conditions);
        self.recent = Some((offer, class));
        class
    }

    fn row(&mut self, number: u32, class: u32, lent: &Lent) -> Row {
        let host = &self.hosts[self.cards[number as usize].host as usize];
        let conditions = &lent.offer.conditions;
        let (prices, least, reach) = (columns(&conditions.prices), amounts(lent.least), amounts(lent.reach));
        let new = u32::try_from(self.lenders.len()).unwrap_or(NONE);
        let lender = *self.lenders.entry(lent.offer.account).or_insert(new);
        self.highest = std::array::from_fn(|i| self.highest[i].max(prices[i]));
        self.largest = most(&self.largest, &least);
        match lent.closed_until {
            Some(until) => drop(self.closed.insert(number, until)),
            None => drop(self.closed.remove(&number)),
        }
        let span = |seconds: i64| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
        Row {
            number,
            class,
            lender,
            free: lent.free,
            reach,
            least,
            prices,
            unreliable: host.unreliable,
            threads: host.inventory.threads,
            speed: host.inventory.speed,
            shortest: span(conditions.shortest_term_seconds.0),
            longest: span(conditions.longest_term_seconds.0),
            listed: lent.listed_at.0,
        }
    }

    fn change_row(&mut self, number: u32, lent: &Lent) {
        let old = self.tree.row(number);
        let card = self.cards[number as usize];
        let offer = self.put_offer(card.host, &lent.offer);
        let class = self.enter_class(card.host, offer);
        self.drop_offer(card.offer);
        self.classes.leave(old.class);
        self.cards[number as usize].offer = offer;
        let new = self.row(number, class, lent);
        if new == old {
            return;
        }
        if (new.class, new.prices) == (old.class, old.prices) {
            self.tree.update(&new, &self.classes);
        } else {
            // It is among its like no more.
            self.tree.remove(number, &self.classes);
            self.tree.insert(&new, &self.classes);
        }
    }

    fn remove_row(&mut self, number: u32) {
        let class = self.tree.row(number).class;
        self.tree.remove(number, &self.classes);
        self.classes.leave(class);
        self.closed.remove(&number);
        let Card { host, offer, next, .. } = self.cards[number as usize];
        self.drop_offer(offer);
        let before = self.numbers_of(host).into_iter().find(|n| self.cards[*n as usize].next == number);
        match before {
            Some(before) => self.cards[before as usize].next = next,
            None => self.hosts[host as usize].first = next,
        }
        self.unused_cards.push(number);
    }

    /// An offer is shared by the partitions of one computer.
    fn put_offer(&mut self, host: u32, offer: &Arc<Offer>) -> u32 {
        let same = |known: &Arc<Offer>| Arc::ptr_eq(known, offer) || known == offer;
        let used = |n: &u32| self.cards[*n as usize].offer;
        let known = self.numbers_of(host).iter().map(used).find(|n| same(&self.offers[*n as usize].offer));
        if let Some(known) = known {
            self.offers[known as usize].rows += 1;
            return known;
        }
        put(&mut self.offers, &mut self.unused_offers, OfferCard { offer: Arc::clone(offer), rows: 1 })
    }

    fn drop_offer(&mut self, number: u32) {
        let card = &mut self.offers[number as usize];
        card.rows -= 1;
        if card.rows == 0 {
            self.unused_offers.push(number);
        }
    }

    /// The partition at this place of a leaf, as the rule of fit sees it.
    pub(super) fn listing(&self, leaf: &Leaf, at: usize) -> Listing<'_> {
        let card = &self.cards[leaf.number[at] as usize];
        let host = &self.hosts[card.host as usize];
        Listing {
            partition: card.partition,
            host_name: &host.name,
            inventory: &host.inventory,
            offer: &self.offers[card.offer as usize].offer,
            reach: leaf.is_free(at).then(|| resources(&leaf.reach(at))),
            least: resources(&leaf.least(at)),
            reliability_permille: 1000 - host.unreliable,
            listed_at: Timestamp(leaf.listed[at]),
        }
    }

    /// Shows every partition that is not closed now, with its host.
    pub fn each(&self, now: Timestamp, mut look: impl FnMut(HostId, &Listing<'_>)) {
        for leaf in self.tree.leaves() {
            for at in (0..leaf.len()).filter(|at| !self.is_closed(leaf.number[*at], now)) {
                look(self.host(leaf.number[at]), &self.listing(leaf, at));
            }
        }
    }

    /// Which partition has this number.
    pub(super) fn partition(&self, number: u32) -> PartitionId {
        self.cards[number as usize].partition
    }

    /// Which computer the partition of this number is on.
    pub(super) fn host(&self, number: u32) -> HostId {
        self.hosts[self.cards[number as usize].host as usize].host
    }

    /// What is asked for the partition of this number, where a column has no room for it.
    pub(super) fn offer(&self, number: u32) -> &Offer {
        &self.offers[self.cards[number as usize].offer as usize].offer
    }

    /// The number of an account that lends.
    pub(super) fn lender(&self, account: AccountId) -> Option<u32> {
        self.lenders.get(&account).copied()
    }

    /// Whether nobody is to have it now although it is free.
    pub(super) fn is_closed(&self, number: u32, now: Timestamp) -> bool {
        !self.closed.is_empty() && self.closed.get(&number).is_some_and(|until| *until > now)
    }
}

/// What the book takes, and whether it is whole.
impl Book {
    /// Bytes that the book takes. Names, inventories and offers are the market's own rows.
    pub fn bytes(&self) -> usize {
        let hosts = self.hosts.capacity() * size_of::<HostCard>()
            + self.host_numbers.capacity() * (size_of::<(HostId, u32)>() + 1)
            + self.host_names.len() * (size_of::<(Arc<str>, u32)>() + 40);
        let offers = self.offers.capacity() * size_of::<OfferCard>();
        self.tree.bytes() + self.cards.capacity() * size_of::<Card>() + hosts + offers + self.classes.len() * 600
    }

    /// How many classes of like partitions there are.
    pub fn classes_len(&self) -> usize {
        self.classes.len()
    }

    /// Whether both say the same of every partition, however they are arranged.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.len() == other.len() && self.told() == other.told()
    }

    fn told(&self) -> Vec<(HostId, PartitionId, String)> {
        let numbers = self.tree.leaves().flat_map(|leaf| leaf.number[..leaf.len()].iter().copied());
        let mut all: Vec<_> = numbers
            .map(|number| {
                let (leaf, at) = self.tree.place(number);
                let row = Row { number: 0, class: 0, lender: 0, ..leaf.row(at) };
                let told = format!("{:?} {row:?} {:?}", self.listing(leaf, at), self.closed.get(&number));
                (self.host(number), self.partition(number), told)
            })
            .collect();
        all.sort();
        all
    }

    /// What is wrong inside, if anything is. For tests.
    pub fn fault(&self) -> Option<String> {
        self.tree.fault(&self.classes)
    }
}

/// Puts something where there is room. Answers its number.
fn put<T>(all: &mut Vec<T>, unused: &mut Vec<u32>, new: T) -> u32 {
    match unused.pop() {
        Some(number) => {
            all[number as usize] = new;
            number
        }
        None => {
            all.push(new);
            u32::try_from(all.len() - 1).unwrap_or(NONE)
        }
    }
}

#[cfg(test)]
mod tests;
