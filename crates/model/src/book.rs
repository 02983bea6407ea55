//! Finds the partition for a request.
//!
//! Two-sided: what the client needs against what the partition could become, what the offer asks
//! against who the client is. Emulated partitions go to strangers only if both sides opted in.

mod admit;
mod scan;

pub use admit::{Listing, Match, Unfit, admit};
pub use scan::find;
