//! Databases of older versions.

use super::*;
use crate::db::create::describe;
use crate::db::{sqlite, write};

const SCHEMA_1: &str = include_str!("schema-1.sql");

/// The busy market as the first version would have written it.
fn old_market() -> (World, tempfile::TempDir) {
    let (world, _) = busy_market();
    let mut statement = world.db.connection().prepare("select change from events order by seq").unwrap();
    let texts = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let changes: Vec<Change> = texts.map(|text| serde_json::from_str(&text.unwrap()).unwrap()).collect();
    drop(statement);
    let dir = tempfile::tempdir().unwrap();
    let old = Connection::open(dir.path().join(FILE)).unwrap();
    old.execute_batch(SCHEMA_1).unwrap();
    describe(&old, Timestamp(1), "EUR").unwrap();
    old.execute("update meta set value = '1' where name = 'schema'", []).unwrap();
    write::changes(&old, Timestamp(2), &changes.iter().collect::<Vec<_>>()).unwrap();
    (world, dir)
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
    assert_eq!(db.load().unwrap(), world.db.load().unwrap(), "the same market");
    assert_eq!(objects(db.connection()), objects(world.db.connection()), "the same schema");
    assert_eq!(db.market_time().unwrap(), Timestamp(2));
    assert_eq!(db.count(&format!("select count(*) from meta where name = 'schema' and value = {}", sqlite::SCHEMA)), 1);
    let refused = db.connection().execute("delete from accounts", []).unwrap_err().to_string();
    assert!(refused.contains("FOREIGN KEY"), "what refers to rows is looked at again: {refused}");
    drop(db);
    Sqlite::open(dir.path()).expect("the second time nothing is to be done");
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
