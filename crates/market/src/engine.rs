//! The one writer: decides in memory, commits in batches, answers after the commit.
//!
//! ```text
//! call() -> queue -> step: decide each against State -> one commit -> publish -> answer
//!                          (changes, with their undo)    |
//!                                                        +-- refused: undo, one by one
//! ```
//!
//! - `step` is plain: no async, no clock, no randomness. Ids and secrets are made before it.
//! - `State` changes only through `State::apply`; a refused command leaves nothing behind.
//! - Readers see a second `State`, to which changes are applied after their commit.

pub mod change;
pub mod clock;
pub mod command;
pub mod commit;
pub mod listing;
pub mod live;
pub mod news;
pub mod plan;
pub mod rows;
pub mod state;
pub mod step;
pub mod thread;

mod account;
mod alter;
mod authority;
pub(crate) mod draft;
mod epoch;
mod host;
mod image;
mod lease;
pub(crate) mod money;
mod refusal;
mod rent;
pub mod standing;
mod sync;
mod wake;

pub use clock::{Clock, MarketClock};
pub use draft::Keys;
pub use epoch::Epoch;
pub use state::State;
pub(crate) use sync::reclaim_due;
pub use thread::{Handle, Running};

#[cfg(test)]
pub(crate) mod tests;
