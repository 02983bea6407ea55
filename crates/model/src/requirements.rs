//! What a client needs: the structured form that the API takes, and the text that people write,
//! which parses into it.
//!
//! Both say the same: [`Requirements`] is what was said, [`Resolved`] has every default filled in.

mod bounds;
mod choice;
mod language;
mod order;
mod ready;
mod resolve;

pub use bounds::Bounds;
pub use choice::Choice;
pub use language::LanguageError;
pub(crate) use language::label;
pub use order::{OrderBy, OrderKey};
pub use resolve::{Assumed, RequirementsError, Resolved};

use crate::host::Tier;
use crate::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// What is needed. Every absent field has a default that is shown to the client.
///
/// A quantity is an amount (its lower bound) or an object with `at_least` and `at_most`: the lower
/// bound is what gets allocated, the upper one leaves out partitions in which more than that would
/// be allocated. A choice is a word, a list of words, or an object with `not_in`.
///
/// The text form may stand in place of the whole object: `"cpu>=4 os=debian"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct Requirements {
    /// Processor time; 1 core if absent.
    #[schema(value_type = Option<bounds::Described>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Bounds<Millicores>>,
    /// Memory; 512 MiB if absent.
    #[schema(value_type = Option<bounds::Described>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bounds<MiB>>,
    /// Scratch disk; none if absent.
    #[schema(value_type = Option<bounds::Described>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bounds<GiB>>,
    /// How many hardware threads the guest shall see; the least that can use `cpu` if absent.
    #[schema(value_type = Option<bounds::Described>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<Bounds<u16>>,
    /// Which operating system, such as `debian`.
    #[schema(value_type = Option<choice::Form>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<Choice>,
    /// Which image, such as `debian-12` or `debian-12@12.11-1`.
    #[schema(value_type = Option<choice::Form>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Choice>,
    /// Which architecture; any if absent.
    #[schema(value_type = Option<choice::Form>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<Choice>,
    /// A part of the processor's name, whatever its case, such as `epyc`; any if absent.
    #[schema(value_type = Option<choice::Form>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<Choice>,
    /// Which host, by its name; any if absent.
    #[schema(value_type = Option<choice::Form>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Choice>,
    /// Labels of the offer; one that is not there is no reason against `not_in`.
    #[schema(value_type = BTreeMap<String, choice::Form>)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Choice>,
    /// What the host must have: flags of its processor such as `avx2`, or `confined`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub traits: BTreeSet<String>,
    /// What the host must not have.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub without_traits: BTreeSet<String>,
    /// What must run the partition: `kvm` or `emulated` (which asks for emulated ones too).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Whether an emulated partition will do; no if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulated: Option<bool>,
    /// The host's measured speed of one thread, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_at_least: Option<u32>,
    /// Of a thousand leases of the host, how many must not have ended by its own fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reliability_permille_at_least: Option<u16>,
    /// The dearest price for an hour; any if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_at_most: Option<MicrosPerHour>,
    /// The dearest price for the whole term; any if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_at_most: Option<Micros>,
    /// For how long; an hour if absent. Every lease ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term_seconds: Option<Seconds>,
    /// How many partitions, all or none; 1 if absent, 64 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u16>,
    /// In which order matches come, and so which is taken; by price of the whole term if absent.
    /// What is left equal is ordered by that price, then reliability, then how long it is listed.
    #[schema(value_type = Vec<String>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<OrderKey>,
}

impl Requirements {
    /// The most labels asked for, and the most traits.
    pub const MOST_NAMED: usize = 32;
    /// The most partitions asked for at once.
    pub const MOST_PARTITIONS: u16 = 64;
    /// The most keys of an order.
    pub const MOST_ORDER_KEYS: usize = 3;
    /// The one trait that is no flag of the processor: partitions run confined.
    pub const CONFINED: &'static str = "confined";
}

/// As a body holds them: the object, or the text in its place.
#[derive(ToSchema)]
#[schema(as = RequirementsOrText)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its shape is used, by the description of the API")]
pub enum Described {
    /// The text form, such as `cpu>=4 memory=8GiB..32GiB os=debian price<=0.05/h region in [eu,us]`.
    Text(String),
    /// The structured form.
    Object(Box<Requirements>),
}

impl Serialize for Requirements {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, s)
    }
}

impl<'de> Deserialize<'de> for Requirements {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Either)
    }
}

/// Reads the object, or the text in its place.
struct Either;

impl<'de> serde::de::Visitor<'de> for Either {
    type Value = Requirements;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object, or a text such as \"cpu>=4 os=debian\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Requirements, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Requirements, A::Error> {
        Requirements::deserialize(serde::de::value::MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests;
