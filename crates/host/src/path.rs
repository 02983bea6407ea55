//! Where clients come in: over QUIC under this host's own key, and over plain TCP where the owner
//! wants that too. Behind both is the same SSH server.
//!
//! QUIC needs one UDP socket and no port that is open to the world: at home, behind a router, the
//! host keeps a connection to the market's relay, if the market has one, and clients come through
//! that until the two ends have found a direct way.

mod quic;

use crate::ssh::{Door, SshServer};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use sublet_model::identity::SecretKey;
use sublet_wire::path::{Bound, End, PathError, Reach, RelayOffer, RelayUrl};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The ports of last time, below the state directory.
const TCP_PORT: &str = "ssh.port";
const QUIC_PORT: &str = "quic.port";

/// Why clients can't come in.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    /// QUIC.
    #[error(transparent)]
    Quic(#[from] PathError),
    /// Plain TCP.
    #[error("failed to listen on {address}: choose another address")]
    Tcp {
        /// Which address.
        address: SocketAddr,
        /// Why it failed.
        source: io::Error,
    },
    /// The owner wants neither.
    #[error("clients could come in neither over QUIC nor over TCP: allow one of them")]
    None,
}

/// What the owner wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where clients come in over QUIC; none: they don't.
    pub quic: Option<Bound>,
    /// Where clients come in over plain TCP; none: nothing listens.
    pub tcp: Option<SocketAddr>,
    /// How clients reach that from elsewhere; the address itself if absent.
    pub dial: Option<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { quic: Some(Bound::Everywhere { port: 0 }), tcp: None, dial: None }
    }
}

/// The ways in, open.
#[derive(Debug)]
pub struct Entrances {
    quic: Option<End>,
    tcp: Option<(TcpListener, String)>,
}

impl Entrances {
    /// Opens what the owner wants. Where any port will do it is the one of last time, if that is
    /// free: a restarted agent is found where clients know it.
    pub async fn open(wanted: &Wanted, identity: &SecretKey, state: &Path) -> Result<Self, EntranceError> {
        let tcp = match wanted.tcp {
            Some(address) => {
                let failed = |source| EntranceError::Tcp { address, source };
                let listener = listen(address, state).await.map_err(failed)?;
                let own = listener.local_addr().map_err(failed)?;
                Some((listener, wanted.dial.clone().unwrap_or_else(|| own.to_string())))
            }
            None => None,
        };
        let quic = match wanted.quic {
            Some(bound) => Some(bind(bound, identity, state).await?),
            None => None,
        };
        if tcp.is_none() && quic.is_none() {
            return Err(EntranceError::None);
        }
        Ok(Self { quic, tcp })
    }

    /// Plain TCP alone.
    pub fn tcp(listener: TcpListener, dial: impl Into<String>) -> Self {
        Self { quic: None, tcp: Some((listener, dial.into())) }
    }

    /// What is known of them at once.
    pub fn reach(&self) -> Reach {
        Reach {
            quic: self.quic.as_ref().map(End::addresses),
            relayed: false,
            tcp: self.tcp.as_ref().map(|(_, dial)| dial.clone()),
        }
    }

    /// Serves clients until `stop`, follows the market's word on its relay, and tells in `reach`
    /// how this host is reached.
    pub async fn serve<D: Door>(
        self,
        server: Arc<SshServer<D>>,
        relay: watch::Receiver<Option<RelayOffer>>,
        market: String,
        reach: watch::Sender<Reach>,
        stop: CancellationToken,
    ) {
        let (Self { quic, tcp }, reach) = (self, &reach);
        let over_tcp = async {
            match tcp {
                Some((listener, _)) => server.serve(listener, stop.clone()).await,
                None => stop.cancelled().await,
            }
        };
        let over_quic = async {
            let Some(end) = &quic else { return };
            tokio::select! {
                () = quic::serve(end, &server, &stop) => {}
                () = end.watch_addresses(|addresses| tell(reach, |reach| reach.quic = Some(addresses))) => {}
                () = follow_relay(end, relay, &market, reach) => {}
                () = stop.cancelled() => {}
            }
            end.close().await;
        };
        tokio::join!(over_tcp, over_quic);
    }
}

/// Changes what is told; nobody hears of what is the same.
fn tell(reach: &watch::Sender<Reach>, change: impl FnOnce(&mut Reach)) {
    reach.send_if_modified(|reach| {
        let before = reach.clone();
        change(reach);
        *reach != before
    });
}

/// Uses the relay that the market offers, and no more when it offers none.
async fn follow_relay(
    end: &End,
    mut offered: watch::Receiver<Option<RelayOffer>>,
    market: &str,
    reach: &watch::Sender<Reach>,
) {
    let mut used: Option<RelayUrl> = None;
    loop {
        let offer = offered.borrow_and_update().clone();
        let url = offer.as_ref().and_then(|offer| offer.url(market));
        if let Some(old) = used.take().filter(|old| Some(old) != url.as_ref()) {
            end.leave_relay(&old).await;
        }
        if let (Some(offer), Some(url)) = (&offer, url) {
            end.use_relay(&url, offer, None).await;
            tracing::info!(%url, "clients may come through the market's relay");
            used = Some(url);
        }
        tell(reach, |reach| reach.relayed = used.is_some());
        if offered.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn last_port(state: &Path, file: &str) -> Option<u16> {
    std::fs::read_to_string(state.join(file)).ok().and_then(|port| port.trim().parse().ok())
}

/// Only a convenience: without it the port is another one next time.
fn keep_port(state: &Path, file: &str, port: u16) {
    let _ = std::fs::write(state.join(file), port.to_string());
}

async fn listen(address: SocketAddr, state: &Path) -> io::Result<TcpListener> {
    if let (0, Some(port)) = (address.port(), last_port(state, TCP_PORT))
        && let Ok(listener) = TcpListener::bind(SocketAddr::new(address.ip(), port)).await
    {
        return Ok(listener);
    }
    let listener = TcpListener::bind(address).await?;
    keep_port(state, TCP_PORT, listener.local_addr()?.port());
    Ok(listener)
}

async fn bind(bound: Bound, identity: &SecretKey, state: &Path) -> Result<End, PathError> {
    let again = last_port(state, QUIC_PORT).and_then(|port| match bound {
        Bound::Everywhere { port: 0 } => Some(Bound::Everywhere { port }),
        Bound::At(address) if address.port() == 0 => Some(Bound::At(SocketAddr::new(address.ip(), port))),
        _ => None,
    });
    if let Some(again) = again
        && let Ok(end) = End::host(identity, again).await
    {
        return Ok(end);
    }
    let end = End::host(identity, bound).await?;
    if let Some(socket) = end.sockets().first() {
        keep_port(state, QUIC_PORT, socket.port());
    }
    Ok(end)
}
