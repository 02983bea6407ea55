//! What the clauses mean: one after the other they narrow the structured form.

use super::amounts::{self, Amount, Permille};
use super::fault::{LanguageError, quoted};
use super::names::{self, Property};
use super::syntax::{Clause, Op, Said, Spot, Value, Word};
use crate::host::Tier;
use crate::requirements::{Bounds, Choice, Requirements};
use crate::units::{self, Seconds};
use std::collections::BTreeSet;
use std::ops::Range;

/// What narrows: a clause is refused with its place and the reason.
type Narrowed<T = ()> = Result<T, Fault>;

/// What is wrong with a clause, and where.
pub struct Fault {
    at: Range<usize>,
    problem: String,
    meant: Option<String>,
}

impl Fault {
    fn new(at: &Range<usize>, problem: impl Into<String>) -> Self {
        Self { at: at.clone(), problem: problem.into(), meant: None }
    }

    pub fn of(self, text: &str) -> LanguageError {
        LanguageError::new(text, self.at.start, self.at.end, self.problem).meaning(self.meant)
    }
}

/// A property with how it is compared, and where all of that stands.
struct Comparison<'c, 't> {
    property: Property,
    key: Option<&'c str>,
    op: &'c Spot<Op>,
    value: &'c Spot<Value<'t>>,
    whole: &'c Range<usize>,
}

/// Narrows by one clause.
pub fn narrow(asked: &mut Requirements, clause: &Clause<'_>) -> Narrowed {
    let name = clause.name.is;
    let named = Property::named(name);
    let (op, value) = match &clause.said {
        Said::Trait(wanted) => return bare(asked, clause, named, *wanted),
        Said::Compared(op, value) => (op, value),
    };
    let Some(property) = named else { return Err(unknown_property(clause)) };
    let key = clause.key.as_ref().map(|key| &*key.is);
    match (property, key) {
        (Property::Label, None) => {
            return Err(Fault::new(&clause.name.at, "label needs the label's name: label.rack=7"));
        }
        (Property::Label, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err(Fault::new(&clause.at, format!("{name} has no parts: only labels have a dot"))),
    }
    let compared = Comparison { property, key, op, value, whole: &clause.at };
    compared.narrow(asked)?;
    // Every limit of the structured form is said at the clause that breaks it.
    let beyond = |e: crate::requirements::RequirementsError| Fault::new(&value.at, format!("{name} {}", e.problem));
    asked.check().map_err(beyond)
}

/// A word that stands alone: a trait, or a property that is true or not.
fn bare(asked: &mut Requirements, clause: &Clause<'_>, named: Option<Property>, wanted: bool) -> Narrowed {
    let name = clause.name.is;
    match named {
        _ if clause.key.is_some() => {}
        Some(Property::Emulated) => {
            return once(&mut asked.emulated, wanted, &clause.at, "emulated").and(sound(asked, clause));
        }
        Some(property) => {
            let problem = format!("{name} needs an operator and a value, such as {}", property.example());
            return Err(Fault::new(&clause.at, problem));
        }
        None if name == "kvm" => {
            let tier = if wanted { Tier::Kvm } else { Tier::Emulated };
            return once(&mut asked.tier, tier, &clause.at, "tier").and(sound(asked, clause));
        }
        None if names::is_known_trait(name) => {
            add_traits(asked, [name.to_owned()], wanted);
            return sound(asked, clause);
        }
        None => {}
    }
    let problem = match &clause.key {
        Some(_) => format!("{} needs an operator and a value, such as label.rack=7", quoted(name)),
        None => format!("no such property or trait {}", quoted(name)),
    };
    let meant = if clause.key.is_some() { None } else { names::nearest_word(name) };
    // A flag of a processor newer than this program has another way in.
    let problem = if meant.is_none() && clause.key.is_none() {
        format!("{problem}; a flag that is not known here is written trait={}", quoted(name))
    } else {
        problem
    };
    Err(Fault { at: clause.at.clone(), problem, meant })
}

fn sound(asked: &Requirements, clause: &Clause<'_>) -> Narrowed {
    asked.check().map_err(|e| Fault::new(&clause.at, format!("{} {}", clause.name.is, e.problem)))
}

fn unknown_property(clause: &Clause<'_>) -> Fault {
    let name = clause.name.is;
    let problem = format!("no such property {}", quoted(name));
    match names::nearest_property(name) {
        Some(meant) => Fault { at: clause.name.at.clone(), problem, meant: Some(meant) },
        None => Fault::new(&clause.name.at, format!("{problem}; a label is written label.{}", quoted(name))),
    }
}

/// Sets what can be said only once.
fn once<T: PartialEq>(slot: &mut Option<T>, value: T, at: &Range<usize>, name: &str) -> Narrowed {
    match slot {
        Some(before) if *before != value => Err(Fault::new(at, format!("{name} was said otherwise before"))),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn add_traits(asked: &mut Requirements, traits: impl IntoIterator<Item = String>, wanted: bool) {
    if wanted { asked.traits.extend(traits) } else { asked.without_traits.extend(traits) }
}

impl Comparison<'_, '_> {
    fn narrow(&self, asked: &mut Requirements) -> Narrowed {
        if self.is_any() {
            if self.property == Property::Emulated || self.property == Property::Tier {
                return once(&mut asked.emulated, true, self.whole, "emulated");
            }
            return Ok(());
        }
        match self.property {
            Property::Cpu => self.bounds(&mut asked.cpu),
            Property::Memory => self.bounds(&mut asked.memory),
            Property::Disk => self.bounds(&mut asked.disk),
            Property::Vcpus => self.bounds(&mut asked.vcpus),
            Property::Os => self.one_choice(&mut asked.os),
            Property::Image => self.one_choice(&mut asked.image),
            Property::CpuModel => self.one_choice(&mut asked.cpu_model),
            Property::Arch => self.choice(&mut asked.arch),
            Property::Host => self.choice(&mut asked.host),
            Property::Region | Property::Label => self.label(asked),
            Property::Trait => self.traits(asked),
            Property::Tier => self.tier(asked),
            Property::Emulated => self.emulated(asked),
            Property::Speed => self.floor(&mut asked.speed_at_least, |speed: u32| speed),
            Property::Reliability => self.floor(&mut asked.reliability_permille_at_least, |share: Permille| share.0),
            Property::Price => self.ceiling(&mut asked.price_at_most),
            Property::Total => self.ceiling(&mut asked.total_at_most),
            Property::Term => {
                let read = |text: &str| units::parse_span(text).map_err(|e| e.to_string());
                let term: Seconds = self.exactly(read)?;
                once(&mut asked.term_seconds, term, self.whole, "term")
            }
            Property::Count => {
                let count = self.exactly(u16::read)?;
                once(&mut asked.count, count, self.whole, "count")
            }
            Property::Order => self.order(asked),
        }
    }

    fn name(&self) -> &'static str {
        self.property.name()
    }

    /// `os=any`: whatever it is. In quotes it is a word.
    fn is_any(&self) -> bool {
        matches!(&self.value.is, Value::Word(word) if !word.quoted && word.text == "any")
            && matches!(self.op.is, Op::Is | Op::In)
    }

    fn wrong_op(&self, expected: &str) -> Fault {
        let problem = format!("{} takes {expected}, such as {}", self.name(), self.property.example());
        Fault::new(&self.op.at, problem)
    }

    fn wrong_value(&self, problem: impl Into<String>) -> Fault {
        Fault::new(&self.value.at, problem)
    }

    fn word(&self) -> Narrowed<&Word<'_>> {
        match &self.value.is {
            Value::Word(word) => Ok(word),
            Value::Set(_) => Err(self.wrong_value(format!("{} takes one value, not a set", self.name()))),
        }
    }

    fn amount<A: Amount>(&self) -> Narrowed<A> {
        A::read(&self.word()?.text).map_err(|problem| self.wrong_value(problem))
    }

    /// A quantity: whatever was said of it before still holds.
    fn bounds<A: Amount>(&self, slot: &mut Option<Bounds<A>>) -> Narrowed {
        let said = match self.op.is {
            Op::Is | Op::In => {
                let text = &self.word()?.text;
                amounts::range(text).map_err(|problem| self.wrong_value(problem))?
            }
            Op::AtLeast => Bounds::AtLeast(self.amount::<A>()?),
            Op::AtMost => Bounds::AtMost(self.amount::<A>()?),
            Op::More => Bounds::AtLeast(self.amount::<A>()?.above()),
            Op::Less => Bounds::AtMost(self.amount::<A>()?.below()),
            Op::IsNot | Op::NotIn => return Err(self.wrong_op("= < <= > >= or a range")),
        };
        let narrowed = amounts::both(*slot, said);
        *slot = Some(narrowed.ok_or_else(|| self.contradiction("no amount"))?);
        Ok(())
    }

    fn contradiction(&self, what: &str) -> Fault {
        let problem = format!("{what} is left for {} after what was said before", self.name());
        Fault::new(self.whole, problem)
    }

    fn floor<A: Amount, T: Ord + Copy>(&self, slot: &mut Option<T>, number: impl Fn(A) -> T) -> Narrowed {
        let least = match self.op.is {
            Op::AtLeast => self.amount::<A>()?,
            Op::More => self.amount::<A>()?.above(),
            _ => return Err(self.wrong_op(">= or >")),
        };
        *slot = (*slot).max(Some(number(least)));
        Ok(())
    }

    fn ceiling<A: Amount>(&self, slot: &mut Option<A>) -> Narrowed {
        let most = match self.op.is {
            Op::AtMost => self.amount::<A>()?,
            Op::Less => self.amount::<A>()?.below(),
            _ => return Err(self.wrong_op("<= or <")),
        };
        *slot = Some(slot.map_or(most, |before| before.min(most)));
        Ok(())
    }

    fn exactly<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Narrowed<T> {
        if self.op.is != Op::Is {
            return Err(self.wrong_op("="));
        }
        read(&self.word()?.text).map_err(|problem| self.wrong_value(problem))
    }

    /// The words of the value, and whether they are wanted.
    fn words(&self) -> Narrowed<(BTreeSet<String>, bool)> {
        let wanted = match self.op.is {
            Op::Is | Op::In => true,
            Op::IsNot | Op::NotIn => false,
            _ => return Err(self.wrong_op("= != in or notin")),
        };
        let words: BTreeSet<String> = match &self.value.is {
            Value::Word(word) => [word.text.to_string()].into(),
            Value::Set(words) => words.iter().map(|word| word.is.text.to_string()).collect(),
        };
        if words.is_empty() {
            return Err(self.wrong_value("a set needs a word, such as [eu,us]"));
        }
        Ok((words, wanted))
    }

    fn said_choice(&self) -> Narrowed<Choice> {
        let (words, wanted) = self.words()?;
        Ok(if wanted { Choice::OneOf(words) } else { Choice::NoneOf(words) })
    }

    /// A choice where a word names exactly one thing: what was said before still holds.
    fn choice(&self, slot: &mut Option<Choice>) -> Narrowed {
        let said = self.said_choice()?;
        let narrowed = slot.as_ref().map_or(Some(said.clone()), |before| before.and(&said));
        *slot = Some(narrowed.ok_or_else(|| self.contradiction("nothing"))?);
        Ok(())
    }

    /// A choice where two words may name the same thing, so that sets of them can't be intersected.
    fn one_choice(&self, slot: &mut Option<Choice>) -> Narrowed {
        let said = self.said_choice()?;
        *slot = Some(match (slot.as_ref(), said) {
            (None, said) => said,
            (Some(before), said) if *before == said => said,
            (Some(Choice::NoneOf(before)), Choice::NoneOf(said)) => Choice::NoneOf(before | &said),
            _ => {
                let problem = format!("{0} was said before: say it once, such as {0} in [a,b]", self.name());
                return Err(Fault::new(self.whole, problem));
            }
        });
        Ok(())
    }

    fn label(&self, asked: &mut Requirements) -> Narrowed {
        let key = self.key.unwrap_or(self.name()).to_owned();
        let mut choice = asked.labels.remove(&key);
        self.choice(&mut choice)?;
        asked.labels.extend(choice.map(|choice| (key, choice)));
        Ok(())
    }

    fn traits(&self, asked: &mut Requirements) -> Narrowed {
        let (words, wanted) = self.words()?;
        add_traits(asked, words, wanted);
        Ok(())
    }

    fn tier(&self, asked: &mut Requirements) -> Narrowed {
        let (words, wanted) = self.words()?;
        let tier = |word: &String| [Tier::Kvm, Tier::Emulated].into_iter().find(|tier| tier.to_string() == *word);
        if words.iter().any(|word| tier(word).is_none()) {
            return Err(self.wrong_value("a tier is kvm or emulated"));
        }
        let takes = |tier: Tier| words.contains(&tier.to_string()) == wanted;
        match (takes(Tier::Kvm), takes(Tier::Emulated)) {
            (true, true) => once(&mut asked.emulated, true, self.whole, "emulated"),
            (true, false) => once(&mut asked.tier, Tier::Kvm, self.whole, "tier"),
            (false, true) => once(&mut asked.tier, Tier::Emulated, self.whole, "tier"),
            (false, false) => Err(self.contradiction("nothing")),
        }
    }

    fn emulated(&self, asked: &mut Requirements) -> Narrowed {
        let emulated = self.exactly(|text| match text {
            "yes" | "true" => Ok(true),
            "no" | "false" => Ok(false),
            other => Err(format!("{} is not yes, no or any", quoted(other))),
        })?;
        once(&mut asked.emulated, emulated, self.whole, "emulated")
    }

    fn order(&self, asked: &mut Requirements) -> Narrowed {
        if self.op.is != Op::Is {
            return Err(self.wrong_op("="));
        }
        if !asked.order.is_empty() {
            return Err(Fault::new(self.whole, "order was said before: say it once, such as order=[price,-memory]"));
        }
        let key = |word: &Word<'_>, at: &Range<usize>| {
            word.text.parse().map_err(|_| {
                let orders = crate::requirements::OrderBy::ALL.map(|by| by.word());
                let meant = names::nearest(word.text.trim_start_matches('-'), orders);
                let problem = format!(
                    "{} is no order: {}, or one of them with - before it",
                    quoted(&word.text),
                    orders.join(", ")
                );
                Fault { at: at.clone(), problem, meant }
            })
        };
        asked.order = match &self.value.is {
            Value::Word(word) => vec![key(word, &self.value.at)?],
            Value::Set(words) => words.iter().map(|word| key(&word.is, &word.at)).collect::<Narrowed<_>>()?,
        };
        if asked.order.is_empty() { Err(self.wrong_value("an order needs a key, such as price")) } else { Ok(()) }
    }
}
