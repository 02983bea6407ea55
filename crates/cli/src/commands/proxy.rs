//! `sublet proxy`: the bytes of one SSH connection, between `ssh` and the host.

use super::leasing;
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::logs;
use crate::output::say;
use crate::ssh::{self, Line, Pass};
use crate::values;
use clap::Args;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

/// What the host has to hang up after `ssh` did.
const FAREWELL_WITHIN: Duration = Duration::from_secs(3);
/// What is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Carry one SSH connection to a lease's host over stdin and stdout, as ssh's ProxyCommand
///
/// Reaches the host over QUIC, directly where that is possible, else through the market's relay, or
/// by plain TCP where the host offers that. -v says which. `sublet ssh` and the file of `sublet
/// ssh-config` call it by themselves.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ssh -o ProxyCommand='sublet proxy box' …")]
pub struct Proxy {
    /// Name or id of the lease
    #[arg(value_parser = values::reference, required_unless_present_any = ["pass", "socket"])]
    lease: Option<String>,
    /// The folder of a pass that is there already: the market is not asked
    #[arg(long, value_name = "FOLDER", hide = true)]
    pass: Option<PathBuf>,
    /// A socket of this computer's own host, instead of a lease's
    #[arg(long, value_name = "FILE", hide = true, conflicts_with = "pass")]
    socket: Option<PathBuf>,
}

impl Proxy {
    /// Carries until either side hangs up.
    pub async fn run(self, market: impl Fn() -> anyhow::Result<Market>) -> anyhow::Result<ExitCode> {
        if std::io::stdin().is_terminal() {
            let alone = Failure::new(Exit::Usage, "nothing to carry: this is for ssh, as its ProxyCommand");
            return Err(alone.advise("to enter a partition: `sublet ssh LEASE`").into());
        }
        // Ctrl-C at a terminal, and ssh when it is done, signal us as well: what ssh still had to say
        // goes out all the same, and its end of the pipe tells us when that is over.
        let _interrupts = (signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
        let mut stop = signal(SignalKind::terminate())?;
        let line = match (&self.pass, &self.socket, &self.lease) {
            (Some(folder), ..) => ssh::dial(&Pass::read(folder)?).await?,
            (None, Some(socket), _) => ssh::dial_local(socket).await?,
            (None, None, lease) => {
                ssh::dial(&leasing::pass_of(&market()?, lease.as_deref().unwrap_or_default()).await?.0).await?
            }
        };
        tokio::select! {
            () = carry_line(line) => {}
            _ = stop.recv() => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn carry_line(line: Line) {
    match line {
        Line::Tcp(mut stream) => {
            told(format!("reached by TCP, at {}", stream.peer_addr().map_or("?".into(), |at| at.to_string())));
            let (read, write) = stream.split();
            carry(read, write).await;
        }
        Line::Local(mut stream) => {
            let (read, write) = stream.split();
            carry(read, write).await;
        }
        Line::Quic { end, way, stream } => {
            let (read, write) = stream.into_inner();
            let follow = async {
                way.follow(|route| told(format!("reached over QUIC, {route}"))).await;
                // What came before the end may not have been read yet.
                std::future::pending().await
            };
            tokio::select! {
                () = carry(read, write) => {}
                () = follow => {}
            }
            way.close("done");
            end.close().await;
        }
    }
}

fn told(words: String) {
    if logs::is_verbose() {
        say(words);
    }
}

/// Both ways at once, until the host hangs up; it has a moment for that once `ssh` is gone.
async fn carry(read: impl AsyncRead + Unpin, write: impl AsyncWrite + Unpin) {
    let up = async {
        pump(input(), write).await;
        tokio::time::sleep(FAREWELL_WITHIN).await;
    };
    tokio::select! {
        () = up => {}
        () = pump(read, output()) => {}
    }
}

/// From `ssh` it is a pipe, which is read without a thread in between.
fn input() -> Box<dyn AsyncRead + Unpin> {
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().and_then(pipe::Receiver::from_owned_fd);
    pipe.map_or_else(|_| Box::new(tokio::io::stdin()) as Box<_>, |pipe| Box::new(pipe) as Box<_>)
}

fn output() -> Box<dyn AsyncWrite + Unpin> {
    let pipe = std::io::stdout().as_fd().try_clone_to_owned().and_then(pipe::Sender::from_owned_fd);
    pipe.map_or_else(|_| Box::new(tokio::io::stdout()) as Box<_>, |pipe| Box::new(pipe) as Box<_>)
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
