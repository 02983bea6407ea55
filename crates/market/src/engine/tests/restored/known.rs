//! What a restored market knows already bounds what a host may tell it of a lease.

use super::*;
use sublet_model::billing::Terms;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::MemberId;
use sublet_wire::sync::Renter;

/// A market that was restored, its host with the life of one lease that began after the backup, and
/// that life.
fn told_of_one(world: &mut World, dir: &std::path::Path) -> (World, Keeper, KeptLife) {
    let mut keeper = Keeper { agent: Agent::new(HOST), kept: Vec::new() };
    let mut later = restored(world, dir, 100);
    keeper.rent(world);
    world.pass(50);
    keeper.comes_back(&mut later);
    keeper.agent.says.catching_up = true;
    let life = keeper.kept[0].life();
    (later, keeper, life)
}

/// The same life with terms that the market signed, otherwise.
fn signed(life: &KeptLife, edit: impl Fn(&mut Terms)) -> KeptLife {
    let mut terms = life.run.terms.read().unwrap();
    edit(&mut terms);
    let run = Run { terms: Signed::sign(&terms, &keys().market).unwrap(), ..life.run.clone() };
    KeptLife { run, ..life.clone() }
}

/// What is said to a life; none if it is believed.
fn said(later: &mut World, keeper: &mut Keeper, life: KeptLife) -> Option<String> {
    let lease = life.run.lease;
    keeper.agent.says.lives = vec![life];
    let warnings = later.sync(&mut keeper.agent).warnings;
    assert_eq!(warnings.is_empty(), later.engine.state().lease(lease).is_some(), "{warnings:?}");
    warnings.into_iter().next()
}

#[test]
fn a_partition_of_another_host_or_one_that_was_given_up_gets_no_lease() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::empty();
    let (mut agent, other) = (world.add_host(HOST), world.add_host(101));
    let gone = agent.says.division.partitions.pop().unwrap().id;
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    let mut later = restored(&world, dir.path(), 100);
    // Only the first host has room for it.
    world.call(Command::SuspendHost { actor: operator(), host: other.host, suspended: true }).unwrap();
    let foreign = other.partition(0);
    let mut keeper = Keeper { agent, kept: Vec::new() };
    keeper.rent(&mut world);
    keeper.comes_back(&mut later);
    keeper.agent.says.catching_up = true;
    let life = keeper.kept[0].life();
    for (partition, why) in [(foreign, "another host's"), (gone, "given up")] {
        let life = signed(&life, |terms| (terms.partition, terms.generation) = (partition, 9));
        let said = said(&mut later, &mut keeper, life).unwrap_or_default();
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(said(&mut later, &mut keeper, life), None);
}

#[test]
fn an_image_is_believed_by_its_digest_and_under_a_name_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, _) = lending();
    let (mut later, mut keeper, life) = told_of_one(&mut world, dir.path());
    let image = |name: &str| Signed::sign(&manifest(name, "os"), &SecretKey::from_seed(&[8; 32])).unwrap();
    let booted = |name: &str, digest: Option<Sha256Digest>, depot: usize| {
        let image = image(name);
        let mut life = signed(&life, |terms| terms.image = digest.unwrap_or(image.digest()));
        (life.run.image, life.run.depot) = (image, "d".repeat(depot));
        life
    };
    let others = Sha256Digest::of(b"another");
    for (what, life) in [
        ("other bytes", booted("newer", Some(others), 10)),
        ("a name that is taken", booted("tiny", None, 10)),
        ("a depot of 501 bytes", booted("newer", None, 501)),
    ] {
        let said = said(&mut later, &mut keeper, life).unwrap_or_default();
        assert!(said.contains("of the catalogue"), "{what}: {said}");
    }
    assert_eq!(said(&mut later, &mut keeper, booted("newer", None, 500)), None);
    let known = later.engine.state().image("newer@1").unwrap();
    assert!(known.suspended && known.digest == image("newer").digest(), "for the operator to say");
}

#[test]
fn who_rented_is_one_of_the_account_whoever_the_host_names() {
    let newcomer: MemberId = id(4711);
    let cases = [(Some(id(CLIENT)), id(CLIENT)), (Some(id(STRANGER)), id(CLIENT)), (Some(newcomer), newcomer)];
    for (named, member) in cases.into_iter().chain([(None, id(CLIENT))]) {
        let dir = tempfile::tempdir().unwrap();
        let (mut world, _) = lending();
        let (mut later, mut keeper, mut life) = told_of_one(&mut world, dir.path());
        life.run.renter = named.map(|member| Renter { member, ssh_public_key: SSH_KEY.into() });
        let lease = life.run.lease;
        assert_eq!(said(&mut later, &mut keeper, life), None);
        assert_eq!(later.lease(lease).member, member, "{named:?}");
        assert_eq!(later.engine.state().member(member).unwrap().account, id(CLIENT));
    }
}

#[test]
fn a_generation_that_came_later_says_that_the_one_before_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, mut keeper) = lending();
    let first = keeper.rent(&mut world);
    let mut later = restored(&world, dir.path(), 100);
    keeper.end(&mut world, &first, 0);
    keeper.agent.says.observed.clear();
    let mut leases = vec![keeper.rent(&mut world), keeper.rent(&mut world)];
    leases.retain(|lease| lease.partition == first.partition);
    let [second] = leases.try_into().unwrap();
    keeper.comes_back(&mut later);
    keeper.agent.says.catching_up = true;
    // Of the first it kept nothing.
    let life = keeper.of(second.id).life();
    assert_eq!(said(&mut later, &mut keeper, life), None);
    assert!(matches!(later.lease(first.id).state, LeaseState::Ended { reason: EndReason::Released, .. }));
    assert_eq!(later.engine.state().holder(first.partition).map(|lease| lease.id), Some(second.id));
}

#[test]
fn only_a_life_that_is_over_and_was_ready_owes_its_set_up() {
    for (over, ready, owes) in [(true, false, false), (true, true, true), (false, true, false)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut world, _) = lending();
        let (mut later, mut keeper, life) = told_of_one(&mut world, dir.path());
        let lease = life.run.lease;
        assert_eq!(said(&mut later, &mut keeper, KeptLife { over, ready, ..life }), None);
        let row = later.lease(lease);
        assert_eq!((row.timeline.ready_at.is_some(), row.state.holds_slot()), (owes, !over), "{over} {ready}");
    }
}
