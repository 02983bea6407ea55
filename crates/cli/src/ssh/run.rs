//! Runs `ssh` and tells apart what the guest said, what broke on the way, and what the person stopped.

use super::{ClientKey, Invocation, Pass, Target};
use crate::failure::{Exit, Failure};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// How a call of `ssh` ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest's own exit status. 255 may also mean that the host closed the connection.
    Exited(u8),
    /// The way broke; what `ssh` said about it.
    Broken(String),
    /// The person stopped it, with this signal.
    Stopped(i32),
}

/// Called once, at the first byte that comes from the guest.
pub type FirstByte = Arc<dyn Fn() + Send + Sync>;

/// Whether there is an `ssh` to call; asked before anything is rented.
pub fn available() -> anyhow::Result<()> {
    there_is("ssh")
}

fn there_is(program: &str) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    let missing = Failure::new(Exit::Failed, format!("there is no `{program}` program on this computer"));
    Err(missing.advise("install it (Debian, Ubuntu: apt install openssh-client)").into())
}

/// Runs `ssh` to its end. Streams are the person's own; with `first_byte` they pass through here,
/// so that a progress line can make room.
pub async fn run(
    invocation: Invocation,
    pass: &Pass,
    key: &ClientKey,
    first_byte: Option<FirstByte>,
) -> anyhow::Result<Ended> {
    run_to(invocation, &Target::of(pass, key)?, first_byte).await
}

/// The same, to any target.
pub async fn run_to(
    mut invocation: Invocation,
    target: &Target,
    first_byte: Option<FirstByte>,
) -> anyhow::Result<Ended> {
    let log = target.folder.join(format!("ssh-{}.log", uuid::Uuid::now_v7().simple()));
    invocation.log = Some(log.clone());
    let mut command = Command::new("ssh");
    command.args(invocation.arguments_to(target));
    if first_byte.is_some() {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    end_with_us(&mut command);
    // Before ssh starts: from then on a Ctrl-C is for it, and we live on to tidy up.
    let mut signals = Signals::listen()?;
    let mut child = command.spawn()?;
    let relays = first_byte.map(|first| relay(&mut child, first));
    let (status, stopped) = wait(&mut child, &mut signals).await?;
    if let Some(relays) = relays {
        relays.await;
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    Ok(judge(status, stopped, said.trim()))
}

/// Runs another program of OpenSSH, such as `scp`, on the person's own streams.
pub async fn run_tool(program: &str, arguments: Vec<std::ffi::OsString>) -> anyhow::Result<Ended> {
    there_is(program)?;
    let mut command = Command::new(program);
    command.args(arguments);
    end_with_us(&mut command);
    let mut signals = Signals::listen()?;
    let mut child = command.spawn()?;
    let (status, stopped) = wait(&mut child, &mut signals).await?;
    Ok(judge(status, stopped, ""))
}

/// Killed, we leave nobody behind who holds the partition as if we were there: the host sees the
/// client go, and a one-shot lease ends by itself.
#[allow(unsafe_code)]
pub fn end_with_us(command: &mut Command) {
    let us = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        match rustix::process::getppid() == Some(us) {
            true => Ok(()),
            // We were gone before the signal could be asked for.
            false => Err(std::io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error())),
        }
    };
    // SAFETY: between fork and exec only two system calls are made; nothing is allocated.
    unsafe { command.pre_exec(ask) };
}

fn judge(status: ExitStatus, stopped: Option<Signal>, said: &str) -> Ended {
    match (stopped, status.code()) {
        (Some(signal), _) => Ended::Stopped(signal.as_raw()),
        (None, Some(255)) if !said.is_empty() => Ended::Broken(said.replace('\r', "")),
        (None, Some(code)) => Ended::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, None) => Ended::Broken("ssh was killed".into()),
    }
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}

/// Waits for the end; a signal goes to ssh, a second one ends it.
async fn wait(child: &mut Child, signals: &mut Signals) -> std::io::Result<(ExitStatus, Option<Signal>)> {
    let mut stopped = None;
    loop {
        tokio::select! {
            status = child.wait() => return Ok((status?, stopped)),
            got = signals.next() => {
                let harder = if stopped.is_some() { Signal::KILL } else { got };
                stopped = stopped.or(Some(got));
                let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
                if let Some(pid) = pid {
                    // It may have ended in this very moment.
                    let _ = kill_process(pid, harder);
                }
            }
        }
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, first: FirstByte) {
    let mut chunk = vec![0; 64 << 10];
    loop {
        match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(got) => {
                first();
                // Nobody reads any more: leaving closes the pipe, and ssh ends by itself.
                if to.write_all(&chunk[..got]).await.is_err() || to.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn relay(child: &mut Child, first: FirstByte) -> impl Future<Output = ()> + use<> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let out = tokio::spawn({
        let first = first.clone();
        async move {
            if let Some(from) = stdout {
                pump(from, tokio::io::stdout(), first).await;
            }
        }
    });
    let err = tokio::spawn(async move {
        if let Some(from) = stderr {
            pump(from, tokio::io::stderr(), first).await;
        }
    });
    async move {
        let _ = tokio::join!(out, err);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_guests_word_and_the_ways_are_told_apart() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        assert_eq!(judge(exited(0), None, ""), Ended::Exited(0));
        assert_eq!(judge(exited(42), None, "a warning"), Ended::Exited(42));
        assert_eq!(judge(exited(255), None, ""), Ended::Exited(255), "a guest may say 255 itself");
        assert_eq!(judge(exited(255), None, "refused\r\n"), Ended::Broken("refused\n".into()));
        assert_eq!(judge(exited(255), Some(Signal::INT), "killed"), Ended::Stopped(2));
    }
}
