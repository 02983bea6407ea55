//! In which order matches come, and how much is looked at to find them.

use super::plain::{Computer, account, image, partition};
use crate::book::{Book, Listing, Looked, Search, Unfit, scan};
use crate::host::Tier;
use crate::ids::PartitionId;
use crate::image::ImageManifest;
use crate::partition::alter::resources;
use crate::requirements::Requirements;
use crate::units::{MicrosPerHour, Seconds, Timestamp};

const NOW: Timestamp = Timestamp(1000);

fn book(computers: &[Computer]) -> Book {
    let mut book = Book::default();
    computers.iter().for_each(|computer| computer.told(|lending, lent| book.set(lending, lent)));
    book
}

fn find(book: &Book, image: &ImageManifest, asked: &str, limit: usize) -> (Vec<PartitionId>, Looked) {
    let (needs, _) = asked.parse::<Requirements>().unwrap().resolve().unwrap();
    let images = [image];
    let search = Search { needs: &needs, client: account(9), images: &images, now: NOW };
    let found = book.find(&search, limit, |_| true);
    (found.matches.into_iter().map(|(hit, _)| hit.partition).collect(), found.looked)
}

fn scanned(computers: &[Computer], asked: &str) -> Result<Vec<PartitionId>, Vec<(Unfit, usize)>> {
    let (needs, _) = asked.parse::<Requirements>().unwrap().resolve().unwrap();
    let listing = |c: &'static Computer| Listing {
        partition: c.lent.partition,
        host_name: &c.name,
        inventory: &c.inventory,
        offer: &c.lent.offer,
        reach: c.lent.free.then_some(c.lent.reach),
        least: c.lent.least,
        reliability_permille: c.reliability,
        listed_at: c.lent.listed_at,
    };
    let listings: Vec<_> = computers.iter().map(|c| listing(Box::leak(Box::new(c.clone())))).collect();
    let image = image();
    let found = scan::find(&listings, &needs, account(9), &[&image], NOW)?;
    Ok(found.into_iter().map(|hit| hit.partition).collect())
}

#[test]
fn each_key_has_its_best_end_and_can_be_turned_round() {
    let all = [
        Computer::new(1).with(|c| {
            c.lent.least = resources(1000, 512, 20);
            (c.conditions.prices.flat, c.reliability) = (MicrosPerHour(500), 970);
            (c.lent.listed_at, c.inventory.speed) = (Timestamp(7), 3000);
        }),
        Computer::new(2).with(|c| {
            c.lent.least = resources(3000, 600, 10);
            (c.conditions.prices.cpu, c.conditions.prices.setup) = (MicrosPerHour(100), crate::units::Micros(9000));
            (c.reliability, c.lent.listed_at, c.inventory.speed) = (990, Timestamp(8), 1000);
        }),
        Computer::new(3).with(|c| {
            c.lent.least = resources(2000, 700, 30);
            (c.reliability, c.lent.listed_at, c.inventory.speed) = (980, Timestamp(6), 2000);
        }),
    ];
    let book = book(&all);
    let expected = [
        ("total", [1, 3, 2]),
        ("price", [2, 1, 3]),
        ("reliability", [2, 3, 1]),
        ("age", [3, 1, 2]),
        ("cpu", [2, 3, 1]),
        ("memory", [3, 2, 1]),
        ("disk", [3, 1, 2]),
        ("speed", [1, 3, 2]),
    ];
    for (key, order) in expected {
        let best = order.map(partition).to_vec();
        let mut worst = best.clone();
        worst.reverse();
        for (asked, order) in [(format!("order={key}"), best), (format!("order=-{key}"), worst)] {
            assert_eq!(find(&book, &image(), &asked, 9).0, order, "{asked}");
            assert_eq!(scanned(&all, &asked).unwrap(), order, "{asked}, looking at all");
        }
    }
}

#[test]
fn of_equals_the_more_reliable_the_older_and_then_the_lesser_id() {
    let all = [
        Computer::new(4),
        Computer::new(3),
        Computer::new(5).with(|c| c.lent.listed_at = Timestamp(4)),
        Computer::new(6).with(|c| (c.lent.listed_at, c.reliability) = (Timestamp(9), 991)),
    ];
    let order = [6, 5, 3, 4].map(partition);
    assert_eq!(find(&book(&all), &image(), "", 9).0, order);
    assert_eq!(scanned(&all, "").unwrap(), order);
}

#[test]
fn where_nothing_fits_each_is_counted_once() {
    let all = [
        Computer::new(1).with(|c| c.lent.free = false),
        Computer::new(2).with(|c| c.lent.free = false),
        Computer::new(3).with(|c| c.inventory.speed = 1),
    ];
    assert_eq!(scanned(&all, "speed>=2"), Err(vec![(Unfit::Speed, 1), (Unfit::Busy, 2)]));
}

/// 640 computers, of which every tenth differs.
fn many(edit: impl Fn(&mut Computer)) -> Book {
    let flat = |n: u128| MicrosPerHour(n as i64 * 50);
    let all: Vec<Computer> = (1..=640)
        .map(|n| {
            Computer::new(n).with(|c| {
                c.conditions.prices.flat = flat(n);
                if n % 10 == 0 {
                    edit(c);
                }
            })
        })
        .collect();
    let inventories: Vec<_> = all.iter().map(|c| std::sync::Arc::new(c.inventory.clone())).collect();
    let book = Book::of(all.iter().zip(&inventories).map(|(c, inventory)| {
        let (host, name) = (c.host(), c.name.as_str());
        let lending = crate::book::Lending { host, name, inventory, reliability_permille: c.reliability };
        (lending, vec![c.lent.clone()])
    }));
    assert_eq!((book.len(), book.fault()), (640, None));
    book
}

#[test]
fn few_are_looked_at_to_find_the_best() {
    let plain = many(|_| {});
    let (found, looked) = find(&plain, &image(), "", 1);
    assert_eq!((found, looked.asked, looked.admitted), (vec![partition(1)], 1, 1));
    assert!(looked.groups <= 1 && looked.parts <= 11 && looked.fitting <= 64, "{looked:?}");
    let (found, looked) = find(&plain, &image(), "", 20);
    assert_eq!((found.len(), looked.asked, looked.admitted), (20, 20, 20));
    assert!(looked.groups <= 2, "{looked:?}");
    let (found, looked) = find(&plain, &image(), "", usize::MAX);
    assert_eq!((found.len(), looked.asked, looked.fitting, looked.lent), (640, 640, 640, 640));
    assert_eq!((looked.classes, looked.parts), (1, 2 * looked.groups - 1), "every part is judged once");
}

#[test]
fn what_no_image_comes_up_for_is_not_looked_for() {
    let plain = many(|_| {});
    for asked in ["os=plan9", "image=plan9-4", "os=debian image=plan9-4", "os=plan9 image=debian-12"] {
        let (found, looked) = find(&plain, &image(), asked, 9);
        assert_eq!((found.len(), looked), (0, Looked { lent: 640, ..Looked::default() }), "{asked}");
    }
    assert_eq!(find(&plain, &image(), "os=debian image=debian-12", 9).0.len(), 9);
}

#[test]
fn the_rule_of_fit_is_asked_only_of_what_fits() {
    type Edit = fn(&mut Computer);
    let cases: [(&str, Edit); 17] = [
        ("cpu>=5 vcpus>=5", |c| c.lent.reach = resources(9000, 4096, 40)),
        ("memory>=5GiB", |c| c.lent.reach = resources(4000, 9000, 40)),
        ("disk>=41GiB", |c| c.lent.reach = resources(4000, 4096, 90)),
        ("cpu=500m..600m", |c| c.lent.least = resources(100, 64, 0)),
        ("speed>=1001", |c| c.inventory.speed = 2000),
        ("vcpus>=9", |c| c.inventory.threads = 16),
        ("reliability>=99.5%", |c| c.reliability = 1000),
        ("term=2d", |c| c.conditions.longest_term_seconds = Seconds(1_000_000)),
        ("term=30s", |c| c.conditions.shortest_term_seconds = Seconds(1)),
        ("region=us", |c| drop(c.conditions.labels.insert("region".into(), "us".into()))),
        ("avx512f", |c| c.inventory.cpu_flags.push("avx512f".into())),
        ("!avx2", |c| c.inventory.cpu_flags.clear()),
        ("cpu_model=xeon", |c| c.inventory.cpu_model = "Intel Xeon".into()),
        ("host=host-640", |_| {}),
        ("price<=0.0009", |c| {
            (c.conditions.prices.flat, c.conditions.prices.cpu) = (MicrosPerHour(0), MicrosPerHour(100))
        }),
        ("tier=emulated emulated=yes", |c| {
            (c.inventory.tier, c.conditions.emulated_to_strangers) = (Tier::Emulated, true);
        }),
        ("total<=0.0009", |c| {
            (c.conditions.prices.flat, c.conditions.prices.cpu) = (MicrosPerHour(0), MicrosPerHour(100))
        }),
    ];
    for (asked, edit) in cases {
        let (found, looked) = find(&many(edit), &image(), asked, usize::MAX);
        assert!(!found.is_empty(), "{asked}");
        assert_eq!(found.len(), looked.asked, "{asked}: what does not fit is not asked of: {looked:?}");
        assert!(looked.groups <= 20, "{asked}: {looked:?}");
    }
}

#[test]
fn the_best_by_any_key_are_found_wherever_they_stand() {
    type Edit = fn(&mut Computer);
    let cases: [(&str, Edit); 4] = [
        ("reliability", |c| c.reliability = 1000),
        ("speed", |c| c.inventory.speed = 2000),
        ("age", |c| c.lent.listed_at = Timestamp(4)),
        ("memory", |c| c.lent.least = resources(100, 1024, 0)),
    ];
    // They stand by their price: the best of a part can't be better than what the part promises.
    for (key, edit) in cases {
        let best = [10, 20, 30, 40, 50].map(partition);
        assert_eq!(find(&many(edit), &image(), &format!("order={key}"), 5).0, best, "{key}");
    }
}

#[test]
fn the_best_by_each_key_are_found_wherever_in_a_large_book_they_lie() {
    // Each column runs through its values in another order, so that no part of the book has the best of all.
    let nth = |n: u128, step: u128| i64::try_from(n * step % 601).unwrap();
    let all: Vec<Computer> = (1..=600)
        .map(|n| {
            Computer::new(n).with(|c| {
                c.reliability = 399 + u16::try_from(nth(n, 211)).unwrap();
                c.inventory.speed = 1000 + u32::try_from(nth(n, 97)).unwrap();
                c.lent.listed_at = Timestamp(nth(n, 359));
                c.conditions.prices.flat = MicrosPerHour(nth(n, 173));
            })
        })
        .collect();
    let book = book(&all);
    for key in ["reliability", "speed", "age", "price", "total", "-reliability", "-price"] {
        let asked = format!("order={key}");
        let expected = scanned(&all, &asked).unwrap();
        let found = find(&book, &image(), &asked, 25).0;
        assert_eq!(found, expected[..25], "{asked}");
    }
}
