//! What is told, to whom, in which words, and what whoever comes back has missed.

use super::super::rows::{AlertKind, AlertRow, ChargeRow, CreditRow, DisputeRow, Resolved};
use super::super::tests::world::*;
use super::*;
use std::time::Duration;
use sublet_model::ids::DisputeId;
use sublet_model::lease::EndReason;
use sublet_model::partition::Phase;
use sublet_model::statement::CreditBearer;
use sublet_model::units::Micros;

fn one() -> Happening {
    let (client, lender) = (AccountId::from(uuid::Uuid::nil()), None);
    let (lease, name, words) = (None, None, String::new());
    Happening { number: 0, at: Timestamp(0), what: "ready", words, lease, name, client, lender }
}

fn numbers(news: &News, after: u64) -> Option<Vec<u64>> {
    news.after(after, usize::MAX).map(|found| found.iter().map(|one| one.number).collect())
}

#[test]
fn whoever_comes_back_misses_nothing_or_is_told_that_he_may_have() {
    let news = News::new(Timestamp(0));
    assert_eq!((numbers(&news, 0), numbers(&news, 1)), (Some(vec![]), None));
    news.tell(vec![one(), one()]);
    news.tell(vec![one()]);
    assert_eq!(numbers(&news, 0), Some(vec![1, 2, 3]));
    assert_eq!(numbers(&news, 2), Some(vec![3]));
    assert_eq!(numbers(&news, 3), Some(vec![]));
    assert_eq!(numbers(&news, 4), None, "there is none of that number yet");
    news.tell(vec![one(); KEPT]);
    assert_eq!(numbers(&news, 2), None, "the third is not kept any more");
    assert_eq!(numbers(&news, 3).map(|all| (all.len(), all[0])), Some((KEPT, 4)));
    assert_eq!(news.after(3, 2).map(|found| found.len()), Some(2));
}

#[test]
fn a_life_is_told_once_and_in_order() {
    let (mut world, mut agent) = World::lending();
    let mut told = Vec::new();
    let mut seen = world.engine.state().clone();
    let news = News::new(world.now);
    let mut look = |world: &mut World, changes: Vec<Change>| {
        told.extend(news.warn(world.engine.state(), world.now).into_iter().map(|one| one.what));
        for change in &changes {
            told.extend(of(&seen, change, world.now).map(|one| one.what));
            drop(seen.apply(change));
        }
    };
    let lease = world.rent(1000).unwrap();
    look(&mut world, vec![Change::Lease(lease.clone())]);
    let moved = |world: &World| {
        let row = world.lease(lease.id);
        let (state, timeline, detail) = (row.state, row.timeline.clone(), row.detail.clone());
        vec![Change::LeaseMoved { lease: lease.id, state, timeline, detail }]
    };
    agent.sees(&lease, Phase::Booting);
    world.sync(&mut agent);
    let changes = moved(&world);
    look(&mut world, changes);
    agent.sees(&lease, Phase::Ready);
    world.sync(&mut agent);
    let changes = moved(&world);
    look(&mut world, changes.clone());
    look(&mut world, changes);
    let ends_at = world.lease(lease.id).ends_at().unwrap();
    while world.now < ends_at {
        world.pass(10);
        world.sync(&mut agent);
        world.tick();
        look(&mut world, Vec::new());
    }
    agent.sees(&lease, Phase::Gone { reason: None });
    world.sync(&mut agent);
    let changes = moved(&world);
    look(&mut world, changes);
    assert_eq!(told, ["granted", "ready", "ends_soon", "ended"]);
}

#[tokio::test]
async fn whoever_waits_is_woken_by_what_comes_after_what_it_knows() {
    let news = News::new(START);
    assert_eq!(news.began(), START);
    let waits = async |number| tokio::time::timeout(Duration::from_millis(20), news.wait(number)).await.is_err();
    assert!(waits(0).await, "there is none yet");
    news.tell(vec![one(), one()]);
    assert_eq!([waits(0).await, waits(1).await, waits(2).await, waits(3).await], [false, false, true, true]);
}

/// What is told of a change to one lease: the word, all words, and whether its lender hears it too.
fn told(state: &State, change: &Change) -> Option<(&'static str, String, bool)> {
    let told = of(state, change, START)?;
    assert_eq!((told.client, told.at), (id(CLIENT), START));
    assert_eq!(told.name.as_deref(), told.lease.and_then(|lease| state.lease(lease)).map(|lease| lease.name.as_str()));
    Some((told.what, told.words, told.lender == Some(id(LENDER))))
}

#[test]
fn each_thing_that_happens_has_its_words() {
    let (mut world, mut agent) = World::lending();
    let row = world.running(&mut agent);
    let (lease, at, micros) = (row.id, START, Micros(1_500_000));
    let says = |change: &Change| told(world.engine.state(), change);
    let says_words = |change: &Change| says(change).map(|(what, words, _)| (what, words));
    let extended = |term| Change::LeaseExtended { lease, term_seconds: Seconds(term), paid_seconds: Seconds(1) };
    assert_eq!(says_words(&extended(row.term_seconds.0)), None, "only more of it was paid for");
    assert_eq!(says_words(&extended(7200)), Some(("extended", "it may run for 2h now".into())));

    let note = "the\tguest was slow".to_owned();
    let credit = CreditRow { lease, number: 1, at, micros, borne_by: CreditBearer::Lender, note: note.clone() };
    assert_eq!(says(&Change::Credit(credit)), Some(("credited", format!("{micros} given back: {note}"), true)));
    let dispute = DisputeRow {
        id: id::<DisputeId>(7),
        lease,
        line: None,
        reason: "unreachable".into(),
        words: "by night".into(),
        opened_by: "somebody".into(),
        opened_at: at,
        resolved: None,
    };
    assert_eq!(says(&Change::Dispute(dispute.clone())), Some(("disputed", "unreachable".into(), true)));
    let resolved = Resolved { by: "operator".into(), at, credited: micros, note: note.clone() };
    let resolve = Change::DisputeResolved { dispute: dispute.id, resolved };
    assert_eq!(says(&resolve), None, "there is no such dispute");
    let mut disputed = world.engine.state().clone();
    drop(disputed.apply(&Change::Dispute(dispute)));
    assert_eq!(told(&disputed, &resolve), Some(("resolved", format!("{micros} given back: {note}"), true)));

    let alert = |lease| AlertRow {
        seq: 1,
        at,
        account: id(CLIENT),
        lease,
        kind: AlertKind::FundsLow,
        paid: Seconds(1),
        words: "x".repeat(MOST_WORDS + 1),
    };
    let words = "x".repeat(MOST_WORDS);
    for about in [Some(lease), None] {
        assert_eq!(says(&Change::Alert(alert(about))), Some(("funds_low", words.clone(), false)), "not the lender's");
    }
}

#[test]
fn a_bill_is_told_with_its_sum_and_its_time() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let before = world.engine.state().clone();
    world.pass(50);
    world.call(super::super::command::Command::Release { actor: client(), lease: lease.id }).unwrap();
    super::super::tests::money::gone(&mut world, &mut agent, &lease, 40);
    let charge: ChargeRow = world.engine.state().charge(lease.id).unwrap().clone();
    let words = format!("{} for 40s", charge.charge.total);
    assert_eq!(told(&before, &Change::Charge(charge)), Some(("billed", words, true)));
}

#[test]
fn a_silence_and_its_end_are_news_and_what_a_host_says_stands_beside() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let LeaseState::Active { ready_at, .. } = lease.state else { panic!("{:?}", lease.state) };
    let state = |since: Option<Timestamp>| LeaseState::Active { ready_at, silent_since: since };
    let silent = state(Some(START));
    assert_eq!(moved(state(None), silent), Some(("silent", "its host is not heard of".into())));
    assert_eq!(moved(silent, state(None)), Some(("heard", "its host is heard of again".into())));
    assert_eq!((moved(silent, silent), moved(state(None), state(None))), (None, None));
    let stopped = LeaseState::Stopping { reason: EndReason::Released };
    let (timeline, detail) = (lease.timeline.clone(), Some("no room".to_owned()));
    let change = Change::LeaseMoved { lease: lease.id, state: stopped, timeline, detail };
    let words = format!("{}: {} (the host says: no room)", EndReason::Released, EndReason::Released.explanation());
    assert_eq!(told(world.engine.state(), &change), Some(("stopped", words, true)));
}
