//! A market that was restored from a backup: hosts tell it what it has forgotten.

use super::world::*;
use crate::db::{Sqlite, backup};
use crate::engine::command::{Actor, Command, Outcome};
use crate::engine::rows::Lease;
use std::sync::Arc;
use sublet_model::identity::{SecretKey, Signed};
use sublet_model::ids::LeaseId;
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::ledger::Book;
use sublet_model::metering::Receipt;
use sublet_model::partition::Phase;
use sublet_model::units::{Micros, Seconds};
use sublet_wire::problem::Kind;
use sublet_wire::sync::{KeptLife, Run};

mod keys;
mod known;
mod paid;

/// What a host keeps of a lease.
struct Kept {
    run: Run,
    receipts: Vec<Signed<Receipt>>,
    over: bool,
}

impl Kept {
    fn life(&self) -> KeptLife {
        let (term_seconds, paid_seconds) = (self.run.term_seconds, self.run.paid_seconds);
        KeptLife { run: self.run.clone(), term_seconds, paid_seconds, ready: true, over: self.over, reason: None }
    }
}

/// A host that keeps what it was asked to run and what it receipted.
struct Keeper {
    agent: Agent,
    kept: Vec<Kept>,
}

impl Keeper {
    /// Rents, and lets the host bring it up.
    fn rent(&mut self, world: &mut World) -> Arc<Lease> {
        let lease = world.rent(1000).unwrap();
        let answer = world.sync(&mut self.agent);
        let run = answer
            .plan
            .iter()
            .flatten()
            .find_map(|wanted| wanted.run.clone().filter(|run| run.lease == lease.id))
            .unwrap();
        self.kept.push(Kept { run, receipts: Vec::new(), over: false });
        self.agent.sees(&lease, Phase::Ready);
        world.sync(&mut self.agent);
        Arc::clone(world.lease(lease.id))
    }

    fn of(&mut self, lease: LeaseId) -> &mut Kept {
        self.kept.iter_mut().find(|kept| kept.run.lease == lease).unwrap()
    }

    fn receipt(&mut self, world: &mut World, lease: &Lease, seconds: i64, last: bool) {
        let receipt = self.agent.receipt(lease, seconds, last);
        self.of(lease.id).receipts.push(receipt.clone());
        self.agent.says.receipts = vec![receipt];
        world.sync(&mut self.agent);
        self.agent.says.receipts.clear();
    }

    fn end(&mut self, world: &mut World, lease: &Lease, seconds: i64) {
        let actor = Actor { account: lease.account, member: lease.member, ..client() };
        world.call(Command::Release { actor, lease: lease.id }).unwrap();
        self.agent.sees(lease, Phase::Gone { reason: None });
        self.of(lease.id).over = true;
        self.receipt(world, lease, seconds, true);
    }

    /// Opens a session with a market that was restored.
    fn comes_back(&mut self, world: &mut World) {
        // The sessions after the backup, of which this market knows nothing.
        let last_session = self.agent.session + 4;
        let opened = world.call(Command::OpenSession { host: self.agent.host, last_session }).unwrap();
        assert_eq!(opened, Outcome::Session(last_session + 1), "no number that the host knows is given again");
        self.agent.session = last_session + 1;
    }

    /// Tells everything, as an agent does: lives, then receipts, then what it sees.
    fn tells(&mut self, world: &mut World) {
        let observed = std::mem::take(&mut self.agent.says.observed);
        self.agent.says.catching_up = true;
        self.agent.says.lives = self.kept.iter().map(Kept::life).collect();
        let told = world.sync(&mut self.agent).told;
        assert_eq!(told.len(), self.kept.len());
        self.agent.says.lives.clear();
        assert_eq!(world.rent(500).unwrap_err().kind, Kind::NoMatch, "not all is told");
        self.agent.says.receipts = self.kept.iter().flat_map(|kept| kept.receipts.clone()).collect();
        world.pass(1);
        world.tick();
        world.sync(&mut self.agent);
        self.agent.says.receipts.clear();
        self.agent.says.catching_up = false;
        self.agent.says.observed = observed;
        world.sync(&mut self.agent);
        world.tick();
    }
}

fn lending() -> (World, Keeper) {
    let (world, agent) = World::lending();
    (world, Keeper { agent, kept: Vec::new() })
}

/// The market as it is now, brought back so much later.
fn restored(world: &World, dir: &std::path::Path, seconds: i64) -> World {
    let file = dir.join("backup");
    world.db.connection().execute("vacuum into ?1", [file.to_string_lossy()]).unwrap();
    let now = world.now.after(Seconds(seconds));
    backup::restore(&file, dir, now).unwrap();
    World::started(Sqlite::open(dir).unwrap(), now)
}

fn total(world: &World, lease: LeaseId) -> (i64, i64) {
    let charge = &world.engine.state().charge(lease).expect("it is settled").charge;
    (charge.billed_seconds.0, charge.total.0)
}

#[test]
fn nothing_that_happened_after_the_backup_is_lost_or_granted_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, mut keeper) = lending();
    let old = keeper.rent(&mut world);
    world.pass(60);
    keeper.receipt(&mut world, &old, 50, false);
    let mut later = restored(&world, dir.path(), 7200);

    // What the backup knows nothing of: the old one ends, two more are granted, one of them ends.
    world.pass(900);
    keeper.receipt(&mut world, &old, 900, false);
    keeper.end(&mut world, &old, 950);
    let over = keeper.rent(&mut world);
    world.pass(300);
    keeper.end(&mut world, &over, 300);
    let new = keeper.rent(&mut world);
    let other = keeper.rent(&mut world);
    world.pass(100);
    keeper.receipt(&mut world, &new, 100, false);
    assert!(new.generation > old.generation && new.partition != other.partition);

    assert_eq!(later.rent(500).unwrap_err().kind, Kind::NoMatch, "nothing is granted before the host has synced");
    later.tick();
    assert!(later.lease(old.id).state.is_wanted(), "and nothing is decided about what it runs");
    keeper.comes_back(&mut later);
    keeper.tells(&mut later);

    for lease in [old.id, over.id] {
        assert_eq!(total(&later, lease), total(&world, lease), "no charge is lost");
        assert_eq!(later.engine.state().balance(Book::Held(lease)), Micros::ZERO);
        assert!(matches!(later.lease(lease).state, LeaseState::Ended { reason: EndReason::Released, .. }));
    }
    for lease in [&new, &other] {
        let again = later.lease(lease.id);
        assert!(matches!(again.state, LeaseState::Active { .. }), "what runs goes on: {again:?}");
        assert_eq!((again.generation, &again.agreed, &again.name), (lease.generation, &lease.agreed, &lease.name));
        assert_eq!((again.member, &again.ssh_public_key), (lease.member, &lease.ssh_public_key));
    }
    assert_eq!(later.lease(new.id).chain, world.lease(new.id).chain);
    assert_eq!(later.rent(500).unwrap_err().kind, Kind::NoMatch, "both partitions are held");
    assert_eq!(later.db.count("select count(*) from audit where action = 'lease.recover'"), 3);

    // It goes on as ever.
    keeper.end(&mut later, &new, 150);
    assert_eq!(total(&later, new.id).0, 150);
    let next = later.rent(1000).unwrap();
    assert!(next.generation > new.generation || next.partition != new.partition);
    // Told once more, as after a lost answer, it is no news.
    let before = later.engine.state().tables().clone();
    keeper.agent.says.lives = keeper.kept.iter().map(Kept::life).collect();
    later.sync(&mut keeper.agent);
    assert_eq!(*later.engine.state().tables(), before);
}

#[test]
fn what_was_granted_and_ended_between_is_billed_though_its_receipts_come_later() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, mut keeper) = lending();
    let granted = world.rent(1000).unwrap();
    let run = world.sync(&mut keeper.agent).plan.iter().flatten().find_map(|w| w.run.clone()).unwrap();
    keeper.kept.push(Kept { run, receipts: Vec::new(), over: false });
    let mut later = restored(&world, dir.path(), 4000);
    keeper.agent.sees(&granted, Phase::Ready);
    world.sync(&mut keeper.agent);
    world.pass(80);
    keeper.end(&mut world, &granted, 77);

    // The market knows of the grant and of nothing else: no bill over nothing is made meanwhile.
    keeper.comes_back(&mut later);
    keeper.tells(&mut later);
    assert_eq!(total(&later, granted.id), total(&world, granted.id));
    assert_eq!(total(&later, granted.id).0, 77);
}

#[test]
fn a_host_that_does_not_come_back_is_waited_for_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, mut keeper) = lending();
    let lease = keeper.rent(&mut world);
    world.pass(60);
    keeper.receipt(&mut world, &lease, 50, false);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    let mut later = restored(&world, dir.path(), 9000);
    later.tick();
    assert!(later.engine.state().charge(lease.id).is_none(), "its last receipts may come yet");
    later.pass(3599);
    later.tick();
    assert!(later.engine.state().charge(lease.id).is_none());
    later.pass(1);
    later.tick();
    assert_eq!(total(&later, lease.id).0, 50, "then what is known has to do");
}

#[test]
fn a_host_makes_no_lease_of_its_own_and_none_longer_than_was_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, mut keeper) = lending();
    let mut later = restored(&world, dir.path(), 100);
    let lease = keeper.rent(&mut world);
    world.pass(50);
    keeper.comes_back(&mut later);
    let good = keeper.kept[0].life();
    let forged = |edit: &dyn Fn(&mut sublet_model::billing::Terms), key: &SecretKey| {
        let mut terms = lease.terms().clone();
        edit(&mut terms);
        let mut life = good.clone();
        life.run.lease = terms.lease;
        life.run.terms = Signed::sign(&terms, key).unwrap();
        life
    };
    let ours = keys().market;
    let bad = [
        ("another key", forged(&|_| {}, &SecretKey::from_seed(&[66; 32]))),
        ("another host", forged(&|t| t.host = id(77), &ours)),
        ("another lease", KeptLife { run: Run { lease: id(5), ..good.run.clone() }, ..good.clone() }),
        ("a generation that is over", forged(&|t| t.generation = 0, &ours)),
        (
            "an image that is not the one agreed",
            forged(&|t| t.image = sublet_model::identity::Sha256Digest::of(b""), &ours),
        ),
    ];
    keeper.agent.says.catching_up = true;
    for (what, life) in bad {
        keeper.agent.says.lives = vec![life];
        let answer = later.sync(&mut keeper.agent);
        assert_eq!(answer.told.len(), 1, "{what}: told again it would be no truer");
        assert!(!answer.warnings.is_empty(), "{what}");
        assert_eq!(later.engine.state().leases().count(), 0, "{what}");
    }
    // Ten years, says the host, and all of it paid.
    let (term_seconds, paid_seconds) = (Seconds::MAX, Seconds::MAX);
    let run = Run { term_seconds, paid_seconds, ..good.run.clone() };
    keeper.agent.says.lives = vec![KeptLife { run, term_seconds, paid_seconds, ..good }];
    later.sync(&mut keeper.agent);
    let again = later.lease(lease.id);
    assert_eq!((again.term_seconds, again.paid_seconds), (lease.term_seconds, lease.term_seconds));
}

#[test]
fn who_and_what_was_made_after_the_backup_is_there_again_as_far_as_a_charge_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, mut keeper) = lending();
    let mut later = restored(&world, dir.path(), 100);
    let (account, member) = (world.fresh(), world.fresh());
    world.call(Command::CreateAccount { actor: operator(), id: account, name: "newcomer".into() }).unwrap();
    let purse = crate::engine::rows::Purse::on_account();
    world.call(Command::SetPurse { actor: operator(), account, change: purse.into() }).unwrap();
    let roles = vec![sublet_model::account::Role::Client];
    world.call(Command::CreateMember { actor: operator(), id: member, account, name: "only".into(), roles }).unwrap();
    let reference = "transfer 7".to_string();
    world.call(Command::Deposit { actor: operator(), account, micros: Micros(10_000_000), reference }).unwrap();
    let mut newer = manifest("newer", "newer");
    newer.version = "9".into();
    world.register(&newer);
    let actor = Actor { account, member, ..client() };
    let lease = world.rent_as(actor, 1000).unwrap();
    let run = world.sync(&mut keeper.agent).plan.iter().flatten().find_map(|w| w.run.clone()).unwrap();
    keeper.kept.push(Kept { run, receipts: Vec::new(), over: false });
    keeper.agent.sees(&lease, Phase::Ready);
    world.sync(&mut keeper.agent);
    world.pass(40);
    keeper.end(&mut world, &lease, 33);
    // And its partition was given up since.
    keeper.agent.says.division.partitions.retain(|declared| declared.id != lease.partition);
    keeper.agent.says.division.revision += 1;
    keeper.agent.says.observed.clear();

    keeper.comes_back(&mut later);
    keeper.tells(&mut later);
    assert_eq!(total(&later, lease.id), total(&world, lease.id));
    let state = later.engine.state();
    assert!(state.account(account).is_some_and(|row| row.suspended), "for the operator to look at");
    assert_eq!(later.lease(lease.id).member, member);
    let earned = |world: &World| world.engine.state().balance(Book::Available(lease.terms().lender));
    assert_eq!(earned(&later), earned(&world), "and the lender is paid");
}
