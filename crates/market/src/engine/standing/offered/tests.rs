//! What a host is thought to lend, host by host, is what the book says of all of them: here for
//! every reason for which something is not lent.

use super::on_host;
use crate::engine::command::Command;
use crate::engine::tests::world::*;
use sublet_model::ids::{HostId, PartitionId};
use sublet_model::lease::EndReason;
use sublet_model::partition::Phase;
use sublet_model::resources::Resources;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::sync::Declared;

type Told = (PartitionId, String, Option<Resources>, Resources, u32, u16, Timestamp);

fn told(l: &sublet_model::book::Listing<'_>) -> Told {
    let (offer, name) = (l.offer.version, l.host_name.to_owned());
    (l.partition, name, l.reach, l.least, offer, l.reliability_permille, l.listed_at)
}

/// What is lent on a host, after seeing that both ways of asking say the same.
#[track_caller]
fn lent(world: &World, host: HostId) -> Vec<PartitionId> {
    let (state, now) = (world.engine.state(), world.now);
    let mut here: Vec<Told> = on_host(state, host, now).iter().map(told).collect();
    let mut book = Vec::new();
    let heard = state.live(host).is_some_and(|live| live.is_fresh(now));
    state.book().each(now, |its, listing| {
        if its == host && heard {
            book.push(told(listing));
        }
    });
    here.sort_by_key(|told| told.0);
    book.sort_by_key(|told: &Told| told.0);
    assert_eq!(here, book);
    here.into_iter().map(|(partition, ..)| partition).collect()
}

fn divide(world: &mut World, agent: &mut Agent, edit: impl FnOnce(&mut Vec<Declared>)) {
    edit(&mut agent.says.division.partitions);
    agent.says.division.revision += 1;
    assert_eq!(world.sync(agent).division_refused, None);
}

#[test]
fn all_that_is_lent_held_or_not() {
    let (mut world, agent) = World::lending();
    let both = [agent.partition(0), agent.partition(1)];
    assert_eq!(lent(&world, agent.host), both);
    let lease = world.rent(1000).unwrap();
    assert_eq!(lent(&world, agent.host), both, "nobody can have the one that is held: it has no reach");
    let listings = on_host(world.engine.state(), agent.host, world.now);
    assert!(listings.iter().all(|l| l.reach.is_none() == (l.partition == lease.partition)));
    assert_eq!(lent(&world, id(HOST + 1)), [], "no such host");
}

#[test]
fn what_its_owner_does_not_lend_is_not_lent() {
    let (mut world, mut agent) = World::lending();
    let both = [agent.partition(0), agent.partition(1)];
    divide(&mut world, &mut agent, |partitions| partitions[1].lendable = false);
    assert_eq!(lent(&world, agent.host), both[..1]);
    divide(&mut world, &mut agent, |partitions| partitions[1].lendable = true);
    assert_eq!(lent(&world, agent.host), both);
    // What is held and no longer declared leaves as soon as it is free.
    let lease = world.rent(1000).unwrap();
    divide(&mut world, &mut agent, |partitions| partitions.retain(|p| p.id != lease.partition));
    let row = world.engine.state().partition(lease.partition).unwrap();
    assert!(row.leaving && row.retired_at.is_none(), "{row:?}");
    assert_eq!(lent(&world, agent.host), [agent.partition(0)]);
}

#[test]
fn nothing_is_lent_of_who_is_not_heard_or_barred() {
    let (mut world, mut agent) = World::lending();
    let both = [agent.partition(0), agent.partition(1)];
    let host = agent.host;
    for (seconds, expected) in [(14, &both[..]), (1, &[])] {
        world.pass(seconds);
        assert_eq!(lent(&world, host), expected, "suspect after fifteen seconds");
    }
    world.sync(&mut agent);
    assert_eq!(lent(&world, host), both);
    let mut says = agent.says.clone();
    says.wall_clock = world.now.after(Seconds(31));
    world.raw_sync(host, agent.session, says).unwrap();
    assert_eq!(lent(&world, host), [], "its clock is off");
    world.sync(&mut agent);
    for suspended in [true, false] {
        world.call(Command::SuspendHost { actor: operator(), host, suspended }).unwrap();
        assert_eq!(lent(&world, host), if suspended { &[] } else { &both[..] });
    }
    for suspended in [true, false] {
        world.call(Command::SuspendAccount { actor: operator(), id: id(LENDER), suspended }).unwrap();
        assert_eq!(lent(&world, host), if suspended { &[] } else { &both[..] });
    }
    world.call(Command::ForgetHost { actor: operator(), host }).unwrap();
    assert_eq!(lent(&world, host), []);
}

#[test]
fn after_boots_that_failed_nothing_is_lent_until_its_time_has_come() {
    let (mut world, mut agent) = World::lending();
    divide(&mut world, &mut agent, |partitions| partitions[1].lendable = false);
    for _ in 0..3 {
        assert_eq!(lent(&world, agent.host), [agent.partition(0)]);
        let lease = world.rent(1000).unwrap();
        agent.sees(&lease, Phase::Gone { reason: Some(EndReason::BootFailed) });
        world.sync(&mut agent);
    }
    assert_eq!(lent(&world, agent.host), []);
    let until = world.engine.state().partition(agent.partition(0)).unwrap().unlisted_until.unwrap();
    world.now = Timestamp(until.0 - 1);
    world.sync(&mut agent);
    assert_eq!(lent(&world, agent.host), []);
    world.now = until;
    assert_eq!(lent(&world, agent.host), [agent.partition(0)]);
}
