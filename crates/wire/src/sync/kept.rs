//! What a host keeps of lives that a market may have forgotten: one that was restored from a backup
//! is told again, from its own signed terms and the host's receipts.

use super::Run;
use serde::{Deserialize, Serialize};
use sublet_model::ids::MemberId;
use sublet_model::lease::EndReason;
use sublet_model::units::Seconds;
use utoipa::ToSchema;

/// The epoch of a market that was never restored.
pub const FIRST_EPOCH: u64 = 1;
/// The most lives told in one sync; the rest follow in the next.
pub const MOST_LIVES: usize = 200;

pub(super) fn first_epoch() -> u64 {
    FIRST_EPOCH
}

pub(super) fn is_false(value: &bool) -> bool {
    !value
}

/// One life of a partition, as its host keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeptLife {
    /// What the market asked for when it began, signed terms and all.
    pub run: Run,
    /// The longest it may run, as the market said last.
    pub term_seconds: Seconds,
    /// What is paid for, as the market said last.
    pub paid_seconds: Seconds,
    /// Whether its guest was ready.
    pub ready: bool,
    /// Whether it is stopped and wiped.
    pub over: bool,
    /// Why it ended, where the host is the one who knows.
    pub reason: Option<EndReason>,
}

/// What a market that was restored has to know of a lease and can't read off its terms. The host
/// keeps it, and has no use for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Renter {
    /// Which member rented.
    pub member: MemberId,
    /// The client's key, in OpenSSH's form.
    pub ssh_public_key: String,
}
