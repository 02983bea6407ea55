//! A copy of the database while a market writes to it, and its return: the same rows under a new
//! epoch, so that hosts know what the market may have forgotten. See `docs/decisions`.

use super::lock::Lock;
use super::sqlite::SCHEMA;
use super::{Attempt, DbError, FILE};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sublet_model::units::Timestamp;

/// A file that is kept in a backup beside the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// Where it belongs, below the market's directory.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How large it is.
    pub bytes: u64,
    /// The market's time at the copy.
    pub market_time: Timestamp,
    /// The market's epoch at the copy.
    pub epoch: u64,
    /// How many leases are in it, ended ones too.
    pub leases: u64,
    /// How many receipts.
    pub receipts: u64,
    /// The files beside the rows.
    pub files: Vec<String>,
}

const KEPT: &str = "create table kept_files (path text primary key, content blob not null) strict";

/// Writes all that the database in `dir` holds at this moment to the new file `to`, with `files`
/// beside it, and reads it again. A market may serve it meanwhile.
pub fn copy(dir: &Path, to: &Path, files: &[KeptFile]) -> Result<Summary, DbError> {
    let from = dir.join(FILE);
    if !from.exists() {
        return Err(DbError::Missing(dir.display().to_string()));
    }
    if to.exists() {
        return Err(DbError::Taken(to.display().to_string()));
    }
    // Whole before it has its name; and readable by its owner only, from the first byte on.
    let draft = beside(to, "making");
    let _ = std::fs::remove_file(&draft);
    private(&draft)?;
    let source = read_only(&from)?;
    source.execute("vacuum into ?1", [draft.to_string_lossy()]).attempt("copy the database")?;
    drop(source);
    let mut copy = Connection::open(&draft).attempt("open the copy")?;
    let keep = copy.transaction().attempt("keep files in the copy")?;
    keep.execute_batch(KEPT).attempt("keep files in the copy")?;
    for file in files {
        let values = rusqlite::params![file.path, file.content];
        keep.execute("insert into kept_files values (?1, ?2)", values).attempt("keep files in the copy")?;
    }
    keep.commit().attempt("keep files in the copy")?;
    check(&copy)?;
    copy.close().map_err(|(_, e)| e).attempt("close the copy")?;
    durable(&draft)?;
    std::fs::rename(&draft, to).attempt(format!("put {} in its place", to.display()))?;
    durable_name(to)?;
    summary(to)
}

/// What a backup holds, if it is whole and one of ours.
pub fn summary(backup: &Path) -> Result<Summary, DbError> {
    let db = read_only(backup)?;
    check(&db)?;
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).attempt("count the rows of the backup");
    let time: Option<i64> = db
        .query_row("select at from events order by seq desc limit 1", [], |row| row.get(0))
        .optional()
        .attempt("read the last event")?;
    let alone = meta(&db, "market_time")?.and_then(|t| t.parse().ok()).unwrap_or(0);
    Ok(Summary {
        bytes: std::fs::metadata(backup).attempt("measure the backup")?.len(),
        market_time: Timestamp(time.unwrap_or(0).max(alone)),
        epoch: epoch(&db)?,
        leases: number("select count(*) from leases")?.unsigned_abs(),
        receipts: number("select count(*) from receipts")?.unsigned_abs(),
        files: kept_files(&db)?.into_iter().map(|file| file.path).collect(),
    })
}

/// The files kept in a backup.
pub fn files(backup: &Path) -> Result<Vec<KeptFile>, DbError> {
    kept_files(&read_only(backup)?)
}

/// What was done by a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The epoch that begins.
    pub epoch: u64,
    /// Where the database that was there before lies now.
    pub put_aside: Option<PathBuf>,
}

/// Makes a backup the database of the market in `dir`, under a new epoch. What was there is put
/// aside, not removed. Refused while a market serves it.
pub fn restore(backup: &Path, dir: &Path, now: Timestamp) -> Result<Restored, DbError> {
    let place = dir.join(FILE);
    let _lock = Lock::take(&dir.join(format!("{FILE}.lock")))?;
    let before = if place.exists() { epoch(&read_only(&place)?).unwrap_or(0) } else { 0 };
    let draft = dir.join(format!("{FILE}.restoring"));
    let _ = std::fs::remove_file(&draft);
    private(&draft)?;
    let source = read_only(backup)?;
    check(&source)?;
    // One that was restored twice from the same backup must not meet an epoch that hosts know: time
    // makes each another.
    let epoch = (epoch(&source)?.max(before) + 1).max(u64::try_from(now.0 / 1_000_000).unwrap_or(0));
    source.execute("vacuum into ?1", [draft.to_string_lossy()]).attempt("copy the backup")?;
    drop(source);
    let mut db = Connection::open(&draft).attempt("open the copy")?;
    let change = db.transaction().attempt("begin the new epoch")?;
    begin(&change, epoch, now).attempt("begin the new epoch")?;
    change.commit().attempt("begin the new epoch")?;
    check(&db)?;
    db.close().map_err(|(_, e)| e).attempt("close the copy")?;
    durable(&draft)?;
    let put_aside = put_aside(&place, now)?;
    std::fs::rename(&draft, &place).attempt(format!("put {} in its place", place.display()))?;
    durable_name(&place)?;
    Ok(Restored { epoch, put_aside })
}

fn begin(db: &Connection, epoch: u64, now: Timestamp) -> rusqlite::Result<()> {
    let set = "insert into meta values (?1, ?2) on conflict (name) do update set value = excluded.value";
    for (name, value) in [("epoch", epoch.to_string()), ("epoch_at", now.0.to_string())] {
        db.execute(set, (name, value))?;
    }
    // Each host has had sessions since that this copy knows nothing of.
    db.execute("update hosts set session_reset = 1 where forgotten_at is null", [])?;
    let said = format!("restored from a backup: epoch {epoch} begins");
    let audit = "insert into audit (at, actor, action, object, detail) values (?1, 'market', 'market.restore', ?2, ?3)";
    db.execute(audit, (now.0, epoch.to_string(), said))?;
    db.execute("drop table if exists kept_files", []).map(drop)
}

/// Moves the database away, with its log: together they are what it was.
fn put_aside(place: &Path, now: Timestamp) -> Result<Option<PathBuf>, DbError> {
    if !place.exists() {
        return Ok(None);
    }
    let aside = beside(place, &format!("before-{}", now.0 / 1_000_000));
    for suffix in ["", "-wal", "-shm"] {
        let with = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        if with(place).exists() {
            std::fs::rename(with(place), with(&aside)).attempt(format!("put {} aside", place.display()))?;
        }
    }
    Ok(Some(aside))
}

fn check(db: &Connection) -> Result<(), DbError> {
    let broken = |said: String| DbError::Unreadable { table: "all", column: "all", problem: said };
    let said: String = db.query_row("pragma quick_check(1)", [], |row| row.get(0)).attempt("check the copy")?;
    if said != "ok" {
        return Err(broken(said));
    }
    let lost = db.query_row("select \"table\" from pragma_foreign_key_check", [], |row| row.get::<_, String>(0));
    if let Some(table) = lost.optional().attempt("check the copy")? {
        return Err(broken(format!("a row of the table {table} refers to nothing")));
    }
    let found = meta(db, "schema")?.and_then(|v| v.parse::<u32>().ok());
    match found.ok_or_else(|| broken("it is no database of a market".into()))? {
        newer if newer > SCHEMA => Err(DbError::Newer { found: newer, known: SCHEMA }),
        _ => Ok(()),
    }
}

fn epoch(db: &Connection) -> Result<u64, DbError> {
    let unreadable = || DbError::Unreadable { table: "meta", column: "value", problem: "no epoch".into() };
    meta(db, "epoch")?.and_then(|value| value.parse().ok()).ok_or_else(unreadable)
}

fn meta(db: &Connection, name: &str) -> Result<Option<String>, DbError> {
    let sql = "select value from meta where name = ?1";
    db.query_row(sql, [name], |row| row.get(0)).optional().attempt(format!("read meta.{name}"))
}

fn kept_files(db: &Connection) -> Result<Vec<KeptFile>, DbError> {
    let attempt = "read the files of the backup";
    let sql = "select count(*) from sqlite_master where name = 'kept_files'";
    if db.query_row(sql, [], |row| row.get::<_, i64>(0)).attempt(attempt)? == 0 {
        return Ok(Vec::new());
    }
    let mut query = db.prepare("select path, content from kept_files order by path").attempt(attempt)?;
    let rows = query.query_map([], |row| Ok(KeptFile { path: row.get(0)?, content: row.get(1)? })).attempt(attempt)?;
    rows.map(|row| row.attempt(attempt)).collect()
}

fn read_only(path: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).attempt(format!("open {}", path.display()))?;
    db.busy_timeout(Duration::from_secs(10)).attempt("set up the connection")?;
    Ok(db)
}

/// An empty file for its owner only: SQLite would let others read it.
fn private(path: &Path) -> Result<(), DbError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path).map(drop).attempt(format!("make {}", path.display()))
}

fn beside(path: &Path, what: &str) -> PathBuf {
    PathBuf::from(format!("{}.{what}", path.display()))
}

fn durable(path: &Path) -> Result<(), DbError> {
    File::open(path).and_then(|file| file.sync_all()).attempt(format!("make {} durable", path.display()))
}

fn durable_name(path: &Path) -> Result<(), DbError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    durable(parent)
}
