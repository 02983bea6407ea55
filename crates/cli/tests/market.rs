//! The program against a real market that it serves itself: from `market init` to a search that
//! finds nothing, and says why.

use assert_cmd::Command;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// A market in a folder of its own, served by a process of its own; gone when dropped.
struct World {
    temp: tempfile::TempDir,
    server: Child,
    url: String,
    token: String,
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let market = temp.path().join("market");
        let program = assert_cmd::cargo::cargo_bin("sublet");
        let init = bare().args(["market", "init"]).arg(&market).output().unwrap();
        let said = String::from_utf8_lossy(&init.stderr);
        assert!(init.status.success() && said.contains("not shown again"), "{said}");
        let token = String::from_utf8(init.stdout).unwrap().trim().to_string();
        let mut server = std::process::Command::new(program)
            .args(["market", "serve", "--listen", "127.0.0.1:0"])
            .arg(&market)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listening at")).expect("the market starts");
        let url = line.split_once("listening at ").unwrap().1.split(',').next().unwrap().trim().to_string();
        std::thread::spawn(move || lines.count());
        Self { temp, server, url, token }
    }

    fn home(&self) -> PathBuf {
        self.temp.path().join("home")
    }

    fn sublet(&self, arguments: &[&str]) -> std::process::Output {
        bare().env("SUBLET_CONFIG", self.home()).args(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let out = self.sublet(&[&["-o", "json"], arguments].concat());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {said}"))
    }

    fn login(&self, context: &str, token: &str) {
        let mut command = bare();
        command.env("SUBLET_CONFIG", self.home()).args(["login", &self.url, "--token-stdin", "--context", context]);
        command.write_stdin(format!("{token}\n")).assert().success();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn bare() -> Command {
    let mut command = Command::cargo_bin("sublet").unwrap();
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SUBLET_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").timeout(Duration::from_secs(120));
    command
}

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
