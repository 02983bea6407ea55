//! The whole market in one thread under one seed: the real engine over the real database, real
//! sessions, the hosts' real stores, meters, receipts and reconcile over simulated machines; around
//! them a network that loses, repeats, delays and reorders, clocks that run wrong and jump, and
//! everything crashing at any moment. After every step the invariants of the domain are checked by
//! means of their own; in the end everything heals, and everything has to reach its end.
//!
//! ```text
//! clients --+                                +-- computer: store, agent's steps, machines
//!           +-- network -- market: sessions, +-- computer
//!           |   engine, database             +-- computer, and now and then a copy of one
//! ```
//!
//! One seed is one run, to the microsecond: a seed that fails, fails again.

mod books;
mod check;
mod client;
mod computer;
mod database;
mod faults;
mod life;
mod machines;
mod market;
mod network;
mod paying;
mod random;
mod setup;
mod talk;
mod time;
mod trace;
mod trouble;
mod truth;
mod world;

pub use check::Violation;
pub use faults::{Coverage, Fault, STATES};
pub use setup::HOSTS;
pub use world::{LEASES, LEAST};

use setup::prices;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// What a run was like.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How many microseconds of simulated time it took.
    pub simulated_us: i64,
    /// How many leases were granted.
    pub leases: u64,
    /// How many steps the engine made.
    pub turns: u64,
    /// How many seconds were billed.
    pub billed: i64,
    /// How many misuses of an idempotency key were refused.
    pub misuses: u64,
    /// How many runs had a copy of a host that was quicker than the host.
    pub stolen: u64,
    /// What went wrong, and what it met.
    pub coverage: Coverage,
    /// Stands for everything that happened.
    pub digest: u64,
}

impl Report {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.simulated_us += other.simulated_us;
        self.leases += other.leases;
        self.turns += other.turns;
        self.billed += other.billed;
        self.misuses += other.misuses;
        self.stolen += other.stolen;
        self.coverage.add(&other.coverage);
        self.digest ^= other.digest;
    }
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Of which seed.
    pub seed: u64,
    /// When, in microseconds of simulated time.
    pub at_us: i64,
    /// What was seen.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.at_us as f64 / 1e6;
        let Self { seed, what, .. } = self;
        write!(f, "SUBLET_SEED={seed} cargo test -p sublet-testing --test simulation # at {seconds:.3} s: {what}")
    }
}

/// Runs one seed. `echo` writes what happens to standard error.
pub fn run(seed: u64, echo: bool) -> Result<Report, Failure> {
    let mut at_us = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, echo)?;
        let outcome = world.set_up().and_then(|()| world.run());
        at_us = world.now;
        outcome.map(|simulated_us| Report {
            simulated_us,
            leases: world.check.leases.len() as u64,
            turns: world.turns,
            billed: world.check.billed,
            misuses: world.clients.iter().map(|client| client.misuses).sum(),
            stolen: u64::from(world.computers.iter().any(|c| !c.original && world.check.stolen.contains(&c.host))),
            digest: world.digest(),
            coverage: world.coverage.clone(),
        })
    }));
    let failure = |what: String| Failure { seed, at_us, what };
    match outcome {
        Ok(outcome) => outcome.map_err(|violation| failure(violation.what)),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(failure(format!("a panic: {}", words.unwrap_or_default())))
        }
    }
}
