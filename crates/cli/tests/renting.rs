//! Several at once, waiting in line and only looking, as somebody at a shell meets them. The market
//! is real; its host is played by hand, over the host's own protocol, so that nothing has to boot.

#[allow(dead_code, reason = "shared with the market's tests")]
#[path = "../../market/tests/http/fake_host.rs"]
mod fake_host;
#[path = "../../market/tests/http/manifest.rs"]
mod manifest;
mod world;

use fake_host::FakeHost;
use manifest::manifest;
use serde_json::Value;
use std::time::{Duration, Instant};
use sublet_wire::api::{ImageView, NewImage};
use sublet_wire::client::Client;
use tokio_util::sync::CancellationToken;
use world::{World, bare};

const NEEDS: [&str; 3] = ["cpu>=1 memory>=256MiB emulated", "--for", "1h"];

/// A host that does at once what it is told, until it is dropped.
struct Lent {
    stop: CancellationToken,
    host: Option<std::thread::JoinHandle<()>>,
}

impl Lent {
    /// Joins with a token and lends partitions of so many cores each.
    fn new(world: &World, token: &str, cores: &'static [i64]) -> Self {
        let stop = CancellationToken::new();
        let (stopped, url, token) = (stop.clone(), world.url.clone(), token.to_owned());
        let (told, knows) = std::sync::mpsc::channel();
        let host = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::new(&url, Some(token), None).unwrap();
                let mut host = FakeHost::join(&client, "attic", cores).await.unwrap();
                host.settle().await;
                told.send(()).unwrap();
                while !stopped.is_cancelled() {
                    tokio::select! {
                        synced = host.sync() => drop(synced.unwrap()),
                        () = stopped.cancelled() => {}
                    }
                }
            });
        });
        knows.recv_timeout(Duration::from_secs(60)).expect("the host joins");
        Self { stop, host: Some(host) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.host.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()), "the host failed");
    }
}

fn publish(world: &World) {
    let client = Client::new(&world.url, Some(world.token.clone()), None).unwrap();
    let new = NewImage { manifest: manifest("1"), depot: "http://127.0.0.1:7402".into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client.post::<_, ImageView>("/v1/images", &new)).unwrap();
}

/// Somebody with an account of this name, logged in under it; and its token.
fn person(world: &World, name: &str, role: &str) {
    let account = world.json(&["--context", "operator", "account", "create", name]);
    assert_eq!(account["name"], name, "{account}");
    if role == "client" {
        let reference = format!("first-{name}");
        world.json(&["--context", "operator", "account", "deposit", name, "1000", "--ref", &reference]);
    }
    let member = world.json(&["--context", "operator", "user", "add", name, "only", "--role", role]);
    let id = member["id"].as_str().unwrap();
    let token = world.json(&["--context", "operator", "token", "create", "shell", "--member", id]);
    world.login(name, token["secret"].as_str().unwrap());
}

/// A market with two partitions to rent, and a client who is logged in.
fn market() -> (World, Lent) {
    sublet_wire::tls::install_provider();
    let world = World::new();
    world.login("operator", &world.token);
    publish(&world);
    person(&world, "lender", "lender");
    let token = world.json(&["--context", "lender", "host", "token"]);
    let secret = token["secret"].as_str().unwrap().split('@').next().unwrap();
    let lent = Lent::new(&world, secret, &[2, 2]);
    person(&world, "client", "client");
    (world, lent)
}

fn rent(more: &[&str]) -> Vec<String> {
    ["rent"].iter().chain(&NEEDS).chain(more).map(ToString::to_string).collect()
}

fn exits(world: &World, arguments: &[String]) -> (i32, String, String) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let out = world.sublet(&arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn leases(world: &World) -> Vec<Value> {
    world.json(&["lease", "list"]).as_array().unwrap().clone()
}

#[test]
fn all_of_several_or_none_and_looking_takes_nothing() {
    let (world, _lent) = market();
    let json = |more: &[&str]| {
        let arguments: Vec<String> = rent(more);
        world.json(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let would = json(&["--count", "2", "--name", "box", "--dry-run"]);
    assert_eq!(would["would"].as_array().map(Vec::len), Some(2), "{would}");
    let (code, said, _) = exits(&world, &rent(&["--count", "2", "--dry-run"]));
    assert!(code == 0 && said.contains("partition") && said.contains("in all: "), "{said}");
    assert_eq!(leases(&world), [] as [Value; 0], "looking takes nothing");

    let (code, _, said) = exits(&world, &rent(&["--count", "3"]));
    assert!(code == 6 && said.contains("all or none, but only 2 fit"), "exit {code}: {said}");
    assert_eq!(leases(&world), [] as [Value; 0], "all or none");
    let (code, _, said) = exits(&world, &rent(&["--count", "3", "--dry-run"]));
    assert_eq!(code, 6, "{said}");

    let both = json(&["--count", "2", "--name", "box"]);
    let both = both.as_array().expect("a list of two");
    assert_eq!(both.iter().filter(|lease| lease["state"]["state"] == "active").count(), 2, "ready: {both:?}");
    assert_ne!(both[0]["partition"], both[1]["partition"]);
    assert_ne!(both[0]["name"], both[1]["name"]);
    for lease in both {
        let name = lease["name"].as_str().unwrap();
        assert!(name.starts_with("box"), "{name}");
        assert!(world.sublet(&["release", name]).status.success(), "{name} is given back by its name");
    }
}

#[test]
fn whoever_waits_gets_what_comes_free_and_whoever_waits_in_vain_is_told() {
    let (world, _lent) = market();
    let (code, _, said) = exits(&world, &rent(&["--count", "2", "--name", "first"]));
    assert_eq!(code, 0, "{said}");
    let held: Vec<String> = leases(&world).iter().map(|lease| lease["name"].as_str().unwrap().into()).collect();
    assert_eq!(held.len(), 2);

    let (code, _, said) = exits(&world, &rent(&[]));
    assert_eq!(code, 6, "who does not wait is told at once: {said}");
    let began = Instant::now();
    let (code, _, said) = exits(&world, &rent(&["--wait", "1s"]));
    assert!(code == 124 && said.contains("came free within"), "exit {code}: {said}");
    assert!(began.elapsed() >= Duration::from_secs(1), "it stood for as long as it was told to");

    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| exits(&world, &rent(&["--wait", "60s", "--name", "second"])));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!waiting.is_finished(), "nothing is free yet");
        assert!(world.sublet(&["release", &held[0]]).status.success());
        waiting.join().unwrap()
    });
    assert_eq!(waiting.0, 0, "{}", waiting.2);
    assert!(leases(&world).iter().any(|lease| lease["name"] == "second"), "{}", waiting.1);
    let refused = bare().args(["rent", "--dry-run", "--wait", "1s"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "to look and to wait exclude each other");
}

#[test]
fn money_comes_in_is_held_billed_disputed_and_given_back() {
    let (world, _lent) = market();
    let operator = |words: &[&str]| world.json(&[&["--context", "operator"], words].concat());
    let again = operator(&["account", "deposit", "client", "1000", "--ref", "first-client"]);
    assert_eq!(again["number"], 1, "the same reference is the same deposit: {again}");
    let (code, _, said) = exits(
        &world,
        &["--context", "operator", "account", "deposit", "client", "7", "--ref", "first-client"].map(String::from),
    );
    assert!(code == 5 && said.contains("stands for a deposit of 1000"), "exit {code}: {said}");
    let fee = operator(&["admin", "fee", "2.5%"]);
    assert_eq!(fee["permille"], 25);

    let rented: Vec<String> = rent(&["--name", "box", "--max-total", "0.05"]);
    let lease = world.json(&rented.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(lease["paid"], 1800, "two chunks: {lease}");
    let balance = world.json(&["balance"]);
    assert_eq!(balance["held"], lease["held"], "{balance}");
    let (_, shown, _) = exits(&world, &["balance"].map(String::from));
    assert!(shown.contains("can spend:") && shown.contains("EUR"), "{shown}");
    let (code, _, said) = exits(&world, &["extend", "box", "100h"].map(String::from));
    assert!(code == 5 && said.contains("at most"), "more than --max-total: exit {code}: {said}");
    assert!(world.sublet(&["release", "box"]).status.success());

    let dispute = world.json(&["dispute", "open", "box", "--line", "3", "--reason", "unreachable", "no answer"]);
    let id = dispute["id"].as_str().unwrap();
    assert_eq!(operator(&["admin", "dispute", "list"])[0]["id"], id);
    let resolved = operator(&["admin", "dispute", "resolve", id, "--credit", "0.00001", "--note", "it was away"]);
    assert_eq!((&resolved["credited"], &resolved["line"]), (&10.into(), &3.into()), "{resolved}");
    let statement = world.json(&["statement"]);
    assert_eq!(statement["lines"][0]["credited"], 10, "{statement}");
    let earned = world.json(&["--context", "lender", "host", "earnings"]);
    let total = statement["total"].as_i64().unwrap();
    assert_eq!(earned["earned"].as_i64().unwrap() + earned["hosts"][0]["fees"].as_i64().unwrap(), total, "{earned}");
    let (_, told, _) = exits(&world, &["lease", "explain", "box"].map(String::from));
    for what in ["granted", "hold", "ready", "stopped", "charge", "void", "disputed", "resolved", "credit"] {
        assert!(told.contains(what), "{what}: {told}");
    }
    let month = world.json(&["statement", "--month", "1999-01"]);
    assert_eq!(month["lines"], Value::Array(Vec::new()));
    let file = world.home().join("statement.json");
    let file = file.to_str().unwrap();
    for (context, side) in [("client", "client"), ("lender", "lender"), ("operator", "operator")] {
        let out = world.sublet(&["--context", context, "statement", "--side", side, "--export", file]);
        assert!(out.status.success(), "{side}: {}", String::from_utf8_lossy(&out.stderr));
        let out = world.sublet(&["verify", file]);
        assert!(out.status.success(), "{side}: {}", String::from_utf8_lossy(&out.stderr));
    }
    assert_eq!(operator(&["admin", "ledger"])["holds"], true);
    let folder = world.home().parent().unwrap().join("market");
    let offline = world.sublet(&["market", "audit", folder.to_str().unwrap()]);
    assert!(offline.status.success(), "{}", String::from_utf8_lossy(&offline.stderr));

    assert_eq!(operator(&["account", "refund", "client", "900", "--ref", "back"])["cause"], "refund");
    let limit = operator(&["account", "limit", "client", "0.001"]);
    assert_eq!(limit["month_limit"], 1000);
    let (code, _, said) = exits(&world, &rent(&[]));
    assert!(code == 5 && said.contains("limit for a month"), "exit {code}: {said}");
    assert_eq!(operator(&["account", "pays", "client", "afterwards"])["on_account"], true);
    assert_eq!(operator(&["account", "limit", "client", "none"])["spendable"], Value::Null);
    assert_eq!(exits(&world, &rent(&[])).0, 0);
}

#[test]
fn what_happens_is_told_as_it_happens_a_line_an_event() {
    let (world, _lent) = market();
    let mut events = std::process::Command::new(assert_cmd::cargo::cargo_bin("sublet"))
        .env("SUBLET_CONFIG", world.home())
        .args(["-o", "json", "events", "box", "--until", "billed"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufRead::lines(std::io::BufReader::new(events.stderr.take().unwrap()));
    assert!(said.next().unwrap().unwrap().contains("listening"));
    assert_eq!(exits(&world, &rent(&["--name", "other"])).0, 0);
    assert_eq!(exits(&world, &rent(&["--name", "box"])).0, 0);
    assert!(world.sublet(&["release", "box"]).status.success());
    let told = events.wait_with_output().unwrap();
    assert!(told.status.success());
    let told = String::from_utf8(told.stdout).unwrap();
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words: Vec<&str> = told.iter().map(|event| event["what"].as_str().unwrap()).collect();
    assert_eq!(words, ["granted", "ready", "stopped", "ended", "billed"]);
    let gone =
        bare().args(["--market", "http://127.0.0.1:9", "events"]).env("SUBLET_TOKEN", "sublet_x").output().unwrap();
    assert!(!gone.status.success(), "a market that was never there is not waited for");
}
