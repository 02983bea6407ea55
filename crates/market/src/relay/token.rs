//! What lets a client use the relay: made with the certificate of a lease, good as long as that.
//!
//! `lease.expiry.MAC`, checked without asking anybody: the key is derived from the market's secrets.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sublet_model::ids::LeaseId;
use sublet_model::units::Timestamp;

/// No token is longer.
const LONGEST: usize = 200;

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    key: [u8; 32],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(key not shown)")
    }
}

fn mac(key: &[u8], words: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(words.as_bytes());
    mac
}

impl Tokens {
    /// Those of the market whose secrets are made from this.
    pub fn of(root: &[u8; 32]) -> Self {
        Self { key: mac(root, "sublet relay token 1").finalize().into_bytes().into() }
    }

    /// A token for a lease's client.
    pub fn make(&self, lease: LeaseId, expires_at: Timestamp) -> String {
        let words = format!("{lease}.{}", expires_at.0);
        let seal = HEXLOWER.encode(&mac(&self.key, &words).finalize().into_bytes());
        format!("{words}.{seal}")
    }

    /// Whose it is, if it is one and still good.
    pub fn check(&self, token: &str, now: Timestamp) -> Option<LeaseId> {
        if token.len() > LONGEST {
            return None;
        }
        let (words, seal) = token.rsplit_once('.')?;
        mac(&self.key, words).verify_slice(&HEXLOWER.decode(seal.as_bytes()).ok()?).ok()?;
        let (lease, expires_at) = words.split_once('.')?;
        let expires_at = Timestamp(expires_at.parse().ok()?);
        (expires_at > now).then_some(lease.parse().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_market_and_time_only() {
        let lease: LeaseId = uuid::Uuid::from_u128(7).into();
        let other: LeaseId = uuid::Uuid::from_u128(8).into();
        let tokens = Tokens::of(&[1; 32]);
        let token = tokens.make(lease, Timestamp(1000));
        assert_eq!(tokens.check(&token, Timestamp(999)), Some(lease));
        assert_eq!(tokens.check(&token, Timestamp(1000)), None, "it has expired");
        assert_eq!(Tokens::of(&[2; 32]).check(&token, Timestamp(0)), None);
        let forged = [
            token.replace(&lease.to_string(), &other.to_string()),
            token.replace(".1000.", ".9000."),
            token.replace(".1000.", ".1000"),
            token[..token.len() - 2].into(),
            String::new(),
            ".".repeat(300),
        ];
        for bad in forged {
            assert_eq!(tokens.check(&bad, Timestamp(0)), None, "{bad}");
        }
        assert!(!format!("{tokens:?}").contains("key:"));
    }
}
