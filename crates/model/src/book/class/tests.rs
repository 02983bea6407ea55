use super::*;
use crate::book::tests::plain::{account, conditions, inventory};
use crate::units::{Micros, MicrosPerHour};

#[test]
fn hashes_are_the_same_on_every_computer() {
    // FNV-1a over words that end in a zero byte, with the high bits mixed into the low ones.
    assert_eq!(hash(&[]), 0xfdbd_f6ac_4fc5_2e7f);
    assert_eq!(hash(&["region", "eu"]), 0xc4dd_4a07_3cba_eae0);
    assert_eq!(hash(&["x86_64"]), 0x5af3_1997_3fee_beaf);
    assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]), "where words end counts");
}

#[test]
fn every_kind_of_fact_has_its_place() {
    let at = |word: usize, bit: u32| Signature(std::array::from_fn(|i| if i == word { 1 << bit } else { 0 }));
    assert_eq!(Signature::arch("x86_64"), at(0, 15));
    assert_eq!(Signature::arch("aarch64"), at(0, 2));
    assert_eq!([Tier::Kvm, Tier::Emulated].map(Signature::tier), [at(0, 32), at(0, 33)]);
    assert_eq!([true, false].map(Signature::confined), [at(0, 34), at(0, 35)]);
    assert_eq!([true, false].map(Signature::everyone), [at(0, 36), at(0, 37)]);
    assert_eq!(Signature::flag("avx2"), at(3, 21));
    let labels = [("region", "eu"), ("region", "us"), ("net", "eu"), ("net", "us"), ("rack", "a")];
    assert_eq!(
        labels.map(|(k, v)| Signature::label(k, v)),
        [(2, 32), (1, 34), (2, 46), (2, 12), (1, 62)].map(|(word, bit)| at(word, bit))
    );
}

#[test]
fn signatures_meet_where_they_share_a_fact() {
    let some = Signature([1, 2, 4, 8]);
    assert!(!some.meets(&Signature::NONE) && !some.meets(&Signature([2, 1, 8, 4])));
    for word in 0..4 {
        let one = Signature(std::array::from_fn(|i| if i == word { some.0[word] | 64 } else { 0 }));
        assert!(some.meets(&one) && one.meets(&some));
    }
    // A fact shared twice is shared.
    assert!(Signature([1, 1, 0, 0]).meets(&Signature([1, 1, 0, 0])));
    assert_eq!(some.or(&Signature([1, 1, 0, 0])), Signature([1, 3, 4, 8]));
}

#[test]
fn an_identity_differs_where_a_class_does() {
    let base = |confined: bool, emulated: bool| {
        let inventory = Inventory { confined, ..inventory() };
        identity(
            &inventory,
            &Conditions { emulated_to_strangers: emulated, images: vec!["tiny".into()], ..conditions() },
        )
    };
    let words = hash(&["x86_64", "AMD EPYC 7763", "kvm", "avx2", "region", "eu", "tiny"]);
    assert_eq!([base(false, false), base(true, false)], [words, words ^ 1]);
    assert_eq!([base(false, true), base(true, true)], [words ^ 2, words ^ 3]);
    // So that what is counted here would also be seen where a bit is set already.
    let odd = ["alpha", "arm", "mips", "riscv64", "s390x", "sparc", "vax", "z80"].map(|arch| {
        let inventory = Inventory { arch: arch.into(), confined: true, ..inventory() };
        let conditions = Conditions { emulated_to_strangers: true, ..conditions() };
        let words = hash(&[arch, "AMD EPYC 7763", "kvm", "avx2", "region", "eu"]);
        assert_eq!(identity(&inventory, &conditions), words ^ 3);
        words & 3
    });
    assert!(odd.contains(&1) && odd.contains(&2) && odd.contains(&3), "{odd:?}");
    let emulated = Inventory { tier: Tier::Emulated, confined: false, ..inventory() };
    let words = hash(&["x86_64", "AMD EPYC 7763", "emulated", "avx2", "region", "eu"]);
    assert_eq!(identity(&emulated, &Conditions { emulated_to_strangers: false, ..conditions() }), words);
}

#[test]
fn what_differs_in_one_thing_is_of_another_class() {
    let mut classes = Classes::default();
    let number = classes.enter(&inventory(), &conditions());
    let is_of = |i: Inventory, c: Conditions| classes.all[number as usize].is_of(&i, &c);
    assert!(is_of(inventory(), conditions()));
    assert!(is_of(Inventory { threads: 1, speed: 1, kernel: "5".into(), ..inventory() }, conditions()));
    let dearer = crate::billing::PriceList { flat: MicrosPerHour(9), ..Default::default() };
    assert!(is_of(inventory(), Conditions { prices: dearer, longest_term_seconds: Seconds(9), ..conditions() }));
    assert!(is_of(inventory(), Conditions { eviction_credit: Micros(9), ..conditions() }));
    let others = [
        Inventory { arch: "aarch64".into(), ..inventory() },
        Inventory { tier: Tier::Emulated, ..inventory() },
        Inventory { confined: false, ..inventory() },
        Inventory { cpu_model: "Xeon".into(), ..inventory() },
        Inventory { cpu_flags: vec![], ..inventory() },
    ];
    for other in others {
        assert!(!is_of(other.clone(), conditions()), "{other:?}");
    }
    assert!(!is_of(inventory(), Conditions { labels: Default::default(), ..conditions() }));
}

#[test]
fn a_class_is_kept_while_something_is_of_it() {
    let mut classes = Classes::default();
    let inviting = |accounts: &[u128]| Conditions {
        audience: Audience::Accounts(accounts.iter().copied().map(account).collect()),
        ..conditions()
    };
    let a = classes.enter(&inventory(), &inviting(&[5, 6]));
    let b = classes.enter(&inventory(), &inviting(&[6, 7]));
    assert_eq!((classes.enter(&inventory(), &inviting(&[5, 6])), classes.len(), classes.bound()), (a, 2, 2));
    classes.again(a);
    assert_eq!([5, 6, 7, 8].map(|n| classes.invites(account(n))), [true, true, true, false]);
    classes.leave(a);
    classes.leave(a);
    assert_eq!((classes.len(), classes.invites(account(5))), (2, true), "one is left");
    classes.leave(a);
    assert_eq!((classes.len(), classes.bound(), classes.numbers.values().flatten().count()), (1, 2, 1));
    assert_eq!([5, 6, 7].map(|n| classes.invites(account(n))), [false, true, true], "the other class invites still");
    let c = classes.enter(&inventory(), &conditions());
    assert_eq!((c, classes.len(), classes.bound()), (a, 2, 2), "its number is used again");
    classes.leave(b);
    assert!(!classes.invites(account(6)) && classes.guests.is_empty());
}

#[test]
fn of_two_classes_of_one_hash_only_the_one_that_left_is_forgotten() {
    let mut classes = Classes::default();
    let number = classes.enter(&inventory(), &conditions());
    let hash = identity(&inventory(), &conditions());
    classes.numbers.get_mut(&hash).unwrap().insert(0, 7);
    classes.leave(number);
    assert_eq!(classes.numbers.get(&hash), Some(&vec![7]));
}

#[test]
fn the_favourable_listing_is_large_fast_free_and_without_end() {
    let mut classes = Classes::default();
    let given = Conditions { reclaim_notice_seconds: Some(Seconds(60)), eviction_credit: Micros(9), ..conditions() };
    let number = classes.enter(&inventory(), &given);
    let listing = classes.favourable(number, "alpha");
    let best = Inventory {
        threads: u16::MAX,
        cores: u16::MAX,
        memory: MiB::MAX,
        disk: GiB::MAX,
        speed: u32::MAX,
        kernel: String::new(),
        qemu: String::new(),
        ..inventory()
    };
    assert_eq!((listing.host_name, listing.inventory), ("alpha", &best));
    let best = Conditions {
        prices: Default::default(),
        shortest_term_seconds: Seconds::ZERO,
        longest_term_seconds: Seconds(i64::MAX),
        reclaim_notice_seconds: None,
        eviction_credit: Micros::ZERO,
        ..conditions()
    };
    assert_eq!(listing.offer.conditions, best);
    assert_eq!((listing.least, listing.reliability_permille), (Resources::ZERO, 1000));
    assert_eq!(listing.reach, Some(resources(&[u32::MAX; 3])));
}
