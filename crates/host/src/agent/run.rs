//! `sublet host run`: an agent with QEMU behind it, until it is told to stop.

use super::{Agent, Config};
use crate::cgroup::{self, Confinement};
use crate::check;
use crate::images::DEFAULT_LIMIT_BYTES;
use crate::inventory::{self, Known, QEMU_PROGRAM};
use crate::path::{self, Entrances};
use crate::qemu::{QemuConfig, QemuVmm};
use crate::store::Store;
use crate::vmm::Accelerator;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use sublet_model::host::{Inventory, Tier};
use tokio::signal::unix::{SignalKind, signal};

/// Within what time a guest must answer. Generous: emulated guests are slow on a busy computer.
pub const DEFAULT_BOOT_DEADLINE: Duration = Duration::from_secs(240);
/// The user of the first partition.
pub const FIRST_UID: u32 = 61_000;

/// How to run an agent.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The state directory.
    pub state: PathBuf,
    /// Where clients come in.
    pub entrances: path::Wanted,
    /// What the owner insists on; tried out if absent.
    pub accelerator: Option<Accelerator>,
    /// QEMU.
    pub qemu: PathBuf,
    /// This very program, for its `guard`.
    pub program: PathBuf,
    /// The most bytes of images that are kept.
    pub cache_limit_bytes: u64,
    /// The most bytes of templates that are kept; 0: every partition boots.
    pub template_limit_bytes: u64,
    /// Within what time a guest must answer.
    pub boot_deadline: Duration,
    /// Whether partitions end with the agent. Else they go on, and the next agent finds them.
    pub stop_partitions: bool,
}

impl RunOptions {
    /// The usual.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            entrances: path::Wanted::default(),
            accelerator: None,
            qemu: QEMU_PROGRAM.into(),
            program: std::env::current_exe().unwrap_or_else(|_| "sublet".into()),
            cache_limit_bytes: DEFAULT_LIMIT_BYTES,
            template_limit_bytes: crate::templates::DEFAULT_LIMIT_BYTES,
            boot_deadline: DEFAULT_BOOT_DEADLINE,
            stop_partitions: false,
        }
    }
}

/// A short name of a state directory's own: several hosts on one computer do not meet.
fn group_name(state: &Path) -> String {
    let digest = sublet_model::identity::Sha256Digest::of(state.as_os_str().as_encoded_bytes());
    format!("sublet-{}", &digest.to_string()[..12])
}

/// What runs the partitions: as the owner insists, or as trying it out shows.
fn accelerator(qemu: &Path, insisted: Option<Accelerator>) -> Accelerator {
    match insisted {
        Some(insisted) => insisted,
        None if !Path::new("/dev/kvm").exists() => Accelerator::Tcg,
        None => check::choose(qemu, None).accelerator,
    }
}

/// What of a computer a template depends on: the very monitor, and the processor.
fn monitor(qemu: &Path, inventory: &Inventory) -> String {
    let meta = std::fs::metadata(qemu);
    let changed = meta.as_ref().ok().and_then(|meta| meta.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    let (bytes, changed) = (meta.map_or(0, |meta| meta.len()), changed.unwrap_or_default().as_nanos());
    let flags = inventory.cpu_flags.join(" ");
    format!("{} {} {bytes} {changed} {} {flags}", inventory.qemu, qemu.display(), inventory.cpu_model)
}

struct Measured {
    inventory: Inventory,
    accelerator: Accelerator,
    confinement: Confinement,
}

fn measure_all(state: &Path, qemu: &Path, insisted: Option<Accelerator>) -> anyhow::Result<Measured> {
    let state = state.canonicalize().with_context(|| format!("failed to find {}", state.display()))?;
    let accelerator = accelerator(qemu, insisted);
    let mut confinement = cgroup::detect(&group_name(&state));
    if !rustix::process::geteuid().is_root() {
        confinement = Confinement::Unconfined { reason: "the agent does not run as root".into() };
    }
    let tier = if accelerator == Accelerator::Kvm { Tier::Kvm } else { Tier::Emulated };
    let confined = matches!(confinement, Confinement::Confined(_));
    let known = Known { state_dir: state, qemu: qemu.to_owned(), tier, confined };
    let inventory = inventory::measure(&known)
        .with_context(|| format!("failed to measure this computer (is {} installed?)", qemu.display()))?;
    Ok(Measured { inventory, accelerator, confinement })
}

/// What the computer has, for joining and dividing. Makes the state directory if need be; with no
/// accelerator given KVM is tried out, which may take some seconds.
pub fn measure(state: &Path, qemu: &Path, insisted: Option<Accelerator>) -> anyhow::Result<Inventory> {
    Store::open(state)?;
    Ok(measure_all(state, qemu, insisted)?.inventory)
}

/// Runs an agent until SIGTERM or SIGINT.
pub async fn run(options: RunOptions) -> anyhow::Result<()> {
    let store = Store::open(&options.state)?;
    let Some(identity) = store.identity()? else {
        bail!("this computer has not joined a market: run `sublet host join` first");
    };
    let (state, qemu, insisted) = (store.state().to_owned(), options.qemu.clone(), options.accelerator);
    let measuring = tokio::task::spawn_blocking(move || {
        let options = inventory::kernel_options(Tier::Emulated);
        measure_all(&state, &qemu, insisted).map(|measured| (measured, options))
    });
    let (measured, emulated_options) = measuring.await??;
    let kernel_options = if measured.accelerator == Accelerator::Tcg { emulated_options } else { String::new() };
    if let Confinement::Unconfined { reason } = &measured.confinement {
        tracing::warn!(%reason, "partitions run UNCONFINED: without caps and users of their own they are lent to the \
                                 owner's own account only");
    }
    let monitor = monitor(&options.qemu, &measured.inventory);
    let confined = matches!(measured.confinement, Confinement::Confined(_));
    let vmm = QemuVmm::new(QemuConfig {
        program: options.qemu.clone(),
        guard: options.program.clone(),
        confinement: measured.confinement,
        kernel_options,
    });
    let entrances = Entrances::open(&options.entrances, &store.keys()?.identity, store.state()).await?;
    let reach = entrances.reach();
    let root = rustix::process::geteuid().is_root();
    let config = Config {
        accelerator: measured.accelerator,
        inventory: Inventory { confined, ..measured.inventory },
        boot_deadline: options.boot_deadline,
        first_uid: FIRST_UID,
        run_as: (!root).then(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())),
        template_limit_bytes: options.template_limit_bytes,
        monitor,
    };
    // Before the start: a signal while partitions are adopted is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(host = %identity.host, market = identity.market, %reach, accelerator = ?config.accelerator, "the agent runs");
    let mut agent = Agent::start(store, identity, config, vmm, options.cache_limit_bytes, entrances).await?;
    let told = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        () = agent.failed() => false,
    };
    if options.stop_partitions && told {
        tracing::info!("stopping every partition");
        agent.stop_partitions().await?;
    } else {
        tracing::info!("the agent ends; partitions go on to their paid end, and the next agent finds them again");
    }
    agent.shut_down().await;
    if told { Ok(()) } else { bail!("a task of the agent ended by a fault; start it again, partitions go on") }
}
