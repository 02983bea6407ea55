//! A world of real processes for tests: a market, a depot, hosts and the people who use them,
//! each a `sublet` program of its own on loopback, with real partitions.
//!
//! Nothing there is a stand-in: what a test does, a person could type. And beside it, in
//! [`simulation`], the same parts in one thread under one seed, where everything goes wrong.

pub mod process;
pub mod relay;
pub mod simulation;
pub mod world;

pub use process::Process;
pub use relay::Relay;
pub use world::{Host, Person, Ran, World, WorldOptions};
