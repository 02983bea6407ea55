//! The nearest deal in words: what is asked, and every change that is told, on markets of one or
//! two computers.

use super::plain::{Computer, account, image, partition};
use crate::book::{Book, Nearest, Search, Unfit};
use crate::host::Tier;
use crate::image::ImageManifest;
use crate::offer::Windows;
use crate::partition::alter::resources;
use crate::requirements::Requirements;
use crate::units::{MiB, Micros, MicrosPerHour, Seconds, Timestamp};

fn nearest(computers: &[Computer], image: &ImageManifest, asked: &Requirements) -> Nearest {
    let mut book = Book::default();
    computers.iter().for_each(|computer| computer.told(|lending, lent| book.set(lending, lent)));
    let (needs, _) = asked.resolve().unwrap();
    let images = [image];
    let search = Search { needs: &needs, client: account(9), images: &images, now: Timestamp(1000) };
    book.nearest(&search, &|host| host != Computer::new(666).host())
}

#[track_caller]
fn told_with(image: &ImageManifest, asked: &str, computers: &[Computer], expected: &[&str]) {
    let nearest = nearest(computers, image, &asked.parse().unwrap());
    let told: Vec<String> = nearest.changes.iter().map(|c| format!("{} -> {}", c.from, c.to)).collect();
    assert_eq!(told, expected, "{asked}");
}

#[track_caller]
fn told(asked: &str, computers: &[Computer], expected: &[&str]) {
    told_with(&image(), asked, computers, expected);
}

/// As the others, but cheaper or dearer for an hour.
fn at(n: u128, price: i64, edit: impl FnOnce(&mut Computer)) -> Computer {
    Computer::new(n).with(|c| {
        c.conditions.prices.flat = MicrosPerHour(price);
        edit(c);
    })
}

#[test]
fn less_is_asked_for_by_as_little_as_need_be() {
    let two = [
        at(1, 0, |c| c.lent.reach = resources(3000, 3072, 30)),
        at(2, 900, |_| {}),
        at(3, 0, |c| (c.lent.reach, c.inventory.threads) = (resources(2000, 2048, 20), 5)),
    ];
    told("cpu>=5", &two, &["cpu>=5 -> cpu>=4"]);
    told("memory>=8GiB", &two, &["memory>=8GiB -> memory>=4GiB"]);
    told("disk>=50GiB", &two, &["disk>=50GiB -> disk>=40GiB"]);
    told("vcpus>=9", &two, &["vcpus>=9 -> vcpus>=8"]);
    told("vcpus>=9", &two[2..], &["vcpus>=9 -> vcpus>=5"]);
    told("vcpus>=9", &[two[2].clone(), two[0].clone()], &["vcpus>=9 -> vcpus>=8"]);
    told("cpu>=5 memory>=8GiB", &two, &[]);
    told("cpu>=4 memory>=4GiB disk>=40GiB vcpus>=8", &two, &[]);
    // What is paid at most bounds it too.
    told("cpu>=5 price<=0.0029", &two, &["cpu>=5 -> cpu>=2900m"]);
    // More threads than the host has can't be used.
    let narrow = at(1, 0, |c| c.inventory.threads = 2);
    told("cpu>=3", std::slice::from_ref(&narrow), &["cpu>=3 -> cpu>=2"]);
    told("cpu>=3 vcpus>=3", &[narrow], &[]);
}

#[test]
fn a_ceiling_is_raised_to_the_cheapest() {
    // Cheaper for an hour, dearer in all.
    let other = |c: &mut Computer| {
        (c.conditions.prices.cpu, c.conditions.prices.setup) = (MicrosPerHour(900), Micros(500));
    };
    let two = [Computer::new(1), at(2, 0, other)];
    told("price<=0.0005", &two, &["price<=0.0005/h -> price<=0.0009/h", "cpu>=1 -> cpu>=556m"]);
    told("total<=0.0005", &two, &["total<=0.0005 -> total<=0.001", "cpu>=1 -> cpu>=500m", "term=1h -> term=30m1s"]);
    told("price<=0.0005 total<=0.0005", &two, &["cpu>=1 -> cpu>=500m"]);
}

#[test]
fn an_upper_bound_is_raised_to_the_least() {
    let least = |cpu, memory, disk| move |c: &mut Computer| c.lent.least = resources(cpu, memory, disk);
    let two = [at(1, 900, least(2000, 2048, 20)), at(2, 0, least(3000, 3072, 30))];
    told("cpu=1..1.5", &two, &["cpu=1..1500m -> cpu=1..2"]);
    told("memory=1GiB..1536MiB", &two, &["memory=1GiB..1536MiB -> memory=1GiB..2GiB"]);
    told("disk=1GiB..15GiB", &two, &["disk=1GiB..15GiB -> disk=1GiB..20GiB"]);
    told("vcpus=1", &two, &["vcpus=1 -> vcpus=1..2"]);
    told("cpu=1..1.5 memory=1GiB..1536MiB", &two, &[]);
}

#[test]
fn an_image_that_needs_more_is_told() {
    let heavy = ImageManifest { minimum_memory: MiB(1024), ..image() };
    told_with(&heavy, "", &[Computer::new(1)], &["memory>=512MiB -> memory>=1GiB"]);
    told_with(&heavy, "os=plan9", &[Computer::new(1)], &[]);
    let wide = ImageManifest { minimum_vcpus: 2, ..image() };
    told_with(&wide, "", &[Computer::new(1)], &["vcpus>=1 -> vcpus>=2"]);
    let both = ImageManifest { minimum_vcpus: 2, minimum_memory: MiB(1024), ..image() };
    told_with(&both, "", &[Computer::new(1)], &[]);
    told_with(&both, "vcpus>=2", &[Computer::new(1)], &["memory>=512MiB -> memory>=1GiB"]);
}

#[test]
fn the_nearest_terms_are_told_on_both_sides() {
    let span = |shortest, longest| {
        move |c: &mut Computer| {
            c.conditions.shortest_term_seconds = Seconds(shortest);
            c.conditions.longest_term_seconds = Seconds(longest);
        }
    };
    let two = [at(1, 0, span(60, 3600)), at(2, 500, span(7200, 86_400)), at(3, 0, span(120, 1800))];
    told("term=30s", &two, &["term=30s -> term=1m"]);
    told("term=90m", &two, &["term=1h30m -> term=1h", "term=1h30m -> term=2h"]);
    told("term=2d", &two, &["term=2d -> term=1d"]);
    let later = [at(1, 0, span(7200, 86_400)), at(2, 0, span(4000, 86_400)), at(3, 0, span(60, 60))];
    told("term=1h", &later, &["term=1h -> term=1m", "term=1h -> term=1h6m40s"]);
    told("term=1m1s", &later[2..], &["term=1m1s -> term=1m"]);
    told("term=1s", &[at(1, 0, span(60, 60))], &["term=1s -> term=1m"]);
    told("term=90m total<=0.0005", &two, &["term=1h30m -> term=30m1s"]);
    told("term=2h total<=0.0005", &two[..1], &["term=2h -> term=30m1s"]);
}

#[test]
fn what_closes_soon_is_told_for_so_long() {
    // The tests' now is just after a midnight.
    let open = |text: &str| Some(Windows { time_zone: "UTC".into(), weekly: vec![text.parse().unwrap()] });
    let daily = |c: &mut Computer| c.conditions.windows = open("daily 00:00-01:00");
    told("term=2h", &[at(1, 0, daily)], &["term=2h -> term=59m59s"]);
    told("term=59m59s cpu>=5", &[at(1, 0, daily)], &["cpu>=5 -> cpu>=4"]);
    let later = |c: &mut Computer| c.conditions.windows = open("daily 05:00-06:00");
    told("term=2h", &[at(1, 0, later)], &[]);
}

#[test]
fn what_is_closed_or_not_heard_is_not_told() {
    told("cpu>=5", &[at(1, 0, |c| c.lent.closed_until = Some(Timestamp(1001)))], &[]);
    told("cpu>=5", &[Computer::new(666)], &[]);
    told("cpu>=5", &[at(1, 0, |c| c.lent.closed_until = Some(Timestamp(1000)))], &["cpu>=5 -> cpu>=4"]);
}

#[test]
fn of_the_host_the_best_there_is_is_told() {
    let good = |c: &mut Computer| (c.inventory.speed, c.reliability) = (2000, 999);
    let two = [at(1, 900, good), at(2, 0, |_| {})];
    told("speed>=3000", &two, &["speed>=3000 -> speed>=2000"]);
    told("reliability>=100%", &two, &["reliability>=100% -> reliability>=99.9%"]);
    told("reliability>=100% speed>=3000", &two, &[]);
    let emulated = at(1, 0, |c| {
        (c.inventory.tier, c.conditions.emulated_to_strangers) = (Tier::Emulated, true);
    });
    told("", &[emulated], &["emulated=no -> emulated=yes"]);
}

#[test]
fn one_thing_is_left_out() {
    let one = [Computer::new(1)];
    told("os=plan9", &one, &["os=plan9 -> "]);
    told("image=plan9-4", &one, &["image=plan9-4 -> "]);
    told("arch=aarch64", &one, &["arch=aarch64 -> "]);
    told("cpu_model=xeon", &one, &["cpu_model=xeon -> "]);
    told("host=nowhere", &one, &["host=nowhere -> "]);
    told("tier=emulated emulated=yes", &one, &["tier=emulated -> "]);
    told("region=us", &one, &["region=us -> "]);
    told("region=us label.net=fast", &one, &[]);
    told("region=eu label.net=fast", &one, &["label.net=fast -> "]);
    told("avx2 avx512f", &one, &["avx512f -> "]);
    told("!avx2 !avx512f", &one, &["!avx2 -> "]);
    told("os=plan9 arch=aarch64", &one, &[]);
}

#[test]
fn what_is_in_use_or_not_heard_is_counted_apart() {
    let busy = |n: u128| Computer::new(n).with(|c| c.lent.free = false);
    let all = |n: &Nearest| (n.lent, n.fitting, n.alone.clone(), n.busy.clone(), n.changes.len());
    let asked = Requirements::default();
    let of = |computers: &[Computer], asked: &Requirements| all(&nearest(computers, &image(), asked));
    assert_eq!(of(&[Computer::new(1), busy(2)], &asked), (2, 1, vec![(Unfit::Busy, 1)], vec![partition(2)], 0));
    // Number 666 is never heard.
    assert_eq!(of(&[Computer::new(666)], &asked), (1, 0, vec![(Unfit::Busy, 1)], vec![partition(666)], 0));
    let slow: Requirements = "speed>=2000".parse().unwrap();
    assert_eq!(of(&[busy(2), Computer::new(3)], &slow), (2, 0, vec![(Unfit::Speed, 1)], vec![], 1));
    let bounded: Requirements = "vcpus=1".parse().unwrap();
    let wide = Computer::new(4).with(|c| c.lent.least = resources(2000, 64, 0));
    assert_eq!(of(&[wide], &bounded), (1, 0, vec![(Unfit::TooManyVcpus, 1)], vec![], 1));
    for many in [64u128, 1003] {
        let busy: Vec<Computer> = (1..=many).map(busy).collect();
        let (lent, fitting, alone, named, _) = of(&busy, &asked);
        assert_eq!((lent, fitting, alone), (many as usize, 0, vec![(Unfit::Busy, many as usize)]));
        assert_eq!(named.len(), (many as usize).min(1000), "the first thousand are named");
    }
    let closed = Computer::new(5).with(|c| c.lent.closed_until = Some(Timestamp(1001)));
    assert_eq!(of(&[closed], &asked), (1, 0, vec![], vec![], 0));
}
