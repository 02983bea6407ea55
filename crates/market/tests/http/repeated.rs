//! A request that is repeated has one effect and one answer (I10).

use crate::world::{Answer, World, http, rent_request, unique};
use serde_json::{Value, json};
use sublet_model::account::Role;
use sublet_wire::api::{AccountView, Granted, LeaseView, Page, Statement};
use sublet_wire::problem::Kind;

async fn post(world: &World, token: &str, path: &str, key: &str, body: &Value) -> Answer {
    let request = http().post(format!("{}{path}", world.base)).bearer_auth(token).header("idempotency-key", key);
    Answer::of(request.json(body).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_is_made_once() {
    let mut world = World::new().await;
    let token = world.operator.token.clone();
    let account: AccountView = {
        let answer = post(&world, &token, "/v1/accounts", "one", &json!({"name": "physics"})).await;
        serde_json::from_str(&answer.body).unwrap()
    };
    let member = json!({"account": "physics", "name": "ada", "roles": ["client"]});
    for (path, body) in [
        ("/v1/accounts", json!({"name": "chemistry"})),
        ("/v1/members", member),
        ("/v1/tokens", json!({"name": "mine"})),
        ("/v1/join-tokens", json!({"uses": 2})),
    ] {
        let first = post(&world, &token, path, "again", &body).await;
        if path != "/v1/accounts" {
            // The key is the member's, over all paths: here it names another request.
            assert_eq!(first.problem().known_kind(), Some(Kind::IdempotencyMismatch), "{path}");
        }
        let key = unique();
        let first = if path == "/v1/accounts" { first } else { post(&world, &token, path, &key, &body).await };
        let key = if path == "/v1/accounts" { "again".to_string() } else { key };
        assert_eq!(first.status.as_u16(), 201, "{path}: {}", first.body);
        for _ in 0..2 {
            let second = post(&world, &token, path, &key, &body).await;
            assert_eq!((second.status, &second.body), (first.status, &first.body), "{path}");
        }
        world.restart().await;
        let third = post(&world, &token, path, &key, &body).await;
        assert_eq!((third.status, &third.body), (first.status, &first.body), "{path}, after a restart");
    }
    let accounts: Page<AccountView> = world.operator.client.get("/v1/accounts").await.unwrap();
    assert_eq!(accounts.items.len(), 3);
    assert!(accounts.items.iter().any(|a| a.id == account.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_rent_once() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let _host = world.host(&person, "desk", &[1, 1, 1]).await;
    let body = rent_request(Some("box"));
    let races = (0..16).map(|_| person.client.post_with_key::<_, Granted>("/v1/leases", &body, "the-key"));
    let granted: Vec<Granted> =
        futures_util::future::join_all(races).await.into_iter().collect::<Result<_, _>>().unwrap();
    assert!(granted.iter().all(|g| g.lease.id == granted[0].lease.id));
    let extended = (0..8).map(|_| {
        let by = sublet_wire::api::Extend { by: sublet_model::units::Seconds(60) };
        let client = person.client.clone();
        async move { client.post_with_key::<_, LeaseView>("/v1/leases/box/extend", &by, "longer").await }
    });
    for view in futures_util::future::join_all(extended).await {
        assert_eq!(view.unwrap().term.0, 3660);
    }
    let leases: Page<LeaseView> = person.client.get("/v1/leases?state=running").await.unwrap();
    assert_eq!(leases.items.len(), 1);
    let statement: Statement = person.client.get("/v1/statements").await.unwrap();
    assert_eq!(statement.lines.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_goes_to_one_of_many() {
    let world = World::new().await;
    let owner = world.person("owner", &[Role::Lender]).await;
    world.image().await;
    let _host = world.host(&owner, "desk", &[1]).await;
    let mut clients = Vec::new();
    for n in 0..4 {
        clients.push(world.person(&format!("client-{n}"), &[Role::Client]).await);
    }
    let body = rent_request(None);
    let races = (0..64).map(|n| clients[n % 4].client.post::<_, Granted>("/v1/leases", &body));
    let answers = futures_util::future::join_all(races).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 63));
    assert!(lost.iter().all(|e| e.as_ref().unwrap_err().kind() == Some(Kind::NoMatch)));
}
