//! kill -9 while a market commits: whatever it acknowledged is there afterwards (I6), and what is
//! there is whole.

use super::world::*;
use crate::db::{FirstMember, Sqlite, create};
use crate::engine::clock::MarketClock;
use crate::engine::command::Command;
use crate::engine::commit::Commit;
use crate::engine::state::State;
use crate::engine::thread::Running;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::AccountId;
use sublet_model::units::{Seconds, Timestamp};

/// Tells the child that it is one, and where its market lies.
const PLACE: &str = "SUBLET_TEST_KILLED_MARKET";
/// Which test the child runs.
const VICTIM: &str = "engine::tests::kill::victim";
const KILLS: u64 = 8;

/// Not a test by itself: a market that makes accounts for as long as it lives, and says which of
/// them were acknowledged.
#[test]
#[ignore = "started by the test below, as a process to be killed"]
#[allow(clippy::print_stdout, reason = "it speaks to its parent")]
fn victim() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let db = Sqlite::open(Path::new(&place)).unwrap();
    let clock = MarketClock::new(db.market_time().unwrap());
    let handle = Running::start(db, keys(), Arc::new(clock)).unwrap().handle;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let clients = (0..8).map(|_| tokio::spawn(make_accounts(handle.clone()))).collect::<Vec<_>>();
        for client in clients {
            client.await.unwrap();
        }
    });
}

#[allow(clippy::print_stdout, reason = "it speaks to its parent")]
async fn make_accounts(handle: crate::engine::Handle) {
    loop {
        let id: AccountId = sublet_wire::new_id();
        let name = format!("a-{}", id.uuid().simple());
        handle.call(Command::CreateAccount { actor: operator(), id, name }, None).await.unwrap();
        println!("\nmade {id}");
    }
}

fn start(place: &Path) -> Child {
    Process::new(std::env::current_exe().unwrap())
        .args(["--exact", VICTIM, "--ignored", "--nocapture"])
        .env(PLACE, place)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the market a moment after its first word; answers what it said before.
fn kill(mut child: Child, after: Duration) -> Vec<AccountId> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let made = |line: String| line.strip_prefix("made ").and_then(|id| id.parse().ok());
    let first = lines.by_ref().find_map(made).expect("the market makes an account");
    let id = child.id();
    let killer = std::thread::spawn(move || {
        // The length of a life, not a proof of anything.
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let mut said = vec![first];
    said.extend(lines.filter_map(made));
    killer.join().unwrap();
    assert!(said.len() < 1_000_000, "process {id} was killed");
    said
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let first = FirstMember {
        account: id(OPERATOR),
        member: id(OPERATOR),
        token: id(900),
        token_hash: Sha256Digest::of(b"secret"),
        token_expires_at: START.after(Seconds(3600)),
    };
    create(dir.path(), "EUR", &first, START).unwrap();
    let (mut acknowledged, mut recorded) = (Vec::new(), Timestamp(0));
    for round in 0..KILLS {
        acknowledged.extend(kill(start(dir.path()), Duration::from_millis(20 + round * 17)));
        // The lock went with the process.
        let mut db = Sqlite::open(dir.path()).unwrap();
        let tables = db.load().unwrap();
        let lost = acknowledged.iter().filter(|id| !tables.accounts.contains_key(id)).count();
        assert_eq!(lost, 0, "of {} acknowledged", acknowledged.len());
        assert!(db.market_time().unwrap() >= recorded, "the market's time never goes back");
        recorded = db.market_time().unwrap();
        let events: i64 = db.count("select count(*) from events where kind = 'account'");
        let audited: i64 = db.count("select count(*) from audit where action = 'account.create'");
        let accounts = i64::try_from(tables.accounts.len()).unwrap();
        assert_eq!((events, audited), (accounts, accounts - 1), "each account with its event and its audit entry");
        assert!(State::new(tables).is_consistent());
    }
    assert!(acknowledged.len() >= usize::try_from(KILLS).unwrap());
}
