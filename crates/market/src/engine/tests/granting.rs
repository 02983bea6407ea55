//! What several are told that are not granted, what a grant alters, and how long a lease holds.

use super::world::*;
use crate::engine::command::{Altered, Command, Preview, Rent, Reply};
use sublet_model::billing::PriceList;
use sublet_model::ids::LeaseId;
use sublet_model::offer::{Conditions, Windows};
use sublet_model::partition::Phase;
use sublet_model::partition::alter::resources;
use sublet_model::units::{GiB, MicrosPerHour, Seconds, Timestamp};
use sublet_wire::problem::Kind;

fn several(ids: &[u128], cpu: i64, name: Option<&str>) -> Box<Rent> {
    let ids: Vec<LeaseId> = ids.iter().map(|n| id(*n)).collect();
    Box::new(Rent { name: name.map(Into::into), ..asking(client(), &ids, cpu) })
}

#[test]
fn where_none_of_several_fits_they_are_told_what_one_is_told() {
    let (mut world, _) = World::lending();
    let one = world.call(Command::Rent(several(&[70], 3500, None))).unwrap_err();
    assert!(one.advice.as_ref().is_some_and(|advice| advice.starts_with("most often")), "{one}");
    let two = world.call(Command::Rent(several(&[70, 71], 3500, None))).unwrap_err();
    assert_eq!((two.kind, two.detail, two.advice), (Kind::NoMatch, one.detail, one.advice));
}

#[test]
fn where_only_some_of_several_fit_they_are_told_to_ask_for_those() {
    let (mut world, _) = World::lending();
    let refusal = world.call(Command::Rent(several(&[70, 71, 72], 1000, None))).unwrap_err();
    assert_eq!(refusal.detail, "3 were asked for, all or none, but only 2 fit at the moment");
    assert_eq!(refusal.advice.as_deref(), Some("ask for 2, or for smaller ones"));
}

#[test]
fn what_is_wrong_with_one_of_several_is_told_and_not_that_too_few_fit() {
    let (mut world, _) = World::lending();
    world.call(Command::Rent(several(&[70], 500, Some("box-2")))).unwrap();
    let refusal = world.call(Command::Rent(several(&[71, 72], 500, Some("box")))).unwrap_err();
    assert_eq!(refusal.kind, Kind::Conflict);
    assert!(refusal.detail.contains("is called box-2"), "{refusal}");
}

/// A host of one partition with a large disk, at this price for each GiB of it.
fn roomy(world: &mut World, n: u128, disk: MicrosPerHour) {
    let mut agent = world.add_host(n);
    agent.says.inventory.disk = GiB(1000);
    let division = &mut agent.says.division;
    division.revision += 1;
    division.partitions.truncate(1);
    division.partitions[0].profile.max.disk = GiB(1000);
    let prices = PriceList { disk, ..PriceList::default() };
    division.conditions = Some(Conditions { prices, longest_term_seconds: Seconds::MAX, ..Conditions::free() });
    assert_eq!(world.sync(&mut agent).division_refused, None);
}

#[test]
fn what_can_not_be_counted_is_told_of_one_as_of_several() {
    let mut world = World::empty();
    roomy(&mut world, HOST, MicrosPerHour(1));
    roomy(&mut world, HOST + 1, MicrosPerHour::MAX);
    let mut rent = several(&[70, 71], 1000, None);
    rent.requirements.disk = Some(GiB(500).into());
    rent.requirements.term_seconds = Some(Seconds::MAX);
    let before = world.engine.state().tables().clone();
    let refusal = world.call(Command::Rent(rent.clone())).unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.detail.as_str()),
        (Kind::Invalid, "price times term is more than can be counted")
    );
    assert_eq!(*world.engine.state().tables(), before, "the cheap one is not kept either");
    // An hour of both can be counted.
    rent.requirements.term_seconds = Some(Seconds::HOUR);
    assert!(world.reply(Command::Preview(rent), None).is_ok());
}

fn altered(world: &mut World, cpu: i64) -> Vec<Altered> {
    match world.reply(Command::Preview(several(&[90], cpu, None)), None) {
        Ok(Reply::Preview(preview)) => {
            let Preview { mut grants, .. } = *preview;
            grants.remove(0).altered
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_preview_names_the_chosen_partition_even_if_it_has_what_is_asked_already() {
    let (mut world, agent) = World::lending();
    let r = |cpu| resources(cpu, 512, 0);
    let told = |altered: Vec<Altered>| altered.iter().map(|a| (a.partition, a.from, a.to)).collect::<Vec<_>>();
    assert_eq!(told(altered(&mut world, 1000)), [(agent.partition(0), r(1000), r(1000))]);
    assert_eq!(told(altered(&mut world, 700)), [(agent.partition(0), r(1000), r(700))]);
}

#[test]
fn a_preview_tells_of_each_partition_what_that_one_has_now() {
    let (mut world, agent) = World::lending();
    let r = |cpu| resources(cpu, 512, 0);
    let (one, two) = (agent.partition(0), agent.partition(1));
    world.call(Command::Alter { actor: lender(), partition: two, resources: r(600) }).unwrap();
    let told: Vec<_> = altered(&mut world, 2450).iter().map(|a| (a.partition, a.from, a.to)).collect();
    assert_eq!(told, [(two, r(600), r(550)), (one, r(1000), r(2450))]);
}

#[track_caller]
fn frozen_until(world: &mut World, agent: &Agent, until: &str) {
    let alter = Command::Alter { actor: lender(), partition: agent.partition(0), resources: resources(600, 512, 0) };
    let refusal = world.call(alter).unwrap_err();
    assert_eq!(refusal.kind, Kind::Locked);
    let end = format!("its allocation is frozen until {until}");
    assert!(refusal.detail.ends_with(&end), "{} does not end with {end:?}", refusal.detail);
}

#[test]
fn an_owner_is_told_until_when_an_allocation_is_frozen() {
    let (mut world, mut agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    assert_eq!((lease.partition, lease.ends_at()), (agent.partition(0), None), "its term counts from ready");
    frozen_until(&mut world, &agent, "it has ended");
    world.pass(40);
    agent.sees(&lease, Phase::Ready);
    world.sync(&mut agent);
    let end = world.now.after(lease.term_seconds);
    assert_eq!(world.lease(lease.id).ends_at(), Some(end));
    frozen_until(&mut world, &agent, &format!("{end} at the latest"));
}

#[test]
fn a_lease_ends_with_its_term_or_where_the_offer_closes_whichever_comes_first() {
    let (mut world, mut agent) = World::lending();
    let clock = |seconds: i64| START.after(Seconds(seconds)).to_string()[11..16].to_owned();
    let window = format!("daily {}-{}", clock(-3600), clock(7200)).parse().unwrap();
    agent.says.division.revision += 1;
    let windows = Some(Windows { time_zone: "UTC".into(), weekly: vec![window] });
    agent.says.division.conditions = Some(Conditions { windows, ..Conditions::free() });
    assert_eq!(world.sync(&mut agent).division_refused, None);
    let close = START.after(Seconds(7200));
    let lease = world.rent(1000).unwrap();
    let ready_at = |ready: Timestamp| {
        let mut lease = (*lease).clone();
        lease.timeline.ready_at = Some(ready);
        lease.ends_at().unwrap()
    };
    let latest = Timestamp(close.0 - lease.term_seconds.0 * 1_000_000);
    assert_eq!(ready_at(START), START.after(lease.term_seconds), "the term is over before");
    assert_eq!(ready_at(latest), close);
    assert_eq!(ready_at(latest.after(Seconds(60))), close, "booting is the client's own time");
}
