//! Real partitions, end to end: real programs, real QEMU, real operating systems, real files.
//!
//! Run by `scripts/test`, which builds the images first. One binary, so that the rest of the tests
//! stay quick.

#![allow(clippy::print_stdout, reason = "what was seen stands beside the verdict")]

mod access;
mod altered;
mod altered_random;
mod apart;
mod crashes;
mod ending;
mod fixture;
mod flood;
mod images;
mod jobs;
mod locked;
mod marks;
mod money;
mod outage;
mod own;
mod path;
mod path_nat;
mod residue;
mod restored;
mod rotated;
mod scratch;
mod silence;
mod systems;
mod tools;
mod verified;
mod warm;
mod wasm;
mod work;
