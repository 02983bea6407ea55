//! The way from a client to a partition, on this computer: over QUIC to the host's own key, through
//! the market's relay, by plain TCP. Across routers: `path_nat`.

use crate::fixture::{SMALL, options};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World};

/// A world whose host is reached over QUIC, and whose market has a relay.
fn world(words: &[&str]) -> Result<World> {
    let mut world = World::start(options(&[])?)?;
    world.kill_market()?;
    world.market_words = ["--relay", "127.0.0.1:0"].map(String::from).into();
    world.start_market()?;
    let words = [&["--templates", "0"][..], words].concat();
    world.add_host_with("host-a", &["left=cpu:1,memory:768MiB".into()], &words)?;
    Ok(world)
}

/// The pass that `alice` has to the lease.
fn pass_file(alice: &Person, lease: &Value) -> Result<PathBuf> {
    let id = lease["id"].as_str().context("id")?;
    let found = Command::new("find").arg(alice.home()).args(["-path", &format!("*{id}/pass.json")]).output()?;
    Ok(String::from_utf8(found.stdout)?.lines().next().context("a pass is kept")?.into())
}

/// Has `alice` know another line on how the host is reached.
fn say_reach(alice: &Person, lease: &Value, change: impl Fn(&str) -> String) -> Result<()> {
    let file = pass_file(alice, lease)?;
    let mut pass: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let dial = change(pass["dial"].as_str().context("dial")?);
    pass["dial"] = json!(dial);
    Ok(fs::write(file, serde_json::to_vec(&pass)?)?)
}

/// TCP ports on which a process listens, from what the kernel says of its descriptors.
fn listens(pid: u32) -> Result<Vec<String>> {
    let own: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))?
        .flatten()
        .filter_map(|fd| {
            Some(fs::read_link(fd.path()).ok()?.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').into())
        })
        .collect();
    let table = fs::read_to_string("/proc/net/tcp")? + &fs::read_to_string("/proc/net/tcp6")?;
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // The fourth word is the state, 0A is listening; the tenth is the socket's number.
    let listening = lines.filter(|words| words.len() > 9 && words[3] == "0A" && own.iter().any(|o| o == words[9]));
    Ok(listening.map(|words| words[1].to_owned()).collect())
}

#[test]
fn a_partition_is_entered_over_quic_and_no_tcp_port_is_open() -> Result<()> {
    let mut world = world(&[])?;
    let alice = world.person("alice")?;
    let lease = alice.rent("box", "linux-minimal", &SMALL)?;
    let agent = world.hosts[0].agent_pid().context("the agent runs")?;
    ensure!(listens(agent)?.is_empty(), "the agent listens at {:?}", listens(agent)?);

    let ran = alice.run(&["-v", "ssh", "box", "--", "echo hi; exit 7"])?;
    ensure!(ran.code == 7 && ran.stdout == "hi\n", "{ran:?}");
    ensure!(ran.stderr.contains("reached over QUIC, directly, at 127.0.0.1:"), "{ran:?}");

    // Bytes arrive whole, in both directions, and after the client's end of input.
    let file = world.dir().join("input");
    let bytes: Vec<u8> = (0u32..3 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(&file, &bytes)?;
    let echoed = alice.command(&["ssh", "box", "--", "cat"]).stdin(fs::File::open(&file)?).output()?;
    ensure!(echoed.status.success() && echoed.stdout == bytes, "{} bytes came back", echoed.stdout.len());

    // What other programs do: one line in their configuration, and `sublet proxy` by hand.
    let config = world.dir().join("ssh_config");
    fs::write(&config, alice.run(&["ssh-config"])?.ok()?.stdout)?;
    let plain = |words: &[&str]| {
        let surroundings = alice.command(&[]);
        let mut ssh = Command::new("ssh");
        ssh.args(words).stdin(Stdio::null());
        ssh.envs(surroundings.get_envs().filter_map(|(name, value)| Some((name, value?))));
        ssh.output()
    };
    let done = plain(&["-F", &config.to_string_lossy(), "box.sublet", "echo plain"])?;
    ensure!(done.stdout == b"plain\n", "{done:?}");
    // As who is not let in, but by the host itself.
    let program = env!("CARGO_BIN_EXE_sublet");
    let by_hand =
        ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
    let proxy = format!("ProxyCommand={program} proxy box");
    let id = lease["id"].as_str().context("id")?;
    let done = plain(&[&by_hand[..], &["-o", &proxy, id, "true"]].concat())?;
    let words = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.code() == Some(255) && words.contains("Permission denied"), "{words}");

    // Market and relay are away: the direct way is there all the same.
    world.kill_market()?;
    let ran = alice.run(&["-v", "ssh", "box", "--", "echo still"])?;
    ensure!(ran.stdout == "still\n" && ran.stderr.contains("directly"), "{ran:?}");
    world.start_market()?;
    alice.run(&["release", "box"])?.ok()?;
    Ok(())
}

#[test]
fn a_client_takes_the_relay_or_tcp_where_nothing_else_leads_there() -> Result<()> {
    let world = world(&["--ssh-listen", "127.0.0.1:0"])?;
    let alice = world.person("alice")?;
    let lease = alice.rent("box", "linux-minimal", &SMALL)?;
    let pass: Value = serde_json::from_slice(&fs::read(pass_file(&alice, &lease)?)?)?;
    ensure!(pass["dial"].as_str().context("dial")?.contains(";relay;tcp=127.0.0.1:"), "{pass}");

    let tcp = |dial: &str| dial.split("tcp=").nth(1).unwrap_or_default().to_owned();
    // Nothing answers at port 9; the relay is not named.
    say_reach(&alice, &lease, |dial| format!("quic=127.0.0.1:9;tcp={}", tcp(dial)))?;
    let ran = alice.run(&["-v", "ssh", "box", "--", "echo tcp"])?;
    ensure!(ran.stdout == "tcp\n" && ran.stderr.contains("reached by TCP, at 127.0.0.1:"), "{ran:?}");

    say_reach(&alice, &lease, |_| "quic=;relay".into())?;
    let ran = eventually("the host is at the relay", PATIENCE, || {
        let ran = alice.run(&["-v", "ssh", "box", "--", "echo relayed"])?;
        Ok((ran.code == 0).then_some(ran))
    })?;
    ensure!(ran.stdout == "relayed\n" && ran.stderr.contains("through the relay https://127.0.0.1:"), "{ran:?}");

    // Who has no token for it is not served by the relay, and is told what was tried.
    let file = pass_file(&alice, &lease)?;
    let mut pass: Value = serde_json::from_slice(&fs::read(&file)?)?;
    pass["relay"]["pass"]["token"] = json!("lease.9.00");
    fs::write(&file, serde_json::to_vec(&pass)?)?;
    let ran = alice.run(&["ssh", "box", "--", "true"])?;
    ensure!(ran.code == 255 && ran.stderr.contains("through the relay"), "{ran:?}");

    alice.run(&["release", "box"])?.ok()?;
    Ok(())
}
