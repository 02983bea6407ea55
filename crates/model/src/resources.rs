//! What a partition is made of, and the one rule that says whether something fits.

use crate::units::{GiB, MiB, Millicores};
use serde::{Deserialize, Serialize};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use utoipa::ToSchema;

/// The summed dimensions: what one partition has, another can't have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Guaranteed processor time.
    pub cpu: Millicores,
    /// Memory of the partition's own operating system.
    pub memory: MiB,
    /// Scratch disk.
    #[serde(default)]
    pub disk: GiB,
}

/// A dimension of [`Resources`], for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// Scratch disk.
    Disk,
}

impl Resources {
    /// Nothing at all.
    pub const ZERO: Self = Self { cpu: Millicores(0), memory: MiB(0), disk: GiB(0) };

    /// The one fit rule: asked when searching, again at the grant, again on the host.
    pub fn fits(self, bound: Self) -> bool {
        self.exceeds(bound).is_none()
    }

    /// The first dimension in which this is more than `bound`.
    pub fn exceeds(self, bound: Self) -> Option<Dimension> {
        match () {
            () if self.cpu > bound.cpu => Some(Dimension::Cpu),
            () if self.memory > bound.memory => Some(Dimension::Memory),
            () if self.disk > bound.disk => Some(Dimension::Disk),
            () => None,
        }
    }

    /// The bare number in one dimension, in that dimension's own unit.
    pub fn get(self, dimension: Dimension) -> i64 {
        match dimension {
            Dimension::Cpu => self.cpu.0,
            Dimension::Memory => self.memory.0,
            Dimension::Disk => self.disk.0,
        }
    }

    /// The lesser of both in every dimension.
    pub fn min(self, other: Self) -> Self {
        Self { cpu: self.cpu.min(other.cpu), memory: self.memory.min(other.memory), disk: self.disk.min(other.disk) }
    }

    /// The greater of both in every dimension.
    pub fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory), disk: self.disk.max(other.disk) }
    }

    /// Whether every dimension is between nothing and what is believed of one computer.
    pub fn is_plausible(self) -> bool {
        Self::ZERO.fits(self) && self.fits(Self { cpu: Millicores::MAX, memory: MiB::MAX, disk: GiB::MAX })
    }
}

impl Add for Resources {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self { cpu: self.cpu + o.cpu, memory: self.memory + o.memory, disk: self.disk + o.disk }
    }
}

impl Sub for Resources {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self { cpu: self.cpu - o.cpu, memory: self.memory - o.memory, disk: self.disk - o.disk }
    }
}

impl AddAssign for Resources {
    fn add_assign(&mut self, o: Self) {
        *self = *self + o;
    }
}

impl SubAssign for Resources {
    fn sub_assign(&mut self, o: Self) {
        *self = *self - o;
    }
}

impl Sum for Resources {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

impl std::fmt::Display for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cpu, {} memory", self.cpu, self.memory)?;
        if self.disk.0 > 0 { write!(f, ", {} disk", self.disk) } else { Ok(()) }
    }
}

impl std::fmt::Display for Dimension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(cpu: i64, memory: i64, disk: i64) -> Resources {
        Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(disk) }
    }

    #[test]
    fn every_dimension_counts_and_equal_fits() {
        assert!(r(1, 1, 1).fits(r(1, 1, 1)));
        assert_eq!(r(2, 1, 1).exceeds(r(1, 1, 1)), Some(Dimension::Cpu));
        assert_eq!(r(1, 2, 1).exceeds(r(1, 1, 1)), Some(Dimension::Memory));
        assert_eq!(r(1, 1, 2).exceeds(r(1, 1, 1)), Some(Dimension::Disk));
        assert!(!Resources::ZERO.fits(r(-1, 0, 0)), "nothing fits into less than nothing");
    }
}
