//! How many partitions each clause leaves out alone. Bits of up to 64 partitions are counted at
//! once; whole parts of the book of which all break two clauses are not looked into.

use crate::book::class::{Signature, is_of_class};
use crate::book::index::Book;
use crate::book::leaf::{Leaf, bits, lanes};
use crate::book::price::most;
use crate::book::search::{Search, Walk};
use crate::book::summary::Summary;
use crate::book::tree::{Body, ROOT};
use crate::book::unfit::Unfit;
use crate::ids::{HostId, PartitionId};
use crate::requirements::{Bounds, Choice, Resolved};
use crate::resources::Dimension;
use std::collections::{HashMap, HashSet};

/// How many busy partitions are named at most.
const MOST_BUSY: usize = 1000;

pub(super) struct Counts {
    pub fitting: usize,
    pub alone: Vec<(Unfit, usize)>,
    pub busy: Vec<PartitionId>,
}

pub(super) fn count(book: &Book, search: &Search<'_>, is_heard: &dyn Fn(HostId) -> bool) -> Counts {
    let mut tally = Tally::new(book, search, is_heard);
    let mut below = vec![ROOT];
    while let Some(node) = below.pop() {
        let node = book.tree.node(node);
        if tally.all_break_two(&node.summary) {
            continue;
        }
        match &node.body {
            Body::Inner { children, .. } => below.extend(children),
            Body::Leaf(leaf) => tally.count(leaf),
        }
    }
    let alone = tally.clauses.iter().copied().zip(tally.alone).filter(|(_, n)| *n > 0).collect();
    Counts { fitting: tally.fitting, alone, busy: tally.busy }
}

/// What a class breaks of the clauses that its partitions answer alike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Unknown,
    Nothing,
    /// The clause at this place.
    One(u8),
    More,
}

struct Tally<'a> {
    walk: Walk<'a>,
    /// Every clause, in the fixed order.
    clauses: Vec<Unfit>,
    /// Those that partitions of a class answer alike.
    of_class: Vec<Unfit>,
    /// Places of those that columns tell of.
    of_columns: Vec<usize>,
    /// Of the leaf that is looked at: which break a clause.
    broken: Vec<(usize, u64)>,
    verdicts: [Vec<Verdict>; 2],
    /// Numbers of the partitions on hosts that were named.
    named: HashSet<u32>,
    /// Whether what would be allocated is enough for some image, by class and least: where it
    /// depends on the least.
    boots: Option<HashMap<(u32, u32, u32), bool>>,
    is_heard: &'a dyn Fn(HostId) -> bool,
    alone: Vec<usize>,
    fitting: usize,
    busy: Vec<PartitionId>,
}

impl<'a> Tally<'a> {
    fn new(book: &'a Book, search: &'a Search<'a>, is_heard: &'a dyn Fn(HostId) -> bool) -> Self {
        let needs = search.needs;
        let clauses: Vec<Unfit> = Unfit::all(&needs.asked).collect();
        let wanted = search.images.iter().filter(|i| needs.accepts_os(i) && needs.accepts_image(i));
        let mut modest = wanted.map(|i| i.minimum_memory <= needs.resources.memory && i.minimum_vcpus <= needs.vcpus);
        // Where every image comes up in what is asked, the partition's least decides nothing.
        let boots = if modest.all(|is_modest| is_modest) { None } else { Some(HashMap::new()) };
        let of_class = |clause: &Unfit| is_of_class(*clause) || (*clause == Unfit::Boots && boots.is_none());
        let of_class = clauses.iter().copied().filter(of_class).collect();
        let names = needs.asked.host.iter().flat_map(|choice| choice.words());
        let bound = book.classes.bound();
        Self {
            walk: Walk::new(book, search),
            of_columns: columns_tell(needs).filter_map(|c| clauses.iter().position(|known| *known == c)).collect(),
            broken: Vec::new(),
            alone: vec![0; clauses.len()],
            clauses,
            of_class,
            verdicts: [vec![Verdict::Unknown; bound], vec![Verdict::Unknown; bound]],
            named: names.flat_map(|name| book.numbers_on(name)).collect(),
            boots,
            is_heard,
            fitting: 0,
            busy: Vec::new(),
        }
    }

    /// Whether all in a part break two clauses at least, so that none of them counts. What all of
    /// them lack they lack whether they are free or not; who is busy breaks another clause by that.
    fn all_break_two(&self, part: &Summary) -> bool {
        match self.missed(&part.signature) {
            0 => false,
            1 => self.walk.all_break_a_column(part),
            _ => true,
        }
    }

    /// Whether all that is of such a kind breaks two clauses at least: each set of facts comes from
    /// a clause of its own.
    fn break_two(&self, signature: &Signature) -> bool {
        self.missed(signature) == 2
    }

    /// Of how many sets of facts there is none; counted up to two.
    fn missed(&self, signature: &Signature) -> usize {
        self.walk.facts.iter().filter(|facts| !signature.meets(facts)).take(2).count()
    }

    fn verdict(&mut self, class: u32, own: bool) -> Verdict {
        let known = self.verdicts[usize::from(own)][class as usize];
        if known != Verdict::Unknown {
            return known;
        }
        let verdict = if self.break_two(&self.walk.book.classes.signature(class)) {
            Verdict::More
        } else {
            match self.walk.class_breaks_first(class, own, &self.of_class) {
                None => Verdict::Nothing,
                Some((first, false)) => {
                    let place = self.place(self.of_class[first]).and_then(|place| u8::try_from(place).ok());
                    Verdict::One(place.unwrap_or(u8::MAX))
                }
                Some((_, true)) => Verdict::More,
            }
        };
        self.verdicts[usize::from(own)][class as usize] = verdict;
        verdict
    }

    fn count(&mut self, leaf: &Leaf) {
        let all = if leaf.len() == 64 { u64::MAX } else { (1 << leaf.len()) - 1 };
        self.broken.clear();
        // Which break one clause or more, and which two or more.
        let (mut once, mut twice) = (0u64, 0u64);
        let mut last = None;
        for at in 0..leaf.len() {
            let own = self.walk.own.is_some_and(|own| own == leaf.lender[at]);
            // Partitions of one computer are mostly of one class, and often side by side.
            let verdict = match last {
                Some((class, whose, verdict)) if (class, whose) == (leaf.class[at], own) => verdict,
                _ => self.verdict(leaf.class[at], own),
            };
            last = Some((leaf.class[at], own, verdict));
            match verdict {
                Verdict::One(clause) => {
                    once |= 1 << at;
                    self.broken.push((clause.into(), 1 << at));
                }
                Verdict::More => twice |= 1 << at,
                Verdict::Nothing | Verdict::Unknown => {}
            }
        }
        for n in 0..self.of_columns.len() {
            if twice & all == all {
                return;
            }
            let place = self.of_columns[n];
            let these = self.broken_by(leaf, self.clauses[place], all & !twice);
            if these != 0 {
                twice |= once & these;
                once |= these;
                self.broken.push((place, these));
            }
        }
        for at in bits(all & !twice) {
            let first = self.broken.iter().find(|(_, these)| these >> at & 1 == 1).map(|(place, _)| *place);
            self.judge(leaf, at, first);
        }
    }

    /// Which of `these` partitions break a clause that columns tell of.
    fn broken_by(&self, leaf: &Leaf, clause: Unfit, these: u64) -> u64 {
        let (floor, needs) = (&self.walk.floor, self.walk.search.needs);
        let allocated = |d: usize, at: usize| leaf.least[d][at].max(floor.need[d]);
        match clause {
            Unfit::Busy => !leaf.free & these,
            Unfit::Term => some(these, |at| leaf.shortest[at] > floor.shortest || leaf.longest[at] < floor.longest),
            Unfit::Speed => some(these, |at| leaf.speed[at] < floor.speed),
            Unfit::Reliability => some(these, |at| leaf.unreliable[at] > floor.unreliable),
            Unfit::Vcpus => some(these, |at| leaf.threads[at] < floor.threads),
            Unfit::TooManyVcpus => {
                let most = u32::from(needs.vcpus_at_most);
                some(these, |at| allocated(0, at).div_ceil(1000) > most)
            }
            Unfit::TooSmall(dimension) => {
                let d = place_of(dimension);
                some(these, |at| allocated(d, at) > leaf.reach[d][at])
            }
            Unfit::TooLarge(dimension) => {
                let d = place_of(dimension);
                let most = u32::try_from(needs.at_most.get(dimension)).unwrap_or(u32::MAX);
                some(these, |at| allocated(d, at) > most)
            }
            _ => 0,
        }
    }

    /// Looks closer at one that breaks one clause or none so far.
    fn judge(&mut self, leaf: &Leaf, at: usize, first: Option<usize>) {
        let (book, search, number) = (self.walk.book, self.walk.search, leaf.number[at]);
        if book.is_closed(number, search.now) {
            return;
        }
        let asked = &search.needs.asked;
        let allocated = most(&self.walk.floor.need, &leaf.least(at));
        let (total, hourly) = self.walk.cost(leaf, at, &allocated);
        let elsewhere = match &asked.host {
            None => false,
            Some(Choice::OneOf(_)) => !self.named.contains(&number),
            Some(Choice::NoneOf(_)) => self.named.contains(&number),
        };
        let mut only = first;
        let mut broken = usize::from(first.is_some());
        let is_so = [
            (Unfit::Host, elsewhere),
            (Unfit::Price, asked.price_at_most.is_some_and(|most| hourly > most.0)),
            (Unfit::Total, asked.total_at_most.is_some_and(|most| total > most.0)),
            (Unfit::Boots, !self.boots(leaf, at)),
        ];
        for (clause, _) in is_so.into_iter().filter(|(_, is_so)| *is_so) {
            only = self.place(clause);
            broken += 1;
        }
        // Whose host was not heard for some seconds is asked of those only that fit otherwise: for
        // each of the others it would be a look elsewhere in memory, and little would be counted
        // otherwise.
        if broken == 0 && !(self.is_heard)(book.host(number)) {
            only = self.place(Unfit::Busy);
            broken = 1;
        }
        match only {
            None => self.fitting += 1,
            Some(only) if broken == 1 => {
                self.alone[only] += 1;
                if self.clauses[only] == Unfit::Busy && self.busy.len() < MOST_BUSY {
                    self.busy.push(book.partition(number));
                }
            }
            Some(_) => {}
        }
    }

    /// The place of one of the last clauses, which are told of one by one.
    fn place(&self, clause: Unfit) -> Option<usize> {
        self.clauses.iter().rposition(|c| *c == clause)
    }

    /// Whether an image comes up in what would be allocated, where that is for the least to say.
    fn boots(&mut self, leaf: &Leaf, at: usize) -> bool {
        let Some(known) = &mut self.boots else { return true };
        *known.entry((leaf.class[at], leaf.least[0][at], leaf.least[1][at])).or_insert_with(|| {
            let listing = self.walk.book.listing(leaf, at);
            !self.walk.search.case(&listing).breaks(&[Unfit::Boots])
        })
    }
}

/// Of `these`, those of which it is so. Few are looked at one by one: the rest of the columns is
/// not even read.
fn some(these: u64, is_so: impl Fn(usize) -> bool) -> u64 {
    if these.count_ones() > 16 {
        return lanes(is_so) & these;
    }
    bits(these).filter(|at| is_so(*at)).fold(0, |so, at| so | 1 << at)
}

/// The clauses that columns tell of, those first that most break and that cost the least to ask.
fn columns_tell(needs: &Resolved) -> impl Iterator<Item = Unfit> {
    let asked = &needs.asked;
    let small = [Dimension::Memory, Dimension::Cpu, Dimension::Disk].map(Unfit::TooSmall);
    let bounded = [
        (Dimension::Cpu, asked.cpu.and_then(Bounds::most).is_some()),
        (Dimension::Memory, asked.memory.and_then(Bounds::most).is_some()),
        (Dimension::Disk, asked.disk.and_then(Bounds::most).is_some()),
    ];
    let large = bounded.into_iter().filter(|(_, bounded)| *bounded).map(|(d, _)| Unfit::TooLarge(d));
    let others = [
        (Unfit::Vcpus, true),
        (Unfit::Term, true),
        (Unfit::Speed, asked.speed_at_least.is_some()),
        (Unfit::Reliability, asked.reliability_permille_at_least.is_some()),
        (Unfit::TooManyVcpus, needs.vcpus_at_most < u16::MAX),
    ];
    let others = others.into_iter().filter(|(_, asked)| *asked).map(|(clause, _)| clause);
    [Unfit::Busy].into_iter().chain(small).chain(large).chain(others)
}

fn place_of(dimension: Dimension) -> usize {
    match dimension {
        Dimension::Cpu => 0,
        Dimension::Memory => 1,
        Dimension::Disk => 2,
    }
}
