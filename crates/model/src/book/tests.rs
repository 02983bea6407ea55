//! The book against the plain scan, on random markets: whatever the market, whatever changed in
//! it, whatever is asked, both find the same, in the same order.

mod market;
mod nearest;
mod order;
pub(super) mod plain;
mod quick;
mod told;

use super::{Book, Search, scan};
use market::{Market, Random, requirements};
use proptest::prelude::*;

/// Asks both, and says where they differ.
fn check(market: &Market, book: &Book, random: &mut Random) {
    let (requirements, client) = (requirements(random), market.client(random));
    let Ok((needs, _)) = requirements.resolve() else { return };
    let images: Vec<_> = market.images.iter().collect();
    let listings = market.listings();
    let by_scan = scan::find(&listings, &needs, client, &images, market.now).unwrap_or_default();
    let search = Search { needs: &needs, client, images: &images, now: market.now };
    let found = book.find(&search, usize::MAX, |host| market.is_heard(host));
    let by_book: Vec<_> = found.matches.iter().map(|(hit, _)| hit.clone()).collect();
    assert_eq!(by_book, by_scan, "{requirements:?}");
    let few = random.below(5) as usize + 1;
    let found = book.find(&search, few, |host| market.is_heard(host));
    assert!(found.matches.iter().map(|(hit, _)| hit).eq(by_scan.iter().take(few)), "the best {few}");
    assert_eq!(found.looked.admitted, by_scan.len().min(few));
}

/// How many random markets: `BOOK_MARKETS` of them, where somebody takes the time.
fn markets(usual: u32) -> u32 {
    std::env::var("BOOK_MARKETS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: markets(100), ..ProptestConfig::default() })]

    #[test]
    fn the_book_finds_what_the_scan_finds(seed in any::<u64>(), hosts in 0usize..90, changes in 0usize..60) {
        let mut random = Random(seed);
        let mut market = Market::new(&mut random, hosts);
        let mut book = market.book();
        for _ in 0..3 {
            for _ in 0..8 {
                check(&market, &book, &mut random);
            }
            for _ in 0..changes {
                market.change(&mut random, &mut book);
            }
            prop_assert_eq!(book.fault(), None);
            prop_assert!(book.says_the_same(&market.book()));
        }
    }
}

#[test]
fn a_book_that_grew_from_nothing_is_as_good() {
    let mut random = Random(11);
    let market = Market::new(&mut random, 400);
    let mut book = Book::default();
    for host in &market.hosts {
        book.set(&host.lending(), &host.lent());
    }
    assert_eq!(book.fault(), None);
    assert!(book.says_the_same(&market.book()) && book.len() > 800);
    (0..50).for_each(|_| check(&market, &book, &mut random));
    for host in &market.hosts {
        book.remove(host.id);
    }
    assert!(book.is_empty() && book.fault().is_none());
}
