//! Requests that stand, at the borders: to the second how long they are held, how many there may
//! be, what wakes them, and what they are told in the end.

use super::standing::{MINUTE, ask, full, gone, granted, key, stands, waiting};
use super::world::*;
use crate::db::Sqlite;
use crate::engine::change::Change;
use crate::engine::command::{Actor, Command, Idempotency, Refusal, Rent, Reply};
use crate::engine::commit::{Commit, CommitError, Recalled};
use crate::engine::state::Tables;
use crate::engine::step::Request;
use sublet_model::account::Role;
use sublet_model::ids::MemberId;
use sublet_model::lease::EndReason;
use sublet_model::partition::Phase;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::problem::Kind;
use sublet_wire::sync::Declared;

/// So long a request is held that was asked for once.
const HELD: i64 = 35;

/// Whether a request asked for now, and again after so long, is granted what comes free at last.
fn is_granted_after(again: Option<i64>, last: i64) -> bool {
    let (mut world, mut agent, held) = full();
    stands(ask(&mut world, 70, 1000));
    if let Some(seconds) = again {
        world.pass(seconds);
        world.sync(&mut agent);
        stands(ask(&mut world, 70, 1000));
    }
    // The host is heard all the time.
    for second in 1..=last {
        world.pass(1);
        if second % 10 == 0 && second < last {
            world.sync(&mut agent);
        }
    }
    let frees = gone(&mut world, &mut agent, held);
    world.step(vec![frees]);
    world.engine.state().lease(id(70)).is_some()
}

#[test]
fn it_is_held_to_the_second_from_when_it_was_asked_for_last() {
    assert!(is_granted_after(None, HELD - 1));
    assert!(!is_granted_after(None, HELD), "nobody waits for the answer any more");
    assert!(is_granted_after(Some(5), HELD - 1));
    assert!(!is_granted_after(Some(5), HELD));
}

#[test]
fn at_the_end_of_its_wait_nothing_is_granted_any_more() {
    for (last, expected) in [(19, true), (20, false)] {
        let (mut world, mut agent, held) = full();
        let rent = Rent { wait: Some(Seconds(20)), ..asking(client(), &[id(70)], 1000) };
        let request = Request { command: Command::Rent(Box::new(rent)), idempotency: Some(key(70)) };
        assert_eq!(stands(world.step(vec![request]).remove(0)).until, world.now.after(Seconds(20)));
        world.pass(last);
        let frees = gone(&mut world, &mut agent, held);
        world.step(vec![frees]);
        assert_eq!(world.engine.state().lease(id(70)).is_some(), expected, "after {last} seconds");
    }
}

#[test]
fn a_wait_is_a_day_at_most() {
    let (mut world, _, _) = full();
    let rent = Rent { wait: Some(Seconds(86_401)), ..asking(client(), &[id(70)], 1000) };
    let request = Request { command: Command::Rent(Box::new(rent)), idempotency: Some(key(70)) };
    assert_eq!(stands(world.step(vec![request]).remove(0)).until, world.now.after(Seconds(86_400)));
}

#[test]
fn a_place_is_forgotten_a_minute_after_its_hold_and_not_before() {
    for (last, place_is_kept) in [(HELD + MINUTE - 1, true), (HELD + MINUTE, false)] {
        let (mut world, _, _) = full();
        let since = stands(ask(&mut world, 70, 1000)).since;
        world.pass(last);
        world.tick();
        assert_eq!(stands(ask(&mut world, 70, 1000)).since == since, place_is_kept, "after {last} seconds");
    }
}

#[test]
fn an_image_that_may_boot_again_is_granted_to_who_stands_without_any_other_change() {
    let (mut world, _) = World::lending();
    let image = |suspended| Command::SuspendImage { actor: operator(), reference: "tiny@1".into(), suspended };
    let reference = world.engine.state().images().next().unwrap().manifest.reference();
    assert_eq!(reference, "tiny@1");
    world.call(image(true)).unwrap();
    stands(ask(&mut world, 70, 1000));
    assert!(world.engine.state().lease(id(70)).is_none());
    world.call(image(false)).unwrap();
    assert!(world.engine.state().lease(id(70)).is_some(), "in the same step");
}

#[test]
fn a_lender_who_may_lend_again_serves_who_stands() {
    let (mut world, _) = World::lending();
    let lender = |suspended| Command::SuspendAccount { actor: operator(), id: id(LENDER), suspended };
    world.call(lender(true)).unwrap();
    stands(ask(&mut world, 70, 1000));
    world.call(lender(false)).unwrap();
    assert!(world.engine.state().lease(id(70)).is_some());
}

#[test]
fn what_opens_by_the_clock_alone_is_found_within_ten_seconds_by_who_does_not_ask_again() {
    let (mut world, mut agent, held) = full();
    let mut held = world.lease(held).clone();
    for n in 0..3 {
        agent.sees(&held, Phase::Gone { reason: Some(EndReason::BootFailed) });
        world.sync(&mut agent);
        if n < 2 {
            held = world.rent(1000).unwrap();
        }
    }
    let until = world.engine.state().partition(agent.partition(0)).unwrap().unlisted_until.unwrap();
    world.now = Timestamp(until.0 - 5_000_000);
    world.sync(&mut agent);
    world.tick();
    stands(ask(&mut world, 70, 1000));
    for second in 1..=12 {
        world.pass(1);
        world.tick();
        assert!(second >= 5 || world.engine.state().lease(id(70)).is_none());
    }
    assert!(world.engine.state().lease(id(70)).is_some());
}

#[test]
fn what_is_told_in_the_end_is_why_nothing_fitted_last() {
    let (mut world, mut agent) = World::lending();
    let lends = |world: &mut World, agent: &mut Agent, lendable| {
        agent.says.division.partitions.iter_mut().for_each(|p| p.lendable = lendable);
        agent.says.division.revision += 1;
        world.sync(agent);
    };
    lends(&mut world, &mut agent, false);
    let rent = Rent { wait: Some(Seconds(20)), ..asking(client(), &[id(70)], 3500) };
    let request = Request { command: Command::Rent(Box::new(rent)), idempotency: Some(key(70)) };
    stands(world.step(vec![request.clone()]).remove(0));
    lends(&mut world, &mut agent, true);
    world.pass(10);
    stands(world.step(vec![request.clone()]).remove(0));
    world.pass(10);
    let refusal = world.step(vec![request]).remove(0).unwrap_err();
    assert_eq!((refusal.kind, refusal.detail.as_str()), (Kind::NoMatch, "none of the 2 partitions that are lent fits"));
}

#[test]
fn so_many_of_one_account_and_so_many_of_all() {
    let (mut world, _, _) = full();
    // Sixteen accounts have thirty-two each: as many as ever stand.
    for account in 0..16u128 {
        let n = 2000 + account;
        let name = format!("many-{account}");
        world.call(Command::CreateAccount { actor: operator(), id: id(n), name: name.clone() }).unwrap();
        let roles = vec![Role::Client];
        world.call(Command::CreateMember { actor: operator(), id: id(n), account: id(n), name, roles }).unwrap();
        for k in 0..32 {
            stands(ask_as(&mut world, n, account * 100 + k));
        }
        if account == 0 {
            let refusal = ask_as(&mut world, n, 99).unwrap_err();
            let (kind, detail) = (refusal.kind, refusal.detail);
            assert_eq!(kind, Kind::Busy);
            assert_eq!(detail, "too many requests of your account stand already, and nothing fits");
        }
    }
    let refusal = ask(&mut world, 70, 1000).unwrap_err();
    assert_eq!(refusal.kind, Kind::Busy);
    assert_eq!(refusal.detail, "too many requests stand already, and nothing fits");
    // One gives up, and there is room for one.
    world.pass(HELD + MINUTE);
    world.tick();
    assert_eq!(stands(ask(&mut world, 70, 1000)).ahead, 0);
}

fn ask_as(world: &mut World, account: u128, k: u128) -> Result<Reply, Refusal> {
    let actor = Actor { member: id(account), account: id(account), roles: vec![Role::Client] };
    let once = Idempotency { member: id(account), ..key(10_000 + k) };
    world.step(vec![Request { idempotency: Some(once), ..waiting(10_000 + k, actor, 1000) }]).remove(0)
}

/// A database whose commits fail while it is told so.
struct Failing(Sqlite, bool);

impl Commit for Failing {
    fn commit(&mut self, at: Timestamp, changes: &[&Change]) -> Result<(), CommitError> {
        if self.1 { Err(CommitError::Busy("no room".into())) } else { self.0.commit(at, changes) }
    }

    fn recall(&mut self, member: MemberId, key: &str) -> Result<Option<Recalled>, CommitError> {
        self.0.recall(member, key)
    }

    fn edited(&mut self) -> Result<bool, CommitError> {
        self.0.edited()
    }

    fn load(&mut self) -> Result<Tables, CommitError> {
        self.0.load()
    }
}

#[test]
fn a_grant_that_was_not_committed_leaves_no_trace_in_what_it_is_told() {
    let mut world = World::over(Failing(Sqlite::in_memory().unwrap(), false));
    let mut agent = world.add_host(HOST);
    let third = Declared { id: id(HOST * 1000 + 3), name: "three".into(), ..agent.says.division.partitions[0].clone() };
    agent.says.division.partitions.push(third);
    agent.says.division.revision += 1;
    assert_eq!(world.sync(&mut agent).division_refused, None);
    let held = world.rent(2000).unwrap();
    stands(ask(&mut world, 70, 1000));
    world.call(Command::Release { actor: client(), lease: held.id }).unwrap();
    agent.sees(&held, Phase::Gone { reason: None });
    let sync = agent.sync(world.now);
    // The one that stands goes first; each that comes later would leave it room beside itself.
    let late = |n| Request { command: rent(stranger(), id(n), 500), idempotency: None };
    let batch = [Request { command: sync, idempotency: None }, late(80), late(81)];
    world.db.1 = true;
    let answers = world.engine.step(&mut world.db, &batch, world.now).unwrap().answers;
    assert!(answers.iter().all(|a| a.as_ref().unwrap_err().kind == Kind::Unavailable), "{answers:?}");
    assert_eq!(world.engine.state().leases().count(), 1, "all was taken back");
    world.db.1 = false;
    // Its time is over before it is tried again: nothing fitted when it was last refused.
    world.pass(10 * MINUTE);
    let refusal = ask(&mut world, 70, 1000).unwrap_err();
    assert_eq!(refusal.kind, Kind::NoMatch, "{refusal}");
}

#[test]
fn after_a_commit_that_failed_it_is_granted_with_the_next_step() {
    let mut world = World::over(Failing(Sqlite::in_memory().unwrap(), false));
    let mut agent = world.add_host(HOST);
    world.pass(20);
    stands(ask(&mut world, 70, 1000));
    let sync = agent.sync(world.now);
    world.db.1 = true;
    let heard = [Request { command: sync.clone(), idempotency: None }];
    let answers = world.engine.step(&mut world.db, &heard, world.now).unwrap().answers;
    assert!(answers[0].is_err());
    assert!(world.engine.state().lease(id(70)).is_none());
    world.db.1 = false;
    let stepped = world.engine.step(&mut world.db, &heard, world.now).unwrap();
    assert!(stepped.answers[0].is_ok());
    assert!(world.engine.state().lease(id(70)).is_some(), "nobody had to ask again");
    world.published = world.engine.state().clone();
    world.check();
    assert_eq!(granted(ask(&mut world, 70, 1000)), id(70));
}
