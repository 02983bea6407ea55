//! Best first: whatever part of the book could hold the best match is looked at next, and what
//! comes out as a partition is the best there is.

use super::admit::{Case, Listing, Match};
use super::class::{Signature, is_of_class};
use super::index::Book;
use super::leaf::{Floor, Leaf, bits};
use super::price::{Amounts, BEYOND, Pricer, Prices, amounts, most, resources};
use super::rank::{Keys, keys};
use super::summary::Summary;
use super::tree::{Body, ROOT};
use super::unfit::Unfit;
use crate::ids::{AccountId, HostId};
use crate::image::ImageManifest;
use crate::offer::Offer;
use crate::requirements::{Choice, OrderBy, Requirements, Resolved};
use crate::units::{Seconds, Timestamp};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use utoipa::ToSchema;

/// Who searches, for what, when.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// What is needed.
    pub needs: &'a Resolved,
    /// Who asks.
    pub client: AccountId,
    /// The images that may boot.
    pub images: &'a [&'a ImageManifest],
    /// When.
    pub now: Timestamp,
}

impl<'a> Search<'a> {
    /// The images that were asked for, behind their places among all.
    fn wanted(&self) -> (Vec<usize>, Vec<&'a ImageManifest>) {
        let is_wanted = |image: &ImageManifest| self.needs.accepts_os(image) && self.needs.accepts_image(image);
        self.images.iter().copied().enumerate().filter(|(_, image)| is_wanted(image)).unzip()
    }

    /// A listing before these needs.
    pub(super) fn case<'l>(&self, listing: &'l Listing<'l>) -> Case<'l>
    where
        'a: 'l,
    {
        Case::new(listing, self.needs, self.client, self.images, self.now)
    }
}

/// What was looked at to find the matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Looked {
    /// Partitions that are lent.
    pub lent: usize,
    /// Parts of the book that could be judged as a whole.
    pub parts: usize,
    /// Of those, groups of up to 64 partitions that were looked into.
    pub groups: usize,
    /// Classes of like partitions that were asked about.
    pub classes: usize,
    /// Partitions whose columns fit.
    pub fitting: usize,
    /// Partitions that the rule of fit was asked about.
    pub asked: usize,
    /// Partitions that it admitted.
    pub admitted: usize,
}

/// Matches, best first, each with its listing.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// The matches.
    pub matches: Vec<(Match, Listing<'a>)>,
    /// How they were found.
    pub looked: Looked,
}

impl Book {
    /// The best matches, at most `limit` of them. `is_heard` says of a host whether it was heard
    /// lately, which changes without a word.
    pub fn find(&self, search: &Search<'_>, limit: usize, is_heard: impl Fn(HostId) -> bool) -> Found<'_> {
        // What boots in a partition is looked for among those that were asked for, and no others.
        let (places, images) = search.wanted();
        let narrowed = Search { images: &images, ..*search };
        let mut walk = Walk::new(self, &narrowed);
        // Without one, nothing fits anywhere.
        if !images.is_empty() {
            walk.start();
        }
        let mut matches = Vec::new();
        let mut equal = Vec::new();
        while matches.len() < limit
            && let Some(Reverse((keys, next))) = walk.waiting.pop()
        {
            let first = match next {
                Next::Part(node) => {
                    walk.open(node);
                    continue;
                }
                Next::Partition(number) => number,
            };
            walk.take_equal(&keys, first, &mut equal);
            for number in equal.drain(..) {
                if matches.len() == limit {
                    break;
                }
                if self.is_closed(number, search.now) || !is_heard(self.host(number)) {
                    continue;
                }
                let (leaf, at) = self.tree.place(number);
                let listing = self.listing(leaf, at);
                walk.looked.asked += 1;
                // Its class was asked: what all of a class answer alike need not be asked again.
                if let Some(hit) = narrowed.case(&listing).fits_rest(&walk.rest) {
                    matches.push((Match { image: places[hit.image], ..hit }, listing));
                }
            }
        }
        walk.looked.admitted = matches.len();
        Found { matches, looked: walk.looked }
    }
}

/// What is looked at next. Where both rank the same, parts come first: they may hold what is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Part(u32),
    Partition(u32),
}

/// Whether a class was asked about, and what came of it.
const UNKNOWN: u8 = 0;
const REFUSED: u8 = 1;
const ADMITTED: u8 = 2;

pub(super) struct Walk<'a> {
    pub book: &'a Book,
    pub search: &'a Search<'a>,
    pub floor: Floor,
    pub pricer: Pricer,
    /// Of each of these sets, a part must have a fact.
    pub facts: Vec<Signature>,
    /// The clauses that all partitions of a class answer alike.
    pub clauses: Vec<Unfit>,
    /// The clauses that are left for each partition to answer by itself.
    rest: Vec<Unfit>,
    /// By class: what came of asking, for a stranger's partitions and for the client's own.
    verdicts: [Vec<u8>; 2],
    /// The client's number, if it lends.
    pub own: Option<u32>,
    host_name: &'a str,
    waiting: BinaryHeap<Reverse<(Keys, Next)>>,
    looked: Looked,
}

impl<'a> Walk<'a> {
    pub fn new(book: &'a Book, search: &'a Search<'a>) -> Self {
        let needs = search.needs;
        let floor = floor(needs);
        let largest = most(&floor.need, &book.largest);
        let own = book.lender(search.client);
        let bound = book.classes.bound();
        let clauses = clauses_of_class(needs);
        let rest = needs.ready.clauses.iter().copied().filter(|clause| !clauses.contains(clause)).collect();
        Self {
            book,
            search,
            floor,
            pricer: Pricer::new(needs.term, &book.highest, &largest),
            facts: facts(book, search, own.is_some()),
            clauses,
            rest,
            verdicts: [vec![UNKNOWN; bound], if own.is_some() { vec![UNKNOWN; bound] } else { Vec::new() }],
            own,
            host_name: some_host(&needs.asked),
            waiting: BinaryHeap::new(),
            looked: Looked { lent: book.len(), ..Looked::default() },
        }
    }

    fn start(&mut self) {
        if let Some(Choice::OneOf(names)) = &self.search.needs.asked.host {
            for number in names.iter().flat_map(|name| self.book.numbers_on(name)) {
                let (leaf, at) = self.book.tree.place(number);
                if leaf.fitting(&self.floor) >> at & 1 == 1 {
                    self.weigh(leaf, at);
                }
            }
            return;
        }
        self.offer_part(ROOT);
    }

    /// Takes out what waits with the same keys as `first`; all of them come in the order of their ids.
    fn take_equal(&mut self, keys: &Keys, first: u32, equal: &mut Vec<u32>) {
        equal.push(first);
        while let Some(Reverse((other, Next::Partition(number)))) = self.waiting.peek()
            && other == keys
        {
            equal.push(*number);
            self.waiting.pop();
        }
        if equal.len() > 1 {
            equal.sort_unstable_by_key(|number| self.book.partition(*number));
        }
    }

    /// Looks into a part of the book.
    fn open(&mut self, node: u32) {
        match &self.book.tree.node(node).body {
            Body::Inner { children, .. } => children.iter().for_each(|child| self.offer_part(*child)),
            Body::Leaf(leaf) => {
                self.looked.groups += 1;
                for at in bits(leaf.fitting(&self.floor)) {
                    self.weigh(leaf, at);
                }
            }
        }
    }

    /// A part waits for its turn, if anything in it could fit.
    fn offer_part(&mut self, node: u32) {
        self.looked.parts += 1;
        let summary = &self.book.tree.node(node).summary;
        if let Some(keys) = self.best_in(summary) {
            self.waiting.push(Reverse((keys, Next::Part(node))));
        }
    }

    /// The keys that nothing in a part can be better than; none if nothing in it can fit.
    fn best_in(&self, part: &Summary) -> Option<Keys> {
        if !self.could_fit(part) {
            return None;
        }
        let allocated = most(&self.floor.need, &part.least);
        if self.is_above_hourly(&part.prices, &allocated) {
            return None;
        }
        let total = self.pricer.total(&part.prices, &allocated);
        if self.is_above_total(total) {
            return None;
        }
        let hourly = || self.pricer.hourly(&part.prices, &allocated);
        let value = |by, reversed: bool| match by {
            // Of the worst in a part nothing is known.
            _ if reversed => i64::MIN,
            OrderBy::Total => total,
            OrderBy::Price => hourly(),
            OrderBy::Reliability => i64::from(part.unreliable) - 1000,
            OrderBy::Age => part.listed,
            OrderBy::Speed => -i64::from(part.speed),
            OrderBy::Cpu | OrderBy::Memory | OrderBy::Disk => i64::MIN,
        };
        Some(keys(&self.search.needs.asked.order, value))
    }

    /// Whether anything in a part could fit, whatever it costs.
    pub fn could_fit(&self, part: &Summary) -> bool {
        self.is_large_enough(part) && self.facts.iter().all(|facts| part.signature.meets(facts))
    }

    /// Whether of those in a part that can be had now each breaks a clause of size, term, host or price.
    pub fn all_break_a_column(&self, part: &Summary) -> bool {
        let allocated = most(&self.floor.need, &part.least);
        !self.is_large_enough(part)
            || self.is_above_hourly(&part.prices, &allocated)
            || self.is_above_total(self.pricer.total(&part.prices, &allocated))
    }

    fn is_large_enough(&self, part: &Summary) -> bool {
        let floor = &self.floor;
        part.free > 0
            && (0..3).all(|d| part.reach[d] >= floor.need[d] && part.least[d] <= floor.at_most[d])
            && part.speed >= floor.speed
            && part.threads >= floor.threads
            && part.unreliable <= floor.unreliable
            && part.shortest <= floor.shortest
            && part.longest >= floor.longest
    }

    fn is_above_hourly(&self, prices: &Prices, allocated: &Amounts) -> bool {
        let most = self.search.needs.asked.price_at_most;
        most.is_some_and(|most| self.pricer.is_hourly_above(prices, allocated, most.0))
    }

    fn is_above_total(&self, total: i64) -> bool {
        self.search.needs.asked.total_at_most.is_some_and(|most| total > most.0)
    }

    pub fn is_too_dear(&self, total: i64, hourly: impl FnOnce() -> i64) -> bool {
        let asked = &self.search.needs.asked;
        asked.total_at_most.is_some_and(|most| total > most.0)
            || asked.price_at_most.is_some_and(|most| hourly() > most.0)
    }

    /// A partition whose columns fit waits for its turn, if its class and its price fit too.
    fn weigh(&mut self, leaf: &Leaf, at: usize) {
        self.looked.fitting += 1;
        let number = leaf.number[at];
        let (allocated, prices) = (most(&self.floor.need, &leaf.least(at)), leaf.prices(at));
        // The price first: to ask the class is to look elsewhere in memory.
        let is_known = !prices.contains(&BEYOND);
        if is_known && self.is_above_hourly(&prices, &allocated) {
            return;
        }
        if !self.asks_class(leaf.class[at], Some(leaf.lender[at]) == self.own) {
            return;
        }
        let total = if is_known { self.pricer.total(&prices, &allocated) } else { self.cost(leaf, at, &allocated).0 };
        let hourly = || self.cost(leaf, at, &allocated).1;
        if self.is_above_total(total) || (!is_known && self.is_too_dear(total, hourly)) {
            return;
        }
        let value = |by, reversed: bool| {
            let value = match by {
                OrderBy::Total => total,
                OrderBy::Price => hourly(),
                OrderBy::Reliability => i64::from(leaf.unreliable[at]) - 1000,
                OrderBy::Age => leaf.listed[at],
                OrderBy::Cpu => -i64::from(allocated[0]),
                OrderBy::Memory => -i64::from(allocated[1]),
                OrderBy::Disk => -i64::from(allocated[2]),
                OrderBy::Speed => -i64::from(leaf.speed[at]),
            };
            if reversed { value.saturating_neg() } else { value }
        };
        let keys = keys(&self.search.needs.asked.order, value);
        self.waiting.push(Reverse((keys, Next::Partition(number))));
    }

    /// What so much of a partition costs: for the whole term, and for an hour.
    pub fn cost(&self, leaf: &Leaf, at: usize, allocated: &Amounts) -> (i64, i64) {
        let prices = leaf.prices(at);
        if prices.contains(&BEYOND) {
            let list = &self.book.offer(leaf.number[at]).conditions.prices;
            let resources = resources(allocated);
            return (list.total(resources, self.pricer.term()).0, list.hourly(resources).0);
        }
        (self.pricer.total(&prices, allocated), self.pricer.hourly(&prices, allocated))
    }

    /// Whether a class fits, asked once.
    pub fn asks_class(&mut self, class: u32, own: bool) -> bool {
        let known = self.verdicts[usize::from(own)][class as usize];
        if known != UNKNOWN {
            return known == ADMITTED;
        }
        let signature = self.book.classes.signature(class);
        let refused = !self.facts.iter().all(|facts| signature.meets(facts)) || {
            self.looked.classes += 1;
            self.class_breaks(class, own, &self.clauses)
        };
        self.verdicts[usize::from(own)][class as usize] = if refused { REFUSED } else { ADMITTED };
        !refused
    }

    /// Whether the most favourable listing of a class breaks any of these clauses.
    fn class_breaks(&self, class: u32, own: bool, clauses: &[Unfit]) -> bool {
        self.favourable(class, own, |listing| self.search.case(listing).breaks(clauses))
    }

    /// The place of the first of these clauses that it breaks, and whether it breaks another.
    pub fn class_breaks_first(&self, class: u32, own: bool, clauses: &[Unfit]) -> Option<(usize, bool)> {
        self.favourable(class, own, |listing| self.search.case(listing).first_broken(clauses))
    }

    fn favourable<R>(&self, class: u32, own: bool, look: impl FnOnce(&Listing<'_>) -> R) -> R {
        let favourable = self.book.classes.favourable(class, self.host_name);
        let mine = own.then(|| Offer { account: self.search.client, ..favourable.offer.clone() });
        look(&Listing { offer: mine.as_ref().unwrap_or(favourable.offer), ..favourable })
    }
}

/// The clauses that all partitions of a class answer alike, as far as they could be broken; the
/// cheapest first.
fn clauses_of_class(needs: &Resolved) -> Vec<Unfit> {
    // Whether an image comes up is another question in each partition, whether there is one is not.
    let images = [(Unfit::Os, needs.asked.os.is_some()), (Unfit::Image, needs.asked.image.is_some())]
        .into_iter()
        .filter(|i| i.1);
    needs.ready.clauses.iter().copied().chain(images.map(|i| i.0)).filter(|clause| is_of_class(*clause)).collect()
}

/// What is asked of columns.
fn floor(needs: &Resolved) -> Floor {
    let asked = &needs.asked;
    let [cpu, memory, disk] = amounts(needs.at_most);
    // A guest sees no more threads than this: so it has no more processor time either.
    let cpu = cpu.min(u32::from(needs.vcpus_at_most) * 1000);
    let term = u32::try_from(needs.term.max(Seconds::ZERO).0).unwrap_or(u32::MAX);
    Floor {
        need: amounts(needs.resources),
        at_most: [cpu, memory, disk],
        threads: needs.vcpus,
        speed: asked.speed_at_least.unwrap_or(0),
        unreliable: 1000 - asked.reliability_permille_at_least.unwrap_or(0).min(1000),
        shortest: term,
        longest: term,
    }
}

/// Sets of facts: of each, whatever fits has one at least.
fn facts(book: &Book, search: &Search<'_>, lends: bool) -> Vec<Signature> {
    let (needs, asked) = (search.needs, &search.needs.asked);
    let any = |facts: &mut dyn Iterator<Item = Signature>| facts.fold(Signature::NONE, |all, fact| all.or(&fact));
    let bootable = search.images.iter().filter(|image| needs.accepts_os(image) && needs.accepts_image(image));
    let mut facts = vec![any(&mut bootable.map(|image| Signature::arch(&image.arch)))];
    if let Some(Choice::OneOf(names)) = &asked.arch {
        facts.push(any(&mut names.iter().map(|name| Signature::arch(name))));
    }
    for (key, choice) in &asked.labels {
        if let Choice::OneOf(values) = choice {
            facts.push(any(&mut values.iter().map(|value| Signature::label(key, value))));
        }
    }
    facts.extend(asked.tier.map(Signature::tier));
    if !needs.emulated {
        facts.push(Signature::tier(crate::host::Tier::Kvm));
    }
    facts.extend(asked.traits.iter().map(|name| match name.as_str() {
        Requirements::CONFINED => Signature::confined(true),
        flag => Signature::flag(flag),
    }));
    // To whom nothing is lent in particular, only that is open which is open to all.
    if !lends && !book.classes.invites(search.client) {
        facts.extend([Signature::everyone(true), Signature::confined(true)]);
    }
    facts
}

/// A name of a host that the client would accept: names are not what a class has in common.
fn some_host(asked: &Requirements) -> &str {
    match &asked.host {
        Some(Choice::OneOf(names)) => names.first().map_or("", String::as_str),
        Some(Choice::NoneOf(_)) | None => "",
    }
}
