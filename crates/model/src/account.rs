//! Who may do what.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What a member may do for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Rents partitions.
    Client,
    /// Lends computers.
    Lender,
    /// Sees statements.
    Billing,
    /// Sees everything, changes nothing.
    Auditor,
    /// Runs the market.
    Operator,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 5] = [Self::Client, Self::Lender, Self::Billing, Self::Auditor, Self::Operator];

    /// The word used in the API and the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Lender => "lender",
            Self::Billing => "billing",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().map(|r| r.word()).collect::<Vec<_>>().join(", ");
        Self::ALL.into_iter().find(|r| r.word() == text).ok_or(format!("{text:?} is not a role; roles are {known}"))
    }
}

/// Checks a name that people give: accounts, hosts, partitions, leases.
pub fn check_name(name: &str) -> Result<(), String> {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..=63).contains(&name.len()) && name.chars().all(ok) && !name.starts_with('-') && !name.ends_with('-');
    if good {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(format!("{shown:?} can't be a name: use 1 to 63 of a-z, 0-9 and -, not at an end"))
}
