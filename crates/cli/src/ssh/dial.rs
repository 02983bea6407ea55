//! Reaches a host, by what its line offers: over QUIC directly, over QUIC through the market's
//! relay, by plain TCP. The first two are tried at once and the direct one is used as soon as there
//! is one; TCP comes into it when they have not answered for a while.

use super::Pass;
use super::command::address;
use anyhow::{Context, bail};
use futures_util::future::OptionFuture;
use std::path::Path;
use std::time::Duration;
use sublet_wire::path::{End, Joined, Reach, RelayUrl, Way};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

/// How long QUIC is waited for before TCP is tried as well.
const HEAD_START: Duration = Duration::from_secs(2);
/// What a host has to take a TCP connection and say its name.
const TCP_WITHIN: Duration = Duration::from_secs(10);
/// What a host's SSH server says first: whoever says something else is not one of ours.
const BANNER: &[u8] = b"SSH-2.0-Sublet";

/// A line to a host's SSH server.
pub enum Line {
    /// Over QUIC.
    Quic {
        /// Our end.
        end: End,
        /// The connection.
        way: Way,
        /// The stream on it.
        stream: Joined,
    },
    /// By plain TCP.
    Tcp(TcpStream),
    /// Through a socket of this very computer.
    Local(UnixStream),
}

/// Reaches the host that this computer is, as its owner.
pub async fn dial_local(socket: &Path) -> anyhow::Result<Line> {
    let stream = UnixStream::connect(socket).await;
    stream.map(Line::Local).with_context(|| format!("failed to reach the agent at {}", socket.display()))
}

/// Reaches the host of a pass.
pub async fn dial(pass: &Pass) -> anyhow::Result<Line> {
    let reach = pass.reach()?;
    let quic = OptionFuture::from(reach.has_quic().then(|| over_quic(pass, &reach)));
    let tcp = OptionFuture::from(reach.tcp.as_ref().map(|at| over_tcp(at, reach.has_quic())));
    tokio::pin!(quic, tcp);
    let (mut said, mut quic_failed, mut tcp_failed) = (Vec::new(), !reach.has_quic(), reach.tcp.is_none());
    while !(quic_failed && tcp_failed) {
        let (outcome, failed) = tokio::select! {
            Some(line) = &mut quic, if !quic_failed => (line, &mut quic_failed),
            Some(line) = &mut tcp, if !tcp_failed => (line, &mut tcp_failed),
        };
        match outcome {
            Ok(line) => return Ok(line),
            Err(error) => {
                *failed = true;
                said.push(format!("{error:#}"));
            }
        }
    }
    match said.is_empty() {
        true => bail!("the host says no way in that this program knows: {:?}", pass.dial),
        false => bail!("{}", said.join("; ")),
    }
}

async fn over_quic(pass: &Pass, reach: &Reach) -> anyhow::Result<Line> {
    let identity = pass.identity.context("the market did not say the host's key")?;
    let end = End::client(reach.is_here()).await?;
    let relay = match &pass.relay {
        Some(relay) if reach.relayed => {
            let url: RelayUrl = relay.url.parse().context("the relay's address can't be used")?;
            end.use_relay(&url, &relay.pass.offer(), Some(&relay.pass.token)).await;
            Some(url)
        }
        _ => None,
    };
    let way = end.dial(&identity, reach, relay.as_ref()).await?;
    let stream = way.open().await?;
    Ok(Line::Quic { end, way, stream })
}

async fn over_tcp(at: &str, waits: bool) -> anyhow::Result<Line> {
    if waits {
        sleep(HEAD_START).await;
    }
    let (host, port) = address(at)?;
    let tried = format!("failed to reach the host by TCP at {at}");
    let connected = async {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let mut first = [0; BANNER.len()];
        // Something may listen there that is not the host, most of all on this computer itself.
        while stream.peek(&mut first).await? < first.len() {
            sleep(Duration::from_millis(5)).await;
        }
        anyhow::ensure!(first == BANNER, "what answers there is not a sublet host");
        anyhow::Ok(stream)
    };
    let stream = timeout(TCP_WITHIN, connected).await.context("it did not answer").and_then(|done| done);
    Ok(Line::Tcp(stream.context(tried)?))
}
