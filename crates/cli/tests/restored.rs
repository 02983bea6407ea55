//! A backup is taken while a market is busy, and restored a while later, with its hosts still
//! running: nothing is granted twice and no charge is lost. Market and command are real programs; the
//! hosts are played by hand over their own protocol, and keep what a host keeps.

#![allow(clippy::print_stdout, reason = "what was seen stands beside the verdict")]

#[allow(dead_code, reason = "shared with the market's tests")]
#[path = "../../market/tests/http/fake_host.rs"]
mod fake_host;
#[path = "../../market/tests/http/manifest.rs"]
mod manifest;
#[allow(dead_code, reason = "shared with the other tests of the command line")]
mod world;

use fake_host::FakeHost;
use manifest::manifest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use sublet_wire::api::{
    AccountView, Granted, ImageView, LeaseView, MemberView, NewAccount, NewImage, NewJoinToken, NewMember, NewToken,
    TokenSecret,
};
use sublet_wire::client::Client;
use tokio_util::sync::CancellationToken;
use world::bare;

const CLIENT_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMlU0Aj30wsRdB3jLlo0A0DBuMqmwvZbzCbZhgBhUNZr me@laptop";
const HOSTS: usize = 3;
/// How long the market is busy: before the backup, between backup and crash, after the restore.
const BUSY: Duration = Duration::from_secs(4);

struct Market {
    dir: PathBuf,
    url: String,
    server: Child,
}

impl Market {
    fn serve(dir: &Path, listen: &str) -> Self {
        let (server, url) = world::serve(dir, listen);
        Self { dir: dir.to_owned(), url, server }
    }

    /// `kill -9`, and back on the same address with what the backup holds.
    fn lost_and_restored(mut self, backup: &Path) -> (Self, Value) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        let done = sublet(&["-o", "json", "market", "restore"], &[backup, &self.dir]);
        let listen = self.url.trim_start_matches("http://").to_string();
        (Self::serve(&self.dir.clone(), &listen), serde_json::from_str(&done).unwrap())
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn sublet(arguments: &[&str], paths: &[&Path]) -> String {
    let out = bare().args(arguments).args(paths).output().unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// An account with money, and somebody who acts for it.
async fn person(operator: &Client, name: &str, role: &str) -> Client {
    let account: AccountView = operator.post("/v1/accounts", &NewAccount { name: name.into() }).await.unwrap();
    let deposit = json!({"micros": 1_000_000_000i64, "reference": format!("for {name}")});
    let _: Value = operator.post(&format!("/v1/accounts/{}/deposits", account.id), &deposit).await.unwrap();
    let roles = vec![serde_json::from_value(json!(role)).unwrap()];
    let new = NewMember { account: account.id.to_string(), name: "only".into(), roles };
    let member: MemberView = operator.post("/v1/members", &new).await.unwrap();
    let new = NewToken { member: Some(member.id), name: "test".into(), expires_in: None, roles: None };
    let token: TokenSecret = operator.post("/v1/tokens", &new).await.unwrap();
    operator.with_token(token.secret)
}

/// Does as it is told until it is stopped; opens a session again whenever the market is another one.
async fn lend(mut host: FakeHost, stop: CancellationToken) -> FakeHost {
    let began = Instant::now();
    let mut ready: BTreeMap<sublet_model::ids::LeaseId, Instant> = BTreeMap::new();
    while !stop.is_cancelled() {
        for seen in host.observed.values_mut() {
            let Some(lease) = seen.lease else { continue };
            let since = *ready.entry(lease).or_insert_with(Instant::now);
            seen.seconds.0 = since.elapsed().as_secs() as i64;
        }
        let synced = tokio::select! {
            synced = host.sync() => synced.map(drop),
            // News of its own, as a real one has: it gives the call up.
            () = tokio::time::sleep(Duration::from_millis(300)) => { host.plan_version = 0; Ok(()) }
        };
        if synced.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = host.open().await;
        }
        assert!(began.elapsed() < Duration::from_secs(300), "nobody stops this host");
    }
    host
}

/// Rents and gives back, again and again. Whoever is not answered, or refused, tries anew.
async fn use_it(client: Client, number: usize, stop: CancellationToken) -> u64 {
    let mut rented = 0;
    while !stop.is_cancelled() {
        let needs = json!({"cpu": 1000, "memory": 256, "term_seconds": 3600, "emulated": true});
        let ask = json!({"requirements": needs, "ssh_public_key": CLIENT_KEY});
        let granted = client.post::<_, Granted>("/v1/leases", &ask);
        let granted = tokio::select! { granted = granted => granted, () = stop.cancelled() => return rented };
        let pause = Duration::from_millis(300 + (number as u64 * 397 + rented * 211) % 1500);
        tokio::time::sleep(pause).await;
        let Ok(granted) = granted else { continue };
        rented += 1;
        // A few are kept: they have to live through it all, and leave room for others.
        if number > 2 || rented != 2 {
            let path = format!("/v1/leases/{}/release", granted.lease.id);
            let _ = client.post::<_, LeaseView>(&path, &()).await;
        }
    }
    rented
}

/// What a database says, a row a line.
fn query(file: &Path, sql: &str) -> Vec<Vec<String>> {
    let out = Command::new("sqlite3").args(["-separator", "|"]).arg(file).arg(sql).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

fn one(file: &Path, sql: &str) -> String {
    query(file, sql)[0][0].clone()
}

const CHARGES: &str = "select lease, billed_seconds, total_micros from charges order by lease";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_load_and_restored_later_grants_nothing_twice_and_loses_no_charge() {
    sublet_wire::tls::install_provider();
    let temp = tempfile::tempdir().unwrap();
    let (dir, backup) = (temp.path().join("market"), temp.path().join("backup.db"));
    let token = sublet(&["market", "init"], &[&dir]).trim().to_string();
    let market = Market::serve(&dir, "127.0.0.1:0");
    let operator = Client::new(&market.url, Some(token), None).unwrap();
    let image = NewImage { manifest: manifest("1"), depot: "http://127.0.0.1:7402".into() };
    let _: ImageView = operator.post("/v1/images", &image).await.unwrap();
    let lender = person(&operator, "lender", "lender").await;
    let client = person(&operator, "client", "client").await;

    let stop_hosts = CancellationToken::new();
    let mut hosts = Vec::new();
    for n in 0..HOSTS {
        let new = NewJoinToken { uses: None, expires_in: None };
        let token: TokenSecret = lender.post("/v1/join-tokens", &new).await.unwrap();
        let joining = operator.with_token(token.secret.split('@').next().unwrap().to_owned());
        let mut host = FakeHost::join(&joining, &format!("host-{n}"), &[2, 2]).await.unwrap();
        host.settle().await;
        hosts.push(tokio::spawn(lend(host, stop_hosts.clone())));
    }
    let stop_clients = CancellationToken::new();
    let clients: Vec<_> = (0..8).map(|n| tokio::spawn(use_it(client.clone(), n, stop_clients.clone()))).collect();

    tokio::time::sleep(BUSY).await;
    let copied: Value = serde_json::from_str(&sublet(&["-o", "json", "market", "backup"], &[&backup, &dir])).unwrap();
    assert!(copied["leases"].as_u64().unwrap() > 3 && copied["epoch"] == 1, "{copied}");
    let in_backup = query(&backup, CHARGES).len();
    let deadline = Instant::now() + Duration::from_secs(60);
    while query(&dir.join("market.db"), CHARGES).len() < in_backup + 6 {
        assert!(Instant::now() < deadline, "little happens after the backup");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (market, restored) = tokio::task::spawn_blocking({
        let backup = backup.clone();
        move || market.lost_and_restored(&backup)
    })
    .await
    .unwrap();
    let aside = PathBuf::from(restored["put_aside"].as_str().unwrap());
    tokio::time::sleep(BUSY).await;
    stop_clients.cancel();
    let mut rented = 0;
    for client in clients {
        rented += client.await.unwrap();
    }

    // Everything that still runs is given back, and billed.
    let now = dir.join("market.db");
    let deadline = Instant::now() + Duration::from_secs(90);
    let unsettled = "select id from leases where id not in (select lease from charges)";
    loop {
        for row in query(&now, "select id from leases where state in ('granted', 'active')") {
            let _ = client.post::<_, LeaseView>(&format!("/v1/leases/{}/release", row[0]), &()).await;
        }
        let left = query(&now, unsettled);
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "not settled: {left:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stop_hosts.cancel();
    let mut lives = BTreeMap::new();
    for host in hosts {
        // A host stops dead where it is told to run what must not run.
        lives.extend(host.await.unwrap().memory.kept);
    }

    let (before, after) = (query(&aside, CHARGES), query(&now, CHARGES));
    assert!(before.len() > in_backup + 3, "too little happened after the backup: {in_backup}, {}", before.len());
    for charge in &before {
        assert!(after.contains(charge), "a charge is lost or another one now: {charge:?}");
    }
    let known: Vec<String> = after.iter().map(|row| row[0].clone()).collect();
    for (lease, (_, receipts)) in &lives {
        assert!(known.contains(&lease.to_string()), "{lease} ran on its host and has no bill");
        let last = receipts.last().unwrap().read().unwrap();
        let row = after.iter().find(|row| row[0] == lease.to_string()).unwrap();
        assert!(last.last && row[1].parse::<i64>().unwrap() <= last.seconds.0, "{row:?} {last:?}");
    }
    let recovered = one(&now, "select count(*) from audit where action = 'lease.recover'");
    let twice = query(&now, "select partition, generation from leases group by 1, 2 having count(*) > 1");
    assert!(twice.is_empty() && recovered.parse::<u64>().unwrap() > 0, "{twice:?} {recovered}");
    assert_eq!(one(&now, "select count(*) from audit where action in ('lease.recover.refused', 'receipt.fork')"), "0");
    assert_eq!(one(&now, "select coalesce(sum(micros), 0) from postings"), "0");
    println!(
        "{rented} leases rented; at the backup {in_backup} charges, at the crash {}, in the end {}; {recovered} leases were \
         forgotten and told again",
        before.len(),
        after.len()
    );
    drop(market);
}
