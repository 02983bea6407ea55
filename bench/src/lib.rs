//! What the comparisons share: one seeded market for all sides, the same questions to each, load,
//! CPU time, and the table at the end. Nothing here is random: the same seed gives the same bytes.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

pub mod bare;
pub mod classad;
pub mod cpu;
pub mod data;
pub mod load;
pub mod oracle;
pub mod ours;
pub mod partitions;
pub mod postgres;
pub mod query;
pub mod report;
pub mod rng;
pub mod server;

/// The seed of every data set, unless another is named.
pub const SEED: usize = 20_261_122;
