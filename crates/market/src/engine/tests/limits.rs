//! Where one step more is too far: limits of leases, hosts and partitions from both sides, and what
//! is written down once.

use super::world::*;
use crate::engine::command::{Command, Outcome, Rent};
use sublet_model::identity::{SecretKey, Signed};
use sublet_model::ids::LeaseId;
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::partition::Phase;
use sublet_model::partition::alter::resources;
use sublet_model::units::{MicrosPerHour, Seconds, Timestamp};
use sublet_wire::problem::Kind;

pub fn audited(world: &World, action: &str) -> i64 {
    world.db.count(&format!("select count(*) from audit where action = '{action}'"))
}

pub fn said(world: &World, detail: &str) -> i64 {
    world.db.count(&format!("select count(*) from audit where detail = '{detail}'"))
}

#[track_caller]
pub fn refused(world: &mut World, command: Command, kind: Kind) {
    assert_eq!(world.call(command).unwrap_err().kind, kind);
}

#[test]
fn an_ssh_key_is_one_plain_line() {
    let (mut world, _) = World::lending();
    let with = |n: u128, key: &str| {
        Command::Rent(Box::new(Rent { ssh_public_key: key.into(), ..asking(client(), &[id(n)], 500) }))
    };
    let body = "A".repeat(40);
    let long = |n: usize| format!("ssh-ed25519 {body} {}", "c".repeat(n - 13 - body.len()));
    let bad = [
        String::new(),
        format!("ssh-ed25519 {}", "A".repeat(39)),
        format!("rsa {body}"),
        format!("ssh-ed25519 {body}\n"),
        format!("ssh-ed25519 {body} ü"),
        long(4097),
    ];
    for key in bad {
        refused(&mut world, with(70, &key), Kind::Invalid);
    }
    for (n, key) in [format!("ecdsa-sha2 {body}"), long(4096)].into_iter().enumerate() {
        world.call(with(71 + n as u128, &key)).unwrap();
    }
}

#[test]
fn a_request_is_for_so_many_and_outlives_its_client_by_a_day() {
    let (mut world, _) = World::lending();
    let with = |ids: &[u128], edit: &dyn Fn(&mut Rent)| {
        let ids: Vec<_> = ids.iter().map(|n| id(*n)).collect();
        let mut rent = asking(client(), &ids, 500);
        edit(&mut rent);
        Command::Rent(Box::new(rent))
    };
    for seconds in [-1, 86_401] {
        refused(&mut world, with(&[70], &|r| r.release_after_disconnect = Seconds(seconds)), Kind::Invalid);
    }
    refused(&mut world, with(&[], &|_| {}), Kind::Invalid);
    let many: Vec<u128> = (100..165).collect();
    refused(&mut world, with(&many, &|_| {}), Kind::Invalid);
    refused(&mut world, with(&many[..64], &|_| {}), Kind::NoMatch);
    refused(&mut world, with(&[70], &|r| r.requirements.count = Some(2)), Kind::Invalid);
    refused(&mut world, with(&[70, 70], &|_| {}), Kind::Conflict);
    world.call(with(&[70], &|r| r.release_after_disconnect = Seconds(86_400))).unwrap();
    refused(&mut world, with(&[70], &|_| {}), Kind::Conflict);
    let whole = id::<LeaseId>(70).to_string().replace('_', "-");
    assert_eq!(world.lease(id(70)).name, format!("lease-{}", &whole[whole.len() - 8..]));
    // Another id with the same end: the short name is taken.
    let twin: u128 = 70 | 1 << 64;
    world.call(with(&[twin], &|r| r.release_after_disconnect = Seconds::ZERO)).unwrap();
    let whole = id::<LeaseId>(twin).to_string().replace('_', "-");
    assert_eq!(world.lease(id(twin)).name, whole);
}

#[test]
fn several_of_one_name_are_numbered_and_one_is_not() {
    let (mut world, _) = World::lending();
    let named = |ids: &[u128]| {
        let ids: Vec<_> = ids.iter().map(|n| id(*n)).collect();
        Command::Rent(Box::new(Rent { name: Some("box".into()), ..asking(client(), &ids, 500) }))
    };
    world.call(named(&[71, 72])).unwrap();
    assert_eq!([71, 72].map(|n| world.lease(id(n)).name.clone()), ["box-1", "box-2"]);
    for n in [71, 72] {
        world.call(Command::Release { actor: client(), lease: id(n) }).unwrap();
    }
    assert_eq!(audited(&world, "lease.end"), 0, "its own doing is not the audit log's business");
}

#[test]
fn what_an_operator_ends_is_written_down_once() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    for _ in 0..2 {
        world.call(Command::Release { actor: operator(), lease: lease.id }).unwrap();
    }
    assert_eq!(world.lease(lease.id).state, LeaseState::Stopping { reason: EndReason::Operator });
    assert_eq!(audited(&world, "lease.end"), 1);
}

#[test]
fn a_lease_is_lengthened_to_the_very_end_of_what_is_allowed() {
    let (mut world, mut agent) = World::lending();
    let longest = agent.says.division.conditions.as_ref().unwrap().longest_term_seconds;
    let lease = world.running(&mut agent);
    let extend = |by: Seconds| Command::Extend { actor: client(), lease: lease.id, by };
    let rest = longest - lease.term_seconds;
    refused(&mut world, extend(rest + Seconds(1)), Kind::Conflict);
    world.call(extend(Seconds(1))).unwrap();
    world.call(extend(rest - Seconds(1))).unwrap();
    let row = world.lease(lease.id);
    // It is paid chunk by chunk, however long it may run.
    assert_eq!((row.term_seconds, row.paid_seconds), (longest, lease.paid_seconds));
    world.call(Command::SuspendAccount { actor: operator(), id: id(CLIENT), suspended: true }).unwrap();
    refused(&mut world, extend(Seconds(1)), Kind::Forbidden);
}

#[test]
fn a_depots_address_has_a_length_and_a_move_is_written_down() {
    let (mut world, mut agent) = World::lending();
    let host = |world: &World| world.engine.state().host(id(HOST)).unwrap().plan_version;
    let register = |name: &str, depot: &str| Command::RegisterImage {
        actor: operator(),
        manifest: Signed::sign(&manifest(name, name), &SecretKey::from_seed(&[8; 32])).unwrap(),
        depot: depot.into(),
    };
    let idle = host(&world);
    world.call(register("other", &format!("http://{}", "a".repeat(193)))).unwrap();
    refused(&mut world, register("other", &format!("http://{}", "a".repeat(194))), Kind::Invalid);
    world.call(register("tiny", "http://moved")).unwrap();
    world.call(register("tiny", "http://moved")).unwrap();
    assert_eq!((audited(&world, "image.register"), audited(&world, "image.move")), (2, 1));
    assert_eq!(host(&world), idle, "nothing boots it");
    let lease = world.running(&mut agent);
    let held = host(&world);
    world.call(register("other", "http://else")).unwrap();
    assert_eq!(host(&world), held, "nothing boots that one");
    world.call(register("tiny", "http://else")).unwrap();
    assert_eq!(host(&world), held + 1);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    let stopping = host(&world);
    world.call(register("tiny", "http://again")).unwrap();
    assert_eq!(host(&world), stopping, "what stops boots no more");
    let suspend = |suspended| Command::SuspendImage { actor: operator(), reference: "tiny@1".into(), suspended };
    for suspended in [true, true, false, false] {
        world.call(suspend(suspended)).unwrap();
    }
    assert_eq!((audited(&world, "image.suspend"), audited(&world, "image.restore")), (1, 1));
}

#[test]
fn a_host_is_suspended_and_forgotten_once() {
    let (mut world, mut agent) = World::lending();
    let suspend = |suspended| Command::SuspendHost { actor: lender(), host: id(HOST), suspended };
    for suspended in [true, true, false, false] {
        world.call(suspend(suspended)).unwrap();
    }
    assert_eq!((audited(&world, "host.suspend"), audited(&world, "host.restore")), (1, 1));
    world.running(&mut agent);
    world.call(Command::ForgetHost { actor: operator(), host: id(HOST) }).unwrap();
    assert_eq!(said(&world, "host host-100; 1 leases ended"), 1);
    refused(&mut world, Command::ForgetHost { actor: operator(), host: id(HOST) }, Kind::NotFound);
    refused(&mut world, Command::OpenSession { host: id(HOST), last_session: 1 }, Kind::SessionRefused);
}

#[test]
fn refused_sessions_are_written_down_once_an_hour_for_each_host() {
    let (mut world, _) = World::lending();
    world.add_host(101);
    let open = |n: u128, last| Command::OpenSession { host: id(n), last_session: last };
    for _ in 0..3 {
        refused(&mut world, open(HOST, 7), Kind::SessionRefused);
    }
    refused(&mut world, open(101, 7), Kind::SessionRefused);
    refused(&mut world, open(999, 0), Kind::SessionRefused);
    assert_eq!(audited(&world, "session.refuse"), 2);
    world.pass(3599);
    refused(&mut world, open(HOST, 7), Kind::SessionRefused);
    assert_eq!(audited(&world, "session.refuse"), 2);
    world.pass(1);
    refused(&mut world, open(HOST, 7), Kind::SessionRefused);
    assert_eq!(audited(&world, "session.refuse"), 3);
    // The newest one, and those before it that no sync used, may be named.
    assert_eq!(world.call(open(HOST, 1)).unwrap(), Outcome::Session(2));
    assert_eq!(world.call(open(HOST, 1)).unwrap(), Outcome::Session(3));
    assert_eq!(world.call(open(HOST, 3)).unwrap(), Outcome::Session(4));
    refused(&mut world, open(HOST, 0), Kind::SessionRefused);
}

#[test]
fn an_idle_partition_is_altered_within_its_profile_and_the_room_there_is() {
    let (mut world, agent) = World::lending();
    let alter = |cpu, memory, disk| Command::Alter {
        actor: lender(),
        partition: agent.partition(0),
        resources: resources(cpu, memory, disk),
    };
    refused(&mut world, alter(499, 512, 0), Kind::Invalid);
    refused(&mut world, alter(3001, 512, 0), Kind::Invalid);
    refused(&mut world, alter(1000, 4097, 0), Kind::Invalid);
    let before = world.has(agent.partition(0));
    world.call(alter(1000, 512, 0)).unwrap();
    assert_eq!((world.has(agent.partition(0)), audited(&world, "partition.alter")), (before, 0), "it has that");
    world.call(alter(2500, 512, 0)).unwrap();
    let has = world.has(agent.partition(0));
    assert_eq!((has.resources, has.vcpus, has.revision), (resources(2500, 512, 0), 3, before.revision + 1));
    assert_eq!(world.has(agent.partition(1)).resources, resources(500, 512, 0), "the neighbour gave");
    assert_eq!(audited(&world, "partition.alter"), 1);
    refused(&mut world, alter(2501, 512, 0), Kind::Conflict);
}

#[test]
fn a_clock_is_right_within_half_a_minute_and_a_host_fresh_for_a_quarter() {
    let (mut world, agent) = World::lending();
    let sync = |world: &mut World, off: i64| {
        let mut says = agent.says.clone();
        says.wall_clock = world.now.after(Seconds(off));
        world.raw_sync(agent.host, agent.session, says).unwrap().warnings
    };
    for (off, right) in [(30, true), (-30, true), (31, false), (-31, false)] {
        let warnings = sync(&mut world, off);
        assert_eq!(warnings.is_empty(), right, "{off}: {warnings:?}");
        let side = if off > 0 { "ahead" } else { "behind" };
        assert!(warnings.iter().all(|w| w.contains(side)), "{off}: {warnings:?}");
        assert_eq!(world.rent(500).is_ok(), right, "{off}");
        let leases: Vec<_> = world.engine.state().holding().cloned().collect();
        leases.iter().for_each(|l| drop(world.call(Command::Release { actor: client(), lease: l.id }).unwrap()));
        let mut says = agent.says.clone();
        says.wall_clock = world.now;
        let mut gone = Agent { says, ..Agent::new(HOST) };
        leases.iter().for_each(|lease| gone.sees(lease, Phase::Gone { reason: None }));
        world.raw_sync(agent.host, agent.session, gone.says).unwrap();
    }
    sync(&mut world, 0);
    let status =
        |world: &World| world.engine.state().host_status(world.engine.state().host(id(HOST)).unwrap(), world.now);
    let mut seen = Vec::new();
    for seconds in [0, 14, 1, 44, 1] {
        world.pass(seconds);
        seen.push(status(&world));
    }
    assert_eq!(seen, ["online", "online", "suspect", "suspect", "silent"]);
    refused(&mut world, rent(client(), id(90), 500), Kind::NoMatch);
    assert_eq!(world.engine.state().heard_at(id(HOST)), START);
    assert_eq!(world.engine.state().heard_at(id(999)), world.engine.state().started_at());
    assert!(START > Timestamp::default() && world.engine.state().started_at() == START);
}

#[test]
fn offers_are_told_in_their_newest_version_only() {
    let (mut world, mut agent) = World::lending();
    world.add_host(101);
    for price in [1, 2] {
        agent.says.division.revision += 1;
        agent.says.division.conditions.as_mut().unwrap().prices.flat = MicrosPerHour(price);
        world.sync(&mut agent);
    }
    let mut told: Vec<_> = world.engine.state().offers().map(|row| (row.offer.id, row.offer.version)).collect();
    told.sort();
    assert_eq!(told, [(id(HOST), 3), (id(101), 1)]);
}

#[test]
fn a_reloaded_state_keeps_what_was_heard_and_every_view_is_news() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    world.pass(5);
    let state = world.engine.state();
    let versions = |state: &crate::engine::State| [lease.id, id(999)].map(|lease| state.lease_version(lease));
    let again = state.reloaded(state.tables().clone());
    assert!(again.is_consistent() && again.tables() == state.tables());
    assert_eq!((again.started_at(), again.live(agent.host)), (state.started_at(), state.live(agent.host)));
    assert_eq!((again.heard_at(agent.host), again.listened_to()), (state.heard_at(agent.host), 1));
    let news = versions(&again).iter().zip(versions(state)).all(|(new, old)| *new > old);
    assert!(news, "{:?} after {:?}", versions(&again), versions(state));
    let mut touched = again.clone();
    let moved = crate::engine::change::Change::LeaseMoved {
        lease: lease.id,
        state: lease.state,
        timeline: lease.timeline.clone(),
        detail: Some("said".into()),
    };
    let _ = touched.apply(&moved);
    assert!(touched.lease_version(lease.id) > again.lease_version(lease.id));
    let phase = |state: &crate::engine::State| state.phase(state.partition(lease.partition).unwrap());
    assert_eq!((phase(state), phase(&again)), (Some(Phase::Ready), Some(Phase::Ready)));
}

#[test]
fn followers_get_what_is_part_of_the_state_and_nothing_else() {
    let (mut world, mut agent) = World::lending();
    let kinds =
        |world: &World, kind: &str| world.db.count(&format!("select count(*) from events where kind = '{kind}'"));
    world.running(&mut agent);
    refused(&mut world, Command::OpenSession { host: id(HOST), last_session: 9 }, Kind::SessionRefused);
    assert!(world.db.count("select count(*) from audit") > 0);
    let told = ["lease", "lease_moved", "allocation", "host"].map(|kind| kinds(&world, kind) > 0);
    let kept = ["audit", "done", "heard", "seen", "started", "flagged"].map(|kind| kinds(&world, kind));
    assert_eq!((told, kept), ([true; 4], [0; 6]));
}

#[test]
fn a_refusal_counts_what_is_in_the_way_of_each() {
    let (mut world, mut agent) = World::lending();
    let ask = |world: &mut World, ids: &[u128], cpu| {
        let ids: Vec<_> = ids.iter().map(|n| id(*n)).collect();
        let refusal = world.call(Command::Rent(Box::new(asking(client(), &ids, cpu)))).unwrap_err();
        let unfit: Vec<_> = refusal.unfit.iter().map(|u| (u.clause.clone(), u.partitions)).collect();
        (refusal.detail, refusal.advice.unwrap_or_default(), unfit)
    };
    let (detail, advice, unfit) = ask(&mut world, &[70], 2600);
    assert_eq!(detail, "none of the 2 partitions that are lent fits");
    assert!(advice.starts_with("most often (2 of 2): "), "{advice}");
    assert_eq!(unfit, [("cpu".to_owned(), 2)]);
    let several = ask(&mut world, &[70, 71], 2600);
    assert_eq!(several, (detail, advice, unfit), "where none fits, several are told the same");
    let (detail, advice, _) = ask(&mut world, &[70, 71, 72], 1000);
    assert_eq!(detail, "3 were asked for, all or none, but only 2 fit at the moment");
    assert_eq!(advice, "ask for 2, or for smaller ones");
    assert_eq!(ask(&mut world, &[70, 70], 1000).0, format!("there is a lease {} already", id::<LeaseId>(70)));
    world.pass(20);
    assert_eq!(ask(&mut world, &[70], 1000).2, [("free".to_owned(), 2)], "not heard for a while");
    agent.says.division.partitions.iter_mut().for_each(|p| p.lendable = false);
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    assert_eq!(ask(&mut world, &[70], 1000).0, "no partition is lent at the moment");
}

#[test]
fn a_new_partition_makes_a_new_plan_though_it_has_what_it_begins_with() {
    let (mut world, mut agent) = World::lending();
    let version = |world: &World| world.engine.state().host(id(HOST)).unwrap().plan_version;
    let before = version(&world);
    let mut third = agent.says.division.partitions[0].clone();
    (third.id, third.name, third.profile) = (id(9), "three".into(), profile(500, 500, 500));
    agent.says.division.partitions.push(third);
    agent.says.division.revision += 1;
    assert_eq!(world.sync(&mut agent).division_refused, None);
    assert_eq!(version(&world), before + 1);
}
