//! Real partitions, end to end: real programs, real QEMU, real operating systems, real files.
//!
//! Run by `scripts/test`, which builds the images first. One binary, so that the rest of the tests
//! stay quick.

mod access;
mod apart;
mod crashes;
mod fixture;
mod images;
mod locked;
mod silence;
mod work;
