//! Renting several at once, looking without taking, and waiting in line, over HTTP.

use crate::world::{Person, World, rent_request};
use std::time::{Duration, Instant};
use sublet_model::account::Role;
use sublet_model::units::Seconds;
use sublet_wire::api::*;
use sublet_wire::client::ClientError;
use sublet_wire::problem::Kind;

fn waits(name: &str, seconds: i64) -> RentRequest {
    RentRequest { wait_seconds: Some(Seconds(seconds)), ..rent_request(Some(name)) }
}

async fn ask(person: &Person, request: &RentRequest, key: &str) -> Result<RentAnswer, ClientError> {
    person.client.post_with_key("/v1/leases", request, key).await
}

#[track_caller]
fn granted(answer: Result<RentAnswer, ClientError>) -> Granted {
    match answer {
        Ok(RentAnswer::Granted(granted)) => *granted,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_granted_or_none_and_a_dry_run_takes_nothing() {
    let world = World::new().await;
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let mut host = world.host(&person, "desk", &[2, 2, 2]).await;
    let several = |count, dry_run| {
        let mut request = RentRequest { dry_run, ..rent_request(Some("box")) };
        request.requirements.count = Some(count);
        request
    };
    let refused = ask(&person, &several(4, false), "k0").await.unwrap_err();
    assert_eq!(refused.kind(), Some(Kind::NoMatch));
    assert!(refused.to_string().contains("only 3 fit"), "{refused}");

    let would = match ask(&person, &several(3, true), "k1").await {
        Ok(RentAnswer::Would(would)) => would,
        other => panic!("{other:?}"),
    };
    let names: Vec<_> = would.would.iter().map(|w| w.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["box-1", "box-2", "box-3"]);
    assert_eq!((would.hourly.0, would.total.0), (24_000, 3 * (8_000 + 100)));
    assert!(would.would.iter().all(|w| w.altered.last().is_some_and(|a| a.partition == w.partition)));
    let running: Page<LeaseView> = person.client.get("/v1/leases").await.unwrap();
    assert!(running.items.is_empty(), "{running:?}");

    // The key of the dry run is free still.
    let first = granted(ask(&person, &several(3, false), "k1").await);
    assert_eq!((first.lease.name.as_str(), first.others.len()), ("box-1", 2));
    let again = granted(ask(&person, &several(3, false), "k1").await);
    let ids = |g: &Granted| g.others.iter().map(|o| o.lease.id).chain([g.lease.id]).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&first));
    assert!(first.others.iter().all(|o| o.access.user == o.lease.id.to_string()));
    host.settle().await;
    let running: Page<LeaseView> = person.client.get("/v1/leases?state=running").await.unwrap();
    assert_eq!(running.items.len(), 3);
}

/// A market whose only partition is held by `box`; answers with its host and tenant.
async fn full(world: &World) -> (Person, crate::fake_host::FakeHost) {
    let person = world.person("physics", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let mut host = world.host(&person, "desk", &[1]).await;
    person.rent("box").await;
    host.settle().await;
    (person, host)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_answered_the_moment_something_fits() {
    let world = World::new().await;
    let (person, mut host) = full(&world).await;
    let waiting = tokio::spawn({
        let client = person.client.clone();
        async move { client.post_with_key::<_, RentAnswer>("/v1/leases", &waits("next", 600), "k").await }
    });
    person.client.post::<_, LeaseView>("/v1/leases/box/release", &()).await.unwrap();
    let began = Instant::now();
    host.settle().await;
    let first = granted(waiting.await.unwrap());
    assert!(began.elapsed() < Duration::from_secs(10), "not the end of the hold");
    assert_eq!(first.lease.name, "next");
    assert_eq!(granted(ask(&person, &waits("next", 600), "k").await).lease.id, first.lease.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_survives_a_restart_and_ends_with_the_reason() {
    let mut world = World::new().await;
    let (person, mut host) = full(&world).await;
    let waiting = tokio::spawn({
        let client = person.client.clone();
        async move { client.post_with_key::<_, RentAnswer>("/v1/leases", &waits("next", 600), "k").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.restart().await;
    // Answered as the market stopped, or never: then it was asked again, which post_with_key does.
    let asked = waiting.await.unwrap();
    assert!(matches!(asked, Ok(RentAnswer::Standing(_))), "{asked:?}");
    host.open().await.unwrap();
    host.settle().await;
    let short = ask(&person, &waits("short", 1), "short").await.unwrap_err();
    assert_eq!(short.kind(), Some(Kind::NoMatch), "{short}");
    person.client.post::<_, LeaseView>("/v1/leases/box/release", &()).await.unwrap();
    host.settle().await;
    let first = granted(ask(&person, &waits("next", 600), "k").await);
    let all: Page<LeaseView> = person.client.get("/v1/leases").await.unwrap();
    assert_eq!((first.lease.name.as_str(), all.items.len()), ("next", 2), "one lease for one key");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_granted_to_a_client_that_broke_off() {
    let world = World::new().await;
    let (person, mut host) = full(&world).await;
    let waiting = tokio::spawn({
        let client = person.client.clone();
        async move { client.post_with_key::<_, RentAnswer>("/v1/leases", &waits("gone", 600), "k").await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    waiting.abort();
    tokio::time::sleep(Duration::from_millis(500)).await;
    person.client.post::<_, LeaseView>("/v1/leases/box/release", &()).await.unwrap();
    host.settle().await;
    let all: Page<LeaseView> = person.client.get("/v1/leases?state=running").await.unwrap();
    assert!(all.items.is_empty(), "{all:?}");
    person.rent("other").await;
}
