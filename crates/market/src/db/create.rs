//! Makes the database of a new market, with its operator.

use super::sqlite::{SCHEMA, SCHEMA_SQL};
use super::{Attempt, DbError, FILE};
use crate::engine::change::Change;
use crate::engine::rows::{Account, Member, Purse, Token};
use rusqlite::Connection;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use sublet_model::account::Role;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::{AccountId, MemberId, TokenId};
use sublet_model::units::Timestamp;

/// Who runs the market at first: account and member `operator`, with every role.
#[derive(Debug, Clone)]
pub struct FirstMember {
    /// Id of its account.
    pub account: AccountId,
    /// Its own id.
    pub member: MemberId,
    /// Id of its first token.
    pub token: TokenId,
    /// SHA-256 of the token's secret, which is shown once and stored nowhere.
    pub token_hash: Sha256Digest,
    /// When that token expires.
    pub token_expires_at: Timestamp,
}

/// Makes the database in `dir`, which must not have one.
pub fn create(dir: &Path, currency: &str, first: &FirstMember, now: Timestamp) -> Result<(), DbError> {
    let path = dir.join(FILE);
    if path.exists() {
        return Err(DbError::Exists(path.display().to_string()));
    }
    // Made whole under another name first: a half-made database is never mistaken for one.
    let draft = dir.join(format!("{FILE}.making"));
    let _ = std::fs::remove_file(&draft);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(&draft).attempt(format!("make {}", draft.display()))?;
    let mut connection = Connection::open(&draft).attempt("open the new database")?;
    let making = "make the tables of the new database";
    let transaction = connection.transaction().attempt(making)?;
    transaction.execute_batch(SCHEMA_SQL).attempt(making)?;
    describe(&transaction, now, currency)?;
    let changes = operator(first, now);
    super::write::changes(&transaction, now, &changes.iter().collect::<Vec<_>>()).attempt("write the first member")?;
    transaction.commit().attempt(making)?;
    connection.close().map_err(|(_, e)| e).attempt("close the new database")?;
    std::fs::rename(&draft, &path).attempt(format!("put {} in its place", path.display()))?;
    std::fs::File::open(dir).and_then(|d| d.sync_all()).attempt("make the new database durable")
}

pub(super) fn describe(connection: &Connection, now: Timestamp, currency: &str) -> Result<(), DbError> {
    let rows = [
        ("schema", SCHEMA.to_string()),
        ("epoch", "1".into()),
        ("market_time", now.0.to_string()),
        ("currency", currency.into()),
        ("created_at", now.0.to_string()),
        ("fee_permille", "0".into()),
        ("ledger_since", "0".into()),
    ];
    let insert = |(name, value): (&str, String)| {
        connection.execute("insert into meta (name, value) values (?1, ?2)", (name, value)).map(drop)
    };
    rows.into_iter().try_for_each(insert).attempt("describe the new database")
}

fn operator(first: &FirstMember, now: Timestamp) -> Vec<Change> {
    let name = "operator".to_string();
    vec![
        Change::Account(Account {
            id: first.account,
            name: name.clone(),
            suspended: false,
            created_at: now,
            purse: Purse::on_account(),
        }),
        Change::Member(Member {
            id: first.member,
            account: first.account,
            name,
            roles: Role::ALL.to_vec(),
            created_at: now,
        }),
        Change::Token(Token {
            id: first.token,
            member: first.member,
            name: "first".into(),
            hash: first.token_hash,
            roles: Role::ALL.to_vec(),
            expires_at: first.token_expires_at,
            created_at: now,
            revoked_at: None,
        }),
        Change::Audit {
            actor: "market".into(),
            action: "market.create".into(),
            object: first.member.to_string(),
            detail: "the market was made, with its operator".into(),
            at: now,
        },
    ]
}
