//! Bad tokens and certificates' requests: who is not known gets nothing.

use crate::fake_host::{FakeHost, join_request};
use crate::table::Table;
use crate::world::{Answer, World, http, unique};
use data_encoding::BASE64URL_NOPAD;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use sublet_model::account::Role;
use sublet_model::identity::SecretKey;
use sublet_model::units::Seconds;
use sublet_wire::api::{NewJoinToken, NewToken, Suspension, TokenSecret, WhoAmI};
use sublet_wire::client::Client;
use sublet_wire::problem::Kind;

#[tokio::test(flavor = "multi_thread")]
async fn each_is_refused_in_words() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    let mut table = Table::new("tokens");
    shapes(&world, &person.token, &mut table).await;
    lifetimes(&world, &person.client, &mut table).await;
    joining(&world, &person.client, &mut table).await;
    table.write();
}

async fn shapes(world: &World, good: &str, table: &mut Table) {
    let encoded = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let none = format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(r#"{"sub":"operator"}"#));
    let last = if good.ends_with('A') { "B" } else { "A" };
    for (what, header) in [
        ("no header", None),
        ("an empty header", Some(String::new())),
        ("`Bearer` alone", Some("Bearer".into())),
        ("`Basic` in place of `Bearer`", Some(format!("Basic {good}"))),
        ("an unsigned JWT (`alg: none`)", Some(format!("Bearer {none}"))),
        ("a token of another form", Some("Bearer hunter2".into())),
        ("a token cut short by a letter", Some(format!("Bearer {}", &good[..good.len() - 1]))),
        ("a token with another last letter", Some(format!("Bearer {}{last}", &good[..good.len() - 1]))),
        ("a token with a letter more", Some(format!("Bearer {good}A"))),
        ("a token in upper case", Some(format!("Bearer {}", good.to_uppercase()))),
        ("a token that nobody made", Some(format!("Bearer sublet_{}", "A".repeat(43)))),
        ("the hash of a token, as a database has it", Some(format!("Bearer sublet_{}", &hash(good)[..43]))),
        ("SQL", Some("Bearer sublet_' or '1'='1".into())),
        ("a token of 60,000 letters", Some(format!("Bearer sublet_{}", "A".repeat(30_000)))),
    ] {
        let mut request = http().get(format!("{}/v1/whoami", world.base));
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"sublet\"");
        table.refused(what, &answer, Kind::Unauthenticated);
        assert!(!answer.body.contains(&good[8..]), "a token is never echoed");
    }
    let request = http().get(format!("{}/v1/whoami", world.base)).bearer_auth(good).header("authorization", "Bearer x");
    table.refused("two Authorization headers", &Answer::of(request.send().await.unwrap()).await, Kind::Unauthenticated);
    let answer = world.send(Method::GET, &format!("/v1/whoami?token={good}"), None, None).await;
    table.refused("a token in the query, where logs would have it", &answer, Kind::Unauthenticated);
}

fn hash(text: &str) -> String {
    sublet_model::identity::Sha256Digest::of(text.as_bytes()).to_string()
}

async fn lifetimes(world: &World, client: &Client, table: &mut Table) {
    let new = |expires_in, roles| NewToken { member: None, name: "short".into(), expires_in, roles };
    let token: TokenSecret = client.post("/v1/tokens", &new(Some(Seconds(1)), None)).await.unwrap();
    let whoami = || world.send(Method::GET, "/v1/whoami", Some(&token.secret), None);
    let deadline = Instant::now() + Duration::from_secs(10);
    let answer = loop {
        let answer = whoami().await;
        if !answer.status.is_success() {
            break answer;
        }
        assert!(Instant::now() < deadline, "it never expires");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    table.refused("an expired token", &answer, Kind::Unauthenticated);

    let token: TokenSecret = client.post("/v1/tokens", &new(None, None)).await.unwrap();
    assert!(client.with_token(token.secret.clone()).get::<WhoAmI>("/v1/whoami").await.is_ok());
    client.delete::<()>(&format!("/v1/tokens/{}", token.id)).await.unwrap();
    let answer = world.send(Method::GET, "/v1/whoami", Some(&token.secret), None).await;
    table.refused("a revoked token", &answer, Kind::Unauthenticated);

    let token: TokenSecret = client.post("/v1/tokens", &new(None, Some(vec![Role::Lender]))).await.unwrap();
    let answer = world.send(Method::POST, "/v1/leases", Some(&token.secret), Some(crate::world::rent_body())).await;
    table.refused("renting with a token for lending only", &answer, Kind::Forbidden);
    let body = json!({"name": "more", "roles": ["client"]});
    let answer = world.send(Method::POST, "/v1/tokens", Some(&token.secret), Some(body)).await;
    table.refused("a token that makes itself a mightier one", &answer, Kind::Forbidden);
    let answer = world
        .send(Method::DELETE, &format!("/v1/tokens/{}", first_token(world).await), Some(&token.secret), None)
        .await;
    table.refused("revoking the operator's token", &answer, Kind::NotFound);
}

/// A token of the operator's, by id.
async fn first_token(world: &World) -> sublet_model::ids::TokenId {
    let new = NewToken { member: None, name: "other".into(), expires_in: None, roles: None };
    let token: TokenSecret = world.operator.client.post("/v1/tokens", &new).await.unwrap();
    token.id
}

async fn joining(world: &World, client: &Client, table: &mut Table) {
    let make = |expires_in| async move {
        let token: TokenSecret =
            client.post("/v1/join-tokens", &NewJoinToken { uses: None, expires_in }).await.unwrap();
        token.secret
    };
    let join = |token: String, name: &'static str, key: SecretKey| async move {
        let body = serde_json::to_value(join_request(name, &key)).unwrap();
        world.send(Method::POST, "/v1/hosts", Some(&token), Some(body)).await
    };
    let key = || SecretKey::from_seed(&sublet_wire::random_bytes());

    let token = make(None).await;
    let answer = world.send(Method::GET, "/v1/whoami", Some(&token), None).await;
    table.refused("a join token in place of an API token", &answer, Kind::Unauthenticated);
    let api_token = world.operator.token.clone();
    table.refused("an API token in place of a join token", &join(api_token, "a", key()).await, Kind::Unauthenticated);
    let nobodys = format!("sublet_join_{}", "A".repeat(43));
    table.refused("a join token that nobody made", &join(nobodys, "a", key()).await, Kind::Unauthenticated);
    let cut = token[..token.len() - 1].to_owned();
    table.refused("a join token cut short", &join(cut, "a", key()).await, Kind::Unauthenticated);

    let (first, second) = (key(), key());
    assert!(join(token.clone(), "first", first.clone()).await.status.is_success());
    assert!(join(token.clone(), "first", first).await.status.is_success(), "a lost answer may be asked for again");
    table.refused("a join token used a second time", &join(token, "second", second).await, Kind::Unauthenticated);
    let token = make(None).await;
    table.refused("a host's name that is taken", &join(token.clone(), "first", key()).await, Kind::Conflict);
    table.refused("a host's name that climbs", &join(token.clone(), "../x", key()).await, Kind::Invalid);
    let mut body = serde_json::to_value(join_request("x", &key())).unwrap();
    body["ssh_host_key"] = json!("ssh-ed25519 AAAA");
    let answer = world.send(Method::POST, "/v1/hosts", Some(&token), Some(body)).await;
    table.refused("an SSH host key that is none", &answer, Kind::Invalid);
    let mut body = serde_json::to_value(join_request("x", &key())).unwrap();
    body["inventory"]["threads"] = json!(0);
    let answer = world.send(Method::POST, "/v1/hosts", Some(&token), Some(body)).await;
    table.refused("an inventory without processors", &answer, Kind::Invalid);
    assert!(join(token, "second", key()).await.status.is_success(), "what was refused used nothing up");

    let short = make(Some(Seconds(1))).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    table.refused("an expired join token", &join(short, "late", key()).await, Kind::Unauthenticated);
    races(world, client, table).await;
}

async fn races(world: &World, client: &Client, table: &mut Table) {
    let token: TokenSecret =
        client.post("/v1/join-tokens", &NewJoinToken { uses: None, expires_in: None }).await.unwrap();
    let joiner = client.with_token(token.secret.clone());
    let names: Vec<String> = (0..20).map(|n| format!("race-{n}")).collect();
    let races = names.iter().map(|name| FakeHost::join(&joiner, name, &[1]));
    let won = futures_util::future::join_all(races).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
    table.note(
        "20 computers at once with one join token for one",
        format!("{won} joins, the others are told that it is used up"),
    );

    let account = world.person("barred", &[Role::Client]).await;
    let _: serde_json::Value =
        world.operator.client.put("/v1/accounts/barred/suspension", &Suspension { suspended: true }).await.unwrap();
    let mut request = http().post(format!("{}/v1/leases", world.base)).bearer_auth(&account.token);
    request = request.header("idempotency-key", unique()).json(&crate::world::rent_body());
    table.refused(
        "renting from a suspended account",
        &Answer::of(request.send().await.unwrap()).await,
        Kind::Forbidden,
    );
}
