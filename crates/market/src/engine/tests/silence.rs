//! Silence, expiry, settlement: what time does.

use super::world::*;
use crate::engine::command::Command;
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::partition::Phase;
use sublet_model::units::Seconds;
use sublet_wire::problem::Kind;

/// Passes time in small steps, ticking; the agents given go on syncing.
fn live_on(world: &mut World, seconds: i64, agents: &mut [&mut Agent]) {
    for _ in 0..seconds.div_euclid(5) {
        world.pass(5);
        agents.iter_mut().for_each(|agent| drop(world.sync(agent)));
        world.tick();
    }
}

#[test]
fn silence_destroys_nothing_and_ends_with_the_next_word() {
    let (mut world, mut agent) = World::lending();
    let (mut b, mut c) = (world.add_host(101), world.add_host(102));
    let lease = world.running(&mut agent);
    assert_eq!(lease.host, agent.host);
    let ready_at = world.now;
    live_on(&mut world, 20, &mut [&mut b, &mut c]);
    assert!(world.lease(lease.id).state.silent_since().is_none());
    assert_eq!(world.engine.state().host_status(world.engine.state().host(agent.host).unwrap(), world.now), "suspect");
    live_on(&mut world, 100, &mut [&mut b, &mut c]);
    assert!(world.lease(lease.id).state.silent_since().is_some());
    assert_eq!(world.lease(lease.id).generation, lease.generation);
    world.sync(&mut agent);
    assert_eq!(world.lease(lease.id).state, LeaseState::Active { ready_at, silent_since: None });

    // Silent again until what is paid for is used up: lost, and quarantined until the host speaks.
    live_on(&mut world, 3700, &mut [&mut b, &mut c]);
    assert_eq!(world.lease(lease.id).state, LeaseState::Lost { reason: EndReason::HostLost });
    assert!(world.engine.state().holder(lease.partition).is_some());
    let stopped_at = world.lease(lease.id).timeline.stopped_at;
    assert!(stopped_at.is_some_and(|at| at < world.now));
    world.sync(&mut agent);
    assert_eq!(world.lease(lease.id).timeline.stopped_at, stopped_at, "it stopped when it was lost");
    assert_eq!(world.lease(lease.id).state, LeaseState::Stopping { reason: EndReason::HostLost });
    agent.sees(&lease, Phase::Gone { reason: None });
    let last = agent.receipt(&lease, 3600, true);
    agent.says.receipts = vec![last];
    world.sync(&mut agent);
    // What was held when the host was heard last: more it could not know of, so more is not billed.
    assert_eq!(world.lease(lease.id).paid_seconds, Seconds(1800));
    assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.billed_seconds, Seconds(1800));
}

#[test]
fn a_client_may_leave_a_silent_lease() {
    let (mut world, mut agent) = World::lending();
    let (mut b, mut c) = (world.add_host(101), world.add_host(102));
    let lease = world.running(&mut agent);
    live_on(&mut world, 70, &mut [&mut b, &mut c]);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    assert_eq!(world.lease(lease.id).state, LeaseState::Lost { reason: EndReason::Released });
    live_on(&mut world, 3700, &mut [&mut b, &mut c]);
    let charge = world.engine.state().charge(lease.id).expect("settled an hour after it was lost");
    assert_eq!(charge.charge.total.0, 0, "nothing was receipted");
    // What comes later is recorded, and not billed.
    let late = agent.receipt(&lease, 60, true);
    agent.says.receipts = vec![late];
    assert_eq!(world.sync(&mut agent).acknowledged.len(), 1);
    assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.total.0, 0);
    assert_eq!(world.lease(lease.id).chain.as_ref().unwrap().seconds, Seconds(60));
}

#[test]
fn if_most_hosts_fall_silent_together_nobody_is_declared() {
    let (mut world, mut agent) = World::lending();
    let (mut b, mut c) = (world.add_host(101), world.add_host(102));
    let lease = world.running(&mut agent);
    world.sync(&mut b);
    world.pass(2);
    world.sync(&mut c);
    live_on(&mut world, 300, &mut []);
    assert!(world.lease(lease.id).state.silent_since().is_none(), "three of three: it is we who do not hear");
    // Two of them are back: the third is silent for itself.
    live_on(&mut world, 20, &mut [&mut b, &mut c]);
    assert!(world.lease(lease.id).state.silent_since().is_some());
}

#[test]
fn a_suspected_host_or_one_with_a_wrong_clock_gets_nothing_new() {
    let (mut world, mut agent) = World::lending();
    world.pass(15);
    assert_eq!(world.rent(1000).unwrap_err().kind, Kind::NoMatch);
    world.sync(&mut agent);
    world.rent(1000).unwrap();
    for off in [31, -31] {
        agent.says.wall_clock = world.now.after(Seconds(off));
        let answer = world.raw_sync(agent.host, agent.session, agent.says.clone()).unwrap();
        assert!(answer.warnings.iter().any(|w| w.contains("clock")), "{:?}", answer.warnings);
        assert_eq!(world.rent(1000).unwrap_err().kind, Kind::NoMatch);
    }
    world.sync(&mut agent);
    world.rent(1000).unwrap();
}

#[test]
fn the_market_ends_what_its_host_does_not() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    live_on(&mut world, 3625, &mut [&mut agent]);
    assert!(world.lease(lease.id).state.is_wanted(), "the host's own word is waited for");
    live_on(&mut world, 10, &mut [&mut agent]);
    assert_eq!(world.lease(lease.id).state, LeaseState::Stopping { reason: EndReason::Expired });
}

#[test]
fn a_lease_that_never_becomes_ready_is_given_up() {
    let (mut world, mut agent) = World::lending();
    let booting = world.rent(1000).unwrap();
    let fetching = world.rent(1000).unwrap();
    agent.sees(&booting, Phase::Booting);
    agent.sees(&fetching, Phase::Fetching { done: 1, total: 2 });
    live_on(&mut world, 610, &mut [&mut agent]);
    assert_eq!(world.lease(booting.id).state, LeaseState::Stopping { reason: EndReason::BootFailed });
    assert!(world.lease(fetching.id).state.is_wanted(), "a large image on a thin line takes longer");
    live_on(&mut world, 3000, &mut [&mut agent]);
    assert_eq!(world.lease(fetching.id).state, LeaseState::Stopping { reason: EndReason::BootFailed });
}

#[test]
fn without_a_last_receipt_the_bill_waits_an_hour() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let first = agent.receipt(&lease, 10, false);
    agent.says.receipts = vec![first];
    world.sync(&mut agent);
    agent.says.receipts.clear();
    world.pass(30);
    agent.sees(&lease, Phase::Gone { reason: None });
    world.sync(&mut agent);
    assert!(matches!(world.lease(lease.id).state, LeaseState::Ended { reason: EndReason::HostRestarted, .. }));
    live_on(&mut world, 3590, &mut [&mut agent]);
    assert!(world.engine.state().charge(lease.id).is_none());
    live_on(&mut world, 20, &mut [&mut agent]);
    assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.billed_seconds, Seconds(10));
}

#[test]
fn an_owner_takes_back_at_once_or_after_the_notice() {
    for (notice, reason) in [(None, EndReason::Evicted), (Some(Seconds(60)), EndReason::Reclaimed)] {
        let (mut world, mut agent) = World::lending();
        agent.says.division.conditions.as_mut().unwrap().reclaim_notice_seconds = notice;
        agent.says.division.revision += 1;
        world.sync(&mut agent);
        let lease = world.running(&mut agent);
        let at = agent.says.division.partitions.iter().position(|p| p.id == lease.partition).unwrap();
        agent.says.division.partitions[at].taken_back = Some(lease.generation);
        agent.says.division.revision += 1;
        let answer = world.sync(&mut agent);
        if notice.is_some() {
            assert!(answer.warnings.iter().any(|w| w.contains("1m")), "{:?}", answer.warnings);
            assert!(world.lease(lease.id).state.is_wanted());
            live_on(&mut world, 30, &mut [&mut agent]);
            // To say it again does not begin the notice again.
            agent.says.division.revision += 1;
            world.sync(&mut agent);
            live_on(&mut world, 30, &mut [&mut agent]);
        }
        assert_eq!(world.lease(lease.id).state, LeaseState::Stopping { reason });
        agent.sees(&lease, Phase::Gone { reason: None });
        world.sync(&mut agent);
        assert!(world.engine.state().partition(lease.partition).unwrap().taken_back.is_none());
    }
}
