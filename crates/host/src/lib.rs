//! Logical partition control on the computer of an owner.

pub mod guest_link;
pub mod cgroup;
pub mod guard;
pub mod qemu;
pub mod vmm;
