//! The writer thread and its handle.

use super::world::*;
use crate::db::tests::edit;
use crate::db::{FirstMember, Sqlite, create};
use crate::engine::change::Change;
use crate::engine::clock::Clock;
use crate::engine::command::{Command, Outcome, Refusal, Reply};
use crate::engine::commit::{Commit, CommitError, Recalled};
use crate::engine::state::Tables;
use crate::engine::thread::{Handle, Running};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::MemberId;
use sublet_model::units::Timestamp;
use sublet_wire::problem::Kind;

#[derive(Default)]
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(START.0 + self.0.load(Ordering::SeqCst))
    }
}

fn first() -> FirstMember {
    FirstMember {
        account: id(OPERATOR),
        member: id(OPERATOR),
        token: id(900),
        token_hash: Sha256Digest::of(b"secret"),
        token_expires_at: START.after(sublet_model::units::Seconds(3600)),
    }
}

fn start(dir: &Path) -> Running {
    Running::start(Sqlite::open(dir).unwrap(), keys(), Arc::new(Hands::default())).unwrap()
}

async fn account(handle: &Handle, n: u128) -> Result<Outcome, Refusal> {
    let command = Command::CreateAccount { actor: operator(), id: id(n), name: format!("a{n}") };
    match handle.call(command, None).await? {
        Reply::Outcome(outcome) => Ok(outcome),
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_comes_after_the_commit_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), "EUR", &first(), START).unwrap();
    let running = start(dir.path());
    let handle = running.handle.clone();
    assert!(handle.read(|s| s.token_by_hash(&Sha256Digest::of(b"secret")).unwrap().is_good(handle.now())));
    for n in 50..80 {
        account(&handle, n).await.unwrap();
        assert!(handle.read(|state| state.account(id(n)).is_some()), "readers see it with the answer");
    }
    let before = handle.read(|state| state.tables().clone());
    drop(handle);
    running.stop().unwrap();
    let again = start(dir.path());
    assert_eq!(again.handle.read(|state| state.tables().clone()), before);
}

#[tokio::test]
async fn what_is_edited_by_hand_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), "EUR", &first(), START).unwrap();
    let running = start(dir.path());
    let handle = running.handle.clone();
    account(&handle, 50).await.unwrap();
    edit(dir.path(), "update accounts set suspended = 1 where name = 'a50'").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !handle.read(|state| state.account(id(50)).unwrap().suspended) {
        assert!(Instant::now() < deadline, "a tick notices it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    account(&handle, 51).await.unwrap();
    assert!(handle.read(|state| state.account(id(51)).is_some()));
}

#[tokio::test]
async fn a_database_that_can_not_be_read_any_more_ends_the_market() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), "EUR", &first(), START).unwrap();
    let running = start(dir.path());
    let handle = running.handle.clone();
    edit(dir.path(), "update accounts set id = 'nonsense'").expect_err("a foreign key keeps it");
    edit(dir.path(), "update members set roles = 'emperor'").unwrap();
    let why = tokio::time::timeout(Duration::from_secs(20), handle.ended()).await.unwrap();
    assert!(why.contains("members") && why.contains("emperor"), "{why}");
    assert_eq!(account(&handle, 51).await.unwrap_err().kind, Kind::Unavailable);
}

/// Holds the writer in its first commit until told to go on.
struct Slow {
    db: Sqlite,
    entered: mpsc::Sender<()>,
    go_on: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Commit for Slow {
    fn commit(&mut self, at: Timestamp, changes: &[&Change]) -> Result<(), CommitError> {
        let _ = self.entered.send(());
        let _ = self.go_on.lock().unwrap().recv();
        self.db.commit(at, changes)
    }
    fn recall(&mut self, member: MemberId, key: &str) -> Result<Option<Recalled>, CommitError> {
        self.db.recall(member, key)
    }
    fn edited(&mut self) -> Result<bool, CommitError> {
        self.db.edited()
    }
    fn load(&mut self) -> Result<Tables, CommitError> {
        self.db.load()
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_what_waited_shares_commits() {
    let mut db = Sqlite::in_memory().unwrap();
    db.commit(START, &first_rows().iter().collect::<Vec<_>>()).unwrap();
    let ((entered, has_entered), (go, go_on)) = (mpsc::channel(), mpsc::channel());
    let slow = Slow { db, entered, go_on: Arc::new(Mutex::new(go_on)) };
    let running = Running::start(slow, keys(), Arc::new(Hands::default())).unwrap();
    let handle = running.handle.clone();
    let one = tokio::spawn({
        let handle = handle.clone();
        async move { account(&handle, 50_000).await }
    });
    // The receiver comes back, so that later commits find somebody to tell.
    let _has_entered = tokio::task::spawn_blocking(move || has_entered.recv().map(|()| has_entered)).await.unwrap();
    let (mut waiting, asked) = (Vec::new(), Arc::new(AtomicI64::default()));
    for n in 0..5000 {
        let (handle, asked) = (handle.clone(), Arc::clone(&asked));
        waiting.push(tokio::spawn(async move {
            asked.fetch_add(1, Ordering::SeqCst);
            account(&handle, 60_000 + n).await
        }));
    }
    // A call enters the queue, or is refused, before it first waits.
    while asked.load(Ordering::SeqCst) < 5000 {
        tokio::task::yield_now().await;
    }
    drop(go);
    one.await.unwrap().unwrap();
    let (mut done, mut busy) = (0, 0);
    for task in waiting {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            Err(refusal) => {
                assert_eq!(refusal.kind, Kind::Busy);
                assert!(!handle.read(|state| state.account_by_name("nobody").is_some()));
                busy += 1;
            }
        }
    }
    assert_eq!((done, busy), (4096, 904));
    assert_eq!(handle.read(|state| state.accounts().count()), 4 + 1 + 4096);
}

#[tokio::test]
async fn a_held_sync_wakes_at_once_when_something_is_granted() {
    let (world, agent) = World::lending();
    let World { db, .. } = world;
    let running = Running::start(db, keys(), Arc::new(Hands::default())).unwrap();
    let handle = running.handle.clone();
    let mut says = agent.says.clone();
    says.wall_clock = handle.now();
    let sync = Command::Sync { host: agent.host, session: 1, request: Box::new(says.into()) };
    let Reply::Sync(answer) = handle.call(sync, None).await.unwrap() else { unreachable!() };
    let held = tokio::spawn({
        let (handle, host, known) = (handle.clone(), agent.host, answer.plan_version);
        async move {
            handle.plan_changed(host, known).await;
            handle.plan(host).unwrap()
        }
    });
    tokio::task::yield_now().await;
    handle.call(rent(client(), id(700), 1000), None).await.unwrap();
    let plan = tokio::time::timeout(Duration::from_secs(10), held).await.unwrap().unwrap();
    assert!(plan.version > answer.plan_version);
    assert_eq!(plan.wanted.iter().filter(|w| w.run.is_some()).count(), 1);

    let known = handle.read(|state| state.lease_version(id(700)));
    let watched = tokio::spawn({
        let handle = handle.clone();
        async move { handle.lease_changed(id(700), known).await }
    });
    tokio::task::yield_now().await;
    handle.call(Command::Release { actor: client(), lease: id(700) }, None).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), watched).await.unwrap().unwrap();
}

/// Tells of each commit before it is made, and makes it or not as it is told.
struct Judged {
    db: Sqlite,
    entered: mpsc::Sender<()>,
    verdict: Arc<Mutex<mpsc::Receiver<bool>>>,
}

impl Commit for Judged {
    fn commit(&mut self, at: Timestamp, changes: &[&Change]) -> Result<(), CommitError> {
        let _ = self.entered.send(());
        match self.verdict.lock().unwrap().recv() {
            Ok(false) => Err(CommitError::Busy("no room".into())),
            _ => self.db.commit(at, changes),
        }
    }
    fn recall(&mut self, member: MemberId, key: &str) -> Result<Option<Recalled>, CommitError> {
        self.db.recall(member, key)
    }
    fn edited(&mut self) -> Result<bool, CommitError> {
        self.db.edited()
    }
    fn load(&mut self) -> Result<Tables, CommitError> {
        self.db.load()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_what_is_committed_and_never_what_is_only_decided() {
    const ROUNDS: u128 = 60;
    let mut db = Sqlite::in_memory().unwrap();
    db.commit(START, &first_rows().iter().collect::<Vec<_>>()).unwrap();
    let ((entered, has_entered), (judge, verdict)) = (mpsc::channel(), mpsc::channel());
    let judged = Judged { db, entered, verdict: Arc::new(Mutex::new(verdict)) };
    let running = Running::start(judged, keys(), Arc::new(Hands::default())).unwrap();
    let handle = running.handle.clone();
    // Of every number: 0 not committed yet, 1 allowed to be seen.
    let allowed: Arc<Vec<AtomicI64>> = Arc::new((0..ROUNDS).map(|_| AtomicI64::new(0)).collect());
    let over = Arc::new(AtomicI64::new(0));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (handle, allowed, over) = (handle.clone(), Arc::clone(&allowed), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut looks = 0u64;
                while over.load(Ordering::SeqCst) == 0 {
                    for n in 0..ROUNDS {
                        let seen = handle.read(|state| state.account(id(50_000 + n)).is_some());
                        let may = allowed[usize::try_from(n).unwrap()].load(Ordering::SeqCst) == 1;
                        assert!(!seen || may, "account {n} was seen before it was committed");
                        looks += 1;
                    }
                }
                looks
            })
        })
        .collect();
    for n in 0..ROUNDS {
        let call = tokio::spawn({
            let handle = handle.clone();
            async move { account(&handle, 50_000 + n).await }
        });
        has_entered.recv().unwrap();
        // Decided, and on its way into the database: every reader looks a few times meanwhile.
        std::thread::sleep(Duration::from_millis(2));
        let well = n % 3 != 0;
        if well {
            allowed[usize::try_from(n).unwrap()].store(1, Ordering::SeqCst);
        }
        judge.send(well).unwrap();
        assert_eq!(call.await.unwrap().is_ok(), well);
        assert_eq!(handle.read(|state| state.account(id(50_000 + n)).is_some()), well);
    }
    over.store(1, Ordering::SeqCst);
    let looks: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert!(looks > 1000, "{looks}");
}
