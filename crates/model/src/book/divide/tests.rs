use super::*;
use crate::book::tests::plain::{conditions, inventory, row};
use crate::host::Inventory;
use crate::offer::Conditions;

const COLUMNS: [Column; 17] = [
    Column::Price(0),
    Column::Price(1),
    Column::Price(2),
    Column::Price(3),
    Column::Price(4),
    Column::Reach(0),
    Column::Reach(1),
    Column::Reach(2),
    Column::Least(0),
    Column::Least(1),
    Column::Least(2),
    Column::Shortest,
    Column::Longest,
    Column::Unreliable,
    Column::Threads,
    Column::Speed,
    Column::Listed,
];

/// Rows that differ in nothing but their numbers, then edited.
fn rows(count: u32, edit: impl Fn(i64, &mut Row)) -> (Vec<Row>, Classes) {
    let mut classes = Classes::default();
    let mut rows: Vec<Row> = (0..count).map(|n| row(n, &mut classes)).collect();
    rows.iter_mut().for_each(|row| edit(row.number.into(), row));
    (rows, classes)
}

#[test]
fn every_column_is_read() {
    let (rows, _) = rows(24, |_, _| {});
    let read = COLUMNS.map(|column| column.of(&rows[23]));
    assert_eq!(read, [3, 5, 7, 9, 11, 4000, 4096, 40, 100, 64, 1, 60, 7200, 13, 8, 17, 19]);
    assert_eq!(Column::Number.of(&rows[23]), 23);
}

#[test]
fn a_rule_tells_left_from_right() {
    let (rows, classes) = rows(1, |_, _| {});
    let at_most = |most| Rule::AtMost(Column::Listed, most).is_left(&rows[0], &classes);
    assert_eq!([18, 19, 20].map(at_most), [false, true, true]);
    let signature = classes.signature(rows[0].class);
    for word in 0..4 {
        for bit in 0..64 {
            let is_set = signature.0[word] & (1 << bit) != 0;
            assert_eq!(Rule::Fact { word, bit }.is_left(&rows[0], &classes), is_set, "{word}, {bit}");
        }
    }
}

/// Of `count` rows, the first `aarch64` of them of another architecture.
fn mixed(count: u32, aarch64: i64) -> (Vec<Row>, Classes) {
    let (mut rows, mut classes) = rows(count, |_, _| {});
    let other = classes.enter(&Inventory { arch: "aarch64".into(), ..inventory() }, &conditions());
    rows.iter_mut().filter(|row| i64::from(row.number) < aarch64).for_each(|row| row.class = other);
    (rows, classes)
}

#[test]
fn facts_are_worth_the_more_the_nearer_to_half() {
    let (rows, classes) = mixed(8, 2);
    let sample: Vec<&Row> = rows.iter().collect();
    let mut found = facts(&sample, &classes);
    found.sort_by_key(|(word, bit, _)| (*word, *bit));
    let place = |name: &str| Signature::arch(name).0[0].trailing_zeros();
    let mut expected = vec![(0, place("aarch64"), 0.35 * 0.75), (0, place("x86_64"), 0.35 * 0.75)];
    expected.sort_by_key(|(word, bit, _)| (*word, *bit));
    assert_eq!(found.len(), 2, "what all have tells nothing: {found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1), (expected.0, expected.1));
        assert!((found.2 - expected.2).abs() < 1e-12, "{found:?}");
    }
    let (rows, classes) = mixed(8, 0);
    assert!(facts(&rows.iter().collect::<Vec<_>>(), &classes).is_empty());
}

#[test]
fn columns_are_worth_what_they_differ_by() {
    // 21 rows from 1 to 21: without the outer tenths from 3 to 19, in the middle 11.
    let (rows, _) = rows(21, |n, row| {
        let n = n as u32 + 1;
        row.prices = [n, 2 * n, 3 * n, 4 * n, 5 * n];
        row.reach = [n, 10 * n, 100 * n];
        row.least = [n, 3 * n, 7 * n];
        (row.shortest, row.longest) = (n, 60 * n);
        (row.threads, row.unreliable, row.speed) = (n as u16, 3 * n as u16, 1000 * n);
        row.listed = i64::from(n) * 1_000_000_000_000;
    });
    let sample: Vec<&Row> = rows.iter().collect();
    let usual = 11.0 * (1.0 + 2.0 + 2.0 * 3.0 + 4.0 * 4.0 + 20.0 * 5.0) + 1.0;
    let doublings = |scale: f64| ((19.0 * scale + 1.0) / (3.0 * scale + 1.0)).log2();
    let expected = [
        (Column::Price(0), 16.0 / usual),
        (Column::Price(1), 32.0 / usual),
        (Column::Price(2), 2.0 * 48.0 / usual),
        (Column::Price(3), 4.0 * 64.0 / usual),
        (Column::Price(4), 20.0 * 80.0 / usual),
        (Column::Reach(0), 0.015 * doublings(1.0)),
        (Column::Least(0), 0.005 * doublings(1.0)),
        (Column::Reach(1), 0.015 * doublings(10.0)),
        (Column::Least(1), 0.005 * doublings(3.0)),
        (Column::Reach(2), 0.015 * doublings(100.0)),
        (Column::Least(2), 0.005 * doublings(7.0)),
        (Column::Shortest, 0.003 * doublings(1.0)),
        (Column::Longest, 0.003 * doublings(60.0)),
        (Column::Threads, 0.003 * doublings(1.0)),
        (Column::Speed, 0.005 * doublings(1000.0)),
        (Column::Unreliable, 0.003 * doublings(3.0)),
        (Column::Listed, 16e12 * 1e-18),
    ];
    let found: Vec<_> = columns(&sample).collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.0, expected.0);
        assert!((found.1 - expected.1).abs() < 1e-9 * expected.1, "{found:?}, not {}", expected.1);
    }
}

#[test]
fn what_differs_most_divides_and_of_equals_the_first() {
    let rule = |rows: &mut [Row], classes: &Classes| divide(rows, rows.len() / 2, classes);
    let (mut same, classes) = rows(9, |_, _| {});
    assert_eq!(rule(&mut same, &classes), (Rule::AtMost(Column::Number, 3), 4), "nothing but the number");
    let (mut speeds, classes) = rows(9, |n, row| row.speed = 2 << n);
    assert_eq!(rule(&mut speeds, &classes), (Rule::AtMost(Column::Speed, 16), 4));
    assert!(speeds[..4].iter().all(|row| row.speed <= 16) && speeds[4..].iter().all(|row| row.speed > 16));
    // Once and an hour weigh the same: the one that is looked at first divides.
    let (mut prices, classes) =
        rows(9, |n, row| (row.prices, row.speed) = ([n as u32, n as u32, 0, 0, 0], 2 << (n % 2)));
    assert_eq!(rule(&mut prices, &classes), (Rule::AtMost(Column::Price(0), 3), 4));
}

#[test]
fn a_fact_that_half_have_goes_before_small_differences() {
    let (mut rows, classes) = mixed(9, 5);
    rows.reverse();
    let (rule, at) = divide(&mut rows, 4, &classes);
    let Rule::Fact { .. } = rule else { panic!("{rule:?}") };
    assert!(at == 4 || at == 5, "as many as have it");
    assert!(rows.iter().enumerate().all(|(i, row)| rule.is_left(row, &classes) == (i < at)));
}

#[test]
fn many_are_judged_by_a_sample() {
    // Every third of 190 is looked at: what only the others have is not seen.
    let (mut rows, classes) = rows(190, |n, row| row.speed = if n % 3 == 0 { 17 } else { 17 << (n % 9) });
    assert!(matches!(divide(&mut rows, 95, &classes), (Rule::AtMost(Column::Number, 94), 95)));
    let none = Conditions { labels: Default::default(), ..conditions() };
    let mut classes = classes;
    let class = classes.enter(&inventory(), &none);
    rows.iter_mut().for_each(|row| row.class = if row.number % 2 == 0 { class } else { row.class });
    assert!(matches!(divide(&mut rows, 95, &classes), (Rule::Fact { .. }, 95)));
}
