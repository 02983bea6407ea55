//! Runs a market: database, engine, API. On loopback unless told otherwise; off loopback with TLS
//! only.

use crate::config::{Config, ConfigError, Tls};
use crate::db::{DbError, Reader, Sqlite};
use crate::engine::clock::{Clock, MarketClock};
use crate::engine::commit::CommitError;
use crate::engine::thread::{Handle, Running};
use crate::http::{App, router};
use crate::keys::{self, Keys, KeysError};
use crate::relay::{Relay, RelayError, Tokens};
use crate::tls::{self, Identity, TlsError};
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use sublet_model::identity::Sha256Digest;
use sublet_model::ledger::chunks::CHUNK;
use sublet_model::market_keys::KeyChain;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::connections::{self, Capped};
use sublet_wire::path::RelayOffer;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long requests may still take once the market is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Why a market does not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The relay can't be opened.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The settings can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keys can't be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The engine can't start.
    #[error("failed to read the market from its database")]
    Engine(#[from] CommitError),
    /// Plain HTTP where others can listen.
    #[error(
        "{0} is not loopback, and without TLS anybody on the way could read tokens: \
         set `tls = \"auto\"` in market.toml, or listen on 127.0.0.1"
    )]
    PlainOffLoopback(SocketAddr),
    /// The address is taken, or not ours.
    #[error("failed to listen on {address}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why it failed.
        source: io::Error,
    },
    /// The server ended.
    #[error("failed to serve")]
    Server(#[source] io::Error),
    /// The engine ended by itself: nobody knows what the database holds.
    #[error("the market's engine ended: {0}; start the market again, it recovers from its database")]
    EngineEnded(String),
}

/// What the command line may say against the settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServeOptions {
    /// Where to listen instead; port 0 takes any that is free.
    pub listen: Option<SocketAddr>,
    /// Whether to speak TLS instead.
    pub tls: Option<Tls>,
    /// Where the relay listens instead; port 0 takes any that is free.
    pub relay: Option<SocketAddr>,
}

/// A running market.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// SHA-256 of its certificate; none without TLS.
    pub fingerprint: Option<Sha256Digest>,
    /// Its relay, if it has one.
    pub relay: Option<RelayOffer>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// Its base address, for clients on this computer.
    pub fn base(&self) -> String {
        let scheme = if self.fingerprint.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Waits until it has ended: because it was told to, or with the reason why it must.
    pub async fn ended(self) -> Result<(), ServeError> {
        self.task.await.unwrap_or_else(|e| Err(ServeError::Server(io::Error::other(e))))
    }
}

/// Starts the market in `dir`. It runs until `stop` is cancelled: then whoever waits is answered
/// at once, what was begun is finished, and all that was promised is on disk.
pub async fn serve(dir: &Path, options: ServeOptions, stop: CancellationToken) -> Result<Server, ServeError> {
    sublet_wire::tls::install_provider();
    let config = Config::load(dir)?;
    let wanted = options.listen.unwrap_or(config.listen);
    let identity = identity(dir, wanted, options.tls.unwrap_or(config.tls))?;
    let keys = Keys::load(dir)?;
    let database = Sqlite::open(dir)?;
    let records = Reader::open(dir)?;
    // Bound before the engine starts: a market that nobody reaches changes nothing.
    let bound = |source| ServeError::Bind { address: wanted, source };
    let listener = TcpListener::bind(wanted).map_err(bound)?;
    let address = listener.local_addr().map_err(bound)?;
    let relay = match options.relay.or(config.relay) {
        // It speaks TLS wherever it is: with its certificate it also tells hosts as what they are seen.
        Some(at) => Some(Relay::open(at, &tls::load(dir)?).await?),
        None => None,
    };
    database.set_chunk(config.chunk_seconds.map_or(CHUNK, |seconds| Seconds(seconds.into())))?;
    let currency = database.currency()?;
    database.audit_keys(&keys.chain)?;
    // What the newest key signs is never dated before it was taken.
    let keys_since = keys.chain.changes().last().map_or(Timestamp(0), |last| last.at);
    let clock = Arc::new(MarketClock::new(database.market_time()?.max(keys_since)));
    keys::tidy(dir, &keys.chain, clock.now())?;
    let (market, chain) = (keys.signing.clone(), keys.chain.clone());
    let engine_keys = crate::engine::Keys { market, ssh_ca: vec![keys.ssh_ca_public()], chain };
    if let Some((_, until)) = &keys.old_ssh_ca {
        tokio::spawn(tidy_later(dir.to_owned(), keys.chain.clone(), clock.clone(), *until, stop.clone()));
    }
    let engine = Running::start(database, engine_keys, clock)?;
    let fingerprint = identity.as_ref().map(|identity| identity.fingerprint);
    let tokens = Tokens::of(&keys.root);
    let offer = relay.as_ref().map(|relay| relay.offer.clone());
    let mut app = App::new(engine.handle.clone(), records, keys, currency, fingerprint, stop.clone());
    app.relay = offer.clone().map(|offer| (offer, tokens.clone()));
    if let Some(relay) = relay {
        tracing::info!(port = relay.offer.port, "the relay is open");
        tokio::spawn(relay.serve(engine.handle.clone(), tokens, stop.clone()));
    }
    tracing::info!(%address, tls = fingerprint.is_some(), name = config.name, "the market is open");
    let task = tokio::spawn(run(listener, identity, app, engine, stop));
    Ok(Server { address, fingerprint, relay: offer, task })
}

/// Takes the SSH authority before away once no host accepts it any more.
async fn tidy_later(dir: PathBuf, chain: KeyChain, clock: Arc<MarketClock>, until: Timestamp, stop: CancellationToken) {
    let left = u64::try_from(until.0 - clock.now().0).unwrap_or(0) + 1_000_000;
    tokio::select! {
        () = tokio::time::sleep(Duration::from_micros(left)) => {}
        () = stop.cancelled() => return,
    }
    if let Err(error) = keys::tidy(&dir, &chain, clock.now()) {
        tracing::warn!(%error, "an SSH authority that was given up is still in the folder `keys`");
    }
}

/// The certificate, where TLS is to be spoken.
fn identity(dir: &Path, listen: SocketAddr, tls: Tls) -> Result<Option<Identity>, ServeError> {
    let loopback = listen.ip().is_loopback();
    match tls {
        Tls::Never if !loopback => Err(ServeError::PlainOffLoopback(listen)),
        Tls::Auto | Tls::Never if loopback => Ok(None),
        _ => Ok(Some(tls::load(dir)?)),
    }
}

async fn run(
    listener: TcpListener,
    identity: Option<Identity>,
    app: App,
    engine: Running,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let handle = app.handle.clone();
    let closing = axum_server::Handle::new();
    let server = tokio::spawn(listen(listener, identity, app, closing.clone()));
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        why = handle.ended() => Some(why),
    };
    // Also when the engine ended by itself: whoever waits need not wait for its answer.
    stop.cancel();
    closing.graceful_shutdown(Some(GRACE));
    let served = server.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    if let Some(why) = ended {
        return Err(ServeError::EngineEnded(why));
    }
    served.map_err(ServeError::Server)?;
    finish(handle, engine).await
}

/// Lets the engine commit what it has queued.
async fn finish(handle: Handle, engine: Running) -> Result<(), ServeError> {
    drop(handle);
    let stopped = tokio::time::timeout(GRACE, tokio::task::spawn_blocking(move || engine.stop())).await;
    match stopped {
        Ok(Ok(Err(fatal))) => Err(ServeError::EngineEnded(fatal.to_string())),
        Ok(_) => Ok(()),
        // A request that outlived its grace still holds the engine. What it commits is whole.
        Err(_) => Ok(()),
    }
}

async fn listen(
    listener: TcpListener,
    identity: Option<Identity>,
    app: App,
    closing: axum_server::Handle<SocketAddr>,
) -> io::Result<()> {
    let service = router(Arc::new(app)).into_make_service();
    let server = connections::bounded(axum_server::from_tcp(listener)?.handle(closing));
    let room = connections::room();
    match identity {
        None => server.acceptor(Capped::new(NoDelayAcceptor::new(), room)).serve(service).await,
        Some(identity) => {
            let tls = RustlsAcceptor::new(RustlsConfig::from_config(identity.config)).acceptor(NoDelayAcceptor::new());
            server.acceptor(Capped::new(tls, room)).serve(service).await
        }
    }
}
