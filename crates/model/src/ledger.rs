//! The books of a market: double entry, append-only, whole micros.
//!
//! ```text
//!            deposit               hold              charge
//!  outside ---------> available ---------> held ------------------> available of the lender, fees
//!     |    <---------           <---------  ^  \                     ^     |   |
//!     |      refund      ^         void     |   +--> withheld --------+     |   |
//!     |                  |                  |        |  ^    pay out        |   |
//!     |                  |                  |        |  +---- withhold -----+   |
//!     |                  +---- credit ------|--------+----------------------+---+
//!     +---- hold of one who pays afterwards +   (void and credit: back the same way)
//! ```
//!
//! A balance is nothing but a sum of postings. Money of a lease is held before it is used; of what
//! is held at most everything is charged, and the rest goes back. Nothing but *outside* is ever
//! below zero.

mod book;
pub mod chunks;
mod keep;
mod transfer;

pub use book::{Book, InvalidBook};
pub use keep::{Account, Bill, Ledger, Undo};
pub use transfer::{Cause, LedgerError, Posting, Transfer, fee};

#[cfg(test)]
mod tests;
