//! Logical partition control on the computer of an owner.

pub mod guest_link;
