//! The text form as it is printed: one way for each meaning, in a fixed order.

use super::amounts::{Amount, Permille};
use super::names::{Property, is_known_trait};
use super::syntax::is_bare;
use crate::requirements::{Bounds, Choice, OrderKey, Requirements};
use std::fmt::{self, Display, Formatter};

impl Display for Requirements {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut clauses = Vec::new();
        bounds(&mut clauses, "cpu", self.cpu);
        bounds(&mut clauses, "memory", self.memory);
        bounds(&mut clauses, "disk", self.disk);
        bounds(&mut clauses, "vcpus", self.vcpus);
        let choices = [
            ("os", &self.os),
            ("image", &self.image),
            ("arch", &self.arch),
            ("cpu_model", &self.cpu_model),
            ("host", &self.host),
        ];
        for (name, choice) in choices {
            clauses.extend(choice.as_ref().map(|choice| chosen(name, choice)));
        }
        clauses.extend(self.labels.iter().map(|(key, choice)| chosen(&label(key), choice)));
        clauses.extend(self.traits.iter().map(|name| named_trait(name, true)));
        clauses.extend(self.without_traits.iter().map(|name| named_trait(name, false)));
        clauses.extend(self.tier.map(|tier| format!("tier={tier}")));
        clauses.extend(self.emulated.map(|yes| format!("emulated={}", if yes { "yes" } else { "no" })));
        clauses.extend(self.speed_at_least.map(|speed| format!("speed>={speed}")));
        clauses.extend(self.reliability_permille_at_least.map(|r| format!("reliability>={}", Permille(r))));
        clauses.extend(self.price_at_most.map(|price| format!("price<={price}")));
        clauses.extend(self.total_at_most.map(|total| format!("total<={total}")));
        clauses.extend(self.term_seconds.map(|term| format!("term={term}")));
        clauses.extend(self.count.map(|count| format!("count={count}")));
        clauses.extend((!self.order.is_empty()).then(|| order(&self.order)));
        f.write_str(&clauses.join(" "))
    }
}

fn bounds<A: Amount>(clauses: &mut Vec<String>, name: &str, asked: Option<Bounds<A>>) {
    clauses.extend(asked.map(|asked| match asked {
        Bounds::AtLeast(least) => format!("{name}>={least}"),
        Bounds::AtMost(most) => format!("{name}<={most}"),
        Bounds::Between(least, most) if least == most => format!("{name}={least}"),
        Bounds::Between(least, most) => format!("{name}={least}..{most}"),
    }));
}

fn chosen(name: &str, choice: &Choice) -> String {
    let words: Vec<String> = choice.words().iter().map(|w| word(w)).collect();
    match (choice, &words[..]) {
        (Choice::OneOf(_), [one]) => format!("{name}={one}"),
        (Choice::NoneOf(_), [one]) => format!("{name}!={one}"),
        (Choice::OneOf(_), _) => format!("{name} in [{}]", words.join(",")),
        (Choice::NoneOf(_), _) => format!("{name} notin [{}]", words.join(",")),
    }
}

fn named_trait(name: &str, wanted: bool) -> String {
    match (is_known_trait(name), wanted) {
        (true, true) => name.into(),
        (true, false) => format!("!{name}"),
        (false, true) => format!("trait={}", word(name)),
        (false, false) => format!("trait!={}", word(name)),
    }
}

/// The name of a label's property.
pub fn label(key: &str) -> String {
    if key == Property::Region.name() {
        return key.into();
    }
    let plain = !key.is_empty() && key.chars().all(is_bare);
    format!("label.{}", if plain { key.into() } else { in_quotes(key) })
}

fn word(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(is_bare) && text != "any";
    if plain { text.into() } else { in_quotes(text) }
}

fn in_quotes(text: &str) -> String {
    let kept: String =
        text.chars().flat_map(|c| ['"', '\\'].contains(&c).then_some('\\').into_iter().chain([c])).collect();
    format!("\"{kept}\"")
}

fn order(keys: &[OrderKey]) -> String {
    match keys {
        [one] => format!("order={one}"),
        _ => format!("order=[{}]", keys.iter().map(OrderKey::to_string).collect::<Vec<_>>().join(",")),
    }
}
