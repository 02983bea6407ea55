//! The market's disk is lost, and with it what happened since its backup, which was taken while leases came and
//! went: brought back in a new folder, under a host that never stopped, nothing is granted twice, nothing that runs
//! is disturbed, and every bill is the one it was.

use crate::fixture::options;
use crate::money::{verifies, whole};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World};

/// Two for leases that run, a small one for leases that come and go.
const PARTITIONS: [&str; 3] =
    ["left=cpu:900m,memory:512MiB", "right=cpu:900m,memory:512MiB", "small=cpu:100m,memory:128MiB"];
const LARGE: [&str; 4] = ["--cpu", "0.9", "--memory", "256MiB"];

fn query(database: &Path, sql: &str) -> Result<Vec<Vec<String>>> {
    let out = Command::new("sqlite3").args(["-cmd", ".timeout 5000"]).arg(database).arg(sql).output()?;
    ensure!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.lines().map(|line| line.split('|').map(String::from).collect()).collect())
}

fn one(database: &Path, sql: &str) -> Result<String> {
    query(database, sql)?.into_iter().flatten().next().with_context(|| format!("{sql}: no row"))
}

/// What each lease was billed: seconds and micros.
fn charges(database: &Path) -> Result<BTreeMap<String, (String, String)>> {
    let rows = query(database, "select lease, billed_seconds, total_micros from charges")?;
    Ok(rows.into_iter().map(|row| (row[0].clone(), (row[1].clone(), row[2].clone()))).collect())
}

/// Somebody who rents the small partition and gives it back, again and again, whatever the market answers.
struct Churn {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Churn {
    fn start(person: Person) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut rented = 0;
            for n in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let name = format!("short-{n}");
                // Cheap: the large ones are for others.
                let ask = ["rent", "cpu>=0.1 memory>=96MiB price<=1.5/h os=linux-minimal", "--emulated", "--no-wait"];
                let answer = person.run(&[&ask[..], &["--name", &name, "--for", "1h"]].concat());
                rented += u32::from(answer.is_ok_and(|ran| ran.code == 0));
                std::thread::sleep(Duration::from_millis(100 + 500 * (n % 4)));
                let _ = give_back(&person);
            }
            rented
        });
        Self { stop, thread }
    }

    fn end(self) -> Result<u32> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().ok().context("it does not panic")
    }
}

/// All that is held: the market may have gone between a lease and what was asked next, and the host tells of it later.
fn give_back(person: &Person) -> Result<()> {
    for lease in person.json(&["lease", "list"])?.as_array().context("a list")? {
        person.run(&["release", lease["id"].as_str().context("a lease has an id")?])?;
    }
    Ok(())
}

/// Long enough to be seen in a bill.
const USE: Duration = Duration::from_secs(6);

/// What a partition says of itself, by which it is seen to be the same.
fn inside(person: &Person, lease: &str) -> Result<String> {
    Ok(person.inside(lease, "cat /proc/sys/kernel/random/boot_id /tmp/mark")?.ok()?.stdout)
}

fn rent(person: &Person, name: &str) -> Result<Instant> {
    person.rent(name, "linux-minimal", &LARGE)?;
    let ready = Instant::now();
    person.inside(name, &format!("echo {name} > /tmp/mark"))?.ok()?;
    Ok(ready)
}

/// Gives it back, and waits for the bill.
fn release(world: &World, person: &Person, name: &str) -> Result<()> {
    let lease = person.lease(name)?["id"].as_str().context("a lease has an id")?.to_string();
    person.run(&["release", name])?.ok()?;
    eventually("it is billed", PATIENCE, || Ok(charges(&world.database())?.contains_key(&lease).then_some(())))
}

/// The lines of a statement that are settled, by the lease's name.
fn lines(person: &Person) -> Result<BTreeMap<String, Value>> {
    let statement = person.json(&["statement"])?;
    let lines = statement["lines"].as_array().context("lines")?;
    let settled = lines.iter().filter(|line| line["settled"] == true);
    settled.map(|line| Ok((line["name"].as_str().context(line.to_string())?.to_string(), line.clone()))).collect()
}

/// The disk is gone: what it held lies elsewhere, for the test to compare with. A new one is made from the backup,
/// which has the keys, and serves at the same address.
fn lost_and_restored(world: &mut World, backup: &str) -> Result<std::path::PathBuf> {
    world.kill_market()?;
    let lost = world.dir().join("lost");
    fs::rename(world.market_dir(), &lost)?;
    let dir = world.market_dir().to_string_lossy().into_owned();
    // Meanwhile partitions run, and nobody can rent.
    std::thread::sleep(2 * USE);
    let restored = world.operator().json(&["market", "restore", backup, &dir])?;
    ensure!(restored["epoch"].as_i64().is_some_and(|epoch| epoch > 1), "{restored}");
    world.start_market()?;
    Ok(lost.join("market.db"))
}

#[test]
fn a_backup_restored_under_a_host_that_runs_grants_nothing_twice_and_loses_no_charge() -> Result<()> {
    let mut world = World::start(options(&PARTITIONS)?)?;
    let (alice, bob) = (world.person("alice")?, world.person("bob")?);
    let churn = Churn::start(bob.clone());
    let old_ready = rent(&alice, "old")?;
    let brief_ready = rent(&alice, "brief")?;
    std::thread::sleep(USE);

    let backup = world.dir().join("backup.db").to_string_lossy().into_owned();
    let dir = world.market_dir().to_string_lossy().into_owned();
    let copied = world.operator().json(&["market", "backup", "--with-keys", &backup, &dir])?;
    ensure!(copied["leases"].as_i64().is_some_and(|leases| leases >= 2), "{copied}");

    // After the backup: one that it knows ends, one that it does not know comes and goes, another one stays.
    release(&world, &alice, "brief")?;
    let brief_at_most = brief_ready.elapsed().as_secs() as i64;
    rent(&alice, "between")?;
    std::thread::sleep(USE);
    release(&world, &alice, "between")?;
    let new_ready = rent(&alice, "new")?;
    // Longer than from one receipt to the next.
    std::thread::sleep(3 * USE);
    let lease_of = |name: &str| alice.lease(name);
    let (old, new) = (lease_of("old")?, lease_of("new")?);
    let before = [inside(&alice, "old")?, inside(&alice, "new")?];
    let large = |world: &World| {
        let own = [&old["partition"], &new["partition"]].map(|id| format!("guest={}", id.as_str().unwrap_or("-")));
        let mut pids: Vec<u32> = world
            .machines()
            .into_iter()
            .filter(|(_, line)| own.iter().any(|id| line.contains(id)))
            .map(|m| m.0)
            .collect();
        pids.sort_unstable();
        pids
    };
    let machines = large(&world);
    ensure!(machines.len() == 2, "{machines:?}: {old} {new}");

    let lost = lost_and_restored(&mut world, &backup)?;
    let in_backup = one(Path::new(&backup), "select count(*) from leases")?;
    for (name, known) in [("old", &old), ("new", &new)] {
        let again = eventually("its host told of it", PATIENCE, || {
            let shown = alice.run(&["-o", "json", "lease", "show", name])?;
            let lease: Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
            Ok((lease["state"]["state"] == "active" && lease["state"]["silent_since"].is_null()).then_some(lease))
        })?;
        for member in ["id", "generation", "name", "partition"] {
            ensure!(again[member] == known[member], "{member} of {again}, before: {known}");
        }
    }
    ensure!([inside(&alice, "old")?, inside(&alice, "new")?] == before, "both are what they were");
    ensure!(large(&world) == machines, "and were not started anew");

    // Leases come and go as before, each in a generation that was never given.
    let newest = |database: &Path| {
        one(database, "select max(generation) from leases where account = (select id from accounts where name = 'bob')")
    };
    let given: i64 = newest(&lost)?.parse()?;
    eventually("the small partition is rented again", PATIENCE, || {
        Ok((newest(&world.database())?.parse::<i64>()? > given + 1).then_some(()))
    })?;
    let rented = churn.end()?;

    for (name, ready) in [("old", old_ready), ("new", new_ready)] {
        let at_least = ready.elapsed().as_secs() as i64;
        release(&world, &alice, name)?;
        let line = lines(&alice)?.remove(name).context("it has a line")?;
        let (billed, at_most) = (whole(&line, "billed_seconds")?, ready.elapsed().as_secs() as i64 + 3);
        ensure!(
            billed == whole(&line, "receipted_seconds")? && (at_least..=at_most).contains(&billed),
            "{at_least} s: {line}"
        );
    }
    let now = world.database();
    eventually("all is billed", PATIENCE, || {
        let left = one(&now, "select count(*) from leases where id not in (select lease from charges)")?;
        Ok((left == "0").then_some(()))
    })?;
    compare(&charges(&lost)?, &charges(&now)?)?;
    let known: Vec<Vec<String>> = query(&now, "select id from leases")?;
    let granted = query(&lost, "select id from leases")?;
    ensure!(granted.iter().all(|lease| known.contains(lease)), "what was granted is known again");
    let twice = query(&now, "select partition, generation from leases group by 1, 2 having count(*) > 1")?;
    ensure!(twice.is_empty(), "granted twice: {twice:?}");
    let told = one(&now, "select count(*) from audit where action = 'lease.recover'")?;
    let wrong = "select action, detail from audit where action in ('lease.recover.refused', 'receipt.fork', 'lease.recover.unpaid')";
    ensure!(told.parse::<i64>()? >= 2 && query(&now, wrong)?.is_empty(), "{told} {:?}", query(&now, wrong)?);
    world.operator().run(&["market", "audit", &dir])?.ok()?;

    let lines = lines(&alice)?;
    let names: Vec<&str> = lines.keys().map(String::as_str).collect();
    ensure!(names == ["between", "brief", "new", "old"], "{names:?}");
    let used = USE.as_secs() as i64;
    ensure!((used..=brief_at_most).contains(&whole(&lines["brief"], "billed_seconds")?), "{}", lines["brief"]);
    ensure!(whole(&lines["between"], "billed_seconds")? >= used, "{}", lines["between"]);
    for person in [&alice, &bob] {
        verifies(&world, person)?;
    }
    println!(
        "{in_backup} leases in the backup, {} at the loss, {} in the end; {told} told by the host; {rented} short ones \
         rented meanwhile; billed: {}",
        granted.len(),
        known.len(),
        lines
            .iter()
            .map(|(name, line)| format!("{name} {} s", line["charge"]["billed_seconds"]))
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(())
}

/// Every bill of the market that was lost was made again, to the second and the micro.
fn compare(before: &BTreeMap<String, (String, String)>, after: &BTreeMap<String, (String, String)>) -> Result<()> {
    for (lease, bill) in before {
        ensure!(after.get(lease) == Some(bill), "{lease}: billed {bill:?} before, {:?} now", after.get(lease));
    }
    Ok(())
}
