//! The market's keys as far as this host followed them: kept before anything is judged by them.

use super::{Result, Store, StoreError, change, from_json, to_json};
use rusqlite::Transaction;
use sublet_model::identity::PublicKey;
use sublet_model::market_keys::{KeyChain, KeyRecord};
use sublet_model::units::Timestamp;

impl Store {
    /// The changes of the market's keys from `first` on that this host followed.
    pub fn market_keys(&self, first: PublicKey) -> Result<KeyChain> {
        const ATTEMPT: &str = "read the market's keys";
        let failed = StoreError::of(ATTEMPT);
        let connection = self.lock();
        let mut query = connection.prepare_cached("select record from market_keys order by number").map_err(&failed)?;
        let rows = query.query_map([], |row| row.get::<_, String>(0)).map_err(&failed)?;
        let records: Vec<KeyRecord> =
            rows.map(|row| from_json(ATTEMPT, &row.map_err(&failed)?)).collect::<Result<_>>()?;
        KeyChain::read(first, &records)
            .map_err(|bad| StoreError::Unreadable { attempt: ATTEMPT, problem: bad.to_string() })
    }

    /// The newest of them, which names them all; none before the first.
    pub fn newest_market_key(&self) -> Result<Option<KeyRecord>> {
        const ATTEMPT: &str = "read the market's newest key";
        let sql = "select record from market_keys order by number desc limit 1";
        let text = super::one(&self.lock(), sql, [], |row| row.get::<_, String>(0)).map_err(StoreError::of(ATTEMPT))?;
        text.map(|text| from_json(ATTEMPT, &text)).transpose()
    }

    /// Keeps those of a chain that are not kept yet, together.
    pub fn follow_market_keys(&self, chain: &KeyChain, now: Timestamp) -> Result<()> {
        const ATTEMPT: &str = "keep the market's keys";
        self.write(ATTEMPT, |t| keep(t, chain, now))
    }
}

pub(super) fn keep(t: &Transaction<'_>, chain: &KeyChain, now: Timestamp) -> Result<()> {
    const ATTEMPT: &str = "keep the market's keys";
    let failed = StoreError::of(ATTEMPT);
    let count = "select count(*) from market_keys";
    let known: i64 = t.prepare_cached(count).and_then(|mut q| q.query_row([], |row| row.get(0))).map_err(&failed)?;
    let known = usize::try_from(known).unwrap_or(0);
    for (at, record) in chain.records().iter().enumerate().skip(known) {
        let sql = "insert into market_keys (number, record, followed_at) values (?1, ?2, ?3)";
        let number = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1);
        change(t, sql, rusqlite::params![number, to_json(ATTEMPT, record)?, now.0]).map_err(&failed)?;
    }
    Ok(())
}
