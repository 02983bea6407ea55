//! For any requirements: what is printed is read as the same. For any text: nothing breaks.

use crate::host::Tier;
use crate::requirements::{Bounds, Choice, OrderBy, OrderKey, Requirements};
use crate::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use std::ops::RangeInclusive;

fn bounds<T: Copy + Ord + std::fmt::Debug>(
    amounts: RangeInclusive<i64>,
    unit: fn(i64) -> T,
) -> impl Strategy<Value = Option<Bounds<T>>> {
    let ends = (of(amounts.clone()), of(amounts));
    ends.prop_map(move |(a, b)| match (a, b) {
        (Some(a), Some(b)) => Bounds::new(Some(unit(a.min(b))), Some(unit(a.max(b)))),
        (a, b) => Bounds::new(a.map(unit), b.map(unit)),
    })
}

/// Words as people have them, and words that need quotes.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9._@:+~/-]{1,12}", Just("any".to_owned()), Just("..".to_owned()), "[ -~]{1,12}", "\\PC{1,12}",]
        .prop_filter("as the structured form takes it", |w| {
            (1..=63).contains(&w.len()) && !w.chars().any(char::is_control)
        })
}

fn choice() -> impl Strategy<Value = Choice> {
    (btree_set(word(), 1..4), any::<bool>())
        .prop_map(|(words, wanted)| if wanted { Choice::OneOf(words) } else { Choice::NoneOf(words) })
}

fn traits() -> impl Strategy<Value = String> {
    prop_oneof![Just("avx2".to_owned()), Just("kvm".to_owned()), Just("cpu".to_owned()), word()]
}

fn order() -> impl Strategy<Value = Vec<OrderKey>> {
    let key = (0..OrderBy::ALL.len(), any::<bool>());
    vec(key.prop_map(|(by, reversed)| OrderKey { by: OrderBy::ALL[by], reversed }), 0..=3)
}

fn requirements() -> impl Strategy<Value = Requirements> {
    let sizes = (
        bounds(100..=4_096_000, Millicores),
        bounds(64..=64 << 20, MiB),
        bounds(0..=16 << 20, GiB),
        bounds(1..=4096, |n| n as u16),
    );
    let choices = (of(choice()), of(choice()), of(choice()), of(choice()), of(choice()));
    let named = (btree_map(word(), choice(), 0..4), btree_set(traits(), 0..4), btree_set(traits(), 0..4));
    let kind =
        (of(prop_oneof![Just(Tier::Kvm), Just(Tier::Emulated)]), of(any::<bool>()), of(any::<u32>()), of(0..=1000u16));
    let deal = (of(0..=MicrosPerHour::MAX.0), of(0..=i64::MAX), of(1..=Seconds::MAX.0), of(1..=64u16), order());
    (sizes, choices, named, kind, deal)
        .prop_map(|(sizes, choices, named, kind, deal)| Requirements {
            cpu: sizes.0,
            memory: sizes.1,
            disk: sizes.2,
            vcpus: sizes.3,
            os: choices.0,
            image: choices.1,
            arch: choices.2,
            cpu_model: choices.3,
            host: choices.4,
            labels: named.0,
            traits: named.1,
            without_traits: named.2,
            tier: kind.0,
            emulated: kind.1,
            speed_at_least: kind.2,
            reliability_permille_at_least: kind.3,
            price_at_most: deal.0.map(MicrosPerHour),
            total_at_most: deal.1.map(Micros),
            term_seconds: deal.2.map(Seconds),
            count: deal.3,
            order: deal.4,
        })
        .prop_filter("what can be asked at all", |asked| asked.resolve().is_ok())
}

/// Texts that are nearly right: pieces of the language in any order.
fn nearly() -> impl Strategy<Value = String> {
    let pieces = [
        "cpu", "memory", "os", "region", "label.", "label.x", "order", "term", "price", ">=", "<=", "=", "!=", "<",
        ">", " in ", " notin ", " not in ", "4", "8GiB", "..", "500m", "2h30m", "0.05/h", "[", "]", ",", " ", "\"",
        "\\", "!", "any", "avx2", "debian", "ö", "\n", "\u{202e}",
    ];
    vec(prop::sample::select(pieces.to_vec()), 0..24).prop_map(|pieces| pieces.concat())
}

/// Neither panic nor nonsense; and what is read is printed as itself.
fn holds(text: &str) {
    match text.parse::<Requirements>() {
        Ok(asked) => {
            let printed = asked.to_string();
            assert_eq!(printed.parse::<Requirements>().as_ref(), Ok(&asked), "{text:?} -> {printed:?}");
            assert_eq!(printed.parse::<Requirements>().unwrap().to_string(), printed);
        }
        Err(error) => {
            assert!(text.is_char_boundary(error.offset) && text.is_char_boundary(error.end), "{text:?}: {error:?}");
            assert!(error.offset <= error.end && error.column >= 1 && error.line >= 1);
            let shown = error.pointed_out(text);
            assert_eq!(shown.matches('\n').count(), 1, "{text:?}: {shown:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_as_the_same(asked in requirements()) {
        let text = asked.to_string();
        let again = text.parse::<Requirements>();
        prop_assert_eq!(again.as_ref(), Ok(&asked), "{}", text);
        let json = serde_json::to_string(&asked).unwrap();
        prop_assert_eq!(serde_json::from_str::<Requirements>(&json).unwrap(), asked);
    }

    #[test]
    fn no_text_breaks_it(text in "\\PC{0,60}") {
        holds(&text);
    }

    #[test]
    fn no_bytes_break_it(text in any::<String>()) {
        holds(&text);
    }

    #[test]
    fn nothing_nearly_right_breaks_it(text in nearly()) {
        holds(&text);
    }
}
