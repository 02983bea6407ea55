//! What a partition does that runs WebAssembly and nothing else.
//!
//! ```text
//!          bytes            frames              jobs
//! port <----------> guest <--------> table <----------> wasm (a module and its calls of WASI)
//!                                      |                sftp (a client's file transfer)
//!                                      +---- world: files, clock, randomness, memory
//! ```
//!
//! Nothing here knows the machine: the kernel (`main.rs`, `machine/`) moves the bytes, and tests do.
//! There is one thread. A job runs for a slice of fuel, then the link and the others have their turn.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod command;
mod files;
mod guest;
mod job;
mod link;
mod program;
mod random;
mod sftp;
mod table;
mod wasi;
mod wasm;
mod world;

pub use guest::{After, Guest};
pub use world::{KEPT_BYTES, Machine};

#[cfg(test)]
mod tests;
