//! The engine, with a real database in memory: after every step the database read anew, the
//! engine's own state and what readers see are the same.

mod authority;
mod disputes;
mod division;
mod failing;
mod granting;
mod kill;
mod life;
mod limits;
mod many;
pub mod money;
mod people;
mod property;
mod receipts;
mod rent;
mod restored;
mod settling;
mod silence;
mod standing;
mod sync;
mod thread;
mod waiting;
mod windows;
pub(crate) mod world;
