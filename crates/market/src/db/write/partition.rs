//! Changes of partitions, and their allocations.

use super::{Done, micros, run, text};
use crate::engine::change::Change;
use crate::engine::rows::PartitionRow;
use rusqlite::{Connection, params};
use sublet_model::ids::PartitionId;
use sublet_model::partition::Allocation;
use sublet_model::units::Timestamp;

pub(super) fn of_partition(db: &Connection, change: &Change) -> Done {
    use Change as C;
    match change {
        C::Partition(row) => {
            partition_row(db, row)?;
            allocation(db, row.id, &row.allocation, row.declared_at)
        }
        C::PartitionDeclared { partition, name, profile, lendable, offer, listed_at, leaving } => run(
            db,
            "update partitions set name = ?2, lendable = ?3, offer = ?4, min_cpu_millicores = ?5, min_memory_mib = ?6,
             min_disk_gib = ?7, desired_cpu_millicores = ?8, desired_memory_mib = ?9, desired_disk_gib = ?10,
             max_cpu_millicores = ?11, max_memory_mib = ?12, max_disk_gib = ?13, listed_at = ?14, leaving = ?15
             where id = ?1",
            params![
                text(partition),
                name,
                lendable,
                offer.map(text),
                profile.min.cpu.0,
                profile.min.memory.0,
                profile.min.disk.0,
                profile.desired.cpu.0,
                profile.desired.memory.0,
                profile.desired.disk.0,
                profile.max.cpu.0,
                profile.max.memory.0,
                profile.max.disk.0,
                micros(*listed_at),
                leaving
            ],
        ),
        C::PartitionTakenBack { partition, taken_back } => run(
            db,
            "update partitions set taken_back_generation = ?2, taken_back_at = ?3 where id = ?1",
            params![text(partition), taken_back.map(|t| t.generation), taken_back.map(|t| t.at.0)],
        ),
        C::PartitionAccess { partition, access } => run(
            db,
            "update partitions set access_method = ?2, access_ca = ?3, access_host_key = ?4, access_dial = ?5
             where id = ?1",
            params![
                text(partition),
                access.as_ref().map(|_| "ssh_certificate"),
                access.as_ref().map(|a| &a.ca),
                access.as_ref().map(|a| &a.host_key),
                access.as_ref().map(|a| &a.dial)
            ],
        ),
        C::PartitionBoots { partition, failed_boots, unlisted_until } => run(
            db,
            "update partitions set failed_boots = ?2, unlisted_until = ?3 where id = ?1",
            params![text(partition), failed_boots, micros(*unlisted_until)],
        ),
        C::PartitionRetired { partition, at } => {
            run(db, "update partitions set retired_at = ?2, lendable = 0 where id = ?1", params![text(partition), at.0])
        }
        C::Allocation { partition, allocation: a, at } => allocation(db, *partition, a, *at),
        _ => Ok(()),
    }
}

fn allocation(db: &Connection, partition: PartitionId, a: &Allocation, at: Timestamp) -> Done {
    run(
        db,
        "insert into allocations (partition, generation, revision, cpu_millicores, memory_mib, disk_gib, vcpus, at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            text(partition),
            a.generation,
            a.revision,
            a.resources.cpu.0,
            a.resources.memory.0,
            a.resources.disk.0,
            a.vcpus,
            at.0
        ],
    )
}

fn partition_row(db: &Connection, row: &PartitionRow) -> Done {
    let (p, access) = (&row.partition, row.access.as_ref());
    run(
        db,
        "insert into partitions (id, host, name, lendable, offer, min_cpu_millicores, min_memory_mib, min_disk_gib,
         desired_cpu_millicores, desired_memory_mib, desired_disk_gib, max_cpu_millicores, max_memory_mib,
         max_disk_gib, access_method, access_ca, access_host_key, access_dial, failed_boots, unlisted_until,
         taken_back_generation, taken_back_at, listed_at, leaving, declared_at, retired_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
         ?22, ?23, ?24, ?25, ?26)",
        params![
            text(p.id),
            text(p.host),
            p.name,
            p.lendable,
            p.offer.map(text),
            p.profile.min.cpu.0,
            p.profile.min.memory.0,
            p.profile.min.disk.0,
            p.profile.desired.cpu.0,
            p.profile.desired.memory.0,
            p.profile.desired.disk.0,
            p.profile.max.cpu.0,
            p.profile.max.memory.0,
            p.profile.max.disk.0,
            access.map(|_| "ssh_certificate"),
            access.map(|a| &a.ca),
            access.map(|a| &a.host_key),
            access.map(|a| &a.dial),
            p.failed_boots,
            micros(row.unlisted_until),
            row.taken_back.map(|t| t.generation),
            row.taken_back.map(|t| t.at.0),
            micros(row.listed_at),
            row.leaving,
            row.declared_at.0,
            micros(row.retired_at)
        ],
    )
}
