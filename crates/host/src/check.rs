//! `sublet host check`: every line says what was looked at, what was measured, what is required
//! and what to do. Whether KVM can be used is decided by using it.

mod accelerator;
mod lines;

pub use accelerator::{Choice, Tried, choose};

use crate::cgroup::{self, Confinement};
use crate::inventory;
use std::path::PathBuf;
use sublet_model::host::Tier;

/// How a line came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As required.
    Ok,
    /// Works, with a limit that is said.
    Warn,
    /// This host cannot lend until it is mended.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// What was looked at.
    pub what: &'static str,
    /// What was found.
    pub measured: String,
    /// What there should be.
    pub required: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What to do about it; empty if nothing.
    pub to_do: String,
}

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// Where the host keeps its state.
    pub state_dir: PathBuf,
    /// QEMU.
    pub qemu: PathBuf,
    /// The name under which control groups are made.
    pub host: String,
    /// The accelerator the owner insists on.
    pub accelerator: Option<crate::vmm::Accelerator>,
}

/// The lines, and what follows from them.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// In the order to be read.
    pub lines: Vec<Line>,
    /// What partitions will run on.
    pub tier: Tier,
    /// Whether they can be limited and run as users of their own.
    pub confined: bool,
}

impl Report {
    /// The worst of all lines.
    pub fn verdict(&self) -> Verdict {
        self.lines.iter().map(|line| line.verdict).max().unwrap_or(Verdict::Ok)
    }
}

/// Looks at everything. Comes back within about 15 s, whatever KVM does.
pub fn check(options: &CheckOptions) -> Report {
    let confinement = cgroup::detect(&options.host);
    let is_root = rustix::process::geteuid().is_root();
    let choice = choose(&options.qemu, options.accelerator);
    let lines = vec![
        lines::qemu(inventory::qemu_version(&options.qemu)),
        lines::accelerator(&choice),
        lines::kvm_device(),
        lines::nested(),
        lines::user(is_root),
        lines::control_groups(&confinement),
        lines::landlock(),
        lines::memory(),
        lines::disk(&options.state_dir),
        lines::file_system(&options.state_dir),
        lines::clock(),
        lines::sleep(),
        lines::network(),
    ];
    if let Confinement::Confined(groups) = &confinement {
        groups.forget_host();
    }
    Report {
        lines,
        tier: match choice.accelerator {
            crate::vmm::Accelerator::Kvm => Tier::Kvm,
            crate::vmm::Accelerator::Tcg => Tier::Emulated,
        },
        confined: is_root && matches!(confinement, Confinement::Confined(_)),
    }
}
