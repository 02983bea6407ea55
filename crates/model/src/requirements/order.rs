//! In which order the matches come.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// By what matches are ordered; each has a best end, which comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrderBy {
    /// Price of the whole term, the cheapest first.
    Total,
    /// Price for an hour, the cheapest first.
    Price,
    /// How seldom the host failed, the most reliable first.
    Reliability,
    /// How long it has been listed, the longest first.
    Age,
    /// Processor time that would be allocated, the most first.
    Cpu,
    /// Memory that would be allocated, the most first.
    Memory,
    /// Disk that would be allocated, the most first.
    Disk,
    /// Measured speed of one thread, the fastest first.
    Speed,
}

/// One key of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OrderKey {
    /// By what.
    pub by: OrderBy,
    /// Whether the worst comes first.
    pub reversed: bool,
}

impl OrderBy {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Total, Self::Price, Self::Reliability, Self::Age, Self::Cpu, Self::Memory, Self::Disk, Self::Speed];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Price => "price",
            Self::Reliability => "reliability",
            Self::Age => "age",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Speed => "speed",
        }
    }
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.reversed { "-" } else { "" }, self.by.word())
    }
}

impl FromStr for OrderKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (reversed, word) = text.strip_prefix('-').map_or((false, text), |word| (true, word));
        let by = OrderBy::ALL.into_iter().find(|by| by.word() == word);
        let words = || OrderBy::ALL.map(OrderBy::word).join(", ");
        by.map(|by| Self { by, reversed })
            .ok_or_else(|| format!("must be of {}, with - before it to turn it around", words()))
    }
}

impl Serialize for OrderKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OrderKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
