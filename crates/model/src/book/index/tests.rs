use super::*;
use crate::book::Search;
use crate::book::leaf::Leaf;
use crate::book::tests::plain::{Computer, account, image, partition};
use crate::book::tree::Body;
use crate::requirements::Requirements;
use crate::units::{MicrosPerHour, Seconds};

const NOW: Timestamp = Timestamp(1_000);

fn book(computers: &[Computer]) -> Book {
    let mut book = Book::default();
    for computer in computers {
        set(&mut book, computer);
    }
    assert_eq!(book.fault(), None);
    book
}

fn set(book: &mut Book, computer: &Computer) {
    computer.told(|lending, lent| book.set(lending, lent));
}

fn found(book: &Book, text: &str) -> Vec<PartitionId> {
    let requirements: Requirements = text.parse().unwrap();
    let (needs, _) = requirements.resolve().unwrap();
    let image = image();
    let search = Search { needs: &needs, client: account(9), images: &[&image], now: NOW };
    let matches = book.find(&search, 100, |_| true).matches;
    matches.into_iter().map(|(hit, _)| hit.partition).collect()
}

#[test]
fn a_host_is_found_by_its_name_and_by_its_new_one() {
    let mut book = book(&[Computer::new(1), Computer::new(2)]);
    assert_eq!(found(&book, "host=host-1"), [partition(1)]);
    assert_eq!(found(&book, "host in [host-2,host-1]").len(), 2);
    set(&mut book, &Computer::new(1).with(|c| c.name = "other".into()));
    assert_eq!((found(&book, "host=host-1"), found(&book, "host=other")), (vec![], vec![partition(1)]));
    set(&mut book, &Computer::new(3).with(|c| c.name = "other".into()));
    assert_eq!(found(&book, "host=other"), [partition(1), partition(3)], "names may be the same");
    book.remove(Computer::new(1).host());
    assert_eq!(found(&book, "host=other"), [partition(3)]);
}

#[test]
fn partitions_of_one_host_may_be_lent_by_different_offers() {
    let mut book = Book::default();
    let two = Computer::new(1);
    let other = Computer::new(2).with(|c| c.conditions.labels = [("region".to_owned(), "us".to_owned())].into());
    two.told(|lending, lent| book.set(lending, &[lent[0].clone(), other.lent.clone()]));
    assert_eq!((book.len(), book.classes_len(), book.is_empty()), (2, 2, false));
    assert_eq!(found(&book, "region=us"), [partition(2)]);
    assert_eq!(found(&book, "region=eu"), [partition(1)]);
    // The same told again, as other rows that are equal: nothing is added.
    let again = two.clone().with(|_| {});
    again.told(|lending, lent| book.set(lending, &[lent[0].clone(), other.clone().with(|_| {}).lent]));
    assert_eq!((book.offers.len(), book.unused_offers.len(), book.cards.len()), (2, 0, 2));
    two.told(|lending, lent| book.set(lending, lent));
    assert_eq!((book.offers.len(), book.unused_offers.len(), book.classes_len()), (2, 1, 1));
    assert_eq!((found(&book, "region=us"), found(&book, "region=eu")), (vec![], vec![partition(1)]));
    assert_eq!(book.fault(), None);
}

#[test]
fn an_offer_is_kept_while_a_partition_is_lent_by_it() {
    let (one, mut second) = (Computer::new(1), Computer::new(2).lent);
    second.offer = Arc::clone(&one.lent.offer);
    let mut book = Book::default();
    one.told(|lending, lent| book.set(lending, &[lent[0].clone(), second.clone()]));
    assert_eq!((book.offers.len(), book.offers[0].rows), (1, 2));
    one.told(|lending, lent| book.set(lending, lent));
    assert_eq!((book.offers[0].rows, book.unused_offers.len()), (1, 0));
    book.remove(one.host());
    assert_eq!((book.unused_offers.len(), book.unused_cards.len(), book.unused_hosts.len()), (1, 2, 1));
    set(&mut book, &Computer::new(7));
    assert_eq!((book.offers.len(), book.cards.len(), book.hosts.len(), book.len()), (1, 2, 1, 1));
}

#[test]
fn each_shows_what_is_not_closed() {
    let closed = |until: i64| move |c: &mut Computer| c.lent.closed_until = Some(Timestamp(until));
    let book = book(&[
        Computer::new(1).with(|c| c.reliability = 940),
        Computer::new(2).with(closed(NOW.0)),
        Computer::new(3).with(closed(NOW.0 + 1)),
        Computer::new(4).with(|c| c.lent.free = false),
    ]);
    let mut shown = Vec::new();
    book.each(NOW, |host, l| shown.push((host, l.partition, l.reliability_permille, l.reach.is_some())));
    shown.sort();
    let told = |n: u128, reliability, free| (Computer::new(n).host(), partition(n), reliability, free);
    assert_eq!(shown, [told(1, 940, true), told(2, 990, true), told(4, 990, false)]);
}

#[test]
fn what_stays_among_its_like_stays_where_it_is() {
    let flat = |n: u128| MicrosPerHour(n as i64 * 100);
    let many: Vec<_> = (1..=200).map(|n| Computer::new(n).with(|c| c.conditions.prices.flat = flat(n))).collect();
    let mut book = book(&many);
    let place = |book: &Book| {
        let (leaf, at) = book.tree.place(0);
        (std::ptr::from_ref::<Leaf>(leaf), at)
    };
    let before = place(&book);
    set(&mut book, &many[0].clone().with(|c| c.lent.free = false));
    assert_eq!(place(&book), before);
    set(&mut book, &many[0].clone().with(|c| c.inventory.speed = 9));
    assert_eq!(place(&book), before);
    set(&mut book, &many[0].clone().with(|c| c.conditions.prices.flat = MicrosPerHour(19_950)));
    assert_ne!(place(&book), before, "dear among the dear");
    set(&mut book, &many[0]);
    assert_eq!(place(&book).0, before.0, "back among the cheap");
    assert_eq!(book.fault(), None);
}

#[test]
fn books_that_say_something_else_are_not_the_same() {
    let one = || book(&[Computer::new(1), Computer::new(2)]);
    assert!(one().says_the_same(&book(&[Computer::new(2), Computer::new(1)])), "however they are arranged");
    let differing = [
        book(&[]),
        book(&[Computer::new(1)]),
        book(&[Computer::new(1), Computer::new(3)]),
        book(&[Computer::new(1), Computer::new(2).with(|c| c.conditions.prices.flat = MicrosPerHour(1))]),
        book(&[Computer::new(1), Computer::new(2).with(|c| c.lent.free = false)]),
        book(&[Computer::new(1), Computer::new(2).with(|c| c.lent.closed_until = Some(Timestamp(1)))]),
    ];
    for other in differing {
        assert!(!one().says_the_same(&other) && !other.says_the_same(&one()), "{:?}", other.told());
    }
}

#[test]
fn a_book_whose_tree_lies_has_a_fault() {
    let mut book = book(&[Computer::new(1)]);
    book.classes = Classes::default();
    let us = Computer::new(1).with(|c| c.conditions.labels.clear());
    book.classes.enter(&us.inventory, &us.conditions);
    assert!(book.fault().is_some());
}

#[test]
fn its_bytes_are_those_of_its_parts() {
    let mut book = book(&(1..=100).map(Computer::new).collect::<Vec<_>>());
    set(&mut book, &Computer::new(1).with(|c| c.inventory.arch = "aarch64".into()));
    assert!(matches!(book.tree.node(0).body, Body::Inner { .. }) && book.classes_len() == 2);
    // So that no two of the parts are alike by chance.
    book.host_numbers.reserve(5000);
    book.hosts.reserve_exact(77);
    book.offers.reserve_exact(333);
    let parts = [
        (1, book.tree.bytes()),
        (book.cards.capacity(), size_of::<Card>()),
        (book.hosts.capacity(), size_of::<HostCard>()),
        (book.host_numbers.capacity(), size_of::<(HostId, u32)>() + 1),
        (100, size_of::<(Arc<str>, u32)>() + 40),
        (book.offers.capacity(), size_of::<OfferCard>()),
        (2, 600),
    ];
    assert_eq!(book.bytes(), parts.map(|(n, each)| n * each).iter().sum::<usize>());
}

#[test]
fn a_thousand_offers_of_few_kinds_take_little() {
    let all: Vec<_> = (1..=1000).map(Computer::new).collect();
    let inventory = Arc::new(all[0].inventory.clone());
    let told = all.iter().map(|c| {
        let lending =
            Lending { host: c.host(), name: &c.name, inventory: &inventory, reliability_permille: c.reliability };
        (lending, (0..10).map(|n| Lent { partition: partition(c.id * 100 + n), ..c.lent.clone() }).collect())
    });
    let book = Book::of(told);
    assert_eq!((book.len(), book.classes_len(), book.offers.len()), (10_000, 1, 1000));
    assert!(book.bytes() <= 200 * book.len(), "{} an offer", book.bytes() / book.len());
    assert_eq!(found(&book, "term=1h").len(), 100);
    assert_eq!(all[0].conditions.shortest_term_seconds, Seconds(60));
}
