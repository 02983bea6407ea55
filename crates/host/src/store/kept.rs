//! What a market that was restored from a backup is told again: lives, and receipts that it had
//! taken in before. They are kept long after they are over.

use super::{Result, Store, StoreError, change, from_json, one};
use sublet_model::ids::LeaseId;
use sublet_model::lease::EndReason;
use sublet_model::units::Seconds;
use sublet_wire::sync::{FIRST_EPOCH, KeptLife};

/// So many lives are kept at least, with their receipts: some 50 MB.
pub const LIVES_KEPT: i64 = 10_000;

impl Store {
    /// The newest epoch of the market that this host knows.
    pub fn epoch(&self) -> Result<u64> {
        epoch(&self.lock()).map_err(StoreError::of("read the market's epoch"))
    }

    /// Keeps the market's epoch, before anything is said in it. Refused if it is older than the one known.
    pub fn entered_epoch(&self, epoch: u64) -> Result<()> {
        const ATTEMPT: &str = "keep the market's epoch";
        let number = i64::try_from(epoch).unwrap_or(i64::MAX);
        if self.epoch()? == epoch {
            return Ok(());
        }
        self.write(ATTEMPT, |t| {
            change(t, "update identity set epoch = ?1", [number]).map(drop).map_err(StoreError::of(ATTEMPT))
        })
    }

    /// Lives that the market was not told of in its epoch: older generations first, so that each finds
    /// the one before it over.
    pub fn untold(&self, most: usize) -> Result<Vec<KeptLife>> {
        const ATTEMPT: &str = "read what the market was not told";
        let failed = StoreError::of(ATTEMPT);
        let connection = self.lock();
        let epoch = epoch(&connection).map_err(&failed)? as i64;
        let mut query = connection
            .prepare_cached(
                "select wanted, term_seconds, paid_seconds, stage, reason, ready_mono_us is not null from runs where told_epoch < ?1 \
                 order by generation, partition limit ?2",
            )
            .map_err(&failed)?;
        let rows = query
            .query_map([epoch, most as i64], |row| {
                let spans = (Seconds(row.get(1)?), Seconds(row.get(2)?));
                let (stage, reason): (i64, Option<String>) = (row.get(3)?, row.get(4)?);
                Ok((row.get::<_, String>(0)?, spans, stage, reason, row.get::<_, bool>(5)?))
            })
            .map_err(&failed)?;
        rows.map(|row| {
            let (wanted, (term_seconds, paid_seconds), stage, reason, ready) = row.map_err(&failed)?;
            let reason: Option<EndReason> = reason.map(|word| super::runs::reason_of(ATTEMPT, &word)).transpose()?;
            let run = from_json(ATTEMPT, &wanted)?;
            Ok(KeptLife { run, term_seconds, paid_seconds, ready, over: stage == super::runs::GONE, reason })
        })
        .collect()
    }

    /// Keeps that the market knows of these lives.
    pub fn told(&self, leases: &[LeaseId]) -> Result<()> {
        const ATTEMPT: &str = "keep what the market was told";
        self.write(ATTEMPT, |t| {
            let sql = "update runs set told_epoch = (select epoch from identity) where lease = ?1";
            leases
                .iter()
                .try_for_each(|lease| change(t, sql, [lease.to_string()]).map(drop))
                .map_err(StoreError::of(ATTEMPT))
        })
    }

    /// Whether the market was told things in an older epoch that it does not know in this one.
    pub fn is_behind(&self) -> Result<bool> {
        let failed = StoreError::of("compare epochs");
        let connection = self.lock();
        let epoch = epoch(&connection).map_err(&failed)? as i64;
        let sql = "select exists (select 1 from runs where told_epoch < ?1) \
                   or exists (select 1 from receipts where acknowledged > 0 and acknowledged < ?1)";
        Ok(one(&connection, sql, [epoch], |row| row.get(0)).map_err(failed)?.unwrap_or(false))
    }
}

/// The newest epoch of the market; the first before this host joined.
pub(super) fn epoch(connection: &rusqlite::Connection) -> rusqlite::Result<u64> {
    let found = one(connection, "select epoch from identity", [], |row| row.get::<_, i64>(0))?;
    Ok(found.map_or(FIRST_EPOCH, i64::unsigned_abs))
}
