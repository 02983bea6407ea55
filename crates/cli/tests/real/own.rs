//! Partitions of the owner's own beside lent ones: each side's crash moves nothing on the other, and
//! the owner's work needs no market.

use crate::fixture::world_of;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Stdio;
use std::time::Instant;
use sublet_testing::process::signal;
use sublet_testing::world::{PATIENCE, Ran, eventually};
use sublet_testing::{Person, World};

const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";
const COUNT: &str =
    "(n=0; while :; do n=$((n+1)); echo $n > /tmp/count; sleep 0.2; done) < /dev/null > /dev/null 2>&1 &";
const CRASH: &str = "echo c > /proc/sysrq-trigger";

/// The owner of a host, at that computer.
struct Owner {
    person: Person,
    state: String,
}

impl Owner {
    fn of(world: &World) -> Result<Self> {
        let host = world.hosts.first().context("a host")?;
        Ok(Self { person: world.owner(&host.name)?, state: host.state.to_string_lossy().into_owned() })
    }

    fn host(&self, args: &[&str]) -> Result<Ran> {
        self.person.run(&[&["host"], args, &["--state", &self.state]].concat())
    }

    fn enter(&self, line: &str) -> Result<Ran> {
        self.person.run(&["host", "enter", "mine", "--state", &self.state, "--", line])
    }

    fn inside(&self, line: &str) -> Result<String> {
        Ok(self.enter(line)?.ok()?.stdout)
    }

    fn own(&self) -> Result<Value> {
        let all = self.person.json(&["host", "own", "list", "--state", &self.state])?;
        Ok(all[0].clone())
    }

    fn until(&self, stand: &str, starts: u64) -> Result<Value> {
        eventually(&format!("mine is {stand} at start {starts}"), PATIENCE, || {
            let own = self.own()?;
            Ok((own["stand"] == stand && own["starts"] == starts).then_some(own))
        })
    }
}

fn divided() -> Result<(World, Owner)> {
    let world = world_of(&["lent=cpu:0.5,memory:256MiB"])?;
    let owner = Owner::of(&world)?;
    owner.host(&["divide", "--own", "mine=linux-minimal:0.5cpu,256MiB"])?.ok()?;
    owner.until("ready", 1)?;
    Ok((world, owner))
}

/// A counter that goes on, later than `before`.
fn goes_on(what: &str, before: i64, read: impl Fn() -> Result<String>) -> Result<i64> {
    eventually(&format!("the work of {what} goes on"), PATIENCE, || {
        let count: i64 = read()?.trim().parse().unwrap_or(0);
        Ok((count > before).then_some(count))
    })
}

/// Everything that was seen before and has to be seen again.
#[derive(Debug, PartialEq, Eq)]
struct Side {
    boot_id: String,
    machine: u32,
}

fn clients(world: &World, client: &Person, id: &str) -> Result<Side> {
    Ok(Side { boot_id: client.inside("box", BOOT_ID)?.ok()?.stdout, machine: machine(world, id)? })
}

fn owners(world: &World, owner: &Owner, id: &str) -> Result<Side> {
    Ok(Side { boot_id: owner.inside(BOOT_ID)?, machine: machine(world, id)? })
}

/// The process of a partition's machine.
fn machine(world: &World, partition: &str) -> Result<u32> {
    let all = world.machines();
    let found = all.iter().find(|(_, line)| line.contains(&format!("guest={partition}")));
    found.map(|(pid, _)| *pid).with_context(|| format!("no machine of {partition}: {all:?}"))
}

#[test]
fn the_owners_panic_and_a_clients_are_not_each_others() -> Result<()> {
    let (world, owner) = divided()?;
    let alice = world.person("alice")?;
    let lease = alice.rent("box", "linux-minimal", &["--cpu", "0.5", "--memory", "256MiB"])?;
    let lent = lease["partition"].as_str().context("a lease has a partition")?.to_owned();
    let mine = owner.own()?["partition"].as_str().context("an id")?.to_owned();
    alice.inside("box", COUNT)?.ok()?;
    owner.inside(COUNT)?;
    let session = alice.command(&["ssh", "box", "--", "read line; echo still here: $line"]);
    let mut session = { session }.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let client_before = clients(&world, &alice, &lent)?;
    let agent = world.hosts[0].agent_pid();

    // The owner's guest panics: the client's partition, its job and its open session are unmoved.
    let counted = goes_on("the client", 0, || Ok(alice.inside("box", "cat /tmp/count")?.ok()?.stdout))?;
    let first = owners(&world, &owner, &mine)?;
    let begun = Instant::now();
    let _ = owner.enter(CRASH)?;
    owner.until("ready", 2)?;
    println!("the owner's partition was ready again {:.1} s after its panic", begun.elapsed().as_secs_f64());
    let second = owners(&world, &owner, &mine)?;
    ensure!(second.boot_id != first.boot_id && second.machine != first.machine, "it came up anew");
    ensure!(clients(&world, &alice, &lent)? == client_before, "the client's: {client_before:?}");
    goes_on("the client", counted, || Ok(alice.inside("box", "cat /tmp/count")?.ok()?.stdout))?;
    std::io::Write::write_all(&mut session.stdin.take().context("stdin")?, b"indeed\n")?;
    let said = session.wait_with_output()?;
    ensure!(said.stdout == b"still here: indeed\n" && said.status.success(), "{said:?}");
    ensure!(alice.lease("box")?["state"]["state"] == "active");

    // The client's guest panics: the owner's partition and its work are unmoved.
    owner.inside(COUNT)?;
    let counted = goes_on("the owner", 0, || owner.inside("cat /tmp/count"))?;
    let _ = alice.inside("box", CRASH)?;
    let ended = alice.wait_lease("box", "ended")?;
    ensure!(ended["state"]["reason"] == "guest_crashed", "{ended}");
    ensure!(owners(&world, &owner, &mine)? == second, "the owner's: {second:?}");
    goes_on("the owner", counted, || owner.inside("cat /tmp/count"))?;
    ensure!(owner.own()?["starts"] == 2 && world.hosts[0].agent_pid() == agent);

    // Nobody but its owner can have it, and it costs nothing.
    let shown = world.operator().json(&["host", "show", "host-a"])?;
    let declared = shown["partitions"].as_array().and_then(|all| all.iter().find(|p| p["id"] == mine.as_str()));
    let declared = declared.context("the market knows of it")?;
    ensure!(declared["lendable"] == false && declared["lease"].is_null(), "{declared}");
    ensure!(alice.json(&["statement"])?["lines"].as_array().is_some_and(|lines| lines.len() == 1));
    Ok(())
}

#[test]
fn the_owners_work_goes_on_without_market_and_agent() -> Result<()> {
    let (mut world, owner) = divided()?;
    let mine = owner.own()?["partition"].as_str().context("an id")?.to_owned();
    owner.inside(COUNT)?;
    let before = owners(&world, &owner, &mine)?;

    world.kill_market()?;
    ensure!(owners(&world, &owner, &mine)? == before, "it is entered without the market");
    world.kill_agent(0)?;
    let refused = owner.enter("true")?;
    ensure!(refused.code == 1 && refused.stderr.contains("does not run"), "{refused:?}");
    let counted = Instant::now();
    world.start_agent(0)?;
    eventually("the agent adopted it", PATIENCE, || Ok(owner.enter("true")?.ok().ok()))?;
    println!("entered {:.1} s after the agent's start", counted.elapsed().as_secs_f64());
    ensure!(owners(&world, &owner, &mine)? == before, "the very same machine");
    goes_on("the owner", 0, || owner.inside("cat /tmp/count"))?;

    // It comes up without the market, too, after somebody killed its machine.
    signal(before.machine, "KILL");
    owner.until("ready", 2)?;

    let ran = owner.enter("echo out; echo err >&2; exit 7")?;
    ensure!((ran.code, ran.stdout.as_str()) == (7, "out\n") && ran.stderr.contains("err"), "{ran:?}");
    let terminal = owner.person.run(&["host", "enter", "mine", "-t", "--state", &owner.state, "--", "tty"])?;
    ensure!(terminal.ok()?.stdout.contains("/dev/"), "a terminal when it is asked for");
    scp_and_ssh(&world, &owner)?;

    // Stopped it stays down; shut down from inside, too; removed it is gone, and the market hears of it.
    owner.host(&["own", "stop", "mine"])?.ok()?;
    owner.until("down", 2)?;
    let refused = owner.enter("true")?;
    ensure!(refused.code == 1 && refused.stderr.contains("sublet host own start mine"), "{refused:?}");
    owner.host(&["own", "start", "mine"])?.ok()?;
    owner.until("ready", 3)?;
    let _ = owner.enter("poweroff -f")?;
    let down = owner.until("down", 3)?;
    ensure!(down["wish"] == "stop" && down["said"].as_str().is_some_and(|s| s.contains("from inside")), "{down}");
    world.start_market()?;
    owner.host(&["own", "remove", "mine"])?.ok()?;
    eventually("it is gone", PATIENCE, || Ok(owner.own()?.is_null().then_some(())))?;
    let operator = world.operator();
    eventually("the market heard", PATIENCE, || {
        let shown = operator.json(&["host", "show", "host-a"])?;
        Ok(shown["partitions"].as_array().is_some_and(|all| all.len() == 1).then_some(()))
    })?;
    ensure!(world.machines().is_empty() && world.guards().is_empty(), "{:?}", world.machines());
    Ok(())
}

/// Plain tools come in by the lines of `ssh-config`.
fn scp_and_ssh(world: &World, owner: &Owner) -> Result<()> {
    let line = owner.host(&["ssh-config"])?.ok()?.stdout;
    let (config, file) = (world.dir().join("ssh-config"), world.dir().join("file"));
    std::fs::write(&config, line)?;
    std::fs::write(&file, "carried")?;
    let tool = |program: &str, args: &[&str]| -> Result<std::process::Output> {
        let mut command = std::process::Command::new(program);
        command.arg("-F").arg(&config).args(args).stdin(Stdio::null());
        Ok(command.output()?)
    };
    let copied = tool("scp", &[&file.to_string_lossy(), "mine.own:/tmp/file"])?;
    ensure!(copied.status.success(), "{copied:?}");
    let read = tool("ssh", &["mine.own", "cat /tmp/file"])?;
    ensure!(read.stdout == b"carried", "{read:?}");
    Ok(())
}

#[test]
fn what_can_not_be_the_owners_own_is_refused() -> Result<()> {
    let world = world_of(&["lent=cpu:0.5,memory:256MiB"])?;
    let owner = Owner::of(&world)?;
    let refused = |asked: &str, word: &str| -> Result<()> {
        let ran = owner.host(&["divide", "--own", asked])?;
        ensure!(ran.code != 0 && ran.stderr.contains(word), "{asked}: {ran:?}");
        Ok(())
    };
    refused("beos:1cpu,1GiB", "no image beos")?;
    refused("linux-minimal:0.5cpu,900GiB", "is lendable")?;
    refused("linux-minimal:600cpu,256MiB", "hardware threads")?;
    refused("lent=linux-minimal:0.5cpu,256MiB", "here already")?;
    refused("debian:0.5cpu,64MiB", "needs more memory")?;
    refused("linux-minimal", "not such as")?;
    ensure!(owner.own()?.is_null(), "nothing was kept of it");
    let none = owner.enter("true")?;
    ensure!(none.stderr.contains("sublet host own list"), "{none:?}");
    Ok(())
}
