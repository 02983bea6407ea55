//! The only door to whatever runs a partition. The agent knows this trait and nothing behind it:
//! QEMU today, another monitor tomorrow, a simulated one in tests.
//!
//! Everything here is level-triggered: [`Vmm::changes`] only says *look again*, and
//! [`Vmm::observe`] tells what there is, so a missed or doubled wake-up costs nothing.

mod simulated;

pub use crate::guard::record::{Boottime, ExitCause, ExitRecord};
pub use simulated::{Moment, Operation, SimulatedVmm};

use std::future::Future;
use std::path::PathBuf;
use sublet_model::ids::PartitionId;
use sublet_model::image::DiskFormat;
use sublet_model::units::{GiB, MiB, Millicores};
use sublet_wire::jobs::Figures;
use uuid::Uuid;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// QEMU translates the instructions. Works everywhere; not a security boundary.
    Tcg,
    /// The processor runs them itself, under the kernel's KVM.
    Kvm,
}

/// One life of a partition's machine: what a restarted agent must find again, all of it equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// The fence: rises with every grant.
    pub generation: u64,
    /// Made anew for every start.
    pub uuid: Uuid,
    /// Where the guard keeps its files and sockets; private to the agent.
    pub run_dir: PathBuf,
}

/// All that is needed to start a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// The fence: rises with every grant.
    pub generation: u64,
    /// Made anew for every start.
    pub uuid: Uuid,
    /// The shape: how many processors the guest sees.
    pub vcpus: u16,
    /// The guaranteed processor time, which is also its cap.
    pub cpu: Millicores,
    /// The guest's memory.
    pub memory: MiB,
    /// The scratch disk, made for this life and gone with it; 0: none.
    pub disk: GiB,
    /// What boots.
    pub boot: BootFiles,
    /// The kernel's command line; empty where a disk's own boot loader has one.
    pub command_line: String,
    /// The name of the virtio-serial port on which the guest program listens.
    pub guest_channel: String,
    /// Where the guard keeps its files and sockets; private to the agent.
    pub run_dir: PathBuf,
    /// The user the monitor runs as: one a lease, nobody else's.
    pub uid: u32,
    /// The group the monitor runs as.
    pub gid: u32,
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// How it comes to be.
    pub birth: Birth,
}

/// The files of an image, verified, by how it boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootFiles {
    /// The monitor loads the kernel.
    Direct {
        /// An uncompressed kernel with a PVH entry.
        kernel: PathBuf,
        /// The initial file system, if the image has one.
        initrd: Option<PathBuf>,
        /// A root file system the guest can only read.
        root: Option<PathBuf>,
    },
    /// Firmware starts the disk's own boot loader.
    Disk {
        /// What the file is.
        format: DiskFormat,
        /// The disk; what the guest writes goes elsewhere.
        disk: PathBuf,
        /// The guest program, which comes by a disk of its own.
        guest: PathBuf,
    },
}

/// How a machine comes to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Birth {
    /// Its guest boots.
    #[default]
    Cold,
    /// Its guest boots with its memory in a file, to be frozen: it serves nobody, ever.
    Template(TemplateFiles),
    /// It goes on where a template was frozen; what it writes to its memory is its own.
    Clone(TemplateFiles),
}

/// What a template is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFiles {
    /// The guest's memory.
    pub memory: PathBuf,
    /// The state of processors and devices.
    pub devices: PathBuf,
}

impl MachineSpec {
    /// What identifies this life of the partition.
    pub fn machine(&self) -> Machine {
        Machine {
            partition: self.partition,
            generation: self.generation,
            uuid: self.uuid,
            run_dir: self.run_dir.clone(),
        }
    }
}

impl Machine {
    /// The unix socket that is the host's end of the guest channel. It listens from before the
    /// guest starts, so it may be connected to as soon as [`Vmm::start`] has returned.
    pub fn guest_socket(&self) -> PathBuf {
        crate::guard::record::RunDir::new(&self.run_dir).guest_socket()
    }
}

/// What a partition's machine is doing.
///
/// ```text
///              start                  guest ends itself
/// NotRunning ---------> Running ------------------------> ShutDown --+
///      ^                  |  \  guest's kernel dies                  | stop, deadline, kill
///      |                  |   +-------------> Panicked --------------+
///      |                  | stop, deadline, kill                     v
///      +------- wipe -----+-----------------------------------> Exited(record)
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// There is no such machine, and no trace of one.
    NotRunning,
    /// It runs; the figures are what the monitor itself says, not what was asked for.
    Running {
        /// The monitor's process.
        pid: i32,
        /// As the monitor says.
        uuid: Uuid,
        /// As the guard recorded before the start.
        generation: u64,
        /// As the monitor says.
        vcpus: u16,
        /// As the monitor says.
        memory: MiB,
    },
    /// The guest's kernel died; its memory is still held.
    Panicked,
    /// The guest ended itself, or tried to restart; its memory is still held.
    ShutDown,
    /// Nothing runs any more, and this is how it ended.
    Exited(ExitRecord),
}

impl Observed {
    /// Whether a process still exists for it.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Panicked | Self::ShutDown)
    }
}

/// What a partition has used so far in this life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Processor time.
    pub cpu_nanoseconds: u64,
    /// Memory charged at this moment.
    pub memory_bytes: u64,
}

/// Why a machine could not be brought to where it was wanted.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// The specification cannot be run here, whatever is tried.
    #[error("cannot run {partition}: {reason}")]
    Refused {
        /// Which partition.
        partition: PartitionId,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A machine of this partition is live already.
    #[error("{partition} already runs generation {running}: stop and wipe it first")]
    AlreadyRunning {
        /// Which partition.
        partition: PartitionId,
        /// The generation that runs.
        running: u64,
    },
    /// The machine is not running, so there is nothing to do this to.
    #[error("{partition} is not running")]
    NotRunning {
        /// Which partition.
        partition: PartitionId,
    },
    /// It was started and did not come up.
    #[error("failed to start {partition}: {reason}")]
    Start {
        /// Which partition.
        partition: PartitionId,
        /// What the guard or the monitor said.
        reason: String,
    },
    /// It would not end, though it was killed.
    #[error("failed to stop {partition}: {reason}")]
    Stop {
        /// Which partition.
        partition: PartitionId,
        /// What was tried.
        reason: String,
    },
    /// The operating system refused something.
    #[error("failed to {attempt}: {source}")]
    System {
        /// What was tried.
        attempt: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The monitor did not answer as it should.
    #[error("failed to ask the monitor of {partition}: {source}")]
    Monitor {
        /// Which partition.
        partition: PartitionId,
        /// What went wrong.
        source: crate::qemu::qmp::QmpError,
    },
}

/// Runs partitions. Every call may be repeated; every call ends within a bounded time.
pub trait Vmm: Send + Sync + 'static {
    /// Checks that `spec` can run here, makes its run directory and its limits.
    fn prepare(&self, spec: &MachineSpec) -> impl Future<Output = Result<(), VmmError>> + Send;

    /// Starts the guest, or wakes it where it is a clone; it is stopped at `stop_at` even if nobody asks again.
    fn start(&self, spec: &MachineSpec, stop_at: Boottime) -> impl Future<Output = Result<(), VmmError>> + Send;

    /// Freezes a machine that was born as [`Birth::Template`]: its guest stands still, and its files
    /// hold all of it.
    fn freeze(&self, machine: &Machine) -> impl Future<Output = Result<(), VmmError>> + Send {
        let reason = "this monitor makes no templates".to_owned();
        let partition = machine.partition;
        async move { Err(VmmError::Refused { partition, reason }) }
    }

    /// Moves the paid end.
    fn set_deadline(&self, machine: &Machine, stop_at: Boottime) -> impl Future<Output = Result<(), VmmError>> + Send;

    /// Changes the processor time of an idle, running partition. (Memory and processors are
    /// fixed at the start for now: stop it and start it with others.)
    fn resize(&self, machine: &Machine, cpu: Millicores) -> impl Future<Output = Result<(), VmmError>> + Send;

    /// Tells what there is. After a restart of the agent this adopts what still runs, if it is
    /// the very machine asked for, and kills it if it is not.
    fn observe(&self, machine: &Machine) -> impl Future<Output = Observed> + Send;

    /// Ends the machine, if there is one, and tells how it ended.
    fn stop(&self, machine: &Machine) -> impl Future<Output = Result<Option<ExitRecord>, VmmError>> + Send;

    /// Removes every trace of a machine that has ended. Refuses while it runs.
    fn wipe(&self, machine: &Machine) -> impl Future<Output = Result<(), VmmError>> + Send;

    /// Processor time and memory, as the kernel counts them.
    fn usage(&self, machine: &Machine) -> impl Future<Output = Result<Usage, VmmError>> + Send;

    /// What a running machine is, by the monitor's own words and the kernel's.
    fn figures(&self, machine: &Machine) -> impl Future<Output = Result<Figures, VmmError>> + Send {
        async move {
            match self.observe(machine).await {
                Observed::Running { generation, vcpus, memory, .. } => {
                    Ok(Figures { generation, vcpus, memory, cpu: None, disk: GiB(0) })
                }
                _ => Err(VmmError::NotRunning { partition: machine.partition }),
            }
        }
    }

    /// The last bytes the guest wrote to its console: for a boot that failed.
    fn console(&self, machine: &Machine) -> impl Future<Output = Result<Vec<u8>, VmmError>> + Send;

    /// Changes whenever some machine did. Only says *look again*.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
