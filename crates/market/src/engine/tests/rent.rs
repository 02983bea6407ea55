//! Several at once, and looking before renting.

use super::world::*;
use crate::engine::command::{Command, Idempotency, Outcome, Rent, Reply};
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::LeaseId;
use sublet_model::partition::alter::resources;
use sublet_wire::problem::Kind;

fn several(ids: &[LeaseId], cpu: i64, name: Option<&str>) -> Box<Rent> {
    Box::new(Rent { name: name.map(Into::into), ..asking(client(), ids, cpu) })
}

#[test]
fn several_are_granted_together_each_from_what_the_others_left() {
    let (mut world, agent) = World::lending();
    let version = world.engine.state().host(agent.host).unwrap().plan_version;
    let ids = [id(70), id(71)];
    let granted = world.call(Command::Rent(several(&ids, 1500, Some("box")))).unwrap();
    let Outcome::Granted { lease, others, .. } = granted else { panic!("{granted:?}") };
    assert_eq!((lease, others.as_slice()), (ids[0], &ids[1..]));
    assert_eq!(ids.map(|id| world.lease(id).name.clone()), ["box-1", "box-2"]);
    // 3000 is lendable: the second had to shrink for the first, and took what was left.
    assert_eq!(ids.map(|id| world.lease(id).terms().resources.cpu.0), [1500, 1500]);
    assert_ne!(world.lease(ids[0]).partition, world.lease(ids[1]).partition);
    assert_eq!(
        world.engine.state().host(agent.host).unwrap().plan_version,
        version + 1,
        "the host hears of both at once"
    );
}

#[test]
fn all_or_none_and_the_refusal_says_how_many_fit() {
    let (mut world, agent) = World::lending();
    let before = world.engine.state().tables().clone();
    let refused = world.call(Command::Rent(several(&[id(70), id(71), id(72)], 1000, None))).unwrap_err();
    assert_eq!(refused.kind, Kind::NoMatch);
    assert!(refused.detail.contains("3 were asked for") && refused.detail.contains("only 2 fit"), "{refused}");
    let refused = world.call(Command::Rent(several(&[id(70), id(71)], 2400, None))).unwrap_err();
    assert!(refused.detail.contains("only 1 fit"), "each uses up what the next would need: {refused}");
    assert_eq!(*world.engine.state().tables(), before, "none is left behind");
    assert!(world.engine.state().holder(agent.partition(0)).is_none());
    for wrong in [Vec::new(), (0..65).map(|n| id(100 + n)).collect()] {
        assert_eq!(world.call(Command::Rent(several(&wrong, 1000, None))).unwrap_err().kind, Kind::Invalid);
    }
    world.call(Command::Rent(several(&[id(80)], 500, Some("box-2")))).unwrap();
    let taken = world.call(Command::Rent(several(&[id(81), id(82)], 500, Some("box")))).unwrap_err();
    assert_eq!(taken.kind, Kind::Conflict, "the second name is taken");
    assert!(world.engine.state().lease(id(81)).is_none());
}

#[test]
fn several_repeated_are_the_same_several() {
    let (mut world, _) = World::lending();
    let once = Idempotency { member: id(CLIENT), key: "k".into(), body: Sha256Digest::of(b"x") };
    let mut granted = Vec::new();
    for n in 0..3 {
        let ids = [id(70 + 2 * n), id(71 + 2 * n)];
        match world.reply(Command::Rent(several(&ids, 1000, None)), Some(once.clone())).unwrap() {
            Reply::Outcome(Outcome::Granted { lease, others, .. }) => granted.push((lease, others)),
            other => panic!("{other:?}"),
        }
    }
    assert!(granted.iter().all(|one| *one == (id(70), vec![id(71)])), "{granted:?}");
}

#[test]
fn a_preview_tells_the_alteration_and_takes_nothing() {
    let (mut world, agent) = World::lending();
    let before = world.engine.state().tables().clone();
    let commits = world.db.count("select count(*) from events");
    let once = Idempotency { member: id(CLIENT), key: "k".into(), body: Sha256Digest::of(b"x") };
    let rent = several(&[id(70)], 2500, Some("box"));
    let reply = world.reply(Command::Preview(rent.clone()), Some(once.clone())).unwrap();
    let Reply::Preview(preview) = reply else { panic!("{reply:?}") };
    let [foreseen] = preview.grants.as_slice() else { panic!("{preview:?}") };
    let altered: Vec<_> = foreseen.altered.iter().map(|a| (a.partition, a.from, a.to)).collect();
    let r = |cpu| resources(cpu, 512, 0);
    let (one, two) = (agent.partition(0), agent.partition(1));
    assert_eq!(altered, [(two, r(1000), r(500)), (one, r(1000), r(2500))], "who shrinks, then who grows");
    assert_eq!((foreseen.name.as_deref(), preview.assumed.is_empty()), (Some("box"), false));
    assert_eq!(*world.engine.state().tables(), before);
    assert_eq!(world.db.count("select count(*) from events"), commits);
    assert_eq!(world.db.count("select count(*) from idempotency"), 0, "the key is free still");
    // What was foreseen is what is then granted.
    world.reply(Command::Rent(rent), Some(once)).unwrap();
    let granted = world.lease(id(70)).clone();
    assert_eq!(*granted.terms(), foreseen.terms);
    assert_eq!(world.call(Command::Preview(several(&[id(71)], 2500, None))).unwrap_err().kind, Kind::NoMatch);
}
