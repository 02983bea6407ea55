//! Where money can be.

use crate::ids::{AccountId, LeaseId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where money can be. Written `available:acct_…`, `owed:acct_…`, `held:lease_…`, `withheld:lease_…`, `fees`,
/// `outside`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Book {
    /// What an account may spend or have paid out.
    Available(AccountId),
    /// What an account that pays afterwards owes, as a debt: never above zero.
    Owed(AccountId),
    /// Set aside by the client of a lease, not used yet.
    Held(LeaseId),
    /// Earned by the lender of a lease, and kept back: a dispute, or receipts that fork.
    Withheld(LeaseId),
    /// What the operator keeps.
    Fees,
    /// The world: below zero by what was brought in and not taken out again.
    Outside,
}

/// Why a text names no book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} names no book: expected available:acct_…, owed:acct_…, held:lease_…, withheld:lease_…, fees or outside"
)]
pub struct InvalidBook {
    given: String,
}

impl Book {
    /// Whether it may hold less than nothing: a debt is one.
    pub fn may_be_below_zero(self) -> bool {
        matches!(self, Self::Owed(_) | Self::Outside)
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Available(account) => write!(f, "available:{account}"),
            Self::Owed(account) => write!(f, "owed:{account}"),
            Self::Held(lease) => write!(f, "held:{lease}"),
            Self::Withheld(lease) => write!(f, "withheld:{lease}"),
            Self::Fees => f.write_str("fees"),
            Self::Outside => f.write_str("outside"),
        }
    }
}

impl FromStr for Book {
    type Err = InvalidBook;

    fn from_str(text: &str) -> Result<Self, InvalidBook> {
        let wrong = || InvalidBook { given: text.chars().take(64).collect() };
        match text.split_once(':') {
            Some(("available", id)) => id.parse().map(Self::Available).map_err(|_| wrong()),
            Some(("owed", id)) => id.parse().map(Self::Owed).map_err(|_| wrong()),
            Some(("held", id)) => id.parse().map(Self::Held).map_err(|_| wrong()),
            Some(("withheld", id)) => id.parse().map(Self::Withheld).map_err(|_| wrong()),
            None if text == "fees" => Ok(Self::Fees),
            None if text == "outside" => Ok(Self::Outside),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Book {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Book {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'_, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_book_prints_and_parses_back() {
        let id = Uuid::from_u128(9);
        let of_account = [Book::Available(id.into()), Book::Owed(id.into())];
        let of_lease = [Book::Held(id.into()), Book::Withheld(id.into())];
        for book in of_account.into_iter().chain(of_lease).chain([Book::Fees, Book::Outside]) {
            assert_eq!(book.to_string().parse(), Ok(book));
        }
        for bad in ["", "fee", "fees:", "held", "held:", "held:acct_00000000000000000000000009", "available: fees"] {
            assert!(bad.parse::<Book>().is_err(), "{bad:?}");
        }
    }
}
