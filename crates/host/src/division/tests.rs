use super::*;
use crate::fixtures::*;
use sublet_model::partition::Profile;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.enrol(&identity("http://127.0.0.1:1")).unwrap();
    (dir, store)
}

fn asked(name: &str, cpu: i64) -> Asked {
    Asked { name: name.into(), profile: Profile::fixed(size(cpu, 512)) }
}

fn lending(partitions: Vec<Asked>) -> Lending {
    Lending { keep: size(1000, 2048), conditions: Conditions::free(), partitions }
}

#[test]
fn partitions_keep_their_id_by_their_name() {
    let (_dir, store) = store();
    let first = lend(&store, &inventory(), &lending(vec![asked("a", 1000), asked("b", 1000)])).unwrap();
    let second = lend(&store, &inventory(), &lending(vec![asked("b", 500), asked("c", 500)])).unwrap();
    assert_eq!((first.revision, second.revision), (1, 2));
    assert_eq!(first.partitions[1].id, second.partitions[0].id);
    assert_eq!(store.division().unwrap(), second);
}

#[test]
fn what_can_not_be_divided_is_refused_in_words() {
    let (_dir, store) = store();
    let check = |word: &str, lending: Lending| {
        let error = lend(&store, &inventory(), &lending).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    };
    check("only 3 cpu", lending(vec![asked("a", 2000), asked("b", 1001)]));
    check("1 to 512", lending(vec![]));
    check("each name once", lending(vec![asked("a", 100), asked("a", 100)]));
    for name in ["", "a b", "-a", "A", "a,b", &"x".repeat(64), "../x"] {
        check("can't be a partition's name", lending(vec![asked(name, 100)]));
    }
    check("at least 100m", lending(vec![asked("a", 50)]));
    check("can't be kept", Lending { keep: size(5000, 1), ..lending(vec![asked("a", 100)]) });
    check("can't be kept", Lending { keep: size(-1, 1), ..lending(vec![asked("a", 100)]) });
    let mut dear = lending(vec![asked("a", 100)]);
    dear.conditions.prices.cpu.0 = -1;
    check("a price is below zero", dear);
    assert_eq!(store.division().unwrap().revision, 0, "nothing was kept of it");
}

#[test]
fn a_computer_that_did_not_join_lends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = lend(&store, &inventory(), &lending(vec![asked("a", 100)])).unwrap_err();
    assert!(error.to_string().contains("sublet host join"));
    assert!(unlist(&store, &Which::All).is_err());
}

#[test]
fn what_a_lease_holds_neither_goes_nor_changes() {
    let (_dir, store) = store();
    let division = lend(&store, &inventory(), &lending(vec![asked("a", 1000), asked("b", 1000)])).unwrap();
    let id = division.partitions[0].id;
    let has = allocation(1, 0, 1000);
    store.apply(id, &has).unwrap();
    store.begin(id, 1, &wanted_run(1, &has), uuid::Uuid::now_v7()).unwrap();
    for partitions in [vec![asked("b", 1000)], vec![asked("a", 900), asked("b", 1000)]] {
        let error = lend(&store, &inventory(), &lending(partitions)).unwrap_err();
        assert!(error.to_string().contains("a lease holds partition a"), "{error}");
    }
    lend(&store, &inventory(), &lending(vec![asked("a", 1000), asked("b", 500)])).unwrap();
}

#[test]
fn the_owners_other_words() {
    let (_dir, store) = store();
    lend(&store, &inventory(), &lending(vec![asked("a", 1000), asked("b", 1000)])).unwrap();
    let lent = |d: &Division| d.partitions.iter().map(|p| p.lendable).collect::<Vec<_>>();
    assert_eq!(lent(&unlist(&store, &Which::Named(vec!["b".into()])).unwrap()), [true, false]);
    assert!(unlist(&store, &Which::Named(vec!["z".into()])).unwrap_err().to_string().contains("no partition \"z\""));
    let id = store.division().unwrap().partitions[0].id;
    store.apply(id, &allocation(4, 0, 1000)).unwrap();
    let taken = take_back(&store, &Which::All).unwrap();
    assert_eq!(taken.partitions.iter().map(|p| p.taken_back).collect::<Vec<_>>(), [Some(4), Some(0)]);
    assert_eq!((lent(&taken), taken.revision), (vec![false, false], 3));
    let status = status(&store).unwrap();
    assert!(!status.agent_runs);
    assert_eq!(status.partitions[0].applied, Some(allocation(4, 0, 1000)));
}

#[test]
fn an_even_division_can_be_lent_whatever_the_computer() {
    let (_dir, store) = store();
    for (threads, memory, count) in [(2, 4096, 2), (4, 8192, 3), (64, 262_144, 16), (1, 1536, 1)] {
        let inventory = Inventory { threads, memory: MiB(memory), ..inventory() };
        let keep = size(0, 1024);
        let partitions = evenly(&inventory, keep, count).unwrap();
        assert_eq!(partitions.len(), count);
        let sum: Resources = partitions.iter().map(|p| p.profile.desired).sum();
        assert!(sum.fits(lendable(&inventory, keep)), "{sum}");
        lend(&store, &inventory, &Lending { keep, conditions: Conditions::free(), partitions }).unwrap();
    }
    assert!(evenly(&inventory(), size(0, 0), 0).is_err());
    assert!(evenly(&inventory(), size(0, 0), 513).is_err());
    let error = evenly(&inventory(), size(3800, 0), 4).unwrap_err().to_string();
    assert!(error.contains("divide it into fewer"), "{error}");
}

fn own(name: &str, cpu: i64, memory: i64) -> NewOwn {
    let signer = sublet_model::identity::SecretKey::from_seed(&[8; 32]);
    let image = sublet_model::identity::Signed::sign(&manifest(b"kernel"), &signer).unwrap();
    NewOwn { name: name.into(), resources: size(cpu, memory), image, depot: "http://127.0.0.1:1".into() }
}

#[test]
fn what_is_the_owners_own_is_declared_not_lent_and_stays() {
    let (_dir, store) = store();
    divide(&store, &inventory(), vec![own("first", 500, 256)]).unwrap();
    lend(&store, &inventory(), &lending(vec![asked("a", 1000)])).unwrap();
    divide(&store, &inventory(), vec![own("mine", 500, 256), own("other", 500, 256)]).unwrap();
    let division = lend(&store, &inventory(), &lending(vec![asked("b", 1000)])).unwrap();
    let shown: Vec<_> = division.partitions.iter().map(|p| (p.name.as_str(), p.lendable)).collect();
    assert_eq!(shown, [("b", true), ("first", false), ("mine", false), ("other", false)]);
    assert_eq!(own_in_all(&store).unwrap(), size(1500, 768));
    let division = take_back(&store, &Which::All).unwrap();
    assert!(division.partitions.iter().all(|p| p.taken_back.is_some() == (p.name == "b")));

    let words = |error: DivisionError| error.to_string();
    assert!(words(unlist(&store, &Which::Named(vec!["mine".into()])).unwrap_err()).contains("sublet host own"));
    assert!(words(lend(&store, &inventory(), &lending(vec![asked("mine", 100)])).unwrap_err()).contains("your own"));
    let large = lend(&store, &inventory(), &lending(vec![asked("b", 1600)]));
    assert!(words(large.unwrap_err()).contains("only 3 cpu"), "what is the owner's own is taken");
    let mine = store.own().unwrap().into_iter().find(|own| own.name == "mine").unwrap();
    remove_own(&store, mine.partition).unwrap();
    assert_eq!((store.own().unwrap().len(), store.division().unwrap().partitions.len()), (2, 3));
}

#[test]
fn what_can_not_be_the_owners_own_is_refused_in_words() {
    let (_dir, store) = store();
    lend(&store, &inventory(), &lending(vec![asked("a", 1000)])).unwrap();
    let check = |word: &str, new: Vec<NewOwn>| {
        let error = divide(&store, &inventory(), new).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    };
    check("here already", vec![own("a", 500, 256)]);
    check("here already", vec![own("mine", 500, 256), own("mine", 500, 256)]);
    check("can't be a partition's name", vec![own("A", 500, 256)]);
    check("only 3 cpu", vec![own("mine", 2001, 256)]);
    check("64MiB memory", vec![own("mine", 500, 256), own("small", 100, 63)]);
    check("hardware threads", vec![own("mine", 4001, 256)]);
    check("1 to 512", vec![]);
    let mut foreign = own("mine", 500, 256);
    let mut image = manifest(b"kernel");
    (image.arch, image.minimum_memory) = ("riscv64".into(), MiB(512));
    let signer = sublet_model::identity::SecretKey::from_seed(&[8; 32]);
    foreign.image = sublet_model::identity::Signed::sign(&image, &signer).unwrap();
    check("another architecture", vec![foreign.clone()]);
    image.arch = "x86_64".into();
    foreign.image = sublet_model::identity::Signed::sign(&image, &signer).unwrap();
    check("at least 512MiB", vec![foreign]);
    assert_eq!((store.own().unwrap().len(), store.division().unwrap().revision), (0, 1), "nothing was kept of it");
}
