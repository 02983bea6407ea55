//! Money: what comes in, what is held, where a lease stops, what is posted, disputed and given back.

use super::world::*;
use crate::db::books::audit;
use crate::engine::command::{Actor, Command, Outcome, Refusal, Rent};
use crate::engine::rows::{AlertKind, Lease, Purse};
use std::sync::Arc;
use sublet_model::ids::DisputeId;
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::ledger::Book;
use sublet_model::partition::Phase;
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Seconds};
use sublet_wire::problem::Kind;

/// What one core costs for so many seconds, with the set-up: a thousandth a second.
const fn price(seconds: i64) -> i64 {
    100 + 1000 * seconds
}

fn deposit(world: &mut World, micros: i64, reference: &str) -> Result<Outcome, Refusal> {
    let (account, reference) = (id(CLIENT), reference.to_string());
    world.call(Command::Deposit { actor: operator(), account, micros: Micros(micros), reference })
}

/// A market in which the client pays from what it has: this much.
pub fn funded(micros: i64) -> (World, Agent) {
    let (mut world, agent) = World::lending();
    let purse = Purse::default();
    world.call(Command::SetPurse { actor: operator(), account: id(CLIENT), change: purse.into() }).unwrap();
    if micros > 0 {
        deposit(&mut world, micros, "first").unwrap();
    }
    (world, agent)
}

fn has(world: &World, book: Book) -> i64 {
    world.engine.state().balance(book).0
}

fn spendable(world: &World, account: u128) -> i64 {
    has(world, Book::Available(id(account)))
}

fn go_on(world: &mut World, agent: &mut Agent, lease: &Lease, seconds: i64) {
    for _ in 0..seconds / 5 {
        world.pass(5);
        if let Some(seen) = agent.says.observed.iter_mut().find(|seen| seen.lease == Some(lease.id)) {
            seen.seconds += Seconds(5);
        }
        world.sync(agent);
        world.tick();
    }
}

/// The host says gone, after so many seconds of use.
pub fn gone(world: &mut World, agent: &mut Agent, lease: &Lease, seconds: i64) {
    agent.says.receipts = vec![agent.receipt(lease, seconds, true)];
    agent.sees(lease, Phase::Gone { reason: None });
    world.sync(agent);
    agent.says.receipts.clear();
    assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.billed_seconds, Seconds(seconds));
}

pub fn audited(world: &World) {
    let audit = audit(world.db.connection()).unwrap();
    assert_eq!(audit.problems, [] as [&str; 0]);
    assert!(audit.holds);
}

fn kind<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> Kind {
    answer.unwrap_err().kind
}

#[test]
fn a_reference_moves_money_once_in_each_direction() {
    let (mut world, _) = funded(0);
    let first = deposit(&mut world, 500, "PO-1").unwrap();
    assert_eq!(deposit(&mut world, 500, "PO-1").unwrap(), first, "the same deposit");
    assert_eq!(kind(deposit(&mut world, 501, "PO-1")), Kind::Conflict);
    let refund = |world: &mut World, micros, reference: &str| {
        let (account, reference) = (id(CLIENT), reference.to_string());
        world.call(Command::Refund { actor: operator(), account, micros: Micros(micros), reference })
    };
    assert_eq!(kind(refund(&mut world, 501, "back")), Kind::OutOfFunds);
    let out = refund(&mut world, 200, "PO-1").unwrap();
    assert_ne!(out, first, "refunds have references of their own");
    assert_eq!(refund(&mut world, 200, "PO-1").unwrap(), out);
    assert_eq!((spendable(&world, CLIENT), has(&world, Book::Outside)), (300, -300));
    let (most, long) = (1_000_000_000_000_000, "\u{e4}".repeat(101));
    for (micros, reference) in [(0, "a"), (-5, "b"), (most + 1, "c"), (5, ""), (5, "a\nb"), (5, &long)] {
        assert_eq!(kind(deposit(&mut world, micros, reference)), Kind::Invalid, "{micros} {reference:?}");
    }
    let before = spendable(&world, CLIENT);
    deposit(&mut world, 1, &long[2..]).unwrap();
    deposit(&mut world, most, "the most").unwrap();
    assert_eq!(spendable(&world, CLIENT), before + most + 1);
    for (micros, reference) in [(most, "most of it"), (before + 1, "the rest")] {
        refund(&mut world, micros, reference).unwrap();
    }
    let client_deposits =
        Command::Deposit { actor: client(), account: id(CLIENT), micros: Micros(5), reference: "mine".into() };
    assert_eq!(kind(world.call(client_deposits)), Kind::Forbidden);
    audited(&world);
}

#[test]
fn what_is_held_pays_the_bill_and_the_rest_comes_back() {
    let (mut world, mut agent) = funded(10_000_000);
    world.call(Command::SetFee { actor: operator(), permille: 50 }).unwrap();
    let lease = world.running(&mut agent);
    assert_eq!(lease.terms().fee_permille, 50, "frozen at the grant");
    world.call(Command::SetFee { actor: operator(), permille: 500 }).unwrap();
    assert_eq!(lease.paid_seconds, Seconds(1800), "a whole chunk ahead from the first second on");
    assert_eq!(has(&world, Book::Held(lease.id)), price(1800));
    assert_eq!(spendable(&world, CLIENT), 10_000_000 - price(1800));
    world.pass(60);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    gone(&mut world, &mut agent, &lease, 37);
    // 5 % of 37,100, a half to the even one.
    assert_eq!([spendable(&world, CLIENT), spendable(&world, LENDER)], [10_000_000 - price(37), price(37) - 1855]);
    assert_eq!([has(&world, Book::Fees), has(&world, Book::Held(lease.id))], [1855, 0]);
    audited(&world);
}

#[test]
fn whoever_can_not_pay_the_first_chunk_gets_nothing() {
    let (mut world, _) = funded(price(900) - 1);
    assert_eq!(kind(world.rent(1000)), Kind::OutOfFunds);
    assert_eq!(world.engine.state().leases().count(), 0);
    let looking = Command::Preview(Box::new(asking(client(), &[id(700)], 1000)));
    assert!(world.reply(looking, None).is_ok(), "what it would cost is told all the same");
    deposit(&mut world, 1, "the last one").unwrap();
    let lease = world.rent(1000).unwrap();
    assert_eq!((lease.paid_seconds, spendable(&world, CLIENT)), (Seconds(900), 0));
    assert_eq!(kind(world.rent(1000)), Kind::OutOfFunds, "funds for one are funds for one");
    let allowance = Rent { outage_allowance: Seconds(60), ..asking(client(), &[id(701)], 1000) };
    deposit(&mut world, price(900), "more").unwrap();
    assert_eq!(kind(world.call(Command::Rent(Box::new(allowance.clone())))), Kind::OutOfFunds);
    deposit(&mut world, 60_000, "and more").unwrap();
    world.call(Command::Rent(Box::new(allowance))).unwrap();
    assert_eq!(world.lease(id(701)).paid_seconds, Seconds(960));
    audited(&world);
}

#[test]
fn a_failed_boot_costs_nothing_and_all_comes_back() {
    let (mut world, mut agent) = funded(2_000_000);
    let lease = world.rent(1000).unwrap();
    agent.sees(&lease, Phase::Gone { reason: Some(EndReason::BootFailed) });
    world.sync(&mut agent);
    assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.total, Micros(0));
    assert_eq!((spendable(&world, CLIENT), spendable(&world, LENDER)), (2_000_000, 0));
    audited(&world);
}

#[test]
fn a_chunk_and_the_allowance_are_always_ahead_and_the_host_is_told() {
    for allowance in [0, 60, 1000] {
        let (mut world, mut agent) = funded(10_000_000);
        let asked = Rent { outage_allowance: Seconds(allowance), ..asking(client(), &[id(700)], 1000) };
        world.call(Command::Rent(Box::new(asked))).unwrap();
        let lease = Arc::clone(world.lease(id(700)));
        agent.sees(&lease, Phase::Ready);
        world.sync(&mut agent);
        let mut held = Vec::new();
        for _ in 0..400 {
            go_on(&mut world, &mut agent, &lease, 5);
            let row = Arc::clone(world.lease(lease.id));
            let used = world.now.since(row.timeline.ready_at.unwrap());
            let ahead = row.paid_seconds - used >= Seconds(900 + allowance);
            assert!(ahead || row.paid_seconds == row.term_seconds, "{used} used, {} paid", row.paid_seconds);
            let told = world.sync(&mut agent).plan.into_iter().flatten().find_map(|wanted| wanted.run).unwrap();
            assert_eq!(told.paid_seconds, row.paid_seconds);
            held.push(row.paid_seconds.0);
        }
        held.dedup();
        assert!(held.iter().all(|paid| paid % 900 == 0) && held.len() <= 3, "a chunk at a time: {held:?}");
        assert_eq!(held.last(), Some(&3600), "never past the term");
        let looked_at = world.engine.state().funding_by(world.now.after(Seconds::MAX));
        assert!(looked_at.is_empty(), "what is paid to its end is not looked at again");
        assert!(world.engine.state().alerts().next().is_none(), "nobody is warned of nothing");
    }
}

#[test]
fn money_that_runs_out_is_told_once_and_the_lease_stops_at_the_hold() {
    let (mut world, mut agent) = funded(price(1000));
    let lease = world.running(&mut agent);
    assert_eq!(lease.paid_seconds, Seconds(1000));
    go_on(&mut world, &mut agent, &lease, 300);
    let told: Vec<_> = world.engine.state().alerts().cloned().collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].kind, told[0].lease, told[0].paid), (AlertKind::FundsLow, Some(lease.id), Seconds(1000)));
    // More money in time: it goes on, and the next warning is another one.
    deposit(&mut world, 400_000, "more").unwrap();
    go_on(&mut world, &mut agent, &lease, 10);
    assert_eq!((world.lease(lease.id).paid_seconds, spendable(&world, CLIENT)), (Seconds(1400), 0));
    assert_eq!(world.engine.state().alerts().count(), 2);
    // The host stops at its paid end by itself; this one does not, and the market says so.
    go_on(&mut world, &mut agent, &lease, 1125);
    assert_eq!(world.lease(lease.id).state, LeaseState::Stopping { reason: EndReason::OutOfFunds });
    assert_eq!(world.engine.state().alerts().next_back().unwrap().kind, AlertKind::OutOfFunds);
    agent.says.receipts = vec![agent.receipt(&lease, 1430, true)];
    agent.sees(&lease, Phase::Gone { reason: Some(EndReason::OutOfFunds) });
    world.sync(&mut agent);
    let charge = world.engine.state().charge(lease.id).unwrap().charge.clone();
    assert_eq!((charge.receipted_seconds, charge.billed_seconds), (Seconds(1430), Seconds(1400)), "not past the hold");
    assert_eq!((spendable(&world, CLIENT), spendable(&world, LENDER)), (0, price(1400)));
    audited(&world);
}

#[test]
fn what_is_earned_can_be_spent_and_who_pays_afterwards_owes_what_was_charged() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    world.pass(60);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    let owed = Book::Owed(id(CLIENT));
    assert_eq!(has(&world, owed), -price(1800));
    gone(&mut world, &mut agent, &lease, 40);
    assert_eq!((has(&world, owed), spendable(&world, CLIENT)), (-price(40), 0));
    assert_eq!(has(&world, Book::Outside), 0, "nothing came in yet");
    assert_eq!(spendable(&world, LENDER), price(40));
    audited(&world);
}

#[test]
fn a_month_has_a_limit_and_a_lease_a_most() {
    let (mut world, mut agent) = World::lending();
    let limit = |micros| Purse { on_account: true, month_limit: Some(Micros(micros)) };
    let set = |world: &mut World, micros| {
        world.call(Command::SetPurse { actor: operator(), account: id(CLIENT), change: limit(micros).into() }).unwrap();
    };
    set(&mut world, price(900) - 1);
    let refusal = world.rent(1000).unwrap_err();
    assert!(refusal.kind == Kind::OutOfFunds && refusal.detail.contains("limit"), "{refusal:?}");
    set(&mut world, price(1200));
    let lease = world.running(&mut agent);
    assert_eq!(lease.paid_seconds, Seconds(1200));
    world.pass(100);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    gone(&mut world, &mut agent, &lease, 100);
    assert_eq!(world.engine.state().spent(id(CLIENT), world.now), Micros(price(100)));
    let rest = price(1200) - price(100);
    assert_eq!(world.engine.state().purse(id(CLIENT), world.now), Micros(rest));
    world.pass(40 * 86_400);
    assert_eq!(world.engine.state().purse(id(CLIENT), world.now), Micros(price(1200)), "another month");
    world
        .call(Command::SetPurse { actor: operator(), account: id(CLIENT), change: Purse::on_account().into() })
        .unwrap();
    agent.says.wall_clock = world.now;
    world.sync(&mut agent);
    let mut most = asking(client(), &[id(800)], 1000);
    most.requirements.total_at_most = Some(Micros(price(4000)));
    world.call(Command::Rent(Box::new(most))).unwrap();
    let extend = |by| Command::Extend { actor: client(), lease: id(800), by: Seconds(by) };
    let refusal = world.call(extend(401)).unwrap_err();
    assert!(refusal.kind == Kind::Conflict && refusal.detail.contains("at most"), "{refusal:?}");
    world.call(extend(400)).unwrap();
}

#[test]
fn who_is_evicted_gets_what_the_offer_promised() {
    let (fee, earned) = (price(30) / 10, price(30) - price(30) / 10);
    for (promised, given) in [(5_000, 5_000), (i64::from(u32::MAX), earned), (0, 0)] {
        let (mut world, mut agent) = funded(2_000_000);
        world.call(Command::SetFee { actor: operator(), permille: 100 }).unwrap();
        agent.says.division.conditions.as_mut().unwrap().eviction_credit = Micros(promised);
        agent.says.division.revision += 1;
        world.sync(&mut agent);
        let lease = world.running(&mut agent);
        world.pass(30);
        let at = agent.says.division.partitions.iter().position(|p| p.id == lease.partition).unwrap();
        agent.says.division.partitions[at].taken_back = Some(lease.generation);
        agent.says.division.revision += 1;
        world.sync(&mut agent);
        gone(&mut world, &mut agent, &lease, 30);
        assert_eq!(spendable(&world, CLIENT), 2_000_000 - price(30) + given, "promised {promised}");
        assert_eq!((spendable(&world, LENDER), has(&world, Book::Fees)), (earned - given, fee));
        let aside = world.db.count("select count(*) from transfers where cause in ('withhold', 'pay_out')");
        assert_eq!(aside, 0, "nothing was disputed: it goes straight back");
        assert_eq!(world.engine.state().credits(lease.id).count(), usize::from(given > 0));
        audited(&world);
    }
}

fn dispute(n: u128, actor: Actor, lease: &Lease) -> Command {
    let (id, lease) = (id::<DisputeId>(n), lease.id);
    Command::OpenDispute { actor, id, lease, line: Some(3), reason: "unreachable".into(), words: "no answer".into() }
}

fn resolve(n: u128, micros: i64, borne_by: CreditBearer) -> Command {
    let (id, credit) = (id::<DisputeId>(n), Micros(micros));
    Command::ResolveDispute { actor: operator(), id, credit, borne_by, note: "the host was away".into() }
}

#[test]
fn a_dispute_keeps_the_lenders_part_back_until_it_is_resolved() {
    for settled_first in [false, true] {
        let (mut world, mut agent) = funded(2_000_000);
        world.call(Command::SetFee { actor: operator(), permille: 100 }).unwrap();
        let lease = world.running(&mut agent);
        world.pass(50);
        world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
        if settled_first {
            gone(&mut world, &mut agent, &lease, 40);
        }
        assert_eq!(kind(world.call(dispute(1, stranger(), &lease))), Kind::NotFound);
        world.call(dispute(1, client(), &lease)).unwrap();
        assert_eq!(kind(world.call(dispute(2, client(), &lease))), Kind::Conflict, "once at a time");
        if !settled_first {
            assert_eq!(kind(world.call(resolve(1, 5, CreditBearer::Lender))), Kind::Conflict, "nothing is charged yet");
            gone(&mut world, &mut agent, &lease, 40);
        }
        let (fee, earned) = (price(40) / 10, price(40) - price(40) / 10);
        assert_eq!((has(&world, Book::Withheld(lease.id)), spendable(&world, LENDER)), (earned, 0));
        assert_eq!(kind(world.call(resolve(1, earned + 1, CreditBearer::Lender))), Kind::Conflict);
        assert_eq!(kind(world.call(resolve(1, fee + 1, CreditBearer::Operator))), Kind::Conflict);
        world.call(resolve(1, 12_000, CreditBearer::Lender)).unwrap();
        assert_eq!(kind(world.call(resolve(1, 1, CreditBearer::Lender))), Kind::Conflict, "once");
        assert_eq!(spendable(&world, CLIENT), 2_000_000 - price(40) + 12_000);
        assert_eq!((has(&world, Book::Withheld(lease.id)), spendable(&world, LENDER)), (0, earned - 12_000));
        // Another one, borne by the operator.
        world.call(dispute(3, client(), &lease)).unwrap();
        world.call(resolve(3, fee, CreditBearer::Operator)).unwrap();
        assert_eq!((has(&world, Book::Fees), spendable(&world, CLIENT)), (0, 2_000_000 - price(40) + 12_000 + fee));
        assert_eq!(world.engine.state().credits(lease.id).count(), 2);
        audited(&world);
    }
}

#[test]
fn a_host_whose_receipts_fork_is_not_paid_until_that_is_explained() {
    let (mut world, mut agent) = funded(9_000_000);
    let (first, second) = (world.running(&mut agent), world.running(&mut agent));
    world.pass(60);
    agent.says.receipts = vec![agent.receipt(&first, 10, false)];
    world.sync(&mut agent);
    // Another story of the same place in the chain.
    agent.chains.remove(&first.id);
    agent.says.receipts = vec![agent.receipt(&first, 11, false)];
    world.sync(&mut agent);
    agent.says.receipts.clear();
    let open: Vec<_> = world.engine.state().open_disputes().cloned().collect();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!((open[0].lease, open[0].reason.as_str(), open[0].opened_by.as_str()), (first.id, "fork", "market"));
    world.call(Command::Release { actor: client(), lease: second.id }).unwrap();
    gone(&mut world, &mut agent, &second, 20);
    assert_eq!((has(&world, Book::Withheld(second.id)), spendable(&world, LENDER)), (price(20), 0), "nor for others");
    let refused = Command::OpenDispute {
        actor: client(),
        id: id(9),
        lease: second.id,
        line: None,
        reason: "fork".into(),
        words: String::new(),
    };
    assert_eq!(kind(world.call(refused)), Kind::Invalid, "that word is the market's");
    let resolve = Command::ResolveDispute {
        actor: operator(),
        id: open[0].id,
        credit: Micros(0),
        borne_by: CreditBearer::Lender,
        note: "a disk was rolled back".into(),
    };
    world.call(resolve).unwrap();
    assert_eq!((has(&world, Book::Withheld(second.id)), spendable(&world, LENDER)), (0, price(20)));
    audited(&world);
}

#[test]
fn a_lease_is_lengthened_up_to_what_it_may_cost_and_not_a_micro_further() {
    for (most, fits) in [(price(7200), true), (price(7200) - 1, false)] {
        let (mut world, mut agent) = funded(20_000_000);
        let mut asked = asking(client(), &[id(700)], 1000);
        asked.requirements.total_at_most = Some(Micros(most));
        world.call(Command::Rent(Box::new(asked))).unwrap();
        let lease = Arc::clone(world.lease(id(700)));
        assert_eq!(lease.term_seconds, Seconds(3600));
        agent.sees(&lease, Phase::Ready);
        world.sync(&mut agent);
        let longer = Command::Extend { actor: client(), lease: lease.id, by: Seconds(3600) };
        assert_eq!(world.call(longer).map_err(|refusal| refusal.kind).err(), (!fits).then_some(Kind::Conflict));
    }
}

#[test]
fn an_outage_is_paid_ahead_for_a_week_at_most() {
    const WEEK: i64 = 7 * 86_400;
    for (seconds, refused) in [(-1, true), (0, false), (WEEK, false), (WEEK + 1, true)] {
        let (mut world, _) = funded(2_000_000_000);
        let asked = Rent { outage_allowance: Seconds(seconds), ..asking(client(), &[id(700)], 1000) };
        let answer = world.call(Command::Rent(Box::new(asked))).map_err(|refusal| refusal.kind);
        assert_eq!(answer.err(), refused.then_some(Kind::Invalid), "{seconds}");
    }
}
