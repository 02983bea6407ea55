//! Receipts, kept until the market has taken them in.

use super::{Result, Store, StoreError, change, from_json, one, parse, to_json};
use sublet_model::identity::{SecretKey, Signed};
use sublet_model::ids::LeaseId;
use sublet_model::metering::{ChainEnd, Receipt};
use sublet_model::units::Seconds;
use sublet_wire::sync::Acknowledged;

/// What the next receipt of a lease says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewReceipt {
    /// Whose use.
    pub lease: LeaseId,
    /// The partition's generation.
    pub generation: u64,
    /// Whole seconds from ready.
    pub seconds: Seconds,
    /// Processor time really used, in milliseconds.
    pub cpu_used_ms: i64,
    /// Whether the meter has stopped for good.
    pub last: bool,
}

impl Store {
    /// The end of a lease's chain; none before its first receipt.
    pub fn chain_end(&self, lease: LeaseId) -> Result<Option<ChainEnd>> {
        chain_end(&self.lock(), lease)
    }

    /// Signs and keeps the next receipt of a lease. Once the last one is there nothing follows:
    /// then, and where the meter did not move, the chain stays as it is.
    pub fn add_receipt(&self, new: &NewReceipt, key: &SecretKey) -> Result<()> {
        const ATTEMPT: &str = "keep a receipt";
        self.write(ATTEMPT, |t| {
            let end = chain_end(t, new.lease)?;
            if end.as_ref().is_some_and(|e| e.last || (!new.last && e.seconds == new.seconds)) {
                return Ok(());
            }
            let receipt = Receipt {
                lease: new.lease,
                generation: new.generation,
                seq: end.as_ref().map_or(1, |e| e.seq + 1),
                // A meter can't run backwards, whatever clocks did.
                seconds: new.seconds.max(end.as_ref().map_or(Seconds::ZERO, |e| e.seconds)),
                cpu_used_ms: new.cpu_used_ms,
                last: new.last,
                previous: end.map(|e| e.digest),
            };
            let unsigned = |e: sublet_model::identity::IdentityError| StoreError::Unreadable {
                attempt: ATTEMPT,
                problem: e.to_string(),
            };
            let signed = Signed::sign(&receipt, key).map_err(unsigned)?;
            change(
                t,
                "insert into receipts (lease, seq, seconds, last, digest, body) values (?1, ?2, ?3, ?4, ?5, ?6)",
                rusqlite::params![
                    receipt.lease.to_string(),
                    receipt.seq as i64,
                    receipt.seconds.0,
                    receipt.last,
                    signed.digest().to_string(),
                    to_json(ATTEMPT, &signed)?,
                ],
            )
            .map(drop)
            .map_err(StoreError::of(ATTEMPT))
        })
    }

    /// Receipts that the market has not taken in yet in its epoch, oldest first within a lease; those
    /// of lives that it was not told of wait until it was.
    pub fn unacknowledged(&self, most: usize) -> Result<Vec<Signed<Receipt>>> {
        const ATTEMPT: &str = "read receipts";
        let failed = StoreError::of(ATTEMPT);
        let connection = self.lock();
        let mut query = connection
            .prepare_cached(
                "select body from receipts p where acknowledged < ?1 \
                 and not exists (select 1 from runs r where r.lease = p.lease and r.told_epoch < ?1) \
                 order by lease, seq limit ?2",
            )
            .map_err(&failed)?;
        let epoch = super::kept::epoch(&connection).map_err(&failed)? as i64;
        let rows = query.query_map([epoch, most as i64], |row| row.get::<_, String>(0)).map_err(&failed)?;
        rows.map(|body| from_json(ATTEMPT, &body.map_err(&failed)?)).collect()
    }

    /// How many receipts of a lease wait to be taken in.
    pub fn waiting_receipts(&self, lease: LeaseId) -> Result<u64> {
        let failed = StoreError::of("count receipts");
        let query = "select count(*) from receipts where lease = ?1 and acknowledged = 0";
        let count: i64 = self.lock().query_row(query, [lease.to_string()], |row| row.get(0)).map_err(failed)?;
        Ok(count.unsigned_abs())
    }

    /// Keeps what the market has taken in. Receipts are forgotten with their lives: see [`Self::prune`].
    /// Answers how many were not known to be taken in.
    pub fn acknowledge(&self, acknowledged: &[Acknowledged]) -> Result<usize> {
        const ATTEMPT: &str = "keep an acknowledgement";
        let failed = StoreError::of(ATTEMPT);
        self.write(ATTEMPT, |t| {
            let epoch = super::kept::epoch(t).map_err(&failed)? as i64;
            let mut news = 0;
            for Acknowledged { lease, seq } in acknowledged {
                let (lease, seq) = (lease.to_string(), i64::try_from(*seq).unwrap_or(i64::MAX));
                let mut taken = t
                    .prepare_cached(
                        "update receipts set acknowledged = ?3 where lease = ?1 and seq <= ?2 and acknowledged < ?3",
                    )
                    .map_err(&failed)?;
                news += taken.execute(rusqlite::params![lease, seq, epoch]).map_err(&failed)?;
            }
            Ok(news)
        })
    }
}

fn chain_end(connection: &rusqlite::Connection, lease: LeaseId) -> Result<Option<ChainEnd>> {
    const ATTEMPT: &str = "read the end of a chain of receipts";
    let query = "select seq, digest, seconds, last from receipts where lease = ?1 order by seq desc limit 1";
    let row = one(connection, query, [lease.to_string()], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, bool>(3)?))
    })
    .map_err(StoreError::of(ATTEMPT))?;
    let Some((seq, digest, seconds, last)) = row else { return Ok(None) };
    Ok(Some(ChainEnd { seq: seq as u64, digest: parse(ATTEMPT, &digest)?, seconds: Seconds(seconds), last }))
}
