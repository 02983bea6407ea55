//! Every operating system of the depot boots in a partition and does the same work.

use crate::fixture::{FULL, SMALL, world};
use anyhow::{Context, Result, ensure};

/// A system as clients ask for it.
struct System {
    os: &'static str,
    size: &'static [&'static str],
    /// What its `uname -sr` begins with.
    kernel: &'static str,
    /// What runs as its first process.
    init: &'static str,
}

const SYSTEMS: [System; 3] = [
    System { os: "linux-minimal", size: &SMALL, kernel: "Linux 6.12.", init: "init" },
    System { os: "debian-12", size: &FULL, kernel: "Linux 6.1.", init: "systemd" },
    System { os: "debian-13", size: &FULL, kernel: "Linux 6.12.", init: "systemd" },
];

#[test]
fn each_system_gives_the_same_digest_of_the_same_input() -> Result<()> {
    let world = world()?;
    let alice = world.person("alice")?;
    let input = world.dir().join("input");
    let bytes: Vec<u8> = (0u32..(1 << 20) / 4).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&input, bytes)?;
    let outside = std::process::Command::new("sha256sum").arg(&input).output()?;
    let outside = String::from_utf8(outside.stdout)?.split_whitespace().next().context("a digest")?.to_owned();

    let work = |system: &System| -> Result<()> {
        let System { os, size, kernel, init } = system;
        alice.rent(os, os, size)?;
        let inside = alice.run_with(&["ssh", os, "--", "sha256sum"], &input)?.ok()?.stdout;
        ensure!(inside.split_whitespace().next() == Some(&outside), "{os}: {inside} is not {outside}");
        let told = alice.inside(os, "uname -sr; cat /proc/1/comm")?.ok()?.stdout;
        ensure!(told.starts_with(kernel) && told.trim().ends_with(&format!("\n{init}")), "{os}: {told}");
        println!("{os}: {}; {outside}; {}", told.trim().replace('\n', ", "), alice.lease(os)?["timeline"]);
        alice.run(&["release", os])?.ok()?;
        alice.wait_lease(os, "ended").map(drop)
    };
    // Two partitions, two at a time.
    for pair in SYSTEMS.chunks(2) {
        std::thread::scope(|scope| {
            let works: Vec<_> = pair.iter().map(|system| scope.spawn(|| work(system))).collect();
            works.into_iter().try_for_each(|work| work.join().expect("no panic"))
        })?;
    }
    Ok(())
}
