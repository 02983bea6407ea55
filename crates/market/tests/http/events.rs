//! What happens, as it is told to those whom it concerns.

use crate::world::{Person, World};
use std::time::Duration;
use sublet_model::account::Role;
use sublet_wire::api::{Event, LeaseView, NewToken, RESET, TokenSecret};
use sublet_wire::client::Listening;
use sublet_wire::problem::Kind;

async fn listening(person: &Person, last: Option<&str>) -> Listening {
    person.client.listen(last).await.unwrap()
}

/// The next events, up to the first of a kind: their ids and what they say.
async fn up_to(listening: &mut Listening, what: &str) -> Vec<(String, Event)> {
    let mut heard = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), listening.next()).await;
        let next = next.unwrap_or_else(|_| panic!("no {what} after {heard:?}")).unwrap();
        let event: Event = serde_json::from_str(&next.data).unwrap();
        assert_eq!(event.what, next.event);
        let is_last = event.what == what;
        heard.push((next.id, event));
        if is_last {
            return heard;
        }
    }
}

fn words(heard: &[(String, Event)]) -> Vec<&str> {
    heard.iter().map(|(_, event)| event.what.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_told_to_both_its_sides_and_to_nobody_else() {
    let world = World::new().await;
    let (lender, client) =
        (world.person("owner", &[Role::Lender]).await, world.person("physics", &[Role::Client]).await);
    let stranger = world.person("stranger", &[Role::Client, Role::Lender]).await;
    world.image().await;
    let mut host = world.host(&lender, "desk", &[2]).await;
    let mut at_client = listening(&client, None).await;
    let mut at_lender = listening(&lender, None).await;
    let mut at_stranger = listening(&stranger, None).await;

    let id = client.rent("box").await.lease.id;
    host.settle().await;
    let ready = up_to(&mut at_client, "ready").await;
    assert_eq!(words(&ready), ["granted", "ready"]);
    assert!(ready.iter().all(|(_, e)| e.lease == Some(id) && e.name.as_deref() == Some("box")), "{ready:?}");
    let _: LeaseView = client.client.post("/v1/leases/box/release", &()).await.unwrap();
    host.settle().await;
    let at_the_end = up_to(&mut at_client, "billed").await;
    assert_eq!(words(&at_the_end), ["stopped", "ended", "billed"]);

    let lent = up_to(&mut at_lender, "billed").await;
    assert_eq!(words(&lent), ["granted", "ready", "stopped", "ended", "billed"]);
    assert!(lent.iter().all(|(_, e)| e.lease == Some(id) && e.name.is_none()), "what it is called is the client's own");

    // Whoever was away hears what came since, and nothing twice.
    let mut again = listening(&client, Some(&ready[1].0)).await;
    assert_eq!(up_to(&mut again, "billed").await, at_the_end);
    let mut from_nowhere = listening(&client, Some("7-7")).await;
    assert_eq!(from_nowhere.next().await.unwrap().event, RESET);

    let nothing = tokio::time::timeout(Duration::from_millis(300), at_stranger.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_market_that_began_again_says_that_something_may_have_been_missed() {
    let mut world = World::new().await;
    let lender = world.person("owner", &[Role::Lender]).await;
    let client = world.person("physics", &[Role::Client]).await;
    world.image().await;
    let _host = world.host(&lender, "desk", &[2]).await;
    let mut before = listening(&client, None).await;
    client.rent("box").await;
    let last = up_to(&mut before, "granted").await.remove(0).0;
    world.restart().await;
    before.next().await.unwrap_err();
    let client = world.member(client.account, "second", &[Role::Client]).await;
    assert_eq!(listening(&client, Some(&last)).await.next().await.unwrap().event, RESET);
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_ends_with_the_token() {
    let world = World::new().await;
    let client = world.person("physics", &[Role::Client]).await;
    let new = NewToken { member: Some(client.member), name: "ear".into(), expires_in: None, roles: None };
    let token: TokenSecret = world.operator.client.post("/v1/tokens", &new).await.unwrap();
    let ear = client.client.with_token(token.secret);
    let mut listening = ear.listen(None).await.unwrap();
    let _: serde_json::Value = world.operator.client.delete(&format!("/v1/tokens/{}", token.id)).await.unwrap();
    // Noticed with the next line, whether it is about something or not.
    let ended = tokio::time::timeout(Duration::from_secs(30), listening.next()).await.expect("it ends");
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(ear.listen(None).await.err().and_then(|error| error.kind()), Some(Kind::Unauthenticated));
}
