//! Requests that stand: in whose turn they are granted, and that nobody is granted twice.

use super::world::*;
use crate::engine::command::{Actor, Command, Idempotency, Outcome, Refusal, Rent, Reply, Stands};
use crate::engine::commit::Commit;
use crate::engine::state::State;
use crate::engine::step::{Engine, Request};
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::LeaseId;
use sublet_model::partition::Phase;
use sublet_model::partition::alter::resources;
use sublet_model::units::Seconds;
use sublet_wire::problem::Kind;

pub(super) const MINUTE: i64 = 60;

pub(super) fn key(n: u128) -> Idempotency {
    Idempotency { member: id(CLIENT), key: format!("key-{n}"), body: Sha256Digest::of(&n.to_be_bytes()) }
}

pub(super) fn waiting(n: u128, actor: Actor, cpu: i64) -> Request {
    let rent = Rent { wait: Some(Seconds(10 * MINUTE)), ..asking(actor, &[id(n)], cpu) };
    Request { command: Command::Rent(Box::new(rent)), idempotency: Some(key(n)) }
}

pub(super) fn ask<D: Commit>(world: &mut World<D>, n: u128, cpu: i64) -> Result<Reply, Refusal> {
    world.step(vec![waiting(n, client(), cpu)]).remove(0)
}

pub(super) fn stands(reply: Result<Reply, Refusal>) -> Stands {
    match reply {
        Ok(Reply::Stands(stands)) => stands,
        other => panic!("{other:?}"),
    }
}

pub(super) fn granted(reply: Result<Reply, Refusal>) -> LeaseId {
    match reply {
        Ok(Reply::Outcome(Outcome::Granted { lease, .. })) => lease,
        other => panic!("{other:?}"),
    }
}

/// A market in which one lease has everything; answers it.
pub(super) fn full() -> (World, Agent, LeaseId) {
    let (mut world, mut agent) = World::lending();
    let lease = filled(&mut world, &mut agent);
    (world, agent, lease)
}

/// Makes it such a one.
pub(super) fn filled<D: Commit>(world: &mut World<D>, agent: &mut Agent) -> LeaseId {
    agent.says.division.partitions[1].lendable = false;
    agent.says.division.revision += 1;
    world.sync(agent);
    world.rent(2000).unwrap().id
}

/// The lease ends, and its host says that all is wiped: the command that frees the partition.
pub(super) fn gone<D: Commit>(world: &mut World<D>, agent: &mut Agent, lease: LeaseId) -> Request {
    world.call(Command::Release { actor: operator(), lease }).unwrap();
    let lease = world.lease(lease).clone();
    agent.sees(&lease, Phase::Gone { reason: None });
    let sync = agent.sync(world.now);
    Request { command: sync, idempotency: None }
}

#[test]
fn what_stands_is_granted_as_soon_as_something_fits_and_once() {
    let (mut world, mut agent, held) = full();
    let first = stands(ask(&mut world, 70, 1000));
    assert_eq!((first.lease, first.ahead, first.since), (id(70), 0, world.now));
    let again = stands(ask(&mut world, 70, 1000));
    assert_eq!(again, Stands { turn: 2, ..first }, "asked again it stands where it stood");
    let frees = gone(&mut world, &mut agent, held);
    world.step(vec![frees]);
    assert_eq!(world.lease(id(70)).generation, 2, "granted with the commit that made room");
    // Whoever asked learns it by asking again, as often as it likes, even with other ids.
    for _ in 0..3 {
        assert_eq!(granted(ask(&mut world, 70, 1000)), id(70));
    }
    assert_eq!(world.engine.state().leases().count(), 2);
    let other = Request {
        idempotency: Some(Idempotency { body: Sha256Digest::of(b"x"), ..key(70) }),
        ..waiting(70, client(), 1)
    };
    assert_eq!(world.step(vec![other]).remove(0).unwrap_err().kind, Kind::IdempotencyMismatch);
}

#[test]
fn the_first_that_came_is_the_first_that_is_granted() {
    let (mut world, mut agent, held) = full();
    let places: Vec<usize> = (70..73).map(|n| stands(ask(&mut world, n, 1000)).ahead).collect();
    assert_eq!(places, [0, 1, 2]);
    let mut held = held;
    for n in 70..73 {
        let frees = gone(&mut world, &mut agent, held);
        world.step(vec![frees]);
        let leases: Vec<LeaseId> = world.engine.state().holding().map(|l| l.id).collect();
        assert_eq!(leases, [id(n)]);
        held = id(n);
    }
}

#[test]
fn a_later_one_passes_only_with_what_the_earlier_can_not_use() {
    let (mut world, mut agent, held) = full();
    stands(ask(&mut world, 70, 2500));
    stands(ask(&mut world, 71, 2000));
    stands(ask(&mut world, 72, 1000));
    // 2000 is all there ever is beside the owner's own: never enough for the first.
    let frees = gone(&mut world, &mut agent, held);
    world.step(vec![frees]);
    assert!(world.engine.state().lease(id(71)).is_some(), "the second could use it");
    assert!(world.engine.state().lease(id(72)).is_none(), "the third could, too, but came later");
    assert_eq!(stands(ask(&mut world, 70, 2500)).ahead, 0);
    assert_eq!(stands(ask(&mut world, 72, 1000)).ahead, 1);
}

#[test]
fn who_comes_now_gives_way_to_who_stands() {
    let (mut world, mut agent, held) = full();
    stands(ask(&mut world, 70, 1000));
    // The room, and somebody who would take it, in one batch.
    let frees = gone(&mut world, &mut agent, held);
    let late = Request { command: rent(stranger(), id(80), 500), idempotency: None };
    let answers = world.step(vec![frees, late]);
    assert_eq!(answers[1].as_ref().unwrap_err().kind, Kind::NoMatch);
    assert!(world.engine.state().lease(id(70)).is_some());
    // What the one that stands can't use is anybody's.
    stands(ask(&mut world, 71, 2500));
    let frees = gone(&mut world, &mut agent, id(70));
    let late = Request { command: rent(stranger(), id(81), 500), idempotency: None };
    assert!(world.step(vec![frees, late])[1].is_ok());
}

#[test]
fn nothing_is_granted_to_who_has_gone_and_a_place_is_kept_for_a_minute() {
    let (mut world, mut agent, held) = full();
    stands(ask(&mut world, 70, 1000));
    stands(ask(&mut world, 71, 1000));
    world.call(Command::Away { once: key(70), turn: 1 }).unwrap();
    let frees = gone(&mut world, &mut agent, held);
    world.step(vec![frees]);
    assert!(world.engine.state().lease(id(70)).is_none(), "its client would pay for nothing");
    assert!(world.engine.state().lease(id(71)).is_some());
    world.pass(MINUTE - 1);
    world.sync(&mut agent);
    world.tick();
    assert_eq!(stands(ask(&mut world, 70, 1000)).ahead, 0, "back in time: it stands where it stood");
    // One whose client just stops asking is away after the hold, and forgotten a minute later.
    world.pass(35 + MINUTE);
    world.sync(&mut agent);
    world.tick();
    let since = stands(ask(&mut world, 70, 1000)).since;
    assert_eq!(since, world.now, "it comes as a new one");
}

#[test]
fn a_connection_that_breaks_after_the_next_one_was_made_changes_nothing() {
    let (mut world, mut agent, held) = full();
    let first = stands(ask(&mut world, 70, 1000));
    stands(ask(&mut world, 70, 1000));
    world.call(Command::Away { once: key(70), turn: first.turn }).unwrap();
    let frees = gone(&mut world, &mut agent, held);
    world.step(vec![frees]);
    assert!(world.engine.state().lease(id(70)).is_some());
}

#[test]
fn who_comes_back_is_tried_at_once() {
    let (mut world, mut agent, held) = full();
    stands(ask(&mut world, 70, 1000));
    world.call(Command::Away { once: key(70), turn: 1 }).unwrap();
    let frees = gone(&mut world, &mut agent, held);
    world.step(vec![frees]);
    assert_eq!(granted(ask(&mut world, 70, 1000)), id(70));
}

#[test]
fn a_wait_that_is_over_is_refused_with_the_reason() {
    let (mut world, mut agent, _) = full();
    let until = stands(ask(&mut world, 70, 1000)).until;
    assert_eq!(until, world.now.after(Seconds(10 * MINUTE)));
    for _ in 0..20 {
        world.pass(30);
        world.sync(&mut agent);
        world.tick();
        if world.now < until {
            stands(ask(&mut world, 70, 1000));
        }
    }
    let refusal = ask(&mut world, 70, 1000).unwrap_err();
    assert_eq!((refusal.kind, refusal.unfit.is_empty()), (Kind::NoMatch, false));
    assert_eq!(world.db.count("select count(*) from idempotency"), 0, "nothing was stored of it");
}

#[test]
fn a_host_that_is_heard_again_and_time_alone_let_something_fit() {
    let (mut world, mut agent) = World::lending();
    world.pass(20);
    assert_eq!(stands(ask(&mut world, 70, 1000)).ahead, 0, "the host is suspect: nothing is lent");
    // Its answer was made before what stands was granted: the next one carries that.
    let sync = agent.sync(world.now);
    world.step(vec![Request { command: sync, idempotency: None }]);
    assert!(world.engine.state().lease(id(70)).is_some(), "heard again");
    // A partition that is not lent for a while after failed boots.
    let mut held = id(70);
    agent.says.division.partitions[1].lendable = false;
    agent.says.division.revision += 1;
    for n in 0..3 {
        let lease = world.lease(held).clone();
        agent.sees(&lease, Phase::Gone { reason: Some(sublet_model::lease::EndReason::BootFailed) });
        world.sync(&mut agent);
        if n < 2 {
            held = world.rent(1000).unwrap().id;
        }
    }
    world.pass(60);
    world.sync(&mut agent);
    stands(ask(&mut world, 71, 1000));
    for _ in 0..56 {
        world.pass(10);
        world.sync(&mut agent);
        world.tick();
        let _ = ask(&mut world, 71, 1000);
    }
    assert!(world.engine.state().lease(id(71)).is_some(), "no change said so: the time did");
}

#[test]
fn only_so_many_stand_and_only_requests_that_nothing_fits() {
    let (mut world, _, _) = full();
    for n in 0..32 {
        stands(ask(&mut world, 100 + n, 1000));
    }
    assert_eq!(ask(&mut world, 200, 1000).unwrap_err().kind, Kind::Busy);
    let other = Request {
        idempotency: Some(Idempotency { member: id(STRANGER), ..key(201) }),
        ..waiting(201, stranger(), 1000)
    };
    stands(world.step(vec![other]).remove(0));
    assert_eq!(ask(&mut world, 202, 0).unwrap_err().kind, Kind::Invalid);
    let keyless = Request { idempotency: None, ..waiting(203, client(), 1000) };
    assert_eq!(world.step(vec![keyless]).remove(0).unwrap_err().kind, Kind::NoMatch);
}

#[test]
fn after_a_restart_clients_ask_again_and_nobody_is_granted_twice() {
    let (mut world, mut agent, held) = full();
    stands(ask(&mut world, 70, 1000));
    let frees = gone(&mut world, &mut agent, held);
    world.step(vec![frees]);
    world.engine = Engine::new(State::new(world.db.load().unwrap()), keys(), world.now);
    world.published = world.engine.state().clone();
    assert_eq!(granted(ask(&mut world, 70, 1000)), id(70), "the row under its key tells");
    stands(ask(&mut world, 71, 1000));
    world.engine = Engine::new(State::new(world.db.load().unwrap()), keys(), world.now);
    world.published = world.engine.state().clone();
    world.sync(&mut agent);
    stands(ask(&mut world, 71, 1000));
    assert_eq!(world.engine.state().leases().count(), 2);
}

/// One step of a host that says this, in which nobody is asked twice.
fn says(world: &mut World, agent: &mut Agent) {
    let sync = agent.sync(world.now);
    world.step(vec![Request { command: sync, idempotency: None }]);
}

fn speed_of_two() -> Request {
    let mut rent = Rent { wait: Some(Seconds(10 * MINUTE)), ..asking(client(), &[id(70)], 1000) };
    rent.requirements.speed_at_least = Some(2);
    Request { command: Command::Rent(Box::new(rent)), idempotency: Some(key(70)) }
}

#[test]
fn whatever_makes_room_serves_who_stands_at_once() {
    let is_served = |world: &World| world.engine.state().lease(id(70)).is_some();
    let suspend = |suspended| Command::SuspendHost { actor: lender(), host: id(HOST), suspended };
    // A host that is lent again.
    let (mut world, _) = World::lending();
    world.call(suspend(true)).unwrap();
    stands(ask(&mut world, 70, 1000));
    world.call(suspend(false)).unwrap();
    assert!(is_served(&world), "restored");
    // One that measured itself anew.
    let (mut world, mut agent) = World::lending();
    stands(world.step(vec![speed_of_two()]).remove(0));
    agent.says.inventory.speed = 2;
    says(&mut world, &mut agent);
    assert!(is_served(&world), "faster");
    // One that lends more.
    let (mut world, mut agent, _) = full();
    stands(ask(&mut world, 70, 500));
    agent.says.division.partitions[1].lendable = true;
    agent.says.division.revision += 1;
    says(&mut world, &mut agent);
    assert!(is_served(&world), "lent");
    // An owner whose own partition needs less.
    let (mut world, mut agent) = World::lending();
    agent.says.division.partitions[1].lendable = false;
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    stands(ask(&mut world, 70, 2500));
    let (partition, less) = (agent.partition(1), resources(500, 512, 0));
    world.call(Command::Alter { actor: lender(), partition, resources: less }).unwrap();
    assert!(is_served(&world), "altered");
}

#[test]
fn one_that_stands_is_refused_when_it_is_no_longer_a_matter_of_room() {
    let (mut world, mut agent) = super::money::funded(10_000_000);
    filled(&mut world, &mut agent);
    stands(ask(&mut world, 70, 1000));
    let suspended = |suspended| Command::SuspendAccount { actor: operator(), id: id(CLIENT), suspended };
    world.call(suspended(true)).unwrap();
    assert_eq!(ask(&mut world, 70, 1000).unwrap_err().kind, Kind::Forbidden);
    world.call(suspended(false)).unwrap();
    let since = stands(ask(&mut world, 70, 1000));
    assert_eq!(since.turn, 1, "it comes as a new one");
}
