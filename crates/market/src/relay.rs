//! The market's own relay: where a client and a host meet that can't reach each other directly.
//!
//! It passes on packets that it can't read: QUIC between the two, encrypted under the host's key.
//! It also tells each side as what it is seen, by which most pairs find a direct way after a moment.
//! It is used by hosts of this market, who show their identity key, and by clients with a token
//! that came with a lease; by nobody else.

mod gate;
mod token;

pub use token::Tokens;

use crate::engine::thread::Handle;
use crate::tls::Identity;
use axum::http::{HeaderMap, Method};
use gate::Gate;
use http_body_util::Empty;
use iroh_relay::KeyCache;
use iroh_relay::http::RELAY_PROBE_PATH;
use iroh_relay::server::http_server::{BytesBody, Handlers, RelayService, TlsConfig};
use iroh_relay::server::{ClientRateLimit, Metrics, QuicConfig, Server, ServerConfig};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use sublet_wire::path::RelayOffer;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections that may be in their handshake at once.
const MOST_HANDSHAKES: usize = 256;
/// What a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(20);
/// What one end may send through the relay, in bytes a second: enough for work, not for a mirror.
const RATE_BYTES: NonZeroU32 = NonZeroU32::new(16 << 20).expect("not zero");
/// Keys that are remembered as well formed.
const KEYS_KEPT: usize = 4096;

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address is taken, or not ours.
    #[error("failed to listen for the relay on {address}: choose another address")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why it failed.
        source: io::Error,
    },
    /// The UDP side, by which ends learn as what they are seen.
    #[error("failed to open the relay's UDP port {address}: {reason}")]
    Udp {
        /// Which address.
        address: SocketAddr,
        /// Why it failed.
        reason: String,
    },
}

/// A relay, ready to serve.
#[derive(Debug)]
pub struct Relay {
    /// Where it is, as hosts are told.
    pub offer: RelayOffer,
    listener: TcpListener,
    tls: TlsConfig,
    udp: Server,
}

impl Relay {
    /// Opens it: TCP and UDP at one port, under the market's certificate.
    pub async fn open(address: SocketAddr, identity: &Identity) -> Result<Self, RelayError> {
        let bound = |source| RelayError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bound)?;
        let address = listener.local_addr().map_err(bound)?;
        let mut quic = QuicConfig::new(address);
        quic.server_config = Some((*identity.config).clone());
        let mut config = ServerConfig::default();
        config.quic = Some(quic);
        let failed = |error: &dyn std::error::Error| RelayError::Udp { address, reason: error.to_string() };
        let udp = Server::spawn(config).await.map_err(|error| failed(&error))?;
        let offer = RelayOffer { port: address.port(), fingerprint: identity.fingerprint };
        Ok(Self { offer, listener, tls: TlsConfig::new(Arc::clone(&identity.config)), udp })
    }

    /// Serves until `stop`.
    pub async fn serve(self, engine: Handle, tokens: Tokens, stop: CancellationToken) {
        let rate = Some(ClientRateLimit::new(RATE_BYTES));
        let access = Arc::new(Gate::new(engine, tokens));
        let metrics = Arc::new(Metrics::default());
        let keys = KeyCache::new(KEYS_KEPT);
        let service = RelayService::new(handlers(), HeaderMap::new(), rate, keys, access, metrics);
        let room = Arc::new(Semaphore::new(MOST_HANDSHAKES));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, mostly: those that end will free some.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
            let _ = stream.set_nodelay(true);
            let (service, tls) = (service.clone(), self.tls.clone());
            tokio::spawn(async move {
                service.handle_connection(stream, Some(tls), HANDSHAKE_WITHIN).await;
                drop(place);
            });
        }
        service.shutdown().await;
        let _ = self.udp.shutdown().await;
    }
}

/// Beside relaying it answers the one question how far away it is.
fn handlers() -> Handlers {
    let mut handlers = Handlers::default();
    handlers.insert(
        (Method::GET, RELAY_PROBE_PATH),
        Box::new(|_, response| {
            let body: BytesBody = Box::new(Empty::new());
            Ok(response.header("access-control-allow-origin", "*").body(body)?)
        }),
    );
    handlers
}
