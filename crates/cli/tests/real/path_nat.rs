//! A host at home behind a router, a client in an office behind another, the market with its relay
//! between them: five network namespaces, made here. Both routers hide who is behind them (nftables,
//! masquerade) and let nothing in that was not asked for.

mod net;

use crate::fixture::{SMALL, depot};
use anyhow::{Context, Result, ensure};
use net::Net;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use sublet_testing::process::Process;
use sublet_testing::world::{PATIENCE, eventually};

const MARKET: &str = "https://203.0.113.1:7400";

/// Somebody who works at one of the places.
struct Person<'a> {
    net: &'a Net,
    place: &'static str,
    home: PathBuf,
}

impl<'a> Person<'a> {
    /// Logs in to the market with this token.
    fn login(net: &'a Net, place: &'static str, home: &Path, token: &str, print: &str) -> Result<Self> {
        fs::create_dir_all(home)?;
        let person = Self { net, place, home: home.into() };
        fs::write(home.join("token"), token)?;
        let mut login = person.command(&["login", MARKET, "--fingerprint", print, "--token-stdin"]);
        done(login.stdin(fs::File::open(home.join("token"))?).output()?)?;
        Ok(person)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.net.at(self.place, env!("CARGO_BIN_EXE_sublet"));
        command.args(words).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.home).stdin(Stdio::null());
        command
    }

    fn json(&self, words: &[&str]) -> Result<Value> {
        let output = done(self.command(&[&["-o", "json"][..], words].concat()).output()?)?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A command in the partition; what was said of the way to it.
    fn enter(&self, line: &str) -> Result<(String, String)> {
        let output = done(self.command(&["-v", "ssh", "box", "--", line]).output()?)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((text(output.stdout), text(output.stderr)))
    }
}

fn done(output: Output) -> Result<Output> {
    ensure!(output.status.success(), "{output:?}");
    Ok(output)
}

fn secret(view: &Value) -> Result<String> {
    Ok(view["secret"].as_str().context("a secret is shown once")?.to_owned())
}

/// Everything that runs at the places.
struct Running {
    _market: Process,
    _depot: Process,
    agent: Process,
}

#[test]
fn a_client_and_a_host_behind_routers_meet_through_the_relay_and_directly() -> Result<()> {
    let Some(net) = Net::make()? else { return Ok(()) };
    let dir = tempfile::Builder::new().prefix("sublet-nat-").tempdir_in("/var/tmp")?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
    let (running, client) = set_up(&net, dir.path())?;

    // Both routers keep one port for one socket, as most do: the relay tells the two how they are
    // seen from outside, and packets sent at the same time open both routers.
    let (out, way) = client.enter("echo in; sleep 8")?;
    println!("routers that keep ports:\n{way}");
    ensure!(out == "in\n" && way.contains("through the relay https://203.0.113.1:7404"), "{way}");
    ensure!(way.contains("directly, at 203.0.113.2:"), "they did not find a direct way: {way}");

    // Both routers choose another port for each connection: nobody can guess it, the relay stays.
    net.masquerade("fully-random")?;
    let (out, way) = client.enter("echo in; sleep 8")?;
    println!("routers that choose ports at random:\n{way}");
    ensure!(out == "in\n" && way.contains("through the relay https://203.0.113.1:7404"), "{way}");
    ensure!(!way.contains("directly"), "{way}");

    // A route between the two, such as a tunnel between home and office has: direct from then on.
    net.route()?;
    let (out, way) = client.enter("echo in; sleep 3")?;
    println!("with a route:\n{way}");
    ensure!(out == "in\n" && way.contains("directly, at 192.168.1.7:"), "{way}");

    done(client.command(&["release", "box"]).output()?)?;
    eventually("the lease has ended", PATIENCE, || {
        Ok((client.json(&["lease", "show", "box"])?["state"]["state"] == "ended").then_some(()))
    })?;
    running.agent.terminate(Duration::from_secs(60))?;
    Ok(())
}

/// Market and relay in between, depot and host at home, a client with a lease in the office.
fn set_up<'a>(net: &'a Net, dir: &Path) -> Result<(Running, Person<'a>)> {
    let program = env!("CARGO_BIN_EXE_sublet");
    let market_dir = dir.join("market");
    let mut init = Command::new(program);
    init.args(["market", "init", "-o", "json", "--listen", "203.0.113.1:7400"]).arg(&market_dir);
    let init: Value = serde_json::from_slice(&done(init.env("XDG_CONFIG_HOME", dir).output()?)?.stdout)?;
    let print = init["fingerprint"].as_str().context("a fingerprint")?.to_owned();
    let mut serve = net.at("market", program);
    serve.args(["market", "serve", "--relay", "203.0.113.1:7404"]).arg(&market_dir);
    let mut market = Process::start("market", &mut serve, dir)?;
    market.wait_for("the relay is at port 7404", PATIENCE)?;
    // The images are at home: how they get there is not what this is about.
    let mut serve = net.at("host", program);
    serve.args(["depot", "serve", "--listen", "127.0.0.1:7402"]).arg(depot()?);
    let mut depot = Process::start("depot", &mut serve, dir)?;
    depot.wait_for("listening", PATIENCE)?;

    let token = init["token"].as_str().context("a token")?;
    let operator = Person::login(net, "host", &dir.join("operator"), token, &print)?;
    operator.json(&["image", "publish", "--depot-url", "http://127.0.0.1:7402"])?;
    let member = |name: &str| -> Result<String> {
        done(operator.command(&["account", "create", name]).output()?)?;
        done(operator.command(&["account", "deposit", name, "100", "--ref", name]).output()?)?;
        let roles = ["user", "add", name, name, "--role", "client", "--role", "lender"];
        let member = operator.json(&roles)?;
        secret(&operator.json(&["token", "create", "test", "--member", member["id"].as_str().context("id")?])?)
    };
    let owner = Person::login(net, "host", &dir.join("owner"), &member("owner")?, &print)?;
    let client = Person::login(net, "client", &dir.join("client"), &member("client")?, &print)?;

    let state = dir.join("state").to_string_lossy().into_owned();
    let token = secret(&owner.json(&["host", "token"])?)?;
    done(owner.command(&["host", "join", MARKET, "--token", &token, "--name", "home", "--state", &state]).output()?)?;
    let lend = ["host", "lend", "--state", &state, "--keep", "0cpu,1GiB", "--emulated", "--price", "cpu=0.1"];
    done(owner.command(&[&lend[..], &["--partition", "left=cpu:1,memory:256MiB"]].concat()).output()?)?;
    let mut run = net.at("host", program);
    run.args(["host", "run", "--accel", "tcg", "--templates", "0", "--stop-partitions", "--state", &state]);
    let mut agent = Process::start("agent", &mut run, dir)?;
    agent.wait_for("through the market's relay", PATIENCE)?;
    let rent = ["rent", "--name", "box", "--os", "linux-minimal", "--emulated", "--for", "1h"];
    eventually("the partition is lent", PATIENCE, || {
        Ok(client.command(&[&rent[..], &SMALL[..]].concat()).output()?.status.success().then_some(()))
    })?;
    Ok((Running { _market: market, _depot: depot, agent }, client))
}
