//! One channel at work: a job in the guest, its bytes both ways, and how it ends.

use super::forward::Room;
use super::server::{Connection, FINISH_WITHIN, SshServer, ended};
use super::{Admission, Door, LeaseKey, SessionEvent};
use crate::guest_link::{
    Command, Exec, ExecRequest, GuestLink, LinkError, Output, Pty, Refusal as GuestRefusal, Status,
};
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// What `ssh` itself says when it is the connection that failed.
const TRANSPORT_FAILED: u32 = 255;
/// A one-shot job that has ended and left children which hold its output: how long they may be
/// silent, and how long a client may take for what is left.
const QUIET_TICKS: u32 = 3;
const DRAIN_TICKS: u32 = 60;
const TICK: Duration = Duration::from_secs(1);
/// How long the agent may take to say why a guest is gone.
const REASON_WITHIN: Duration = Duration::from_secs(2);
/// A client that does not read gets its last words within this, or not at all.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(250);

/// Everything one channel needs.
pub struct Work<D> {
    pub server: Arc<SshServer<D>>,
    pub connection: Arc<Connection>,
    pub tenant: Admission,
    pub handle: Handle,
    pub write: ChannelWriteHalf<Msg>,
    pub room: Room,
    pub steering: Steering,
    pub command: Command,
    /// Whether it can be the one job of a one-shot lease; file transfer beside it is not.
    pub is_job: bool,
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    pub pty: Option<Pty>,
}

/// What the client says beside its input.
pub struct Steering {
    pub signals: mpsc::Receiver<u8>,
    pub size: watch::Receiver<(u16, u16)>,
}

/// How serving a channel ended.
enum End {
    /// The job ended and all of its output was sent.
    Exited(Status),
    /// The link to the guest, or the start of the job, failed.
    Failed(LinkError),
    /// The lease ended, for this reason.
    LeaseOver(String),
    /// The client closed the channel or is gone.
    ClientGone,
}

impl<D: Door> Work<D> {
    pub async fn run(mut self) {
        let end = match self.link().await {
            Ok(link) => self.work(&link).await,
            Err(end) => Some(end),
        };
        self.room.inbox.close();
        if let Some(end) = end {
            self.conclude(end).await;
        }
        self.room.leave();
    }

    /// The link, as soon as the partition is ready: a client may come while it boots.
    async fn link(&self) -> Result<GuestLink, End> {
        tokio::select! {
            link = self.server.door().link(&self.tenant.key) => link.map_err(End::LeaseOver),
            reason = ended(&self.tenant) => Err(End::LeaseOver(reason)),
            () = self.room.closed.cancelled() => Err(End::ClientGone),
        }
    }

    /// Runs the job. `None` if everything was said already.
    async fn work(&mut self, link: &GuestLink) -> Option<End> {
        let only = self.is_job && self.server.take_only_job(&self.tenant);
        let job = format!("job_{}", uuid::Uuid::now_v7().simple());
        let request = ExecRequest {
            job: job.clone(),
            command: std::mem::replace(&mut self.command, Command::Login),
            env: std::mem::take(&mut self.env),
            cwd: None,
            user: self.tenant.login_user.clone(),
            pty: self.pty.take(),
            keep: only,
        };
        // Told before, so that a job is never started of which the agent does not know.
        self.tell(SessionEvent::Opened { job: job.clone(), only });
        let served =
            only.then(|| Served { server: Arc::clone(&self.server), lease: self.tenant.key.clone(), job: job.clone() });
        let exec = tokio::select! {
            exec = link.exec(&request) => exec,
            reason = ended(&self.tenant) => return Some(End::LeaseOver(reason)),
        };
        let exec = match exec {
            Ok(exec) => exec,
            Err(error) => {
                if let LinkError::Refused { why, .. } = &error {
                    let status = Status::Code(if *why == GuestRefusal::NotFound { 127 } else { 126 });
                    self.fail(&error.to_string(), exit_code(status)).await;
                    self.tell(SessionEvent::Exited { job, only, status });
                    return None;
                }
                return Some(End::Failed(error));
            }
        };
        let control = exec.control.clone();
        match self.serve(exec, only).await {
            End::Exited(status) => {
                self.say_status(status).await;
                self.connection.job_ended();
                self.tell(SessionEvent::Exited { job, only, status });
                None
            }
            End::ClientGone if only => {
                let _ = control.close(true).await;
                drop(served);
                None
            }
            End::ClientGone => {
                let _ = control.close(false).await;
                None
            }
            end => Some(end),
        }
    }

    /// Moves bytes and orders until the job, the client, the lease or the link is over.
    async fn serve(&mut self, exec: Exec, only: bool) -> End {
        let Exec { mut stdin, stdout, stderr, control } = exec;
        let inbox = Arc::clone(&self.room.inbox);
        let input = async move {
            while let Some(bytes) = inbox.take().await {
                stdin.write(&bytes).await?;
            }
            stdin.finish().await
        };
        let flow = Flow::default();
        let output =
            async { tokio::join!(flow.pump(stdout, &self.write, None), flow.pump(stderr, &self.write, Some(1))) };
        let exited = control.wait();
        tokio::pin!(input, output, exited);

        let (mut taking, mut drained, mut status) = (true, false, None);
        // Set once the lease is over while the rest of an ended job's output is on its way.
        let mut finish: Option<(Instant, Finishing)> = None;
        let mut patience = Patience::default();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let (Some(status), true) = (status, drained) {
                return End::Exited(status);
            }
            tokio::select! {
                _ = &mut input, if taking => taking = false,
                (out, err) = &mut output, if !drained => match out.and(err) {
                    Ok(()) => drained = true,
                    // What came before the guest went was sent; how the job ended is known.
                    Err(Broken::Guest(_)) if status.is_some() => drained = true,
                    Err(Broken::Guest(error)) => return End::Failed(error),
                    Err(Broken::Client) => return End::ClientGone,
                },
                exit = &mut exited, if status.is_none() => match exit {
                    Ok(exit) => status = Some(exit),
                    Err(error) => return End::Failed(error),
                },
                Some(number) = self.steering.signals.recv() => drop(control.signal(number).await),
                Ok(()) = self.steering.size.changed() => {
                    let (rows, cols) = *self.steering.size.borrow_and_update();
                    // Not there: the terminal keeps the size it has.
                    let _ = control.resize(rows, cols).await;
                }
                reason = ended(&self.tenant), if finish.is_none() => match status {
                    None => return End::LeaseOver(reason),
                    Some(_) => finish = Some((Instant::now() + FINISH_WITHIN, Finishing::new(&self.connection))),
                },
                () = late(&finish) => drained = true,
                () = self.room.closed.cancelled() => return End::ClientGone,
                _ = ticks.tick() => if let (Some(status), true) = (status, only && patience.over(&flow)) {
                    return End::Exited(status);
                },
            }
            if status.is_none() {
                patience = Patience::default();
            }
        }
    }

    async fn conclude(&self, end: End) {
        match end {
            End::Failed(error) => {
                // The agent knows better why a guest is gone than the link does.
                let reason = timeout(REASON_WITHIN, ended(&self.tenant)).await;
                let words =
                    reason.map_or_else(|_| error.to_string(), |reason| format!("the lease has ended: {reason}"));
                self.fail(&words, TRANSPORT_FAILED).await;
            }
            End::LeaseOver(reason) => self.fail(&format!("the lease has ended: {reason}"), TRANSPORT_FAILED).await,
            End::Exited(_) | End::ClientGone => {}
        }
    }

    fn tell(&self, event: SessionEvent) {
        self.server.door().event(&self.tenant.key, event);
    }

    async fn fail(&self, words: &str, code: u32) {
        let words: String = words.chars().filter(|c| !c.is_control()).collect();
        let line = format!("sublet: {words}\r\n");
        let last = async {
            let _ = self.write.extended_data_bytes(1, line).await;
            let _ = self.write.exit_status(code).await;
            let _ = self.write.eof().await;
            let _ = self.write.close().await;
        };
        let _ = timeout(LAST_WORDS_WITHIN, last).await;
    }

    async fn say_status(&self, status: Status) {
        let last = async {
            match status {
                Status::Code(code) => drop(self.write.exit_status(code.into()).await),
                Status::Signal(number) => {
                    let (id, words) = (self.write.id(), String::new());
                    let _ = self.handle.exit_signal_request(id, signal_name(number), false, words.clone(), words).await;
                }
            }
            let _ = self.write.eof().await;
            let _ = self.write.close().await;
        };
        // Messages without window; only a connection that is stuck holds them up.
        let _ = timeout(Duration::from_secs(10), last).await;
    }
}

/// The one job of a one-shot lease, while a session serves it. However that ends, the agent hears of
/// it: from then on it asks the guest itself.
struct Served<D: Door> {
    server: Arc<SshServer<D>>,
    lease: LeaseKey,
    job: String,
}

impl<D: Door> Drop for Served<D> {
    fn drop(&mut self) {
        self.server.door().event(&self.lease, SessionEvent::Left { job: std::mem::take(&mut self.job) });
    }
}

/// Keeps a connection from being cut while the rest of a job's output is sent.
struct Finishing(Arc<Connection>);

impl Finishing {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.finishing.send_modify(|count| *count += 1);
        Self(Arc::clone(connection))
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        self.0.finishing.send_modify(|count| *count -= 1);
    }
}

async fn late(finish: &Option<(Instant, Finishing)>) {
    match finish {
        Some((deadline, _)) => tokio::time::sleep_until(*deadline).await,
        None => std::future::pending().await,
    }
}

/// Which side broke.
enum Broken {
    Guest(LinkError),
    Client,
}

/// Output on its way to the client.
#[derive(Debug, Default)]
struct Flow {
    /// Chunks handed over so far.
    moved: AtomicU64,
    /// The client takes its time.
    waiting: AtomicBool,
}

impl Flow {
    async fn pump(&self, mut from: Output, to: &ChannelWriteHalf<Msg>, extended: Option<u32>) -> Result<(), Broken> {
        while let Some(bytes) = from.next().await.map_err(Broken::Guest)? {
            self.waiting.store(true, Ordering::Relaxed);
            let sent = match extended {
                None => to.data_bytes(bytes).await,
                Some(code) => to.extended_data_bytes(code, bytes).await,
            };
            sent.map_err(|_| Broken::Client)?;
            self.waiting.store(false, Ordering::Relaxed);
            self.moved.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// How long to wait for the rest of a one-shot job's output.
#[derive(Default)]
struct Patience {
    ticks: u32,
    quiet: u32,
    moved: u64,
}

impl Patience {
    fn over(&mut self, flow: &Flow) -> bool {
        let moved = flow.moved.load(Ordering::Relaxed);
        let quiet = moved == self.moved && !flow.waiting.load(Ordering::Relaxed);
        self.quiet = if quiet { self.quiet + 1 } else { 0 };
        self.moved = moved;
        self.ticks += 1;
        self.quiet >= QUIET_TICKS || self.ticks >= DRAIN_TICKS
    }
}

fn exit_code(status: Status) -> u32 {
    match status {
        Status::Code(code) => code.into(),
        Status::Signal(number) => 128 + u32::from(number),
    }
}

/// The Linux number of a signal by its SSH name.
pub fn signal_number(signal: &Sig) -> Option<u8> {
    Some(match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(name) => match name.as_str() {
            "USR2" => 12,
            "CONT" => 18,
            "STOP" => 19,
            "TSTP" => 20,
            _ => return None,
        },
    })
}

fn signal_name(number: u8) -> Sig {
    match number {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        4 => Sig::ILL,
        6 => Sig::ABRT,
        8 => Sig::FPE,
        9 => Sig::KILL,
        10 => Sig::USR1,
        11 => Sig::SEGV,
        12 => Sig::Custom("USR2".into()),
        13 => Sig::PIPE,
        14 => Sig::ALRM,
        15 => Sig::TERM,
        other => Sig::Custom(format!("SIG{other}@sublet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_one_number_and_one_name() {
        for number in 1..=20 {
            let name = signal_name(number);
            let known = !matches!(&name, Sig::Custom(name) if name.contains('@'));
            assert_eq!(signal_number(&name), known.then_some(number), "{name:?}");
        }
    }
}
