//! Nothing of one tenant is left for the next: marks on the scratch disk and in memory.

use crate::fixture::{SMALL, options};
use crate::marks::{files_with, in_file, in_memory};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use sublet_testing::{Person, World};

/// What every mark begins with. Put together inside from two halves, so that no command has it whole.
const HALVES: [&str; 2] = ["left-behind-by", "-tenant-"];
/// Where the file system of such a disk puts its first large file, so every tenant's; what is planted is
/// found there, which shows it. All of the disk would take a minute each time.
const SCANNED_FROM_MIB: u32 = 128;
const SCANNED_MIB: u32 = 64;
const PLANTED: u64 = 100_000;
/// Some lines may lie across the edge of what is looked at.
const FOUND: u64 = PLANTED / 100 * 99;

/// How a lease comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    Released,
    Panicked,
    Killed,
}

struct Tenancy<'a> {
    world: &'a World,
    person: &'a Person,
    name: String,
    has_disk: bool,
}

impl Tenancy<'_> {
    fn inside(&self, line: &str) -> Result<String> {
        Ok(self.person.inside(&self.name, line)?.ok()?.stdout)
    }

    fn qemu(&self) -> Result<u32> {
        let [(pid, _)] = self.world.machines().try_into().map_err(|all| anyhow::anyhow!("one machine, not {all:?}"))?;
        Ok(pid)
    }

    /// The lines of the disk with anybody's mark, asked inside.
    fn on_disk(&self) -> Result<u64> {
        let [one, two] = HALVES;
        let line = format!(
            "sync; echo 3 > /proc/sys/vm/drop_caches; disk=$(awk '$2 == \"/scratch\" {{ print $1 }}' /proc/mounts); \
             test -b $disk && dd if=$disk bs=1M skip={SCANNED_FROM_MIB} count={SCANNED_MIB} 2> /dev/null | grep -a -c -F {one}''{two} || true"
        );
        let said = self.inside(&line)?;
        said.trim().parse().with_context(|| said.clone())
    }

    /// Nothing of anybody is here.
    fn check_clean(&self) -> Result<()> {
        // First the memory: what is asked inside has the words in it.
        let in_memory = in_memory(self.qemu()?, &HALVES.concat())?;
        ensure!(in_memory == 0, "{}: {in_memory} marks in memory", self.name);
        if self.has_disk {
            let on_disk = self.on_disk()?;
            ensure!(on_disk == 0, "{}: {on_disk} marks on disk", self.name);
        }
        Ok(())
    }

    /// Leaves marks, and shows that whoever looks as above would find them.
    fn plant(&self) -> Result<()> {
        let [one, two] = HALVES;
        let mark = format!("yes {one}''{two}{} | head -n {PLANTED}", self.name);
        self.inside(&format!("{mark} > /kept"))?;
        let qemu = self.qemu()?;
        let in_memory = in_memory(qemu, &HALVES.concat())?;
        ensure!(in_memory >= FOUND, "only {in_memory} of {PLANTED} marks are found in memory");
        if self.has_disk {
            self.inside(&format!("{mark} > /scratch/kept"))?;
            let on_disk = self.on_disk()?;
            ensure!(on_disk >= FOUND, "only {on_disk} of {PLANTED} marks are found on disk");
        }
        Ok(())
    }

    fn end(&self, how: End) -> Result<()> {
        match how {
            End::Released => drop(self.person.run(&["release", &self.name])?.ok()?),
            End::Panicked => drop(self.person.inside(&self.name, "echo c > /proc/sysrq-trigger")?),
            End::Killed => {
                let pid = rustix::process::Pid::from_raw(self.qemu()?.try_into()?).context("a pid")?;
                rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            }
        }
        self.person.wait_lease(&self.name, "ended")?;
        Ok(())
    }
}

/// What lies on the owner's disk with a mark in it.
fn left(world: &World) -> Result<Vec<PathBuf>> {
    files_with(&world.hosts[0].state, &HALVES.concat())
}

fn run(leases: usize) -> Result<()> {
    let mut world = World::start(options(&[])?)?;
    world.add_host_with("host-a", &["left=cpu:1,memory:512MiB,disk:0GiB..0GiB..2GiB".to_owned()], &[])?;
    let people = ["alice", "bob", "carol"].map(|name| world.person(name)).into_iter().collect::<Result<Vec<_>>>()?;
    let mut warm = 0;
    for number in 0..leases {
        // Two with a disk, two without: either kind follows itself and the other.
        let has_disk = number % 4 < 2;
        let how = [End::Released, End::Panicked, End::Killed][number % 3];
        let person = &people[number % people.len()];
        let tenancy = Tenancy { world: &world, person, name: format!("tenant-{number}"), has_disk };
        let disk: &[&str] = if has_disk { &["--disk", "1GiB"] } else { &[] };
        let lease = person.rent(&tenancy.name, "linux-minimal", &[&SMALL, disk].concat())?;
        warm += usize::from(lease["timeline"]["started"].as_str().is_some_and(|how| how.starts_with("warm")));
        tenancy.check_clean()?;
        tenancy.plant()?;
        for file in left(&world)? {
            // A partition's memory may be a file of its own while it runs; a disk is encrypted.
            ensure!(!file.ends_with("scratch"), "{} holds {} marks", file.display(), in_file(&file, HALVES[0])?);
        }
        tenancy.end(how)?;
        ensure!(left(&world)?.is_empty(), "after {how:?}: {:?}", left(&world)?);
    }
    println!("{leases} leases, {warm} of them warm, {} with a disk: no mark found by the next", leases.div_ceil(4) * 2);
    Ok(())
}

#[test]
fn nothing_of_one_tenant_is_left_for_the_next() -> Result<()> {
    run(4)
}

#[test]
#[ignore = "long: `make soak` runs it"]
fn nothing_of_one_tenant_is_left_for_the_next_for_long() -> Result<()> {
    run(100)
}
