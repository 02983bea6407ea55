//! The market takes other keys: what runs goes on under the old ones, what is new is under the new ones,
//! and whoever knew the first key follows.

use crate::fake_host::{FakeHost, join_request};
use crate::world::{Person, World};
use std::time::Duration;
use sublet_market::db::{Reader, Sqlite};
use sublet_market::keys::{Keys, rotate};
use sublet_model::account::Role;
use sublet_model::identity::{PublicKey, SecretKey};
use sublet_model::lease::LeaseState;
use sublet_model::market_keys::{KeyChain, KeyRecord};
use sublet_model::statement::{Problem, Verdict, verify};
use sublet_wire::api::*;
use sublet_wire::sync::JoinAnswer;

/// Which SSH authority signed a certificate.
fn authority(certificate: &str) -> String {
    let read = ssh_key::Certificate::from_openssh(certificate).unwrap();
    ssh_key::PublicKey::from(read.signature_key().clone()).to_openssh().unwrap()
}

async fn certificate(person: &Person, lease: &str) -> Access {
    let body = AccessRequest { ssh_public_key: None };
    person.client.post(&format!("/v1/leases/{lease}/access"), &body).await.unwrap()
}

async fn used_and_given_back(person: &Person, host: &mut FakeHost, lease: &str) {
    let view: LeaseView = person.client.get(&format!("/v1/leases/{lease}")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    host.use_seconds(view.id, 1);
    let _: LeaseView = person.client.post(&format!("/v1/leases/{lease}/release"), &()).await.unwrap();
    host.settle().await;
}

/// What the terms of the lease in the host's plan were signed by.
fn signer(host: &FakeHost, lease: &LeaseView) -> PublicKey {
    let run = host.plan.iter().filter_map(|wanted| wanted.run.as_ref()).find(|run| run.lease == lease.id).unwrap();
    let key = run.terms.key;
    run.terms.verify(&key).unwrap();
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_runs_on_while_the_market_takes_other_keys() {
    let mut world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let mut host = world.host(&person, "desk", &[1, 1]).await;
    let first: WhoAmI = person.client.get("/v1/whoami").await.unwrap();
    let old = person.rent("old").await;
    host.settle().await;
    let old_ca = authority(&old.access.certificate);

    let change = world.restart_after(|dir| rotate(dir).unwrap()).await.change;
    let now: WhoAmI = person.client.get("/v1/whoami").await.unwrap();
    assert_eq!((change.old, change.new), (first.market_key, now.market_key));
    assert_eq!(change.old_ssh_ca, old_ca);

    // Before its host knows the new authority, a client is certified by the old one, which it accepts.
    let early = certificate(&person, "old").await;
    assert_eq!(authority(&early.certificate), old_ca);
    assert!(early.expires_at <= change.ssh_until);
    host.open().await.unwrap();
    let answer = host.sync().await.unwrap();
    let told = answer.keys.expect("a host that knows no change is told all of them");
    assert_eq!(answer.ssh_ca, [change.new_ssh_ca.clone(), old_ca.clone()]);
    let chain = KeyChain::read(first.market_key, &told).unwrap();
    assert_eq!(chain.newest(), now.market_key);
    assert_eq!(authority(&certificate(&person, "old").await.certificate), old_ca, "it was told, and has not said so");
    host.market_keys = chain.head();
    host.settle().await;
    assert_eq!(host.sync().await.unwrap().keys, None, "who knows them is not told them again");
    let renewed = certificate(&person, "old").await;
    assert_eq!(authority(&renewed.certificate), change.new_ssh_ca);

    // The lease goes on under the terms that the old key signed; the next one is under the new one.
    let running: LeaseView = person.client.get("/v1/leases/old").await.unwrap();
    assert!(matches!(running.state, LeaseState::Active { .. }), "{running:?}");
    assert_eq!(signer(&host, &running), first.market_key);
    let new = person.rent("new").await;
    host.settle().await;
    assert_eq!(signer(&host, &new.lease), now.market_key);
    assert_eq!(authority(&new.access.certificate), change.new_ssh_ca);

    // Both are in one statement, which holds under any key the market ever had.
    for lease in ["old", "new"] {
        used_and_given_back(&person, &mut host, lease).await;
    }
    let document = person.client.document("/v1/statements/export").await.unwrap();
    for known in [None, Some(first.market_key), Some(now.market_key)] {
        let verdict = verify(&document, known);
        assert!(matches!(&verdict, Verdict::Holds(holds) if holds.leases == 2), "{verdict:?}");
    }
    let stranger = SecretKey::from_seed(&[7; 32]).public();
    assert!(matches!(verify(&document, Some(stranger)), Verdict::Fails(fault) if fault.problem == Problem::Key));
    let text = String::from_utf8(document).unwrap();
    let record: &KeyRecord = &told[0];
    for part in [&record.signature, &record.proof, &record.key.to_string()] {
        let turned = format!("{}{}", if part.starts_with('A') { "B" } else { "A" }, &part[1..]);
        let Verdict::Fails(fault) = verify(text.replace(part, &turned).as_bytes(), None) else { panic!("{part}") };
        assert_eq!(fault.line, 2, "{fault:?}");
    }
    let log = Reader::open(&world.dir()).unwrap().audit(None, 200).unwrap();
    let lines: Vec<_> = log.iter().filter(|line| line.action == "market.keys.rotate").collect();
    assert_eq!(lines.len(), 1, "{log:?}");
    assert!(lines[0].detail.contains(&now.market_key.to_string()) && lines[0].object == now.market_key.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_joins_later_is_told_how_the_keys_came_to_be() {
    let mut world = World::new().await;
    let lender = world.person("owner", &[Role::Lender]).await;
    let first: WhoAmI = lender.client.get("/v1/whoami").await.unwrap();
    let asked = NewJoinToken { uses: None, expires_in: None };
    let made: TokenSecret = lender.client.post("/v1/join-tokens", &asked).await.unwrap();
    world.restart_after(|dir| rotate(dir).map(drop).and_then(|()| rotate(dir)).unwrap()).await;
    // A token from before is as good as it was.
    let secret = made.secret.split('@').next().unwrap().to_owned();
    let host = SecretKey::from_seed(&[3; 32]);
    let client = lender.client.with_token(secret);
    let answer: JoinAnswer = client.post("/v1/hosts", &join_request("late", &host)).await.unwrap();
    let chain = KeyChain::read(first.market_key, &answer.keys).unwrap();
    assert_eq!((chain.changes().len(), chain.newest()), (2, answer.market_key));
    assert_eq!(chain.changes()[1].new_ssh_ca, answer.ssh_ca);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_market_that_runs_on_keys_it_gave_up_is_told_by_its_hosts() {
    let mut world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    let mut host = world.host(&person, "desk", &[1]).await;
    let kept = tempfile::tempdir().unwrap();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    let head = world
        .restart_after(|dir| {
            copy(&dir.join("keys"), kept.path());
            rotate(dir).unwrap();
            let head = Keys::load(dir).unwrap().chain.head();
            // The operator puts an old copy of the folder back.
            std::fs::remove_dir_all(dir.join("keys")).unwrap();
            std::fs::create_dir(dir.join("keys")).unwrap();
            copy(kept.path(), &dir.join("keys"));
            head
        })
        .await;
    host.market_keys = head;
    host.open().await.unwrap();
    let answer = host.sync().await.unwrap();
    assert_eq!(answer.keys.as_deref(), Some(&[][..]), "it says what it has, and the host refuses it");
    assert!(answer.warnings.iter().any(|w| w.contains("keys that it gave up")), "{:?}", answer.warnings);
    host.sync().await.unwrap();
    let log = Reader::open(&world.dir()).unwrap().audit(None, 200).unwrap();
    assert_eq!(log.iter().filter(|line| line.action == "market.keys.unknown").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_not_changed_while_the_market_runs() {
    let world = World::new().await;
    let before = Keys::load(&world.dir()).unwrap().signing.public();
    let refused = rotate(&world.dir()).unwrap_err().to_string();
    assert!(refused.contains("process"), "{refused}");
    assert_eq!(Keys::load(&world.dir()).unwrap().signing.public(), before);
    assert!(Sqlite::open(&world.dir()).is_err());
}
