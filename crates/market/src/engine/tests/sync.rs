//! What a host may say, and what it may not.

use super::world::*;
use crate::engine::command::{Command, Outcome};
use crate::engine::sync::HIGHEST;
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::offer::Conditions;
use sublet_model::partition::Phase;
use sublet_model::partition::alter::resources;
use sublet_model::units::{MiB, Millicores, Seconds};
use sublet_wire::problem::Kind;
use sublet_wire::sync::{Division, KeptLife, MOST_LIVES, MOST_PARTITIONS, MOST_RECEIPTS, SyncMessage};

/// Writes of the database so far.
fn written(world: &World) -> i64 {
    world.db.count("select total_changes()")
}

#[test]
fn a_sync_that_changes_nothing_never_reaches_the_database() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    agent.sees(&lease, Phase::Ready);
    world.sync(&mut agent);
    let (before, plan) = (written(&world), world.engine.state().host(agent.host).unwrap().plan_version);
    for n in 0..10 {
        world.pass(5);
        agent.says.observed[0].seconds = Seconds(n * 5);
        world.sync(&mut agent);
        world.tick();
    }
    assert_eq!(written(&world), before);
    assert_eq!(world.engine.state().host(agent.host).unwrap().plan_version, plan);
    assert_eq!(world.engine.state().seconds_so_far(world.lease(lease.id)), Seconds(45), "but it is seen");
}

#[test]
fn only_the_newest_session_is_heard_and_a_copied_key_opens_none() {
    let (mut world, mut agent) = World::lending();
    let open = |world: &mut World, last| world.call(Command::OpenSession { host: id(HOST), last_session: last });
    assert_eq!(open(&mut world, 0).unwrap_err().kind, Kind::SessionRefused, "it used session 1 and does not know");
    assert_eq!(open(&mut world, 2).unwrap_err().kind, Kind::SessionRefused, "nobody opened that one");
    let refusals = "select count(*) from audit where action = 'session.refuse'";
    assert_eq!(world.db.count(refusals), 1, "it is written down, though not each time");
    world.pass(3600);
    open(&mut world, 0).unwrap_err();
    assert_eq!(world.db.count(refusals), 2);
    assert_eq!(open(&mut world, 1), Ok(Outcome::Session(2)));
    assert_eq!(world.try_sync(&mut agent).unwrap_err().kind, Kind::SessionRefused, "session 1 is over");
    // The answer that opened session 2 was lost, and the one after it too.
    assert_eq!(open(&mut world, 1), Ok(Outcome::Session(3)));
    assert_eq!(open(&mut world, 1), Ok(Outcome::Session(4)));
    agent.session = 4;
    world.sync(&mut agent);
    assert_eq!(open(&mut world, 1).unwrap_err().kind, Kind::SessionRefused, "now session 4 was used");
    for actor in [client(), stranger()] {
        assert_eq!(world.call(Command::ResetSession { actor, host: id(HOST) }).unwrap_err().kind, Kind::NotFound);
    }
    world.call(Command::ResetSession { actor: lender(), host: id(HOST) }).unwrap();
    assert_eq!(open(&mut world, 0), Ok(Outcome::Session(5)));
    assert_eq!(open(&mut world, 0), Ok(Outcome::Session(6)), "the answer that opened session 5 was lost");
    agent.session = 6;
    world.sync(&mut agent);
    assert_eq!(open(&mut world, 0).unwrap_err().kind, Kind::SessionRefused, "a reset is good until it was used");
}

#[test]
fn what_is_too_much_is_refused_whole() {
    let (mut world, agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    let mut says = agent.says.clone();
    let mut one = Agent::new(HOST);
    one.sees(&lease, Phase::Ready);
    let observed = one.says.observed[0].clone();
    let mut refused = |says: sublet_wire::sync::SyncRequest| {
        let refusal = world.raw_sync(agent.host, 1, says).unwrap_err();
        assert_eq!(refusal.kind, Kind::Invalid, "{refusal}");
    };
    says.observed = vec![observed.clone(); MOST_PARTITIONS + 1];
    refused(says.clone());
    // Found only after some of it was taken in: all of that is taken back.
    says.observed = vec![observed.clone(); 2];
    says.inventory.memory = MiB(9000);
    says.dial = "127.0.0.1:9".into();
    refused(says.clone());
    says.inventory.memory = agent.says.inventory.memory;
    says.dial = agent.says.dial.clone();
    says.observed = Vec::new();
    says.receipts = vec![one.receipt(&lease, 1, false); MOST_RECEIPTS + 1];
    refused(says.clone());
    says.receipts = Vec::new();
    says.division.revision = u64::MAX;
    refused(says.clone());
    says.division.revision = 2;
    says.observed = vec![observed.clone()];
    says.observed[0].applied.generation = u64::MAX;
    refused(says.clone());
    says.observed.clear();
    says.dial = "a b".into();
    refused(says.clone());
    says.dial = agent.says.dial.clone();
    says.inventory.threads = 0;
    refused(says);
    assert!(matches!(world.lease(lease.id).state, LeaseState::Granted { .. }));
}

/// Words of the refusal, or of what came of the division.
fn why(world: &mut World, message: SyncMessage) -> String {
    match world.raw_sync(id(HOST), 1, message) {
        Ok(answer) => answer.division_refused.unwrap_or_default(),
        Err(refusal) => refusal.detail,
    }
}

#[test]
fn as_much_as_is_allowed_is_not_too_much_and_one_more_is() {
    let (mut world, mut agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    let run = world.sync(&mut agent).plan.into_iter().flatten().find_map(|wanted| wanted.run).unwrap();
    let (term_seconds, paid_seconds) = (run.term_seconds, run.paid_seconds);
    let life = KeptLife { run, term_seconds, paid_seconds, ready: true, over: false, reason: None };
    agent.sees(&lease, Phase::Ready);
    let (seen, receipt) = (agent.says.observed[0].clone(), agent.receipt(&lease, 1, false));
    let declared = agent.says.division.partitions[0].clone();
    for more in [0, 1, 2] {
        let edits: [&dyn Fn(&mut SyncMessage); 6] = [
            &|m| m.observed = Some(vec![seen.clone(); MOST_PARTITIONS + more]),
            &|m| m.division.as_mut().unwrap().partitions = vec![declared.clone(); MOST_PARTITIONS + more],
            &|m| m.receipts = vec![receipt.clone(); MOST_RECEIPTS + more],
            &|m| m.lives = vec![life.clone(); MOST_LIVES + more],
            &|m| m.observed.as_mut().unwrap()[0].applied.generation = HIGHEST + more as u64,
            &|m| m.division.as_mut().unwrap().revision = HIGHEST + more as u64,
        ];
        for (n, edit) in edits.into_iter().enumerate() {
            let mut message = SyncMessage { wall_clock: world.now, ..agent.says.clone().into() };
            edit(&mut message);
            let why = why(&mut world, message);
            let too_much = why.contains("at most") || why.contains("is above");
            assert_eq!(too_much, more > 0, "number {n}, {more} more: {why}");
        }
    }
}

#[test]
fn older_and_foreign_sights_change_nothing() {
    let (mut world, mut agent) = World::lending();
    let mut b = world.add_host(101);
    let lease = world.rent(1000).unwrap();
    let (owner, other) = if lease.host == agent.host { (&mut agent, &mut b) } else { (&mut b, &mut agent) };

    other.sees(&lease, Phase::Ready);
    assert!(world.sync(other).warnings.iter().any(|w| w.contains("not one of this host")));
    other.says.observed.clear();

    owner.sees(&lease, Phase::Gone { reason: None });
    owner.says.observed[0].applied.generation = 0;
    assert!(world.sync(owner).warnings.is_empty(), "it just has not applied the grant yet");
    owner.says.observed[0].applied.generation = 9;
    assert!(world.sync(owner).warnings.iter().any(|w| w.contains("backup")));
    owner.says.observed[0].applied.generation = 1;
    owner.says.observed[0].lease = Some(id(5));
    assert!(world.sync(owner).warnings.iter().any(|w| w.contains("not to the one named")));
    assert!(matches!(world.lease(lease.id).state, LeaseState::Granted { .. }), "through all of it");

    // A sight that comes late, of a generation that is over.
    owner.sees(&lease, Phase::Gone { reason: None });
    world.sync(owner);
    let again = world.rent(3000 - 500).unwrap();
    owner.sees(&lease, Phase::Gone { reason: None });
    world.sync(owner);
    assert!(world.lease(again.id).state.is_wanted());
}

#[test]
fn a_host_that_is_ahead_is_believed_at_the_next_grant() {
    let (mut world, mut agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    agent.sees(&lease, Phase::Gone { reason: None });
    world.sync(&mut agent);
    for partition in [0, 1] {
        let mut seen = agent.says.observed[0].clone();
        (seen.partition, seen.applied.generation, seen.lease) = (agent.partition(partition), 41, None);
        agent.says.observed.retain(|o| o.partition != seen.partition);
        agent.says.observed.push(seen);
    }
    world.sync(&mut agent);
    assert_eq!(world.rent(1000).unwrap().generation, 42);
}

#[test]
fn a_host_that_lost_its_record_lost_the_partition() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    assert!(world.engine.state().live(agent.host).unwrap().observed(lease.partition).is_some());
    agent.says.observed.clear();
    world.sync(&mut agent);
    assert!(world.engine.state().live(agent.host).unwrap().observed(lease.partition).is_none());
    assert!(world.lease(lease.id).state.is_wanted(), "not seen is not gone");
    agent.sees(&lease, Phase::Idle);
    agent.says.observed[0].applied.generation = 0;
    world.sync(&mut agent);
    assert_eq!(world.lease(lease.id).state, LeaseState::Stopping { reason: EndReason::HostRestarted });
}

#[test]
fn a_host_can_not_speak_for_the_operator() {
    for said in [EndReason::Operator, EndReason::HostLost] {
        let (mut world, mut agent) = World::lending();
        let lease = world.running(&mut agent);
        agent.sees(&lease, Phase::Stopping { reason: said });
        world.sync(&mut agent);
        assert_eq!(world.lease(lease.id).state, LeaseState::Stopping { reason: EndReason::HostRestarted });
    }
}

#[test]
fn only_the_generation_that_is_named_is_taken_back() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    for (named, ends) in [(0, false), (2, false), (1, true)] {
        agent.says.division.partitions.iter_mut().for_each(|p| p.taken_back = Some(named));
        agent.says.division.revision += 1;
        world.sync(&mut agent);
        assert_eq!(!world.lease(lease.id).state.is_wanted(), ends, "{named}");
    }
}

#[test]
fn a_disk_that_was_rolled_back_counts_again_after_a_reset() {
    let (mut world, mut agent) = World::lending();
    agent.says.division.revision = 9;
    world.sync(&mut agent);
    agent.says.division.revision = 2;
    agent.says.division.partitions[0].lendable = false;
    assert!(world.sync(&mut agent).warnings.iter().any(|w| w.contains("rolled back")));
    world.call(Command::ResetSession { actor: lender(), host: agent.host }).unwrap();
    world.call(Command::OpenSession { host: agent.host, last_session: 0 }).unwrap();
    agent.session = 2;
    assert!(world.sync(&mut agent).warnings.is_empty());
    assert!(!world.engine.state().partition(agent.partition(0)).unwrap().lendable);
}

#[test]
fn a_computer_that_shrinks_keeps_what_is_held_and_lends_nothing_new() {
    let (mut world, mut agent) = World::lending();
    let lease = world.rent(2000).unwrap();
    agent.says.inventory.threads = 2;
    agent.says.inventory.cores = 2;
    world.sync(&mut agent);
    assert_eq!(world.has(lease.partition).resources.cpu, Millicores(2000), "held");
    let free = world.engine.state().reach(agent.partition(1)).unwrap();
    assert!(free.cpu < Millicores(0), "{free}");
    assert_eq!(world.rent(500).unwrap_err().kind, Kind::NoMatch);
    agent.says.inventory.threads = 4;
    world.sync(&mut agent);
    world.rent(500).unwrap();
}

#[test]
fn a_division_that_can_not_be_is_refused_whole_with_a_reason() {
    let (mut world, mut agent) = World::lending();
    let mut other = world.add_host(101);
    let good = agent.says.division.clone();
    let before = world.engine.state().host(agent.host).unwrap().clone();
    let foreign = other.partition(0);
    type Edit = Box<dyn Fn(&mut Division)>;
    let bad: Vec<(&str, Edit)> = vec![
        ("only 500m cpu", Box::new(|d| d.keep = resources(3500, 0, 0))),
        ("between zero", Box::new(|d| d.keep = resources(-1, 0, 0))),
        ("another host", Box::new(move |d| d.partitions[0].id = foreign)),
        ("twice", Box::new(|d| d.partitions[1].id = d.partitions[0].id)),
        ("twice", Box::new(|d| d.partitions[1].name = d.partitions[0].name.clone())),
        ("can't be a name", Box::new(|d| d.partitions[0].name = "../../etc".into())),
        ("out of order", Box::new(|d| d.partitions[0].profile.min.cpu = Millicores(2000))),
        ("at least 100m", Box::new(|d| d.partitions[0].profile.min.memory = MiB(1))),
        ("no conditions", Box::new(|d| d.conditions = None)),
        (
            "the shortest term",
            Box::new(|d| {
                d.conditions = Some(Conditions { shortest_term_seconds: Seconds(1 << 20), ..Conditions::free() })
            }),
        ),
    ];
    for (why, edit) in bad {
        agent.says.division = good.clone();
        agent.says.division.revision = 7;
        edit(&mut agent.says.division);
        let answer = world.sync(&mut agent);
        let refused = answer.division_refused.unwrap_or_default();
        assert!(refused.contains(why), "{why}: {refused}");
        assert_eq!(answer.division_revision, 1);
        let now = world.engine.state().host(agent.host).unwrap();
        assert_eq!((now.keep, now.offer, now.plan_version), (before.keep, before.offer, before.plan_version));
    }
    // An older one says nothing new, whatever it says.
    agent.says.division = Division { revision: 0, ..Division::default() };
    assert_eq!(world.sync(&mut agent).division_refused, None);
    assert_eq!(world.engine.state().partitions_of(agent.host).count(), 2);
    world.sync(&mut other);
}

#[test]
fn conditions_make_a_new_version_and_leases_keep_theirs() {
    let (mut world, mut agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    agent.says.division.conditions.as_mut().unwrap().prices.cpu.0 += 1;
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    let state = world.engine.state();
    let offer = state.newest_offer(lease.terms().offer).unwrap();
    assert_eq!((offer.offer.version, lease.terms().offer_version), (2, 1), "the same conditions make no version");
    assert_eq!(world.rent(1000).unwrap().terms().offer_version, 2);
}

#[test]
fn what_the_owner_removes_stays_while_it_is_held() {
    let (mut world, mut agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    let removed = agent.says.division.partitions.iter().position(|p| p.id == lease.partition).unwrap();
    let declared = agent.says.division.partitions.remove(removed);
    agent.says.division.revision += 1;
    let answer = world.sync(&mut agent);
    assert_eq!(answer.division_refused, None);
    assert!(
        answer.plan.as_ref().unwrap().iter().any(|w| w.partition == lease.partition && w.run.is_some()),
        "the lease goes on"
    );
    agent.sees(&lease, Phase::Gone { reason: None });
    let answer = world.sync(&mut agent);
    assert!(answer.plan.as_ref().unwrap().iter().all(|w| w.partition != lease.partition), "now it is gone");
    agent.says.division.partitions.push(declared);
    agent.says.division.revision += 1;
    assert!(world.sync(&mut agent).division_refused.unwrap().contains("retired"));
}

#[test]
fn unlisting_stops_new_grants_only() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    agent.says.division.partitions.iter_mut().for_each(|p| p.lendable = false);
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    assert!(world.lease(lease.id).state.is_wanted());
    assert_eq!(world.rent(500).unwrap_err().kind, Kind::NoMatch);
}

#[test]
fn words_from_a_host_are_tidied() {
    let (mut world, mut agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    agent.sees(&lease, Phase::Booting);
    agent.says.observed[0].detail = Some(format!("a\x1b[2J\0{}", "x".repeat(10_000)));
    world.sync(&mut agent);
    let detail = world.lease(lease.id).detail.clone().unwrap();
    assert!(detail.starts_with("a [2J x") && detail.chars().count() == 500);
}

#[test]
fn two_divisions_of_one_number_are_noticed_and_the_first_stands() {
    let (mut world, mut agent) = World::lending();
    let differs = "select count(*) from audit where action = 'division.differs'";
    assert!(world.sync(&mut agent).warnings.is_empty());
    agent.says.division.partitions[0].lendable = false;
    for _ in 0..2 {
        let answer = world.sync(&mut agent);
        assert!(answer.warnings.iter().any(|w| w.contains("something else")), "{:?}", answer.warnings);
    }
    assert!(world.engine.state().partition(agent.partition(0)).unwrap().lendable);
    assert_eq!(world.db.count(differs), 1, "written down once");
    agent.says.division.revision += 1;
    assert!(world.sync(&mut agent).warnings.is_empty());
    assert!(!world.engine.state().partition(agent.partition(0)).unwrap().lendable);
}

/// A message that says nothing but that the host is there.
fn nothing_new(agent: &Agent, now: sublet_model::units::Timestamp) -> SyncMessage {
    let mut message = SyncMessage::from(agent.says.clone());
    (message.wall_clock, message.inventory, message.division, message.observed) = (now, None, None, None);
    message
}

#[test]
fn what_is_left_out_is_as_it_was() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let before = (written(&world), world.engine.state().host(agent.host).unwrap().clone());
    let live = |world: &World| world.engine.state().live(agent.host).unwrap().clone();
    let seen = live(&world).observed;
    world.pass(50);
    let mut message = nothing_new(&agent, world.now);
    let answer = world.raw_sync(agent.host, agent.session, message.clone()).unwrap();
    assert_eq!(answer.warnings, Vec::<String>::new());
    assert_eq!(answer.division_revision, 1);
    assert!(answer.plan.is_some(), "a plan that the host does not know is told");
    assert_eq!((live(&world).heard_at, live(&world).observed), (world.now, seen));
    assert_eq!((written(&world), world.engine.state().host(agent.host).unwrap().clone()), before);
    message.plan_version = answer.plan_version;
    let again = world.raw_sync(agent.host, agent.session, message.clone()).unwrap();
    assert_eq!((again.plan_version, again.plan.is_none()), (answer.plan_version, true), "it is known");

    // The client gives it back: the plan is another one, though the host has nothing new to say.
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    let news = world.raw_sync(agent.host, agent.session, message.clone()).unwrap();
    let wanted = news.plan.unwrap().into_iter().find(|w| w.partition == lease.partition).unwrap();
    assert!(news.plan_version > answer.plan_version && wanted.run.is_none());
}

#[test]
fn a_host_that_was_not_heard_yet_must_say_everything() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    world.restart();
    let whole = SyncMessage::from(agent.says.clone());
    let parts: [fn(&mut SyncMessage); 3] = [|m| m.inventory = None, |m| m.division = None, |m| m.observed = None];
    for leave_out in parts {
        let mut message = SyncMessage { wall_clock: world.now, ..whole.clone() };
        leave_out(&mut message);
        let refusal = world.raw_sync(agent.host, agent.session, message).unwrap_err();
        assert_eq!((refusal.kind, world.engine.state().live(agent.host)), (Kind::SessionRefused, None));
    }
    world.sync(&mut agent);
    world.raw_sync(agent.host, agent.session, nothing_new(&agent, world.now)).unwrap();
    assert!(matches!(world.lease(lease.id).state, LeaseState::Active { .. }));
}

#[test]
fn where_something_runs_that_nobody_holds_nothing_is_granted() {
    let (mut world, mut agent) = World::lending();
    let partitions = agent.says.division.partitions.len();
    let leases: Vec<_> = (0..partitions).map(|_| world.running(&mut agent)).collect();
    let lease = leases[0].clone();
    agent.sees(&lease, Phase::Gone { reason: Some(EndReason::GuestShutdown) });
    world.sync(&mut agent);
    // A copy of the agent runs on what the other one has said gone.
    agent.sees(&lease, Phase::Ready);
    let warnings = world.sync(&mut agent).warnings;
    assert!(warnings.iter().any(|w| w.contains("runs what nobody holds")), "{warnings:?}");
    world.rent(1000).unwrap_err();
    for _ in 0..12 {
        world.pass(10);
        world.sync(&mut agent);
        world.rent(1000).unwrap_err();
    }
    agent.sees(&lease, Phase::Idle);
    world.sync(&mut agent);
    world.rent(1000).unwrap_err();
    world.pass(61);
    world.sync(&mut agent);
    world.tick();
    assert_eq!(world.rent(1000).unwrap().partition, lease.partition);
}

#[test]
fn what_runs_and_nobody_holds_is_closed_for_a_minute_again_every_half_though_its_host_leaves_it_out() {
    let (mut world, mut agent) = World::lending();
    let leases = [world.running(&mut agent), world.running(&mut agent)];
    agent.sees(&leases[0], Phase::Gone { reason: Some(EndReason::GuestShutdown) });
    world.sync(&mut agent);
    agent.sees(&leases[0], Phase::Ready);
    let began = world.now;
    world.sync(&mut agent);
    let closed = |world: &World| {
        let until = world.engine.state().partition(leases[0].partition).unwrap().unlisted_until.unwrap();
        until.since(began).0
    };
    let mut seen = vec![closed(&world)];
    for _ in 0..7 {
        world.pass(10);
        let message = nothing_new(&agent, world.now);
        world.raw_sync(agent.host, agent.session, message).unwrap();
        seen.push(closed(&world));
    }
    assert_eq!(seen, [60, 60, 60, 90, 90, 90, 120, 120]);
}

#[test]
fn a_host_that_runs_a_partition_with_another_allocation_is_told() {
    let (mut world, mut agent) = World::lending();
    let lease = world.rent(1000).unwrap();
    for (phase, is_told) in [(Phase::Idle, false), (Phase::Booting, true), (Phase::Ready, true)] {
        agent.sees(&lease, phase);
        agent.says.observed[0].applied.resources = resources(999, 512, 0);
        let warnings = world.sync(&mut agent).warnings;
        assert_eq!(warnings.iter().any(|w| w.contains("is granted")), is_told, "{phase:?}: {warnings:?}");
    }
    assert_eq!(world.db.count("select count(*) from audit where action = 'sync.other_allocation'"), 1);
}
