//! A world of real processes for tests: a market, a depot, hosts and the people who use them,
//! each a `sublet` program of its own on loopback, with real partitions.
//!
//! Nothing here is a stand-in: what a test does, a person could type.

pub mod process;
pub mod relay;
pub mod world;

pub use process::Process;
pub use relay::Relay;
pub use world::{Host, Person, Ran, World, WorldOptions};
