//! Receipts that do not follow: never stored, said to the owner, in the audit log once.

use super::world::*;
use crate::engine::rows::Lease;
use std::sync::Arc;
use sublet_model::identity::{SecretKey, Sha256Digest, Signed, Statement};
use sublet_model::metering::Receipt;
use sublet_model::partition::Phase;
use sublet_model::units::Seconds;

/// A lease with one receipt of 60 seconds taken in.
fn receipted() -> (World, Agent, Arc<Lease>) {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    let first = agent.receipt(&lease, 60, false);
    agent.says.receipts = vec![first];
    assert_eq!(world.sync(&mut agent).acknowledged[0].seq, 1);
    let lease = Arc::clone(world.lease(lease.id));
    (world, agent, lease)
}

fn audited(world: &World, action: &str) -> i64 {
    world.db.count(&format!("select count(*) from audit where action = '{action}'"))
}

/// The receipt after the first, edited.
fn next(agent: &Agent, lease: &Lease, edit: impl FnOnce(&mut Receipt), key: &SecretKey) -> Signed<Receipt> {
    let mut receipt = Receipt {
        lease: lease.id,
        generation: lease.generation,
        seq: 2,
        seconds: Seconds(70),
        cpu_used_ms: 0,
        last: false,
        previous: Some(agent.chains[&lease.id].1),
    };
    edit(&mut receipt);
    Signed::sign(&receipt, key).unwrap()
}

#[test]
fn what_does_not_follow_is_never_stored() {
    let (mut world, mut agent, lease) = receipted();
    let key = agent.key.clone();
    let thief = SecretKey::from_seed(&[77; 32]);
    let mut flipped = next(&agent, &lease, |_| {}, &key);
    flipped.payload = flipped.payload.replace("70", "90");
    let mut odd = next(&agent, &lease, |_| {}, &key);
    odd.payload = odd.payload.replace("\"cpu_used_ms\":0,", "");
    odd.signature = key.sign_bytes(format!("{}\n{}", Receipt::KIND, odd.payload).as_bytes());
    assert!(odd.verify(&agent.key.public()).is_ok(), "we could read it, and another program something else");
    let bad = [
        ("written in another way", odd),
        ("gap", next(&agent, &lease, |r| r.seq = 3, &key)),
        ("far gap", next(&agent, &lease, |r| r.seq = u64::MAX, &key)),
        ("backwards", next(&agent, &lease, |r| r.seconds = Seconds(59), &key)),
        ("below zero", next(&agent, &lease, |r| r.seconds = Seconds(-1), &key)),
        ("beyond reason", next(&agent, &lease, |r| r.seconds = Seconds(i64::MAX), &key)),
        ("older generation", next(&agent, &lease, |r| r.generation = 0, &key)),
        ("another lease", next(&agent, &lease, |r| r.lease = id(5), &key)),
        ("another key", next(&agent, &lease, |_| {}, &thief)),
        ("altered", flipped),
    ];
    for (what, receipt) in bad {
        agent.says.receipts = vec![receipt];
        let answer = world.sync(&mut agent);
        assert!(!answer.warnings.is_empty(), "{what}");
        assert!(answer.acknowledged.iter().all(|a| a.seq == 1), "{what}");
        assert_eq!(world.lease(lease.id).chain.as_ref().unwrap().seq, 1, "{what}");
    }
    let before = audited(&world, "receipt.refused");
    assert!(before >= 6, "{before}");
    world.sync(&mut agent);
    assert_eq!(audited(&world, "receipt.refused"), before, "once for each");
    assert!(!world.engine.state().host(agent.host).unwrap().suspended);

    // The next one still follows.
    let good = agent.receipt(&lease, 61, false);
    agent.says.receipts = vec![good];
    assert_eq!(world.sync(&mut agent).acknowledged[0].seq, 2);
}

#[test]
fn a_host_receipts_its_own_leases_only() {
    let (mut world, agent, lease) = receipted();
    let mut other = world.add_host(101);
    let forged = next(&agent, &lease, |_| {}, &other.key.clone());
    other.says.receipts = vec![forged];
    let answer = world.sync(&mut other);
    assert!(answer.warnings.iter().any(|w| w.contains("not on this host")), "{:?}", answer.warnings);
    assert!(answer.acknowledged.is_empty());
    assert_eq!(world.lease(lease.id).chain.as_ref().unwrap().seq, 1);
}

#[test]
fn a_replayed_receipt_is_acknowledged_again_and_changes_nothing() {
    let (mut world, mut agent, lease) = receipted();
    let second = agent.receipt(&lease, 80, false);
    let first = agent.says.receipts[0].clone();
    agent.says.receipts = vec![first.clone(), second.clone(), first, second];
    let answer = world.sync(&mut agent);
    assert_eq!((answer.acknowledged.len(), answer.acknowledged[0].seq), (1, 2));
    assert!(answer.warnings.is_empty());
    assert_eq!(world.lease(lease.id).chain.as_ref().unwrap().seconds, Seconds(80));
}

#[test]
fn receipts_that_come_in_disorder_are_taken_up_to_the_gap() {
    let (mut world, mut agent, lease) = receipted();
    let (second, third) = (agent.receipt(&lease, 80, false), agent.receipt(&lease, 90, false));
    agent.says.receipts = vec![third.clone(), second];
    let answer = world.sync(&mut agent);
    assert_eq!(answer.acknowledged[0].seq, 2);
    agent.says.receipts = vec![third];
    assert_eq!(world.sync(&mut agent).acknowledged[0].seq, 3);
}

#[test]
fn a_forked_chain_suspends_its_host() {
    let (mut world, mut agent, lease) = receipted();
    let key = agent.key.clone();
    let fork = next(&agent, &lease, |r| r.previous = Some(Sha256Digest::of(b"elsewhere")), &key);
    agent.says.receipts = vec![fork];
    let answer = world.sync(&mut agent);
    assert!(answer.warnings.iter().any(|w| w.contains("forks")), "{:?}", answer.warnings);
    assert_eq!(audited(&world, "receipt.fork"), 1);
    assert!(world.engine.state().host(agent.host).unwrap().suspended);
    assert!(world.lease(lease.id).state.is_wanted(), "what runs goes on");
    assert!(world.rent(1000).is_err(), "nothing new");
}

#[test]
fn nothing_follows_the_last_receipt() {
    let (mut world, mut agent, lease) = receipted();
    let last = agent.receipt(&lease, 70, true);
    agent.sees(&lease, Phase::Gone { reason: None });
    agent.says.receipts = vec![last];
    world.sync(&mut agent);
    let total = world.engine.state().charge(lease.id).unwrap().charge.total;
    let after = agent.receipt(&lease, 9999, false);
    agent.says.receipts = vec![after];
    let answer = world.sync(&mut agent);
    assert!(answer.warnings.iter().any(|w| w.contains("after the last")), "{:?}", answer.warnings);
    assert_eq!(world.lease(lease.id).chain.as_ref().unwrap().seconds, Seconds(70));
    assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.total, total);
}

#[test]
fn a_host_is_paid_no_more_than_the_market_could_have_seen() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    world.pass(20);
    let last = agent.receipt(&lease, 3000, true);
    agent.says.receipts = vec![last];
    agent.sees(&lease, Phase::Gone { reason: None });
    world.sync(&mut agent);
    assert_eq!(world.engine.state().charge(lease.id).unwrap().charge.billed_seconds, Seconds(20));
}

#[test]
fn a_receipt_longer_than_any_of_ours_is_not_even_checked() {
    let (mut world, mut agent) = World::lending();
    let lease = world.running(&mut agent);
    for (bytes, why) in [(4096, "not to be believed"), (4097, "longer than any"), (5000, "longer than any")] {
        let mut receipt = agent.receipt(&lease, 1, false);
        receipt.payload.push_str(&" ".repeat(bytes - receipt.payload.len()));
        agent.says.receipts = vec![receipt];
        let warnings = world.sync(&mut agent).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(why), "{bytes}: {warnings:?}");
    }
}
