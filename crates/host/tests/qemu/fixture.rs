//! One partition with a tiny kernel, on the computer's own QEMU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use sublet_host::cgroup::{self, Confinement};
use sublet_host::guard::record::{ProcessId, RunDir};
use sublet_host::qemu::payload::Payload;
use sublet_host::qemu::{QemuConfig, QemuVmm};
use sublet_host::vmm::{Accelerator, Birth, BootFiles, Boottime, Machine, MachineSpec, Observed, Vmm};
use sublet_model::units::{GiB, MiB, Millicores};
use uuid::Uuid;

/// Nothing here takes so long, however busy the computer is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A user without a name and without files.
pub const UID: u32 = 64_001;

pub fn micros(seconds: i64) -> i64 {
    seconds * 1_000_000
}

pub fn in_seconds(seconds: i64) -> Boottime {
    Boottime::now().plus_micros(micros(seconds))
}

/// The guard program as just built: cargo builds no example for a single test program.
pub fn guard_program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let this = std::env::current_exe().unwrap();
        let profile = this.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "--package", "sublet-host", "--example", "guard"]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(status.success(), "the guard does not build");
        profile.join("examples/guard")
    };
    PROGRAM.get_or_init(build).clone()
}

pub struct Fixture {
    pub vmm: QemuVmm,
    pub spec: MachineSpec,
    pub machine: Machine,
    groups: String,
    _dir: tempfile::TempDir,
}

pub fn driver(host: &str) -> QemuVmm {
    QemuVmm::new(QemuConfig {
        program: "/usr/bin/qemu-system-x86_64".into(),
        guard: guard_program(),
        confinement: cgroup::detect(host),
        kernel_options: String::new(),
    })
}

pub fn spec(dir: &Path, payload: Payload) -> MachineSpec {
    let kernel = dir.join("kernel");
    payload.write(&kernel).unwrap();
    MachineSpec {
        partition: Uuid::now_v7().into(),
        generation: 5,
        uuid: Uuid::now_v7(),
        vcpus: 2,
        cpu: Millicores(1000),
        memory: MiB(64),
        disk: GiB(0),
        boot: BootFiles::Direct { kernel, initrd: None, root: None },
        command_line: String::new(),
        guest_channel: "org.sublet.guest.0".into(),
        run_dir: dir.join("run"),
        uid: UID,
        gid: UID,
        accelerator: Accelerator::Tcg,
        birth: Birth::Cold,
    }
}

impl Fixture {
    pub fn new(payload: Payload) -> Self {
        // The directory is private to root: that QEMU starts shows that it needs no way in.
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(dir.path(), payload);
        let groups = format!("test-{}", spec.uuid.simple());
        Self { vmm: driver(&groups), machine: spec.machine(), spec, groups, _dir: dir }
    }

    /// The kernel that it boots.
    pub fn kernel(&self) -> PathBuf {
        match &self.spec.boot {
            BootFiles::Direct { kernel, .. } => kernel.clone(),
            BootFiles::Disk { .. } => unreachable!("these boot a kernel"),
        }
    }

    pub async fn started(payload: Payload) -> Self {
        let fixture = Self::new(payload);
        fixture.start(in_seconds(600)).await;
        fixture
    }

    pub async fn start(&self, stop_at: Boottime) {
        self.vmm.prepare(&self.spec).await.unwrap();
        self.vmm.start(&self.spec, stop_at).await.unwrap();
    }

    pub fn run_dir(&self) -> RunDir {
        RunDir::new(&self.spec.run_dir)
    }

    pub fn pids(&self) -> (ProcessId, ProcessId) {
        let record = self.run_dir().read_pid().unwrap();
        (record.guard, record.monitor)
    }

    /// Waits, woken by the driver alone, until what is observed is as wanted.
    pub async fn until(&self, wanted: impl Fn(&Observed) -> bool) -> Observed {
        let mut changes = self.vmm.changes();
        let waiting = async {
            loop {
                let observed = self.vmm.observe(&self.machine).await;
                if wanted(&observed) {
                    return observed;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("never observed")
    }

    /// Nothing may be left behind.
    pub async fn wiped(self) {
        let group = match cgroup::detect(&self.groups) {
            Confinement::Confined(groups) => Some(groups.group(&self.spec.partition.to_string())),
            Confinement::Unconfined { .. } => None,
        };
        self.vmm.wipe(&self.machine).await.unwrap();
        assert!(!self.spec.run_dir.exists());
        assert!(group.is_none_or(|group| !group.exists()));
        assert_eq!(self.vmm.observe(&self.machine).await, Observed::NotRunning);
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Ok(record) = self.run_dir().read_pid() {
            for id in [record.monitor, record.guard].into_iter().filter(|id| id.is_alive()) {
                kill("-9", id.pid);
            }
        }
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = controller.path().join("sublet").join(&self.groups);
            let _ = fs::remove_dir(group.join(self.spec.partition.to_string()));
            let _ = fs::remove_dir(group);
        }
    }
}

pub fn kill(signal: &str, pid: i32) {
    assert!(Command::new("kill").arg(signal).arg(pid.to_string()).status().unwrap().success());
}

/// A line of /proc/<pid>/status.
pub fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The numbers of a process's sockets that are open to a network.
pub fn network_sockets(pid: i32) -> Vec<String> {
    let tables = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"]
        .map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default());
    let known: Vec<&str> =
        tables.iter().flat_map(|t| t.lines().skip(1)).filter_map(|l| l.split_whitespace().nth(9)).collect();
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes = links.filter_map(|l| Some(l.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()));
    inodes.filter(|inode| known.contains(&inode.as_str())).collect()
}

pub async fn gone(id: ProcessId) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while id.is_alive() {
        assert!(tokio::time::Instant::now() < deadline, "process {} is still there", id.pid);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
