//! Many clients rent and give back over HTTP while the market is killed again and again, and while
//! its database refuses what it shall commit; of each partition, what everybody saw must be what it
//! could have done one thing after the other.

#[allow(dead_code, reason = "shared with other tests")]
#[path = "../http/fake_host.rs"]
mod fake_host;
#[path = "../http/manifest.rs"]
mod manifest;
mod people;
mod spec;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../http/world.rs"]
mod world;

use people::Log;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sublet_market::init::init;
use sublet_market::serve::{ServeOptions, serve};
use sublet_model::account::Role;
use tokio_util::sync::CancellationToken;
use world::World;

/// Tells the child that it is one, and where its market lies; and where it listens.
const PLACE: &str = "SUBLET_TEST_HISTORY_MARKET";
const ADDRESS: &str = "SUBLET_TEST_HISTORY_ADDRESS";
const CLIENTS: u32 = 64;
const HOSTS: u32 = 4;
/// Fewer partitions than clients: they must compete.
const PARTITIONS_A_HOST: usize = 6;
const KILLS: u32 = 6;
/// How long a market lives, more or less.
const LIFE: Duration = Duration::from_millis(1500);
/// Every so many lives its database is locked at last, for long enough that commits are refused.
const LOCKED_EVERY: u32 = 3;
const LOCKED_FOR: Duration = Duration::from_millis(4500);
/// A history that can have been is judged in milliseconds, all of a broken build's may take for ever.
const JUDGED_WITHIN: Duration = Duration::from_secs(60);

/// Not a test by itself: a market that is served until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the test below, as a process to be killed"]
async fn victim() {
    let (Ok(place), Ok(address)) = (std::env::var(PLACE), std::env::var(ADDRESS)) else { return };
    let options = ServeOptions { listen: Some(address.parse().unwrap()), tls: None, relay: None };
    let server = serve(Path::new(&place), options, CancellationToken::new()).await.unwrap();
    server.ended().await.unwrap();
}

/// A market in a process of its own. It dies with the test.
struct Served {
    child: Child,
}

impl Served {
    fn start(place: &Path, address: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .envs([(PLACE, place.as_os_str()), (ADDRESS, address.as_ref())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the database locked until it is dropped, as somebody does who edits by hand and thinks.
fn lock(place: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(place.join(sublet_market::db::FILE)).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.execute_batch("begin immediate").unwrap();
    connection
}

async fn until_open(base: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while world::http().get(format!("{base}/v1/health")).send().await.is_err() {
        assert!(Instant::now() < deadline, "the market does not come up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_64_clients_see_of_each_partition_is_one_thing_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("market");
    let first = init(&place, &world::config(), &["localhost".into()]).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let base = format!("http://{address}");
    let mut served = Served::start(&place, &address);
    until_open(&base).await;
    let world = World::served_elsewhere(dir, base.clone(), first.secret).await;
    world.image().await;
    let lender = world.person("lender", &[Role::Lender]).await;

    let log = Arc::new(Log::default());
    let stop = CancellationToken::new();
    let mut hosts = tokio::task::JoinSet::new();
    for n in 0..HOSTS {
        let host = world.host(&lender, &format!("host-{n}"), &[2; PARTITIONS_A_HOST]).await;
        hosts.spawn(people::lend(host, n, Arc::clone(&log), stop.clone()));
    }
    let closing = CancellationToken::new();
    let mut clients = tokio::task::JoinSet::new();
    let (one, other) = (world.person("one", &[Role::Client]).await, world.person("other", &[Role::Client]).await);
    for n in 0..CLIENTS {
        let who = if n % 2 == 0 { &one } else { &other };
        clients.spawn(people::rent(who.client.clone(), HOSTS + n, Arc::clone(&log), closing.clone()));
    }
    for kill in 0..KILLS {
        tokio::time::sleep(LIFE + Duration::from_millis(u64::from(kill * 137 % 400))).await;
        if kill % LOCKED_EVERY == LOCKED_EVERY - 1 {
            // What is refused now was not done: the next market, which only knows the disk, agrees.
            let locked = lock(&place);
            tokio::time::sleep(LOCKED_FOR).await;
            served.kill();
            drop(locked);
        } else {
            served.kill();
        }
        served = Served::start(&place, &address);
        until_open(&base).await;
    }
    tokio::time::sleep(LIFE).await;
    // Clients give back what they have and go; then nothing is held any more.
    closing.cancel();
    let (mut leases, mut failed) = (0, Vec::new());
    while let Some(done) = clients.join_next().await {
        match done {
            Ok(had) => leases += had,
            Err(error) => failed.push(error.to_string()),
        }
    }
    stop.cancel();
    while let Some(done) = hosts.join_next().await {
        done.unwrap();
    }
    served.kill();
    let histories = log.histories();
    let events: usize = histories.values().map(Vec::len).sum();
    eprintln!("{leases} leases of {CLIENTS} clients on {} partitions, {events} events, {KILLS} kills", histories.len());
    let (wrong, open) = spec::impossible(&histories, JUDGED_WITHIN);
    let first = wrong.first().map(|(partition, seen)| format!("{partition}\n{seen}")).unwrap_or_default();
    assert!(wrong.is_empty(), "{} of {} partitions can't have been, the first: {first}", wrong.len(), histories.len());
    let all = histories.len();
    assert_eq!(open, 0, "{open} of {all} partitions: no order of what was seen was found within {JUDGED_WITHIN:?}");
    assert!(failed.is_empty(), "clients gave up: {failed:?}");
    assert!(leases >= u64::from(CLIENTS), "too little was done to say anything: {leases} leases");
}
