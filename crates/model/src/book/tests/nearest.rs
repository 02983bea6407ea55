//! The nearest deal against plain looking: what is counted is what each partition says for
//! itself; every change told fits when it is asked, and nothing nearer does.

use super::market::{Market, Random, requirements};
use crate::book::{Broken, Change, Nearest, Search, Unfit, broken, scan};
use crate::ids::AccountId;
use crate::requirements::{Bounds, Requirements};
use crate::resources::Resources;
use crate::units::{GiB, MiB, Millicores, Seconds};
use proptest::prelude::*;

struct Asked<'a> {
    market: &'a Market,
    requirements: Requirements,
    client: AccountId,
}

impl Asked<'_> {
    fn fits(&self, requirements: &Requirements) -> bool {
        let images: Vec<_> = self.market.images.iter().collect();
        let Ok((needs, _)) = requirements.resolve() else { return false };
        scan::find(&self.market.listings(), &needs, self.client, &images, self.market.now).is_ok()
    }

    /// Counts by asking each partition which clauses it breaks.
    fn count(&self) -> (usize, Vec<(Unfit, usize)>) {
        let images: Vec<_> = self.market.images.iter().collect();
        let (needs, _) = self.requirements.resolve().unwrap();
        let all = self.market.listings_if_free().into_iter().map(|(listing, is_free)| {
            let clauses = broken(&listing, &needs, self.client, &images, self.market.now);
            let unheard = clauses.is_none() && !self.market.is_heard_on(listing.partition);
            if is_free && !unheard { clauses } else { clauses.with(Unfit::Busy) }
        });
        let all: Vec<Broken> = all.collect();
        let fitting = all.iter().filter(|b| b.is_none()).count();
        let alone = |clause: &Unfit| all.iter().filter(|b| b.is_only(*clause)).count();
        let counts = Unfit::all(&self.requirements).map(|clause| (clause, alone(&clause)));
        (fitting, counts.filter(|(_, n)| *n > 0).collect())
    }

    fn check(&self, nearest: &Nearest) {
        let asked = &self.requirements;
        assert_eq!((nearest.fitting, nearest.alone.clone()), self.count(), "{asked}");
        for change in &nearest.changes {
            assert!(self.fits(&change.requirements), "{asked}: {} -> {}", change.from, change.to);
            assert_ne!(change.from, change.to);
            assert_ne!(&change.requirements, asked);
        }
        if self.fits(asked) {
            assert!(nearest.changes.is_empty());
            return;
        }
        self.check_amounts(nearest);
        self.check_ceilings(nearest);
        self.check_term(nearest);
        self.check_left_out(nearest);
    }

    /// Whether nothing nearer than `told` fits, and nothing at all if none was told.
    fn check_nearer(&self, what: &str, told: Option<i64>, nearer: &[i64], with: impl Fn(i64) -> Requirements) {
        let missed = nearer.iter().find(|value| self.fits(&with(**value)));
        assert_eq!(missed, None, "{what}: told {told:?}, asked {}", self.requirements);
    }

    fn check_amounts(&self, nearest: &Nearest) {
        let (needs, _) = self.requirements.resolve().unwrap();
        let listings = self.market.listings_if_free();
        let reach = |of: fn(Resources) -> i64| listings.iter().filter_map(move |(l, _)| l.reach.map(of)).collect();
        type With = fn(&Requirements, i64) -> Requirements;
        let cpu: With = |r, n| Requirements { cpu: least(r.cpu, Millicores(n)), ..r.clone() };
        let memory: With = |r, n| Requirements { memory: least(r.memory, MiB(n)), ..r.clone() };
        let disk: With = |r, n| Requirements { disk: least(r.disk, GiB(n)), ..r.clone() };
        type Value = fn(&Requirements) -> i64;
        let kinds: [(_, i64, Vec<i64>, With, Value); 3] = [
            ("cpu", needs.resources.cpu.0, reach(|r| r.cpu.0), cpu, |r| r.cpu.unwrap().least().unwrap().0),
            ("memory", needs.resources.memory.0, reach(|r| r.memory.0), memory, |r| {
                r.memory.unwrap().least().unwrap().0
            }),
            ("disk", needs.resources.disk.0, reach(|r| r.disk.0), disk, |r| r.disk.unwrap().least().unwrap().0),
        ];
        for (name, asked, mut candidates, with, value) in kinds {
            let told = told(nearest, name, value).filter(|told| *told < asked);
            candidates.extend([asked - 1, 1000, 100, 64, 0]);
            candidates.extend(told.map(|told| told + 1));
            candidates.retain(|n| *n < asked && told.is_none_or(|told| *n > told));
            self.check_nearer(name, told, &candidates, |n| with(&self.requirements, n));
        }
    }

    fn check_ceilings(&self, nearest: &Nearest) {
        let asked = &self.requirements;
        let price = |n| Requirements { price_at_most: Some(crate::units::MicrosPerHour(n)), ..asked.clone() };
        let without = Requirements { price_at_most: None, ..asked.clone() };
        if nearest.changes.iter().any(|change| change.requirements == without) {
            let dearest = price(crate::units::MicrosPerHour::MAX.0);
            return assert!(asked.price_at_most.is_some() && !self.fits(&dearest), "{asked}");
        }
        match told(nearest, "price", |r| r.price_at_most.unwrap().0) {
            Some(told) => assert!(!self.fits(&price(told - 1)), "{asked}: a micro less than {told}"),
            None if asked.price_at_most.is_some() => {
                assert!(!self.fits(&Requirements { price_at_most: None, ..asked.clone() }));
            }
            None => {}
        }
        let total = |n| Requirements { total_at_most: Some(crate::units::Micros(n)), ..asked.clone() };
        match told(nearest, "total", |r| r.total_at_most.unwrap().0) {
            Some(told) => assert!(!self.fits(&total(told - 1)), "{asked}: a micro less than {told}"),
            None if asked.total_at_most.is_some() => {
                assert!(!self.fits(&Requirements { total_at_most: None, ..asked.clone() }));
            }
            None => {}
        }
    }

    fn check_term(&self, nearest: &Nearest) {
        let asked = self.requirements.resolve().unwrap().0.term.0;
        let with = |n| Requirements { term_seconds: Some(Seconds(n)), ..self.requirements.clone() };
        let terms = nearest.changes.iter().filter(|c| c.to.starts_with("term"));
        let terms: Vec<i64> = terms.map(|c| c.requirements.term_seconds.unwrap().0).collect();
        let some = [1, 59, 60, 61, 3599, 3600, 3601, 7199, 7200, 7201, 86_399, 86_400, 86_401];
        let shorter = terms.iter().copied().find(|t| *t < asked);
        let near: Vec<i64> = some.iter().copied().chain(shorter.map(|t| t + 1)).collect();
        let near: Vec<i64> = near.into_iter().filter(|t| *t < asked && shorter.is_none_or(|s| *t > s)).collect();
        self.check_nearer("shorter", shorter, &near, with);
        let longer = terms.iter().copied().find(|t| *t > asked);
        let near: Vec<i64> = some.iter().copied().chain(longer.map(|t| t - 1)).collect();
        let near: Vec<i64> = near.into_iter().filter(|t| *t > asked && longer.is_none_or(|l| *t < l)).collect();
        self.check_nearer("longer", longer, &near, with);
    }

    fn check_left_out(&self, nearest: &Nearest) {
        let asked = &self.requirements;
        let mut without = vec![
            Requirements { os: None, ..asked.clone() },
            Requirements { image: None, ..asked.clone() },
            Requirements { arch: None, ..asked.clone() },
            Requirements { cpu_model: None, ..asked.clone() },
            Requirements { host: None, ..asked.clone() },
            Requirements { tier: None, ..asked.clone() },
            Requirements { emulated: Some(true), ..asked.clone() },
        ];
        for key in asked.labels.keys() {
            let mut r = asked.clone();
            r.labels.remove(key);
            without.push(r);
        }
        for name in asked.traits.iter().chain(&asked.without_traits) {
            let mut r = asked.clone();
            let _ = r.traits.remove(name) || r.without_traits.remove(name);
            without.push(r);
        }
        for changed in without.iter().filter(|r| self.fits(r)) {
            assert!(nearest.changes.iter().any(|c| c.requirements == *changed), "{asked}: not told: {changed}");
        }
    }
}

fn least<T: Copy>(asked: Option<Bounds<T>>, least: T) -> Option<Bounds<T>> {
    Bounds::new(Some(least), asked.and_then(Bounds::most))
}

/// The value of the change of a property that was told.
fn told(nearest: &Nearest, name: &str, value: impl Fn(&Requirements) -> i64) -> Option<i64> {
    let of = |change: &&Change| change.to.starts_with(name);
    nearest.changes.iter().filter(of).map(|change| value(&change.requirements)).min()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::markets(60), ..ProptestConfig::default() })]

    #[test]
    fn what_is_near_is_told_and_nothing_nearer_fits(seed in any::<u64>(), hosts in 0usize..60) {
        let mut random = Random(seed);
        let market = Market::new(&mut random, hosts);
        let book = market.book();
        for _ in 0..8 {
            let (requirements, client) = (requirements(&mut random), market.client(&mut random));
            let Ok((needs, _)) = requirements.resolve() else { continue };
            let images: Vec<_> = market.images.iter().collect();
            let search = Search { needs: &needs, client, images: &images, now: market.now };
            let nearest = book.nearest(&search, &|host| market.is_heard(host));
            Asked { market: &market, requirements, client }.check(&nearest);
        }
    }
}
