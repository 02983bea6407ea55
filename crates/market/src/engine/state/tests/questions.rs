//! What the state answers when it is asked: each question in a market in which the wrong answer
//! would be another one.

use crate::engine::change::Change;
use crate::engine::command::Command;
use crate::engine::rows::Lease;
use crate::engine::state::State;
use crate::engine::tests::world::*;
use std::sync::Arc;
use sublet_model::account::Role;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::LeaseId;
use sublet_model::lease::EndReason;
use sublet_model::ledger::{Book, Cause};
use sublet_model::partition::Phase;
use sublet_model::partition::alter::resources;
use sublet_model::units::{Micros, Seconds, Timestamp};
use sublet_wire::api::PurseChange;

fn status(world: &World) -> &'static str {
    let state = world.engine.state();
    state.host_status(state.host(id(HOST)).unwrap(), world.now)
}

#[test]
fn how_a_host_stands_to_the_second() {
    let (mut world, mut agent) = World::lending();
    for (seconds, expected) in [(14, "online"), (1, "suspect"), (44, "suspect"), (1, "silent")] {
        world.pass(seconds);
        assert_eq!(status(&world), expected);
    }
    world.sync(&mut agent);
    for (suspended, expected) in [(true, "suspended"), (false, "online")] {
        world.call(Command::SuspendHost { actor: operator(), host: agent.host, suspended }).unwrap();
        assert_eq!(status(&world), expected);
    }
    let read = State::new(world.engine.state().tables().clone());
    assert_eq!(read.host_status(read.host(agent.host).unwrap(), world.now), "silent", "not heard since the start");
    world.call(Command::ForgetHost { actor: operator(), host: agent.host }).unwrap();
    assert_eq!(status(&world), "forgotten");
    assert_eq!((world.engine.state().hosts().count(), world.engine.state().partitions().count()), (0, 0));
}

#[test]
fn who_was_not_heard_since_the_start_counts_from_the_start() {
    let (mut world, mut agent) = World::lending();
    world.pass(5);
    world.sync(&mut agent);
    let state = world.engine.state();
    assert_eq!((state.started_at(), state.heard_at(agent.host)), (START, START.after(Seconds(5))));
    let mut read = State::new(state.tables().clone());
    let _ = read.apply(&Change::Started { at: START.after(Seconds(7)) });
    assert_eq!(read.heard_at(agent.host), START.after(Seconds(7)));
    assert_eq!((state.listened_to(), read.listened_to()), (1, 0));
    let by = |seconds| state.heard_by(START.after(Seconds(seconds))).collect::<Vec<_>>();
    assert_eq!((by(4), by(5)), (vec![], vec![agent.host]));
    assert_eq!(state.heard_by(Timestamp(START.after(Seconds(5)).0 - 1)).count(), 0, "a microsecond later");
}

#[test]
fn everything_is_listed_oldest_first() {
    let (mut world, agent) = World::lending();
    let second = world.add_host(HOST + 1);
    world.register(&manifest("later", "later"));
    for n in [20, 21] {
        let command = Command::CreateToken {
            actor: client(),
            id: id(n),
            member: id(CLIENT),
            name: "t".into(),
            hash: Sha256Digest::of(&n.to_be_bytes()),
            roles: vec![Role::Client],
            expires_at: world.now.after(Seconds(60)),
        };
        world.call(command).unwrap();
    }
    let state = world.engine.state();
    assert_eq!(state.accounts().map(|a| a.name.as_str()).collect::<Vec<_>>(), PEOPLE);
    assert_eq!(state.members().map(|m| m.name.as_str()).collect::<Vec<_>>(), PEOPLE);
    assert_eq!(state.tokens().map(|t| t.id).collect::<Vec<_>>(), [id(20), id(21)]);
    assert_eq!(state.hosts().map(|h| h.id).collect::<Vec<_>>(), [agent.host, second.host]);
    let all = [agent.partition(0), agent.partition(1), second.partition(0), second.partition(1)];
    assert_eq!(state.partitions().map(|p| p.id).collect::<Vec<_>>(), all);
    assert_eq!(state.images().map(|i| i.manifest.name.as_str()).collect::<Vec<_>>(), ["later", "tiny"], "by reference");
}

const PEOPLE: [&str; 4] = ["operator", "lender", "client", "stranger"];

#[test]
fn of_each_offer_the_newest_version_counts() {
    let (mut world, mut agent) = World::lending();
    world.add_host(HOST + 1);
    agent.says.division.revision += 1;
    let conditions = agent.says.division.conditions.as_mut().unwrap();
    conditions.longest_term_seconds = Seconds(7200);
    world.sync(&mut agent);
    let state = world.engine.state();
    let (offer, version) = state.host(agent.host).unwrap().offer.unwrap();
    assert_eq!(version, 2);
    assert_eq!(state.newest_offer(offer).unwrap().offer.version, 2);
    assert_eq!(state.offer(offer, 1).unwrap().offer.version, 1);
    let mut versions: Vec<u32> = state.offers().map(|row| row.offer.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, [1, 2], "one row an offer");
    assert!(state.newest_offer(id(999)).is_none());
}

#[test]
fn leases_are_found_by_who_rents_who_lends_and_where() {
    let (mut world, mut agent) = World::lending();
    let mine = world.rent(1000).unwrap();
    let other = world.rent_as(stranger(), 1000).unwrap();
    let second = world.add_host(HOST + 1);
    agent.sees(&mine, Phase::Gone { reason: None });
    world.call(Command::Release { actor: client(), lease: mine.id }).unwrap();
    world.sync(&mut agent);
    let state = world.engine.state();
    let ids = |leases: &mut dyn Iterator<Item = &Arc<Lease>>| leases.map(|lease| lease.id).collect::<Vec<LeaseId>>();
    assert_eq!(ids(&mut state.leases()), [mine.id, other.id]);
    assert_eq!(ids(&mut state.leases_of(id(CLIENT))), [mine.id], "ended ones too");
    assert_eq!(ids(&mut state.leases_lent_by(id(LENDER))), [mine.id, other.id]);
    assert_eq!(ids(&mut state.leases_lent_by(id(CLIENT))), []);
    assert_eq!(ids(&mut state.leases_on(agent.host)), [mine.id, other.id]);
    assert_eq!(ids(&mut state.leases_on(second.host)), []);
    assert_eq!(ids(&mut state.holding()), [other.id]);
    assert_eq!(ids(&mut state.held_on(agent.host)), [other.id]);
    assert_eq!(state.holder(other.partition).map(|l| l.id), Some(other.id));
    assert!(state.holder(mine.partition).is_none());
    assert_eq!((state.holding_of(id(CLIENT)), state.holding_of(id(STRANGER))), (0, 1));
    assert!(state.lease_by_name(id(STRANGER), &other.name).is_some());
    assert!(state.lease_by_name(id(CLIENT), &mine.name).is_none(), "its name is free again");
    let unsettled = state.leases().filter(|l| state.charge(l.id).is_none()).map(|l| l.id).collect::<Vec<_>>();
    assert_eq!(ids(&mut state.unsettled()), unsettled);
    // 3000 is lendable: what is held is taken, of the others their min.
    assert_eq!(state.reach(mine.partition).unwrap().cpu, resources(2000, 0, 0).cpu);
    assert_eq!(state.reach(other.partition), None);
}

#[test]
fn seconds_so_far_are_receipted_or_said_since_and_never_beyond_the_term() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let far = |world: &World| world.engine.state().seconds_so_far(world.lease(lease.id)).0;
    assert_eq!(far(&world), 0);
    world.pass(10);
    agent.says.receipts = vec![agent.receipt(&lease, 5, false)];
    world.sync(&mut agent);
    assert_eq!(far(&world), 5);
    agent.says.receipts.clear();
    for (said, expected) in [(3, 5), (8, 8), (lease.term_seconds.0 + 1, lease.term_seconds.0)] {
        agent.says.observed[0].seconds = Seconds(said);
        world.sync(&mut agent);
        assert_eq!(far(&world), expected, "said {said}");
    }
    agent.says.observed[0].seconds = Seconds(8);
    agent.says.observed[0].lease = Some(id(4711));
    world.sync(&mut agent);
    assert_eq!(far(&world), 5, "that is said of another lease");
}

#[test]
fn a_host_is_judged_by_its_last_hundred_leases() {
    let (mut world, mut agent) = World::lending();
    let host = agent.host;
    let mut end = |world: &mut World, reason: Option<EndReason>| {
        let lease = world.rent(500).unwrap();
        if reason.is_none() {
            world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
        }
        agent.sees(&lease, Phase::Gone { reason });
        world.sync(&mut agent);
        world.engine.state().reliability_permille(host)
    };
    assert_eq!(world.engine.state().reliability_permille(host), 1000, "nobody rented yet");
    assert_eq!(end(&mut world, None), 1000);
    assert_eq!(end(&mut world, Some(EndReason::HostRestarted)), 500);
    assert_eq!(end(&mut world, Some(EndReason::GuestCrashed)), 666, "that is the client's own affair");
    assert_eq!(end(&mut world, None), 750);
    // Of a hundred and one the fault is still among the last hundred, of a hundred and two no more.
    let tables = world.engine.state().tables().clone();
    let last = tables.leases.values().next_back().unwrap().clone();
    let after = |more: u128| {
        let mut tables = tables.clone();
        for n in 0..more {
            let lease = Lease { id: id(9_000_000 + n), ..(*last).clone() };
            tables.leases.insert(lease.id, Arc::new(lease));
        }
        State::new(tables).reliability_permille(host)
    };
    assert_eq!([0, 1, 3, 96, 97, 98].map(after), [750, 800, 857, 990, 990, 1000]);
}

#[test]
fn who_waits_for_news_of_a_lease_sees_its_version_rise_even_across_a_restart() {
    let (mut world, mut agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    let version = |state: &State| state.lease_version(lease.id);
    let mut last = version(world.engine.state());
    // The host only says how far it is: nothing of that is stored, and yet it is news, once.
    for phase in
        [Phase::Fetching { done: 1, total: 2 }, Phase::Fetching { done: 2, total: 2 }, Phase::Booting, Phase::Ready]
    {
        agent.sees(&lease, phase);
        world.sync(&mut agent);
        let now = version(world.engine.state());
        assert!(now > last, "{phase:?}");
        last = now;
        world.pass(1);
        world.sync(&mut agent);
        assert_eq!(version(world.engine.state()), last, "said again, {phase:?} is no news");
    }
    let mut read = State::new(world.engine.state().tables().clone());
    let _ = read.apply(&Change::Started { at: world.now });
    assert!(version(&read) > last, "a version seen before is not met again");
}

#[test]
fn what_was_taken_back_is_known_until_it_is_gone() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    assert_eq!(world.engine.state().taken_back().count(), 0);
    agent.says.division.partitions[0].taken_back = Some(lease.generation);
    agent.says.division.revision += 1;
    assert_eq!(world.sync(&mut agent).division_refused, None);
    let taken: Vec<_> = world.engine.state().taken_back().map(|p| p.id).collect();
    assert_eq!(taken, [lease.partition]);
}

#[test]
fn who_is_declared_silent_is_not_listened_to_until_it_speaks() {
    let (mut world, mut agent) = World::lending();
    world.running(&mut agent);
    let told =
        |world: &World| (world.engine.state().listened_to(), world.engine.state().live(id(HOST)).unwrap().silent);
    world.pass(59);
    world.tick();
    assert_eq!(told(&world), (1, false));
    world.pass(1);
    world.tick();
    assert_eq!(told(&world), (0, true));
    assert_eq!(world.engine.state().heard_by(world.now).count(), 0);
    world.sync(&mut agent);
    assert_eq!(told(&world), (1, false));
}

#[test]
fn in_its_first_life_a_market_waits_for_nobody_to_tell_what_it_forgot() {
    let (world, agent) = World::lending();
    let read = State::new(world.engine.state().tables().clone());
    assert!(read.live(agent.host).is_none() && read.is_caught_up(agent.host, START));
}

#[test]
fn a_host_that_is_silent_or_whose_clock_is_off_is_not_free_in_the_book() {
    let (mut world, mut agent) = World::lending();
    let free = |world: &World| {
        let mut free = 0;
        world.engine.state().book().each(world.now, |_, listing| free += usize::from(listing.reach.is_some()));
        free
    };
    assert_eq!(free(&world), 2);
    world.pass(60);
    world.tick();
    assert_eq!(free(&world), 0, "silent");
    world.sync(&mut agent);
    assert_eq!(free(&world), 2);
    let mut says = agent.says.clone();
    says.wall_clock = world.now.after(Seconds(3600));
    world.raw_sync(agent.host, agent.session, says).unwrap();
    assert_eq!(free(&world), 0, "an hour ahead");
}

#[test]
fn what_a_purse_has_is_less_by_what_is_owed_and_set_aside() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let of = |world: &World| {
        let (state, account) = (world.engine.state(), id(CLIENT));
        (state.purse(account, world.now).0, state.owed(account).0, state.set_aside(account).0)
    };
    let held = world.engine.state().held_for(lease.id).unwrap().0;
    assert!(held > 0);
    assert_eq!(of(&world), (i64::MAX / 4 - held, held, held));
    let change = PurseChange { month_limit: Some(Micros(held + 7)), ..PurseChange::default() };
    world.call(Command::SetPurse { actor: operator(), account: id(CLIENT), change }).unwrap();
    assert_eq!(of(&world), (7, held, held));
}

#[test]
fn money_that_moves_for_a_lease_is_news_of_it() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let mut state = world.engine.state().clone();
    let (before, payer) = (state.lease_version(lease.id), Book::Owed(lease.account));
    let cause = Cause::Hold { lease: lease.id, client: lease.account };
    let transfer = state.ledger().next(world.now, cause, payer, &[(Book::Held(lease.id), Micros(1))]);
    let _ = state.apply(&Change::Transfer { transfer, after: Vec::new() });
    assert!(state.lease_version(lease.id) > before);
}
