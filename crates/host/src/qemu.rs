//! Partitions as QEMU processes, each under its own guard.
//!
//! The agent may be replaced at any moment: everything that must outlive it is in the run
//! directory, and a new one adopts what it finds there only if boot, pid, start time, generation
//! and UUID all match. What does not match is killed.

pub mod command_line;
pub mod payload;
pub mod qmp;

mod live;
mod process;
mod warm;

use crate::cgroup::{Confinement, Group, Limits};
use crate::guard::record::{Order, RunDir};
use crate::scratch::{self, Secret};
use crate::system_disk;
use crate::vmm::{
    Accelerator, Birth, BootFiles, Boottime, ExitCause, ExitRecord, Machine, MachineSpec, Observed, Usage, Vmm,
    VmmError,
};
use live::Live;
use process::Processes;
use qmp::QmpError;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sublet_model::ids::PartitionId;
use sublet_model::units::{GiB, MiB, Millicores};
use sublet_wire::jobs::Figures;
use tokio::sync::watch;

/// A machine that was asked to end is given so long before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What was killed is gone after so long, or the kernel is in trouble.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// The kernel may hold a group a little longer than the last process in it.
const GROUP_PATIENCE: Duration = Duration::from_secs(5);

/// `sun_path` holds 108 bytes with the final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Threads of a monitor beside its processors: main, rcu, serial, and its pool for files.
const OTHER_THREADS: u32 = 100;

/// What the driver needs to know of this host.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// `qemu-system-x86_64`.
    pub program: PathBuf,
    /// The `sublet` program, for its `guard`.
    pub guard: PathBuf,
    /// Whether partitions can be limited.
    pub confinement: Confinement,
    /// Options for any Linux guest that were measured on this host.
    pub kernel_options: String,
}

/// Runs partitions with QEMU.
#[derive(Debug)]
pub struct QemuVmm {
    config: QemuConfig,
    live: Mutex<HashMap<PartitionId, Arc<Live>>>,
    /// A monitor answers one connection at a time: two who adopt at once would each see the
    /// other's as a monitor that hangs.
    adopting: tokio::sync::Mutex<()>,
    changes: watch::Sender<u64>,
}

/// What a monitor needs beside the guest's memory: itself, translated code, and tables that grow
/// with the memory. Without it the kernel would kill a guest that uses what it was given.
/// Measured: 160 MiB in all beside a guest of 256 MiB that had touched every page of it.
pub fn memory_overhead(memory: MiB) -> MiB {
    MiB(160 + i64::from(command_line::TCG_CACHE_MIB) + memory.0 / 64)
}

impl QemuVmm {
    /// A driver that knows no machine yet; it adopts those it is asked to observe.
    pub fn new(config: QemuConfig) -> Self {
        Self { config, live: Mutex::default(), adopting: tokio::sync::Mutex::default(), changes: watch::channel(0).0 }
    }

    fn known(&self, partition: PartitionId) -> Option<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned()
    }

    fn learn(&self, live: Live) -> Arc<Live> {
        let live = Arc::new(live);
        let mut all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(live.machine.partition, live.clone());
        live
    }

    /// The live machine itself, adopted if need be; or else what there is in its place.
    async fn find(&self, machine: &Machine) -> Result<Arc<Live>, Observed> {
        let _adopting = match self.known(machine.partition) {
            Some(live) if live.machine == *machine => return Ok(live),
            _ => self.adopting.lock().await,
        };
        match self.known(machine.partition) {
            Some(live) if live.machine == *machine => Ok(live),
            // Another life of the partition: of the one asked for there is nothing to say.
            Some(live) if live.seen().is_live() => Err(Observed::NotRunning),
            _ => live::adopt(machine, &self.changes).await.map(|live| self.learn(live)),
        }
    }

    fn group(&self, partition: PartitionId) -> Option<Group> {
        match &self.config.confinement {
            Confinement::Confined(groups) => Some(groups.group(&partition.to_string())),
            Confinement::Unconfined { .. } => None,
        }
    }

    fn order(&self, spec: &MachineSpec) -> Result<Order, VmmError> {
        let line = command_line::command_line(spec, &self.config.kernel_options);
        let line = line.map_err(|reason| refused(spec, reason))?;
        let groups = self.group(spec.partition).map(|group| group.directories()).unwrap_or_default();
        Ok(Order {
            generation: spec.generation,
            uuid: spec.uuid,
            program: self.config.program.clone(),
            arguments: line.arguments,
            listen: line.listen,
            open: line.open,
            largest_file_bytes: line.largest_file_bytes,
            input: line.secret,
            uid: spec.uid,
            gid: spec.gid,
            groups: kvm_group(spec.accelerator),
            namespaces: !groups.is_empty(),
            control_groups: groups,
        })
    }

    /// Makes the disks of a life; what opens them is for its monitor alone.
    async fn make_disks(&self, spec: &MachineSpec) -> Result<Option<OwnedFd>, VmmError> {
        let (owned, qemu_img) = (spec.clone(), qemu_img(&self.config.program));
        let made = tokio::task::spawn_blocking(move || make_disks(&owned, &qemu_img)).await;
        made.unwrap_or_else(|error| Err(error.to_string())).map_err(|reason| refused(spec, reason))
    }

    fn prepare_now(&self, spec: &MachineSpec) -> Result<(), VmmError> {
        self.order(spec)?;
        check_files(spec).map_err(|reason| refused(spec, reason))?;
        let longest = spec.machine().guest_socket();
        if longest.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(refused(
                spec,
                format!("{} is too long for a socket: choose a shorter state directory", longest.display()),
            ));
        }
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&spec.run_dir);
        made.map_err(|source| system(format!("make {}", spec.run_dir.display()), source))?;
        if let Confinement::Confined(groups) = &self.config.confinement {
            let limits = Limits {
                cpu: spec.cpu,
                vcpus: spec.vcpus,
                memory_bytes: ((spec.memory + memory_overhead(spec.memory)).0 as u64) << 20,
                pids: u32::from(spec.vcpus) + OTHER_THREADS,
            };
            let made = groups.create(&spec.partition.to_string(), &limits);
            made.map_err(|source| system(format!("limit {}", spec.partition), source))?;
        }
        Ok(())
    }
}

impl Vmm for QemuVmm {
    async fn prepare(&self, spec: &MachineSpec) -> Result<(), VmmError> {
        self.prepare_now(spec)
    }

    async fn start(&self, spec: &MachineSpec, stop_at: Boottime) -> Result<(), VmmError> {
        let machine = spec.machine();
        if let Some(live) = self.known(spec.partition).filter(|live| live.seen().is_live()) {
            let running = live.machine.generation;
            return if live.machine == machine {
                Ok(())
            } else {
                Err(VmmError::AlreadyRunning { partition: spec.partition, running })
            };
        }
        let failed = |reason| VmmError::Start { partition: spec.partition, reason };
        let run_dir = RunDir::new(&spec.run_dir);
        let written = run_dir.write_order(&self.order(spec)?).and_then(|()| run_dir.write_deadline(stop_at));
        written.map_err(|source| system(format!("write the order for {}", spec.partition), source))?;

        let secret = self.make_disks(spec).await?;
        let record = process::start_guard(&self.config.guard, &spec.run_dir, secret).await.map_err(failed)?;
        let processes = Processes::hold(&record).map_err(|source| system("hold the guard".to_owned(), source))?;
        let live = live::watch(machine, processes, &self.changes).await.map_err(failed)?;
        let live = self.learn(live);
        if matches!(spec.birth, Birth::Clone(_))
            && let Err(reason) = warm::wake(&live).await
        {
            self.stop(&live.machine).await?;
            return Err(failed(format!("its template could not be woken: {reason}")));
        }
        Ok(())
    }

    async fn freeze(&self, machine: &Machine) -> Result<(), VmmError> {
        let live = self.find(machine).await.ok().filter(|live| live.seen().is_live());
        let live = live.ok_or(VmmError::NotRunning { partition: machine.partition })?;
        // What serves a lease has no file its state could be written to; it is not even tried.
        let order = RunDir::new(&machine.run_dir).read_order();
        if !order.is_ok_and(|order| command_line::writes_a_template(&order.open)) {
            let reason = "it was not born as a template".to_owned();
            return Err(VmmError::Refused { partition: machine.partition, reason });
        }
        let frozen = warm::freeze(&live).await;
        frozen.map_err(|reason| VmmError::Start { partition: machine.partition, reason })
    }

    async fn set_deadline(&self, machine: &Machine, stop_at: Boottime) -> Result<(), VmmError> {
        let live = self.find(machine).await.ok().filter(|live| live.seen().is_live());
        live.ok_or(VmmError::NotRunning { partition: machine.partition })?;
        let written = RunDir::new(&machine.run_dir).write_deadline(stop_at);
        written.map_err(|source| system(format!("move the end of {}", machine.partition), source))
    }

    async fn resize(&self, machine: &Machine, cpu: Millicores) -> Result<(), VmmError> {
        let Some(group) = self.group(machine.partition) else {
            let reason = "this host cannot limit partitions".to_owned();
            return Err(VmmError::Refused { partition: machine.partition, reason });
        };
        let vcpus = match self.observe(machine).await {
            Observed::Running { vcpus, .. } => vcpus,
            _ => return Err(VmmError::NotRunning { partition: machine.partition }),
        };
        group.set_cpu(cpu, vcpus).map_err(|source| system(format!("resize {}", machine.partition), source))
    }

    async fn observe(&self, machine: &Machine) -> Observed {
        match self.find(machine).await {
            Ok(live) => live.look().await,
            Err(observed) => observed,
        }
    }

    async fn stop(&self, machine: &Machine) -> Result<Option<ExitRecord>, VmmError> {
        let live = match self.find(machine).await {
            Ok(live) => live,
            Err(Observed::Exited(record)) => return Ok(Some(record)),
            Err(_) => return Ok(None),
        };
        live.processes.ask_to_stop();
        if let Some(record) = live.ended(STOP_PATIENCE).await {
            return Ok(Some(record));
        }
        live.processes.kill();
        match live.ended(KILL_PATIENCE).await {
            Some(record) => Ok(Some(record)),
            None => Err(VmmError::Stop {
                partition: machine.partition,
                reason: "its processes were killed and are still there".to_owned(),
            }),
        }
    }

    async fn wipe(&self, machine: &Machine) -> Result<(), VmmError> {
        let observed = self.observe(machine).await;
        let other = self.known(machine.partition).filter(|live| live.seen().is_live());
        if observed.is_live() || other.is_some() {
            let running = other.map_or(machine.generation, |live| live.machine.generation);
            return Err(VmmError::AlreadyRunning { partition: machine.partition, running });
        }
        if let Some(group) = self.group(machine.partition) {
            let removed = tokio::task::spawn_blocking(move || group.remove(GROUP_PATIENCE)).await;
            let removed = removed.unwrap_or_else(|e| Err(io::Error::other(e)));
            removed.map_err(|source| system(format!("free the limits of {}", machine.partition), source))?;
        }
        if let Confinement::Confined(groups) = &self.config.confinement {
            groups.forget_host();
        }
        match fs::remove_dir_all(&machine.run_dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(system(format!("remove {}", machine.run_dir.display()), e));
            }
            _ => {}
        }
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&machine.partition);
        Ok(())
    }

    async fn usage(&self, machine: &Machine) -> Result<Usage, VmmError> {
        let usage = match (self.group(machine.partition), self.known(machine.partition)) {
            (Some(group), _) => group.usage(),
            (None, Some(live)) => live.processes.usage(),
            (None, None) => return Err(VmmError::NotRunning { partition: machine.partition }),
        };
        usage.map_err(|source| system(format!("read the usage of {}", machine.partition), source))
    }

    async fn figures(&self, machine: &Machine) -> Result<Figures, VmmError> {
        let not_running = || VmmError::NotRunning { partition: machine.partition };
        let Observed::Running { generation, .. } = self.observe(machine).await else { return Err(not_running()) };
        let live = self.find(machine).await.map_err(|_| not_running())?;
        let asked = async { Ok::<_, QmpError>((live.size().await?, live.disk().await?)) };
        let asked = asked.await.map_err(|source| VmmError::Monitor { partition: machine.partition, source });
        let ((vcpus, memory), disk) = asked?;
        let cpu = self.group(machine.partition).map_or(Ok(None), |group| group.cpu_cap(vcpus));
        let cpu = cpu.map_err(|source| system(format!("read the cap of {}", machine.partition), source))?;
        Ok(Figures { generation, vcpus, memory, cpu, disk })
    }

    async fn console(&self, machine: &Machine) -> Result<Vec<u8>, VmmError> {
        match self.find(machine).await {
            Ok(live) => Ok(live.console().await),
            Err(_) => Err(VmmError::NotRunning { partition: machine.partition }),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// None where the machine has no disk that is encrypted.
fn make_disks(spec: &MachineSpec, qemu_img: &Path) -> Result<Option<OwnedFd>, String> {
    let system = match &spec.boot {
        BootFiles::Direct { .. } => None,
        BootFiles::Disk { format, disk, guest } => Some((disk, *format, guest)),
    };
    if spec.disk == GiB(0) && system.is_none() {
        return Ok(None);
    }
    let secret = Secret::random().map_err(|error| error.to_string())?;
    if spec.disk > GiB(0) {
        scratch::make(&spec.run_dir.join(scratch::FILE), spec.disk, &secret).map_err(|error| error.to_string())?;
    }
    if let Some((disk, format, guest)) = system {
        let made = system_disk::make(spec, (disk, format), guest, qemu_img, &secret);
        made.map_err(|error| error.to_string())?;
    }
    secret.hand_over().map(Some).map_err(|error| format!("failed to hand over what opens the disks: {error}"))
}

/// It comes with QEMU: beside it, or where programs are looked for.
fn qemu_img(qemu: &Path) -> PathBuf {
    let beside = qemu.with_file_name("qemu-img");
    if beside.exists() { beside } else { "qemu-img".into() }
}

/// QEMU opens its files again as the partition's user: only the file's own mode counts then.
fn check_files(spec: &MachineSpec) -> Result<(), String> {
    let template = match &spec.birth {
        Birth::Cold => [None, None],
        // Empty at first: the monitor writes it.
        Birth::Template(files) => [Some(&files.memory), None],
        Birth::Clone(files) => [Some(&files.memory), Some(&files.devices)],
    };
    let files = match &spec.boot {
        BootFiles::Direct { kernel, initrd, root } => [Some(kernel), initrd.as_ref(), root.as_ref()],
        BootFiles::Disk { disk, guest, .. } => [Some(disk), Some(guest), None],
    };
    files.into_iter().chain(template).flatten().try_for_each(|path| check_file(path, spec.uid, spec.gid))?;
    match &spec.boot {
        BootFiles::Direct { kernel, .. } => check_kernel(kernel),
        BootFiles::Disk { format, disk, .. } => {
            system_disk::disk_bytes(disk, *format).map(drop).map_err(|error| error.to_string())
        }
    }
}

/// QEMU would start nearly anything, and nothing would ever be heard of it.
fn check_kernel(path: &Path) -> Result<(), String> {
    let mut start = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, 0x206), &mut start));
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    if start.starts_with(b"\x7fELF") || start.get(0x202..0x206) == Some(b"HdrS") {
        return Ok(());
    }
    Err(format!("{} is not a kernel: neither an ELF file nor a bzImage", path.display()))
}

fn check_file(path: &Path, uid: u32, gid: u32) -> Result<(), String> {
    let meta = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !meta.is_file() || meta.len() == 0 {
        return Err(format!("{} is not a file with something in it", path.display()));
    }
    let readable = match () {
        () if !rustix::process::geteuid().is_root() => true,
        () if meta.uid() == uid => meta.mode() & 0o400 != 0,
        () if meta.gid() == gid => meta.mode() & 0o040 != 0,
        () => meta.mode() & 0o004 != 0,
    };
    if readable { Ok(()) } else { Err(format!("{} cannot be read by user {uid}: chmod a+r it", path.display())) }
}

/// Under KVM the monitor has to be in the group that may open the device.
fn kvm_group(accelerator: Accelerator) -> Vec<u32> {
    match accelerator {
        Accelerator::Tcg => Vec::new(),
        Accelerator::Kvm => fs::metadata("/dev/kvm").map(|meta| vec![meta.gid()]).unwrap_or_default(),
    }
}

fn refused(spec: &MachineSpec, reason: String) -> VmmError {
    VmmError::Refused { partition: spec.partition, reason }
}

fn system(attempt: String, source: io::Error) -> VmmError {
    VmmError::System { attempt, source }
}

/// The record of a machine whose end nobody saw: it is dated now, the latest it can have been.
fn vanished(machine: &Machine) -> ExitRecord {
    ExitRecord {
        generation: machine.generation,
        uuid: machine.uuid,
        cause: ExitCause::Vanished,
        at_monotonic_us: crate::guard::record::monotonic_micros(),
        at_boottime_us: Boottime::now().0,
        boot_id: crate::guard::record::boot_id().unwrap_or_default(),
        said: String::new(),
    }
}
