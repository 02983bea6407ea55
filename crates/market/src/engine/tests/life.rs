//! One lease from request to bill, and what stands in its way.

use super::world::*;
use crate::engine::command::{Command, Idempotency, Outcome, Rent, Reply};
use crate::engine::step::Request;
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::image::ImageManifest;
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::partition::Phase;
use sublet_model::partition::alter::resources;
use sublet_model::requirements::Requirements;
use sublet_model::units::{GiB, Micros, Millicores, Seconds};
use sublet_wire::problem::Kind;

#[test]
fn a_lease_from_request_to_bill() {
    let (mut world, mut agent) = World::lending();
    assert_eq!(world.has(agent.partition(0)).resources, resources(1000, 512, 0), "idle ones have what is desired");
    let lease = world.rent(2500).unwrap();
    assert_eq!(lease.generation, 1);
    // 3000 is lendable: the neighbour gives what it has above its min.
    assert_eq!(world.has(lease.partition).resources.cpu, Millicores(2500));
    assert_eq!(world.has(agent.partition(1)).resources.cpu, Millicores(500));
    lease.agreed.signed.verify(&keys().market.public()).unwrap();

    let plan = world.sync(&mut agent);
    let wanted = plan.plan.as_ref().unwrap().iter().find(|w| w.partition == lease.partition).unwrap();
    let run = wanted.run.as_ref().unwrap();
    assert_eq!((run.lease, run.term_seconds, wanted.allocation.generation), (lease.id, Seconds(3600), 1));

    agent.sees(&lease, Phase::Booting);
    world.sync(&mut agent);
    world.pass(5);
    agent.sees(&lease, Phase::Ready);
    agent.says.observed.last_mut().unwrap().started = Some("warm:\tfrom a template".into());
    world.sync(&mut agent);
    let ready_at = world.now;
    let timeline = world.lease(lease.id).timeline.clone();
    assert_eq!(world.lease(lease.id).state, LeaseState::Active { ready_at, silent_since: None });
    assert!(timeline.booted_at < timeline.ready_at && timeline.contact_at.is_none());
    assert_eq!(timeline.started.as_deref(), Some("warm: from a template"), "a host's words, tidied");
    agent.says.observed.last_mut().unwrap().started = None;
    world.sync(&mut agent);
    assert_eq!(world.lease(lease.id).timeline, timeline, "a mark stays");

    world.pass(37);
    let version = world.engine.state().lease_version(lease.id);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    assert!(world.engine.state().lease_version(lease.id) > version, "that is news");
    let plan = world.sync(&mut agent);
    assert!(plan.plan.as_ref().unwrap().iter().all(|w| w.run.is_none() && w.gone.is_none()));
    assert_eq!(world.rent(2500).unwrap_err().kind, Kind::NoMatch, "until gone and wiped the slot is held");

    let last = agent.receipt(&lease, 37, true);
    agent.says.receipts = vec![last];
    agent.sees(&lease, Phase::Gone { reason: None });
    let plan = world.sync(&mut agent);
    assert_eq!(plan.acknowledged[0].seq, 1);
    assert_eq!(plan.plan.as_ref().unwrap().iter().find(|w| w.partition == lease.partition).unwrap().gone, Some(1));
    assert!(matches!(world.lease(lease.id).state, LeaseState::Ended { reason: EndReason::Released, .. }));
    let charge = world.engine.state().charge(lease.id).expect("settled with the last receipt").charge.clone();
    // 2.5 cores at 3.6 an hour is 0.0025 a second.
    assert_eq!((charge.billed_seconds, charge.total), (Seconds(37), Micros(100 + 37 * 2500)));
    assert_eq!(world.has(agent.partition(0)).resources.cpu, Millicores(1000), "both return to what is desired");
    assert_eq!(world.has(agent.partition(1)).resources.cpu, Millicores(1000));
    assert_eq!(world.has(lease.partition).generation, 1, "the generation rises only at a grant");
    assert_eq!(world.rent(1000).unwrap().generation, 2);
}

#[test]
fn in_one_batch_keys_are_told_apart_by_whose_they_are_and_by_their_letters() {
    let (mut world, _) = World::lending();
    let create = |n: u128, member: u128, key: &str| Request {
        command: Command::CreateAccount { actor: operator(), id: id(n), name: format!("account-{n}") },
        idempotency: Some(Idempotency { member: id(member), key: key.into(), body: Sha256Digest::of(b"body") }),
    };
    let batch = vec![create(60, OPERATOR, "a"), create(61, OPERATOR, "b"), create(62, LENDER, "a")];
    let made = world.step(batch).into_iter().map(|answer| match answer {
        Ok(Reply::Outcome(Outcome::Account(made))) => made,
        other => panic!("{other:?}"),
    });
    assert_eq!(made.collect::<Vec<_>>(), [id(60), id(61), id(62)]);
}

#[test]
fn n_identical_requests_have_one_effect_and_one_answer() {
    let (mut world, _) = World::lending();
    let idempotency = Some(Idempotency { member: id(CLIENT), key: "k".into(), body: Sha256Digest::of(b"body") });
    let request = |n: u128| Request { command: rent(client(), id(n), 1000), idempotency: idempotency.clone() };
    // Twice in one batch, and again later: the ids differ, as they do when HTTP makes them.
    let answers = world.step(vec![request(71), request(72)]);
    let again = world.step(vec![request(73)]);
    let granted = |reply: &Result<Reply, _>| match reply {
        Ok(Reply::Outcome(Outcome::Granted { lease, .. })) => *lease,
        other => panic!("{other:?}"),
    };
    assert_eq!([granted(&answers[0]), granted(&answers[1]), granted(&again[0])], [id(71); 3]);
    assert_eq!(world.engine.state().leases().count(), 1);
    let other = Some(Idempotency { body: Sha256Digest::of(b"other"), ..idempotency.clone().unwrap() });
    let refused = world.reply(rent(client(), id(74), 1000), other).unwrap_err();
    assert_eq!(refused.kind, Kind::IdempotencyMismatch);
    // A refusal is not kept: the next time it may turn out otherwise.
    let key = |key: &str| Some(Idempotency { member: id(CLIENT), key: key.into(), body: Sha256Digest::of(b"x") });
    assert_eq!(world.reply(rent(client(), id(75), 2600), key("big")).unwrap_err().kind, Kind::NoMatch);
    world.reply(rent(client(), id(76), 1000), key("big")).unwrap();
}

#[test]
fn a_held_allocation_is_locked_for_everybody() {
    let (mut world, agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    for actor in [lender(), operator()] {
        let alter = Command::Alter { actor, partition: lease.partition, resources: resources(600, 512, 0) };
        let refused = world.call(alter).unwrap_err();
        assert_eq!(refused.kind, Kind::Locked);
        assert!(refused.detail.contains(&lease.id.to_string()), "{refused}");
    }
    let alter =
        |cpu| Command::Alter { actor: lender(), partition: agent.partition(1), resources: resources(cpu, 512, 0) };
    world.call(alter(2000)).unwrap();
    assert_eq!(world.has(agent.partition(1)).revision, 2, "its first row, what is desired, and this");
    assert_eq!(world.call(alter(2001)).unwrap_err().kind, Kind::Conflict, "there is no more");
    assert_eq!(world.call(alter(400)).unwrap_err().kind, Kind::Invalid, "less than its min");
    assert_eq!(world.call(alter(i64::MAX)).unwrap_err().kind, Kind::Invalid);
}

#[test]
fn what_can_not_be_rented_is_refused_with_a_reason() {
    let (mut world, _) = World::lending();
    let check = |world: &mut World, edit: &dyn Fn(&mut Requirements), kind: Kind| {
        let mut rent = asking(client(), &[world.fresh()], 1000);
        edit(&mut rent.requirements);
        assert_eq!(world.call(Command::Rent(Box::new(rent))).unwrap_err().kind, kind);
    };
    check(&mut world, &|r| r.cpu = Some(Millicores(0).into()), Kind::Invalid);
    check(&mut world, &|r| r.cpu = Some(Millicores(i64::MAX).into()), Kind::Invalid);
    check(&mut world, &|r| r.term_seconds = Some(Seconds(i64::MAX)), Kind::Invalid);
    check(&mut world, &|r| r.term_seconds = Some(Seconds::MAX), Kind::NoMatch);
    check(&mut world, &|r| r.disk = Some(GiB(1).into()), Kind::NoMatch);
    check(&mut world, &|r| r.os = Some("' or 1=1 --".into()), Kind::NoMatch);
    check(&mut world, &|r| r.os = Some("\0".into()), Kind::Invalid);
    check(&mut world, &|r| r.total_at_most = Some(Micros(5)), Kind::NoMatch);
    assert_eq!(world.engine.state().leases().count(), 0);
}

#[test]
fn a_price_that_can_not_be_counted_is_refused() {
    let (mut world, mut agent) = World::lending();
    let conditions = agent.says.division.conditions.as_mut().unwrap();
    conditions.prices.flat = sublet_model::units::MicrosPerHour::MAX;
    conditions.longest_term_seconds = Seconds::MAX;
    conditions.prices.setup = Micros(1_000_000_000_000);
    conditions.prices.disk = sublet_model::units::MicrosPerHour::MAX;
    agent.says.division.revision += 1;
    agent.says.inventory.disk = GiB::MAX;
    let disk = GiB(1 << 20);
    agent.says.division.partitions.iter_mut().for_each(|p| p.profile.max.disk = disk);
    assert_eq!(world.sync(&mut agent).division_refused, None);
    let mut rent = asking(client(), &[id(7)], 1000);
    (rent.requirements.term_seconds, rent.requirements.disk) = (Some(Seconds::MAX), Some(disk.into()));
    assert_eq!(world.call(Command::Rent(Box::new(rent))).unwrap_err().kind, Kind::Invalid);
}

#[test]
fn what_is_not_lent_never_shrinks_for_a_client() {
    let (mut world, mut agent) = World::lending();
    agent.says.division.partitions[1].lendable = false;
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    // 3000 is lendable, and the owner's own partition has 1000 of it, with a min of 500.
    assert_eq!(world.rent(2001).unwrap_err().kind, Kind::NoMatch);
    world.rent(2000).unwrap();
    assert_eq!(world.has(agent.partition(1)).resources.cpu, Millicores(1000));
}

#[test]
fn a_min_above_what_was_asked_comes_with_the_shape_to_use_it() {
    let (mut world, mut agent) = World::lending();
    agent.says.division.partitions.iter_mut().for_each(|p| p.profile = profile(1500, 1500, 1500));
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    let lease = world.rent(500).unwrap();
    assert_eq!((lease.terms().resources.cpu, lease.terms().vcpus), (Millicores(1500), 2));
}

#[test]
fn names_are_one_of_a_kind_among_running_leases() {
    let (mut world, mut agent) = World::lending();
    let named = |n: u128, name: &str| {
        Command::Rent(Box::new(Rent { name: Some(name.into()), ..asking(client(), &[id(n)], 1000) }))
    };
    world.call(named(50, "box")).unwrap();
    assert_eq!(world.call(named(51, "box")).unwrap_err().kind, Kind::Conflict);
    assert_eq!(world.call(named(52, "../x")).unwrap_err().kind, Kind::Invalid);
    let lease = world.lease(id(50)).clone();
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    agent.sees(&lease, Phase::Gone { reason: None });
    world.sync(&mut agent);
    world.call(named(53, "box")).unwrap();
}

#[test]
fn a_lease_is_lengthened_within_what_the_offer_allows() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let extend = |by| Command::Extend { actor: client(), lease: lease.id, by: Seconds(by) };
    let before = world.engine.state().host(agent.host).unwrap().plan_version;
    world.call(extend(3600)).unwrap();
    assert_eq!(world.lease(lease.id).term_seconds, Seconds(7200));
    assert!(world.engine.state().host(agent.host).unwrap().plan_version > before, "the host must hear of it");
    for by in [0, -1, i64::MIN, i64::MAX] {
        assert_eq!(world.call(extend(by)).unwrap_err().kind, Kind::Invalid, "{by}");
    }
    assert_eq!(world.call(extend(8 * 86_400)).unwrap_err().kind, Kind::Conflict);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    assert_eq!(world.call(extend(1)).unwrap_err().kind, Kind::Conflict);
}

#[test]
fn an_image_is_registered_once_and_may_move() {
    let (mut world, _) = World::lending();
    let lease = world.rent(1000).unwrap();
    let register = |manifest: &ImageManifest, depot: &str| Command::RegisterImage {
        actor: operator(),
        manifest: Signed::sign(manifest, &SecretKey::from_seed(&[8; 32])).unwrap(),
        depot: depot.into(),
    };
    let same = manifest("tiny", "tiny");
    world.call(register(&same, "https://elsewhere:1")).unwrap();
    let plan = crate::engine::plan::of(world.engine.state(), lease.host).unwrap();
    assert_eq!(plan.wanted.iter().find_map(|w| w.run.as_ref()).unwrap().depot, "https://elsewhere:1");
    let other = ImageManifest { command_line: "loud".into(), ..same.clone() };
    assert_eq!(world.call(register(&other, "https://elsewhere:1")).unwrap_err().kind, Kind::Conflict);
    for depot in ["", "file:///etc", "http://", "http://a b", "http://a\"", &format!("http://{}", "a".repeat(200))] {
        assert_eq!(world.call(register(&same, depot)).unwrap_err().kind, Kind::Invalid, "{depot}");
    }
    let hostile = ImageManifest { name: "../x".into(), ..same.clone() };
    assert_eq!(world.call(register(&hostile, "http://a")).unwrap_err().kind, Kind::Invalid);
    let Command::RegisterImage { actor, mut manifest, depot } = register(&same, "http://a") else { unreachable!() };
    manifest.payload = manifest.payload.replace("quiet", "loud!");
    assert_eq!(world.call(Command::RegisterImage { actor, manifest, depot }).unwrap_err().kind, Kind::Invalid);
}

#[test]
fn a_forgotten_host_ends_its_leases_and_its_partitions_never_come_back() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    world.call(Command::ForgetHost { actor: operator(), host: agent.host }).unwrap();
    assert!(matches!(world.lease(lease.id).state, LeaseState::Ended { reason: EndReason::HostLost, .. }));
    assert_eq!(world.try_sync(&mut agent).unwrap_err().kind, Kind::SessionRefused);
    assert_eq!(world.engine.state().partitions().count(), 0);
    let mut other = world.add_host(101);
    other.says.division.partitions[0].id = agent.partition(0);
    other.says.division.revision += 1;
    assert!(world.sync(&mut other).division_refused.unwrap().contains("another host"));
}

#[test]
fn boots_that_fail_in_a_row_unlist_a_partition_for_a_while() {
    let (mut world, mut agent) = World::lending();
    // The other one is the owner's own, so that each rent goes to the same.
    agent.says.division.partitions[1].lendable = false;
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    for _ in 0..3 {
        let lease = world.rent(1000).unwrap();
        agent.sees(&lease, Phase::Gone { reason: Some(EndReason::BootFailed) });
        world.sync(&mut agent);
        assert!(matches!(world.lease(lease.id).state, LeaseState::Ended { reason: EndReason::BootFailed, .. }));
        assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.total, Micros(0), "nothing is billed");
    }
    let row = world.engine.state().partition(agent.partition(0)).unwrap();
    assert_eq!((row.failed_boots, row.unlisted_until), (3, Some(world.now.after(Seconds(600)))));
    assert_eq!(world.rent(1000).unwrap_err().kind, Kind::NoMatch);
    assert!(world.engine.state().reliability_permille(agent.host) == 0);
    world.pass(600);
    world.sync(&mut agent);
    let lease = world.running(&mut agent);
    agent.sees(&lease, Phase::Gone { reason: Some(EndReason::GuestShutdown) });
    world.sync(&mut agent);
    assert_eq!(world.engine.state().partition(agent.partition(0)).unwrap().failed_boots, 0, "one that worked");
}
