//! Bad inputs at the API: each gets a clear problem, and nothing changes.

use crate::table::Table;
use crate::world::{Answer, CLIENT_KEY, Person, World, http, rent_body, unique};
use reqwest::Method;
use serde_json::{Value, json};
use sublet_model::account::Role;
use sublet_wire::api::{AuditEntry, LeaseView, Page};
use sublet_wire::problem::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Tried<'a> {
    world: &'a World,
    person: &'a Person,
    table: Table,
}

impl Tried<'_> {
    /// Sends a raw body by POST.
    async fn post(&mut self, what: &str, path: &str, body: impl Into<reqwest::Body>, kind: Kind) {
        let request = http()
            .post(format!("{}{path}", self.world.base))
            .bearer_auth(&self.person.token)
            .header("content-type", "application/json")
            .header("idempotency-key", unique());
        let answer = Answer::of(request.body(body).send().await.unwrap()).await;
        self.table.refused(what, &answer, kind);
    }

    async fn rent(&mut self, what: &str, field: &str, value: Value) {
        let mut body = rent_body();
        set(&mut body, field, value);
        self.post(what, "/v1/leases", body.to_string(), Kind::Invalid).await;
    }

    async fn get(&mut self, what: &str, path: &str, kind: Kind) {
        let answer = self.world.send(Method::GET, path, Some(&self.person.token), None).await;
        self.table.refused(what, &answer, kind);
    }
}

fn set(body: &mut Value, field: &str, value: Value) {
    let mut at = body;
    let parts: Vec<&str> = field.split('.').collect();
    for part in &parts[..parts.len() - 1] {
        at = &mut at[*part];
    }
    at[parts[parts.len() - 1]] = value;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_a_clear_problem_and_nothing_changes() {
    let world = World::new().await;
    let person = world.person("physics", &Role::ALL[..4]).await;
    let stranger = world.person("stranger", &Role::ALL[..4]).await;
    world.image().await;
    let _host = world.host(&person, "desk", &[2]).await;
    let audit_before: Page<AuditEntry> = world.operator.client.get("/v1/audit").await.unwrap();
    let mut tried = Tried { world: &world, person: &person, table: Table::new("api") };

    bodies(&mut tried).await;
    amounts(&mut tried).await;
    texts(&mut tried).await;
    headers(&mut tried).await;
    paths(&mut tried).await;

    let leases: Page<LeaseView> = person.client.get("/v1/leases").await.unwrap();
    assert!(leases.items.is_empty(), "nothing was rented");
    foreign(&mut tried, &stranger).await;
    let audit: Page<AuditEntry> = world.operator.client.get("/v1/audit").await.unwrap();
    assert_eq!(audit.items.len(), audit_before.items.len(), "nothing else was done");
    below_http(&mut tried).await;
    tried.table.write();
}

async fn bodies(tried: &mut Tried<'_>) {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let good = rent_body().to_string();
    let with = |from: &str, to: &str| good.replacen(from, to, 1);
    let twice = with("{", "{\"ssh_public_key\":\"x\",");
    let deep_twice = with("\"cpu\"", "\"cpu\":5,\"cpu\"");
    for (what, body) in [
        ("empty body", String::new()),
        ("`null`", "null".into()),
        ("an array in place of an object", "[]".into()),
        ("half a body", good[..good.len() / 2].into()),
        ("two bodies", format!("{good}{good}")),
        ("nested 100,000 deep", nested.clone()),
        ("nested 100,000 deep inside a field", with("1000", &nested)),
        ("a key twice", twice),
        ("a key twice further down", deep_twice),
        ("an unknown field", with("{", "{\"sudo\":true,")),
        ("an unknown field with an escape sequence", with("{", "{\"\\u001b[2J\":true,")),
        ("a number where a text is expected", with(&format!("{CLIENT_KEY:?}"), "5")),
        ("a text where a number is expected", with("1000", "\"1000\"")),
        ("`NaN`", with("1000", "NaN")),
        ("`1e400`", with("1000", "1e400")),
        ("half a core: `0.5`", with("1000", "0.5")),
        ("a lone surrogate", with(CLIENT_KEY, "\\ud800")),
        ("NUL in a text", with(CLIENT_KEY, "a\\u0000b")),
        ("a comment", with("{", "{/* x */")),
        ("a trailing comma", with("},", "},,")),
    ] {
        tried.post(what, "/v1/leases", body, Kind::Invalid).await;
    }
    tried.post("bytes that are not UTF-8", "/v1/leases", vec![b'"', 0xff, 0xfe, b'"'], Kind::Invalid).await;
    tried.post("100 MB", "/v1/leases", vec![b' '; 100_000_000], Kind::TooLarge).await;
    let chunked = futures_util::stream::iter((0..2000).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024])));
    tried
        .post("2 MB in chunks, without a length", "/v1/leases", reqwest::Body::wrap_stream(chunked), Kind::TooLarge)
        .await;
    let padded = format!("{}{good}", " ".repeat(1 << 20));
    tried.post("a byte over 1 MiB", "/v1/leases", padded, Kind::TooLarge).await;
}

async fn amounts(tried: &mut Tried<'_>) {
    for (what, field, value) in [
        ("cpu: the least i64", "requirements.cpu", json!(i64::MIN)),
        ("cpu: the greatest i64", "requirements.cpu", json!(i64::MAX)),
        ("cpu: more than i64", "requirements.cpu", json!(u64::MAX)),
        ("cpu: 0", "requirements.cpu", json!(0)),
        ("cpu: -1000", "requirements.cpu", json!(-1000)),
        ("memory: the greatest i64", "requirements.memory", json!(i64::MAX)),
        ("memory: -1", "requirements.memory", json!(-1)),
        ("disk: -1", "requirements.disk", json!(-1)),
        ("0 vcpus", "requirements.vcpus", json!(0)),
        ("65,535 vcpus", "requirements.vcpus", json!(65_535)),
        ("65,536 vcpus", "requirements.vcpus", json!(65_536)),
        ("a term of 0", "requirements.term_seconds", json!(0)),
        ("a term of -1", "requirements.term_seconds", json!(-1)),
        ("a term of i64::MAX", "requirements.term_seconds", json!(i64::MAX)),
        ("a negative price", "requirements.price_at_most", json!(-1)),
        ("a negative total", "requirements.total_at_most", json!(i64::MIN)),
        ("an afterlife of i64::MAX", "release_after_disconnect", json!(i64::MAX)),
        ("an afterlife of -1", "release_after_disconnect", json!(-1)),
    ] {
        tried.rent(what, field, value).await;
    }
    let tokens = "/v1/tokens";
    for (what, seconds) in [("0", 0), ("-1", -1), ("i64::MAX", i64::MAX), ("two years", 2 * 366 * 86_400)] {
        let body = json!({"name": "x", "expires_in": seconds}).to_string();
        tried.post(&format!("a token that expires in {what}"), tokens, body, Kind::Invalid).await;
    }
    for uses in [0u64, 10_001, u64::from(u32::MAX), u64::from(u32::MAX) + 1] {
        let body = json!({"uses": uses}).to_string();
        tried.post(&format!("a join token for {uses} computers"), "/v1/join-tokens", body, Kind::Invalid).await;
    }
    let body = json!({"limit": 201}).to_string();
    tried.post("search: 201 matches", "/v1/search", body, Kind::Invalid).await;
}

async fn texts(tried: &mut Tried<'_>) {
    let long = "x".repeat(5000);
    for (what, name) in [
        ("empty", ""),
        ("`../../etc/passwd`", "../../etc/passwd"),
        ("SQL", "x'; drop table leases; --"),
        ("LIKE characters", "%_%"),
        ("upper case", "Box"),
        ("a line break", "a\nb"),
        ("right-to-left override", "a\u{202e}b"),
        ("an escape sequence", "\u{1b}[2J"),
        ("5,000 letters", long.as_str()),
    ] {
        tried.rent(&format!("a lease's name: {what}"), "name", json!(name)).await;
    }
    for (what, field, value) in [
        ("os: 5,000 letters", "requirements.os", json!(long)),
        ("os: a control character", "requirements.os", json!("a\u{7}b")),
        ("image: empty", "requirements.image", json!("")),
        ("labels: a key of 5,000 letters", "requirements.labels", json!({ long.clone(): "x" })),
        ("requirements: a text with a slip", "requirements", json!("memroy>=4GiB")),
        ("requirements: a text that never ends", "requirements", json!(format!("os=\"{long}"))),
        ("requirements: a text of 100,000 letters", "requirements", json!("avx2 ".repeat(20_000))),
        ("requirements: a text of 300 clauses", "requirements", json!("avx2 ".repeat(300))),
        ("requirements: an escape sequence", "requirements", json!("\u{1b}[2J=1")),
        ("requirements: a list", "requirements", json!([])),
        ("bounds without an end", "requirements.cpu", json!({})),
        ("bounds that nothing is between", "requirements.cpu", json!({"at_least": 2000, "at_most": 1000})),
        ("bounds with another name", "requirements.memory", json!({"least": 512})),
        ("a choice of nothing", "requirements.os", json!([])),
        ("a choice of 33 words", "requirements.os", (0..33).map(|n| n.to_string()).collect()),
        ("65 partitions", "requirements.count", json!(65)),
        ("an order by beauty", "requirements.order", json!(["beauty"])),
        ("a trait of 5,000 letters", "requirements.traits", json!([long])),
        ("labels: 33 of them", "requirements.labels", (0..33).map(|n| (format!("l{n}"), json!("x"))).collect()),
        ("an SSH key with two lines", "ssh_public_key", json!(format!("{CLIENT_KEY}\n{CLIENT_KEY}"))),
        ("an SSH key with options before it", "ssh_public_key", json!(format!("command=\"sh\" {CLIENT_KEY}"))),
        ("an SSH key of 5,000 letters", "ssh_public_key", json!(long)),
        ("a private SSH key", "ssh_public_key", json!("-----BEGIN OPENSSH PRIVATE KEY-----")),
        ("an SSH key that is cut off", "ssh_public_key", json!(CLIENT_KEY[..50])),
    ] {
        tried.rent(what, field, value).await;
    }
    let body = json!({"name": "a\u{1b}[2Jb"}).to_string();
    tried.post("a token's name with an escape sequence", "/v1/tokens", body, Kind::Invalid).await;
    let body = json!({"name": "x", "roles": ["root"]}).to_string();
    tried.post("an unknown role", "/v1/tokens", body, Kind::Invalid).await;
    let body = json!({"name": "x", "roles": ["operator"]}).to_string();
    tried.post("a token with a role that the member has not", "/v1/tokens", body, Kind::Forbidden).await;
}

async fn headers(tried: &mut Tried<'_>) {
    let body = rent_body().to_string();
    let url = format!("{}/v1/leases", tried.world.base);
    let with = |headers: &[(&str, &str)]| {
        let request = http().post(&url).bearer_auth(&tried.person.token).body(body.clone());
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let json_type = ("content-type", "application/json");
    let long = "k".repeat(129);
    let cases: Vec<(&str, reqwest::RequestBuilder)> = vec![
        ("no content-type", with(&[("idempotency-key", "a")])),
        ("content-type: text/plain", with(&[("content-type", "text/plain"), ("idempotency-key", "a")])),
        ("content-type of a form", with(&[("content-type", "application/x-www-form-urlencoded")])),
        ("no Idempotency-Key", with(&[json_type])),
        ("an empty Idempotency-Key", with(&[json_type, ("idempotency-key", "")])),
        ("an Idempotency-Key of 129 letters", with(&[json_type, ("idempotency-key", &long)])),
        ("an Idempotency-Key with a space", with(&[json_type, ("idempotency-key", "a b")])),
        ("two Idempotency-Keys", with(&[json_type, ("idempotency-key", "a"), ("idempotency-key", "b")])),
    ];
    for (what, request) in cases {
        let answer = Answer::of(request.send().await.unwrap()).await;
        tried.table.refused(what, &answer, Kind::Invalid);
    }
}

async fn paths(tried: &mut Tried<'_>) {
    let long = "x".repeat(3000);
    for (what, path, kind) in [
        ("an unknown path", "/v1/nothing".to_string(), Kind::NotFound),
        ("no path at all", "/".into(), Kind::NotFound),
        ("a path that climbs, encoded", "/v1/leases/..%2f..%2fetc%2fpasswd".into(), Kind::NotFound),
        ("a path that is not UTF-8", "/v1/leases/%ff%fe".into(), Kind::Invalid),
        ("NUL in a path", "/v1/leases/a%00b".into(), Kind::Invalid),
        ("a path of 3,000 letters", format!("/v1/leases/{long}"), Kind::Invalid),
        ("SQL in a path", "/v1/leases/'%20or%20'1'='1".into(), Kind::NotFound),
        ("LIKE in a path", "/v1/hosts/%25".into(), Kind::NotFound),
        ("an id of another kind", "/v1/leases/host_00000000000000000000000005".into(), Kind::NotFound),
        ("an id that overflows", "/v1/leases/lease_80000000000000000000000000".into(), Kind::NotFound),
        ("an unknown query", "/v1/leases?all=true".into(), Kind::Invalid),
        ("a query twice", "/v1/leases?limit=1&limit=2".into(), Kind::Invalid),
        ("limit=0", "/v1/leases?limit=0".into(), Kind::Invalid),
        ("limit=201", "/v1/leases?limit=201".into(), Kind::Invalid),
        ("limit=-1", "/v1/leases?limit=-1".into(), Kind::Invalid),
        ("limit=99999999999999999999999", "/v1/leases?limit=99999999999999999999999".into(), Kind::Invalid),
        ("a made-up cursor", "/v1/leases?cursor=AAAA".into(), Kind::Invalid),
        ("a cursor with SQL", "/v1/leases?cursor=%27%20or%201=1".into(), Kind::Invalid),
        ("a state that is none", "/v1/leases?state=any".into(), Kind::Invalid),
        ("waiting for an hour", "/v1/leases/box?after=1&wait=3600".into(), Kind::Invalid),
        ("a version that is no number", "/v1/leases/box?after=new".into(), Kind::Invalid),
        ("a side that is none", "/v1/statements?side=both".into(), Kind::Invalid),
        ("an export from no side", "/v1/statements/export?side=both".into(), Kind::Invalid),
        ("an export of the future", "/v1/statements/export?from=9223372036854775807".into(), Kind::Invalid),
        ("an export that ends before it begins", "/v1/statements/export?from=2&until=1".into(), Kind::Invalid),
        ("a query of 3,000 letters", format!("/v1/leases?cursor={long}"), Kind::Invalid),
    ] {
        tried.get(what, &path, kind).await;
    }
    for method in [Method::DELETE, Method::PATCH, Method::PUT] {
        let answer = tried.world.send(method.clone(), "/v1/leases", Some(&tried.person.token), None).await;
        assert_eq!(answer.status.as_u16(), 405);
        tried.table.refused(&format!("{method} where it is not taken"), &answer, Kind::Invalid);
    }
}

async fn foreign(tried: &mut Tried<'_>, stranger: &Person) {
    let lease = tried.person.rent("box").await.lease;
    for (what, method, path) in [
        ("another account's lease", Method::GET, format!("/v1/leases/{}", lease.id)),
        ("another account's lease, released", Method::POST, format!("/v1/leases/{}/release", lease.id)),
        ("another account's lease by its name", Method::GET, "/v1/leases/box".into()),
        ("another account's receipts", Method::GET, format!("/v1/leases/{}/receipts", lease.id)),
        ("another account's host", Method::GET, "/v1/hosts/desk".into()),
        ("another account's partition", Method::GET, format!("/v1/partitions/{}", lease.partition)),
    ] {
        let answer = tried.world.send(method, &path, Some(&stranger.token), None).await;
        tried.table.refused(what, &answer, Kind::NotFound);
    }
    let key = unique();
    let send = |body: Value| {
        let request = http().post(format!("{}/v1/leases/box/extend", tried.world.base));
        request.bearer_auth(&tried.person.token).header("idempotency-key", &key).json(&body).send()
    };
    assert!(send(json!({"by": 60})).await.unwrap().status().is_success());
    let answer = Answer::of(send(json!({"by": 61})).await.unwrap()).await;
    tried.table.refused("an Idempotency-Key used again with another body", &answer, Kind::IdempotencyMismatch);
    tried
        .post("lengthened by i64::MAX", "/v1/leases/box/extend", json!({"by": i64::MAX}).to_string(), Kind::Invalid)
        .await;
    tried.post("lengthened by nothing", "/v1/leases/box/extend", json!({"by": 0}).to_string(), Kind::Invalid).await;
}

/// What HTTP itself can't read is answered by a bare status, or not at all; the market goes on.
async fn below_http(tried: &mut Tried<'_>) {
    let head = "POST /v1/leases HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    for (what, request) in [
        ("conflicting lengths", format!("{head}content-length: 5\r\ncontent-length: 6\r\n\r\n{{}}")),
        ("a length and chunks", format!("{head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("a negative length", format!("{head}content-length: -1\r\n\r\n")),
        ("200 headers", format!("{head}{many}\r\n")),
        ("a header of 1 MB", format!("{head}x: {}\r\n\r\n", "y".repeat(1_000_000))),
        ("a path of 1 MB", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(1_000_000))),
        ("HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("not HTTP at all", "\u{0}\u{1}\u{2}hello\r\n\r\n".into()),
    ] {
        let answered = raw(tried.world, request.as_bytes()).await;
        let status: u16 = answered.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        // Chunks win over a length, as HTTP says; then the missing token is what is wrong.
        assert!(status == 0 || (400..500).contains(&status), "{what}: {answered}");
        let shown =
            if status == 0 { "the connection is closed".into() } else { answered.lines().next().unwrap_or("").into() };
        tried.table.note(what, shown);
    }
    assert!(tried.person.client.get::<Value>("/v1/whoami").await.is_ok(), "the market goes on");
}

async fn raw(world: &World, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.base.strip_prefix("http://").unwrap()).await.unwrap();
    // It may be refused, and the connection closed, before all of it is sent.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
