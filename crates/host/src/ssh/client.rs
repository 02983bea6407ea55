//! What is known of one client: its connection, its channels, and what each was asked for.

use super::forward::{self, Forwarding, Listener, Room};
use super::jobs::Asking;
use super::server::{Connection, SshServer};
use super::work::{Steering, Work};
use super::{Door, Refusal, SessionEvent, certificate};
use crate::guest_link::{Command, Pty};
use russh::keys::{Certificate, PublicKey};
use russh::server::{ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};

/// Channels of one connection at a time.
pub const MOST_CHANNELS: usize = 10;
/// Forwarded connections of one connection at a time, and ports listened on.
const MOST_FORWARDS: usize = 64;
pub const MOST_LISTENERS: usize = 16;
/// Signals a client may have sent that the job did not get yet.
const MOST_SIGNALS: usize = 16;

/// A client: its connection and its channels.
pub struct Client<D> {
    pub server: Arc<SshServer<D>>,
    pub connection: Arc<Connection>,
    pub channels: HashMap<ChannelId, Slot>,
    /// Ports listened on in the guest, by the address and port that the client knows them by.
    pub listeners: HashMap<(String, u32), Listener>,
    pub refused: Option<Refusal>,
}

/// One channel: first what was asked for, then the way to its job.
pub struct Slot {
    /// Until something serves it.
    pub write: Option<ChannelWriteHalf<Msg>>,
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    pub pty: Option<Pty>,
    pub room: Room,
    pub signals: Option<mpsc::Sender<u8>>,
    pub size: watch::Sender<(u16, u16)>,
    /// A connection forwarded, in or out, rather than a session.
    forwards: bool,
}

impl Slot {
    /// Of a session.
    pub fn session(room: Room, write: ChannelWriteHalf<Msg>) -> Self {
        Self { write: Some(write), forwards: false, ..Self::forward(room) }
    }

    /// Of a forwarded connection.
    pub fn forward(room: Room) -> Self {
        let size = watch::Sender::new((0, 0));
        Self { write: None, env: Vec::new(), pty: None, room, signals: None, size, forwards: true }
    }
}

impl<D> Drop for Client<D> {
    fn drop(&mut self) {
        self.channels.values().for_each(|slot| slot.room.closed.cancel());
    }
}

impl<D: Door> Client<D> {
    pub fn new(server: Arc<SshServer<D>>, connection: Arc<Connection>) -> Self {
        Self { server, connection, channels: HashMap::new(), listeners: HashMap::new(), refused: None }
    }

    pub async fn let_in(&self, user: &str, certificate: &Certificate) -> Result<(), Refusal> {
        let lease: String = user.chars().filter(|c| !c.is_control()).take(80).collect();
        let tenant = self.server.door().lease(user).await.ok_or(Refusal::NoLease(lease))?;
        let authorities = tenant.authorities.iter().filter_map(|line| match PublicKey::from_openssh(line) {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::error!(%error, "an SSH authority of the market is no key, ignored");
                None
            }
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        certificate::check(certificate, &tenant.key, &authorities.collect::<Vec<_>>(), now)?;
        let key = tenant.key.clone();
        self.server.enter(&self.connection, tenant)?;
        self.server.door().event(&key, SessionEvent::Authenticated);
        Ok(())
    }

    /// Starts what the channel is for; whether that was possible.
    pub fn start(&mut self, id: ChannelId, command: Command, is_job: bool, session: &mut Session) -> bool {
        let (Some(slot), Some(tenant)) = (self.channels.get_mut(&id), self.connection.tenant()) else { return false };
        let Some(write) = slot.write.take() else { return false };
        let (tell, signals) = mpsc::channel(MOST_SIGNALS);
        slot.signals = Some(tell);
        let work = Work {
            server: Arc::clone(&self.server),
            connection: Arc::clone(&self.connection),
            tenant: tenant.clone(),
            handle: session.handle(),
            write,
            room: slot.room.clone(),
            steering: Steering { signals, size: slot.size.subscribe() },
            command,
            is_job,
            env: std::mem::take(&mut slot.env),
            pty: slot.pty.take(),
        };
        tokio::spawn(work.run());
        true
    }

    /// Serves a question about detached jobs on the channel; whether that was possible.
    pub fn ask(&mut self, id: ChannelId) -> bool {
        let (Some(slot), Some(tenant)) = (self.channels.get_mut(&id), self.connection.tenant()) else { return false };
        let Some(write) = slot.write.take() else { return false };
        let (server, connection) = (Arc::clone(&self.server), Arc::clone(&self.connection));
        let asking = Asking { server, connection, tenant: tenant.clone(), write, room: slot.room.clone() };
        tokio::spawn(asking.run());
        true
    }

    /// Channels that are open, of one kind.
    pub fn count(&mut self, forwards: bool) -> usize {
        self.channels.retain(|_, slot| !slot.room.over.is_cancelled());
        self.channels.values().filter(|slot| slot.forwards == forwards).count()
    }

    pub fn forward(&self) -> Option<Forwarding<D>> {
        let tenant = self.connection.tenant()?.clone();
        Some(Forwarding { server: Arc::clone(&self.server), connection: Arc::clone(&self.connection), tenant })
    }

    /// Connects to something inside the partition; the client is told once that stands.
    pub async fn connect(&mut self, channel: Channel<Msg>, to: &[&str], reply: ChannelOpenHandle) {
        let there_is_room = self.count(true) < MOST_FORWARDS;
        let Some(forward) = self.forward().filter(|_| there_is_room) else {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        if !to.iter().all(|word| forward::is_plain(word)) {
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
        let room = Room::new(&self.connection.held);
        self.channels.insert(channel.id(), Slot::forward(room.clone()));
        let (_, write) = channel.split();
        let words: Vec<String> = to.iter().map(|word| (*word).to_owned()).collect();
        tokio::spawn(async move { forward.connect(&words, write, room, reply).await });
    }
}
