//! The way from a client to a host, past the market: QUIC, on which the host's SSH server is.
//!
//! A host is dialled by its identity key, the one with which it joined: whoever answers has proved
//! that key in the handshake, so no network and no relay can pose as the host. SSH goes on top of
//! it and checks certificates and the host's SSH key as ever.
//!
//! - [`Reach`]: what a host says about how it is reached, in one line of text.
//! - [`RelayOffer`], [`RelayPass`]: the market's own relay, for those who can't meet directly.
//! - [`End`]: one end of the way, a client's or a host's; [`Way`]: a connection between two.
//!
//! Nobody else is involved: no relay but the market's, no look-up by name, no mapping of ports.

mod end;
mod reach;
mod way;

pub use end::{Bound, End, PathError};
pub use iroh::RelayUrl;
pub use reach::Reach;
pub use way::{Joined, Knock, Route, Way};

use serde::{Deserialize, Serialize};
use sublet_model::identity::Sha256Digest;
use utoipa::ToSchema;

/// What is spoken on the way: SSH, one connection a stream.
pub const ALPN: &[u8] = b"sublet-ssh/1";

/// Where the market's relay is, for hosts: they show their identity key and need nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayOffer {
    /// Its port; it is reached under the same name as the market. TCP for what it relays, UDP for
    /// telling both sides as what they are seen.
    pub port: u16,
    /// Its certificate.
    pub fingerprint: Sha256Digest,
}

/// The same for a client, who shows that it has a lease.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayPass {
    /// Its port.
    pub port: u16,
    /// Its certificate.
    pub fingerprint: Sha256Digest,
    /// Lets the client use it as long as the certificate that came along.
    pub token: String,
}

impl std::fmt::Debug for RelayPass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelayPass(port {}, token not shown)", self.port)
    }
}

impl RelayPass {
    /// Where it is.
    pub fn offer(&self) -> RelayOffer {
        RelayOffer { port: self.port, fingerprint: self.fingerprint }
    }
}

impl RelayOffer {
    /// The relay's address, for whom the market is at `market`.
    pub fn url(&self, market: &str) -> Option<RelayUrl> {
        let market = reqwest::Url::parse(market).ok()?;
        format!("https://{}:{}", market.host_str()?, self.port).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_is_where_the_market_is() {
        let offer = RelayOffer { port: 7404, fingerprint: Sha256Digest([0; 32]) };
        for (market, relay) in [
            ("https://market.example:7400", Some("https://market.example:7404/")),
            ("http://127.0.0.1:7400", Some("https://127.0.0.1:7404/")),
            ("https://[2001:db8::1]:7400/", Some("https://[2001:db8::1]:7404/")),
            ("market.example", None),
        ] {
            assert_eq!(offer.url(market).map(|url| url.to_string()).as_deref(), relay, "{market}");
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let pass = RelayPass { port: 1, fingerprint: Sha256Digest([0; 32]), token: "secret".into() };
        assert!(!format!("{pass:?}").contains("secret"));
    }
}
