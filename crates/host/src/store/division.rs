//! How the owner divided the computer.

use super::{Own, Result, Store, StoreError, change, from_json, one, to_json};
use sublet_model::ids::PartitionId;
use sublet_wire::sync::Division;

impl Store {
    /// The newest division; an empty one of revision 0 before the first `lend`.
    pub fn division(&self) -> Result<Division> {
        const ATTEMPT: &str = "read the division";
        let connection = self.lock();
        let body: Option<String> =
            one(&connection, "select body from division", [], |row| row.get(0)).map_err(StoreError::of(ATTEMPT))?;
        body.map_or(Ok(Division::default()), |body| from_json(ATTEMPT, &body))
    }

    /// Replaces the division by one of the next revision. Refused if somebody else did so first.
    pub fn set_division(&self, division: &Division) -> Result<()> {
        self.write(KEEP, |t| put(t, division))
    }

    /// The same, with new partitions of the owner's own in it.
    pub fn divide_for_own(&self, division: &Division, new: &[Own]) -> Result<()> {
        self.write(KEEP, |t| {
            put(t, division)?;
            new.iter().try_for_each(|own| Self::add_own(t, own))
        })
    }

    /// The same, without one of them, which is down.
    pub fn divide_without_own(&self, division: &Division, gone: PartitionId) -> Result<()> {
        self.write(KEEP, |t| {
            put(t, division)?;
            change(t, "delete from own where partition = ?1", [gone.to_string()])
                .map(drop)
                .map_err(StoreError::of(KEEP))
        })
    }
}

const KEEP: &str = "keep the division";

fn put(t: &rusqlite::Transaction<'_>, division: &Division) -> Result<()> {
    let body = to_json(KEEP, division)?;
    change(
        t,
        "insert into division (id, revision, body) values (1, ?1, ?2) \
         on conflict (id) do update set revision = excluded.revision, body = excluded.body",
        rusqlite::params![division.revision as i64, body],
    )
    .map(drop)
    .map_err(StoreError::of(KEEP))
}
