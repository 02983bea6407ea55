//! The token with which a computer joins: a secret, and the fingerprint of the market's own
//! certificate, so that the first word is already said to the right market.

use std::fmt;
use std::str::FromStr;
use sublet_model::identity::Sha256Digest;

/// A join token as it is handed over: `sublet_join_<secret>` and, off loopback, `@sha256:<fingerprint>`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Sent to the market, which stores its hash only.
    pub secret: String,
    /// SHA-256 of the market's TLS certificate; none where the market is on loopback without TLS.
    pub fingerprint: Option<Sha256Digest>,
}

/// Before every secret that joins a host.
pub const PREFIX: &str = "sublet_join_";

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.secret)?;
        self.fingerprint.map_or(Ok(()), |print| write!(f, "@sha256:{print}"))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(not shown)")
    }
}

impl FromStr for JoinToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "this is no join token: expected sublet_join_… or sublet_join_…@sha256:…".to_string();
        let (secret, fingerprint) = match text.trim().split_once('@') {
            Some((secret, print)) => (secret, Some(print.strip_prefix("sha256:").ok_or_else(wrong)?)),
            None => (text.trim(), None),
        };
        let fingerprint = fingerprint.map(str::parse).transpose().map_err(|_| wrong())?;
        let body = secret.strip_prefix(PREFIX).ok_or_else(wrong)?;
        if !(20..=100).contains(&body.len())
            || !body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(wrong());
        }
        Ok(Self { secret: secret.into(), fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_way_and_others_are_refused() {
        let secret = format!("{PREFIX}{}", "a".repeat(43));
        for fingerprint in [None, Some(Sha256Digest::of(b"certificate"))] {
            let token = JoinToken { secret: secret.clone(), fingerprint };
            assert_eq!(token.to_string().parse::<JoinToken>(), Ok(token));
        }
        for bad in [
            "",
            "sublet_join_short",
            "x@sha256:00",
            &format!("{secret}@sha256:00"),
            &format!("{secret}@md5:00"),
            &secret[1..],
        ] {
            assert!(bad.parse::<JoinToken>().is_err(), "{bad:?}");
        }
    }
}
