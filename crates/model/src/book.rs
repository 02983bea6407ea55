//! Finds the partition for a request.
//!
//! Two-sided: what the client needs against what the partition could become, what the offer asks
//! against who the client is. Emulated partitions go to strangers only if both sides opted in.

mod admit;
mod class;
mod divide;
mod entry;
mod index;
mod leaf;
mod nearest;
mod price;
mod rank;
mod scan;
mod search;
mod summary;
mod tree;
mod unfit;

pub use admit::{Listing, Match, admit, broken, fit};
pub use entry::{Lending, Lent};
pub use index::Book;
pub use nearest::{Change, Nearest};
pub use rank::Rank;
pub use scan::find;
pub use search::{Found, Looked, Search};
pub use unfit::{Broken, Unfit};

#[cfg(test)]
mod tests;
