//! Random lives: whatever people, hosts and time do in whatever order, `World::step` finds engine,
//! readers and database in agreement, and the invariants hold.

use super::world::*;
use crate::engine::command::Command;
use crate::engine::step::Request;
use proptest::prelude::*;
use sublet_model::ids::LeaseId;
use sublet_model::lease::EndReason;
use sublet_model::partition::Phase;
use sublet_model::partition::alter::resources;
use sublet_model::units::{Millicores, Seconds};

/// One thing that happens. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Event {
    Rent { cpu: i64, twice: bool },
    Release(usize),
    Extend(usize),
    Alter { partition: usize, cpu: i64 },
    See { lease: usize, phase: u8, last: bool },
    Divide { cpu: i64, lendable: bool, price: i64 },
    TakeBack(usize),
    Shrink(u16),
    Suspend(bool),
    Pass(i64),
    Quiet(i64),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = prop_oneof![
        4 => (500i64..3200, any::<bool>()).prop_map(|(cpu, twice)| Event::Rent { cpu, twice }),
        2 => (0usize..8).prop_map(Event::Release),
        1 => (0usize..8).prop_map(Event::Extend),
        2 => (0usize..2, 400i64..3200).prop_map(|(partition, cpu)| Event::Alter { partition, cpu }),
        6 => (0usize..8, 0u8..6, any::<bool>()).prop_map(|(lease, phase, last)| Event::See { lease, phase, last }),
        1 => (100i64..1500, any::<bool>(), 0i64..3).prop_map(|(cpu, lendable, price)| Event::Divide { cpu, lendable, price }),
        1 => (0usize..2).prop_map(Event::TakeBack),
        1 => (2u16..6).prop_map(Event::Shrink),
        1 => any::<bool>().prop_map(Event::Suspend),
        2 => (0i64..30).prop_map(Event::Pass),
        1 => (60i64..4000).prop_map(Event::Quiet),
        1 => Just(Event::Restart),
    ];
    proptest::collection::vec(one, 1..60)
}

fn nth_lease(world: &World, n: usize) -> Option<LeaseId> {
    // The newest ones: most of the others are over.
    world.engine.state().leases().rev().nth(n).map(|lease| lease.id)
}

fn phase(n: u8) -> Phase {
    match n {
        0 => Phase::Fetching { done: 1, total: 2 },
        1 => Phase::Booting,
        2 => Phase::Ready,
        3 => Phase::Stopping { reason: EndReason::GuestCrashed },
        4 => Phase::Gone { reason: Some(EndReason::BootFailed) },
        _ => Phase::Gone { reason: None },
    }
}

fn happen(world: &mut World, agent: &mut Agent, event: Event) {
    // Refusals are fine: `step` checks that they leave nothing behind.
    match event {
        Event::Rent { cpu, twice } => {
            let (first, second) = (world.fresh(), world.fresh());
            let mut batch = vec![Request { command: rent(client(), first, cpu), idempotency: None }];
            if twice {
                batch.push(Request { command: rent(stranger(), second, 500), idempotency: None });
            }
            drop(world.step(batch));
        }
        Event::Release(n) => {
            if let Some(lease) = nth_lease(world, n) {
                drop(world.call(Command::Release { actor: client(), lease }));
            }
        }
        Event::Extend(n) => {
            if let Some(lease) = nth_lease(world, n) {
                drop(world.call(Command::Extend { actor: client(), lease, by: Seconds(600) }));
            }
        }
        Event::Alter { partition, cpu } => {
            let partition = agent.partition(partition);
            drop(world.call(Command::Alter { actor: lender(), partition, resources: resources(cpu, 512, 0) }));
        }
        Event::See { lease, phase: n, last } => {
            let Some(lease) = nth_lease(world, lease).map(|id| world.lease(id).clone()) else { return };
            let seconds = world.now.since(lease.terms().granted_at).0;
            // A host that receipts what is over forks its own chain only: that is left out here.
            let is_over = lease.chain.as_ref().is_some_and(|c| c.last);
            agent.says.receipts =
                if n >= 2 && !is_over { vec![agent.receipt(&lease, seconds, last && n >= 4)] } else { Vec::new() };
            agent.sees(&lease, phase(n));
            drop(world.sync(agent));
        }
        Event::Divide { cpu, lendable, price } => {
            agent.says.division.revision += 1;
            agent.says.division.keep.cpu = Millicores(cpu);
            agent.says.division.partitions[0].lendable = lendable;
            agent.says.division.conditions.as_mut().unwrap().prices.cpu.0 = price;
            drop(world.sync(agent));
        }
        Event::TakeBack(n) => {
            let generation = world.engine.state().partition(agent.partition(n)).map(|p| p.allocation.generation);
            agent.says.division.revision += 1;
            agent.says.division.partitions[n].taken_back = generation;
            drop(world.sync(agent));
        }
        Event::Shrink(threads) => {
            (agent.says.inventory.threads, agent.says.inventory.cores) = (threads, threads);
            drop(world.sync(agent));
        }
        Event::Suspend(suspended) => {
            drop(world.call(Command::SuspendHost { actor: operator(), host: agent.host, suspended }));
        }
        Event::Pass(seconds) => {
            world.pass(seconds);
            drop(world.sync(agent));
            world.tick();
        }
        Event::Quiet(seconds) => {
            world.pass(seconds);
            world.tick();
        }
        Event::Restart => restart(world),
    }
}

fn restart(world: &mut World) {
    use crate::engine::{commit::Commit, state::State, step::Engine};
    let state = State::new(world.db.load().unwrap());
    world.engine = Engine::new(state, keys(), world.now);
    world.published = world.engine.state().clone();
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_three_agree_and_every_lease_ends(events in events()) {
        let (mut world, mut agent) = World::lending();
        for event in events {
            happen(&mut world, &mut agent, event);
        }
        // The faults end: every lease reaches its end, and its bill (I12).
        let leases: Vec<_> = world.engine.state().leases().cloned().collect();
        for lease in leases {
            drop(world.call(Command::Release { actor: operator(), lease: lease.id }));
        }
        world.sync(&mut agent);
        let held: Vec<_> = world.engine.state().held_on(agent.host).cloned().collect();
        agent.says.receipts.clear();
        for lease in held {
            agent.sees(&lease, Phase::Gone { reason: None });
        }
        world.sync(&mut agent);
        prop_assert_eq!(world.engine.state().holding().count(), 0);
        world.pass(3601);
        world.sync(&mut agent);
        world.tick();
        prop_assert_eq!(world.engine.state().unsettled().count(), 0);
    }
}
