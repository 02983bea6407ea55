//! The program against a real market that it serves itself: from `market init` to a search that
//! finds nothing, and says why.

mod world;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use world::World;

#[test]
fn from_a_new_market_to_a_search_that_says_why_nothing_fits() {
    let world = World::new();
    world.login("operator", &world.token);
    let config = world.home().join("config.toml");
    assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
    let who = world.json(&["whoami"]);
    assert!(who["roles"].as_array().unwrap().contains(&"operator".into()), "{who}");

    let account = world.json(&["account", "create", "physics"]);
    assert_eq!(account["name"], "physics");
    let again = world.sublet(&["account", "create", "physics"]);
    assert_eq!(again.status.code(), Some(5), "{}", String::from_utf8_lossy(&again.stderr));
    let member = world.json(&["user", "add", "physics", "ada", "--role", "client", "--role", "lender"]);
    let token = world.json(&["token", "create", "laptop", "--member", member["id"].as_str().unwrap()]);
    let secret = token["secret"].as_str().unwrap();

    world.login("ada", secret);
    assert_eq!(world.json(&["whoami"])["account_name"], "physics");
    let nothing = world.sublet(&["search", "--cpu", "2", "--os", "debian"]);
    let said = String::from_utf8(nothing.stderr).unwrap();
    assert_eq!((nothing.status.code(), said.contains("nothing fits")), (Some(6), true), "{said}");
    let refused = world.sublet(&["rent", "--os", "debian", "--no-wait"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    let lent = "  nothing fits: nobody lends a partition at the moment\n";
    assert_eq!((refused.status.code(), said.contains(lent)), (Some(6), true), "{said}");
    assert_eq!(world.sublet(&["lease", "show", "absent"]).status.code(), Some(3));
    assert_eq!(world.sublet(&["account", "create", "mine"]).status.code(), Some(4), "a client makes no accounts");
    assert_eq!(world.json(&["lease", "list", "--all"]), serde_json::json!([]));
    assert_eq!(world.json(&["statement"])["lines"], serde_json::json!([]));
    assert!(world.json(&["host", "token"])["secret"].as_str().unwrap().starts_with("sublet_join_"));
    assert_eq!(world.json(&["host", "list"]), serde_json::json!([]));

    let audit = world.json(&["--context", "operator", "admin", "audit"]);
    assert!(!audit.as_array().unwrap().is_empty(), "{audit}");
    let revoke = ["--context", "operator", "token", "revoke", token["id"].as_str().unwrap()];
    assert!(world.sublet(&revoke).status.success());
    assert_eq!(world.sublet(&["whoami"]).status.code(), Some(4), "a revoked token opens nothing");
    world.sublet(&["context", "remove", "ada"]);
    assert_eq!(world.json(&["context", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_market_ends_when_it_is_told_to() {
    let mut world = World::new();
    let pid = world.server.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = world.server.try_wait().unwrap() {
            break status;
        }
        assert!(std::time::Instant::now() < until, "the market did not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
}
