//! Bad syncs: replayed, forged, foreign, oversized, contradictory. Each is answered in words, and
//! the market goes on as before.

use crate::fake_host::FakeHost;
use crate::table::Table;
use crate::world::{Answer, Person, World, http};
use data_encoding::BASE64;
use serde_json::{Value, json};
use sublet_model::account::Role;
use sublet_model::identity::{SecretKey, Signed};
use sublet_model::ids::HostId;
use sublet_model::lease::LeaseState;
use sublet_model::metering::Receipt;
use sublet_model::units::Seconds;
use sublet_wire::api::{LeaseView, Statement};
use sublet_wire::client::{Client, HostSession};
use sublet_wire::mac;
use sublet_wire::problem::Kind;
use sublet_wire::sync::{self, Challenge, SessionAnswer, SyncAnswer, header};

/// Makes a good sync a bad one.
type Spoil<'a> = Box<dyn Fn(&mut Value) + 'a>;

/// A session whose every part is sent by hand.
struct Raw<'a> {
    world: &'a World,
    host: HostId,
    session: u64,
    key: [u8; mac::KEY_BYTES],
    seq: u64,
}

impl<'a> Raw<'a> {
    async fn open(world: &'a World, host: &mut FakeHost) -> Self {
        let answer = open(world, host.id, &host.key, host.known_session).await;
        let answer: SessionAnswer = serde_json::from_str(&answer.body).unwrap();
        host.known_session = answer.session;
        let key = BASE64.decode(answer.mac_key.as_bytes()).unwrap().try_into().unwrap();
        Self { world, host: host.id, session: answer.session, key, seq: 0 }
    }

    async fn send(&self, host: HostId, session: u64, seq: u64, mac: &str, body: Vec<u8>) -> Answer {
        let request = http()
            .post(format!("{}/v1/hosts/{host}/sync", self.world.base))
            .header(header::SESSION, session)
            .header(header::SEQ, seq)
            .header(header::MAC, mac)
            .header("content-type", "application/json")
            .body(body);
        Answer::of(request.send().await.unwrap()).await
    }

    /// A sync whose proof holds, whatever is in it.
    async fn proven(&mut self, body: Vec<u8>) -> Answer {
        self.seq += 1;
        let mac = mac::seal(&self.key, self.session, self.seq, &body);
        self.send(self.host, self.session, self.seq, &mac, body).await
    }
}

async fn challenge(world: &World, host: HostId) -> String {
    let client = Client::new(&world.base, None, None).unwrap();
    client.post::<_, Challenge>(&format!("/v1/hosts/{host}/challenge"), &()).await.unwrap().nonce
}

async fn open(world: &World, host: HostId, key: &SecretKey, last: u64) -> Answer {
    let nonce = challenge(world, host).await;
    let signature = key.sign_bytes(&sync::session_proof(host, &nonce));
    open_with(world, host, json!({"nonce": nonce, "signature": signature, "last_session": last, "protocol": 1})).await
}

async fn open_with(world: &World, host: HostId, body: Value) -> Answer {
    let request = http().post(format!("{}/v1/hosts/{host}/sessions", world.base)).json(&body);
    Answer::of(request.send().await.unwrap()).await
}

struct Scene {
    world: World,
    owner: Person,
    host: FakeHost,
    table: Table,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_answered_in_words() {
    let world = World::new().await;
    let owner = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let host = world.host(&owner, "desk", &[2, 2]).await;
    let mut scene = Scene { world, owner, host, table: Table::new("sync") };
    sessions(&mut scene).await;
    proofs(&mut scene).await;
    contents(&mut scene).await;
    receipts(&mut scene).await;
    agents(&mut scene).await;
    scene.table.write();
}

async fn sessions(scene: &mut Scene) {
    let Scene { world, host, table, .. } = scene;
    let (id, last) = (host.id, host.known_session);
    let thief = SecretKey::from_seed(&[9; 32]);
    table.refused("a session signed by another key", &open(world, id, &thief, last).await, Kind::SessionRefused);
    let nobody: HostId = sublet_wire::new_id();
    table.refused("a session of a host that nobody knows", &open(world, nobody, &thief, 0).await, Kind::NotFound);

    let nonce = challenge(world, id).await;
    let signed = |nonce: &str| host.key.sign_bytes(&sync::session_proof(id, nonce));
    let body = |nonce: &str, signature: String, last: u64, protocol: u32| json!({"nonce": nonce, "signature": signature, "last_session": last, "protocol": protocol});
    let made_up = "0.00.00";
    let answer = open_with(world, id, body(made_up, signed(made_up), last, 1)).await;
    table.refused("a nonce that the market never gave", &answer, Kind::SessionRefused);
    let foreign = challenge(world, sublet_wire::new_id()).await;
    let answer = open_with(world, id, body(&foreign, signed(&foreign), last, 1)).await;
    table.refused("a nonce given to another host", &answer, Kind::SessionRefused);
    let answer = open_with(world, id, body(&nonce, signed(&nonce), last, 99)).await;
    table.refused("a version of the protocol that is not spoken", &answer, Kind::Invalid);
    let answer = open_with(world, id, body(&nonce, "AAAA".into(), last, 1)).await;
    table.refused("a signature cut short", &answer, Kind::SessionRefused);

    let good = body(&nonce, signed(&nonce), last, 1);
    let answer = open_with(world, id, good.clone()).await;
    assert!(answer.status.is_success(), "{}", answer.body);
    host.known_session = answer.json()["session"].as_u64().unwrap();
    table.refused("the same signed nonce a second time", &open_with(world, id, good).await, Kind::SessionRefused);
}

async fn proofs(scene: &mut Scene) {
    let Scene { world, host, table, .. } = scene;
    let mut raw = Raw::open(world, host).await;
    // A plan that is unknown is told at once: nothing is held here.
    host.plan_version = 0;
    let all = serde_json::to_vec(&host.request()).unwrap();
    let body = || all.clone();
    let (id, session, key) = (raw.host, raw.session, raw.key);
    assert!(raw.proven(body()).await.status.is_success());
    let (mac, seq) = (mac::seal(&key, session, 1, &body()), 1);
    table.refused("a replayed sync", &raw.send(id, session, seq, &mac, body()).await, Kind::SessionRefused);
    let answer = raw.send(id, session, 7, &mac::seal(&[0; 32], session, 7, &body()), body()).await;
    table.refused("a MAC made with another key", &answer, Kind::SessionRefused);
    let answer = raw.send(id, session, 7, &mac::seal(&key, session, 7, b"{}"), body()).await;
    table.refused("a MAC over another body", &answer, Kind::SessionRefused);
    let answer = raw.send(id, session, 8, &mac::seal(&key, session, 7, &body()), body()).await;
    table.refused("a MAC over another number", &answer, Kind::SessionRefused);
    let answer = raw.send(id, session, 7, "zz", body()).await;
    table.refused("a MAC that is none", &answer, Kind::SessionRefused);
    let answer = raw.send(id, session + 1, 1, &mac::seal(&key, session + 1, 1, &body()), body()).await;
    table.refused("a session that is not open yet", &answer, Kind::SessionRefused);
    let answer = raw.send(id, session - 1, 1, &mac::seal(&key, session - 1, 1, &body()), body()).await;
    table.refused("an old session", &answer, Kind::SessionRefused);
    let other: HostId = sublet_wire::new_id();
    let answer = raw.send(other, session, 7, &mac::seal(&key, session, 7, &body()), body()).await;
    table.refused("another host's path", &answer, Kind::SessionRefused);
    let request = http().post(format!("{}/v1/hosts/{id}/sync", world.base)).json(&host.request());
    table.refused("no proof at all", &Answer::of(request.send().await.unwrap()).await, Kind::SessionRefused);

    raw.seq = 9;
    let answer = raw.proven(body()).await;
    assert!(answer.status.is_success(), "{}", answer.body);
    table.note("a gap in the numbers (a sync was given up)", "200: taken in".into());
    let answer = raw.send(id, session, 9, &mac::seal(&key, session, 9, &body()), body()).await;
    table.refused("numbers out of order", &answer, Kind::SessionRefused);
}

async fn contents(scene: &mut Scene) {
    let Scene { world, host, table, .. } = scene;
    let mut raw = Raw::open(world, host).await;
    table.refused("20 MB, with a good MAC", &raw.proven(vec![b' '; 20 << 20]).await, Kind::TooLarge);
    table.refused("nested 100,000 deep", &raw.proven("[".repeat(100_000).into_bytes()).await, Kind::Invalid);
    table.refused("nothing", &raw.proven(Vec::new()).await, Kind::Invalid);
    let good = serde_json::to_value(host.request()).unwrap();
    let one = good["observed"][0].clone();
    let cases: Vec<(&str, Spoil<'_>)> = vec![
        ("60,000 observations", Box::new(|v| v["observed"] = vec![one.clone(); 60_000].into())),
        ("an unknown field", Box::new(|v| v["root"] = json!(true))),
        ("seconds that overflow", Box::new(|v| v["observed"][0]["seconds"] = json!(u64::MAX))),
        ("a generation below zero", Box::new(|v| v["observed"][0]["applied"]["generation"] = json!(-1))),
        ("a phase that is none", Box::new(|v| v["observed"][0]["phase"] = json!({"phase": "dreaming"}))),
    ];
    for (what, spoil) in cases {
        let mut body = good.clone();
        spoil(&mut body);
        table.refused(what, &raw.proven(body.to_string().into_bytes()).await, Kind::Invalid);
    }
    // What can be read but not believed is answered with words for the owner, or refused.
    let said: Vec<(&str, Spoil<'_>)> = vec![
        (
            "a partition that is not this host's",
            Box::new(|v| {
                let mut foreign = one.clone();
                foreign["partition"] = json!(sublet_wire::new_id::<sublet_model::ids::PartitionId>());
                v["observed"].as_array_mut().unwrap().push(foreign);
            }),
        ),
        ("a generation that was never granted", Box::new(|v| v["observed"][0]["applied"]["generation"] = json!(77))),
        (
            "a division above what the computer has",
            Box::new(|v| {
                v["division"]["revision"] = json!(50);
                v["division"]["partitions"][0]["profile"]["min"]["cpu"] = json!(4_000_000);
                v["division"]["partitions"][0]["profile"]["desired"]["cpu"] = json!(4_000_000);
                v["division"]["partitions"][0]["profile"]["max"]["cpu"] = json!(4_000_000);
            }),
        ),
        (
            "an older division than the one known",
            Box::new(|v| {
                v["division"]["revision"] = json!(0);
                v["division"]["partitions"] = json!([]);
            }),
        ),
        (
            "a price below zero",
            Box::new(|v| {
                v["division"]["revision"] = json!(51);
                v["division"]["conditions"]["prices"]["cpu"] = json!(-5);
            }),
        ),
        (
            "a wall clock that is an hour off",
            Box::new(|v| {
                v["wall_clock"] = json!(v["wall_clock"].as_i64().unwrap() + 3_600_000_000);
            }),
        ),
        ("an address to dial with a line break", Box::new(|v| v["dial"] = json!("127.0.0.1:1\nProxyCommand x"))),
        ("an inventory without processors", Box::new(|v| v["inventory"]["threads"] = json!(0))),
    ];
    for (what, spoil) in said {
        let mut body = good.clone();
        body["plan_version"] = json!(0);
        spoil(&mut body);
        let answer = raw.proven(body.to_string().into_bytes()).await;
        note_answer(table, what, &answer);
    }
    let partitions: sublet_wire::api::HostView = scene.owner.client.get("/v1/hosts/desk").await.unwrap();
    assert_eq!(partitions.partitions.len(), 2, "what was refused changed nothing");
    assert!(partitions.partitions.iter().all(|p| p.lendable && p.allocation.generation == 0));
}

/// Notes an answer in which the market may go on with the sync, and say why it did not believe.
fn note_answer(table: &mut Table, what: &str, answer: &Answer) {
    if !answer.status.is_success() {
        let problem = answer.problem();
        assert!(answer.status.is_client_error(), "{what}: {problem:?}");
        table.note(what, format!("{} {}", problem.status, problem.detail));
        return;
    }
    let answer: SyncAnswer = serde_json::from_str(&answer.body).unwrap();
    let mut words = answer.warnings;
    words.extend(answer.division_refused.map(|why| format!("division refused: {why}")));
    let words = if words.is_empty() { "taken in; the plan says again what is to be".into() } else { words.join("; ") };
    table.note(what, format!("200: {words}"));
}

async fn receipts(scene: &mut Scene) {
    let Scene { world, owner, host, table } = scene;
    host.open().await.unwrap();
    host.settle().await;
    let granted = owner.rent("box").await;
    let (lease, generation) = (granted.lease.id, granted.lease.generation);
    host.settle().await;
    host.receipt(lease, generation, 30, false);
    host.settle().await;
    let statement: Statement = owner.client.get("/v1/statements").await.unwrap();
    let known = (statement.lines[0].receipts, statement.lines[0].charge.receipted_seconds);
    assert_eq!(known, (2, Seconds(30)));

    let sign = |receipt: &Receipt, key: &SecretKey| Signed::sign(receipt, key).unwrap();
    let next = |seq, seconds, previous| Receipt {
        lease,
        generation,
        seq,
        seconds: Seconds(seconds),
        cpu_used_ms: 0,
        last: false,
        previous,
    };
    let other = Some(sublet_model::identity::Sha256Digest::of(b"other"));
    let end = host.chain_end(lease);
    let thief = SecretKey::from_seed(&[9; 32]);
    let unknown = Receipt { lease: sublet_wire::new_id(), ..next(1, 30, None) };
    let key = host.key.clone();
    let mut raw = Raw::open(world, host).await;
    for (what, receipt) in [
        ("a receipt with a gap before it", sign(&next(9, 40, other), &key)),
        ("seconds that run backwards", sign(&next(3, 5, end), &key)),
        ("a receipt signed by another key", sign(&next(3, 40, end), &thief)),
        ("a receipt for an older generation", sign(&Receipt { generation: 0, ..next(3, 40, end) }, &key)),
        ("a receipt for a lease that is not this host's", sign(&unknown, &key)),
        ("a receipt that forks the chain", sign(&next(3, 40, other), &key)),
        ("another receipt in the place of one taken in", sign(&next(2, 4000, other), &key)),
    ] {
        let mut request = host.request();
        (request.receipts, request.plan_version) = (vec![receipt], 0);
        let answer = raw.proven(serde_json::to_vec(&request).unwrap()).await;
        note_answer(table, what, &answer);
    }
    let statement: Statement = owner.client.get("/v1/statements").await.unwrap();
    assert_eq!(
        (statement.lines[0].receipts, statement.lines[0].charge.receipted_seconds),
        known,
        "none of them billed anything"
    );
    shrunk(scene, lease).await;
}

async fn shrunk(scene: &mut Scene, lease: sublet_model::ids::LeaseId) {
    let Scene { world, owner, host, table } = scene;
    let mut raw = Raw::open(world, host).await;
    let mut request = host.request();
    (request.inventory.threads, request.inventory.cores, request.plan_version) = (1, 1, 0);
    let answer = raw.proven(serde_json::to_vec(&request).unwrap()).await;
    note_answer(table, "an inventory that shrinks under a lease", &answer);
    let view: LeaseView = owner.client.get(&format!("/v1/leases/{lease}")).await.unwrap();
    assert!(matches!(view.state, LeaseState::Active { .. }), "the lease stays: {view:?}");
}

async fn agents(scene: &mut Scene) {
    let Scene { world, owner, host, table } = scene;
    host.open().await.unwrap();
    host.settle().await;
    // Somebody copied the folder while the first agent was at this session.
    let copied = host.known_session;
    let client = Client::new(&world.base, None, None).unwrap();
    host.open().await.unwrap();
    host.settle().await;
    let refused = HostSession::open(&client, host.id, &host.key, copied).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), Some(Kind::SessionRefused));
    table.note(
        "a second agent with a copied key, which knows an older session",
        format!("401 session_refused: {refused}"),
    );
    host.settle().await;

    // One that copied the newest session wins it, and the first one is told.
    let mut second = HostSession::open(&client, host.id, &host.key, host.known_session).await.unwrap();
    let told = host.sync().await.unwrap_err();
    assert_eq!(told.kind(), Some(Kind::SessionRefused));
    assert!(told.to_string().contains("another agent already uses this host's key"), "{told}");
    table.note("the agent whose session a newer one ended", format!("401 session_refused: {told}"));
    let mut request = host.request();
    request.plan_version = 0;
    second.sync(&request).await.unwrap();
    let refused = host.open().await.unwrap_err();
    assert_eq!(refused.kind(), Some(Kind::SessionRefused));
    table.note("the same agent, which opens a session anew", format!("401 session_refused: {refused}"));

    let _: Value = owner.client.post("/v1/hosts/desk/reset-session", &()).await.unwrap();
    host.open().await.unwrap();
    host.settle().await;
    table.note("the same agent, after its owner reset the session", "200: it has the newest session".into());
    assert_eq!(second.sync(&request).await.unwrap_err().kind(), Some(Kind::SessionRefused));
}
