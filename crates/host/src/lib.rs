//! Logical partition control on the computer of an owner.

pub mod cgroup;
pub mod console;
pub mod guard;
pub mod guest_link;
pub mod jobs;
pub mod qemu;
pub mod scratch;
pub mod ssh;
pub mod vmm;

pub mod agent;
pub mod check;
mod clock;
pub mod division;
pub mod images;
pub mod inventory;
pub mod join;
pub mod market_keys;
pub mod meter;
pub mod own;
pub mod partition;
pub mod path;
pub mod reconcile;
pub mod store;
pub mod sync;
pub mod system_disk;
pub mod templates;
pub mod terms;

#[cfg(test)]
extern crate self as sublet_host;
#[cfg(test)]
mod fixtures;
