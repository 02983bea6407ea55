//! What was signed before the market took another key comes back as its own; what its old key signs
//! afterwards does not.

use super::*;
use crate::engine::draft::Keys;
use crate::engine::sync::MOST_FLAGS;
use sublet_model::identity::Sha256Digest;
use sublet_model::market_keys::Turn;

fn ssh(n: u8) -> String {
    format!("ssh-ed25519 AAAA{n:064}")
}

/// The market's keys, after it took others at the world's time.
fn turned(world: &World) -> Keys {
    let (before, market) = (keys(), SecretKey::from_seed(&[19; 32]));
    let (at, ssh_until) = (world.now, world.now.after(Seconds(3660)));
    let turn = Turn { old: &before.market, new: &market, old_ssh_ca: ssh(1), new_ssh_ca: ssh(2), at, ssh_until };
    let chain = before.chain.clone().turned(turn).unwrap();
    Keys { market, chain, ..before }
}

#[test]
fn leases_of_both_keys_come_back_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, mut keeper) = lending();
    let mut later = restored(&world, dir.path(), 7200);
    let old = keeper.rent(&mut world);
    world.pass(5);
    let after = turned(&world);
    world.restart_with(after.clone());
    later.restart_with(after.clone());
    keeper.agent.session += 1;
    let last_session = keeper.agent.session - 1;
    world.call(Command::OpenSession { host: keeper.agent.host, last_session }).unwrap();
    let answer = world.sync(&mut keeper.agent);
    assert_eq!((answer.keys.as_deref(), answer.ssh_ca), (Some(after.chain.records()), vec![ssh(2), ssh(1)]));
    keeper.agent.says.keys = after.chain.head();
    let knows = |world: &World| world.engine.state().live(id(HOST)).unwrap().keys;
    assert_eq!(knows(&world), None, "it was told just now");
    let answer = world.sync(&mut keeper.agent);
    assert_eq!((answer.keys, answer.warnings, knows(&world)), (None, Vec::new(), after.chain.head()));
    let new = keeper.rent(&mut world);
    assert_eq!(old.agreed.signed.key, keys().market.public());
    assert_eq!(new.agreed.signed.key, after.market.public());
    world.pass(4000);
    assert_eq!(world.sync(&mut keeper.agent).ssh_ca, [ssh(2)], "the overlap is over");

    // Whoever stole the old key writes terms of now.
    let mut forged = keeper.kept[1].life();
    let terms = forged.run.terms.read().unwrap();
    forged.run.terms = Signed::sign(&terms, &keys().market).unwrap();
    keeper.comes_back(&mut later);
    keeper.agent.says.catching_up = true;
    keeper.agent.says.lives = vec![forged];
    later.sync(&mut keeper.agent);
    assert!(later.engine.state().lease(new.id).is_none());
    assert_eq!(later.db.count("select count(*) from audit where action = 'lease.recover.refused'"), 1);

    keeper.tells(&mut later);
    for lease in [&old, &new] {
        assert!(matches!(later.lease(lease.id).state, LeaseState::Active { .. }));
        assert_eq!(later.lease(lease.id).agreed, lease.agreed);
    }
}

#[test]
fn a_host_that_follows_keys_the_market_does_not_know_is_told_each_time_and_noted_once_up_to_a_limit() {
    let (mut world, mut agent) = World::lending();
    let noted =
        |world: &World| world.db.count("select count(*) from audit where action = 'market.keys.unknown'") as usize;
    for n in 0..MOST_FLAGS + 2 {
        for _ in 0..2 {
            agent.says.keys = Some(Sha256Digest::of(&n.to_be_bytes()));
            let warnings = world.sync(&mut agent).warnings;
            assert!(warnings.len() == 1 && warnings[0].contains("does not know"), "{warnings:?}");
        }
        assert_eq!(noted(&world), (n + 1).min(MOST_FLAGS));
    }
}
