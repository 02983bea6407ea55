//! While leased, the allocation can't be changed: not by the API, not in the database, not on the
//! host.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Command;
use sublet_testing::World;

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

#[test]
fn a_held_allocation_is_refused_everywhere_and_unchanged() -> Result<()> {
    let world = world()?;
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
    let inside = alice.inside("box", "nproc; awk '/MemTotal/ {print $2}' /proc/meminfo")?.ok()?.stdout;
    let memory_kib: i64 = inside.lines().nth(1).context("two lines")?.trim().parse()?;
    ensure!(inside.starts_with("1\n") && (650_000..=786_432).contains(&memory_kib), "{inside}");
    Ok(())
}
