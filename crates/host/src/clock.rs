//! This computer's wall clock: for what people and certificates go by. Meters and ends go by clocks that nobody
//! sets, see [`crate::meter`].

use std::time::{SystemTime, UNIX_EPOCH};
use sublet_model::units::Timestamp;

/// What it shows.
pub(crate) fn wall_clock() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
