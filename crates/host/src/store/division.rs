//! How the owner divided the computer.

use super::{Result, Store, StoreError, change, from_json, one, to_json};
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
        const ATTEMPT: &str = "keep the division";
        let body = to_json(ATTEMPT, division)?;
        self.write(ATTEMPT, |t| {
            change(
                t,
                "insert into division (id, revision, body) values (1, ?1, ?2) \
                 on conflict (id) do update set revision = excluded.revision, body = excluded.body",
                rusqlite::params![division.revision as i64, body],
            )
            .map(drop)
            .map_err(StoreError::of(ATTEMPT))
        })
    }
}
