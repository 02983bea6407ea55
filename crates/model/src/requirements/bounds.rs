//! A quantity with bounds: the lower one is allocated, the upper one filters.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// What is asked of one quantity. An amount alone is its lower bound.
///
/// The lower bound is what gets allocated. The upper one filters: a partition is left out if what
/// would really be allocated in it (the lower bound, or the partition's own least if that is more)
/// is above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bounds<T> {
    /// This, or more where a partition can't be less.
    AtLeast(T),
    /// The default, or what is left of it under this.
    AtMost(T),
    /// The first allocated, the second not exceeded.
    Between(T, T),
}

impl<T: Copy> Bounds<T> {
    /// The lower bound, if one was said.
    pub fn least(self) -> Option<T> {
        match self {
            Self::AtLeast(least) | Self::Between(least, _) => Some(least),
            Self::AtMost(_) => None,
        }
    }

    /// The upper bound, if one was said.
    pub fn most(self) -> Option<T> {
        match self {
            Self::AtMost(most) | Self::Between(_, most) => Some(most),
            Self::AtLeast(_) => None,
        }
    }

    /// Bounds from both ends; none if neither was said.
    pub fn new(least: Option<T>, most: Option<T>) -> Option<Self> {
        match (least, most) {
            (Some(least), Some(most)) => Some(Self::Between(least, most)),
            (Some(least), None) => Some(Self::AtLeast(least)),
            (None, Some(most)) => Some(Self::AtMost(most)),
            (None, None) => None,
        }
    }
}

impl<T> From<T> for Bounds<T> {
    fn from(least: T) -> Self {
        Self::AtLeast(least)
    }
}

/// As it is written: an amount, or an object with one bound or both.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "an amount is expected, or an object with `at_least`, `at_most` or both")]
enum Form<T> {
    /// The lower bound.
    Least(T),
    /// Either bound, or both.
    Ends(Ends<T>),
}

/// Lower and upper bound; one of them at least.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ends<T> {
    /// What is allocated.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    at_least: Option<T>,
    /// What is not exceeded.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    at_most: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T: Copy + Serialize> Serialize for Bounds<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::AtLeast(least) => Form::Least(least),
            other => Form::Ends(Ends { at_least: other.least(), at_most: other.most() }),
        }
        .serialize(s)
    }
}

impl<'de, T: Copy + Deserialize<'de>> Deserialize<'de> for Bounds<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let ends = match Form::deserialize(d)? {
            Form::Least(least) => return Ok(Self::AtLeast(least)),
            Form::Ends(ends) => ends,
        };
        let empty = || serde::de::Error::custom("`at_least`, `at_most` or both are expected");
        Self::new(ends.at_least, ends.at_most).ok_or_else(empty)
    }
}

/// The same for the description of the API, where every unit is an integer.
#[derive(ToSchema)]
#[schema(as = Bounds)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its shape is used")]
pub(super) enum Described {
    /// The lower bound.
    Least(i64),
    /// Either bound, or both.
    Ends(DescribedEnds),
}

/// Lower bound, upper bound, or both.
#[derive(ToSchema)]
#[schema(as = BothBounds)]
#[allow(dead_code, reason = "only its shape is used")]
pub(super) struct DescribedEnds {
    /// What is allocated.
    at_least: Option<i64>,
    /// What is not exceeded.
    at_most: Option<i64>,
}
