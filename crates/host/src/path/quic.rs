//! Clients over QUIC: each stream is one SSH connection.

use crate::ssh::{Door, SshServer};
use std::sync::Arc;
use std::time::Duration;
use sublet_wire::path::{End, Knock, Way};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Connections at a time; each carries up to sixteen SSH connections, which have a bound of their own.
const MOST_CONNECTIONS: usize = 256;
/// With fewer places left than this a client has to prove first that it is where it says.
const FEW_PLACES: usize = MOST_CONNECTIONS / 2;
/// Within what a handshake must be over.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A connection without a stream is ended after this.
const IDLE_FOR: Duration = Duration::from_secs(10);

/// Lets clients in until `stop`.
pub async fn serve<D: Door>(end: &End, server: &Arc<SshServer<D>>, stop: &CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut clients = JoinSet::new();
    loop {
        let knock = tokio::select! {
            knock = end.knock() => knock,
            Some(_) = clients.join_next() => continue,
            () = stop.cancelled() => return,
        };
        let Some(knock) = knock else { return };
        let few = places.available_permits() < FEW_PLACES;
        match Arc::clone(&places).try_acquire_owned() {
            Ok(_) if few && !knock.is_validated() => knock.validate(),
            Ok(place) => drop(clients.spawn(client(knock, Arc::clone(server), stop.clone(), place))),
            Err(_) => {
                tracing::warn!("too many QUIC connections, refused");
                knock.refuse();
            }
        }
    }
}

async fn client<D: Door>(
    knock: Knock,
    server: Arc<SshServer<D>>,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    match timeout(HANDSHAKE_WITHIN, knock.enter()).await {
        Ok(Ok(way)) => streams(&way, server, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client did not come in over QUIC"),
        Err(_) => tracing::debug!("a client took too long to come in over QUIC"),
    }
}

/// Serves what a client opens, until it or the host ends the connection. Once its last stream is
/// over it has a while to take what is still on its way.
async fn streams<D: Door>(way: &Way, server: Arc<SshServer<D>>, stop: CancellationToken) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            stream = way.accept() => {
                let Ok(stream) = stream else { break };
                let Some(place) = server.place() else {
                    tracing::warn!("too many SSH connections, refused");
                    continue;
                };
                let (server, stop, peer) = (Arc::clone(&server), stop.clone(), format!("QUIC, {}", way.route()));
                open.spawn(async move {
                    server.serve_stream(stream, peer, stop).await;
                    drop(place);
                });
            }
            Some(_) = open.join_next() => {}
            () = sleep(IDLE_FOR), if open.is_empty() => break,
            () = stop.cancelled() => break,
        }
    }
    way.close("nothing is open any more");
    // Streams of a connection that has ended end by themselves.
    while open.join_next().await.is_some() {}
}
