//! The text form as it is printed: one way for each meaning, in a fixed order.

use super::amounts::{Amount, Permille};
use super::names::{Property, is_known_trait};
use super::syntax::is_bare;
use crate::requirements::{Bounds, Choice, OrderKey, Requirements};
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter, Write};

impl Display for Requirements {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut clauses = Clauses { f, is_first: true };
        clauses.bounds("cpu", self.cpu)?;
        clauses.bounds("memory", self.memory)?;
        clauses.bounds("disk", self.disk)?;
        clauses.bounds("vcpus", self.vcpus)?;
        let choices = [
            ("os", &self.os),
            ("image", &self.image),
            ("arch", &self.arch),
            ("cpu_model", &self.cpu_model),
            ("host", &self.host),
        ];
        choices.into_iter().try_for_each(|(name, choice)| clauses.chosen(&name, choice.as_ref()))?;
        self.labels.iter().try_for_each(|(key, choice)| clauses.chosen(&Label(key), Some(choice)))?;
        self.traits.iter().try_for_each(|name| clauses.named_trait(name, true))?;
        self.without_traits.iter().try_for_each(|name| clauses.named_trait(name, false))?;
        clauses.value("tier=", self.tier)?;
        clauses.value("emulated=", self.emulated.map(|yes| if yes { "yes" } else { "no" }))?;
        clauses.value("speed>=", self.speed_at_least)?;
        clauses.value("reliability>=", self.reliability_permille_at_least.map(Permille))?;
        clauses.value("price<=", self.price_at_most)?;
        clauses.value("total<=", self.total_at_most)?;
        clauses.value("term=", self.term_seconds)?;
        clauses.value("count=", self.count)?;
        clauses.order(&self.order)
    }
}

/// Clauses, written one after the other with a space between them.
struct Clauses<'f, 'g> {
    f: &'f mut Formatter<'g>,
    is_first: bool,
}

impl Clauses<'_, '_> {
    fn clause(&mut self, clause: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.f.write_str(" ")?;
        }
        self.f.write_fmt(clause)
    }

    fn value(&mut self, before: &str, value: Option<impl Display>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.clause(format_args!("{before}{value}")))
    }

    fn bounds<A: Amount>(&mut self, name: &str, asked: Option<Bounds<A>>) -> fmt::Result {
        match asked {
            None => Ok(()),
            Some(Bounds::AtLeast(least)) => self.clause(format_args!("{name}>={least}")),
            Some(Bounds::AtMost(most)) => self.clause(format_args!("{name}<={most}")),
            Some(Bounds::Between(least, most)) if least == most => self.clause(format_args!("{name}={least}")),
            Some(Bounds::Between(least, most)) => self.clause(format_args!("{name}={least}..{most}")),
        }
    }

    fn chosen(&mut self, name: &dyn Display, choice: Option<&Choice>) -> fmt::Result {
        let Some(choice) = choice else { return Ok(()) };
        let words = Words(choice.words());
        match (choice, words.0.len()) {
            (Choice::OneOf(_), 1) => self.clause(format_args!("{name}={words}")),
            (Choice::NoneOf(_), 1) => self.clause(format_args!("{name}!={words}")),
            (Choice::OneOf(_), _) => self.clause(format_args!("{name} in [{words}]")),
            (Choice::NoneOf(_), _) => self.clause(format_args!("{name} notin [{words}]")),
        }
    }

    fn named_trait(&mut self, name: &str, wanted: bool) -> fmt::Result {
        match (is_known_trait(name), wanted) {
            (true, true) => self.clause(format_args!("{name}")),
            (true, false) => self.clause(format_args!("!{name}")),
            (false, true) => self.clause(format_args!("trait={}", Word(name))),
            (false, false) => self.clause(format_args!("trait!={}", Word(name))),
        }
    }

    fn order(&mut self, keys: &[OrderKey]) -> fmt::Result {
        match keys {
            [] => Ok(()),
            [one] => self.clause(format_args!("order={one}")),
            [first, rest @ ..] => {
                self.clause(format_args!("order=[{first}"))?;
                rest.iter().try_for_each(|key| write!(self.f, ",{key}"))?;
                self.f.write_str("]")
            }
        }
    }
}

/// The name of a label's property.
pub fn label(key: &str) -> String {
    Label(key).to_string()
}

struct Label<'a>(&'a str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(key) = *self;
        if key == Property::Region.name() {
            return f.write_str(key);
        }
        f.write_str("label.")?;
        if is_plain(key) { f.write_str(key) } else { in_quotes(key, f) }
    }
}

/// A word as it is written, in quotes where it needs them.
struct Word<'a>(&'a str);

impl Display for Word<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) && self.0 != "any" { f.write_str(self.0) } else { in_quotes(self.0, f) }
    }
}

/// Words with commas between them.
struct Words<'a>(&'a BTreeSet<String>);

impl Display for Words<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, word) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at > 0 { "," } else { "" }, Word(word))?;
        }
        Ok(())
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_bare)
}

fn in_quotes(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if ['"', '\\'].contains(&c) {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
