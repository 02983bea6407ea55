//! Money in trouble: who pays otherwise meanwhile, funds that come in drops, books that refuse, disputes
//! that overlap.

use crate::db::books::audit;
use crate::engine::change::Change;
use crate::engine::command::{Actor, Command, Outcome, Refusal, Rent};
use crate::engine::commit::Commit;
use crate::engine::rows::{AlertKind, AlertRow, Lease, Purse};
use crate::engine::state::FORK;
use crate::engine::tests::world::*;
use std::sync::Arc;
use sublet_model::account::Role;
use sublet_model::ids::{DisputeId, LeaseId};
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::ledger::{Book, Cause};
use sublet_model::partition::Phase;
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Seconds};
use sublet_wire::api::PurseChange;
use sublet_wire::problem::Kind;

/// What one core costs for so many seconds, with the set-up.
const fn price(seconds: i64) -> i64 {
    100 + 1000 * seconds
}

fn deposit(world: &mut World, account: u128, micros: i64) {
    let reference = format!("PO-{}", world.engine.state().ledger().newest());
    let (account, micros) = (id(account), Micros(micros));
    world.call(Command::Deposit { actor: operator(), account, micros, reference }).unwrap();
}

fn pays(world: &mut World, account: u128, on_account: bool) {
    let change = PurseChange { on_account: Some(on_account), ..PurseChange::default() };
    world.call(Command::SetPurse { actor: operator(), account: id(account), change }).unwrap();
}

/// A market in which the client pays from what it has: this much.
fn funded(micros: i64) -> (World, Agent) {
    let (mut world, agent) = World::lending();
    pays(&mut world, CLIENT, false);
    deposit(&mut world, CLIENT, micros);
    (world, agent)
}

fn has(world: &World, book: Book) -> i64 {
    world.engine.state().balance(book).0
}

fn spendable(world: &World, account: u128) -> i64 {
    has(world, Book::Available(id(account)))
}

/// Time passes, and the host says that it is used.
fn go_on(world: &mut World, agent: &mut Agent, seconds: i64) {
    for _ in 0..seconds / 5 {
        world.pass(5);
        agent.says.observed.iter_mut().for_each(|seen| seen.seconds += Seconds(5));
        world.sync(agent);
        world.tick();
    }
}

/// The host says gone, after so many seconds of use.
fn gone(world: &mut World, agent: &mut Agent, lease: &Lease, seconds: i64) {
    agent.says.receipts = vec![agent.receipt(lease, seconds, true)];
    agent.sees(lease, Phase::Gone { reason: None });
    world.sync(agent);
    agent.says.receipts.clear();
}

fn over(world: &mut World, agent: &mut Agent, lease: &Lease, seconds: i64) {
    world.pass(seconds);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    gone(world, agent, lease, seconds);
}

fn audited(world: &World) {
    assert_eq!(audit(world.db.connection()).unwrap().problems, [] as [&str; 0]);
}

fn kind(answer: Result<Outcome, Refusal>) -> Kind {
    answer.unwrap_err().kind
}

fn dispute(n: u128, actor: Actor, lease: LeaseId) -> Command {
    let id = id::<DisputeId>(n);
    Command::OpenDispute { actor, id, lease, line: None, reason: "slow".into(), words: String::new() }
}

fn resolve(id: DisputeId, micros: i64, borne_by: CreditBearer) -> Command {
    Command::ResolveDispute { actor: operator(), id, credit: Micros(micros), borne_by, note: "so it is".into() }
}

#[test]
fn whoever_pays_afterwards_from_now_on_stops_nobody() {
    let (mut world, mut agent) = funded(price(1000));
    let lease = world.running(&mut agent);
    // Another client's, which never comes up: it is to end after ten minutes.
    let other = world.rent_as(stranger(), 1000).unwrap();
    pays(&mut world, CLIENT, true);
    go_on(&mut world, &mut agent, 605);
    assert_eq!(world.lease(lease.id).paid_seconds, Seconds(1000), "one lease is paid from one book");
    let told = world.engine.state().told(lease.id, AlertKind::FundsLow, Seconds(1000));
    assert!(told.is_some_and(|alert| alert.words.contains("deposit")));
    let reason = world.lease(other.id).state.reason();
    assert_eq!(reason, Some(EndReason::BootFailed), "what is due for others happens");
    deposit(&mut world, CLIENT, 300_000);
    go_on(&mut world, &mut agent, 5);
    assert_eq!(world.lease(lease.id).paid_seconds, Seconds(1300));
    audited(&world);
}

#[test]
fn whoever_pays_afterwards_no_more_owes_no_more() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let owed = Book::Owed(id(CLIENT));
    assert_eq!(world.engine.state().ledger().lease(lease.id).unwrap().payer, owed);
    pays(&mut world, CLIENT, false);
    deposit(&mut world, CLIENT, 50_000_000);
    assert_eq!((has(&world, owed), spendable(&world, CLIENT)), (0, 50_000_000 - price(1800)), "debts first");
    go_on(&mut world, &mut agent, 1200);
    assert_eq!((has(&world, owed), spendable(&world, CLIENT)), (0, 50_000_000 - price(1800)));
    assert_eq!(world.lease(lease.id).paid_seconds, Seconds(1800), "it stops where it was paid to");
    audited(&world);
}

fn refund(world: &mut World, account: u128, micros: i64) -> Result<Outcome, Refusal> {
    let reference = format!("out-{}", world.engine.state().ledger().newest());
    world.call(Command::Refund { actor: operator(), account: id(account), micros: Micros(micros), reference })
}

#[test]
fn whoever_pays_its_bill_has_paid_it_and_has_nothing_to_spend_by_it() {
    let (mut world, mut agent) = World::lending();
    deposit(&mut world, CLIENT, 1000);
    let lease = world.running(&mut agent);
    over(&mut world, &mut agent, &lease, 40);
    let stands = |world: &World| (has(world, Book::Owed(id(CLIENT))), spendable(world, CLIENT));
    assert_eq!(stands(&world), (-price(40), 1000), "what it had is its own still");
    let refused = refund(&mut world, CLIENT, 1).unwrap_err();
    assert!(refused.kind == Kind::Conflict && refused.detail.contains("owes 0.0401"), "{refused:?}");
    deposit(&mut world, CLIENT, price(40) - 1);
    assert_eq!(stands(&world), (-1, 1000));
    // A part of the bill is given back, though it is paid: that is its own.
    world.call(dispute(1, client(), lease.id)).unwrap();
    world.call(resolve(id(1), 500, CreditBearer::Lender)).unwrap();
    assert_eq!(stands(&world), (0, 1499));
    refund(&mut world, CLIENT, 1499).unwrap();
    assert_eq!(world.engine.state().balance(Book::Outside), Micros(500 - price(40)));
    audited(&world);
}

#[test]
fn whoever_owes_more_than_can_be_counted_gets_no_more() {
    let (mut world, _) = World::lending();
    let most = i64::MAX / 4;
    let lease = world.rent(1000).unwrap();
    let cause = Cause::Hold { lease: lease.id, client: id(CLIENT) };
    let micros = Micros(most - 2 * price(1800));
    let transfer =
        world.engine.state().ledger().next(world.now, cause, Book::Owed(id(CLIENT)), &[(Book::Held(lease.id), micros)]);
    let after = vec![Micros(price(1800) - most), micros + Micros(price(1800))];
    world.db.commit(world.now, &[&Change::Transfer { transfer, after }]).unwrap();
    let World { db, now, .. } = world;
    let mut world = World::started(db, now);
    let rent = Command::Rent(Box::new(asking(client(), &[id(905)], 1000)));
    world.call(rent).unwrap_err();
    assert_eq!(world.engine.state().purse(id(CLIENT), now), Micros(price(1800)));
}

#[test]
fn whoever_owes_itself_gets_nothing_from_itself() {
    let (mut world, mut agent) = World::lending();
    let lease = rents_from_itself(&mut world, &mut agent);
    assert_eq!(kind(world.call(resolve(id(1), 500, CreditBearer::Lender))), Kind::Conflict);
    world.call(resolve(id(1), 0, CreditBearer::Lender)).unwrap();
    assert_eq!((has(&world, Book::Owed(id(LENDER))), spendable(&world, LENDER)), (-price(40), price(40)));
    assert_eq!(kind(refund(&mut world, LENDER, 1)), Kind::Conflict, "set off first, by a deposit and a refund");
    deposit(&mut world, LENDER, price(40));
    refund(&mut world, LENDER, price(40)).unwrap();
    assert_eq!(world.engine.state().ledger().balances().count(), 0, "{lease:?}");
    audited(&world);
}

#[test]
fn a_purse_is_changed_in_what_is_said_of_it() {
    let (mut world, _) = funded(5);
    let change = |change| Command::SetPurse { actor: operator(), account: id(CLIENT), change };
    let limit = PurseChange { month_limit: Some(Micros(7)), ..PurseChange::default() };
    world.call(change(limit.clone())).unwrap();
    pays(&mut world, CLIENT, true);
    let purse = |world: &World| world.engine.state().account(id(CLIENT)).unwrap().purse;
    assert_eq!(purse(&world), Purse { on_account: true, month_limit: Some(Micros(7)) });
    assert_eq!(kind(world.call(change(PurseChange { no_month_limit: true, ..limit }))), Kind::Invalid);
    let limited = |micros| PurseChange { month_limit: Some(Micros(micros)), ..PurseChange::default() };
    assert_eq!(kind(world.call(change(limited(-1)))), Kind::Invalid);
    world.call(change(limited(0))).unwrap();
    assert_eq!(purse(&world), Purse { on_account: true, month_limit: Some(Micros(0)) }, "nothing at all may be spent");
    let none = PurseChange { no_month_limit: true, ..PurseChange::default() };
    world.call(change(none)).unwrap();
    assert_eq!(purse(&world), Purse::on_account());
}

/// The host's owner charges two hours at the least.
fn two_hours_at_least(world: &mut World, agent: &mut Agent) {
    agent.says.division.conditions.as_mut().unwrap().prices.shortest_charge_seconds = Seconds(7200);
    agent.says.division.revision += 1;
    world.sync(agent);
}

fn rent_for(world: &mut World, agent: &mut Agent, term: Seconds) -> Result<Arc<Lease>, Refusal> {
    let lease = world.fresh();
    let mut asked: Rent = asking(client(), &[lease], 1000);
    asked.requirements.term_seconds = Some(term);
    world.call(Command::Rent(Box::new(asked)))?;
    let row = Arc::clone(world.lease(lease));
    agent.sees(&row, Phase::Ready);
    world.sync(agent);
    Ok(Arc::clone(world.lease(lease)))
}

#[test]
fn the_shortest_charge_is_held_and_charged_whole() {
    let (mut world, mut agent) = funded(price(7200));
    two_hours_at_least(&mut world, &mut agent);
    let lease = rent_for(&mut world, &mut agent, Seconds(14_400)).unwrap();
    assert_eq!((lease.paid_seconds, has(&world, Book::Held(lease.id))), (Seconds(7200), price(7200)));
    over(&mut world, &mut agent, &lease, 60);
    assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.billed_seconds, Seconds(7200));
    assert_eq!((spendable(&world, CLIENT), spendable(&world, LENDER)), (0, price(7200)));
    deposit(&mut world, CLIENT, price(7200) - 1);
    assert_eq!(rent_for(&mut world, &mut agent, Seconds(14_400)).unwrap_err().kind, Kind::OutOfFunds);
    audited(&world);
}

#[test]
fn lengthened_a_lease_holds_what_it_is_charged_at_the_least_then() {
    let (mut world, mut agent) = funded(price(3600));
    two_hours_at_least(&mut world, &mut agent);
    let lease = rent_for(&mut world, &mut agent, Seconds(3600)).unwrap();
    let extend = Command::Extend { actor: client(), lease: lease.id, by: Seconds(7200) };
    assert_eq!(kind(world.call(extend.clone())), Kind::OutOfFunds);
    assert_eq!(world.lease(lease.id).term_seconds, Seconds(3600));
    deposit(&mut world, CLIENT, price(7200) - price(3600));
    world.call(extend).unwrap();
    let row = world.lease(lease.id);
    assert_eq!((row.term_seconds, row.paid_seconds), (Seconds(10_800), Seconds(7200)));
    assert_eq!(has(&world, Book::Held(lease.id)), price(7200));
    audited(&world);
}

#[test]
fn a_market_may_have_less_paid_ahead() {
    let (world, mut agent) = funded(price(75));
    let World { db, now, .. } = world;
    db.set_chunk(Seconds(60)).unwrap();
    let mut world = World::started(db, now);
    world.sync(&mut agent);
    let lease = world.running(&mut agent);
    assert_eq!((lease.paid_seconds, spendable(&world, CLIENT)), (Seconds(75), 0));
    deposit(&mut world, CLIENT, 900_000);
    go_on(&mut world, &mut agent, 20);
    assert_eq!(world.lease(lease.id).paid_seconds, Seconds(120), "a chunk ahead, in whole chunks");
    go_on(&mut world, &mut agent, 100);
    let paid = world.lease(lease.id).paid_seconds;
    assert_eq!((paid, has(&world, Book::Held(lease.id))), (Seconds(240), price(240)));
    audited(&world);
}

#[test]
fn money_in_drops_is_held_a_minute_at_a_time() {
    let (mut world, mut agent) = funded(price(1000));
    let lease = world.running(&mut agent);
    go_on(&mut world, &mut agent, 200);
    let before = world.engine.state().alerts().count();
    for _ in 0..59 {
        deposit(&mut world, CLIENT, 1000);
        go_on(&mut world, &mut agent, 5);
    }
    assert_eq!((world.lease(lease.id).paid_seconds, spendable(&world, CLIENT)), (Seconds(1000), 59_000));
    assert_eq!(world.engine.state().alerts().count(), before, "nothing new");
    deposit(&mut world, CLIENT, 1000);
    go_on(&mut world, &mut agent, 5);
    assert_eq!((world.lease(lease.id).paid_seconds, spendable(&world, CLIENT)), (Seconds(1060), 0));
    let state = world.engine.state();
    assert_eq!(state.alerts_of(id(CLIENT)).count(), before + 1);
    assert_eq!((state.alerts_about(lease.id).count(), state.alerts_of(id(LENDER)).count()), (before + 1, 0));
}

#[test]
fn a_lease_that_the_books_refuse_to_bill_is_not_billed_and_stands_in_nobodys_way() {
    let (mut world, mut agent) = funded(9_000_000);
    let (bad, good) = (world.running(&mut agent), world.running(&mut agent));
    // By somebody's hand a stranger has earned of it already.
    let cause = Cause::Charge { lease: bad.id, lender: id(STRANGER), receipt: 0 };
    let to = [(Book::Available(id(STRANGER)), Micros(1))];
    let transfer = world.engine.state().ledger().next(world.now, cause, Book::Held(bad.id), &to);
    let after = vec![Micros(price(1800) - 1), Micros(1)];
    world.db.commit(world.now, &[&Change::Transfer { transfer, after }]).unwrap();
    let World { db, now, .. } = world;
    let mut world = World::started(db, now);
    world.sync(&mut agent);
    world.pass(30);
    for lease in [&bad, &good] {
        world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
        agent.sees(lease, Phase::Gone { reason: None });
    }
    agent.says.receipts = vec![agent.receipt(&bad, 30, true), agent.receipt(&good, 30, true)];
    world.sync(&mut agent);
    for _ in 0..3 {
        world.pass(1);
        world.tick();
    }
    assert!(matches!(world.lease(bad.id).state, LeaseState::Ended { .. }));
    let state = world.engine.state();
    assert!(state.charge(bad.id).is_none(), "a bill without its postings is none");
    assert!(state.unsettled().any(|lease| lease.id == bad.id), "it is tried again");
    assert_eq!(state.charge(good.id).unwrap().charge.total, Micros(price(30)));
    assert_eq!(has(&world, Book::Held(bad.id)), price(1800) - 1, "what is held stays so");
    let flags = format!("select count(*) from audit where action = 'lease.bill.refused' and object = '{}'", bad.id);
    assert_eq!(world.db.count(&flags), 1, "the operator is told once");
}

/// The lender rents from itself, for forty seconds, and disputes that.
fn rents_from_itself(world: &mut World, agent: &mut Agent) -> LeaseId {
    let (member, roles) = (id(77), vec![Role::Client]);
    let (account, name) = (id(LENDER), "renter".to_string());
    world.call(Command::CreateMember { actor: operator(), id: member, account, name, roles: roles.clone() }).unwrap();
    let own = Actor { member, account, roles };
    let lease = world.rent_as(own.clone(), 1000).unwrap();
    agent.sees(&lease, Phase::Ready);
    world.sync(agent);
    world.pass(40);
    world.call(Command::Release { actor: own.clone(), lease: lease.id }).unwrap();
    gone(world, agent, &lease, 40);
    world.call(dispute(1, own, lease.id)).unwrap();
    lease.id
}

#[test]
fn whoever_rents_from_itself_gets_back_what_moves_and_nothing_else() {
    let (mut world, mut agent) = World::lending();
    pays(&mut world, LENDER, false);
    deposit(&mut world, LENDER, 5_000_000);
    world.call(Command::SetFee { actor: operator(), permille: 100 }).unwrap();
    rents_from_itself(&mut world, &mut agent);
    let fee = price(40) / 10;
    assert_eq!(kind(world.call(resolve(id(1), 500, CreditBearer::Lender))), Kind::Conflict, "from itself to itself");
    world.call(resolve(id(1), fee, CreditBearer::Operator)).unwrap();
    let row = world.engine.state().dispute(id(1)).unwrap().resolved.clone().unwrap();
    assert_eq!(row.credited, Micros(fee));
    assert_eq!((has(&world, Book::Fees), spendable(&world, LENDER)), (0, 5_000_000));
    audited(&world);
}

#[test]
fn what_was_told_long_ago_goes_but_for_what_still_counts() {
    let (mut world, mut agent) = funded(price(1000));
    let lease = world.running(&mut agent);
    go_on(&mut world, &mut agent, 200);
    let first = world.engine.state().alerts().next().unwrap().clone();
    let more = |account: u128, seqs: std::ops::Range<u64>| {
        let row = AlertRow { account: id(account), lease: None, ..first.clone() };
        seqs.map(move |seq| Change::Alert(AlertRow { seq, ..row.clone() })).collect::<Vec<_>>()
    };
    let rows = [more(CLIENT, 2..1005), more(LENDER, 1005..2005)].concat();
    world.db.commit(world.now, &rows.iter().collect::<Vec<_>>()).unwrap();
    let World { db, now, .. } = world;
    let mut world = World::started(db, now);
    // Of the client's 1004 four are too many; the first of them is about a lease that runs, paid so far.
    assert_eq!(world.engine.state().stale_alerts(1000), [2, 3, 4]);
    for _ in 0..3600 {
        world.pass(1);
        world.tick();
    }
    assert!(!world.lease(lease.id).state.is_wanted());
    let state = world.engine.state();
    assert_eq!((state.alerts_of(id(CLIENT)).count(), state.alerts_of(id(LENDER)).count()), (1000, 1000));
    assert_eq!(state.alerts().next().unwrap().seq, 5, "the oldest went");
    assert_eq!(world.db.count("select count(*) from alerts"), 2000);
    assert_eq!(world.db.load().unwrap().alerts.len(), 2000);
}

/// The host tells another story of the first receipt of a lease.
fn forks(world: &mut World, agent: &mut Agent, lease: &Lease, seconds: i64) {
    agent.chains.remove(&lease.id);
    agent.says.receipts = vec![agent.receipt(lease, seconds, false)];
    world.sync(agent);
    agent.says.receipts.clear();
}

fn open(world: &World) -> Vec<DisputeId> {
    world.engine.state().open_disputes().filter(|row| row.reason == FORK).map(|row| row.id).collect()
}

#[test]
fn each_fork_is_a_dispute_of_its_own_beside_the_clients() {
    let (mut world, mut agent) = funded(9_000_000);
    let (first, second) = (world.running(&mut agent), world.running(&mut agent));
    over(&mut world, &mut agent, &second, 40);
    assert_eq!(spendable(&world, LENDER), price(40));
    forks(&mut world, &mut agent, &first, 10);
    assert_eq!(open(&world), []);
    forks(&mut world, &mut agent, &first, 11);
    let known = open(&world);
    assert_eq!(known.len(), 1);
    // The client of that lease has a word of its own to say.
    world.call(dispute(7, client(), first.id)).unwrap();
    assert_eq!(kind(world.call(dispute(8, client(), first.id))), Kind::Conflict);
    world.call(resolve(known[0], 0, CreditBearer::Lender)).unwrap();
    forks(&mut world, &mut agent, &first, 11);
    assert_eq!(open(&world), [], "that one is explained");
    forks(&mut world, &mut agent, &first, 12);
    let again = open(&world);
    assert!(again.len() == 1 && again != known, "and this one is not: {again:?}");
    over(&mut world, &mut agent, &first, 1);
    audited(&world);
}

#[test]
fn what_a_fork_keeps_back_is_not_paid_out_with_another_dispute() {
    let (mut world, mut agent) = funded(9_000_000);
    let (first, second) = (world.running(&mut agent), world.running(&mut agent));
    over(&mut world, &mut agent, &second, 40);
    // Most of what was earned has gone.
    let (account, reference) = (id(LENDER), "out".to_string());
    let micros = Micros(price(40) - 10_000);
    world.call(Command::Refund { actor: operator(), account, micros, reference }).unwrap();
    world.call(dispute(1, client(), second.id)).unwrap();
    assert_eq!(has(&world, Book::Withheld(second.id)), 10_000);
    forks(&mut world, &mut agent, &first, 10);
    forks(&mut world, &mut agent, &first, 11);
    deposit(&mut world, LENDER, 20_000);
    world.call(resolve(id(1), 15_000, CreditBearer::Lender)).unwrap();
    assert_eq!((has(&world, Book::Withheld(second.id)), spendable(&world, LENDER)), (0, 15_000));
    assert_eq!(world.db.count("select count(*) from transfers where cause = 'pay_out'"), 0);
    audited(&world);
}
