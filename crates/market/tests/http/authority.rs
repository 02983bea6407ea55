//! Two accounts, every route, every role: who may do what. One table says all of it.

use crate::table::Table;
use crate::world::{Person, World, rent_body};
use reqwest::Method;
use serde_json::{Value, json};
use sublet_model::account::Role;

/// What each of those who ask is answered, in the order of [`Cast::all`].
struct Row {
    method: Method,
    path: String,
    body: Option<Value>,
    statuses: [u16; 8],
}

/// Those who ask.
struct Cast {
    operator: Person,
    lender: Person,
    client: Person,
    billing: Person,
    auditor: Person,
    stranger: Person,
    market_auditor: Person,
}

impl Cast {
    fn all(&self) -> [(&'static str, Option<&str>); 8] {
        [
            ("nobody", None),
            ("operator", Some(&self.operator.token)),
            ("its lender", Some(&self.lender.token)),
            ("its client", Some(&self.client.token)),
            ("the client's billing", Some(&self.billing.token)),
            ("the client's auditor", Some(&self.auditor.token)),
            ("stranger", Some(&self.stranger.token)),
            ("stranger without a role here", Some(&self.market_auditor.token)),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_the_one_authority() {
    let world = World::new().await;
    let client = world.person("client", &[Role::Client]).await;
    let cast = Cast {
        operator: world.operator_alone().await,
        lender: world.person("lender", &[Role::Lender]).await,
        billing: world.member(client.account, "billing", &[Role::Billing]).await,
        auditor: world.member(client.account, "auditor", &[Role::Auditor]).await,
        stranger: world.person("stranger", &[Role::Client, Role::Lender, Role::Billing, Role::Auditor]).await,
        market_auditor: world.person("onlooker", &[Role::Auditor]).await,
        client,
    };
    world.image().await;
    let _host = world.host(&cast.lender, "desk", &[1]).await;
    let lease = cast.client.rent("box").await.lease;
    let (mut covered, mut shown) = (Vec::new(), Table::new("authority"));
    for Row { method, path, body, statuses } in table(&lease) {
        for ((who, token), expected) in cast.all().into_iter().zip(statuses) {
            let answer = world.send(method.clone(), &path, token, body.clone()).await;
            assert_eq!(answer.status.as_u16(), expected, "{who}: {method} {path}: {}", answer.body);
            if expected >= 400 {
                answer.problem();
            }
        }
        let told =
            cast.all().iter().zip(statuses).map(|((who, _), status)| format!("{who} {status}")).collect::<Vec<_>>();
        shown.note(&format!("{method} {path}"), told.join(", "));
        covered.push((method, path));
    }
    shown.write();
    every_route_is_in_it(&world, &covered).await;
}

#[rustfmt::skip]
fn table(lease: &sublet_wire::api::LeaseView) -> Vec<Row> {
    let get = |path: &str, statuses| Row { method: Method::GET, path: path.into(), body: None, statuses };
    let send = |method, path: &str, body, statuses| Row { method, path: path.into(), body: Some(body), statuses };
    let (id, partition, host) = (lease.id, lease.partition, lease.host);
    let suspend = || json!({"suspended": false});
    let other = "/v1/tokens/tok_00000000000000000000000005";
    let post = || Method::POST;
    let put = || Method::PUT;
    // nobody, operator, its lender, its client, the client's billing, its auditor, stranger, onlooker
    vec![
        get("/healthz",                                    [200, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/openapi.json",                            [200, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/whoami",                                  [401, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/accounts",                                [401, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/members",                                 [401, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/audit",                                   [401, 200, 403, 403, 403, 403, 403, 403]),
        get("/v1/images",                                  [401, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/offers",                                  [401, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/hosts",                                   [401, 200, 200, 403, 200, 200, 200, 200]),
        get("/v1/leases",                                  [401, 200, 403, 200, 200, 200, 200, 200]),
        get("/v1/statements",                              [401, 403, 403, 200, 200, 200, 200, 200]),
        get("/v1/statements?side=lender",                  [401, 403, 200, 403, 200, 200, 200, 200]),
        get("/v1/statements/export",                       [401, 403, 403, 200, 200, 200, 200, 200]),
        get("/v1/statements/export?side=lender",           [401, 403, 200, 403, 200, 200, 200, 200]),
        get("/v1/statements/export?side=operator",         [401, 200, 403, 403, 403, 403, 403, 403]),
        get("/v1/hosts/desk",                              [401, 200, 200, 404, 404, 404, 404, 404]),
        get(&format!("/v1/hosts/{host}"),                  [401, 200, 200, 404, 404, 404, 404, 404]),
        get(&format!("/v1/partitions/{partition}"),        [401, 200, 200, 200, 200, 200, 404, 404]),
        get(&format!("/v1/leases/{id}"),                   [401, 200, 403, 200, 200, 200, 404, 404]),
        get("/v1/leases/box",                              [401, 404, 404, 200, 200, 200, 404, 404]),
        get(&format!("/v1/leases/{id}/receipts"),          [401, 200, 200, 200, 200, 200, 404, 404]),
        get(&format!("/v1/leases/{id}/story"),             [401, 200, 200, 200, 200, 200, 404, 404]),
        get("/v1/accounts/client/balance",                 [401, 200, 404, 200, 200, 200, 404, 404]),
        get("/v1/accounts/client/transfers",               [401, 200, 404, 200, 200, 200, 404, 404]),
        get("/v1/alerts",                                  [401, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/events",                                  [401, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/fee",                                     [401, 200, 200, 200, 200, 200, 200, 200]),
        get("/v1/ledger/audit",                            [401, 200, 403, 403, 403, 403, 403, 403]),
        get("/v1/disputes",                                [401, 200, 200, 200, 200, 200, 200, 200]),
        send(put(), "/v1/fee", json!({"permille": 0}),     [401, 200, 403, 403, 403, 403, 403, 403]),
        send(post(), "/v1/accounts/client/deposits", json!({"micros": 0, "reference": "x"}),
                                                           [401, 400, 404, 403, 403, 403, 404, 404]),
        send(post(), "/v1/accounts/client/refunds", json!({"micros": 0, "reference": "x"}),
                                                           [401, 400, 404, 403, 403, 403, 404, 404]),
        send(put(), "/v1/accounts/client/purse", json!({}), [401, 200, 404, 403, 403, 403, 404, 404]),
        send(post(), "/v1/disputes", json!({"lease": id.to_string(), "reason": "NO"}),
                                                           [401, 403, 403, 400, 403, 403, 404, 403]),
        send(post(), "/v1/disputes/disp_00000000000000000000000005/resolve", json!({"credit": 0, "note": ""}),
                                                           [401, 404, 403, 403, 403, 403, 403, 403]),
        send(post(), "/v1/accounts", json!({"name": "A"}), [401, 400, 403, 403, 403, 403, 403, 403]),
        send(post(), "/v1/members", json!({"account": "client", "name": "A", "roles": ["client"]}),
                                                           [401, 400, 403, 403, 403, 403, 403, 403]),
        send(post(), "/v1/tokens", json!({"name": ""}),    [401, 400, 400, 400, 400, 400, 400, 400]),
        send(post(), "/v1/tokens", json!({"name": "x", "member": "mem_00000000000000000000000005"}),
                                                           [401, 404, 404, 404, 404, 404, 404, 404]),
        send(Method::DELETE, other, Value::Null,           [401, 404, 404, 404, 404, 404, 404, 404]),
        send(post(), "/v1/join-tokens", json!({"uses": 0}), [401, 403, 400, 403, 403, 403, 400, 403]),
        send(post(), "/v1/images", json!({"manifest": {"payload": "", "key": "A".repeat(43) + "=", "signature": ""}, "depot": "x"}),
                                                           [401, 400, 403, 403, 403, 403, 403, 403]),
        send(put(), "/v1/images/tiny@1/suspension", suspend(),  [401, 200, 403, 403, 403, 403, 403, 403]),
        send(put(), "/v1/accounts/client/suspension", suspend(), [401, 200, 404, 403, 403, 403, 404, 404]),
        send(put(), "/v1/hosts/desk/suspension", suspend(),     [401, 200, 200, 404, 404, 404, 404, 404]),
        send(post(), "/v1/hosts/desk/reset-session", Value::Null, [401, 200, 200, 404, 404, 404, 404, 404]),
        send(put(), &format!("/v1/partitions/{partition}/allocation"), json!({"resources": {"cpu": 1000, "memory": 512}}),
                                                           [401, 423, 423, 403, 403, 403, 404, 404]),
        send(post(), "/v1/search", json!({}),              [401, 200, 200, 200, 200, 200, 200, 200]),
        send(post(), "/v1/search/nearest", json!({}),      [401, 200, 200, 200, 200, 200, 200, 200]),
        // Nothing is free: whoever may rent is told so.
        send(post(), "/v1/leases", rent_body(),            [401, 403, 403, 409, 403, 403, 409, 403]),
        send(post(), &format!("/v1/leases/{id}/extend"), json!({"by": 0}), [401, 403, 403, 400, 403, 403, 404, 404]),
        send(post(), &format!("/v1/leases/{id}/access"), json!({}),        [401, 403, 403, 200, 403, 403, 404, 404]),
        send(post(), "/v1/hosts", json!({}),               [401, 401, 401, 401, 401, 401, 401, 401]),
        send(post(), "/v1/hosts/x/challenge", Value::Null, [404, 404, 404, 404, 404, 404, 404, 404]),
        send(post(), "/v1/hosts/x/sessions", json!({}),    [400, 400, 400, 400, 400, 400, 400, 400]),
        send(post(), "/v1/hosts/x/sync", json!({}),        [404, 404, 404, 404, 404, 404, 404, 404]),
        send(post(), &format!("/v1/hosts/{host}/sync"), json!({}), [401, 401, 401, 401, 401, 401, 401, 401]),
        // What ends things comes last.
        send(post(), &format!("/v1/leases/{id}/release"), Value::Null, [401, 200, 403, 200, 403, 403, 404, 404]),
        send(Method::DELETE, "/v1/hosts/desk", Value::Null, [401, 204, 404, 404, 404, 404, 404, 404]),
    ]
}

/// A route that is added must be added above.
async fn every_route_is_in_it(world: &World, covered: &[(Method, String)]) {
    let api = world.send(Method::GET, "/v1/openapi.json", None, None).await.json();
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let fits = |(m, p): &(Method, String)| m.as_str().eq_ignore_ascii_case(method) && is_of(p, path);
            assert!(covered.iter().any(fits), "{method} {path} is not in the table");
        }
    }
}

/// Whether a path is one of a pattern.
fn is_of(path: &str, pattern: &str) -> bool {
    let path = path.split('?').next().unwrap();
    let (given, wanted) = (path.split('/'), pattern.split('/'));
    given.clone().count() == wanted.clone().count() && given.zip(wanted).all(|(g, w)| g == w || w.starts_with('{'))
}
