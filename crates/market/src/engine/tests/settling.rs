//! When a bill is made: with the last receipt, or after an hour without it; at once where there is nothing to wait for.

use super::money::audited;
use super::world::*;
use crate::engine::command::Command;
use sublet_model::ledger::Book;
use sublet_model::partition::Phase;
use sublet_model::units::{Micros, Seconds};

/// Released after fifty seconds, of which it was ready or not, and gone at once; nothing was receipted yet.
fn gone_without_receipts(ran: bool) -> (World, Agent, std::sync::Arc<crate::engine::rows::Lease>) {
    let (mut world, mut agent) = World::lending();
    let lease = if ran { world.running(&mut agent) } else { world.rent(1000).unwrap() };
    world.pass(50);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    agent.sees(&lease, Phase::Gone { reason: None });
    world.sync(&mut agent);
    (world, agent, lease)
}

#[test]
fn what_ran_is_billed_by_receipts_that_come_within_an_hour_and_later_ones_are_kept() {
    for (late, billed) in [(0, 40), (3598, 40), (3600, 0)] {
        let (mut world, mut agent, lease) = gone_without_receipts(true);
        for passes in [late / 2, late - late / 2] {
            assert!(world.engine.state().charge(lease.id).is_none(), "{late}: its receipts may come yet");
            world.pass(passes);
            world.tick();
        }
        assert_eq!(world.engine.state().charge(lease.id).is_some(), late == 3600, "{late}");
        agent.says.receipts = vec![agent.receipt(&lease, 40, true)];
        assert_eq!(world.sync(&mut agent).acknowledged.len(), 1);
        let charge = &world.engine.state().charge(lease.id).unwrap().charge;
        assert_eq!((charge.billed_seconds, charge.total == Micros::ZERO), (Seconds(billed), billed == 0), "{late}");
        assert_eq!(world.lease(lease.id).chain.as_ref().unwrap().seconds, Seconds(40), "what it said is kept");
        audited(&world);
    }
}

#[test]
fn what_never_ran_is_billed_nothing_and_at_once() {
    let (world, _, lease) = gone_without_receipts(false);
    assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.total, Micros::ZERO);
    assert_eq!(world.engine.state().balance(Book::Held(lease.id)), Micros::ZERO);
    audited(&world);
}
