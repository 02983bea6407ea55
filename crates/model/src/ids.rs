//! Ids that say what they name: `lease_01kap…`. A prefix, and a UUID in Crockford's base 32.
//!
//! Ids are made outside the model (version 7 UUIDs, so they sort by age); here they are only
//! checked, printed and compared.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 26;
/// Room for any id: the longest prefix, the underscore, the digits.
const LONGEST: usize = 8 + 1 + DIGITS;
/// The value of each letter; 32 and above: it is none.
const VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut values = [u8::MAX; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        values[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    values
}

/// Why a text is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {article} id: expected `{prefix}_` and 26 letters or digits")]
pub struct InvalidId {
    given: String,
    prefix: &'static str,
    article: &'static str,
}

/// Writes an id into `room`, as text.
fn encode<'r>(prefix: &str, id: Uuid, room: &'r mut [u8; LONGEST]) -> &'r str {
    let end = prefix.len() + 1 + DIGITS;
    room[..prefix.len()].copy_from_slice(prefix.as_bytes());
    room[prefix.len()] = b'_';
    let mut rest = id.as_u128();
    for slot in room[prefix.len() + 1..end].iter_mut().rev() {
        *slot = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    // Nothing but ASCII was put there.
    std::str::from_utf8(&room[..end]).unwrap_or_default()
}

fn decode(prefix: &str, text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix(prefix)?.strip_prefix('_')?.as_bytes();
    // 26 digits hold 130 bits: the first may only be 0 to 7.
    if digits.len() != DIGITS || digits[0] > b'7' {
        return None;
    }
    digits
        .iter()
        .try_fold(0u128, |sum, digit| {
            let value = VALUES[usize::from(*digit)];
            (value < 32).then_some(sum << 5 | u128::from(value))
        })
        .map(Uuid::from_u128)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal $article:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What stands before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// The id as raw bits.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(encode($prefix, self.0, &mut [0; LONGEST]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(encode($prefix, self.0, &mut [0; LONGEST]))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                decode($prefix, text).map(Self).ok_or_else(|| InvalidId {
                    // Errors go back to whoever sent the text: keep them short.
                    given: text.chars().take(64).collect(),
                    prefix: $prefix,
                    article: $article,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(encode($prefix, self.0, &mut [0; LONGEST]))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'_, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                String::schema()
            }
        }

        impl utoipa::ToSchema for $name {}
    )*};
}

ids! {
    /// Holds money, and owns hosts, offers and leases.
    AccountId "acct" "an account";
    /// A person (or a program) acting for an account.
    MemberId "mem" "a member";
    /// An API token, by name; never the secret itself.
    TokenId "tok" "a token";
    /// A lender's computer.
    HostId "host" "a host";
    /// A logical partition of a host.
    PartitionId "part" "a partition";
    /// Lending conditions; with a version they are immutable.
    OfferId "offer" "an offer";
    /// The right to use one partition for a while.
    LeaseId "lease" "a lease";
    /// A client's word that a charge is wrong, until it is resolved.
    DisputeId "disp" "a dispute";
    /// One HTTP request, for people who read logs.
    RequestId "req" "a request";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_back() {
        for bits in [0, 1, 31, 32, u128::MAX, u128::MAX >> 1, 0x0123_4567_89ab_cdef] {
            let id = LeaseId::from(Uuid::from_u128(bits));
            assert_eq!(id.to_string().parse::<LeaseId>(), Ok(id));
        }
    }

    #[test]
    fn ids_sort_as_their_text_does() {
        let (a, b) = (Uuid::from_u128(7 << 90), Uuid::from_u128(8 << 90));
        assert!(LeaseId::from(a).to_string() < LeaseId::from(b).to_string());
    }

    #[test]
    fn other_texts_are_refused() {
        let good = LeaseId::from(Uuid::from_u128(5)).to_string();
        for bad in [
            String::new(),
            "lease_".into(),
            good.replace("lease", "host"),
            good.replace('5', "u"),
            good.to_uppercase(),
            format!("{good}0"),
            good.replacen('0', "8", 1),
            good[..good.len() - 1].into(),
            format!(" {good}"),
        ] {
            assert!(bad.parse::<LeaseId>().is_err(), "{bad:?} must be refused");
        }
    }
}
