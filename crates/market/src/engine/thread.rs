//! The one writer thread, and the handle by which everybody else reaches it.

use super::change::Change;
use super::clock::Clock;
use super::command::{Command, Idempotency, Refusal, Reply};
use super::commit::{Commit, CommitError};
use super::draft::Keys;
use super::news::{self, News};
use super::plan::{self, Plan};
use super::state::State;
use super::step::{Engine, Fatal, Request, Stepped};
use super::wake::{Topic, Wakers};
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use sublet_model::ids::{HostId, LeaseId};
use sublet_model::units::Timestamp;
use sublet_wire::problem::Kind;
use tokio::sync::{oneshot, watch};

/// How many commands may wait; more are refused as busy.
const QUEUE: usize = 4096;
/// How many commands share one commit at most.
const BATCH: usize = 256;
/// How often time passes.
const TICK: Duration = Duration::from_secs(1);

struct Job {
    request: Request,
    answer: oneshot::Sender<Result<Reply, Refusal>>,
}

/// What readers see, and who waits for news of it.
struct Published {
    state: RwLock<State>,
    wakers: Wakers,
    news: News,
}

/// Reaches the engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    queue: SyncSender<Job>,
    published: Arc<Published>,
    clock: Arc<dyn Clock>,
    /// None while the engine runs; then why it ended.
    ended: watch::Receiver<Option<String>>,
}

/// A running engine. It ends when every handle is gone, or when it must.
pub struct Running {
    /// Reaches it.
    pub handle: Handle,
    thread: JoinHandle<Result<(), Fatal>>,
}

impl Running {
    /// Starts the engine over a database.
    pub fn start<D>(mut db: D, keys: Keys, clock: Arc<dyn Clock>) -> Result<Self, CommitError>
    where
        D: Commit + Send + 'static,
    {
        let engine = Engine::new(State::new(db.load()?), keys, clock.now());
        let state = RwLock::new(engine.state().clone());
        let published = Arc::new(Published { state, wakers: Wakers::default(), news: News::new(clock.now()) });
        let (queue, jobs) = sync_channel(QUEUE);
        let (ending, ended) = watch::channel(None);
        let handle = Handle { queue, published: Arc::clone(&published), clock: Arc::clone(&clock), ended };
        let writer = Writer { engine, db, published, clock, jobs };
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                let outcome = writer.run();
                let why = outcome.as_ref().err().map_or_else(|| "stopped".to_string(), ToString::to_string);
                if let Err(error) = &outcome {
                    tracing::error!("{error}");
                }
                ending.send_replace(Some(why));
                outcome
            })
            .map_err(|e| CommitError::Fatal(format!("starting the engine's thread: {e}")))?;
        Ok(Self { handle, thread })
    }

    /// Gives up the handle and waits until the engine has committed what was queued. Other
    /// handles keep it running: drop them first.
    pub fn stop(self) -> Result<(), Fatal> {
        drop(self.handle);
        self.thread.join().unwrap_or_else(|_| Err(Fatal("the engine's thread panicked".into())))
    }
}

impl Handle {
    /// Asks for something, and waits for the answer: it comes after the commit.
    pub async fn call(&self, command: Command, idempotency: Option<Idempotency>) -> Result<Reply, Refusal> {
        let (answer, answered) = oneshot::channel();
        let job = Job { request: Request { command, idempotency }, answer };
        self.queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => {
                Refusal::new(Kind::Busy, format!("more than {QUEUE} requests wait already")).advise("try again shortly")
            }
            TrySendError::Disconnected(_) => stopped(),
        })?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Tells something without waiting for an answer. Where the queue is full, it is lost.
    pub fn tell(&self, command: Command) {
        let (answer, _) = oneshot::channel();
        let _ = self.queue.try_send(Job { request: Request { command, idempotency: None }, answer });
    }

    /// Reads what is committed. Keep it short: the writer waits for readers.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        // A reader that panicked has changed nothing; the writer never panics half-way: see `publish`.
        look(&self.published.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The market's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Everything that a host should have now.
    pub fn plan(&self, host: HostId) -> Option<Plan> {
        self.read(|state| plan::of(state, host))
    }

    /// Waits until the plan of a host is another one than `known`. Give it a time limit.
    pub async fn plan_changed(&self, host: HostId, known: u64) {
        let is_news = || self.read(|state| state.host(host).is_none_or(|row| row.plan_version != known));
        self.published.wakers.wait(Topic::Plan(host), is_news).await;
    }

    /// Waits until the view of a lease is another one than `known`. Give it a time limit.
    pub async fn lease_changed(&self, lease: LeaseId, known: u64) {
        let is_news = || self.read(|state| state.lease(lease).is_none() || state.lease_version(lease) != known);
        self.published.wakers.wait(Topic::Lease(lease), is_news).await;
    }

    /// Waits until there is such a lease. Give it a time limit.
    pub async fn lease_granted(&self, lease: LeaseId) {
        let is_there = || self.read(|state| state.lease(lease).is_some());
        self.published.wakers.wait(Topic::Lease(lease), is_there).await;
    }

    /// The last of what happened.
    pub fn news(&self) -> &News {
        &self.published.news
    }

    /// Waits until the engine has ended, and says why.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the engine's thread is gone".into(),
        }
    }
}

fn stopped() -> Refusal {
    Refusal::new(Kind::Unavailable, "the market is stopping").advise("try again when it is back")
}

struct Writer<D> {
    engine: Engine,
    db: D,
    published: Arc<Published>,
    clock: Arc<dyn Clock>,
    jobs: Receiver<Job>,
}

impl<D: Commit> Writer<D> {
    fn run(mut self) -> Result<(), Fatal> {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let mut jobs = match self.jobs.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(first) => vec![first],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            jobs.extend(std::iter::from_fn(|| self.jobs.try_recv().ok()).take(BATCH - jobs.len()));
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                // Nobody waits for its answer.
                let (answer, _) = oneshot::channel();
                jobs.push(Job { request: Request { command: Command::Tick, idempotency: None }, answer });
            }
            self.serve(jobs)?;
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) -> Result<(), Fatal> {
        let (requests, answers): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.request, job.answer)).unzip();
        let now = self.clock.now();
        let stepped = self.engine.step(&mut self.db, &requests, now)?;
        self.publish(&stepped, now);
        for (waiting, answer) in answers.into_iter().zip(stepped.answers) {
            // Whoever does not wait any more has gone; what was done stays done.
            let _ = waiting.send(answer);
        }
        Ok(())
    }

    /// Shows readers what was committed, then wakes those for whom it is news.
    fn publish(&self, stepped: &Stepped, now: Timestamp) {
        let mut happened = self.published.news.warn(self.engine.state(), now);
        if !stepped.changes.is_empty() || stepped.reloaded {
            let topics = {
                let mut state = self.published.state.write().unwrap_or_else(PoisonError::into_inner);
                if stepped.reloaded {
                    *state = self.engine.state().clone();
                } else {
                    for change in &stepped.changes {
                        happened.extend(news::of(&state, change, now));
                        drop(state.apply_unlisted(change));
                    }
                    state.relist();
                }
                topics(&state, &stepped.changes)
            };
            self.published.wakers.wake(topics);
        }
        self.published.news.tell(happened);
    }
}

/// For whom these changes are news.
fn topics(state: &State, changes: &[Change]) -> HashSet<Topic> {
    let mut topics = HashSet::new();
    for change in changes {
        match change {
            Change::Plan { host, .. } => drop(topics.insert(Topic::Plan(*host))),
            Change::Lease(lease) => drop(topics.insert(Topic::Lease(lease.id))),
            Change::LeaseMoved { lease, .. } | Change::LeaseExtended { lease, .. } | Change::Receipt { lease, .. } => {
                topics.insert(Topic::Lease(*lease));
            }
            Change::Charge(charge) => drop(topics.insert(Topic::Lease(charge.lease))),
            Change::Seen { host, .. } => topics.extend(state.held_on(*host).map(|lease| Topic::Lease(lease.id))),
            _ => {}
        }
    }
    topics
}
