//! The smallest change of each property after which something fits.

use super::Change;
use super::extreme::Extreme;
use crate::book::admit::{Listing, Match};
use crate::book::index::Book;
use crate::book::search::Search;
use crate::book::unfit::Unfit;
use crate::ids::HostId;
use crate::requirements::{Bounds, OrderBy, OrderKey, Requirements, Resolved};
use crate::resources::Dimension;
use crate::units::{GiB, MiB, MicrosPerHour, Millicores};

/// Every change that helps where nothing fits as it is. `alone` counts what each clause leaves out
/// alone: a property that only one clause looks at helps exactly if that one leaves out something.
pub(super) fn all(
    book: &Book,
    search: &Search<'_>,
    is_heard: &dyn Fn(HostId) -> bool,
    alone: &[(Unfit, usize)],
) -> Vec<Change> {
    let stated = stated(search.needs);
    let mut changes = Changes { book, search, is_heard, alone, stated, found: Vec::new() };
    changes.ceilings();
    changes.amounts();
    changes.upper_bounds();
    changes.images_need();
    changes.term();
    changes.host();
    changes.left_out();
    changes.found
}

/// What was asked, with the defaults that a change may be of.
fn stated(needs: &Resolved) -> Requirements {
    let asked = &needs.asked;
    Requirements {
        cpu: asked.cpu.or(Some(needs.resources.cpu.into())),
        memory: asked.memory.or(Some(needs.resources.memory.into())),
        disk: asked.disk.or(Some(needs.resources.disk.into())),
        vcpus: asked.vcpus.or(Some(needs.vcpus.into())),
        term_seconds: Some(needs.term),
        emulated: Some(needs.emulated),
        ..asked.clone()
    }
}

struct Changes<'a> {
    book: &'a Book,
    search: &'a Search<'a>,
    is_heard: &'a dyn Fn(HostId) -> bool,
    alone: &'a [(Unfit, usize)],
    stated: Requirements,
    found: Vec<Change>,
}

fn nothing() -> Requirements {
    Requirements::default()
}

impl<'a> Changes<'a> {
    fn asked(&self) -> Requirements {
        self.search.needs.asked.clone()
    }

    /// Whether this clause alone leaves out something.
    fn is_in_the_way(&self, clause: Unfit) -> bool {
        self.alone.iter().any(|(alone, _)| *alone == clause)
    }

    fn extreme(&self) -> Extreme<'a> {
        Extreme::new(self.book, self.search, self.is_heard)
    }

    /// The first match for these requirements in this order.
    fn first(&self, requirements: &Requirements, order: &[(OrderBy, bool)]) -> Option<(Match, Listing<'a>)> {
        let order: Vec<_> = order.iter().map(|(by, reversed)| OrderKey { by: *by, reversed: *reversed }).collect();
        let requirements = Requirements { order, ..requirements.clone() };
        let (needs, _) = requirements.resolve().ok()?;
        let found = self.book.find(&Search { needs: &needs, ..*self.search }, 1, self.is_heard);
        found.matches.into_iter().next()
    }

    /// Tells a change if something fits with it. `only` is the property that it is of.
    fn tell(&mut self, changed: Requirements, only: impl Fn(Requirements) -> Requirements) {
        if self.first(&changed, &[]).is_some() {
            let (from, to) = (only(self.stated.clone()).to_string(), only(changed.clone()).to_string());
            self.found.push(Change { from, to, requirements: changed });
        }
    }

    /// A ceiling is raised to what the cheapest costs.
    fn ceilings(&mut self) {
        let asked = self.asked();
        if self.is_in_the_way(Unfit::Price) {
            let any = Requirements { price_at_most: None, ..asked.clone() };
            if let Some((hit, _)) = self.first(&any, &[(OrderBy::Price, false)]) {
                // What costs more than can be said is had only without a ceiling.
                let ceiling = Some(hit.hourly).filter(|price| *price <= MicrosPerHour::MAX);
                let changed = Requirements { price_at_most: ceiling, ..asked.clone() };
                self.tell(changed, |r| Requirements { price_at_most: r.price_at_most, ..nothing() });
            }
        }
        if self.is_in_the_way(Unfit::Total) {
            let any = Requirements { total_at_most: None, ..asked.clone() };
            if let Some((hit, _)) = self.first(&any, &[(OrderBy::Total, false)]) {
                let changed = Requirements { total_at_most: Some(hit.total), ..asked };
                self.tell(changed, |r| Requirements { total_at_most: r.total_at_most, ..nothing() });
            }
        }
    }

    /// Less is asked for: no less than need be.
    fn amounts(&mut self) {
        let asked = self.asked();
        let cpu = |n: u32| Requirements { cpu: less(asked.cpu, Millicores(n.into())), ..asked.clone() };
        let memory = |n: u32| Requirements { memory: less(asked.memory, MiB(n.into())), ..asked.clone() };
        let disk = |n: u32| Requirements { disk: less(asked.disk, GiB(n.into())), ..asked.clone() };
        if let Some(most) = self.extreme().amount(0, cpu) {
            self.tell(cpu(most), |r| Requirements { cpu: r.cpu, ..nothing() });
        }
        if let Some(most) = self.extreme().amount(1, memory) {
            self.tell(memory(most), |r| Requirements { memory: r.memory, ..nothing() });
        }
        if let Some(most) = self.extreme().amount(2, disk) {
            self.tell(disk(most), |r| Requirements { disk: r.disk, ..nothing() });
        }
        let vcpus = |n: u16| Requirements { vcpus: less(asked.vcpus, n), ..asked.clone() };
        if self.is_in_the_way(Unfit::Vcpus)
            && let Some(most) = self.extreme().threads(vcpus)
        {
            self.tell(vcpus(most), |r| Requirements { vcpus: r.vcpus, ..nothing() });
        }
    }

    /// An upper bound is raised to the least that any has.
    fn upper_bounds(&mut self) {
        let (asked, needs) = (self.asked(), self.search.needs);
        let had = needs.resources;
        let smallest = |this: &Self, any: Requirements, by| this.first(&any, &[(by, true)]).map(|(hit, _)| hit);
        if self.is_in_the_way(Unfit::TooLarge(Dimension::Cpu)) {
            let any = Requirements { cpu: Some(had.cpu.into()), ..asked.clone() };
            if let Some(hit) = smallest(self, any, OrderBy::Cpu) {
                let cpu = Some(Bounds::Between(had.cpu, hit.resources.cpu));
                self.tell(Requirements { cpu, ..asked.clone() }, |r| Requirements { cpu: r.cpu, ..nothing() });
            }
        }
        if self.is_in_the_way(Unfit::TooLarge(Dimension::Memory)) {
            let any = Requirements { memory: Some(had.memory.into()), ..asked.clone() };
            if let Some(hit) = smallest(self, any, OrderBy::Memory) {
                let memory = Some(Bounds::Between(had.memory, hit.resources.memory));
                self.tell(Requirements { memory, ..asked.clone() }, |r| Requirements { memory: r.memory, ..nothing() });
            }
        }
        if self.is_in_the_way(Unfit::TooLarge(Dimension::Disk)) {
            let any = Requirements { disk: Some(had.disk.into()), ..asked.clone() };
            if let Some(hit) = smallest(self, any, OrderBy::Disk) {
                let disk = Some(Bounds::Between(had.disk, hit.resources.disk));
                self.tell(Requirements { disk, ..asked.clone() }, |r| Requirements { disk: r.disk, ..nothing() });
            }
        }
        if self.is_in_the_way(Unfit::TooManyVcpus) {
            let any = Requirements { vcpus: Some(needs.vcpus.into()), ..asked.clone() };
            if let Some(hit) = smallest(self, any, OrderBy::Cpu) {
                let vcpus = Some(Bounds::Between(needs.vcpus, hit.vcpus));
                self.tell(Requirements { vcpus, ..asked }, |r| Requirements { vcpus: r.vcpus, ..nothing() });
            }
        }
    }

    /// An image may need more than was asked for: then more is asked for.
    fn images_need(&mut self) {
        let (asked, needs) = (self.asked(), self.search.needs);
        let wanted = self.search.images.iter().filter(|i| needs.accepts_os(i) && needs.accepts_image(i));
        let mut memory: Vec<MiB> = wanted.clone().map(|i| i.minimum_memory).collect();
        let mut vcpus: Vec<u16> = wanted.map(|i| i.minimum_vcpus).collect();
        memory.retain(|m| *m > needs.resources.memory);
        vcpus.retain(|v| *v > needs.vcpus);
        memory.sort_unstable();
        memory.dedup();
        vcpus.sort_unstable();
        vcpus.dedup();
        let more_memory = memory.into_iter().map(|m| Requirements { memory: less(asked.memory, m), ..asked.clone() });
        let more_vcpus = vcpus.into_iter().map(|v| Requirements { vcpus: less(asked.vcpus, v), ..asked.clone() });
        if let Some(changed) = more_memory.into_iter().find(|r| self.first(r, &[]).is_some()) {
            self.tell(changed, |r| Requirements { memory: r.memory, ..nothing() });
        }
        if let Some(changed) = more_vcpus.into_iter().find(|r| self.first(r, &[]).is_some()) {
            self.tell(changed, |r| Requirements { vcpus: r.vcpus, ..nothing() });
        }
    }

    fn term(&mut self) {
        let asked = self.asked();
        let with = |term| Requirements { term_seconds: Some(term), ..asked.clone() };
        let either = [self.extreme().shorter(with), self.extreme().longer(with)];
        for term in either.into_iter().flatten() {
            self.tell(with(term), |r| Requirements { term_seconds: r.term_seconds, ..nothing() });
        }
    }

    /// What is asked of the host itself: a little less of it.
    fn host(&mut self) {
        let asked = self.asked();
        if self.is_in_the_way(Unfit::Speed) {
            let any = Requirements { speed_at_least: None, ..asked.clone() };
            if let Some((_, listing)) = self.first(&any, &[(OrderBy::Speed, false)]) {
                let changed = Requirements { speed_at_least: Some(listing.inventory.speed), ..asked.clone() };
                self.tell(changed, |r| Requirements { speed_at_least: r.speed_at_least, ..nothing() });
            }
        }
        if self.is_in_the_way(Unfit::Reliability) {
            let any = Requirements { reliability_permille_at_least: None, ..asked.clone() };
            if let Some((_, listing)) = self.first(&any, &[(OrderBy::Reliability, false)]) {
                let most = Some(listing.reliability_permille);
                let changed = Requirements { reliability_permille_at_least: most, ..asked.clone() };
                self.tell(changed, |r| Requirements {
                    reliability_permille_at_least: r.reliability_permille_at_least,
                    ..nothing()
                });
            }
        }
        if self.is_in_the_way(Unfit::Emulated) {
            let changed = Requirements { emulated: Some(true), ..asked };
            self.tell(changed, |r| Requirements { emulated: r.emulated, ..nothing() });
        }
    }

    /// One thing is not asked for at all.
    fn left_out(&mut self) {
        let asked = self.asked();
        if asked.os.is_some() {
            self.tell(Requirements { os: None, ..asked.clone() }, |r| Requirements { os: r.os, ..nothing() });
        }
        if asked.image.is_some() {
            self.tell(Requirements { image: None, ..asked.clone() }, |r| Requirements { image: r.image, ..nothing() });
        }
        if asked.arch.is_some() {
            self.tell(Requirements { arch: None, ..asked.clone() }, |r| Requirements { arch: r.arch, ..nothing() });
        }
        if self.is_in_the_way(Unfit::CpuModel) {
            let changed = Requirements { cpu_model: None, ..asked.clone() };
            self.tell(changed, |r| Requirements { cpu_model: r.cpu_model, ..nothing() });
        }
        if self.is_in_the_way(Unfit::Host) {
            self.tell(Requirements { host: None, ..asked.clone() }, |r| Requirements { host: r.host, ..nothing() });
        }
        if asked.tier.is_some() {
            self.tell(Requirements { tier: None, ..asked.clone() }, |r| Requirements { tier: r.tier, ..nothing() });
        }
        let labels = (0..).map(Unfit::Label).zip(asked.labels.keys());
        for (_, key) in labels.filter(|(clause, _)| self.is_in_the_way(*clause)).collect::<Vec<_>>() {
            let mut changed = asked.clone();
            changed.labels.remove(key);
            let only = |labels: &std::collections::BTreeMap<_, _>| {
                labels.get_key_value(key).map(|(k, v): (&String, _)| (k.clone(), Clone::clone(v)))
            };
            self.tell(changed, |r| Requirements { labels: only(&r.labels).into_iter().collect(), ..nothing() });
        }
        let traits = (0..).map(Unfit::Trait).zip(asked.traits.iter().chain(&asked.without_traits));
        let in_the_way: Vec<&String> = traits.filter(|(c, _)| self.is_in_the_way(*c)).map(|(_, name)| name).collect();
        for name in asked.traits.iter().filter(|name| in_the_way.contains(name)) {
            let mut changed = asked.clone();
            changed.traits.remove(name);
            self.tell(changed, |r| Requirements {
                traits: r.traits.get(name).cloned().into_iter().collect(),
                ..nothing()
            });
        }
        for name in asked.without_traits.iter().filter(|name| in_the_way.contains(name)) {
            let mut changed = asked.clone();
            changed.without_traits.remove(name);
            let only = |r: Requirements| r.without_traits.get(name).cloned().into_iter().collect();
            self.tell(changed, |r| Requirements { without_traits: only(r), ..nothing() });
        }
    }
}

/// Another lower bound; the upper one stays.
fn less<T: Copy>(asked: Option<Bounds<T>>, least: T) -> Option<Bounds<T>> {
    Bounds::new(Some(least), asked.and_then(Bounds::most))
}
