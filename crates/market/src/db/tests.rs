//! The schema's own rules, tried with plain SQL as a person with `sqlite3` would; and opening.

use super::*;
use crate::engine::change::Change;
use crate::engine::command::Command;
use crate::engine::commit::{Commit, CommitError};
use crate::engine::state::State;
use crate::engine::tests::world::{Agent, World, client, first_rows, id, rent};
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use sublet_model::identity::Sha256Digest;
use sublet_model::partition::Phase;
use sublet_model::units::Timestamp;

mod books;
mod migrating;

/// One lease is over and billed, another one holds the same partition.
fn busy_market() -> (World, Agent) {
    let (mut world, mut agent) = World::lending();
    agent.says.division.partitions[1].lendable = false;
    agent.says.division.revision += 1;
    world.sync(&mut agent);
    let lease = world.running(&mut agent);
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    let receipts = vec![agent.receipt(&lease, 5, false), agent.receipt(&lease, 9, true)];
    agent.says.receipts = receipts;
    agent.sees(&lease, Phase::Gone { reason: None });
    world.sync(&mut agent);
    agent.says.receipts.clear();
    let key = crate::engine::command::Idempotency { member: id(3), key: "k".into(), body: Sha256Digest::of(b"") };
    world.reply(rent(client(), id(600), 1000), Some(key)).unwrap();
    (world, agent)
}

#[test]
fn what_the_rules_forbid_plain_sql_can_not_do_either() {
    let (mut world, _) = busy_market();
    let held = "(select partition from leases where state <> 'ended')";
    let cases: Vec<(String, &str)> = vec![
        ("update allocations set memory_mib = 9999".into(), "never changes"),
        ("delete from allocations".into(), "never goes"),
        (
            format!("insert into allocations select partition, generation, revision + 1, 100, 64, 0, 1, 0 from allocations where partition = {held} order by generation desc, revision desc limit 1"),
            "locked",
        ),
        (
            format!("insert into allocations select partition, generation + 1, 0, 100, 64, 0, 1, 0 from allocations where partition = {held} order by generation desc limit 1"),
            "locked",
        ),
        (
            format!("insert or replace into allocations select partition, generation, revision, 100, 64, 0, 1, 0 from allocations where partition = {held} limit 1"),
            "only rise",
        ),
        (
            "insert into allocations select id, 0, 0, 100, 64, 0, 1, 0 from partitions where lendable = 0".into(),
            "only rise",
        ),
        ("update leases set state = 'granted', ended_at = null, reason = null where state = 'ended'".into(), "that ended"),
        ("delete from leases".into(), "never goes"),
        ("update leases set generation = 7 where state <> 'ended'".into(), "never changes"),
        ("update leases set terms = '{}' where state <> 'ended'".into(), "never changes"),
        ("update leases set state = 'resting' where state <> 'ended'".into(), "check constraint"),
        ("update leases set state = 'ended' where state <> 'ended'".into(), "check constraint"),
        (
            "insert into leases select 'lease_x', 'x', account, member, host, partition, generation, revision, state,
             reason, silent_since, granted_at, fetched_at, booted_at, ready_at, contact_at, stopped_at, ended_at,
             term_seconds, paid_seconds, one_shot, release_after_disconnect_seconds, ssh_public_key, image,
             image_digest, hourly_micros, terms, terms_key, terms_signature, detail, started from leases where state <> 'ended'"
                .into(),
            "is held",
        ),
        (
            "insert into leases select 'lease_x', 'x', account, member, host, partition, generation, revision, 'granted',
             null, silent_since, granted_at, fetched_at, booted_at, ready_at, contact_at, stopped_at, null,
             term_seconds, paid_seconds, one_shot, release_after_disconnect_seconds, ssh_public_key, image,
             image_digest, hourly_micros, terms, terms_key, terms_signature, detail, started from leases where state = 'ended'"
                .into(),
            "is held",
        ),
        (format!("update partitions set retired_at = 1 where id = {held}"), "can't retire"),
        ("update partitions set host = 'host_x'".into(), "stays on its host"),
        ("update partitions set max_memory_mib = 1".into(), "check constraint"),
        ("delete from partitions".into(), "never goes"),
        ("update offers set cpu_micros_per_core_hour = 0".into(), "never changes"),
        ("delete from offers".into(), "never goes"),
        ("update receipts set seconds = 999".into(), "never changes"),
        ("delete from receipts".into(), "never goes"),
        ("insert into receipts select lease, 3, 10, 0, 0, 'd', '{}', 's', 0 from receipts limit 1".into(), "none follows the last"),
        ("update charges set total_micros = 0".into(), "never changes"),
        ("delete from charges".into(), "never goes"),
        (
            "insert into charges select id, account, account, 0, 0, 0, 0, 0, 0, 0 from leases where state = 'granted'".into(),
            "not settled",
        ),
        ("update events set at = 0".into(), "never changes"),
        ("delete from events".into(), "never goes"),
        ("update audit set actor = 'nobody'".into(), "never changes"),
        ("delete from audit".into(), "never goes"),
        ("update idempotency set outcome = '\"Done\"'".into(), "never changes"),
        ("delete from idempotency".into(), "is kept"),
        ("insert or replace into charges select lease, client, lender, 0, 0, 0, 0, 0, 0, 0 from charges".into(), "never changes"),
        ("insert or replace into offers select id, version, account, 0, 0, 0, 0, 0, '{}', 0 from offers".into(), "never changes"),
        ("insert or replace into events select seq, 0, '', 1, '{}' from events limit 1".into(), "never changes"),
        ("insert or replace into audit select seq, 0, '', '', '', '' from audit limit 1".into(), "never changes"),
        ("insert or replace into idempotency select member, key, body, 'null', 0, 0 from idempotency".into(), "never changes"),
        (
            "insert or replace into leases select id, 'other', account, member, host, partition, generation, revision, state,
             reason, silent_since, granted_at, fetched_at, booted_at, ready_at, contact_at, stopped_at, ended_at, 99,
             99, one_shot, release_after_disconnect_seconds, ssh_public_key, image,
             image_digest, hourly_micros, terms, terms_key, terms_signature, detail, started from leases where state <> 'ended'"
                .into(),
            "is held",
        ),
        (
            "insert or replace into leases (rowid, id, name, account, member, host, partition, generation, revision, state,
             granted_at, term_seconds, paid_seconds, one_shot, release_after_disconnect_seconds, ssh_public_key, image,
             image_digest, hourly_micros, terms, terms_key, terms_signature) select rowid, 'lease_x', 'x', account, member,
             host, (select id from partitions where lendable = 0), 0, 0, 'granted', 0, 1, 1, 0, 0, '', image, image_digest,
             0, terms, '', '' from leases where state = 'ended'"
                .into(),
            "is held",
        ),
        (
            "insert or replace into receipts select lease, seq, 99, 0, 0, 'd', '{}', 's', 0 from receipts where seq = 2".into(),
            "without a gap",
        ),
        (
            "insert or replace into partitions select id, 'host_x', name, lendable, offer, min_cpu_millicores, min_memory_mib,
             min_disk_gib, desired_cpu_millicores, desired_memory_mib, desired_disk_gib, max_cpu_millicores,
             max_memory_mib, max_disk_gib, access_method, access_ca, access_host_key, access_dial, failed_boots,
             unlisted_until, taken_back_generation, taken_back_at, listed_at, leaving, declared_at, retired_at
             from partitions limit 1"
                .into(),
            "stays on its host",
        ),
        ("delete from accounts".into(), "foreign key"),
        ("update hosts set used_session = 99".into(), "check constraint"),
        ("insert into accounts values ('acct_x', 'x', 'yes', 0, 0, null)".into(), "cannot store text"),
    ];
    let before = world.db.load().unwrap();
    for (sql, why) in cases {
        let refused = world.db.connection().execute(&sql, []).expect_err(&sql).to_string().to_lowercase();
        assert!(refused.contains(why), "{sql}\n{refused}");
    }
    assert_eq!(world.db.load().unwrap(), before);
}

#[test]
fn every_table_and_every_column_is_explained() {
    let mut inside = false;
    let mut previous = "";
    for line in sqlite::SCHEMA_SQL.lines() {
        if line.starts_with("create table") {
            assert!(previous.starts_with("--"), "not explained: {line}");
            inside = true;
        } else if line.starts_with(')') {
            inside = false;
        } else if inside
            && !["check", "unique", "foreign key", "primary key"].iter().any(|w| line.trim().starts_with(w))
        {
            assert!(line.contains("-- "), "not explained: {line}");
        }
        previous = line;
    }
    let db = Sqlite::in_memory().unwrap();
    let lax: i64 = db
        .connection()
        .query_row(
            "select count(*) from pragma_table_list where schema = 'main' and type = 'table' and strict = 0 and name not like 'sqlite_%'",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(lax, 0, "every table is strict");
}

#[test]
fn every_change_can_be_read_back_from_the_events() {
    let (world, _) = busy_market();
    let mut statement = world.db.connection().prepare("select kind, change from events order by seq").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    let mut follower = State::default();
    let mut count = 0;
    for row in rows {
        let (kind, text) = row.unwrap();
        let change: Change = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{kind}: {e}: {text}"));
        assert!(text.starts_with(&format!("{{\"kind\":\"{kind}\"")));
        let _ = follower.apply(&change);
        count += 1;
    }
    assert!(count > 20);
    assert_eq!(follower.tables(), world.engine.state().tables(), "a follower has the same market");
}

/// What a person with `sqlite3` does beside a running market.
pub(crate) fn edit(dir: &Path, sql: &str) -> rusqlite::Result<usize> {
    let shell = Connection::open(dir.join(FILE))?;
    shell.execute_batch("pragma foreign_keys = on")?;
    shell.execute(sql, [])
}

pub(super) fn made() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), "EUR", &first(), Timestamp(1)).unwrap();
    dir
}

fn first() -> FirstMember {
    FirstMember {
        account: id(1),
        member: id(1),
        token: id(1),
        token_hash: Sha256Digest::of(b"t"),
        token_expires_at: Timestamp(5),
    }
}

#[test]
fn a_market_is_made_once_and_privately() {
    let dir = made();
    assert!(matches!(create(dir.path(), "EUR", &first(), Timestamp(1)), Err(DbError::Exists(_))));
    let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut db = Sqlite::open(dir.path()).unwrap();
    assert_eq!((db.currency().unwrap().as_str(), db.market_time().unwrap()), ("EUR", Timestamp(1)));
    let tables = db.load().unwrap();
    assert_eq!((tables.accounts.len(), tables.members.len(), tables.tokens.len()), (1, 1, 1));
    assert!(matches!(Sqlite::open(tempfile::tempdir().unwrap().path()), Err(DbError::Missing(_))));
    let pragma = |name: &str| -> String {
        db.connection()
            .query_row(&format!("select * from pragma_{name}"), [], |row| {
                row.get::<_, rusqlite::types::Value>(0).map(|v| format!("{v:?}"))
            })
            .unwrap()
    };
    assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
    assert_eq!(
        [pragma("synchronous"), pragma("foreign_keys"), pragma("trusted_schema")],
        ["Integer(2)", "Integer(1)", "Integer(0)"]
    );
    let log = std::fs::metadata(dir.path().join(format!("{FILE}-wal"))).unwrap();
    assert!(log.len() >= 8 << 20, "the log was grown once: {}", log.len());
}

#[test]
fn a_second_market_on_one_database_is_refused_by_name() {
    let dir = made();
    let first = Sqlite::open(dir.path()).unwrap();
    match Sqlite::open(dir.path()) {
        Err(DbError::InUse(holder)) => assert_eq!(holder, std::process::id().to_string()),
        other => panic!("{other:?}"),
    }
    drop(first);
    Sqlite::open(dir.path()).unwrap();
}

#[test]
fn a_newer_schema_and_a_damaged_file_are_refused() {
    let dir = made();
    let path = dir.path().join(FILE);
    Connection::open(&path).unwrap().execute("update meta set value = '99' where name = 'schema'", []).unwrap();
    assert!(matches!(Sqlite::open(dir.path()), Err(DbError::Newer { found: 99, .. })));
    for extra in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("{FILE}{extra}")));
    }
    std::fs::write(&path, b"this is no database, and longer than a header of a hundred bytes: ".repeat(9)).unwrap();
    assert!(matches!(Sqlite::open(dir.path()), Err(DbError::Sqlite { .. })));
}

#[test]
fn busy_full_and_broken_rules_are_told_apart() {
    let dir = made();
    let mut db = Sqlite::open(dir.path()).unwrap();
    db.load().unwrap();
    let rows = first_rows();
    // The operator is there already.
    let refused = db.commit(Timestamp(2), &rows.iter().collect::<Vec<_>>());
    assert!(matches!(refused, Err(CommitError::Constraint(_))), "{refused:?}");
    let good: Vec<&Change> = rows.iter().skip(2).collect();

    db.connection().busy_timeout(std::time::Duration::from_millis(10)).unwrap();
    let other = Connection::open(dir.path().join(FILE)).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let refused = db.commit(Timestamp(2), &good);
    assert!(matches!(refused, Err(CommitError::Busy(_))), "{refused:?}");
    other.execute_batch("rollback").unwrap();

    let pages: i64 = db.connection().query_row("pragma page_count", [], |row| row.get(0)).unwrap();
    db.connection().query_row(&format!("pragma max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    let long = "x".repeat(1 << 20);
    let big =
        Change::Audit { actor: "a".into(), action: "b".into(), object: "c".into(), detail: long, at: Timestamp(2) };
    let refused = db.commit(Timestamp(2), &[&big]);
    assert!(matches!(refused, Err(CommitError::Busy(_))), "{refused:?}");
    db.connection().query_row("pragma max_page_count = 1000000", [], |_| Ok(())).unwrap();

    other.execute("update accounts set suspended = 1", []).unwrap();
    assert!(db.edited().unwrap());
    let refused = db.commit(Timestamp(2), &good);
    assert!(matches!(refused, Err(CommitError::Edited)), "{refused:?}");
    db.load().unwrap();
    db.commit(Timestamp(2), &good).unwrap();
    assert_eq!(db.load().unwrap().accounts.len(), 4);
    assert_eq!(db.market_time().unwrap(), Timestamp(2));
}

#[test]
fn a_reader_sees_the_audit_log_and_receipts_and_can_not_write() {
    let dir = made();
    let _market = Sqlite::open(dir.path()).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let log = reader.audit(None, 10).unwrap();
    assert_eq!((log.len(), log[0].action.as_str()), (1, "market.create"));
    assert!(reader.audit(Some(log[0].seq), 10).unwrap().is_empty());
    assert!(reader.receipts(id(1)).unwrap().is_empty());
}
