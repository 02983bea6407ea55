//! The description of the API: valid, complete, and what the market really does.

use crate::world::{Answer, World, http};
use reqwest::Method;
use serde_json::Value;

async fn description(world: &World) -> Value {
    let answer = world.send(Method::GET, "/v1/openapi.json", None, None).await;
    assert_eq!((answer.status.as_u16(), answer.headers["content-type"].to_str().unwrap()), (200, "application/json"));
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_that_is_described_is_there_and_asks_who_asks() {
    let world = World::new().await;
    let api = description(&world).await;
    assert_eq!(api["openapi"], "3.1.0");
    let mut count = 0;
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            count += 1;
            let concrete = path.replace("{partition}", "part_00000000000000000000000005");
            let concrete = concrete.replace("{host}", "host_00000000000000000000000005");
            let concrete = concrete.split('{').next().unwrap().to_owned()
                + &concrete.split_once('}').map_or(String::new(), |(_, rest)| format!("x{rest}"));
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = world.send(method.clone(), &concrete, None, None).await;
            let open = operation["security"].as_array().is_some_and(|s| s.contains(&serde_json::json!({})));
            match open {
                // No token is needed: whatever is wrong, it is not that.
                true => assert!(answer.status.is_success() || answer.problem().status < 500, "{method} {path}"),
                false => assert_eq!(answer.problem().status, 401, "{method} {path}: {}", answer.body),
            }
        }
    }
    assert!(count >= 30, "{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_named_and_safe() {
    let world = World::new().await;
    for path in ["/healthz", "/v1/whoami", "/nowhere"] {
        let answer = Answer::of(http().get(format!("{}{path}", world.base)).send().await.unwrap()).await;
        assert!(answer.headers["x-request-id"].to_str().unwrap().starts_with("req_"), "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
    }
    let (first, second) =
        (world.send(Method::GET, "/x", None, None).await, world.send(Method::GET, "/x", None, None).await);
    assert_ne!(first.problem().request_id, second.problem().request_id);
}
