//! A lender's computer, as it was measured.

use crate::resources::Resources;
use crate::units::{GiB, MiB, Millicores};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What runs the partitions, and so how far a stranger may be trusted in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Software emulation. No security boundary: never lent to strangers unless both sides opt in.
    Emulated,
    /// The processor's own virtualisation.
    Kvm,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emulated => "emulated",
            Self::Kvm => "kvm",
        })
    }
}

/// What a computer has, measured by its own agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Such as `x86_64`.
    pub arch: String,
    /// The processor's own name for itself.
    pub cpu_model: String,
    /// Its feature flags.
    pub cpu_flags: Vec<String>,
    /// Hardware threads.
    pub threads: u16,
    /// Cores.
    pub cores: u16,
    /// All memory.
    pub memory: MiB,
    /// Free room where partitions' disks would lie, and images.
    pub disk: GiB,
    /// A short measure of one thread: thousands of rounds of a fixed integer loop a second.
    pub speed: u32,
    /// What runs the partitions.
    pub tier: Tier,
    /// Whether partitions run confined: an own user, cgroup caps. An agent that can't do so lends
    /// only to its owner's own account.
    pub confined: bool,
    /// The host's kernel.
    pub kernel: String,
    /// QEMU's version.
    pub qemu: String,
}

impl Inventory {
    /// All of it, in the summed dimensions.
    pub fn resources(&self) -> Resources {
        Resources { cpu: Millicores(i64::from(self.threads) * 1000), memory: self.memory, disk: self.disk }
    }

    /// Whether it can be believed at all.
    pub fn check(&self) -> Result<(), String> {
        let short = [&self.arch, &self.cpu_model, &self.kernel, &self.qemu].into_iter().all(|t| t.len() <= 200);
        if !short || self.cpu_flags.len() > 1024 || self.cpu_flags.iter().any(|f| f.len() > 64) {
            return Err("the inventory's texts are too long".into());
        }
        if self.threads == 0 || self.cores == 0 || !self.resources().is_plausible() {
            return Err(format!("no computer has {} threads and {} of memory", self.threads, self.memory));
        }
        Ok(())
    }
}
