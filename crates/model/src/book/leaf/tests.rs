//! What columns say, one at a time.

use super::*;
use crate::book::class::Classes;
use crate::book::tests::plain::row;

/// Just met by the row of the tests.
fn floor() -> Floor {
    Floor {
        need: [4000, 4096, 40],
        at_most: [100, 64, 1],
        threads: 8,
        speed: 17,
        unreliable: 13,
        shortest: 60,
        longest: 7200,
    }
}

fn leaf(rows: &[Row]) -> Leaf {
    let mut leaf = Leaf::new();
    rows.iter().enumerate().for_each(|(at, row)| leaf.set(at, row));
    leaf
}

#[test]
fn every_column_alone_keeps_a_partition_out() {
    let row = row(3, &mut Classes::default());
    let fits = |row: &Row, floor: &Floor| leaf(&[*row]).fitting(floor) == 1;
    assert!(fits(&row, &floor()), "what is just met fits");
    type Edit = fn(&mut Row, &mut Floor);
    let edits: [Edit; 15] = [
        |_, floor| floor.need[0] += 1,
        |_, floor| floor.need[1] += 1,
        |_, floor| floor.need[2] += 1,
        |_, floor| floor.at_most[0] -= 1,
        |_, floor| floor.at_most[1] -= 1,
        |_, floor| floor.at_most[2] -= 1,
        |_, floor| floor.speed += 1,
        |_, floor| floor.shortest -= 1,
        |_, floor| floor.longest += 1,
        |_, floor| floor.threads += 1,
        |_, floor| floor.unreliable -= 1,
        |row, floor| (row.least[0], floor.at_most[0]) = (4001, 4001),
        |row, floor| (row.least[1], floor.at_most[1]) = (4097, 4097),
        |row, floor| (row.least[2], floor.at_most[2]) = (41, 41),
        |row, _| row.free = false,
    ];
    for (n, edit) in edits.iter().enumerate() {
        let (mut row, mut floor) = (row, floor());
        edit(&mut row, &mut floor);
        assert!(!fits(&row, &floor), "edit {n}");
    }
}

#[test]
fn a_place_is_taken_again_with_all_its_bits() {
    let row = row(3, &mut Classes::default());
    let busy = Row { free: false, number: 4, ..row };
    let mut leaf = leaf(&[row, row, busy]);
    assert_eq!((leaf.len(), leaf.free), (3, 0b011));
    leaf.set(0, &row);
    assert_eq!((leaf.free, leaf.row(0)), (0b011, row), "free stays free");
    leaf.set(1, &busy);
    assert_eq!((leaf.free, leaf.row(1)), (0b001, busy));
    assert_eq!(leaf.swap_remove(0), Some(4), "the last comes into its place");
    assert_eq!((leaf.len(), leaf.free, leaf.row(0)), (2, 0, busy));
    assert_eq!(leaf.swap_remove(1), None);
    assert_eq!(leaf.len(), 1);
}

#[test]
fn a_summary_is_the_best_of_what_is_free_and_all_facts() {
    let mut classes = Classes::default();
    let row = row(3, &mut classes);
    let other = Row {
        reach: [1, 9000, 2],
        least: [7, 1, 9],
        prices: [9, 1, 8, 2, 7],
        unreliable: 1,
        threads: 2,
        speed: 90,
        shortest: 70,
        longest: 9000,
        listed: 2,
        class: 8,
        ..row
    };
    let best_of_all = Row { free: false, reach: [u32::MAX; 3], class: 9, ..row };
    let asked = std::cell::RefCell::new(Vec::new());
    let signature = |class: u32| {
        asked.borrow_mut().push(class);
        Signature([u64::from(class), 0, 0, 0])
    };
    let summary = leaf(&[row, row, other, best_of_all]).summary(signature);
    let expected = Summary {
        free: 3,
        reach: [4000, 9000, 40],
        least: [7, 1, 1],
        prices: [3, 1, 7, 2, 7],
        unreliable: 1,
        threads: 8,
        speed: 90,
        shortest: 60,
        longest: 9000,
        listed: 2,
        signature: Signature([u64::from(row.class) | 8 | 9, 0, 0, 0]),
    };
    assert_eq!(summary, expected);
    assert_eq!(asked.into_inner(), [row.class, 8, 9], "like ones side by side are asked of once");
}

#[test]
fn bytes_become_bits_in_their_order() {
    for at in 0..ROOM {
        let mut one = [0u8; ROOM];
        one[at] = 1;
        assert_eq!(packed(&one), 1 << at);
        let all_but = one.map(|b| 1 - b);
        assert_eq!(packed(&all_but), !(1 << at));
        assert!(bits(1 << at).eq([at]));
    }
    assert_eq!(bits(0b1011).collect::<Vec<_>>(), [0, 1, 3]);
}
