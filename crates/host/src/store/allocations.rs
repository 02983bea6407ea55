//! What was applied, and which generations are gone.

use super::runs::reason_of;
use super::{Result, Store, StoreError, change, parse};
use rusqlite::OptionalExtension;
use std::collections::BTreeMap;
use sublet_model::ids::PartitionId;
use sublet_model::lease::EndReason;
use sublet_model::partition::Allocation;
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Millicores};

/// A generation that is stopped and wiped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Which one.
    pub generation: u64,
    /// Why, where this host is the one who knows.
    pub reason: Option<EndReason>,
    /// In more words.
    pub detail: Option<String>,
    /// Whether the market knows it durably.
    pub acknowledged: bool,
}

/// A partition's place on this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The short name of its run directory.
    pub number: u32,
    /// The user its monitor runs as.
    pub uid: u32,
}

fn allocation(row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, Allocation)> {
    let resources = Resources { cpu: Millicores(row.get(3)?), memory: MiB(row.get(4)?), disk: GiB(row.get(5)?) };
    let (generation, revision, vcpus) = (row.get::<_, i64>(1)?, row.get(2)?, row.get(6)?);
    Ok((row.get(0)?, Allocation { generation: generation as u64, revision, resources, vcpus }))
}

impl Store {
    /// The newest allocation of every partition.
    pub fn applied(&self) -> Result<BTreeMap<PartitionId, Allocation>> {
        const ATTEMPT: &str = "read what was applied";
        let failed = StoreError::of(ATTEMPT);
        let connection = self.lock();
        let mut query = connection
            .prepare_cached(
                "select partition, generation, revision, cpu_millicores, memory_mib, disk_gib, vcpus \
                 from allocations a where (generation, revision) = \
                 (select generation, revision from allocations b where b.partition = a.partition \
                  order by generation desc, revision desc limit 1)",
            )
            .map_err(&failed)?;
        let rows = query.query_map([], allocation).map_err(&failed)?;
        rows.map(|row| {
            let (partition, allocation) = row.map_err(&failed)?;
            Ok((parse(ATTEMPT, &partition)?, allocation))
        })
        .collect()
    }

    /// Records that a partition has this from now on. Refused unless it is newer than all before,
    /// and while the partition is held.
    pub fn apply(&self, partition: PartitionId, allocation: &Allocation) -> Result<()> {
        const ATTEMPT: &str = "record an allocation";
        self.write(ATTEMPT, |t| {
            change(
                t,
                "insert into allocations \
                 (partition, generation, revision, cpu_millicores, memory_mib, disk_gib, vcpus) \
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                rusqlite::params![
                    partition.to_string(),
                    i64::try_from(allocation.generation).unwrap_or(i64::MAX),
                    allocation.revision,
                    allocation.resources.cpu.0,
                    allocation.resources.memory.0,
                    allocation.resources.disk.0,
                    allocation.vcpus,
                ],
            )
            .map(drop)
            .map_err(StoreError::of(ATTEMPT))
        })
    }

    /// The newest generation of every partition that is gone.
    pub fn gone(&self) -> Result<BTreeMap<PartitionId, Gone>> {
        const ATTEMPT: &str = "read what is gone";
        let failed = StoreError::of(ATTEMPT);
        let connection = self.lock();
        let mut query = connection
            .prepare_cached(
                "select partition, generation, reason, detail, acknowledged from gone g where generation = \
                 (select max(generation) from gone h where h.partition = g.partition)",
            )
            .map_err(&failed)?;
        let rows = query.query_map([], |row| {
            let (partition, generation): (String, i64) = (row.get(0)?, row.get(1)?);
            let (reason, detail): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
            Ok((partition, generation, reason, detail, row.get::<_, bool>(4)?))
        });
        rows.map_err(&failed)?
            .map(|row| {
                let (partition, generation, reason, detail, acknowledged) = row.map_err(&failed)?;
                let reason = reason.map(|r| reason_of(ATTEMPT, &r)).transpose()?;
                let gone = Gone { generation: generation as u64, reason, detail, acknowledged };
                Ok((parse(ATTEMPT, &partition)?, gone))
            })
            .collect()
    }

    /// Records that a generation is gone, though it never ran here.
    pub fn never_ran(
        &self,
        partition: PartitionId,
        generation: u64,
        reason: Option<EndReason>,
        detail: Option<&str>,
    ) -> Result<()> {
        const ATTEMPT: &str = "record that a generation is gone";
        self.write(ATTEMPT, |t| {
            change(
                t,
                "insert into gone (partition, generation, reason, detail) values (?1, ?2, ?3, ?4) \
                 on conflict (partition, generation) do nothing",
                rusqlite::params![partition.to_string(), generation as i64, reason.map(EndReason::word), detail],
            )
            .map(drop)
            .map_err(StoreError::of(ATTEMPT))
        })
    }

    /// Keeps that the market knows which generation is gone.
    pub fn acknowledge_gone(&self, partition: PartitionId, generation: u64) -> Result<()> {
        const ATTEMPT: &str = "keep an acknowledgement";
        self.write(ATTEMPT, |t| {
            change(
                t,
                "update gone set acknowledged = 1 where partition = ?1 and generation <= ?2",
                rusqlite::params![partition.to_string(), generation as i64],
            )
            .map_err(StoreError::of(ATTEMPT))?;
            // The newest one stays: it is the fence for runs.
            change(
                t,
                "delete from gone where partition = ?1 and acknowledged = 1 and generation < \
                 (select max(generation) from gone h where h.partition = ?1)",
                [partition.to_string()],
            )
            .map(drop)
            .map_err(StoreError::of(ATTEMPT))
        })
    }

    /// The place of a partition; given at the first call, for ever. `is_taken` tells users that
    /// exist on this computer already.
    pub fn place(&self, partition: PartitionId, first_uid: u32, is_taken: impl Fn(u32) -> bool) -> Result<Place> {
        const ATTEMPT: &str = "give a partition its place";
        let failed = StoreError::of(ATTEMPT);
        let known = |connection: &rusqlite::Connection| {
            connection
                .query_row("select place, uid from places where partition = ?1", [partition.to_string()], |row| {
                    Ok(Place { number: row.get(0)?, uid: row.get(1)? })
                })
                .optional()
                .map_err(StoreError::of(ATTEMPT))
        };
        // Found without writing: on a disk that takes no more, machines can still be seen and stopped.
        if let Some(place) = known(&self.lock())? {
            return Ok(place);
        }
        self.write(ATTEMPT, |t| {
            if let Some(place) = known(t)? {
                return Ok(place);
            }
            let (number, highest): (u32, Option<u32>) = t
                .query_row("select coalesce(max(place), 0) + 1, max(uid) from places", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .map_err(&failed)?;
            let from = highest.map_or(first_uid, |highest| first_uid.max(highest + 1));
            let uid = (from..).find(|uid| !is_taken(*uid)).unwrap_or(from);
            change(
                t,
                "insert into places (partition, place, uid) values (?1, ?2, ?3)",
                rusqlite::params![partition.to_string(), number, uid],
            )
            .map_err(&failed)?;
            Ok(Place { number, uid })
        })
    }
}
