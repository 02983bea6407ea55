//! Limits that take thousands of rows to come near, over a state made of rows.

use super::world::*;
use crate::engine::command::{Command, Refusal, Reply};
use crate::engine::rows::Lease;
use crate::engine::state::{State, Tables};
use crate::engine::step::{Engine, Request};
use std::sync::Arc;
use sublet_model::ids::LeaseId;
use sublet_wire::problem::Kind;

/// A world whose engine has these rows; its database does not.
fn of(world: &mut World, tables: Tables) {
    world.engine = Engine::new(State::new(tables), keys(), world.now);
}

fn call(world: &mut World, command: Command) -> Result<Reply, Refusal> {
    let batch = [Request { command, idempotency: None }];
    world.engine.step(&mut world.db, &batch, world.now).unwrap().answers.remove(0)
}

#[test]
fn why_nothing_fits_is_counted_unasked_up_to_two_thousand_partitions() {
    for (lent, counted) in [(2000, true), (2001, false)] {
        let (mut world, agent) = World::lending();
        let mut tables = world.engine.state().tables().clone();
        let first = tables.partitions[&agent.partition(0)].clone();
        for n in 2..lent {
            let mut row = first.clone();
            row.partition.id = id(1_000_000_000 + n);
            tables.partitions.insert(row.partition.id, row);
        }
        of(&mut world, tables);
        let refusal = call(&mut world, rent(client(), id(70), 1000)).unwrap_err();
        assert_eq!(refusal.kind, Kind::NoMatch);
        assert_eq!(refusal.detail, format!("none of the {lent} partitions that are lent fits"));
        let sum: usize = refusal.unfit.iter().map(|unfit| unfit.partitions).sum();
        assert_eq!(sum, if counted { lent as usize } else { 0 });
        assert_eq!(refusal.advice.is_some(), counted);
    }
}

#[test]
fn an_account_has_ten_thousand_running_leases_and_not_one_more() {
    let (mut world, mut agent) = World::lending();
    let first = world.rent(500).unwrap();
    let mut tables = world.engine.state().tables().clone();
    for n in 1..9_999 {
        let (id, partition) = (id::<LeaseId>(5_000_000 + n), id(6_000_000 + n));
        let lease = Lease { id, partition, name: format!("many-{n}"), ..(*first).clone() };
        tables.leases.insert(id, Arc::new(lease));
    }
    of(&mut world, tables);
    let sync = agent.sync(world.now);
    call(&mut world, sync).unwrap();
    assert_eq!(world.engine.state().holding_of(id(CLIENT)), 9_999);
    let two = asking(client(), &[id(80), id(81)], 500);
    let refusal = call(&mut world, Command::Rent(Box::new(two))).unwrap_err();
    assert_eq!(refusal.kind, Kind::Conflict, "{refusal}");
    call(&mut world, rent(client(), id(80), 500)).unwrap();
    let refusal = call(&mut world, rent(client(), id(81), 500)).unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.detail.as_str()),
        (Kind::Conflict, "an account has at most 10000 running leases")
    );
    // It is each account's own limit.
    let refusal = call(&mut world, rent(stranger(), id(81), 500)).unwrap_err();
    assert_eq!(refusal.kind, Kind::NoMatch, "{refusal}");
}
