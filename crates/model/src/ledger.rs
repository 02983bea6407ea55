//! The books of a market: double entry, append-only, whole micros.
//!
//! ```text
//!            deposit               hold              charge
//!  outside ---------> available ---------> held ------------------> available of the lender, fees
//!     |    <---------           <---------  ^  \                     ^     |   |
//!     |      refund      ^         void     |   +--> withheld --------+     |   |
//!     |                  |                  |        |  ^    pay out        |   |
//!     | deposit          |                  |        |  +---- withhold -----+   |
//!     v                  +---- credit ------|--------+----------------------+---+
//!    owed ----------------------------------+   (void and credit: back the same way)
//!           hold of one who pays afterwards
//! ```
//!
//! A balance is nothing but a sum of postings. Money of a lease is held before it is used; of what
//! is held at most everything is charged, and the rest goes back. Nothing but *outside* and *owed* is
//! ever below zero, and *owed* is never above: who owes pays that with whatever comes in or back.

mod book;
pub mod chunks;
mod keep;
mod transfer;

pub use book::{Book, InvalidBook};
pub use keep::{Account, Bill, Ledger, Undo};
pub use transfer::{Cause, LedgerError, Posting, Transfer, fee};

#[cfg(test)]
mod tests;
