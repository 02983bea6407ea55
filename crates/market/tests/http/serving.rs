//! Where the market listens and how it ends.

use crate::world::{Answer, World, config, http};
use std::time::{Duration, Instant};
use sublet_market::config::{Config, Tls};
use sublet_market::init::init;
use sublet_market::serve::{ServeError, ServeOptions, serve};
use sublet_model::account::Role;
use sublet_model::identity::Sha256Digest;
use sublet_wire::api::{Health, LeaseView, NewJoinToken, TokenSecret};
use sublet_wire::client::{Client, ClientError};
use sublet_wire::join::JoinToken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

fn on(listen: &str, tls: Option<Tls>) -> ServeOptions {
    ServeOptions { listen: Some(listen.parse().unwrap()), tls, relay: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn off_loopback_there_is_tls_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &config(), &["localhost".into()]).unwrap();
    let stop = CancellationToken::new();
    let refused = serve(dir.path(), on("0.0.0.0:0", Some(Tls::Never)), stop.clone()).await.unwrap_err();
    assert!(matches!(refused, ServeError::PlainOffLoopback(_)));
    assert!(refused.to_string().contains("market.toml"), "{refused}");
    Config { tls: Tls::Never, ..config() }.check().unwrap();
    let error = Client::new("http://192.0.2.1:7400", None, None).unwrap_err();
    assert!(matches!(error, ClientError::Unusable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_known_by_its_fingerprint() {
    let world = World::with(ServeOptions { listen: None, tls: Some(Tls::Always), relay: None }).await;
    let print = world.server.as_ref().unwrap().fingerprint.unwrap();
    assert!(world.base.starts_with("https://"));
    let known = Client::new(&world.base, None, Some(print)).unwrap();
    assert_eq!(known.get::<Health>("/healthz").await.unwrap().status, "ok");
    for other in [Some(Sha256Digest::of(b"another")), None] {
        let stranger = Client::new(&world.base, None, other).unwrap();
        let error = stranger.get::<Health>("/healthz").await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }
    let plain = http().get(world.base.replace("https", "http")).send().await;
    assert!(plain.is_err() || !plain.unwrap().status().is_success(), "plain HTTP on a port of TLS");
    let lender = world.person("owner", &[Role::Lender]).await;
    let token: TokenSecret =
        lender.client.post("/v1/join-tokens", &NewJoinToken { uses: None, expires_in: None }).await.unwrap();
    let token: JoinToken = token.secret.parse().unwrap();
    assert_eq!(token.fingerprint, Some(print), "a join token carries it");
    let joiner = Client::new(&world.base, Some(token.secret), token.fingerprint).unwrap();
    crate::fake_host::FakeHost::join(&joiner, "desk", &[1]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_answered_when_the_market_stops() {
    let mut world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let mut host = world.host(&person, "desk", &[1]).await;
    let granted = person.rent("box").await;
    host.settle().await;
    let view: LeaseView = person.client.get("/v1/leases/box").await.unwrap();
    let watcher = tokio::spawn({
        let (client, path) = (person.client.clone(), format!("/v1/leases/box?after={}&wait=30", view.version));
        async move { client.get::<LeaseView>(&path).await }
    });
    let held = tokio::spawn(async move {
        let answer = host.sync().await;
        (host, answer)
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!watcher.is_finished() && !held.is_finished(), "both are held");
    let began = Instant::now();
    world.stop.cancel();
    assert_eq!(watcher.await.unwrap().unwrap().version, view.version);
    let (mut host, answer) = held.await.unwrap();
    assert!(answer.is_ok());
    world.server.take().unwrap().ended().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());

    // And after a restart all is as it was; the host has to open a new session, and may.
    let address = world.base.strip_prefix("http://").unwrap().to_owned();
    world.stop = CancellationToken::new();
    world.server = Some(serve(&world.dir(), on(&address, None), world.stop.clone()).await.unwrap());
    let error = host.sync().await.unwrap_err();
    assert_eq!(error.kind(), Some(sublet_wire::problem::Kind::SessionRefused));
    host.open().await.unwrap();
    host.settle().await;
    let after: LeaseView = person.client.get("/v1/leases/box").await.unwrap();
    assert_eq!((after.id, after.state), (granted.lease.id, view.state));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_market_a_database() {
    let world = World::new().await;
    let error = serve(&world.dir(), on("127.0.0.1:0", None), CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("another market"), "{error}");
    let nowhere = serve(std::path::Path::new("/nonexistent"), ServeOptions::default(), CancellationToken::new()).await;
    assert!(matches!(nowhere.unwrap_err(), ServeError::Config(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_supersedes_a_held_one_lets_it_go() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    let mut host = world.host(&person, "desk", &[1]).await;
    let request = host.request();
    let mut session = host.session.take().unwrap();
    let began = Instant::now();
    {
        // Given up by its client, and still held by the market.
        let held = session.sync(&request);
        assert!(tokio::time::timeout(Duration::from_millis(200), held).await.is_err());
    }
    let answer = session.sync(&request).await.unwrap();
    assert_eq!(answer.plan_version, request.plan_version);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4), "without news it is held for five seconds: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_hold_up_nobody() {
    let world = World::new().await;
    let address = world.base.strip_prefix("http://").unwrap();
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
        slow.push(stream);
    }
    let mut body = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/leases HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n";
    let head = format!("{head}authorization: Bearer {}\r\n\r\n{{", world.operator.token);
    body.write_all(head.as_bytes()).await.unwrap();
    let began = Instant::now();
    let answer = Answer::of(http().get(format!("{}/healthz", world.base)).send().await.unwrap()).await;
    assert!(answer.status.is_success() && began.elapsed() < Duration::from_secs(2));
    // Both kinds are sent away in the end: the head after 20 s, the body too.
    let mut rest = Vec::new();
    let limit = Duration::from_secs(40);
    tokio::time::timeout(limit, slow[0].read_to_end(&mut rest)).await.expect("a slow head is cut off").ok();
    let mut rest = [0; 4096];
    let read = tokio::time::timeout(limit, body.read(&mut rest)).await.expect("a slow body is cut off").unwrap_or(0);
    let rest = String::from_utf8_lossy(&rest[..read]);
    assert!(rest.starts_with("HTTP/1.1 408") && rest.contains("problem+json"), "{rest}");
}
