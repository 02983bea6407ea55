//! The subsystem by which a client submits detached jobs and asks after them: see
//! [`sublet_wire::jobs`]. It works for as long as the lease and the certificate do, whatever becomes
//! of the market.

use super::forward::Room;
use super::server::{Connection, SshServer, ended};
use super::{Admission, Door};
use crate::jobs::{Job, LeaseJobs, SubmitError};
use russh::ChannelWriteHalf;
use russh::server::Msg;
use std::sync::Arc;
use std::time::Duration;
use sublet_model::units::Seconds;
use sublet_wire::jobs::{JobRequest, JobView, Kept, MOST_QUESTION_BYTES, NewJob};
use tokio::time::timeout;

/// How long a client may take to ask.
const ASK_WITHIN: Duration = Duration::from_secs(30);
/// Shorter, and a lease would end between two commands.
const SHORTEST_IDLE: Seconds = Seconds(10);
/// Output handed to a client at once.
const CHUNK_BYTES: usize = 32 * 1024;
/// What a client that does not read has to take its last words.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(5);

/// Exit statuses, the same as those of `sublet`.
const FAILED: u32 = 1;
const UNFIT: u32 = 2;
const NOT_FOUND: u32 = 3;
const CONFLICT: u32 = 5;
const TRANSPORT: u32 = 255;

/// One question and its answer.
pub struct Asking<D> {
    pub server: Arc<SshServer<D>>,
    pub connection: Arc<Connection>,
    pub tenant: Admission,
    pub write: ChannelWriteHalf<Msg>,
    pub room: Room,
}

/// Why there is no answer.
enum No {
    /// In words, with an exit status.
    Words(u32, String),
    /// The client is gone.
    Gone,
}

fn no<T>(status: u32, words: impl Into<String>) -> Result<T, No> {
    Err(No::Words(status, words.into()))
}

impl<D: Door> Asking<D> {
    /// Serves it to its end.
    pub async fn run(self) {
        let answered = tokio::select! {
            answered = self.answer() => answered,
            reason = ended(&self.tenant) => no(TRANSPORT, format!("the lease has ended: {reason}")),
            () = self.room.closed.cancelled() => Err(No::Gone),
            () = self.connection.cut.cancelled() => Err(No::Gone),
        };
        let status = match answered {
            Ok(()) => 0,
            Err(No::Words(status, words)) => {
                let _ = timeout(LAST_WORDS_WITHIN, self.say(&words)).await;
                status
            }
            Err(No::Gone) => FAILED,
        };
        let last = async {
            let _ = self.write.exit_status(status).await;
            let _ = self.write.eof().await;
            let _ = self.write.close().await;
        };
        let _ = timeout(LAST_WORDS_WITHIN, last).await;
        self.room.leave();
    }

    async fn answer(&self) -> Result<(), No> {
        let request = self.question().await?;
        match request {
            JobRequest::Figures => {
                let figures = self.server.door().figures(&self.tenant.key).await;
                self.give(&figures.or_else(|words| no(FAILED, words))?).await
            }
            JobRequest::Submit(new) => self.submit(self.jobs().await?, new).await,
            JobRequest::List => {
                let all = self.jobs().await?.all();
                self.give(&all.iter().map(|job| job.view()).collect::<Vec<JobView>>()).await
            }
            JobRequest::Show { job } => self.give(&self.find(&job).await?.view()).await,
            JobRequest::Wait { job } => self.wait(&*self.find(&job).await?).await,
            JobRequest::Cancel { job } => self.cancel(self.find(&job).await?).await,
            JobRequest::IdleRelease { seconds } => self.idle_release(self.jobs().await?, seconds).await,
            JobRequest::Logs { job, from, tail, follow } => {
                self.logs(&self.find(&job).await?, from.unwrap_or(0), tail, follow).await
            }
        }
    }

    async fn jobs(&self) -> Result<Arc<LeaseJobs>, No> {
        self.server.door().jobs(&self.tenant.key).await.or_else(|words| no(FAILED, words))
    }

    async fn find(&self, job: &str) -> Result<Arc<Job>, No> {
        find(&*self.jobs().await?, job)
    }

    /// Reads the one line.
    async fn question(&self) -> Result<JobRequest, No> {
        let mut line = Vec::new();
        let read = async {
            while !line.contains(&b'\n') {
                let Some(bytes) = self.room.inbox.take().await else { break };
                if line.len() + bytes.len() > MOST_QUESTION_BYTES {
                    return no(UNFIT, format!("a question of more than {MOST_QUESTION_BYTES} bytes"));
                }
                line.extend_from_slice(&bytes);
            }
            Ok(())
        };
        match timeout(ASK_WITHIN, read).await {
            Ok(read) => read?,
            Err(_) => return no(UNFIT, "nothing was asked: one line of JSON is expected"),
        }
        serde_json::from_slice(&line).or_else(|error| no(UNFIT, format!("a question that can't be read: {error}")))
    }

    async fn submit(&self, jobs: Arc<LeaseJobs>, new: NewJob) -> Result<(), No> {
        if self.tenant.one_shot {
            return no(CONFLICT, "this lease ends with its one command; rent one with `sublet rent` for jobs");
        }
        let taken = tokio::task::spawn_blocking(move || jobs.submit(new)).await;
        let taken = taken.or_else(|error| no(FAILED, error.to_string()))?;
        match taken {
            Ok(job) => self.give(&job.view()).await,
            Err(error @ SubmitError::Unfit(_)) => no(UNFIT, error.to_string()),
            Err(error @ SubmitError::TooMany) => no(CONFLICT, error.to_string()),
            Err(error @ SubmitError::Disk(_)) => no(FAILED, error.to_string()),
        }
    }

    async fn idle_release(&self, jobs: Arc<LeaseJobs>, most: Option<Seconds>) -> Result<(), No> {
        if most.is_some_and(|most| most < SHORTEST_IDLE) {
            return no(UNFIT, format!("a lease that ends when it is idle may be so for at least {SHORTEST_IDLE}"));
        }
        let kept = tokio::task::spawn_blocking(move || jobs.set_idle_release(most)).await;
        match kept {
            Ok(Ok(())) => self.give(&Kept {}).await,
            Ok(Err(error)) => no(FAILED, format!("failed to write it down on the host: {error}")),
            Err(error) => no(FAILED, error.to_string()),
        }
    }

    async fn wait(&self, job: &Job) -> Result<(), No> {
        let mut changed = job.watch();
        while !job.state().is_over() {
            let _ = changed.changed().await;
        }
        self.give(&job.view()).await
    }

    async fn cancel(&self, job: Arc<Job>) -> Result<(), No> {
        let shared = Arc::clone(&job);
        let applied =
            tokio::task::spawn_blocking(move || shared.apply(sublet_model::job::JobEvent::Cancel, None)).await;
        match applied {
            Ok(Ok(_)) => self.give(&job.view()).await,
            Ok(Err(error)) => no(FAILED, format!("failed to write it down on the host: {error}")),
            Err(error) => no(FAILED, error.to_string()),
        }
    }

    async fn logs(&self, job: &Arc<Job>, from: u64, tail: Option<u64>, follow: bool) -> Result<(), No> {
        let (mut changed, mut grown) = (job.watch(), job.watch_output());
        let mut at = tail.map_or(from, |tail| from.max(job.span().1.saturating_sub(tail)));
        loop {
            changed.borrow_and_update();
            grown.borrow_and_update();
            // Asked before the last look, so that nothing said before the end is left out.
            let over = job.state().is_over();
            at = self.send_from(job, at).await?;
            if over || !follow {
                return Ok(());
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = grown.changed() => {}
            }
        }
    }

    /// Sends what there is from `at` on; where that ended.
    async fn send_from(&self, job: &Arc<Job>, mut at: u64) -> Result<u64, No> {
        loop {
            let shared = Arc::clone(job);
            let read = tokio::task::spawn_blocking(move || shared.read(at, CHUNK_BYTES)).await;
            let (from, bytes) = match read {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => return no(FAILED, format!("failed to read the output on the host: {error}")),
                Err(error) => return no(FAILED, error.to_string()),
            };
            if from > at {
                self.say(&format!("{} bytes before this are not kept any more", from - at)).await;
            }
            at = from.max(at) + bytes.len() as u64;
            if bytes.is_empty() {
                return Ok(at);
            }
            self.write.data_bytes(bytes).await.map_err(|_| No::Gone)?;
        }
    }

    async fn give(&self, answer: &impl serde::Serialize) -> Result<(), No> {
        let mut text = serde_json::to_vec(answer).or_else(|error| no(FAILED, error.to_string()))?;
        text.push(b'\n');
        self.write.data_bytes(text).await.map_err(|_| No::Gone)
    }

    async fn say(&self, words: &str) {
        let words: String = words.chars().filter(|c| !c.is_control()).collect();
        let _ = self.write.extended_data_bytes(1, format!("sublet: {words}\n")).await;
    }
}

fn find(jobs: &LeaseJobs, which: &str) -> Result<Arc<Job>, No> {
    let which: String = which.chars().filter(|c| !c.is_control()).take(80).collect();
    let there = || match jobs.all().iter().map(|job| job.record().number.to_string()).collect::<Vec<_>>() {
        none if none.is_empty() => "no job was submitted to this lease".to_owned(),
        numbers => format!("there are {}", numbers.join(", ")),
    };
    jobs.find(&which).ok_or_else(|| No::Words(NOT_FOUND, format!("no job {which}: {}", there())))
}
