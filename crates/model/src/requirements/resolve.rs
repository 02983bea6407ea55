//! Requirements with every default filled in and every amount checked.

use super::ready::Ready;
use super::{Bounds, Choice, OrderBy, OrderKey, Requirements};
use crate::book::Unfit;
use crate::host::Tier;
use crate::image::ImageManifest;
use crate::partition::Allocation;
use crate::resources::Resources;
use crate::units::{GiB, MiB, MicrosPerHour, Millicores, Seconds};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use utoipa::ToSchema;

/// Requirements with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What gets allocated, unless the partition's own least is more.
    pub resources: Resources,
    /// More than this must not be allocated.
    pub at_most: Resources,
    /// What the guest sees, unless what is allocated needs more.
    pub vcpus: u16,
    /// More than this it must not see.
    pub vcpus_at_most: u16,
    /// For how long.
    pub term: Seconds,
    /// Whether an emulated partition will do.
    pub emulated: bool,
    /// How many partitions, all or none.
    pub count: u16,
    /// The rest, as it was asked.
    pub asked: Requirements,
    /// The same, for asking many times.
    pub(crate) ready: Ready,
}

/// A default that was filled in, to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assumed {
    /// Which field.
    pub field: String,
    /// What was assumed.
    pub value: String,
    /// The same as a clause of the text form, such as `cpu>=1`.
    #[serde(default)]
    pub clause: String,
}

/// Why requirements can't be met by anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RequirementsError {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

fn wrong<T>(field: &'static str, problem: impl Into<String>) -> Result<T, RequirementsError> {
    Err(RequirementsError { field, problem: problem.into() })
}

impl Requirements {
    /// Fills in the defaults and checks every amount. Says which defaults it filled in.
    pub fn resolve(&self) -> Result<(Resolved, Vec<Assumed>), RequirementsError> {
        self.check()?;
        let mut defaults = Defaults { assumed: Vec::new() };
        let cpu = defaults.lower("cpu", self.cpu, Millicores(1000));
        let memory = defaults.lower("memory", self.memory, MiB(512));
        let disk = defaults.lower("disk", self.disk, GiB(0));
        let resources = Resources { cpu, memory, disk };
        let vcpus = defaults.lower("vcpus", self.vcpus, Allocation::vcpus_for(resources));
        if cpu.0 > i64::from(vcpus) * 1000 {
            return wrong(
                "vcpus",
                format!("{vcpus} can't use {cpu} cpu: ask for {}", Allocation::vcpus_for(resources)),
            );
        }
        let term = defaults.value("term", self.term_seconds, Seconds::HOUR);
        let emulated = self.emulated.or((self.tier == Some(Tier::Emulated)).then_some(true)).unwrap_or_else(|| {
            defaults.assume("emulated", "=", "no");
            false
        });
        let count = defaults.value("count", self.count, 1);
        if self.order.is_empty() {
            defaults.assume("order", "=", OrderKey { by: OrderBy::Total, reversed: false });
        }
        let at_most = Resources {
            cpu: self.cpu.and_then(Bounds::most).unwrap_or(Millicores::MAX),
            memory: self.memory.and_then(Bounds::most).unwrap_or(MiB::MAX),
            disk: self.disk.and_then(Bounds::most).unwrap_or(GiB::MAX),
        };
        let vcpus_at_most = self.vcpus.and_then(Bounds::most).unwrap_or(u16::MAX);
        let asked = self.clone();
        let ready = Ready::new(&asked);
        let mut all = Resolved { resources, at_most, vcpus, vcpus_at_most, term, emulated, count, asked, ready };
        all.ready.clauses = Unfit::quick(&all);
        Ok((all, defaults.assumed))
    }

    /// Checks everything that can be said without a market.
    pub fn check(&self) -> Result<(), RequirementsError> {
        in_range("cpu", self.cpu, Millicores(100), Millicores::MAX, "must be from 100m to 4096")?;
        in_range("memory", self.memory, MiB(64), MiB::MAX, "must be from 64MiB to 64TiB")?;
        in_range("disk", self.disk, GiB(0), GiB::MAX, "must be from 0GiB to 16PiB")?;
        in_range("vcpus", self.vcpus, 1, 4096, "must be from 1 to 4096")?;
        if self.term_seconds.is_some_and(|term| !(Seconds(1)..=Seconds::MAX).contains(&term)) {
            return wrong("term_seconds", "must be from 1 second to ten years");
        }
        if self.price_at_most.is_some_and(|p| !(MicrosPerHour::ZERO..=MicrosPerHour::MAX).contains(&p)) {
            return wrong("price_at_most", "must be from nothing to a million an hour");
        }
        if self.total_at_most.is_some_and(|p| p.0 < 0) {
            return wrong("total_at_most", "a price can't be below zero");
        }
        if self.reliability_permille_at_least.is_some_and(|r| r > 1000) {
            return wrong("reliability_permille_at_least", "must be from 0 to 1000");
        }
        if self.count.is_some_and(|n| !(1..=Self::MOST_PARTITIONS).contains(&n)) {
            return wrong("count", format!("must be from 1 to {}", Self::MOST_PARTITIONS));
        }
        if self.tier == Some(Tier::Emulated) && self.emulated == Some(false) {
            return wrong("emulated", "says no where the tier asked for is emulated: leave one of them out");
        }
        if self.tier == Some(Tier::Kvm) && self.emulated == Some(true) {
            return wrong("emulated", "says yes where the tier asked for is kvm: leave one of them out");
        }
        self.check_order()?;
        self.check_words()
    }

    fn check_order(&self) -> Result<(), RequirementsError> {
        if self.order.len() > Self::MOST_ORDER_KEYS {
            return wrong("order", format!("at most {} keys", Self::MOST_ORDER_KEYS));
        }
        let twice = |at: usize| self.order[..at].iter().any(|key| key.by == self.order[at].by);
        if let Some(at) = (0..self.order.len()).find(|at| twice(*at)) {
            return wrong("order", format!("{} stands there twice", self.order[at].by.word()));
        }
        Ok(())
    }

    fn check_words(&self) -> Result<(), RequirementsError> {
        let choices = [
            ("os", &self.os),
            ("image", &self.image),
            ("arch", &self.arch),
            ("cpu_model", &self.cpu_model),
            ("host", &self.host),
        ];
        for (field, choice) in choices {
            if let Some(problem) = choice.as_ref().and_then(|c| c.problem(200)) {
                return wrong(field, problem);
            }
        }
        let word = |t: &String| t.len() <= 63 && !t.chars().any(char::is_control);
        if self.labels.len() > Self::MOST_NAMED || !self.labels.keys().all(word) {
            return wrong("labels", format!("at most {}, each of at most 63 characters", Self::MOST_NAMED));
        }
        if let Some(problem) = self.labels.values().find_map(|choice| choice.problem(63)) {
            return wrong("labels", problem);
        }
        let traits = || self.traits.iter().chain(&self.without_traits);
        if traits().count() > Self::MOST_NAMED || !traits().all(|t| word(t) && !t.is_empty()) {
            return wrong("traits", format!("at most {}, each of 1 to 63 characters", Self::MOST_NAMED));
        }
        if let Some(both) = self.traits.intersection(&self.without_traits).next() {
            return wrong("traits", format!("{both} is asked for and ruled out"));
        }
        Ok(())
    }
}

fn in_range<T: Copy + PartialOrd + Display>(
    field: &'static str,
    asked: Option<Bounds<T>>,
    least: T,
    most: T,
    problem: &'static str,
) -> Result<(), RequirementsError> {
    let ends = asked.map_or([None, None], |bounds| [bounds.least(), bounds.most()]);
    if ends.into_iter().flatten().any(|end| !(least..=most).contains(&end)) {
        return wrong(field, problem);
    }
    match ends {
        [Some(lower), Some(upper)] if lower > upper => {
            wrong(field, format!("nothing is at least {lower} and at most {upper}"))
        }
        _ => Ok(()),
    }
}

/// Fills in what was not said, and keeps account of it.
struct Defaults {
    assumed: Vec<Assumed>,
}

impl Defaults {
    fn assume(&mut self, field: &str, op: &str, value: impl Display) {
        let value = value.to_string();
        self.assumed.push(Assumed { field: field.into(), clause: format!("{field}{op}{value}"), value });
    }

    fn value<T: Display>(&mut self, field: &str, asked: Option<T>, default: T) -> T {
        asked.unwrap_or_else(|| {
            self.assume(field, "=", &default);
            default
        })
    }

    /// The lower bound; where only the upper one was said, the default as far as it allows.
    fn lower<T: Copy + Ord + Display>(&mut self, field: &str, asked: Option<Bounds<T>>, default: T) -> T {
        asked.and_then(Bounds::least).unwrap_or_else(|| {
            let default = asked.and_then(Bounds::most).map_or(default, |most| default.min(most));
            self.assume(field, ">=", default);
            default
        })
    }
}

impl Resolved {
    /// What a partition gets whose own least is this.
    pub fn allocated(&self, least: Resources) -> Resources {
        self.resources.max(least)
    }

    /// How many hardware threads the guest sees where this is allocated.
    pub fn seen_vcpus(&self, allocated: Resources) -> u16 {
        self.vcpus.max(Allocation::vcpus_for(allocated))
    }

    /// Whether an image is of the operating system asked for.
    pub fn accepts_os(&self, image: &ImageManifest) -> bool {
        self.ready.os.as_ref().is_none_or(|os| os.accept(|word| image.answers(Some(word), None)))
    }

    /// Whether an image is one that was asked for by its name.
    pub fn accepts_image(&self, image: &ImageManifest) -> bool {
        self.asked.image.as_ref().is_none_or(|asked| asked.accepts_where(|word| image.answers(None, Some(word))))
    }

    /// Whether a processor is one that was asked for: a word names it if it is a part of its name.
    pub fn accepts_cpu_model(&self, model: &str) -> bool {
        let Some(asked) = &self.asked.cpu_model else { return true };
        let model = model.to_lowercase();
        asked.accepts_where(|part| model.contains(&part.to_lowercase()))
    }
}

impl Choice {
    /// Whether a field that was perhaps left open takes this word.
    pub fn open_to(asked: Option<&Self>, word: &str) -> bool {
        asked.is_none_or(|choice| choice.accepts(word))
    }
}
