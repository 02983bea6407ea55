//! P10: the end of a month. A database of settled leases, 20 receipts each, as the market writes its rows;
//! every bill made anew from them and added up for each account, by all processors, in a process of its
//! own whose memory is looked at. There is no peer; the answers are held against another program first:
//! the signed documents of some accounts, verified in Python.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use sublet_bench::report::{Options, head, median, row, write};
use sublet_bench::rng::Rng;
use sublet_bench::{SEED, cpu};
use sublet_market::db::{FILE, FirstMember, create};
use sublet_market::month::{self, COLUMNS, Month};
use sublet_model::billing::{PriceList, Terms};
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::ids::{AccountId, HostId};
use sublet_model::lease::EndReason;
use sublet_model::metering::Receipt;
use sublet_model::resources::Resources;
use sublet_model::statement::{Head, HostKey, Life, Seen, Side, Writer, work_out};
use sublet_model::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds, Timestamp};
use uuid::Uuid;

const TARGET: f64 = 100_000.0;
const RECEIPTS: u64 = 20;
/// Leases of one client.
const EACH: usize = 200;
const CHUNK: i64 = 900;
const SECOND: i64 = 1_000_000;
/// 2026-11-01.
const MONTH: Timestamp = Timestamp(1_793_491_200 * SECOND);
const UNTIL: Timestamp = Timestamp(1_796_083_200 * SECOND);
/// Accounts whose documents the other program verifies.
const SAMPLES: usize = 20;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let closing = args.next_if(|a| a == "close").is_some();
    let options = Options::read(args)?;
    let rows = options.numbers("rows", &[200_000])?[0];
    if closing {
        return close(Path::new(options.get("data").context("--data")?), options.number("threads", 2)?);
    }
    let seed = options.number("seed", SEED)? as u64;
    let dir = filled(&options, seed, rows)?;
    let sums = sums_of(&dir)?;
    let documents = verified(seed, rows, &sums)?;
    compare(&options, &dir, rows, &sums, documents)
}

// ---- the data

fn id<T: From<Uuid>>(kind: u128, n: usize) -> T {
    Uuid::from_u128((0x0193_0000_0000_7000_8000_0000_0000_0000 | (kind << 48)) + n as u128).into()
}

fn market() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn host_key(n: usize) -> SecretKey {
    let mut seed = [2; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    SecretKey::from_seed(&seed)
}

const HOSTS: usize = 100;

/// One life, the same for the same seed.
fn life(seed: u64, n: usize) -> Result<(Terms, Life)> {
    let mut random = Rng::new(seed ^ (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut below = |end: u64| random.below(end) as i64;
    let (host, cores) = (n % HOSTS, 1 + below(16));
    let granted_at = Timestamp(MONTH.0 + below(25 * 86_400) * SECOND + below(1_000_000));
    let resources = Resources { cpu: Millicores(cores * 500), memory: MiB(cores * 512), disk: GiB(below(100)) };
    let prices = PriceList {
        setup: Micros(below(1000)),
        flat: MicrosPerHour(below(5000)),
        cpu: MicrosPerHour(1000 + below(90_000)),
        memory: MicrosPerHour(below(9000)),
        disk: MicrosPerHour(below(90)),
        shortest_charge_seconds: Seconds(60),
    };
    let (boot, rest) = (2 + below(20), below(CHUNK as u64));
    let used = (RECEIPTS as i64 - 1) * CHUNK + rest;
    let terms = Terms {
        lease: id(1, n),
        client: id(2, n / EACH),
        lender: id(3, host),
        host: id(4, host),
        partition: id(5, host),
        generation: n as u64 + 1,
        resources,
        vcpus: 8,
        offer: id(6, host),
        offer_version: 1,
        prices,
        image: Sha256Digest::of(b"image"),
        granted_at,
        until: None,
        fee_permille: 50,
        term_seconds: Some(Seconds(86_400)),
    };
    let at = |seconds: i64| granted_at.after(Seconds(seconds));
    let seen = Seen {
        lease: terms.lease,
        name: "box".into(),
        image: "debian-12@12.11-1".into(),
        fetched_at: Some(at(1)),
        booted_at: Some(at(1)),
        ready_at: Some(at(boot)),
        contact_at: None,
        stopped_at: at(boot + used + below(4) - 2),
        ended_at: Some(at(boot + used + 5)),
        term_seconds: Seconds(86_400),
        paid_seconds: Seconds(86_400),
        held: None,
        reason: EndReason::Released,
        settled_at: at(boot + used + 6),
    };
    let (key, mut previous, mut receipts) = (host_key(host), None, Vec::new());
    for seq in 1..=RECEIPTS {
        let last = seq == RECEIPTS;
        let seconds = Seconds(if last { used } else { seq as i64 * CHUNK });
        let (lease, generation) = (terms.lease, terms.generation);
        let receipt = Receipt { lease, generation, seq, seconds, cpu_used_ms: seconds.0 * 900, last, previous };
        let signed = Signed::sign(&receipt, &key)?;
        previous = Some(signed.digest());
        receipts.push((at(boot + seconds.0 + 1), signed));
    }
    let signed = Signed::sign(&terms, &market())?;
    Ok((terms, Life { terms: signed, seen, receipts, credits: Vec::new() }))
}

/// The database, made once and kept.
fn filled(options: &Options, seed: u64, rows: usize) -> Result<PathBuf> {
    let data = options.get("data").unwrap_or("target/bench/data");
    let dir = Path::new(data).join(format!("p10-{seed}-{rows}"));
    if dir.join("whole").exists() {
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    println!("filling {} with {rows} leases", dir.display());
    let nobody = FirstMember {
        account: id(2, 0),
        member: id(7, 0),
        token: id(8, 0),
        token_hash: Sha256Digest::of(b""),
        token_expires_at: UNTIL,
    };
    create(&dir, "EUR", &nobody, MONTH)?;
    let mut db = Connection::open(dir.join(FILE))?;
    db.execute_batch(
        "pragma journal_mode = off; pragma synchronous = off; pragma foreign_keys = off; pragma cache_size = -262144",
    )?;
    // The rows are as the market leaves them at the end: the rules for how they come to be don't apply.
    let mut names = db.prepare("select name from sqlite_master where type = 'trigger'")?;
    let triggers: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    drop(names);
    for trigger in triggers {
        db.execute_batch(&format!("drop trigger {trigger}"))?;
    }
    for from in (0..rows).step_by(10_000) {
        let change = db.transaction()?;
        for n in from..rows.min(from + 10_000) {
            insert(&change, seed, n)?;
        }
        change.commit()?;
    }
    db.close().map_err(|(_, error)| error)?;
    File::create(dir.join("whole"))?;
    Ok(dir)
}

fn insert(db: &Connection, seed: u64, n: usize) -> Result<()> {
    let (terms, life) = life(seed, n)?;
    let Seen { lease, name, image, ready_at, stopped_at, ended_at, settled_at, .. } = &life.seen;
    let lease = lease.to_string();
    let mut put = db.prepare_cached(
        "insert into leases (id, name, account, member, host, partition, generation, revision, state, reason,
            granted_at, fetched_at, booted_at, ready_at, stopped_at, ended_at, term_seconds, paid_seconds, one_shot,
            release_after_disconnect_seconds, ssh_public_key, image, image_digest, hourly_micros, terms, terms_key,
            terms_signature)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 'ended', 'released', ?8, ?8, ?8, ?9, ?10, ?11, 86400, 86400, 0, 120,
            'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMlU0Aj30wsRdB3jLlo0A0DBuMqmwvZbzCbZhgBhUNZr me@laptop',
            ?12, ?13, ?14, ?15, ?16, ?17)",
    )?;
    put.execute(params![
        lease,
        name,
        terms.client.to_string(),
        id::<sublet_model::ids::MemberId>(7, 0).to_string(),
        terms.host.to_string(),
        terms.partition.to_string(),
        terms.generation as i64,
        terms.granted_at.0,
        ready_at.map(|at| at.0),
        stopped_at.0,
        ended_at.map(|at| at.0),
        image,
        terms.image.to_string(),
        terms.prices.hourly(terms.resources).0,
        life.terms.payload,
        life.terms.key.to_string(),
        life.terms.signature,
    ])?;
    let mut put = db.prepare_cached(
        "insert into receipts (lease, seq, seconds, cpu_used_ms, last, digest, payload, signature, received_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for (at, signed) in &life.receipts {
        let r = signed.read()?;
        let digest = signed.digest().to_string();
        let (seq, seconds, cpu) = (r.seq as i64, r.seconds.0, r.cpu_used_ms);
        put.execute(params![lease, seq, seconds, cpu, r.last, digest, signed.payload, signed.signature, at.0])?;
    }
    let charge = work_out(&terms, &life.seen, RECEIPTS, life.receipted()?);
    let mut put = db.prepare_cached(
        "insert into charges (lease, client, lender, receipt_seq, receipted_seconds, billed_seconds, hourly_micros,
            setup_micros, total_micros, settled_at) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    put.execute(params![
        lease,
        terms.client.to_string(),
        terms.lender.to_string(),
        RECEIPTS as i64,
        charge.receipted_seconds.0,
        charge.billed_seconds.0,
        terms.prices.hourly(terms.resources).0,
        charge.setup.0,
        charge.total.0,
        settled_at.0,
    ])?;
    Ok(())
}

// ---- equal answers

fn sums_of(dir: &Path) -> Result<Month> {
    Ok(month::close(dir, (MONTH, UNTIL), &mut [std::io::sink(), std::io::sink()])?)
}

/// Documents of some clients, all receipts in them: written, verified by the other program, and compared.
/// Answers how many leases a second were written.
fn verified(seed: u64, rows: usize, sums: &Month) -> Result<f64> {
    let clients = rows.div_ceil(EACH);
    let folder = tempfile::tempdir()?;
    let (mut spent, mut leases) = (Duration::ZERO, 0);
    for at in 0..SAMPLES.min(clients) {
        let client = at * clients / SAMPLES.min(clients);
        let lives: Vec<Life> = (client * EACH..rows.min((client + 1) * EACH))
            .map(|n| life(seed, n).map(|(_, life)| life))
            .collect::<Result<_>>()?;
        leases += lives.len();
        let began = Instant::now();
        let text = document(id(2, client), lives)?;
        spent += began.elapsed();
        let file = folder.path().join("statement.json");
        fs::write(&file, text)?;
        let said = Command::new("python3").arg("tools/verify/sublet_verify.py").arg(&file).output()?;
        let said: Value = serde_json::from_slice(&said.stdout).context("the other program must answer")?;
        let ours = sums.accounts.get(&id(2, client)).context("every client is there")?;
        ensure!(said["holds"] == true && said["leases"] == ours.rented, "{said}");
        ensure!(said["amount"].as_i64().map(i128::from) == Some(ours.paid), "{said}, and not {}", ours.paid);
    }
    Ok(leases as f64 / spent.as_secs_f64())
}

fn document(account: AccountId, lives: Vec<Life>) -> Result<String> {
    let host = |n: usize| HostKey { host: id::<HostId>(4, n), name: format!("h{n}"), key: host_key(n).public() };
    let head = Head {
        account,
        name: "client".into(),
        side: Side::Client,
        currency: "EUR".into(),
        from: MONTH,
        until: UNTIL,
        made_at: UNTIL,
        market: market().public(),
        keys: Vec::new(),
        hosts: (0..HOSTS).map(host).collect(),
    };
    let mut writer = Writer::new(head)?;
    let mut text = String::new();
    for life in lives {
        writer.lease(life)?;
        text += &writer.take();
    }
    Ok(text + &writer.finish(&market())?)
}

// ---- measured

/// The process that is measured.
fn close(dir: &Path, threads: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |n: usize| File::create(folder.path().join(format!("{n}.csv"))).map(BufWriter::new);
    let mut outs: Vec<BufWriter<File>> = (0..threads).map(file).collect::<Result<_, _>>()?;
    outs[0].write_all(COLUMNS.as_bytes())?;
    let began = Instant::now();
    let month = month::close(dir, (MONTH, UNTIL), &mut outs)?;
    let spent = began.elapsed();
    println!("{}", json!({"leases": month.leases, "charged": month.charged.to_string(), "s": spent.as_secs_f64()}));
    Ok(())
}

struct Round {
    rate: f64,
    cpu_us: f64,
    /// Resident, after a quarter of the time and at its highest since.
    memory: [u64; 2],
}

fn round(dir: &Path, sums: &Month, threads: usize) -> Result<Round> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["close", "--threads", &threads.to_string(), "--data"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut samples, mut spent) = (Vec::new(), Duration::ZERO);
    while child.try_wait()?.is_none() {
        spent = spent.max(cpu::of(child.id()));
        samples.push(cpu::resident_bytes(child.id()));
        std::thread::sleep(Duration::from_millis(20));
    }
    let said: Value = serde_json::from_slice(&child.wait_with_output()?.stdout).context("the month must close")?;
    ensure!(said["leases"] == sums.leases && said["charged"] == sums.charged.to_string(), "{said}");
    samples.retain(|bytes| *bytes > 0);
    let (early, late) = samples.split_at(samples.len() / 4);
    let early = early.iter().max().copied().unwrap_or(0);
    let late = late.iter().max().copied().unwrap_or(0);
    let leases = sums.leases as f64;
    let seconds = said["s"].as_f64().context("seconds")?;
    Ok(Round { rate: leases / seconds, cpu_us: spent.as_secs_f64() * 1e6 / leases, memory: [early, late] })
}

fn compare(options: &Options, dir: &Path, rows: usize, sums: &Month, documents: f64) -> Result<()> {
    let threads = options.number("threads", 2)?;
    head(&["round", "leases/s", "CPU us a lease", "MiB after a quarter", "MiB at most after"]);
    let mut rounds = Vec::new();
    for number in 0..options.number("rounds", 5)? {
        let one = round(dir, sums, threads)?;
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        let cells = [format!("{:.0}", one.rate), format!("{:.1}", one.cpu_us), mib(one.memory[0]), mib(one.memory[1])];
        row(&[[(number + 1).to_string()].as_slice(), cells.as_slice()].concat());
        rounds.push(one);
    }
    let rate = median(rounds.iter().map(|r| r.rate));
    println!(
        "\n{rate:.0} leases/s (target >= {TARGET}), {rows} leases of {RECEIPTS} receipts; of {SAMPLES} clients the other \
         program comes to the same amount. Signed documents with all receipts: {documents:.0} leases/s a processor"
    );
    let each: Vec<Value> =
        rounds.iter().map(|r| json!({"per_s": r.rate, "cpu_us": r.cpu_us, "memory": r.memory})).collect();
    let out = json!({
        "id": "p10", "ratio": rate / TARGET, "target": TARGET, "rounds": each, "ours": rate, "peer": null,
        "notes": {"leases": rows, "receipts": RECEIPTS, "threads": threads, "documents_per_s": documents},
    });
    write(&options.out("p10"), &out)
}
