//! The market takes other keys while its hosts work.

use super::world::World;
use crate::agent::door::AgentDoor;
use crate::clock::wall_clock;
use crate::fixtures::{identity, market, partition};
use crate::ssh::Door;
use std::time::Duration;
use sublet_model::billing::Terms;
use sublet_model::identity::{SecretKey, Signed};
use sublet_model::market_keys::{KeyChain, Turn};
use sublet_model::partition::Phase;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::sync::Run;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn ssh(n: u8) -> String {
    format!("ssh-ed25519 AAAA{n:064}")
}

/// With another change, to key `n`.
fn turned(chain: &KeyChain, old: &SecretKey, n: u8, at: Timestamp) -> KeyChain {
    let old_ssh_ca = chain.changes().last().map_or(ssh(0), |last| last.new_ssh_ca.clone());
    let (new, ssh_until) = (key(n), at.after(Seconds(3660)));
    chain.clone().turned(Turn { old, new: &new, old_ssh_ca, new_ssh_ca: ssh(n), at, ssh_until }).unwrap()
}

/// The same terms, but of that moment, and signed by that key.
fn signed_at(run: &mut Run, at: Timestamp, by: &SecretKey) {
    let terms = Terms { granted_at: at, ..run.terms.read().unwrap() };
    run.terms = Signed::sign(&terms, by).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_follows_the_market_to_its_next_keys() {
    let mut world = World::started().await;
    let old = world.market.grant(1, 1, |_| {});
    world.market.until_ready(1, 1).await;
    let at = wall_clock();
    let chain = turned(&KeyChain::new(market().public()), &market(), 31, at);
    world.market.take_keys(chain.records());
    let follows = |head| move |last: &super::world::Book| (last.last.as_ref()?.keys == head).then_some(());
    world.market.until("the change is followed", follows(chain.head())).await;
    assert_eq!(world.store.market_keys(identity("").market_key).unwrap(), chain, "it lasts");

    // What runs goes on; clients of both authorities are let in while they overlap.
    let (door, _record) = AgentDoor::new(world.shared());
    assert_eq!(door.lease(&old.to_string()).await.unwrap().authorities, [ssh(31), ssh(0)]);
    // The old key signs nothing any more, and the new one nothing of before.
    let just_before = Timestamp(at.0 - 1);
    for (n, when, by) in [(2, at, market()), (3, just_before, key(31))] {
        world.market.grant(n, 1, |run| signed_at(run, when, &by));
        let words = world.market.until("it is refused", |book| {
            let observed = book.last.as_ref()?.observed.iter().find(|o| o.partition == partition(n))?;
            observed.detail.clone()
        });
        assert!(words.await.contains("another key"));
        world.market.release(n);
    }
    world.market.until_gone(2, 1).await;
    world.market.grant(2, 2, |run| signed_at(run, at, &key(31)));
    world.market.until_ready(2, 2).await;

    // An agent that was killed still knows it, and follows on from there.
    drop((door, _record));
    world.kill_agent().await;
    let next = turned(&chain, &key(31), 32, Timestamp(at.0 + 1));
    world.market.take_keys(next.records());
    world.start().await;
    world.market.until("the next change is followed", follows(next.head())).await;
    let (door, _record) = AgentDoor::new(world.shared());
    assert_eq!(door.lease(&old.to_string()).await.unwrap().authorities, [ssh(32), ssh(31), ssh(0)]);
    world.market.until_ready(1, 1).await;
    assert_eq!(world.started_machines(), [(partition(1), 1), (partition(2), 2)], "nothing was started again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leads_elsewhere_is_not_followed_and_what_runs_goes_on() {
    let world = World::started().await;
    world.market.grant(1, 1, |_| {});
    world.market.until_ready(1, 1).await;
    let at = wall_clock();
    let first = KeyChain::new(market().public());
    let chain = turned(&first, &market(), 31, at);
    world.market.take_keys(chain.records());
    world.market.until("it is followed", |book| (book.last.as_ref()?.keys == chain.head()).then_some(())).await;
    // A thief of the first key; an old backup; somebody else's market. Each says that nothing is to run here.
    let fork = turned(&first, &market(), 33, at);
    let longer = turned(&fork, &key(33), 34, Timestamp(at.0 + 1));
    let other = turned(&KeyChain::new(key(40).public()), &key(40), 41, at);
    let mut broken = turned(&chain, &key(31), 32, Timestamp(at.0 + 1)).records().to_vec();
    broken[1].proof = broken[0].proof.clone();
    for keys in [fork.records(), longer.records(), &[], other.records(), &broken] {
        let before = world.market.book().syncs;
        world.market.take_keys(keys);
        world.market.release(1);
        world.market.until("it asks again", |book| (book.syncs >= before + 3).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let last = world.market.book().last.clone().unwrap();
        let seen = last.observed.iter().find(|o| o.partition == partition(1)).unwrap();
        assert_eq!((seen.phase, last.keys), (Phase::Ready, chain.head()), "{keys:?}");
    }
    assert_eq!(world.store.market_keys(market().public()).unwrap(), chain);
    // The right market speaks again, and is heard.
    world.market.take_keys(chain.records());
    world.market.until_gone(1, 1).await;
}
