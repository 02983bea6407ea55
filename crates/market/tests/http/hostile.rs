//! Requests that nobody thought of: valid ones, spoilt at random from a fixed seed. Whatever is
//! sent, the market answers; never with a fault of its own, and always in the same form.

use crate::fake_host::FakeHost;
use crate::world::{Answer, Person, World, http, rent_body};
use reqwest::Method;
use serde_json::{Value, json};
use sublet_model::account::Role;

/// How many requests are sent.
const CASES: u32 = 1500;

/// A small generator (splitmix64): the same cases in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

fn nasty(chance: &mut Chance) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(0.1),
        json!(1e308),
        json!(""),
        json!("x".repeat(2000)),
        json!("\u{202e}\u{1b}[2J"),
        json!("../.."),
        json!("' or 1=1 --"),
        json!([]),
        json!({}),
        json!([[[]]]),
        json!({"": ""}),
        json!("lease_"),
        json!("😀"),
        json!("operator"),
        json!("%"),
        json!("acct_00000000000000000000000000"),
        json!({"$ref": "#"}),
    ];
    chance.one(&values)
}

/// Another value of the same kind: what gets past the form, to the rules behind it.
fn likely(value: &Value, chance: &mut Chance) -> Value {
    match value {
        Value::Number(_) => {
            chance.one(&[0, 1, -1, 2, 60, 99, 1000, 4096, 65_535, 1 << 31, 1 << 53, i64::MAX, i64::MIN]).into()
        }
        Value::String(_) => {
            let words =
                ["a", "box", "physics", "desk", "tiny@1", "", "A B", "../..", "%", "'--", "😀", "none", "lender"];
            chance.one(&words).into()
        }
        Value::Bool(was) => json!(!was),
        Value::Array(list) => list.iter().skip(1).cloned().collect(),
        other => other.clone(),
    }
}

/// Replaces, removes or adds something somewhere.
fn spoil(value: &mut Value, chance: &mut Chance) {
    let deeper = chance.below(16) > 0;
    match value {
        Value::Object(map) if deeper && !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = chance.one(&keys);
            match chance.below(20) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert("more".into(), nasty(chance))),
                _ => spoil(map.get_mut(&key).unwrap(), chance),
            }
        }
        Value::Array(list) if deeper && !list.is_empty() => {
            let at = chance.below(list.len());
            spoil(&mut list[at], chance);
        }
        other => *other = if chance.below(4) > 0 { likely(other, chance) } else { nasty(chance) },
    }
}

fn requests(lease: &str, partition: &str) -> Vec<(Method, String, Value)> {
    let (post, put) = (Method::POST, Method::PUT);
    vec![
        (post.clone(), "/v1/leases".into(), rent_body()),
        (post.clone(), "/v1/search".into(), json!({"requirements": rent_body()["requirements"], "limit": 5})),
        (post.clone(), "/v1/accounts".into(), json!({"name": "new"})),
        (post.clone(), "/v1/members".into(), json!({"account": "physics", "name": "ada", "roles": ["client"]})),
        (post.clone(), "/v1/tokens".into(), json!({"name": "x", "expires_in": 60, "roles": ["client"]})),
        (post.clone(), "/v1/join-tokens".into(), json!({"uses": 1, "expires_in": 60})),
        (
            post.clone(),
            "/v1/images".into(),
            serde_json::to_value(crate::manifest::manifest("2"))
                .map(|m| json!({"manifest": m, "depot": "http://127.0.0.1:1"}))
                .unwrap(),
        ),
        (post.clone(), format!("/v1/leases/{lease}/extend"), json!({"by": 60})),
        (post, format!("/v1/leases/{lease}/access"), json!({"ssh_public_key": crate::world::CLIENT_KEY})),
        (
            put.clone(),
            format!("/v1/partitions/{partition}/allocation"),
            json!({"resources": {"cpu": 1000, "memory": 512, "disk": 1}}),
        ),
        (put.clone(), "/v1/hosts/desk/suspension".into(), json!({"suspended": false})),
        (put, "/v1/images/tiny@1/suspension".into(), json!({"suspended": false})),
        (Method::GET, "/v1/leases".into(), json!({"state": "all", "limit": "5", "cursor": "bGVhc2U"})),
        (Method::GET, format!("/v1/leases/{lease}"), json!({"after": "1", "wait": "0"})),
        (Method::GET, "/v1/audit".into(), json!({"limit": "5"})),
        (Method::GET, "/v1/statements".into(), json!({"side": "lender"})),
    ]
}

fn query(of: &Value) -> String {
    let Value::Object(map) = of else { return of.to_string().replace(['"', ' ', '#', '{', '}', '\\'], "%22") };
    let plain = |text: String| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
    let pairs = map
        .iter()
        .map(|(k, v)| format!("{}={}", plain(k.clone()), plain(v.as_str().map_or_else(|| v.to_string(), Into::into))));
    pairs.collect::<Vec<_>>().join("&")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_is_answered_in_form() {
    let world = World::new().await;
    let person = world.member(world.operator.account, "all", &Role::ALL).await;
    let physics = world.person("physics", &[Role::Client]).await;
    world.image().await;
    let mut host = world.host(&person, "desk", &[2, 2]).await;
    let lease = person.rent("box").await.lease;
    let requests = requests(&lease.id.to_string(), &lease.partition.to_string());
    let mut chance = Chance(20_261_122);
    let mut counts = std::collections::BTreeMap::new();
    for case in 0..CASES {
        let (method, path, mut body) = chance.one(&requests);
        for _ in 0..chance.below(3) {
            spoil(&mut body, &mut chance);
        }
        let answer = sent(&world, &person, &method, &path, &body, &mut chance).await;
        let shown = format!("case {case}: {method} {path} {body}: {} {}", answer.status, answer.body);
        assert!(answer.status.as_u16() < 500, "{shown}");
        if !answer.status.is_success() && answer.status.as_u16() != 304 {
            answer.problem();
        }
        *counts.entry(answer.status.as_u16()).or_insert(0u32) += 1;
    }
    assert!(counts.len() > 3, "many kinds of answers: {counts:?}");
    let _: Value = physics.client.get("/v1/whoami").await.unwrap();
    syncs(&mut host, &mut chance).await;
}

async fn sent(
    world: &World,
    person: &Person,
    method: &Method,
    path: &str,
    body: &Value,
    chance: &mut Chance,
) -> Answer {
    let url = match *method {
        Method::GET => format!("{}{path}?{}", world.base, query(body)),
        _ => format!("{}{path}", world.base),
    };
    let mut request = http().request(method.clone(), url).bearer_auth(&person.token);
    if *method != Method::GET {
        let mut text = body.to_string();
        if chance.below(10) == 0 {
            let cut = chance.below(text.len());
            text = text.char_indices().take_while(|(at, _)| *at < cut).map(|(_, c)| c).collect();
        }
        let key = chance.next().to_string();
        request = request.header("content-type", "application/json").header("idempotency-key", key).body(text);
    }
    Answer::of(request.send().await.unwrap()).await
}

/// The same for what a host says: whatever can be read is answered, and the true word afterwards
/// is taken as before.
async fn syncs(host: &mut FakeHost, chance: &mut Chance) {
    host.plan_version = 0;
    let good = serde_json::to_value(host.request()).unwrap();
    let mut taken = 0;
    for case in 0..300 {
        let mut body = good.clone();
        for _ in 0..chance.below(3) {
            spoil(&mut body, chance);
        }
        let Ok(request) = serde_json::from_value(body.clone()) else { continue };
        let session = host.session.as_mut().unwrap();
        match tokio::time::timeout(std::time::Duration::from_millis(500), session.sync(&request)).await {
            Ok(Err(error)) => {
                let kind = error.kind();
                assert!(
                    kind.is_some_and(|k| k != sublet_wire::problem::Kind::Internal),
                    "case {case}: {body}: {error}"
                );
            }
            Ok(Ok(_)) | Err(_) => taken += 1,
        }
    }
    assert!(taken > 20, "{taken}");
    host.division.revision = 1 << 60;
    host.plan_version = 0;
    host.sync().await.unwrap();
}
