use super::*;
use std::process::{Child, Command};

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn unified(dir: &Path, controllers: &str) -> String {
    fs::write(dir.join("cgroup.controllers"), controllers).unwrap();
    fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
    let group = dir.join("sublet/h/p");
    fs::create_dir_all(&group).unwrap();
    for directory in [dir.join("sublet"), dir.join("sublet/h")] {
        fs::write(directory.join("cgroup.subtree_control"), "").unwrap();
        fs::write(directory.join("cpu.weight"), "100").unwrap();
    }
    for file in ["cpu.max", "cpu.weight", "memory.max", "memory.swap.max", "pids.max"] {
        fs::write(group.join(file), "").unwrap();
    }
    format!("tmpfs /tmp tmpfs rw 0 0\ncgroup2 {} cgroup2 rw,nosuid 0 0\n", dir.display())
}

const LIMITS: Limits = Limits { cpu: Millicores(250), vcpus: 1, memory_bytes: 1 << 30, pids: 64 };

#[test]
fn version_2_gets_its_controllers_and_limits() {
    let dir = tempfile::tempdir().unwrap();
    let table = unified(dir.path(), "cpuset cpu io memory pids");
    let Confinement::Confined(groups) = detect_in(&table, "h") else { panic!("must be usable") };
    let group = groups.create("p", &LIMITS).unwrap();
    assert_eq!(group.directories(), [dir.path().join("sublet/h/p")]);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    for directory in ["", "sublet/", "sublet/h/"] {
        assert_eq!(read(&format!("{directory}cgroup.subtree_control")), "+cpu +memory +pids");
    }
    // What is lent comes before what its owner runs.
    assert_eq!(["sublet", "sublet/h"].map(|directory| read(&format!("{directory}/cpu.weight"))), ["10000", "10000"]);
    let written = ["cpu.max", "cpu.weight", "memory.max", "memory.swap.max", "pids.max"];
    let written = written.map(|name| read(&format!("sublet/h/p/{name}")));
    assert_eq!(written, ["25000 100000", "25", "1073741824", "0", "64"]);

    assert_eq!(group.cpu_cap(1).unwrap(), Some(Millicores(250)));
    // Whole processors: the monitor's own threads have a little of their own, and the guest no more for it.
    group.set_cpu(Millicores(2000), 2).unwrap();
    assert_eq!([read("sublet/h/p/cpu.max"), read("sublet/h/p/cpu.weight")], ["205000 100000", "200"]);
    assert_eq!(group.cpu_cap(2).unwrap(), Some(Millicores(2000)));
    group.set_cpu(Millicores(1999), 2).unwrap();
    assert_eq!(group.cpu_cap(2).unwrap(), Some(Millicores(1999)), "a part of a processor is kept by the cap alone");
    fs::write(dir.path().join("sublet/h/p/cpu.max"), "max 100000\n").unwrap();
    assert_eq!(group.cpu_cap(1).unwrap(), None);

    fs::write(dir.path().join("sublet/h/p/cpu.stat"), "usage_usec 1500\nuser_usec 9\n").unwrap();
    fs::write(dir.path().join("sublet/h/p/memory.current"), "4096\n").unwrap();
    assert_eq!(group.usage().unwrap(), Usage { cpu_nanoseconds: 1_500_000, memory_bytes: 4096 });
}

#[test]
fn what_cannot_be_limited_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let table = unified(dir.path(), "hugetlb memory");
    let Confinement::Unconfined { reason } = detect_in(&table, "h") else { panic!("has no cpu controller") };
    assert!(reason.contains("cpu, pids"), "{reason}");
    let nowhere = "cgroup2 /nonexistent/cgroup cgroup2 rw 0 0";
    assert!(matches!(detect_in(nowhere, "h"), Confinement::Unconfined { .. }));
    assert!(matches!(detect_in("", "h"), Confinement::Unconfined { .. }));
}

#[test]
fn a_hybrid_tree_is_taken_controller_by_controller() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cgroup.controllers"), "hugetlb pids").unwrap();
    let table = format!(
        "cgroup /c/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\ncgroup /c/mem\\040ory cgroup rw,memory 0 0\n\
         cgroup2 {} cgroup2 rw 0 0\ncgroup /c/pids cgroup rw,pids 0 0\n",
        dir.path().display()
    );
    let (found, missing) = mounts::find(&table, &CONTROLLERS);
    let found: Vec<_> = found.iter().map(|h| (h.version.number(), h.controllers.join(","))).collect();
    assert_eq!(found, [(1, "cpu,cpuacct".into()), (1, "memory".into()), (2, "pids".into())]);
    assert!(missing.is_empty());
}

/// On the computer's own control groups, whatever version they are.
#[test]
fn a_quarter_of_a_core_stays_a_quarter() {
    let name = format!("test-{}", std::process::id());
    let groups = match detect(&name) {
        Confinement::Confined(groups) => groups,
        Confinement::Unconfined { reason } => return eprintln!("not tried: {reason}"),
    };
    let group = groups.create("busy", &LIMITS).unwrap();
    assert_eq!(group.cpu_cap(1).unwrap(), Some(LIMITS.cpu), "as the kernel has it");
    let join: String = group.directories().iter().map(|d| format!("echo 0 > {}/cgroup.procs; ", d.display())).collect();
    let busy = Command::new("sh").arg("-c").arg(format!("{join} while :; do :; done")).spawn().unwrap();
    let busy = Killed(busy);

    // On a loaded computer it may get less for a while; it must never get more.
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let (from, used) = (Instant::now(), group.usage().unwrap().cpu_nanoseconds);
        // A window may cut one period at each end and begin with a burst: long enough for both.
        std::thread::sleep(Duration::from_secs(2));
        let used = group.usage().unwrap().cpu_nanoseconds - used;
        let percent = used as f64 / from.elapsed().as_nanos() as f64 * 100.0;
        assert!(percent <= 30.0, "used {percent:.1} % of a core, allowed 25");
        if percent >= 20.0 {
            break;
        }
        assert!(Instant::now() < give_up, "never got near its quarter: {percent:.1} %");
    }
    assert!(group.usage().unwrap().memory_bytes > 0);
    assert!(group.remove(Duration::ZERO).is_err(), "a group with a process in it stays");
    drop(busy);
    group.remove(Duration::from_secs(5)).unwrap();
    assert!(!group.exists());
    groups.forget_host();
    assert!(groups.below(&[&name]).iter().all(|place| !place.root.exists()));
}

/// A runaway of the owner's, of many processes, takes nothing of what is lent.
#[test]
fn what_is_lent_comes_before_what_the_owner_runs() {
    let name = format!("first-{}", std::process::id());
    let groups = match detect(&name) {
        Confinement::Confined(groups) => groups,
        Confinement::Unconfined { reason } => return eprintln!("not tried: {reason}"),
    };
    let spin =
        |join: &str| Killed(Command::new("sh").arg("-c").arg(format!("{join} while :; do :; done")).spawn().unwrap());
    let threads = std::thread::available_parallelism().unwrap().get();
    // Of groups that weigh the same each would get half of all there is.
    let cap = Millicores(threads as i64 * 1000 - 500);
    let group = groups.create("lent", &Limits { cpu: cap, ..LIMITS }).unwrap();
    let join: String = group.directories().iter().map(|d| format!("echo 0 > {}/cgroup.procs; ", d.display())).collect();
    let owners: Vec<Killed> = (0..8 * threads).map(|_| spin("")).collect();
    let lent: Vec<Killed> = (0..threads).map(|_| spin(&join)).collect();
    // Other tests have groups of their own beside this one, which are lent, too.
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let (from, used) = (Instant::now(), group.usage().unwrap().cpu_nanoseconds);
        std::thread::sleep(Duration::from_secs(2));
        let used = group.usage().unwrap().cpu_nanoseconds - used;
        let share = used as f64 / from.elapsed().as_nanos() as f64 * 1000.0 / cap.0 as f64;
        if share >= 0.85 {
            break;
        }
        assert!(Instant::now() < give_up, "of {cap} it got {share:.2}");
    }
    drop((owners, lent));
    group.remove(Duration::from_secs(5)).unwrap();
    groups.forget_host();
}
