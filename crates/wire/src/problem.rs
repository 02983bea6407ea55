//! What went wrong, as every answer that is not a success says it (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A problem: stable type, words for people, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// Stable, for programs: `urn:sublet:problem:` and a word, such as `no_match`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status again.
    pub status: u16,
    /// The type in words.
    pub title: String,
    /// What happened this time.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Names the request in the market's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Why partitions did not fit, where that is the problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfit: Vec<crate::api::UnfitCount>,
}

/// The stable types. Which HTTP status each has is decided by the market's error map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The request can't be read, or breaks a rule of its own.
    Invalid,
    /// No token, or one that is unknown, expired or revoked.
    Unauthenticated,
    /// The actor may not do that.
    Forbidden,
    /// No such thing, or not visible to the actor.
    NotFound,
    /// It stands in the way of something that is.
    Conflict,
    /// A held partition's allocation can't change.
    Locked,
    /// The same idempotency key came with another body.
    IdempotencyMismatch,
    /// Nothing fits.
    NoMatch,
    /// The account has too little to spend.
    OutOfFunds,
    /// The body is larger than is accepted.
    TooLarge,
    /// A host's session is not the newest, or its proof does not hold.
    SessionRefused,
    /// Too much at once.
    Busy,
    /// The database can't take it now.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 14] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::Locked,
        Self::IdempotencyMismatch,
        Self::NoMatch,
        Self::OutOfFunds,
        Self::TooLarge,
        Self::SessionRefused,
        Self::Busy,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The last word of the type.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Locked => "locked",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::NoMatch => "no_match",
            Self::OutOfFunds => "out_of_funds",
            Self::TooLarge => "too_large",
            Self::SessionRefused => "session_refused",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The whole type.
    pub fn urn(self) -> String {
        format!("urn:sublet:problem:{}", self.word())
    }
}

impl Problem {
    /// Which kind of problem, if this program knows it.
    pub fn known_kind(&self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.urn() == self.kind)
    }
}
