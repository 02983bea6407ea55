//! What a restored market holds again, by what its hosts heard as paid.

use super::*;
use crate::engine::rows::Purse;
use crate::engine::tests::money::audited;

/// What one core costs for so many seconds, with the set-up.
const fn price(seconds: i64) -> i64 {
    100 + 1000 * seconds
}

fn pays(world: &mut World, purse: Purse) {
    world.call(Command::SetPurse { actor: operator(), account: id(CLIENT), change: purse.into() }).unwrap();
}

fn deposit(world: &mut World, micros: i64, reference: &str) {
    if micros > 0 {
        let (account, reference) = (id(CLIENT), reference.to_string());
        world.call(Command::Deposit { actor: operator(), account, micros: Micros(micros), reference }).unwrap();
    }
}

/// The host tells of its lives, and no more yet; how many changes came of it.
fn is_told(world: &mut World, keeper: &mut Keeper) -> Vec<String> {
    keeper.agent.says.catching_up = true;
    keeper.agent.says.lives = keeper.kept.iter().map(Kept::life).collect();
    let answer = world.sync(&mut keeper.agent);
    assert_eq!(answer.told.len(), keeper.kept.len());
    answer.warnings.iter().map(|warning| format!("{warning:?}")).collect()
}

/// A lease of an hour, of which half is paid at first.
struct Case {
    /// Whether it was granted before the backup.
    known: bool,
    purse: Purse,
    /// What the account has to spend in the copy.
    funds: i64,
    /// For how long it was paid, says the host.
    told: i64,
}

/// What stands in the books then.
#[derive(Debug, PartialEq, Eq)]
struct Stands {
    paid: i64,
    held: i64,
    spendable: i64,
    owed: i64,
    /// Whether the operator was told that a deposit is missing.
    flagged: bool,
}

impl Case {
    fn new(known: bool, purse: Purse, funds: i64, told: i64) -> Self {
        Self { known, purse, funds, told }
    }

    /// The market that was restored, its host, which told; and the lease.
    fn happen(&self, dir: &std::path::Path) -> (World, Keeper, Arc<Lease>) {
        let (mut world, mut keeper) = lending();
        pays(&mut world, Purse { month_limit: None, ..self.purse });
        let before = if self.purse.on_account { 0 } else { price(1800) };
        let (lease, mut later) = if self.known {
            deposit(&mut world, before, "first");
            let lease = keeper.rent(&mut world);
            (lease, restored(&world, dir, 100))
        } else {
            let later = restored(&world, dir, 100);
            deposit(&mut world, before, "first");
            (keeper.rent(&mut world), later)
        };
        assert_eq!((lease.paid_seconds, lease.term_seconds), (Seconds(1800), Seconds(3600)));
        deposit(&mut later, self.funds, "in the copy");
        pays(&mut later, self.purse);
        keeper.comes_back(&mut later);
        keeper.of(lease.id).run.paid_seconds = Seconds(self.told);
        let warned = is_told(&mut later, &mut keeper);
        assert!(warned.is_empty(), "{warned:?}");
        (later, keeper, lease)
    }

    fn stands(&self) -> Stands {
        let dir = tempfile::tempdir().unwrap();
        let (mut world, mut keeper, lease) = self.happen(dir.path());
        let state = world.engine.state();
        let (held, owed) = (state.balance(Book::Held(lease.id)).0, -state.balance(Book::Owed(id(CLIENT))).0);
        let spendable = state.balance(Book::Available(id(CLIENT))).0;
        let paid = world.lease(lease.id).paid_seconds.0;
        let flagged = world.db.count("select count(*) from audit where action = 'lease.recover.unpaid'") > 0;
        audited(&world);
        // Told once more it is no news: nothing is written.
        let before = (world.db.count("select count(*) from events"), world.engine.state().tables().clone());
        is_told(&mut world, &mut keeper);
        assert_eq!((world.db.count("select count(*) from events"), world.engine.state().tables().clone()), before);
        Stands { paid, held, spendable, owed, flagged }
    }
}

#[test]
fn what_its_host_heard_as_paid_is_held_again_to_the_micro() {
    let (before, after) = (Purse::default(), Purse::on_account());
    let limited = Purse { month_limit: Some(Micros(price(1800) - 1)), ..after };
    let paid_by = |paid, spendable, owed, flagged| Stands { paid, held: price(paid), spendable, owed, flagged };
    let had = |paid, spendable| paid_by(paid, spendable, 0, false);
    let owes = |paid| paid_by(paid, 0, price(paid), false);
    for (case, stands) in [
        // A lease that the copy knows is paid from the book that it was paid from, as far as that reaches.
        (Case::new(true, before, 0, 1800), had(1800, 0)),
        (Case::new(true, before, 5, 900), had(1800, 5)),
        (Case::new(true, before, 0, 2700), had(1800, 0)),
        (Case::new(true, before, 900_000, 2700), had(2700, 0)),
        (Case::new(true, before, 899_999, 2700), had(2699, 999)),
        (Case::new(true, before, 5_000_000, 2700), had(2700, 4_100_000)),
        (Case::new(true, before, 5_000_000, i64::MAX), had(3600, 3_200_000)),
        (Case::new(true, after, 0, 2700), owes(2700)),
        (Case::new(true, after, 0, i64::MAX), owes(3600)),
        // One that it does not know is paid whole; where the funds are short all of it is owed.
        (Case::new(false, before, price(1800), 1800), had(1800, 0)),
        (Case::new(false, before, price(1800) - 1, 1800), paid_by(1800, price(1800) - 1, price(1800), true)),
        (Case::new(false, before, 0, 2700), paid_by(2700, 0, price(2700), true)),
        (Case::new(false, before, 9_000_000, i64::MAX), had(3600, 9_000_000 - price(3600))),
        (Case::new(false, before, price(1), 0), had(1, 0)),
        (Case::new(false, after, 0, 1800), owes(1800)),
        (Case::new(false, after, 7, 2700), paid_by(2700, 7, price(2700), false)),
        // It owed it in any case: no deposit is missing.
        (Case::new(false, limited, 0, 1800), owes(1800)),
    ] {
        let what = format!("known: {}, {:?}, {} there, {} told", case.known, case.purse, case.funds, case.told);
        assert_eq!(case.stands(), stands, "{what}");
    }
}

#[test]
fn what_was_billed_before_the_backup_holds_nothing_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, mut keeper) = lending();
    let lease = keeper.rent(&mut world);
    keeper.receipt(&mut world, &lease, 30, false);
    // Its host is silent until the market gives it up, and bills what it knows.
    for _ in 0..200 {
        world.pass(60);
        world.tick();
    }
    assert!(world.lease(lease.id).state.holds_slot() && total(&world, lease.id).0 == 30);
    let mut later = restored(&world, dir.path(), 100);
    keeper.comes_back(&mut later);
    keeper.of(lease.id).run.paid_seconds = Seconds(3600);
    is_told(&mut later, &mut keeper);
    assert_eq!(later.engine.state().balance(Book::Held(lease.id)), Micros::ZERO);
    audited(&later);
}

/// The moment from which on this market holds money.
fn since(world: World, at: sublet_model::units::Timestamp) -> World {
    let World { db, now, .. } = world;
    db.connection().execute("update meta set value = ?1 where name = 'ledger_since'", [at.0.to_string()]).unwrap();
    World::started(db, now)
}

#[test]
fn a_lease_from_before_the_ledger_holds_nothing_and_one_of_its_first_moment_does() {
    for (younger, held) in [(0, price(1800)), (1, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut world, mut keeper) = lending();
        let later = restored(&world, dir.path(), 100);
        let lease = keeper.rent(&mut world);
        let granted = lease.terms().granted_at;
        let mut later = since(later, sublet_model::units::Timestamp(granted.0 + younger));
        keeper.comes_back(&mut later);
        is_told(&mut later, &mut keeper);
        assert_eq!(later.engine.state().balance(Book::Held(lease.id)).0, held, "{younger} us after the grant");
        assert_eq!(later.lease(lease.id).paid_seconds, Seconds(1800), "what the host heard stays");
        // What is used is paid by nobody's hold then.
        keeper.agent.says.lives.clear();
        keeper.agent.says.catching_up = false;
        keeper.agent.says.observed.clear();
        keeper.agent.sees(&lease, Phase::Ready);
        for _ in 0..300 {
            keeper.agent.says.observed[0].seconds += Seconds(5);
            later.pass(5);
            later.sync(&mut keeper.agent);
            later.tick();
        }
        assert_eq!(later.engine.state().balance(Book::Held(lease.id)).0 > held, younger == 0);
    }
}
