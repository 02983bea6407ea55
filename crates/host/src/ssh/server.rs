//! Accepts connections, bounds them, and ends them with their lease.

use super::client::Client;
use super::forward::Room;
use super::guarded::{AuthWatch, Guarded};
use super::inbox::{Held, WINDOW_BYTES};
use super::{Admission, Door, LeaseKey, Refusal, SessionEvent};
use futures_util::FutureExt as _;
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{Config, Handle};
use russh::{ChannelId, Disconnect, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// A client must be in within this, waiting for its lease included.
const LOGIN_WITHIN: Duration = Duration::from_secs(30);
/// Connections at a time, all leases together.
const MOST_CONNECTIONS: usize = 256;
/// Connections at a time to one lease.
const MOST_PER_LEASE: usize = 16;
/// How often a silent client is asked whether it is there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// How many times it may stay silent: gone after two minutes.
const KEEPALIVE_MOST: usize = 7;
/// What a client has to read its farewell.
const FAREWELL_WITHIN: Duration = Duration::from_millis(300);

/// What a client whose job ended just before its lease has to take the rest of the output.
pub const FINISH_WITHIN: Duration = Duration::from_secs(4);

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The host key is none.
    #[error("cannot use the SSH host key: {0}")]
    HostKey(#[from] russh::keys::ssh_key::Error),
}

/// The SSH server of a host.
pub struct SshServer<D> {
    door: Arc<D>,
    config: Arc<Config>,
    connections: Arc<Semaphore>,
    leases: Mutex<HashMap<LeaseKey, Present>>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
}

/// Who is in, of one lease.
#[derive(Debug, Default)]
struct Present {
    connections: usize,
    /// The one job of a one-shot lease was started.
    job_taken: bool,
}

/// One connection, before and after it is let in.
pub struct Connection {
    /// Where it comes from, for the log.
    pub peer: String,
    /// Cuts it at once.
    pub cut: CancellationToken,
    /// Sees refusals that russh makes by itself.
    pub auth: Arc<AuthWatch>,
    /// Input held for all of its channels.
    pub held: Arc<Held>,
    /// Channels whose job has ended by itself and whose client gets the rest of its output.
    pub finishing: watch::Sender<usize>,
    /// Channels that we opened and that either we or russh's callback have heard of first.
    rooms: Mutex<HashMap<ChannelId, Room>>,
    /// It was told why it is refused, and is to go.
    pub refused: CancellationToken,
    entered: CancellationToken,
    last_job_ended: Mutex<Option<Instant>>,
    handle: OnceLock<Handle>,
    tenant: OnceLock<Admission>,
}

impl Connection {
    fn new(peer: String) -> Self {
        Self {
            peer,
            cut: CancellationToken::new(),
            auth: Arc::default(),
            held: Arc::default(),
            finishing: watch::Sender::new(0),
            rooms: Mutex::default(),
            refused: CancellationToken::new(),
            entered: CancellationToken::new(),
            last_job_ended: Mutex::default(),
            handle: OnceLock::new(),
            tenant: OnceLock::new(),
        }
    }

    /// Whom it was let in as.
    pub fn tenant(&self) -> Option<&Admission> {
        self.tenant.get()
    }

    /// The room of a channel that we opened. Two ask for it: who opened the channel, and the
    /// callback through which its input comes. The first makes it, the second takes it along.
    pub fn room(&self, id: ChannelId) -> Room {
        let mut rooms = lock(&self.rooms);
        rooms.remove(&id).unwrap_or_else(|| rooms.entry(id).or_insert_with(|| Room::new(&self.held)).clone())
    }

    /// A client was given all that its job had to say.
    pub fn job_ended(&self) {
        *lock(&self.last_job_ended) = Some(Instant::now());
    }

    /// Waits while a client may still be printing what it was given: OpenSSH drops that when it is
    /// disconnected, and hangs up by itself when it is done.
    async fn let_finish(&self) {
        let finished = async { self.finishing.subscribe().wait_for(|count| *count == 0).await.is_ok() };
        let _ = timeout(FINISH_WITHIN, finished).await;
        let last = *lock(&self.last_job_ended);
        if let Some(last) = last {
            sleep_until(last + FINISH_WITHIN).await;
        }
    }

    /// Says why and hangs up.
    pub async fn disconnect(&self, reason: Disconnect, words: String) {
        if let Some(handle) = self.handle.get() {
            let said = handle.disconnect(reason, words, String::new());
            // A client that does not read must not hold us up.
            let _ = timeout(FAREWELL_WITHIN, said).await;
        }
    }
}

impl<D: Door> SshServer<D> {
    /// A server with a host key (OpenSSH private key text).
    pub fn new(host_key: &str, door: Arc<D>) -> Result<Arc<Self>, SshError> {
        let key = PrivateKey::from_openssh(host_key)?;
        Ok(Arc::new(Self {
            door,
            config: Arc::new(config(key)),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            leases: Mutex::default(),
            refusals: Mutex::default(),
        }))
    }

    /// Serves until `stop`; then every connection is cut.
    pub async fn serve(self: &Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let _ = socket.set_nodelay(true);
                    self.admit(socket, peer.to_string(), &stop);
                }
                Err(error) => {
                    // Out of descriptors, mostly: those that end will free some.
                    tracing::warn!(%error, "cannot accept an SSH connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Room for one more connection, all leases together; held as long as that is open.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    fn admit<S>(self: &Arc<Self>, socket: S, peer: String, stop: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(place) = self.place() else {
            tracing::warn!(peer, "too many SSH connections, refused");
            return;
        };
        let (server, stop) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            server.serve_stream(socket, peer, stop).await;
            drop(place);
        });
    }

    /// Serves one connection, over whatever carries it, until it ends.
    pub async fn serve_stream<S>(self: &Arc<Self>, socket: S, peer: String, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Arc::new(Connection::new(peer));
        let guarded = Guarded::new(socket, connection.cut.clone(), Arc::clone(&connection.auth));
        let client = Client::new(Arc::clone(self), Arc::clone(&connection));
        let running = russh::server::run_stream(Arc::clone(&self.config), guarded, client);
        let Ok(Ok(mut running)) = timeout(LOGIN_WITHIN, running).await else { return };
        let _ = connection.handle.set(running.handle());
        tokio::select! {
            ended = &mut running => {
                if let Err(error) = ended {
                    tracing::debug!(peer = connection.peer, %error, "an SSH connection broke");
                }
            }
            () = self.watch(&connection) => {}
            () = stop.cancelled() => {}
        }
        // It may have hung up before we were asked what it was refused for.
        if connection.auth.refused_unasked().now_or_never().is_some() {
            self.note(&connection, &Refusal::OutOfTime);
        }
        connection.cut.cancel();
        if let Some(tenant) = connection.tenant() {
            self.leave(&tenant.key);
        }
    }

    /// Returns when a connection must be cut: refused, too slow to come in, or its lease ended.
    async fn watch(&self, connection: &Connection) {
        let late = sleep(LOGIN_WITHIN);
        tokio::pin!(late);
        loop {
            tokio::select! {
                () = &mut late => return,
                () = connection.refused.cancelled() => return sleep(FAREWELL_WITHIN).await,
                () = connection.entered.cancelled() => break,
                () = connection.auth.refused_unasked() => self.note(connection, &Refusal::OutOfTime),
            }
        }
        let Some(tenant) = connection.tenant() else { return };
        let reason = ended(tenant).await;
        // The channels say it first, on stderr.
        sleep(FAREWELL_WITHIN).await;
        connection.let_finish().await;
        connection.disconnect(Disconnect::ByApplication, format!("the lease has ended: {reason}")).await;
        sleep(FAREWELL_WITHIN).await;
    }

    /// The door, for those who serve its clients.
    pub fn door(&self) -> &D {
        &self.door
    }

    /// Counts and logs a refusal.
    pub fn note(&self, connection: &Connection, refusal: &Refusal) {
        tracing::info!(peer = connection.peer, reason = refusal.name(), "an SSH client was refused: {refusal}");
        *lock(&self.refusals).entry(refusal.name()).or_default() += 1;
    }

    /// How many clients were refused, by the names of [`Refusal::name`].
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.refusals).clone()
    }

    /// Lets a connection in.
    pub fn enter(&self, connection: &Connection, tenant: Admission) -> Result<(), Refusal> {
        let mut leases = lock(&self.leases);
        let present = leases.entry(tenant.key.clone()).or_default();
        if present.connections >= MOST_PER_LEASE {
            return Err(Refusal::TooManyConnections(tenant.key.lease));
        }
        if connection.tenant.set(tenant).is_ok() {
            present.connections += 1;
            connection.entered.cancel();
        }
        Ok(())
    }

    fn leave(&self, key: &LeaseKey) {
        let mut leases = lock(&self.leases);
        let Some(present) = leases.get_mut(key) else { return };
        present.connections -= 1;
        let remaining = present.connections;
        if remaining == 0 && !present.job_taken {
            leases.remove(key);
        }
        drop(leases);
        self.door.event(key, SessionEvent::Closed { remaining });
    }

    /// Whether the command about to start is the one job of its lease; true once only.
    pub fn take_only_job(&self, tenant: &Admission) -> bool {
        let mut leases = lock(&self.leases);
        leases.retain(|key, present| present.connections > 0 || *key == tenant.key || !present.job_taken);
        let present = leases.entry(tenant.key.clone()).or_default();
        tenant.one_shot && !std::mem::replace(&mut present.job_taken, true)
    }
}

/// Waits until a lease has ended; why, in words.
pub async fn ended(tenant: &Admission) -> String {
    let mut ended = tenant.ended.clone();
    match ended.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => "the host let go of it".into(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Few and modern algorithms; the fast cipher first.
fn config(host_key: PrivateKey) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Sublet")),
        // The second lets nobody in: it carries words to clients whose key or certificate was refused.
        methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::KeyboardInteractive][..]),
        // Nothing can be guessed here, so nothing is gained by answering slowly.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        window_size: WINDOW_BYTES,
        maximum_packet_size: 64 * 1024,
        channel_buffer_size: 8,
        event_buffer_size: 16,
        max_auth_attempts: 6,
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE_EVERY),
        keepalive_max: KEEPALIVE_MOST,
        nodelay: true,
        preferred: Preferred {
            kex: Cow::Borrowed(&[
                kex::MLKEM768X25519_SHA256,
                kex::CURVE25519,
                kex::CURVE25519_PRE_RFC_8731,
                kex::EXTENSION_SUPPORT_AS_SERVER,
                kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
            ]),
            key: Cow::Borrowed(&[Algorithm::Ed25519]),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(&[cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305]),
            mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM]),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        ..Config::default()
    }
}
