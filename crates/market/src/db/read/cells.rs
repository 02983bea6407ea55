//! Cells of rows, by the names of their columns.

use crate::db::{Attempt, DbError};
use rusqlite::types::FromSql;
use rusqlite::{Connection, Row};
use serde::Deserialize;
use serde::de::value::{Error as ValueError, MapDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::str::FromStr;
use sublet_model::identity::Signed;
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Millicores, Timestamp};

/// Where the columns of a statement stand. Each row asks for the same ones in nearly the same order,
/// so the next one asked for is mostly the next one known: a name is compared once a statement, not
/// once a row.
#[derive(Default)]
struct Columns {
    known: RefCell<Vec<(&'static str, usize)>>,
    next: Cell<usize>,
}

impl Columns {
    fn place(&self, row: &Row<'_>, name: &'static str) -> rusqlite::Result<usize> {
        let mut known = self.known.borrow_mut();
        let (before, after) = known.split_at(self.next.get().min(known.len()));
        let same = |(known, _): &&(&'static str, usize)| std::ptr::eq(*known, name);
        if let Some(ahead) = after.iter().position(|entry| same(&entry)) {
            self.next.set(before.len() + ahead + 1);
            return Ok(after[ahead].1);
        }
        if let Some((_, place)) = before.iter().find(same) {
            return Ok(*place);
        }
        let place = row.as_ref().column_index(name)?;
        known.push((name, place));
        self.next.set(known.len());
        Ok(place)
    }
}

/// The cells of one row, by name.
pub(in crate::db) struct Cells<'a> {
    row: &'a Row<'a>,
    columns: &'a Columns,
    table: &'static str,
}

impl Cells<'_> {
    pub fn wrong(&self, column: &'static str, problem: impl Display) -> DbError {
        DbError::Unreadable { table: self.table, column, problem: problem.to_string() }
    }

    pub fn get<T: FromSql>(&self, column: &'static str) -> Result<T, DbError> {
        let cell = self.columns.place(self.row, column).and_then(|place| self.row.get(place));
        cell.map_err(|e| self.wrong(column, e))
    }

    /// Text as it lies there, without a copy; none where nothing is.
    fn text(&self, column: &'static str) -> Result<Option<&str>, DbError> {
        let cell = self.columns.place(self.row, column).and_then(|place| self.row.get_ref(place));
        cell.map_err(|e| self.wrong(column, e))?.as_str_or_null().map_err(|e| self.wrong(column, e))
    }

    pub fn some_text(&self, column: &'static str) -> Result<&str, DbError> {
        self.text(column)?.ok_or_else(|| self.wrong(column, "is missing"))
    }

    pub fn parse<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<T, DbError> {
        self.some_text(column)?.parse().map_err(|e| self.wrong(column, e))
    }

    pub fn parse_option<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<Option<T>, DbError> {
        self.text(column)?.map(|text| text.parse().map_err(|e| self.wrong(column, e))).transpose()
    }

    pub fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, DbError> {
        serde_json::from_str(self.some_text(column)?).map_err(|e| self.wrong(column, e))
    }

    /// A word of an enum that is written as JSON writes it.
    pub fn word<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, DbError> {
        let word = |text: &str| T::deserialize(text.into_deserializer()).map_err(|e: ValueError| self.wrong(column, e));
        self.text(column)?.map(word).transpose()
    }

    pub fn list<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<Vec<T>, DbError> {
        self.some_text(column)?.split(',').map(|word| word.parse().map_err(|e| self.wrong(column, e))).collect()
    }

    pub fn at(&self, column: &'static str) -> Result<Timestamp, DbError> {
        self.get(column).map(Timestamp)
    }

    pub fn at_option(&self, column: &'static str) -> Result<Option<Timestamp>, DbError> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp))
    }

    pub fn signed<T>(
        &self,
        payload: &'static str,
        key: &'static str,
        signature: &'static str,
    ) -> Result<Signed<T>, DbError> {
        let cells = [("payload", payload), ("key", key), ("signature", signature)];
        let [payload_text, key_text, signature_text] =
            cells.map(|(name, column)| self.some_text(column).map(|text| (name, text)));
        let fields = [payload_text?, key_text?, signature_text?];
        Signed::deserialize(MapDeserializer::new(fields.into_iter())).map_err(|e: ValueError| self.wrong(payload, e))
    }

    pub fn resources(&self, columns: [&'static str; 3]) -> Result<Resources, DbError> {
        let [cpu, memory, disk] = columns;
        Ok(Resources { cpu: Millicores(self.get(cpu)?), memory: MiB(self.get(memory)?), disk: GiB(self.get(disk)?) })
    }
}

pub(in crate::db) fn all<T>(
    db: &Connection,
    table: &'static str,
    sql: &str,
    read: impl Fn(&Cells<'_>) -> Result<T, DbError>,
) -> Result<Vec<T>, DbError> {
    let mut found = Vec::new();
    each(db, table, sql, read, |row| found.push(row))?;
    Ok(found)
}

/// One row after the other, for tables that need not be held whole.
pub(in crate::db) fn each<T>(
    db: &Connection,
    table: &'static str,
    sql: &str,
    read: impl Fn(&Cells<'_>) -> Result<T, DbError>,
    mut take: impl FnMut(T),
) -> Result<(), DbError> {
    let what = &format!("read the table {table}");
    let mut statement = db.prepare(sql).attempt(what)?;
    let mut rows = statement.query([]).attempt(what)?;
    let columns = Columns::default();
    while let Some(row) = rows.next().attempt(what)? {
        columns.next.set(0);
        take(read(&Cells { row, columns: &columns, table })?);
    }
    Ok(())
}
