//! One end of the way: a UDP socket that speaks QUIC, a client's or a host's.

use super::way::{Knock, Way, chain};
use super::{ALPN, Reach, RelayOffer};
use crate::tls::Pin;
use iroh::endpoint::{BindOpts, Builder, NetReportConfig, QuicTransportConfig, presets};
use iroh::tls::CaTlsConfig;
use iroh::{Endpoint, EndpointAddr, RelayConfig, RelayMap, RelayMode, RelayUrl, TransportAddr, Watcher};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use sublet_model::identity::{PublicKey, SecretKey};

/// What is on its way to a peer that has not said it got it, and what came from it that was not
/// read: this bounds what a connection costs. Enough for 20 MB/s over 100 ms.
const WINDOW_BYTES: u32 = 2 << 20;
/// Streams that a client may have open at once, each of them one SSH connection.
const MOST_STREAMS: u32 = 16;
/// A peer that says nothing, not even that it is alive, is gone.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// What a peer has to hear that we go.
const FAREWELL_WITHIN: Duration = Duration::from_millis(500);

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The socket.
    #[error("failed to open a UDP socket at {at}: {reason}")]
    Bind {
        /// Where.
        at: String,
        /// Why it failed.
        reason: String,
    },
    /// The other end did not answer, or is another.
    #[error("failed to reach the host over QUIC, {tried}: {reason}")]
    Dial {
        /// Which ways were tried.
        tried: String,
        /// Why they failed.
        reason: String,
    },
    /// It broke.
    #[error("the connection to the host broke: {0}")]
    Broken(String),
}

/// Where a host's end is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Every interface, version 4 and where possible version 6 of the protocol, at one port.
    Everywhere {
        /// The port; 0 takes any.
        port: u16,
    },
    /// One address.
    At(SocketAddr),
}

/// One end of the way.
#[derive(Debug, Clone)]
pub struct End {
    endpoint: Endpoint,
    relay_certificate: Pin,
}

impl End {
    /// A client's: with a key made for this once. On loopback where that is all it needs.
    pub async fn client(loopback_only: bool) -> Result<Self, PathError> {
        let here = Bound::At(SocketAddr::from(([127, 0, 0, 1], 0)));
        let bound = if loopback_only { here } else { Bound::Everywhere { port: 0 } };
        Self::bind(SecretKey::from_seed(&crate::random_bytes()), bound, false).await
    }

    /// A host's: dialled by its identity.
    pub async fn host(identity: &SecretKey, bound: Bound) -> Result<Self, PathError> {
        Self::bind(identity.clone(), bound, true).await
    }

    async fn bind(key: SecretKey, bound: Bound, accepts: bool) -> Result<Self, PathError> {
        let failed = |reason: String| PathError::Bind { at: bound.to_string(), reason };
        let relay_certificate = Pin::default();
        let builder = builder(&key, &relay_certificate, accepts);
        let builder = bound.apply(builder).map_err(&failed)?;
        let endpoint = builder.bind().await.map_err(|error| failed(chain(&error)))?;
        Ok(Self { endpoint, relay_certificate })
    }

    /// From now on uses this relay, and no other.
    pub async fn use_relay(&self, url: &RelayUrl, offer: &RelayOffer, token: Option<&str>) {
        self.relay_certificate.set(offer.fingerprint);
        let mut config = RelayConfig::from(url.clone());
        if let Some(quic) = &mut config.quic {
            quic.port = offer.port;
        }
        config.auth_token = token.map(Into::into);
        self.endpoint.insert_relay(url.clone(), Arc::new(config)).await;
    }

    /// Uses this relay no more.
    pub async fn leave_relay(&self, url: &RelayUrl) {
        self.endpoint.remove_relay(url).await;
    }

    /// Waits until the relay knows this end.
    pub async fn relayed(&self) {
        self.endpoint.online().await;
    }

    /// Where it is bound.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        self.endpoint.bound_sockets()
    }

    /// Under which addresses it may be reached directly, as far as is known: those of its
    /// interfaces, and as what the relay sees it.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let bound = self.sockets();
        if bound.iter().all(|socket| !socket.ip().is_unspecified()) {
            return bound;
        }
        let all = self.endpoint.addr();
        all.ip_addrs().copied().filter(|address| is_of_use(address.ip())).collect()
    }

    /// Tells of its addresses, now and when they may have changed, until it is closed.
    pub async fn watch_addresses(&self, mut told: impl FnMut(Vec<SocketAddr>)) {
        let mut watcher = self.endpoint.watch_addr();
        loop {
            told(self.addresses());
            if watcher.updated().await.is_err() {
                return;
            }
        }
    }

    /// Dials a host, at every address at once and by the relay if it is told one.
    pub async fn dial(&self, host: &PublicKey, reach: &Reach, relay: Option<&RelayUrl>) -> Result<Way, PathError> {
        let direct = reach.quic.iter().flatten().map(|address| TransportAddr::Ip(*address));
        let relay = relay.filter(|_| reach.relayed);
        let all: Vec<TransportAddr> = direct.chain(relay.cloned().map(TransportAddr::Relay)).collect();
        let tried = all.iter().map(route_words).collect::<Vec<_>>().join(", ");
        let failed = |reason| PathError::Dial { tried: tried.clone(), reason };
        let key = iroh::PublicKey::from_bytes(&host.0).map_err(|error| failed(chain(&error)))?;
        let dialled = self.endpoint.connect(EndpointAddr::from_parts(key, all), ALPN).await;
        Ok(Way::new(dialled.map_err(|error| failed(chain(&error)))?))
    }

    /// The next client who knocks; none once it was closed.
    pub async fn knock(&self) -> Option<Knock> {
        self.endpoint.accept().await.map(Knock::new)
    }

    /// Says farewell to whoever is connected.
    pub async fn close(&self) {
        let _ = tokio::time::timeout(FAREWELL_WITHIN, self.endpoint.close()).await;
    }
}

fn builder(key: &SecretKey, relay_certificate: &Pin, accepts: bool) -> Builder {
    let pin = relay_certificate.clone();
    let mut report = NetReportConfig::default();
    // It would ask a port 80 that nobody was told of.
    report.captive_portal_check = false;
    Endpoint::builder(presets::Empty)
        .crypto_provider(crate::tls::provider())
        .secret_key(iroh::SecretKey::from_bytes(&key.seed()))
        .alpns(if accepts { vec![ALPN.to_vec()] } else { Vec::new() })
        .relay_mode(RelayMode::Custom(RelayMap::empty()))
        .ca_tls_config(CaTlsConfig::custom_server_cert_verifier(Arc::new(move |_| Ok(pin.verifier()))))
        .net_report_config(report)
        .transport_config(transport())
}

fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(MOST_STREAMS.into())
        .max_concurrent_uni_streams(0u32.into())
        .stream_receive_window(WINDOW_BYTES.into())
        .receive_window(WINDOW_BYTES.into())
        .send_window(WINDOW_BYTES.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(SILENT_FOR.try_into().ok())
        .build()
}

/// Link-local addresses mean something else on every link.
fn is_of_use(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_loopback() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_loopback() && !ip.is_unspecified(),
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere { port } => write!(f, "port {port} of every interface"),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

impl Bound {
    fn apply(self, builder: Builder) -> Result<Builder, String> {
        match self {
            Self::At(address) => builder.clear_ip_transports().bind_addr(address).map_err(|error| chain(&error)),
            Self::Everywhere { port } => {
                let optional = BindOpts::default().set_is_required(false);
                let all = builder.clear_ip_transports().bind_addr(SocketAddr::from(([0, 0, 0, 0], port)));
                let all =
                    all.and_then(|builder| builder.bind_addr_with_opts(SocketAddr::from(([0u16; 8], port)), optional));
                all.map_err(|error| chain(&error))
            }
        }
    }
}

fn route_words(address: &TransportAddr) -> String {
    match address {
        TransportAddr::Ip(address) => format!("directly at {address}"),
        TransportAddr::Relay(url) => format!("through the relay {url}"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests;
