//! What the rule of fit asks of each of very many partitions, laid out for that: small slices in
//! place of trees, and only what something could break.

use super::{Choice, Requirements};
use crate::book::Unfit;

/// Made once for each request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The clauses that something could break, the cheapest to look at first.
    pub clauses: Vec<Unfit>,
    /// The labels asked for, in the order of their keys.
    pub labels: Vec<(String, Words)>,
    /// The traits that must be there, then those that must not.
    pub traits: Vec<(String, bool)>,
    /// Which architecture.
    pub arch: Option<Words>,
    /// Which operating system.
    pub os: Option<Words>,
}

/// A [`Choice`] for asking many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    words: Vec<String>,
    wanted: bool,
}

impl Ready {
    pub fn new(asked: &Requirements) -> Self {
        let wanted = asked.traits.iter().map(|name| (name.clone(), true));
        let unwanted = asked.without_traits.iter().map(|name| (name.clone(), false));
        Self {
            clauses: Vec::new(),
            labels: asked.labels.iter().map(|(key, choice)| (key.clone(), Words::from(choice))).collect(),
            traits: wanted.chain(unwanted).collect(),
            arch: asked.arch.as_ref().map(Words::from),
            os: asked.os.as_ref().map(Words::from),
        }
    }
}

impl Words {
    /// Whether something will do that each word may name in a way of its own.
    pub fn accept(&self, names: impl Fn(&str) -> bool) -> bool {
        self.words.iter().any(|word| names(word)) == self.wanted
    }
}

impl From<&Choice> for Words {
    fn from(choice: &Choice) -> Self {
        let words = choice.words().iter().cloned().collect();
        Self { words, wanted: matches!(choice, Choice::OneOf(_)) }
    }
}
