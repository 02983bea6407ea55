//! Databases of older versions.

use super::*;
use crate::db::create::describe;
use crate::db::sqlite;
use crate::engine::rows::Purse;
use crate::engine::tests::world::operator;
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Seconds};
use sublet_wire::problem::Kind;

const SCHEMA_1: &str = include_str!("schema-1.sql");

/// The busy market as the first version would have written it: its rows, with the columns of then.
fn old_market() -> (World, tempfile::TempDir) {
    let (world, _, dir) = old_market_and_its_host();
    (world, dir)
}

fn old_market_and_its_host() -> (World, Agent, tempfile::TempDir) {
    let (world, agent) = busy_market();
    let dir = tempfile::tempdir().unwrap();
    let old = Connection::open(dir.path().join(FILE)).unwrap();
    let (tables, triggers) = SCHEMA_1.split_at(SCHEMA_1.find("\ncreate trigger").unwrap());
    old.execute_batch(tables).unwrap();
    describe(&old, Timestamp(2), "EUR").unwrap();
    old.execute("update meta set value = '1' where name = 'schema'", []).unwrap();
    old.execute("delete from meta where name in ('fee_permille', 'ledger_since')", []).unwrap();
    old.execute_batch("pragma foreign_keys = off").unwrap();
    for table in names(&old, "select name from sqlite_schema where type = 'table' and name <> 'meta'") {
        let columns = names(&old, &format!("select name from pragma_table_info('{table}')"));
        copy(world.db.connection(), &old, &table, &columns);
    }
    old.execute_batch(triggers).unwrap();
    (world, agent, dir)
}

fn names(db: &Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn copy(from: &Connection, to: &Connection, table: &str, columns: &[String]) {
    copy_into(from, to, table, table, columns);
}

fn copy_into(from: &Connection, to: &Connection, table: &str, into: &str, columns: &[String]) {
    let places: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
    let mut insert = to.prepare(&format!("insert into {into} values ({})", places.join(", "))).unwrap();
    let mut rows = from.prepare(&format!("select {} from {table}", columns.join(", "))).unwrap();
    let mut rows = rows.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let cells: Vec<rusqlite::types::Value> = (0..columns.len()).map(|at| row.get(at).unwrap()).collect();
        insert.execute(rusqlite::params_from_iter(cells)).unwrap();
    }
}

/// What there is, without explanations and without how it is laid out.
fn objects(db: &Connection) -> Vec<(String, String, String)> {
    let plain = |sql: Option<String>| {
        let lines = sql.unwrap_or_default();
        let words = lines.lines().flat_map(|line| line.split("--").next().unwrap_or_default().split_whitespace());
        words.collect::<String>().replace('"', "")
    };
    let mut statement = db.prepare("select type, name, sql from sqlite_schema order by type, name").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, plain(row.get(2)?)))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn an_older_database_is_brought_up_to_this_schema() {
    let (mut world, dir) = old_market();
    let mut db = Sqlite::open(dir.path()).unwrap();
    let mut today = world.db.load().unwrap();
    // Nothing was held then, and nothing is posted for it now.
    today.ledger = Default::default();
    let (held, none) = (today.settings, db.load().unwrap().settings);
    assert!(held.ledger_since < none.ledger_since, "leases of before are known");
    today.settings = none;
    assert_eq!(db.load().unwrap(), today, "the same market");
    assert_eq!(objects(db.connection()), objects(world.db.connection()), "the same schema");
    assert_eq!(db.market_time().unwrap(), world.db.market_time().unwrap());
    assert_eq!(db.count(&format!("select count(*) from meta where name = 'schema' and value = {}", sqlite::SCHEMA)), 1);
    let refused = db.connection().execute("delete from accounts", []).unwrap_err().to_string();
    assert!(refused.contains("FOREIGN KEY"), "what refers to rows is looked at again: {refused}");
    drop(db);
    Sqlite::open(dir.path()).expect("the second time nothing is to be done");
}

/// The busy market as schema 4 would have written it: who pays afterwards took it from outside.
fn market_of_schema_4() -> (World, tempfile::TempDir) {
    let (world, dir) = old_market();
    let old = Connection::open(dir.path().join(FILE)).unwrap();
    old.execute_batch("pragma foreign_keys = off; create temp table moved (transfer, book, micros, balance)").unwrap();
    for steps in &sqlite::MIGRATIONS[..3] {
        old.execute_batch(steps).unwrap();
    }
    let since = world.engine.state().settings().ledger_since.0;
    old.execute_batch(&format!(
        "update meta set value = '4' where name = 'schema';
         update meta set value = '{since}' where name = 'ledger_since'"
    ))
    .unwrap();
    let today = world.db.connection();
    copy_into(today, &old, "postings", "moved", &names(today, "select name from pragma_table_info('postings')"));
    old.execute_batch(
        "update moved set book = 'outside' where book glob 'owed:*';
         insert into postings select transfer, book, micros, sum(micros) over (partition by book order by transfer)
             from moved order by transfer",
    )
    .unwrap();
    copy(today, &old, "transfers", &names(today, "select name from pragma_table_info('transfers')"));
    (world, dir)
}

#[test]
fn who_paid_afterwards_before_there_were_debts_owes_it_now() {
    let (mut world, dir) = market_of_schema_4();
    let mut db = Sqlite::open(dir.path()).unwrap();
    let owed = world.engine.state().owed(client().account);
    assert!(owed > Micros::ZERO, "there is something to owe");
    assert_eq!(db.load().unwrap().ledger, world.db.load().unwrap().ledger);
    assert_eq!(crate::db::books::audit(db.connection()).unwrap().problems, [] as [&str; 0]);
    assert_eq!(objects(db.connection()), objects(world.db.connection()), "the same schema");
}

#[test]
fn an_older_database_in_which_rows_refer_to_nothing_stays_as_it_is() {
    let (_, dir) = old_market();
    let by_hand = Connection::open(dir.path().join(FILE)).unwrap();
    by_hand.execute_batch("pragma foreign_keys = off; delete from members").unwrap();
    let before = objects(&by_hand);
    match Sqlite::open(dir.path()) {
        Err(DbError::Sqlite { attempt, source }) => {
            assert!(attempt.contains("from schema 1 to 2"), "{attempt}");
            assert!(source.to_string().contains("refers to nothing"), "{source}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(objects(&by_hand), before);
}

#[test]
fn a_lease_of_before_the_ledger_comes_to_its_end_outside_of_the_books() {
    let (old, mut agent, dir) = old_market_and_its_host();
    let mut world = World::started(Sqlite::open(dir.path()).unwrap(), old.now);
    let lease = world.lease(id(600)).clone();
    agent.sees(&lease, Phase::Ready);
    world.sync(&mut agent);
    let extend = Command::Extend { actor: client(), lease: lease.id, by: Seconds(100) };
    world.call(extend.clone()).unwrap();
    assert_eq!(world.lease(lease.id).paid_seconds, lease.paid_seconds + Seconds(100));
    let change = Purse::default().into();
    world.call(Command::SetPurse { actor: operator(), account: lease.account, change }).unwrap();
    let refusal = world.call(extend).unwrap_err();
    assert!(refusal.kind == Kind::Conflict && refusal.advice.as_deref() == Some("rent again"), "{refusal:?}");
    world.pass(50);
    world.tick();
    world.call(Command::Release { actor: client(), lease: lease.id }).unwrap();
    agent.says.receipts = vec![agent.receipt(&lease, 40, true)];
    agent.sees(&lease, Phase::Gone { reason: None });
    world.sync(&mut agent);
    assert!(world.engine.state().charge(lease.id).unwrap().charge.total > Micros::ZERO);
    assert_eq!(world.engine.state().ledger().newest(), 0, "nothing of it is in the books");
    let (reason, words) = ("slow".to_string(), String::new());
    world
        .call(Command::OpenDispute { actor: client(), id: id(9), lease: lease.id, line: None, reason, words })
        .unwrap();
    let resolve = |micros| Command::ResolveDispute {
        actor: operator(),
        id: id(9),
        credit: Micros(micros),
        borne_by: CreditBearer::Lender,
        note: "settled by hand".into(),
    };
    let refusal = world.call(resolve(5)).unwrap_err();
    assert!(refusal.detail.contains("before the ledger"), "{refusal:?}");
    world.call(resolve(0)).unwrap();
    assert_eq!(crate::db::books::audit(world.db.connection()).unwrap().problems, [] as [&str; 0]);
}
