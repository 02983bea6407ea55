//! What host and guest say to each other over one byte stream.
//!
//! Pure: no I/O and no system below, so that all ends (the small program in a partition, a kernel
//! that has no programs, the agent on the host) share one definition.
//!
//! - [`frames`]: how messages are cut out of a byte stream that may begin in the middle of anything.
//! - [`handles`]: what a client of file transfer has open.
//! - [`messages`]: what is said, and its limits.
//! - [`codec`]: how values are laid out inside a payload.
//! - [`record`]: what a detached job said and its host has not confirmed yet.
//! - [`sftp_wire`]: how packets of file transfer are laid out.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod codec;
pub mod frames;
pub mod handles;
pub mod messages;
pub mod record;
pub mod sftp_wire;
