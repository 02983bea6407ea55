//! Changes of hosts.

use super::{Done, json, micros, run, text};
use crate::engine::change::Change;
use crate::engine::rows::Host;
use rusqlite::{Connection, params};

pub(super) fn of_host(db: &Connection, change: &Change) -> Done {
    use Change as C;
    match change {
        C::Host(host) => host_row(db, host),
        C::HostMeasured { host, inventory } => {
            let all = inventory.resources();
            run(
                db,
                "update hosts set arch = ?2, tier = ?3, cpu_millicores = ?4, memory_mib = ?5, disk_gib = ?6,
                 inventory = ?7 where id = ?1",
                params![
                    text(host),
                    inventory.arch,
                    text(inventory.tier),
                    all.cpu.0,
                    all.memory.0,
                    all.disk.0,
                    json(inventory)?
                ],
            )
        }
        C::HostDialed { host, dial } => run(db, "update hosts set dial = ?2 where id = ?1", params![text(host), dial]),
        C::HostDivided { host, revision, keep, offer } => run(
            db,
            "update hosts set division_revision = ?2, keep_cpu_millicores = ?3, keep_memory_mib = ?4,
             keep_disk_gib = ?5, offer = ?6, offer_version = ?7 where id = ?1",
            params![
                text(host),
                revision,
                keep.cpu.0,
                keep.memory.0,
                keep.disk.0,
                offer.map(|(id, _)| text(id)),
                offer.map(|(_, version)| version)
            ],
        ),
        C::HostSession { host, session } => {
            run(db, "update hosts set session = ?2 where id = ?1", params![text(host), session])
        }
        C::HostSessionUsed { host, session } => {
            run(db, "update hosts set used_session = ?2, session_reset = 0 where id = ?1", params![text(host), session])
        }
        C::HostSessionReset { host } => run(db, "update hosts set session_reset = 1 where id = ?1", [text(host)]),
        C::HostSuspended { host, suspended } => {
            run(db, "update hosts set suspended = ?2 where id = ?1", params![text(host), suspended])
        }
        C::HostForgotten { host, at } => {
            run(db, "update hosts set forgotten_at = ?2 where id = ?1", params![text(host), at.0])
        }
        C::Plan { host, version } => {
            run(db, "update hosts set plan_version = ?2 where id = ?1", params![text(host), version])
        }
        _ => Ok(()),
    }
}

fn host_row(db: &Connection, h: &Host) -> Done {
    let all = h.inventory.resources();
    run(
        db,
        "insert into hosts (id, name, account, key, ssh_host_key, dial, arch, tier, cpu_millicores, memory_mib,
         disk_gib, inventory, keep_cpu_millicores, keep_memory_mib, keep_disk_gib, division_revision, offer,
         offer_version, session, used_session, session_reset, suspended, forgotten_at, plan_version, joined_with,
         joined_at) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
         ?20, ?21, ?22, ?23, ?24, ?25, ?26)",
        params![
            text(h.id),
            h.name,
            text(h.account),
            text(h.key),
            h.ssh_host_key,
            h.dial,
            h.inventory.arch,
            text(h.inventory.tier),
            all.cpu.0,
            all.memory.0,
            all.disk.0,
            json(&h.inventory)?,
            h.keep.cpu.0,
            h.keep.memory.0,
            h.keep.disk.0,
            h.division_revision,
            h.offer.map(|(id, _)| text(id)),
            h.offer.map(|(_, version)| version),
            h.session,
            h.used_session,
            h.session_reset,
            h.suspended,
            micros(h.forgotten_at),
            h.plan_version,
            text(h.joined_with),
            h.joined_at.0
        ],
    )
}
