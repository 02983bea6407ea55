//! The largest amount, or the nearest term, with which something would fit: best first over the
//! book, by what a part could allow at the most.

use crate::book::admit::admit;
use crate::book::index::Book;
use crate::book::leaf::{Leaf, bits};
use crate::book::price::{Pricer, most, resources};
use crate::book::search::{Search, Walk};
use crate::book::summary::Summary;
use crate::book::tree::{Body, ROOT};
use crate::book::unfit::Unfit;
use crate::ids::HostId;
use crate::offer::Opening;
use crate::requirements::{Bounds, Requirements};
use crate::units::Seconds;
use std::collections::BinaryHeap;

/// The least that can be asked for in each dimension.
const LEAST: [u32; 3] = [100, 64, 0];

/// One look for the value of one property that is nearest to what was asked.
pub(super) struct Extreme<'a> {
    walk: Walk<'a>,
    book: &'a Book,
    search: &'a Search<'a>,
    is_heard: &'a dyn Fn(HostId) -> bool,
}

impl<'a> Extreme<'a> {
    pub fn new(book: &'a Book, search: &'a Search<'a>, is_heard: &'a dyn Fn(HostId) -> bool) -> Self {
        Self { walk: Walk::new(book, search), book, search, is_heard }
    }

    /// The most of a dimension, below what was asked, that fits somewhere: `with` asks for so much.
    pub fn amount(mut self, d: usize, with: impl Fn(u32) -> Requirements) -> Option<u32> {
        let asked = self.walk.floor.need[d];
        let below = asked.checked_sub(1).filter(|below| *below >= LEAST[d])?;
        self.walk.floor.need[d] = LEAST[d];
        // Fewer threads will do for less processor time, unless so many were asked for.
        let follows = d == 0 && self.search.needs.asked.vcpus.and_then(Bounds::least).is_none();
        if follows {
            self.walk.floor.threads = 1;
        }
        let bound = |part: &Summary| i64::from(part.reach[d].min(below));
        let best = self.best(bound, |this, leaf, at, best| {
            let threads = u32::from(leaf.threads[at]) * 1000;
            let reach = leaf.reach[d][at].min(below).min(if follows { threads } else { u32::MAX });
            let least = best.map_or(LEAST[d], |best| u32::try_from(best).unwrap_or(u32::MAX).saturating_add(1));
            let amount = largest(least, reach, |amount| {
                let mut need = this.walk.floor.need;
                need[d] = amount;
                let (total, hourly) = this.walk.cost(leaf, at, &most(&need, &leaf.least(at)));
                !this.walk.is_too_dear(total, || hourly)
            })?;
            this.fits(leaf, at, &with(amount)).then_some(i64::from(amount))
        });
        best.and_then(|best| u32::try_from(best).ok())
    }

    /// The most hardware threads, fewer than were asked for, that some host has.
    pub fn threads(mut self, with: impl Fn(u16) -> Requirements) -> Option<u16> {
        let needs = self.search.needs;
        let enough = crate::partition::Allocation::vcpus_for(needs.resources);
        let below = needs.vcpus.checked_sub(1).filter(|below| *below >= enough)?;
        self.walk.floor.threads = enough;
        let bound = |part: &Summary| i64::from(part.threads.min(below));
        let best = self.best(bound, |this, leaf, at, best| {
            let threads = leaf.threads[at].min(below);
            let better = best.is_none_or(|best| i64::from(threads) > best);
            (better && this.fits(leaf, at, &with(threads))).then_some(i64::from(threads))
        });
        best.and_then(|best| u16::try_from(best).ok())
    }

    /// The longest term that is shorter than what was asked.
    pub fn shorter(mut self, with: impl Fn(Seconds) -> Requirements) -> Option<Seconds> {
        let below = u32::try_from(self.search.needs.term.0 - 1).ok().filter(|below| *below > 0)?;
        (self.walk.floor.shortest, self.walk.floor.longest) = (below, 1);
        self.forget_windows();
        let largest_least = most(&self.walk.floor.need, &self.book.largest);
        self.walk.pricer = Pricer::new(Seconds(1), &self.book.highest, &largest_least);
        let bound = |part: &Summary| i64::from(part.longest.min(below));
        let best = self.best(bound, |this, leaf, at, best| {
            let offer = this.book.offer(leaf.number[at]);
            let open = match offer.conditions.opening(this.search.now) {
                Opening::Always => u32::MAX,
                Opening::Open { until } => u32::try_from(until.since(this.search.now).0).unwrap_or(0),
                Opening::Closed { .. } => return None,
            };
            let longest = leaf.longest[at].min(below).min(open);
            let least = best.map_or(1, |best| u32::try_from(best).unwrap_or(u32::MAX).saturating_add(1));
            let allocated = resources(&most(&this.walk.floor.need, &leaf.least(at)));
            let ceiling = this.search.needs.asked.total_at_most;
            let term = largest(least.max(leaf.shortest[at]), longest, |term| {
                ceiling.is_none_or(|most| offer.conditions.prices.total(allocated, Seconds(term.into())) <= most)
            })?;
            this.fits(leaf, at, &with(Seconds(term.into()))).then_some(i64::from(term))
        });
        best.map(Seconds)
    }

    /// The shortest term that is longer than what was asked.
    pub fn longer(mut self, with: impl Fn(Seconds) -> Requirements) -> Option<Seconds> {
        let above = u32::try_from(self.search.needs.term.0 + 1).ok()?;
        (self.walk.floor.shortest, self.walk.floor.longest) = (u32::MAX, above);
        self.forget_windows();
        let best = self.best(
            |part| -i64::from(part.shortest.max(above)),
            |this, leaf, at, best| {
                let term = i64::from(leaf.shortest[at].max(above));
                let better = best.is_none_or(|best| -term > best);
                (better && this.fits(leaf, at, &with(Seconds(term)))).then_some(-term)
            },
        );
        best.map(|best| Seconds(-best))
    }

    /// Whether it stays open depends on the term, which is what is looked for.
    fn forget_windows(&mut self) {
        self.walk.clauses.retain(|clause| *clause != Unfit::Window);
    }

    /// The highest value of any partition. `bound` says of a part what none in it is above;
    /// `value` of a partition, and of the best so far, what it allows if that is better.
    fn best(
        &mut self,
        bound: impl Fn(&Summary) -> i64,
        value: impl Fn(&Self, &Leaf, usize, Option<i64>) -> Option<i64>,
    ) -> Option<i64> {
        let book = self.book;
        let mut best = None;
        let mut waiting = BinaryHeap::from([(i64::MAX, ROOT)]);
        while let Some((bounded, node)) = waiting.pop() {
            if best.is_some_and(|best| best >= bounded) {
                break;
            }
            match &book.tree.node(node).body {
                Body::Inner { children, .. } => {
                    let could = children.iter().filter(|child| self.could_fit(&book.tree.node(**child).summary));
                    waiting.extend(could.map(|child| (bound(&book.tree.node(*child).summary), *child)));
                }
                Body::Leaf(leaf) => {
                    for at in bits(leaf.fitting(&self.walk.floor)) {
                        let own = Some(leaf.lender[at]) == self.walk.own;
                        if self.walk.asks_class(leaf.class[at], own) {
                            best = value(self, leaf, at, best).or(best);
                        }
                    }
                }
            }
        }
        best
    }

    fn could_fit(&self, part: &Summary) -> bool {
        let cheapest = most(&self.walk.floor.need, &part.least);
        let total = || self.walk.pricer.total(&part.prices, &cheapest);
        let hourly = || self.walk.pricer.hourly(&part.prices, &cheapest);
        self.walk.could_fit(part) && !self.walk.is_too_dear(total(), hourly)
    }

    /// Whether the rule of fit admits a partition with these requirements.
    fn fits(&self, leaf: &Leaf, at: usize, changed: &Requirements) -> bool {
        let Search { client, images, now, .. } = *self.search;
        let number = leaf.number[at];
        if self.book.is_closed(number, now) || !(self.is_heard)(self.book.host(number)) {
            return false;
        }
        let listing = self.book.listing(leaf, at);
        changed.resolve().is_ok_and(|(needs, _)| admit(&listing, &needs, client, images, now).is_ok())
    }
}

/// The largest number from `least` to `most` that is affordable; what is less costs no more.
fn largest(least: u32, most: u32, is_affordable: impl Fn(u32) -> bool) -> Option<u32> {
    if least > most || !is_affordable(least) {
        return None;
    }
    let (mut good, mut bad) = (least, most.saturating_add(1));
    if is_affordable(most) {
        return Some(most);
    }
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if is_affordable(middle) { good = middle } else { bad = middle }
    }
    Some(good)
}

#[cfg(test)]
mod tests {
    use super::largest;

    #[test]
    fn the_largest_is_found_wherever_it_is() {
        for most in [0, 1, 7, 100] {
            for end in 0..=most {
                assert_eq!(largest(0, most, |n| n <= end), Some(end));
            }
            assert_eq!(largest(0, most, |_| false), None);
        }
        assert_eq!(largest(5, 4, |_| true), None);
        assert_eq!(largest(u32::MAX - 1, u32::MAX, |n| n < u32::MAX), Some(u32::MAX - 1));
    }
}
