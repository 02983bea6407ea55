//! Lives as one statement.

use crate::life::{Host, Tally, World, live};
use crate::random::Random;
use sublet_model::identity::{PublicKey, SecretKey};
use sublet_model::ledger::Ledger;
use sublet_model::market_keys::{KeyChain, KeyRecord, Turn};
use sublet_model::statement::{Head, HostKey, Life, Side, Writer};
use sublet_model::units::{Seconds, Timestamp};

/// A statement, and the key that signed it.
pub struct Batch {
    pub text: String,
    pub market: SecretKey,
    /// A key of the market that somebody knows, perhaps from long ago.
    pub known: PublicKey,
}

impl Batch {
    /// A statement over so many lives, fewer where funds did not suffice.
    pub fn of(random: &mut Random, count: usize, tally: &mut Tally) -> Self {
        let mut world = world(random);
        let mut lives: Vec<Life> = (0..count).filter_map(|_| live(random, &mut world, tally)).collect();
        lives.sort_by_key(|life| life.seen.lease);
        let mut writer = Writer::new(head(random, &world, &lives)).unwrap();
        let mut text = String::new();
        for life in lives {
            writer.lease(life).unwrap();
            text += &writer.take();
        }
        text += &writer.finish(&world.market).unwrap();
        let old = world.older.iter().map(|(key, ..)| key.public());
        let keys: Vec<PublicKey> = old.chain([world.market.public()]).collect();
        Self { text, known: random.one_of(&keys), market: world.market }
    }
}

fn key(random: &mut Random) -> SecretKey {
    let mut seed = [0; 32];
    seed.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.bits().to_le_bytes()));
    SecretKey::from_seed(&seed)
}

fn world(random: &mut Random) -> World {
    let host = |random: &mut Random, n: usize| Host { id: random.id(), name: format!("lab{n}"), key: key(random) };
    let mut hosts: Vec<Host> = (0..1 + random.below(4)).map(|n| host(random, n)).collect();
    hosts.sort_by_key(|host| host.id);
    let (market, client, lender) = (key(random), random.id(), random.id());
    let mut older = Vec::new();
    let mut at = Timestamp(1_700_000_000_000_000);
    for _ in 0..random.one_of(&[0, 0, 1, 2, 3]) {
        at = at.after(Seconds(random.between(1, 60_000_000)));
        older.push((key(random), at));
    }
    World { market, older, hosts, client, lender, ledger: Ledger::default() }
}

/// Each key takes the next one.
fn keys(random: &mut Random, world: &World) -> Vec<KeyRecord> {
    let all: Vec<&SecretKey> = world.older.iter().map(|(key, _)| key).chain([&world.market]).collect();
    let ssh = |n: usize| format!("ssh-ed25519 AAAA{n:064}");
    let turn = |chain: KeyChain, (n, (_, at)): (usize, &(SecretKey, Timestamp))| {
        let ssh_until = at.after(Seconds(random.between(0, 5_000_000)));
        let (old, new, old_ssh_ca, new_ssh_ca) = (all[n], all[n + 1], ssh(n), ssh(n + 1));
        chain.turned(Turn { old, new, old_ssh_ca, new_ssh_ca, at: *at, ssh_until }).unwrap()
    };
    world.older.iter().enumerate().fold(KeyChain::new(all[0].public()), turn).records().to_vec()
}

fn head(random: &mut Random, world: &World, lives: &[Life]) -> Head {
    let side = random.one_of(&[Side::Client, Side::Lender, Side::Operator]);
    let account = match side {
        Side::Client => world.client,
        Side::Lender => world.lender,
        Side::Operator => random.id(),
    };
    let settled = lives.iter().map(|life| life.seen.settled_at.0);
    let (from, until) = (settled.clone().min().unwrap_or(0), settled.max().unwrap_or(0) + 1);
    let host = |host: &Host| HostKey { host: host.id, name: host.name.clone(), key: host.key.public() };
    Head {
        account,
        name: random.one_of(&["physics", "ünï", "<b>"]).into(),
        side,
        currency: "EUR".into(),
        from: Timestamp(from),
        until: Timestamp(until),
        made_at: Timestamp(until),
        market: world.market.public(),
        keys: keys(random, world),
        hosts: world.hosts.iter().map(host).collect(),
    }
}
