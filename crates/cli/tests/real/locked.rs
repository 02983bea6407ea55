//! While leased, the allocation can't be changed: not by the API, not in the database, not on the
//! host.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use sublet_testing::World;
use sublet_testing::world::{PATIENCE, eventually};

fn sqlite3(file: &std::path::Path, sql: &str) -> Result<(i32, String)> {
    let out = Command::new("sqlite3").arg(file).arg(sql).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    Ok((out.status.code().unwrap_or(-1), said))
}

/// What the database, the host's record and the machine itself say the partition has.
fn everywhere(world: &World, partition: &str) -> Result<(String, String, Vec<String>)> {
    let of = format!("select * from allocations where partition = '{partition}' order by generation, revision");
    let market = sqlite3(&world.database(), &of)?.1;
    let host = sqlite3(&world.hosts[0].state.join("host.sqlite"), "select * from allocations order by rowid")?.1;
    let machine = world.machines().first().context("it runs")?.1.clone();
    let words: Vec<String> = machine.split_whitespace().map(String::from).collect();
    let size = words.windows(2).filter(|w| ["-m", "-smp"].contains(&w[0].as_str())).map(|w| w.join(" ")).collect();
    Ok((market, host, size))
}

/// Asks the machine's own monitor. It talks to one at a time: the agent must be away.
fn monitor(world: &World, command: &str) -> Result<Value> {
    let run = world.hosts[0].state.join("run");
    let sockets = std::fs::read_dir(&run)?.map(|entry| Ok(entry?.path().join("qmp.sock")));
    let sockets: Vec<PathBuf> = sockets.collect::<std::io::Result<_>>()?;
    let socket = sockets.iter().find_map(|path| UnixStream::connect(path).ok()).context("a machine's monitor")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(socket.try_clone()?).lines();
    let mut ask = |line: &str| -> Result<Value> {
        (&socket).write_all(format!("{{\"execute\": \"{line}\"}}\n").as_bytes())?;
        loop {
            let answer: Value = serde_json::from_str(&lines.next().context("an answer")??)?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
        }
    };
    ask("qmp_capabilities")?;
    ask(command)
}

#[test]
fn a_held_allocation_is_refused_everywhere_and_unchanged() -> Result<()> {
    let mut world = world()?;
    let (alice, owner) = (world.person("alice")?, world.owner("host-a")?);
    let lease = alice.rent("box", "linux-minimal", &SMALL)?;
    let partition = lease["partition"].as_str().context("a lease names its partition")?.to_string();
    let before = everywhere(&world, &partition)?;
    ensure!(before.2.len() == 2, "memory and vcpus stand in the machine's own words: {before:?}");

    let path = format!("/v1/partitions/{partition}/allocation");
    let more = r#"{"resources":{"cpu":500,"memory":128,"disk":0}}"#;
    for person in [&owner, &world.operator()] {
        let (status, body) = person.curl("PUT", &path, Some(more))?;
        let problem: Value = serde_json::from_str(&body)?;
        ensure!(status == 423 || status == 409, "{status} {body}");
        ensure!(problem["type"] == "urn:sublet:problem:locked", "{body}");
    }

    let tampering = [
        format!("update allocations set memory_mib = 128 where partition = '{partition}'"),
        format!("delete from allocations where partition = '{partition}'"),
        format!(
            "insert into allocations select * from (select * from allocations where partition = '{partition}' \
             order by generation desc, revision desc limit 1) where true on conflict do update set memory_mib = 1"
        ),
    ];
    for sql in &tampering {
        let (code, said) = sqlite3(&world.database(), sql)?;
        ensure!(code != 0 && !said.trim().is_empty(), "{sql}: {code} {said}");
    }
    for sql in ["update allocations set memory_mib = 1", "delete from allocations"] {
        let (code, said) = sqlite3(&world.hosts[0].state.join("host.sqlite"), sql)?;
        ensure!(code != 0 && !said.trim().is_empty(), "{sql}: {code} {said}");
    }

    // The owner may declare other bounds; what is held stays as it is.
    let state = world.hosts[0].state.to_string_lossy().into_owned();
    let lend = ["host", "lend", "--state", &state, "--keep", "0cpu,1GiB", "--emulated", "--partition"];
    let _ = owner
        .run(&[&lend[..], &["left=cpu:0.5,memory:128MiB", "--partition", "right=cpu:0.5,memory:128MiB"]].concat())?;
    std::thread::sleep(std::time::Duration::from_secs(3));

    ensure!(everywhere(&world, &partition)? == before, "{:?}\n{before:?}", everywhere(&world, &partition)?);
    world.kill_agent(0)?;
    let memory = monitor(&world, "query-memory-size-summary")?["base-memory"].as_i64();
    ensure!(memory == Some(768 << 20), "{memory:?} bytes in the monitor's own words");
    let cpus = monitor(&world, "query-cpus-fast")?.as_array().map(Vec::len);
    ensure!(cpus == Some(1), "{cpus:?} processors in the monitor's own words");
    world.start_agent(0)?;
    eventually("the agent adopted the partition", PATIENCE, || Ok(alice.inside("box", "true")?.ok().ok()))?;

    let inside = alice.inside("box", "nproc; awk '/MemTotal/ {print $2}' /proc/meminfo")?.ok()?.stdout;
    let memory_kib: i64 = inside.lines().nth(1).context("two lines")?.trim().parse()?;
    ensure!(inside.starts_with("1\n") && (650_000..=786_432).contains(&memory_kib), "{inside}");
    Ok(())
}
