//! A choice among words: one of these, or none of those.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// Which words will do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Any of these.
    OneOf(BTreeSet<String>),
    /// Anything but these.
    NoneOf(BTreeSet<String>),
}

impl Choice {
    /// The most words of one choice.
    pub const MOST: usize = 32;

    /// Any of these words.
    pub fn one_of<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::OneOf(words.into_iter().map(Into::into).collect())
    }

    /// Anything but these words.
    pub fn none_of<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::NoneOf(words.into_iter().map(Into::into).collect())
    }

    /// The words, whichever way they are meant.
    pub fn words(&self) -> &BTreeSet<String> {
        match self {
            Self::OneOf(words) | Self::NoneOf(words) => words,
        }
    }

    /// Whether a word will do.
    pub fn accepts(&self, word: &str) -> bool {
        self.accepts_where(|said| said == word)
    }

    /// Whether something will do that each word may name in a way of its own.
    pub fn accepts_where(&self, names: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::OneOf(words) => words.iter().any(|w| names(w)),
            Self::NoneOf(words) => !words.iter().any(|w| names(w)),
        }
    }

    /// What will do for both; none if nothing is left.
    pub fn and(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::NoneOf(a), Self::NoneOf(b)) => Some(Self::NoneOf(a | b)),
            (Self::OneOf(a), Self::OneOf(b)) => Some(a & b).filter(|both| !both.is_empty()).map(Self::OneOf),
            (Self::OneOf(a), Self::NoneOf(b)) | (Self::NoneOf(b), Self::OneOf(a)) => {
                Some(a - b).filter(|left| !left.is_empty()).map(Self::OneOf)
            }
        }
    }

    /// What is wrong with it, if anything is.
    pub(super) fn problem(&self, longest: usize) -> Option<String> {
        let fine = |w: &String| (1..=longest).contains(&w.len()) && !w.chars().any(char::is_control);
        if !(1..=Self::MOST).contains(&self.words().len()) {
            return Some(format!("must be 1 to {} words", Self::MOST));
        }
        let all = self.words().iter().all(fine);
        (!all).then(|| format!("must be 1 to {longest} characters without control characters"))
    }
}

impl From<&str> for Choice {
    fn from(word: &str) -> Self {
        Self::one_of([word])
    }
}

impl From<String> for Choice {
    fn from(word: String) -> Self {
        Self::one_of([word])
    }
}

/// As it is written.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Choice)]
#[serde(untagged, expecting = "a word is expected, a list of words, or an object with `not_in`")]
pub(super) enum Form {
    /// Only this word.
    Word(String),
    /// Any of these words.
    Words(BTreeSet<String>),
    /// Anything but these words.
    Not(Not),
}

/// Words that will not do.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = NotIn)]
#[serde(deny_unknown_fields)]
pub(super) struct Not {
    /// Anything but these.
    not_in: BTreeSet<String>,
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::OneOf(words) if words.len() == 1 => Form::Word(words.first().cloned().unwrap_or_default()),
            Self::OneOf(words) => Form::Words(words.clone()),
            Self::NoneOf(words) => Form::Not(Not { not_in: words.clone() }),
        }
        .serialize(s)
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match Form::deserialize(d)? {
            Form::Word(word) => Self::from(word),
            Form::Words(words) => Self::OneOf(words),
            Form::Not(not) => Self::NoneOf(not.not_in),
        })
    }
}
