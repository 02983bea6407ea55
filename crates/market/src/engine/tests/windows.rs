//! Offers that are open only at times: a term fits in whole, and nothing outlasts the window.

use super::world::*;
use crate::engine::command::Command;
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::offer::{Conditions, Windows};
use sublet_model::partition::Phase;
use sublet_model::units::Seconds;
use sublet_wire::problem::Kind;

/// A lender whose offer is open from an hour before the start until two hours after it, daily.
fn lending() -> (World, Agent) {
    let (mut world, mut agent) = World::lending();
    let clock = |seconds: i64| START.after(Seconds(seconds)).to_string()[11..16].to_owned();
    let window = format!("daily {}-{}", clock(-3600), clock(7200)).parse().unwrap();
    let division = &mut agent.says.division;
    division.revision += 1;
    let windows = Some(Windows { time_zone: "UTC".into(), weekly: vec![window] });
    division.conditions = Some(Conditions { windows, ..Conditions::free() });
    assert_eq!(world.sync(&mut agent).division_refused, None);
    (world, agent)
}

#[test]
fn a_lease_fits_its_window_and_ends_with_it() {
    let (mut world, mut agent) = lending();
    let close = START.after(Seconds(7200));
    let lease = world.rent(1000).unwrap();
    assert_eq!(lease.terms().until, Some(close), "frozen in the signed terms");
    world.pass(600);
    agent.sees(&lease, Phase::Ready);
    world.sync(&mut agent);
    let extend = |by| Command::Extend { actor: client(), lease: lease.id, by: Seconds(by) };
    let refused = world.call(extend(3600)).unwrap_err();
    assert_eq!(refused.kind, Kind::Conflict);
    assert!(refused.detail.contains("the offer closes at"), "{refused:?}");
    assert_eq!(world.call(extend(3001)).unwrap_err().kind, Kind::Conflict);
    world.call(extend(3000)).unwrap();
    world.pass(7200 - 600 - 1);
    world.sync(&mut agent);
    world.tick();
    assert!(matches!(world.lease(lease.id).state, LeaseState::Active { .. }), "{:?}", world.lease(lease.id).state);
    world.pass(1);
    world.sync(&mut agent);
    world.tick();
    assert_eq!(world.lease(lease.id).state, LeaseState::Stopping { reason: EndReason::Expired });
}

#[test]
fn what_does_not_fit_is_not_granted_and_the_next_day_it_is() {
    let (mut world, mut agent) = lending();
    world.pass(2 * 3600 - 1800);
    world.sync(&mut agent);
    let refused = world.rent(1000).unwrap_err();
    assert_eq!(refused.kind, Kind::NoMatch, "half an hour is left of the window, an hour is asked");
    assert!(refused.unfit.iter().all(|unfit| unfit.clause == "windows"), "{refused:?}");
    world.pass(86_400 - 3600);
    world.sync(&mut agent);
    world.rent(1000).unwrap();
}
