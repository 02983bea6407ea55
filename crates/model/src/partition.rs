//! A logical partition: between which bounds it may be shaped, what it has now, and how the
//! allocations of a host change so that a request fits.

use crate::access::Certification;
use crate::ids::{HostId, OfferId, PartitionId};
use crate::lease::EndReason;
use crate::resources::{Dimension, Resources};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub mod alter;

/// Between which bounds a partition may be shaped. `min == max` fixes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Never less, even while idle: the sum over a host never exceeds what is lendable.
    pub min: Resources,
    /// What an idle partition returns to, as far as there is room.
    pub desired: Resources,
    /// Never more.
    pub max: Resources,
}

/// Why a profile can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Below zero, or more than any computer has.
    #[error("a profile's amounts must be between zero and what one computer can have")]
    Implausible,
    /// Out of order.
    #[error("a profile must have min <= desired <= max, but {0} is out of order")]
    OutOfOrder(Dimension),
    /// No machine can have so little.
    #[error("a partition needs at least 100m cpu and 64MiB memory")]
    TooSmall,
}

impl Profile {
    /// The least a partition may have: a tenth of a thread.
    pub const SMALLEST: Resources =
        Resources { cpu: crate::units::Millicores(100), memory: crate::units::MiB(64), disk: crate::units::GiB(0) };

    /// A partition of one size.
    pub fn fixed(size: Resources) -> Self {
        Self { min: size, desired: size, max: size }
    }

    /// Checks the bounds against each other.
    pub fn check(&self) -> Result<(), ProfileError> {
        if ![self.min, self.desired, self.max].into_iter().all(Resources::is_plausible) {
            return Err(ProfileError::Implausible);
        }
        if !Self::SMALLEST.fits(self.min) {
            return Err(ProfileError::TooSmall);
        }
        let out_of_order = self.min.exceeds(self.desired).or(self.desired.exceeds(self.max));
        out_of_order.map_or(Ok(()), |dimension| Err(ProfileError::OutOfOrder(dimension)))
    }
}

/// What a partition has. Append-only: an allocation row never changes, a newer one follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// The fence: rises only at a grant.
    pub generation: u64,
    /// Counts the allocations of one generation from 0.
    pub revision: u32,
    /// How much.
    pub resources: Resources,
    /// The shape: hardware threads the guest sees; never summed.
    pub vcpus: u16,
}

impl Allocation {
    /// The least number of vcpus that can use `resources.cpu`.
    pub fn vcpus_for(resources: Resources) -> u16 {
        u16::try_from(resources.cpu.0.max(1).saturating_add(999) / 1000).unwrap_or(u16::MAX)
    }

    /// Whether this one is newer than `other` (I2: they only rise).
    pub fn is_after(&self, other: &Self) -> bool {
        (self.generation, self.revision) > (other.generation, other.revision)
    }
}

/// A partition as the resource database has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Partition {
    /// Its id, for ever.
    pub id: PartitionId,
    /// The computer it is a part of.
    pub host: HostId,
    /// A short name, one of a kind on its host.
    pub name: String,
    /// Whether the owner lends it.
    pub lendable: bool,
    /// On which conditions.
    pub offer: Option<OfferId>,
    /// Between which bounds it may be shaped.
    pub profile: Profile,
    /// What it has now.
    pub allocation: Allocation,
    /// How a client authenticates to it and where.
    pub access: Option<Certification>,
    /// How many boots failed in a row; enough of them unlist it.
    pub failed_boots: u32,
}

/// Where a generation of a partition stands on its host.
///
/// ```text
/// Idle --> Fetching --> Booting --> Ready --> Stopping --> Gone
///              |           |          |          ^
///              +-----------+----------+----------+   (released, ended by itself, failed)
/// ```
///
/// `Gone` is said only when the machine is stopped, its processes are reaped and what it could
/// write is wiped; it is repeated until the market no longer asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "phase", rename_all = "snake_case", deny_unknown_fields)]
pub enum Phase {
    /// Nothing of this generation was ever started here.
    Idle,
    /// The image is on its way.
    Fetching {
        /// Bytes verified so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The machine was started; the guest has not answered yet.
    Booting,
    /// The guest answered with its identity set.
    Ready,
    /// The machine is being ended, or ended by itself for this reason.
    Stopping {
        /// Why.
        reason: EndReason,
    },
    /// Stopped and wiped.
    Gone {
        /// Why it ended, where the host is the one who knows.
        reason: Option<EndReason>,
    },
}

impl Phase {
    /// The word used in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching { .. } => "fetching",
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Stopping { .. } => "stopping",
            Self::Gone { .. } => "gone",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{GiB, MiB, Millicores};

    #[test]
    fn vcpus_are_the_least_that_can_use_the_cpu() {
        let of = |cpu| Allocation::vcpus_for(Resources { cpu: Millicores(cpu), memory: MiB(1), disk: GiB(0) });
        assert_eq!([of(100), of(1000), of(1001), of(4000)], [1, 1, 2, 4]);
    }

    #[test]
    fn a_profile_in_disorder_is_refused() {
        let r = |cpu, memory| Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(0) };
        let check = |min, desired, max| Profile { min, desired, max }.check();
        assert_eq!(check(r(100, 64), r(200, 64), r(300, 128)), Ok(()));
        assert_eq!(check(r(300, 64), r(200, 64), r(300, 64)), Err(ProfileError::OutOfOrder(Dimension::Cpu)));
        assert_eq!(check(r(100, 64), r(100, 256), r(100, 128)), Err(ProfileError::OutOfOrder(Dimension::Memory)));
        assert_eq!(check(r(99, 64), r(100, 64), r(100, 64)), Err(ProfileError::TooSmall));
        assert_eq!(check(r(-1, 64), r(100, 64), r(100, 64)), Err(ProfileError::Implausible));
    }
}
