//! The way into the owner's own partitions: a unix socket in the state folder, behind which the same
//! SSH server speaks that clients know, with another door. It knows no lease, and the door that clients
//! come by knows no own partition; the authority is a key of this host, which certifies whoever may
//! read it. So nothing that a market signs opens an own partition, and nothing that is signed here a
//! lease.

use super::link::{OWN, user};
use crate::agent::shared::{Shared, Slot};
use crate::guest_link::GuestLink;
use crate::jobs::LeaseJobs;
use crate::ssh::{Admission, Door, LeaseKey, SessionEvent, SshServer};
use crate::store::{Own, Stand, Wish};
use crate::vmm::Vmm;
use anyhow::Context;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use sublet_wire::jobs::Figures;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// In the state folder.
pub const SOCKET: &str = "own.sock";

/// Opens it, and lets the owner in for as long as the agent lives.
pub fn open<V: Vmm>(shared: &Arc<Shared<V>>, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    let path = shared.store.state().join(SOCKET);
    let listener = listen(&path).with_context(|| format!("failed to listen at {}", path.display()))?;
    let authority = shared.store.own_authority()?.public()?;
    let door = OwnDoor { shared: Arc::clone(shared), authority };
    let server = SshServer::new(&shared.keys.ssh_private, Arc::new(door))?;
    tasks.spawn(serve(listener, server));
    Ok(())
}

/// There is one agent a state folder, so a socket that is there already is of one that is dead.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Nobody else enters the folder either.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve<D: Door>(listener: UnixListener, server: Arc<SshServer<D>>) {
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let Some(place) = server.place() else { continue };
                let (server, stop) = (Arc::clone(&server), stop.clone());
                tokio::spawn(async move {
                    server.serve_stream(socket, "the owner".into(), stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot let the owner in");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The agent's side of the owner's SSH server.
pub struct OwnDoor<V> {
    pub(in crate::agent) shared: Arc<Shared<V>>,
    /// Whose certificates count.
    pub(in crate::agent) authority: String,
}

impl<V: Vmm> OwnDoor<V> {
    async fn find(&self, user_name: &str) -> Option<(Own, Arc<Slot>)> {
        let all = self.shared.db(|store| store.own()).await.ok()?;
        let own = all.into_iter().find(|own| user(&own.name) == user_name)?;
        let slot = self.shared.own.all().get(&own.partition).cloned()?;
        Some((own, slot))
    }

    async fn found(&self, key: &LeaseKey) -> Result<(Own, Arc<Slot>), String> {
        let name = key.lease.strip_prefix(OWN).unwrap_or(&key.lease);
        self.find(&key.lease).await.ok_or_else(|| format!("{name} is gone"))
    }
}

impl<V: Vmm> Door for OwnDoor<V> {
    async fn lease(&self, user: &str) -> Option<Admission> {
        let (own, slot) = self.find(user).await?;
        let image = own.manifest().ok()?;
        // Whoever comes while it is down waits for the next start.
        let ends_with = if own.stand == Stand::Down { own.starts + 1 } else { own.starts };
        Some(Admission {
            key: LeaseKey { lease: user.to_owned(), generation: EVERY_START },
            authorities: vec![self.authority.clone()],
            login_user: image.login_user,
            one_shot: false,
            ended: slot.end_of(ends_with),
        })
    }

    async fn link(&self, key: &LeaseKey) -> Result<GuestLink, String> {
        let (own, slot) = self.found(key).await?;
        if own.wish != Wish::Run {
            let name = &own.name;
            return Err(format!("{name} is stopped; `sublet host own start {name}` starts it"));
        }
        let mut guest = slot.guest.subscribe();
        let linked = guest.wait_for(Option::is_some).await;
        let link = linked.ok().and_then(|linked| linked.as_ref().map(|linked| linked.link.clone()));
        link.ok_or_else(|| format!("{} is gone", own.name))
    }

    async fn jobs(&self, _: &LeaseKey) -> Result<Arc<LeaseJobs>, String> {
        Err("detached jobs are of leases: in a partition of your own, use what its system has".into())
    }

    async fn figures(&self, key: &LeaseKey) -> Result<Figures, String> {
        let (own, _) = self.found(key).await?;
        let start = own.start.ok_or_else(|| format!("{} is down", own.name))?;
        let machine = self.shared.hands().machine_of(own.partition, own.starts, start.uuid).await;
        let machine = machine.map_err(|error| error.to_string())?;
        self.shared.vmm.figures(&machine).await.map_err(|error| error.to_string())
    }

    fn event(&self, key: &LeaseKey, event: SessionEvent) {
        tracing::debug!(own = key.lease, ?event, "the owner");
    }
}

/// The owner's certificates are of no start in particular: it is theirs before and after.
pub const EVERY_START: u64 = 0;
