//! Connections forwarded into and out of a partition (`ssh -L`, `-D`, `-R`).
//!
//! Each is a process in the guest (see the guest program's `forward`), so nothing is ever reached
//! from the owner's own network, and what it costs the host is one job's windows.

use super::inbox::{Held, Inbox};
use super::server::{Connection, SshServer, ended};
use super::{Admission, Door};
use crate::guest_link::{CONNECTED, Command, Exec, ExecRequest, OWN_PROGRAM, Output};
use bytes::{Buf, Bytes, BytesMut};
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{ChannelOpenFailure, ChannelWriteHalf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the guest may take to connect or to listen; its own limit is a little less.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);
/// How long a process may take to pass on the last of what its client sent.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);
/// Longest name of a host or a socket.
const MOST_NAME_BYTES: usize = 255;
/// Longest line of a process that listens.
const MOST_LINE_BYTES: usize = 256;

/// Where a channel's input waits, and how its end is told.
#[derive(Debug, Clone)]
pub struct Room {
    pub inbox: Arc<Inbox>,
    /// The client closed the channel.
    pub closed: CancellationToken,
    /// We are done with it: russh does not tell of a client's close after ours.
    pub over: CancellationToken,
}

impl Room {
    pub fn new(held: &Arc<Held>) -> Self {
        Self {
            inbox: Arc::new(Inbox::new(Arc::clone(held))),
            closed: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }

    /// We are done with it, and take nothing any more.
    pub fn leave(&self) {
        self.inbox.close();
        self.over.cancel();
    }
}

/// A port listened on in the guest. Dropping it ends that.
#[derive(Debug)]
pub struct Listener {
    /// Set when it ended by itself.
    pub over: CancellationToken,
    stop: CancellationToken,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// For whom to forward.
pub struct Forwarding<D> {
    pub server: Arc<SshServer<D>>,
    pub connection: Arc<Connection>,
    pub tenant: Admission,
}

impl<D> Clone for Forwarding<D> {
    fn clone(&self) -> Self {
        let Self { server, connection, tenant } = self;
        Self { server: Arc::clone(server), connection: Arc::clone(connection), tenant: tenant.clone() }
    }
}

/// Whether a word of the client's may be a word of the guest's command.
pub fn is_plain(word: &str) -> bool {
    word.len() <= MOST_NAME_BYTES && !word.starts_with('-') && !word.chars().any(char::is_control)
}

impl<D: Door> Forwarding<D> {
    /// Serves a connection into the partition.
    pub async fn connect(self, to: &[String], write: ChannelWriteHalf<Msg>, room: Room, reply: ChannelOpenHandle) {
        let words: Vec<&str> = std::iter::once("connect").chain(to.iter().map(String::as_str)).collect();
        match self.begin(&words).await {
            Ok((exec, first)) => {
                reply.accept().await;
                self.relay(exec, first, &write, &room).await;
            }
            Err(error) => {
                tracing::debug!(peer = self.connection.peer, error, "a connection into a partition failed");
                reply.reject(ChannelOpenFailure::ConnectFailed).await;
            }
        }
        room.leave();
    }

    /// Listens in the partition; every connection there becomes a channel to the client.
    pub async fn listen(self, address: &str, port: u32, handle: Handle) -> Result<(u32, Listener), String> {
        if !is_plain(address) || port > u32::from(u16::MAX) {
            return Err("no address".into());
        }
        let door = format!("sublet-{}", uuid::Uuid::now_v7().simple());
        let mut exec = self.run(&["listen", address, &port.to_string(), &door]).await?;
        let mut lines = Lines::default();
        let said = timeout(ANSWER_WITHIN, lines.next(&mut exec.stdout)).await.map_err(|_| "no answer".to_owned())?;
        let Some(bound) = said.as_deref().and_then(|line| line.strip_prefix("listening ")?.parse::<u16>().ok()) else {
            return Err(why(&mut exec).await);
        };
        let listener = Listener { over: CancellationToken::new(), stop: CancellationToken::new() };
        let (over, stop) = (listener.over.clone(), listener.stop.clone());
        let at = (address.to_owned(), u32::from(bound));
        tokio::spawn(async move {
            tokio::select! {
                () = self.hand_out(&mut exec, &mut lines, &at, &door, handle) => {}
                () = stop.cancelled() => {}
                _ = ended(&self.tenant) => {}
            }
            let _ = exec.control.close(false).await;
            over.cancel();
        });
        Ok((bound.into(), listener))
    }

    /// Opens a channel for each connection that a listening process tells of.
    async fn hand_out(&self, exec: &mut Exec, lines: &mut Lines, at: &(String, u32), door: &str, handle: Handle) {
        while let Some(line) = lines.next(&mut exec.stdout).await {
            let mut words = line.split(' ');
            let (Some(number), Some(peer), Some(port)) = (words.next(), words.next(), words.next()) else { return };
            let Ok(port) = port.parse::<u16>() else { return };
            let (forward, handle, at) = (self.clone(), handle.clone(), at.clone());
            let (number, peer, door) = (number.to_owned(), peer.to_owned(), door.to_owned());
            tokio::spawn(async move {
                // Taken first, so that one which the client refuses is closed with its process.
                let Ok((exec, first)) = forward.begin(&["take", &door, &number]).await else { return };
                let opened = handle.channel_open_forwarded_tcpip(at.0, at.1, peer, u32::from(port)).await;
                let Ok(channel) = opened else {
                    let _ = exec.control.close(false).await;
                    return;
                };
                let room = forward.connection.room(channel.id());
                let (_, write) = channel.split();
                forward.relay(exec, first, &write, &room).await;
                room.leave();
            });
        }
    }

    /// Starts a process of the guest program, and waits until its connection stands.
    async fn begin(&self, words: &[&str]) -> Result<(Exec, Bytes), String> {
        let mut exec = self.run(words).await?;
        let first = timeout(ANSWER_WITHIN, exec.stdout.next()).await.map_err(|_| "no answer".to_owned())?;
        match first {
            Ok(Some(mut bytes)) if bytes.first() == Some(&CONNECTED) => {
                bytes.advance(1);
                Ok((exec, bytes))
            }
            _ => Err(why(&mut exec).await),
        }
    }

    async fn run(&self, words: &[&str]) -> Result<Exec, String> {
        let request = ExecRequest {
            job: format!("job_{}", uuid::Uuid::now_v7().simple()),
            command: Command::Argv(std::iter::once(OWN_PROGRAM).chain(words.iter().copied()).map(Into::into).collect()),
            env: Vec::new(),
            cwd: None,
            user: self.tenant.login_user.clone(),
            pty: None,
            keep: false,
        };
        let link = tokio::select! {
            link = self.server.door().link(&self.tenant.key) => link?,
            reason = ended(&self.tenant) => return Err(reason),
            () = self.connection.cut.cancelled() => return Err("the client is gone".into()),
        };
        link.exec(&request).await.map_err(|error| error.to_string())
    }

    /// Moves bytes until both directions ended, or either side is gone.
    async fn relay(&self, exec: Exec, first: Bytes, write: &ChannelWriteHalf<Msg>, room: &Room) {
        let Exec { mut stdin, mut stdout, stderr: _stderr, control } = exec;
        let input = async {
            while let Some(bytes) = room.inbox.take().await {
                stdin.write(&bytes).await?;
            }
            stdin.finish().await
        };
        let output = async {
            let mut next = Some(first);
            while let Some(bytes) = next {
                if !bytes.is_empty() && write.data_bytes(bytes).await.is_err() {
                    return;
                }
                next = stdout.next().await.unwrap_or_default();
            }
            let _ = write.eof().await;
        };
        let input = async {
            tokio::select! {
                result = input => drop(result),
                // Nobody is left who would read.
                _ = control.wait() => {}
            }
        };
        let output = async {
            tokio::select! {
                () = output => {}
                () = room.closed.cancelled() => {}
            }
        };
        let both = async {
            tokio::join!(input, output);
            // What a client sent before it closed the channel is still delivered.
            let _ = timeout(DELIVER_WITHIN, control.wait()).await;
        };
        tokio::select! {
            () = both => {}
            () = self.connection.cut.cancelled() => {}
            _ = ended(&self.tenant) => {}
        }
        let _ = control.close(false).await;
        let _ = write.close().await;
    }
}

/// What a process that failed had to say.
async fn why(exec: &mut Exec) -> String {
    let words = timeout(Duration::from_secs(1), exec.stderr.collect(MOST_LINE_BYTES)).await;
    let _ = exec.control.close(false).await;
    String::from_utf8_lossy(&words.ok().and_then(Result::ok).unwrap_or_default()).trim().to_owned()
}

/// Cuts lines out of a job's output.
#[derive(Debug, Default)]
struct Lines(BytesMut);

impl Lines {
    /// The next line; `None` at the end, and for one that is too long.
    async fn next(&mut self, output: &mut Output) -> Option<String> {
        loop {
            if let Some(at) = self.0.iter().position(|byte| *byte == b'\n') {
                let line = self.0.split_to(at + 1);
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.0.len() > MOST_LINE_BYTES {
                return None;
            }
            self.0.extend_from_slice(&output.next().await.ok()??);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_client_cannot_be_options_or_lines() {
        for (word, plain) in [("localhost", true), ("::1", true), ("", true), ("--unix", false), ("a\nb", false)] {
            assert_eq!(is_plain(word), plain, "{word:?}");
        }
        assert!(!is_plain(&"a".repeat(256)));
    }
}
