//! Commits that fail: what was decided is taken back, only the culprit is refused, and nothing
//! that was acknowledged is lost.

use super::standing::{ask, filled, gone, stands, waiting};
use super::world::*;
use crate::db::Sqlite;
use crate::engine::change::Change;
use crate::engine::command::{Command, Reply};
use crate::engine::commit::{Commit, CommitError, Recalled};
use crate::engine::state::{State, Tables};
use crate::engine::step::{Engine, Request};
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::{LeaseId, MemberId};
use sublet_model::partition::Phase;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::problem::Kind;

/// How the next commits go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Nothing is written, later it may work.
    Busy,
    /// Nothing is written, and nobody knows.
    FatalBefore,
    /// It is written, and nobody knows.
    FatalAfter,
    /// Refuses batches that contain an account of this name.
    Against(&'static str),
    /// Refuses batches that grant this lease.
    AgainstLease(LeaseId),
}

struct Moody {
    db: Sqlite,
    mood: Mood,
    commits: usize,
}

impl Commit for Moody {
    fn commit(&mut self, at: Timestamp, changes: &[&Change]) -> Result<(), CommitError> {
        self.commits += 1;
        let names = |name: &str| changes.iter().any(|c| matches!(c, Change::Account(a) if a.name == name));
        match self.mood {
            Mood::Busy => Err(CommitError::Busy("no room".into())),
            Mood::FatalBefore => Err(CommitError::Fatal("the disk is gone".into())),
            Mood::FatalAfter => {
                self.db.commit(at, changes)?;
                Err(CommitError::Fatal("the disk is gone".into()))
            }
            Mood::Against(name) if names(name) => Err(CommitError::Constraint("a rule".into())),
            Mood::AgainstLease(lease) if changes.iter().any(|c| matches!(c, Change::Lease(l) if l.id == lease)) => {
                Err(CommitError::Constraint("another rule".into()))
            }
            _ => self.db.commit(at, changes),
        }
    }

    fn recall(&mut self, member: MemberId, key: &str) -> Result<Option<Recalled>, CommitError> {
        self.db.recall(member, key)
    }

    fn edited(&mut self) -> Result<bool, CommitError> {
        self.db.edited()
    }

    fn load(&mut self) -> Result<Tables, CommitError> {
        self.db.load()
    }
}

fn world() -> World<Moody> {
    World::over(Moody { db: Sqlite::in_memory().unwrap(), mood: Mood::Well, commits: 0 })
}

fn create(n: u128, name: &str) -> Request {
    let command = Command::CreateAccount { actor: operator(), id: id(n), name: name.into() };
    Request { command, idempotency: None }
}

/// Everything that a market does in its life, as steps that can be repeated.
type Do = Box<dyn Fn(&mut World<Moody>, &mut Agent) -> Command>;

fn life() -> Vec<(&'static str, Do)> {
    let sync = |agent: &mut Agent, world: &World<Moody>| agent.sync(world.now);
    let lease = id(500);
    vec![
        ("rent", Box::new(move |_, _| rent(client(), lease, 2500))),
        (
            "ready",
            Box::new(move |world, agent| {
                agent.sees(&world.lease(lease).clone(), Phase::Ready);
                sync(agent, world)
            }),
        ),
        (
            "receipt",
            Box::new(move |world, agent| {
                let lease = world.lease(lease).clone();
                agent.chains.clear();
                agent.says.receipts = vec![agent.receipt(&lease, 2, false)];
                sync(agent, world)
            }),
        ),
        ("release", Box::new(move |_, _| Command::Release { actor: client(), lease })),
        (
            "gone",
            Box::new(move |world, agent| {
                let lease = world.lease(lease).clone();
                agent.chains.clear();
                agent.says.receipts = vec![agent.receipt(&lease, 2, false), agent.receipt(&lease, 3, true)];
                agent.sees(&lease, Phase::Gone { reason: None });
                sync(agent, world)
            }),
        ),
        ("tick", Box::new(|_, _| Command::Tick)),
        ("rent again", Box::new(|_, _| rent(client(), id(501), 1000))),
    ]
}

/// Each step in turn fails in this mood; then the market goes on (after a restart, if it must),
/// the step is repeated, and all ends as if nothing had happened.
fn each_step_fails(mood: Mood) {
    for failing in 0..life().len() {
        let mut world = world();
        let mut agent = world.add_host(HOST);
        for (at, (name, make)) in life().into_iter().enumerate() {
            let command = make(&mut world, &mut agent);
            if at == failing {
                fail(&mut world, mood, command, name);
            }
            // Repeated, as clients and hosts do. A lease that was granted unheard is there already.
            let command = make(&mut world, &mut agent);
            let repeated = world.reply(command, None);
            let done_before = mood == Mood::FatalAfter && at == failing && name.starts_with("rent");
            assert_eq!(repeated.is_err(), done_before, "{name}: {repeated:?}");
            world.pass(1);
        }
        let charge = world.engine.state().charge(id(500)).expect("settled once");
        assert_eq!(charge.charge.billed_seconds.0, 3);
        assert_eq!(world.engine.state().leases().count(), 2);
    }
}

fn fail(world: &mut World<Moody>, mood: Mood, command: Command, name: &str) {
    let before = world.engine.state().tables().clone();
    world.db.mood = mood;
    let (now, commits) = (world.now, world.db.commits);
    let batch = [Request { command, idempotency: None }];
    let stepped = world.engine.step(&mut world.db, &batch, now);
    world.db.mood = Mood::Well;
    if world.db.commits == commits {
        assert_eq!(name, "tick", "it had nothing to store");
        return;
    }
    match mood {
        Mood::Busy => {
            let refusal = stepped.unwrap().answers.remove(0).unwrap_err();
            assert_eq!(refusal.kind, Kind::Unavailable);
            assert!(refusal.advice.is_some());
            assert_eq!(*world.engine.state().tables(), before, "taken back");
            world.check();
        }
        _ => {
            stepped.expect_err("the market must end");
            // A new process reads the database.
            let state = State::new(world.db.load().unwrap());
            world.engine = Engine::new(state, keys(), world.now);
            world.published = world.engine.state().clone();
            world.check();
            // Nothing was heard yet: the host syncs again, in a session of its own.
            let row = world.engine.state().host(id(HOST)).unwrap().clone();
            assert_eq!(row.used_session, 1);
            let mut says = Agent::new(HOST).says;
            says.wall_clock = world.now;
            world.raw_sync(id(HOST), 1, says).unwrap();
        }
    }
}

#[test]
fn busy_undoes_each_step_and_repeating_it_works() {
    each_step_fails(Mood::Busy);
}

#[test]
fn a_failure_before_the_commit_loses_nothing() {
    each_step_fails(Mood::FatalBefore);
}

#[test]
fn a_failure_after_the_commit_doubles_nothing() {
    each_step_fails(Mood::FatalAfter);
}

#[test]
fn a_batch_that_is_refused_is_tried_one_by_one_and_only_the_culprit_pays() {
    let mut world = world();
    world.db.mood = Mood::Against("bad");
    let answers = world.step(vec![create(60, "one"), create(61, "bad"), create(62, "two")]);
    let kinds: Vec<Option<Kind>> = answers.iter().map(|a| a.as_ref().err().map(|r| r.kind)).collect();
    assert_eq!(kinds, [None, Some(Kind::Internal), None]);
    assert!(matches!(answers[0], Ok(Reply::Outcome(_))));
    let state = world.engine.state();
    assert!(state.account_by_name("one").is_some() && state.account_by_name("two").is_some());
    assert!(state.account_by_name("bad").is_none());
}

#[test]
fn a_rule_of_the_database_that_the_engine_missed_stops_one_command_only() {
    let mut world = World::empty();
    // A rule that the engine knows nothing of.
    world
        .db
        .connection()
        .execute_batch(
            "create temp trigger no_cats before insert on accounts when new.name = 'cat' begin
             select raise(abort, 'no cats'); end;",
        )
        .unwrap();
    let answers = world.step(vec![create(60, "dog"), create(61, "cat")]);
    assert!(answers[0].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err().kind, Kind::Internal);
}

/// A full market in which one request stands.
fn one_stands() -> (World<Moody>, Agent, LeaseId) {
    let mut world = world();
    let mut agent = world.add_host(HOST);
    let held = filled(&mut world, &mut agent);
    stands(ask(&mut world, 70, 1000));
    (world, agent, held)
}

fn kinds(world: &mut World<Moody>, batch: Vec<Request>) -> Vec<Option<Kind>> {
    world.step(batch).iter().map(|answer| answer.as_ref().err().map(|refusal| refusal.kind)).collect()
}

#[test]
fn a_grant_to_one_that_stands_which_the_database_refuses_costs_nobody_else_anything() {
    let (mut world, mut agent, held) = one_stands();
    world.db.mood = Mood::AgainstLease(id(70));
    let frees = gone(&mut world, &mut agent, held);
    assert_eq!(kinds(&mut world, vec![frees]), [None], "the host is not refused");
    world.db.mood = Mood::Well;
    world.tick();
    assert!(world.engine.state().lease(id(70)).is_none(), "it was given up");
    assert_eq!(world.engine.state().holding().count(), 0);
    assert!(ask(&mut world, 70, 1000).is_ok(), "asked again it is a new one");
}

#[test]
fn one_that_stands_and_asks_again_is_refused_by_itself_and_stands_on() {
    let (mut world, mut agent, held) = one_stands();
    world.db.mood = Mood::AgainstLease(id(70));
    let frees = gone(&mut world, &mut agent, held);
    let asks = waiting(70, client(), 1000);
    assert_eq!(kinds(&mut world, vec![frees, asks.clone()]), [None, Some(Kind::Internal)]);
    assert_eq!(kinds(&mut world, vec![asks]), [Some(Kind::Internal)], "alone, too");
    world.db.mood = Mood::Well;
    world.tick();
    assert!(world.engine.state().lease(id(70)).is_some());
}

#[test]
fn a_culprit_takes_nothing_from_one_that_stands() {
    let (mut world, mut agent, held) = one_stands();
    world.db.mood = Mood::Against("bad");
    let frees = gone(&mut world, &mut agent, held);
    assert_eq!(kinds(&mut world, vec![frees, create(61, "bad")]), [None, Some(Kind::Internal)]);
    // Once more, where it is the only one that asks: what stands would be granted beside it.
    assert_eq!(kinds(&mut world, vec![create(62, "bad")]), [Some(Kind::Internal)]);
    world.db.mood = Mood::Well;
    world.tick();
    assert!(world.engine.state().lease(id(70)).is_some(), "it stood on");
}

#[test]
fn what_is_undone_leaves_no_name_behind() {
    let mut world = world();
    world.add_host(HOST);
    let (hash, expires_at) = (Sha256Digest::of(b"t"), world.now.after(Seconds(60)));
    let (name, roles) = ("t".to_owned(), client().roles);
    let manifest = sublet_model::identity::Signed::sign(
        &manifest("later", "later"),
        &sublet_model::identity::SecretKey::from_seed(&[8; 32]),
    )
    .unwrap();
    let commands = [
        Command::CreateAccount { actor: operator(), id: id(60), name: "one".into() },
        Command::CreateToken { actor: client(), id: id(61), member: id(CLIENT), name, hash, roles, expires_at },
        Command::CreateJoinToken { actor: lender(), id: id(62), hash, uses: 1, expires_at },
        Command::RegisterImage { actor: operator(), manifest, depot: "http://127.0.0.1:7402".into() },
    ];
    for command in commands {
        world.db.mood = Mood::Busy;
        let said = format!("{command:?}");
        assert_eq!(world.call(command.clone()).unwrap_err().kind, Kind::Unavailable, "{said}");
        world.db.mood = Mood::Well;
        world.check();
        world.call(command).unwrap_or_else(|refusal| panic!("{refusal}: {said}"));
    }
}
