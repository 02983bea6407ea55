//! Where disputes end: what may be said, how many, until when, and how much is kept back and given back.

use super::money::{audited, funded, gone};
use super::world::*;
use crate::engine::change::Change;
use crate::engine::command::{Command, Refusal};
use crate::engine::commit::Commit;
use crate::engine::rows::{DisputeRow, Lease};
use std::sync::Arc;
use sublet_model::ids::DisputeId;
use sublet_model::ledger::Book;
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Seconds, Timestamp};
use sublet_wire::problem::Kind;

/// What forty seconds of one core cost, with the set-up.
const BILL: i64 = 100 + 1000 * 40;
/// A tenth of it is the operator's.
const FEE: i64 = BILL / 10;
const EARNED: i64 = BILL - FEE;

fn funds() -> (World, Agent) {
    let (mut world, agent) = funded(90_000_000);
    world.call(Command::SetFee { actor: operator(), permille: 100 }).unwrap();
    (world, agent)
}

/// A lease of forty seconds that is over, and billed.
fn billed(world: &mut World, agent: &mut Agent) -> Arc<Lease> {
    let lease = world.running(agent);
    world.pass(50);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    gone(world, agent, &lease, 40);
    agent.says.observed.clear();
    lease
}

/// By other means than this lease.
fn lender_has_more(world: &mut World) -> i64 {
    let (account, micros, reference) = (id(LENDER), Micros(1_000_000), "other".to_string());
    world.call(Command::Deposit { actor: operator(), account, micros, reference }).unwrap();
    micros.0
}

fn open(world: &mut World, n: u128, lease: &Lease, reason: &str, words: &str) -> Result<(), Refusal> {
    let (id, reason, words) = (id(n), reason.to_string(), words.to_string());
    world.call(Command::OpenDispute { actor: client(), id, lease: lease.id, line: None, reason, words }).map(drop)
}

fn resolve(world: &mut World, n: u128, micros: i64, borne_by: CreditBearer, note: &str) -> Result<(), Refusal> {
    let (id, credit, note) = (id::<DisputeId>(n), Micros(micros), note.to_string());
    world.call(Command::ResolveDispute { actor: operator(), id, credit, borne_by, note }).map(drop)
}

fn kind(answer: Result<(), Refusal>) -> Option<Kind> {
    answer.err().map(|refusal| refusal.kind)
}

fn has(world: &World, book: Book) -> i64 {
    world.engine.state().balance(book).0
}

fn spendable(world: &World, account: u128) -> i64 {
    has(world, Book::Available(id(account)))
}

#[test]
fn a_reason_is_a_word_and_what_is_said_beside_it_is_text() {
    let (mut world, mut agent) = funds();
    let lease = billed(&mut world, &mut agent);
    let long = "a".repeat(64);
    for (n, reason) in ["slow", "no-answer_2", "7", &long[1..]].into_iter().enumerate() {
        open(&mut world, n as u128, &lease, reason, "").unwrap_or_else(|e| panic!("{reason:?}: {e:?}"));
        resolve(&mut world, n as u128, 0, CreditBearer::Lender, "").unwrap();
    }
    for reason in ["", &long, "Slow", "no answer", "tr\u{e4}ge", "slow\n", "fork"] {
        assert_eq!(kind(open(&mut world, 90, &lease, reason, "")), Some(Kind::Invalid), "{reason:?}");
    }
    // Counted as people count; more than one line is allowed.
    let most = "\u{e4}\n".repeat(500);
    for words in [format!("{most}x"), "a\tb".into(), "\u{7}".into()] {
        assert_eq!(kind(open(&mut world, 91, &lease, "slow", &words)), Some(Kind::Invalid), "{words:?}");
    }
    open(&mut world, 92, &lease, "slow", &most).unwrap();
    assert_eq!(kind(resolve(&mut world, 92, 0, CreditBearer::Lender, "a\tb")), Some(Kind::Invalid));
    resolve(&mut world, 92, 0, CreditBearer::Lender, &most).unwrap();
}

#[test]
fn a_bill_can_be_disputed_for_ninety_days() {
    for (late, refused) in [(0, None), (1, Some(Kind::Conflict))] {
        let (mut world, mut agent) = funds();
        let lease = billed(&mut world, &mut agent);
        world.pass(90 * 86_400);
        world.now = Timestamp(world.now.0 + late);
        assert_eq!(kind(open(&mut world, 1, &lease, "slow", "")), refused, "{late} us late");
    }
}

#[test]
fn an_account_has_a_hundred_open_disputes_at_most() {
    let (mut world, mut agent) = funds();
    let [first, second, third] = std::array::from_fn(|_| billed(&mut world, &mut agent));
    let theirs = world.rent_as(stranger(), 1000).unwrap();
    let row = |n: u128, lease: &Lease| DisputeRow {
        id: id(n),
        lease: lease.id,
        line: None,
        reason: "slow".into(),
        words: String::new(),
        opened_by: "somebody".into(),
        opened_at: START,
        resolved: None,
    };
    // Those of others are no matter.
    let rows: Vec<Change> =
        (0..99).map(|n| row(n, &first)).chain((100..120).map(|n| row(n, &theirs))).map(Change::Dispute).collect();
    world.db.commit(world.now, &rows.iter().collect::<Vec<_>>()).unwrap();
    let World { db, now, .. } = world;
    let mut world = World::started(db, now);
    open(&mut world, 200, &second, "slow", "").unwrap();
    assert_eq!(kind(open(&mut world, 201, &third, "slow", "")), Some(Kind::Conflict));
    resolve(&mut world, 200, 0, CreditBearer::Lender, "").unwrap();
    open(&mut world, 201, &third, "slow", "").unwrap();
    assert_eq!(kind(open(&mut world, 202, &second, "slow", "")), Some(Kind::Conflict));
}

#[test]
fn no_more_is_given_back_than_was_charged_and_than_its_bearer_has_of_it() {
    use CreditBearer::{Lender, Operator};
    // What each gave back before; then the most that each can give.
    for (before, lender, operator) in [
        (None, EARNED, FEE),
        (Some((Lender, 7_000)), EARNED - 7_000, FEE),
        (Some((Operator, 1_000)), EARNED, FEE - 1_000),
        (Some((Lender, EARNED)), 0, FEE),
    ] {
        for (bearer, most) in [(Lender, lender), (Operator, operator)] {
            let (mut world, mut agent) = funds();
            let lease = billed(&mut world, &mut agent);
            let other = lender_has_more(&mut world);
            let given = before.map_or(0, |(_, micros)| micros);
            if let Some((bearer, micros)) = before {
                open(&mut world, 1, &lease, "slow", "").unwrap();
                resolve(&mut world, 1, micros, bearer, "").unwrap();
            }
            let client_had = spendable(&world, CLIENT);
            open(&mut world, 2, &lease, "slow", "").unwrap();
            assert_eq!(has(&world, Book::Withheld(lease.id)), lender, "what the lender still has of it is kept back");
            for micros in [-1, most + 1] {
                let refused = resolve(&mut world, 2, micros, bearer, "").unwrap_err();
                assert_eq!(refused.kind, Kind::Conflict, "{micros} of {most} after {given}");
                let other = if bearer == Lender { "let the operator bear" } else { "let the lender bear" };
                assert!(refused.advice.is_some_and(|advice| advice.contains(other)));
            }
            resolve(&mut world, 2, most, bearer, "").unwrap();
            assert_eq!(spendable(&world, CLIENT), client_had + most);
            let rest = if bearer == Lender { lender - most } else { lender };
            assert_eq!((spendable(&world, LENDER) - other, has(&world, Book::Withheld(lease.id))), (rest, 0));
            audited(&world);
        }
    }
}

#[test]
fn more_than_was_charged_is_not_given_back_though_the_operator_has_more() {
    let (mut world, mut agent) = funds();
    world.call(Command::SetFee { actor: operator(), permille: 500 }).unwrap();
    let leases: [Arc<Lease>; 3] = std::array::from_fn(|_| billed(&mut world, &mut agent));
    assert_eq!(has(&world, Book::Fees), 3 * BILL / 2);
    open(&mut world, 1, &leases[0], "slow", "").unwrap();
    assert_eq!(kind(resolve(&mut world, 1, BILL + 1, CreditBearer::Operator, "")), Some(Kind::Conflict));
    resolve(&mut world, 1, BILL, CreditBearer::Operator, "").unwrap();
    assert_eq!((has(&world, Book::Fees), spendable(&world, CLIENT)), (BILL / 2, 90_000_000 - 2 * BILL));
    open(&mut world, 2, &leases[0], "slow", "").unwrap();
    let refused = resolve(&mut world, 2, 1, CreditBearer::Operator, "").unwrap_err();
    assert!(refused.kind == Kind::Conflict && refused.detail.contains("here: 0"), "{refused:?}");
    audited(&world);
}

#[test]
fn a_lender_that_spent_what_it_earned_has_kept_back_what_is_there() {
    for (left, kept) in [(0, 0), (10, 10), (EARNED + 10, EARNED)] {
        let (mut world, mut agent) = funds();
        let lease = billed(&mut world, &mut agent);
        let (account, micros) = (id(LENDER), left - EARNED);
        let command = match micros < 0 {
            true => Command::Refund { actor: operator(), account, micros: Micros(-micros), reference: "out".into() },
            false => Command::Deposit { actor: operator(), account, micros: Micros(micros), reference: "in".into() },
        };
        world.call(command).unwrap();
        open(&mut world, 1, &lease, "slow", "").unwrap();
        assert_eq!((has(&world, Book::Withheld(lease.id)), spendable(&world, LENDER)), (kept, left - kept));
        // What it earns meanwhile can be given back, and no more than that.
        let most = EARNED.min(left);
        assert_eq!(kind(resolve(&mut world, 1, most + 1, CreditBearer::Lender, "")), Some(Kind::Conflict));
        resolve(&mut world, 1, most, CreditBearer::Lender, "").unwrap();
        assert_eq!((has(&world, Book::Withheld(lease.id)), spendable(&world, LENDER)), (0, left - most));
        audited(&world);
    }
}

#[test]
fn what_was_never_charged_can_not_be_given_back_and_why_is_said() {
    for (older, why) in [(0, "nothing was charged"), (1, "from before the ledger")] {
        let (mut world, mut agent) = World::lending();
        let lease = world.running(&mut agent);
        let since = lease.terms().granted_at.0 + older;
        world
            .db
            .connection()
            .execute("update meta set value = ?1 where name = 'ledger_since'", [since.to_string()])
            .unwrap();
        let World { db, now, .. } = world;
        let mut world = World::started(db, now);
        open(&mut world, 1, &lease, "slow", "").unwrap();
        let refused = resolve(&mut world, 1, 1, CreditBearer::Operator, "").unwrap_err();
        assert!(refused.kind == Kind::Conflict && refused.detail.contains(why), "{refused:?}");
        resolve(&mut world, 1, 0, CreditBearer::Operator, "").unwrap();
        assert_eq!(world.engine.state().dispute(id(1)).unwrap().resolved.as_ref().unwrap().credited, Micros::ZERO);
        assert_eq!(world.lease(lease.id).paid_seconds, Seconds(1800));
    }
}

/// The host tells another story of the first receipt of a lease.
fn forks(world: &mut World, agent: &mut Agent, lease: &Lease, seconds: i64) {
    agent.chains.remove(&lease.id);
    agent.says.receipts = vec![agent.receipt(lease, seconds, false)];
    world.sync(agent);
    agent.says.receipts.clear();
}

#[test]
fn the_market_disputes_each_lease_that_forks_once_at_a_time_whatever_its_client_says() {
    let (mut world, mut agent) = funds();
    let [first, second] = std::array::from_fn(|_| world.running(&mut agent));
    open(&mut world, 1, &first, "slow", "").unwrap();
    for (lease, stories) in [(&first, 10..14), (&second, 10..12)] {
        stories.for_each(|seconds| forks(&mut world, &mut agent, lease, seconds));
    }
    let state = world.engine.state();
    assert!([&first, &second].iter().all(|lease| state.is_withheld(lease.id, agent.host)));
    let open: Vec<_> = world.engine.state().open_disputes().map(|row| (row.lease, row.reason.as_str())).collect();
    let expected = [(first.id, "slow"), (first.id, "fork"), (second.id, "fork")];
    assert!(open.len() == 3 && expected.iter().all(|row| open.contains(row)), "{open:?}");
}

#[test]
fn what_is_kept_back_already_is_not_kept_back_twice() {
    let (mut world, mut agent) = funds();
    let lease = world.running(&mut agent);
    forks(&mut world, &mut agent, &lease, 10);
    let true_chain = agent.chains[&lease.id];
    forks(&mut world, &mut agent, &lease, 11);
    agent.chains.insert(lease.id, true_chain);
    world.pass(50);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    gone(&mut world, &mut agent, &lease, 40);
    assert_eq!(has(&world, Book::Withheld(lease.id)), EARNED);
    let other = lender_has_more(&mut world);
    open(&mut world, 1, &lease, "slow", "").unwrap();
    assert_eq!((has(&world, Book::Withheld(lease.id)), spendable(&world, LENDER)), (EARNED, other));
    audited(&world);
}

#[test]
fn what_one_lease_is_disputed_for_keeps_nothing_back_of_another_unless_its_host_told_two_stories() {
    let (mut world, mut agent) = funds();
    let [first, second] = std::array::from_fn(|_| world.running(&mut agent));
    let other = world.add_host(HOST + 1);
    let withheld = |world: &World| {
        let state = world.engine.state();
        [(first.id, agent.host), (second.id, agent.host), (id(4711), other.host)].map(|(l, h)| state.is_withheld(l, h))
    };
    assert_eq!(withheld(&world), [false; 3]);
    open(&mut world, 1, &first, "slow", "").unwrap();
    assert_eq!(withheld(&world), [true, false, false], "that one's own");
    let mut liar = Agent { says: agent.says.clone(), ..Agent::new(HOST) };
    [10, 11].into_iter().for_each(|seconds| forks(&mut world, &mut liar, &first, seconds));
    assert_eq!(withheld(&world), [true, true, false], "whatever that host earns");
}
