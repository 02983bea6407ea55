//! Partitions that start from a template: at once, and each its own machine.

use crate::fixture::{FULL, SMALL, options};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World};

/// A world whose one host makes templates.
pub fn world(memory: &str) -> Result<World> {
    let mut world = World::start(options(&[])?)?;
    let partitions = ["left", "right"].map(|name| format!("{name}=cpu:1,memory:{memory}"));
    world.add_host_with("host-a", &partitions, &[])?;
    Ok(world)
}

/// The folders of templates that are whole.
pub fn templates(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.hosts[0].state.join("templates")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("template.json").exists()).collect()
}

fn template(world: &World) -> Result<PathBuf> {
    eventually("a template was made", PATIENCE, || {
        Ok(templates(world).into_iter().find(|path| !path.ends_with("making")))
    })
}

/// How a lease was started, as its timeline tells.
pub fn started(person: &Person, lease: &str) -> Result<String> {
    let shown = person.lease(lease)?;
    let how = shown["timeline"]["started"].as_str().with_context(|| shown.to_string())?.to_owned();
    let words = person.run(&["lease", "show", lease])?.ok()?.stdout;
    ensure!(words.lines().any(|line| line.contains("booted") && line.ends_with(&how)), "{words}");
    println!("{lease}: {how}; {}", shown["timeline"]);
    Ok(how)
}

/// What has to differ between any two machines.
fn marks(person: &Person, lease: &str) -> Result<Vec<String>> {
    let line = "cat /etc/machine-id /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid; \
                head -c 32 /dev/urandom | sha256sum; hostname";
    let lines: Vec<String> = person.inside(lease, line)?.ok()?.stdout.lines().map(str::to_owned).collect();
    ensure!(lines.len() == 5 && lines[4] == lease && lines.iter().all(|line| !line.is_empty()), "{lines:?}");
    Ok(lines)
}

fn check_clock(person: &Person, lease: &str) -> Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs() as i64);
    let before = now()?;
    let inside: i64 = person.inside(lease, "date +%s")?.ok()?.stdout.trim().parse()?;
    ensure!((before - 1..=now()? + 1).contains(&inside), "{inside} inside, {before} outside");
    Ok(())
}

pub fn ready_micros(lease: &Value) -> Result<i64> {
    let at = |name: &str| lease["timeline"][name].as_i64().with_context(|| format!("{name} in {lease}"));
    Ok(at("ready_at")? - at("granted_at")?)
}

fn check_two_clones(world: &World, os: &str, size: &[&str]) -> Result<Person> {
    let alice = world.person("alice")?;
    alice.rent("first", os, size)?;
    ensure!(started(&alice, "first")?.starts_with("cold: there is no template"), "{}", alice.lease("first")?);
    let made = template(world)?;
    for file in ["memory", "devices"] {
        let mode = fs::metadata(made.join(file))?.permissions().mode();
        ensure!(mode & 0o222 == 0, "{file} of a template can be written: {mode:o}");
    }
    alice.rent("second", os, size)?;
    ensure!(started(&alice, "second")?.starts_with("warm"), "{}", alice.lease("second")?);
    let cold = marks(&alice, "first")?;
    alice.run(&["release", "first"])?.ok()?;
    alice.wait_lease("first", "ended")?;
    alice.rent("third", os, size)?;
    ensure!(started(&alice, "third")?.starts_with("warm"), "{}", alice.lease("third")?);

    let all = [cold, marks(&alice, "second")?, marks(&alice, "third")?];
    for at in 0..5 {
        let mut seen: Vec<&String> = all.iter().map(|marks| &marks[at]).collect();
        seen.sort();
        seen.dedup();
        ensure!(seen.len() == 3, "machines share {seen:?}: {all:?}");
    }
    for lease in ["second", "third"] {
        check_clock(&alice, lease)?;
        let inside = alice.inside(lease, "seq 1 20000 | sha256sum")?.ok()?.stdout;
        ensure!(inside.starts_with("f6351f5e"), "{inside}");
        let boot = alice.inside(lease, "cat /proc/sys/kernel/random/boot_id")?.ok()?.stdout;
        ensure!(boot == alice.inside(lease, "cat /proc/sys/kernel/random/boot_id")?.ok()?.stdout, "it stays the same");
    }
    let (cold, warm) = (ready_micros(&alice.lease("first")?)?, ready_micros(&alice.lease("third")?)?);
    println!("{os}: cold {cold} us, warm {warm} us from the grant to ready");
    ensure!(warm * 2 < cold, "{warm} us warm, {cold} us cold");
    Ok(alice)
}

#[test]
fn the_second_lease_of_an_image_starts_at_once_and_is_a_machine_of_its_own() -> Result<()> {
    let world = world("512MiB")?;
    let alice = check_two_clones(&world, "linux-minimal", &SMALL)?;

    // A byte of it changes: nobody starts from it, that is said, and another one is made.
    alice.run(&["release", "second"])?.ok()?;
    alice.wait_lease("second", "ended")?;
    let memory = template(&world)?.join("memory");
    fs::set_permissions(&memory, fs::Permissions::from_mode(0o644))?;
    let file = fs::File::options().read(true).write(true).open(&memory)?;
    let mut byte = [0u8];
    file.read_exact_at(&mut byte, 20 << 20)?;
    file.write_all_at(&[byte[0] ^ 1], 20 << 20)?;
    alice.rent("fourth", "linux-minimal", &SMALL)?;
    let how = started(&alice, "fourth")?;
    ensure!(how.starts_with("cold:") && how.contains("damaged"), "{how}");
    marks(&alice, "fourth")?;
    // Two leases hold all there is: only now there is room to make one in.
    ensure!(templates(&world).is_empty());
    alice.run(&["release", "third"])?.ok()?;
    alice.wait_lease("third", "ended")?;
    template(&world)?;
    alice.rent("fifth", "linux-minimal", &SMALL)?;
    ensure!(started(&alice, "fifth")?.starts_with("warm"));
    Ok(())
}

#[test]
fn a_distribution_starts_from_a_template_too() -> Result<()> {
    check_a_distribution("debian-12")
}

#[test]
fn so_does_a_newer_one() -> Result<()> {
    check_a_distribution("debian-13")
}

fn check_a_distribution(os: &str) -> Result<()> {
    let world = world("768MiB")?;
    let alice = check_two_clones(&world, os, &FULL)?;
    for lease in ["second", "third"] {
        let id = alice.inside(lease, "cat /etc/machine-id")?.ok()?.stdout;
        let boot = alice.inside(lease, "cat /proc/sys/kernel/random/boot_id")?.ok()?.stdout;
        // What systemd and its journal take for the machine and the boot.
        let journal = format!("test -d /run/log/journal/{} && systemctl is-system-running", id.trim());
        eventually("its journal is its own", PATIENCE, || {
            let ran = alice.inside(lease, &journal)?;
            Ok(["running\n", "degraded\n"].contains(&ran.stdout.as_str()).then_some(()))
        })?;
        let told =
            alice.inside(lease, "python3 -c 'import uuid; print(uuid.uuid4())'; journalctl -b -n 1 -o export")?;
        let boot = boot.trim().replace('-', "");
        ensure!(told.stdout.contains(&format!("_BOOT_ID={boot}")), "{boot} is not in {told:?}");
    }
    Ok(())
}

#[test]
fn an_agent_killed_while_it_makes_a_template_leaves_nothing_broken() -> Result<()> {
    let mut world = world("512MiB")?;
    let alice = world.person("alice")?;
    alice.rent("first", "linux-minimal", &SMALL)?;
    let making = world.hosts[0].state.join("templates/making");
    eventually("a template is being made", PATIENCE, || {
        let begun = fs::metadata(making.join("memory")).is_ok_and(|meta| meta.len() > 0);
        Ok((begun && world.guards().len() == 2).then_some(()))
    })?;
    let before = world.guards();
    world.kill_agent(0)?;
    ensure!(world.guards().len() == 2, "it goes on without its agent: {:?}", world.guards());
    world.start_agent(0)?;
    eventually("what was left is ended", PATIENCE, || {
        let guards = world.guards();
        Ok((before.iter().filter(|(pid, _)| guards.iter().any(|(now, _)| now == pid)).count() == 1).then_some(()))
    })?;
    eventually("the agent adopted the partition", PATIENCE, || Ok(alice.inside("first", "true")?.ok().ok()))?;
    // What was in demand is forgotten with the agent; the next start asks for it anew.
    alice.rent("second", "linux-minimal", &SMALL)?;
    ensure!(started(&alice, "second")?.starts_with("cold"));
    alice.run(&["release", "first"])?.ok()?;
    alice.wait_lease("first", "ended")?;
    template(&world)?;
    ensure!(!making.exists());
    alice.rent("third", "linux-minimal", &SMALL)?;
    ensure!(started(&alice, "third")?.starts_with("warm"));
    Ok(())
}

#[test]
#[ignore = "a soak of some minutes: cargo test -p sublet --test real -- --ignored a_hundred"]
fn a_hundred_clones_share_nothing_that_tells_machines_apart() -> Result<()> {
    const CLONES: usize = 100;
    let world = world("512MiB")?;
    let alice = world.person("alice")?;
    alice.rent("first", "linux-minimal", &SMALL)?;
    template(&world)?;
    alice.run(&["release", "first"])?.ok()?;
    alice.wait_lease("first", "ended")?;

    let one = &|number: usize| -> Result<Vec<String>> {
        let name = format!("clone-{number}");
        alice.rent(&name, "linux-minimal", &SMALL)?;
        ensure!(started(&alice, &name)?.starts_with("warm"), "{}", alice.lease(&name)?);
        let marks = marks(&alice, &name)?;
        check_clock(&alice, &name)?;
        alice.run(&["release", &name])?.ok()?;
        alice.wait_lease(&name, "ended")?;
        Ok(marks)
    };
    let halves = std::thread::scope(|scope| {
        let half = |half: usize| scope.spawn(move || (half..CLONES).step_by(2).map(one).collect::<Result<Vec<_>>>());
        [half(0), half(1)].map(|half| half.join().expect("no panic"))
    });
    let all: Vec<Vec<String>> = halves.into_iter().collect::<Result<Vec<_>>>()?.concat();
    for at in 0..5 {
        let mut seen: Vec<&String> = all.iter().map(|marks| &marks[at]).collect();
        seen.sort();
        seen.dedup();
        ensure!(seen.len() == CLONES, "{} different of {CLONES}", seen.len());
    }
    println!("{CLONES} clones: machine ids, boot ids, UUIDs, random bytes and names all differ");
    Ok(())
}
