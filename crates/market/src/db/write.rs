//! Changes as rows. Statements are prepared once a connection.

use crate::engine::change::{Change, VERSION};
use crate::engine::rows::*;
use rusqlite::{Connection, Params, params};
use std::fmt::Display;
use sublet_model::account::Role;
use sublet_model::lease::LeaseState;
use sublet_model::units::Timestamp;

type Done = rusqlite::Result<()>;

/// Writes a batch into an open transaction.
pub(super) fn changes(db: &Connection, at: Timestamp, changes: &[&Change]) -> Done {
    for change in changes {
        row(db, change)?;
        if change.is_event() {
            event(db, at, change)?;
        }
    }
    run(db, "update meta set value = ?1 where name = 'market_time'", [at.0.to_string()])
}

fn event(db: &Connection, at: Timestamp, change: &Change) -> Done {
    let body = json(change)?;
    // The kind stands first in the JSON: `{"kind":"lease_moved",…`.
    let kind = body.split('"').nth(3).unwrap_or_default();
    run(
        db,
        "insert into events (at, kind, version, change) values (?1, ?2, ?3, ?4)",
        params![at.0, kind, VERSION, body],
    )
}

fn run(db: &Connection, sql: &str, values: impl Params) -> Done {
    db.prepare_cached(sql)?.execute(values).map(drop)
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}

fn text(value: impl Display) -> String {
    value.to_string()
}

fn roles(roles: &[Role]) -> String {
    roles.iter().map(|r| r.word()).collect::<Vec<_>>().join(",")
}

fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.0)
}

fn row(db: &Connection, change: &Change) -> Done {
    use Change as C;
    match change {
        C::Account(a) => run(
            db,
            "insert into accounts (id, name, suspended, created_at) values (?1, ?2, ?3, ?4)",
            params![text(a.id), a.name, a.suspended, a.created_at.0],
        ),
        C::AccountSuspended { account, suspended } => {
            run(db, "update accounts set suspended = ?2 where id = ?1", params![text(account), suspended])
        }
        C::Member(m) => run(
            db,
            "insert into members (id, account, name, roles, created_at) values (?1, ?2, ?3, ?4, ?5)",
            params![text(m.id), text(m.account), m.name, roles(&m.roles), m.created_at.0],
        ),
        C::Token(t) => token(db, t),
        C::TokenRevoked { token, at } => {
            run(db, "update tokens set revoked_at = ?2 where id = ?1", params![text(token), at.0])
        }
        C::JoinToken(t) => run(
            db,
            "insert into join_tokens (id, account, member, hash, uses, used, expires_at, created_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                text(t.id),
                text(t.account),
                text(t.member),
                text(t.hash),
                t.uses,
                t.used,
                t.expires_at.0,
                t.created_at.0
            ],
        ),
        C::JoinTokenUsed { token } => run(db, "update join_tokens set used = used + 1 where id = ?1", [text(token)]),
        C::Offer(row) => offer(db, row),
        C::Image(image) => image_row(db, image),
        C::ImageMoved { digest, depot } => {
            run(db, "update images set depot = ?2 where digest = ?1", params![text(digest), depot])
        }
        C::ImageSuspended { digest, suspended } => {
            run(db, "update images set suspended = ?2 where digest = ?1", params![text(digest), suspended])
        }
        C::Charge(row) => charge(db, row),
        C::Done { member, key, body, outcome, forever, at } => run(
            db,
            "insert into idempotency (member, key, body, outcome, forever, at) values (?1, ?2, ?3, ?4, ?5, ?6)",
            params![text(member), key, text(body), json(outcome)?, forever, at.0],
        ),
        C::DonePruned { before } => run(db, "delete from idempotency where forever = 0 and at < ?1", [before.0]),
        C::Audit { actor, action, object, detail, at } => run(
            db,
            "insert into audit (at, actor, action, object, detail) values (?1, ?2, ?3, ?4, ?5)",
            params![at.0, actor, action, object, detail],
        ),
        C::Host(..)
        | C::HostMeasured { .. }
        | C::HostDialed { .. }
        | C::HostDivided { .. }
        | C::HostSession { .. }
        | C::HostSessionUsed { .. }
        | C::HostSessionReset { .. }
        | C::HostSuspended { .. }
        | C::HostForgotten { .. }
        | C::Plan { .. } => of_host(db, change),
        C::Partition(..)
        | C::PartitionDeclared { .. }
        | C::PartitionTakenBack { .. }
        | C::PartitionAccess { .. }
        | C::PartitionBoots { .. }
        | C::PartitionRetired { .. }
        | C::Allocation { .. } => of_partition(db, change),
        C::Lease(..) | C::LeaseMoved { .. } | C::LeaseExtended { .. } | C::Receipt { .. } => of_lease(db, change),
        C::Started { .. } | C::Heard { .. } | C::Seen { .. } | C::Silenced { .. } | C::Flagged { .. } => Ok(()),
    }
}

fn token(db: &Connection, t: &Token) -> Done {
    run(
        db,
        "insert into tokens (id, member, name, hash, roles, expires_at, created_at, revoked_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            text(t.id),
            text(t.member),
            t.name,
            text(t.hash),
            roles(&t.roles),
            t.expires_at.0,
            t.created_at.0,
            micros(t.revoked_at)
        ],
    )
}

fn offer(db: &Connection, row: &OfferRow) -> Done {
    let (offer, prices) = (&row.offer, row.offer.conditions.prices);
    run(
        db,
        "insert into offers (id, version, account, setup_micros, flat_micros_per_hour, cpu_micros_per_core_hour,
         memory_micros_per_gib_hour, disk_micros_per_gib_hour, conditions, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            text(offer.id),
            offer.version,
            text(offer.account),
            prices.setup.0,
            prices.flat.0,
            prices.cpu.0,
            prices.memory.0,
            prices.disk.0,
            json(&offer.conditions)?,
            row.created_at.0
        ],
    )
}

fn image_row(db: &Connection, image: &Image) -> Done {
    let m = &image.manifest;
    run(
        db,
        "insert into images (digest, reference, os, arch, manifest, key, signature, depot, suspended, registered_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            text(image.digest),
            m.reference(),
            m.os,
            m.arch,
            image.signed.payload,
            text(image.signed.key),
            image.signed.signature,
            image.depot,
            image.suspended,
            image.registered_at.0
        ],
    )
}

fn charge(db: &Connection, row: &ChargeRow) -> Done {
    let c = &row.charge;
    run(
        db,
        "insert into charges (lease, client, lender, receipt_seq, receipted_seconds, billed_seconds, hourly_micros,
         setup_micros, total_micros, settled_at) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            text(row.lease),
            text(row.client),
            text(row.lender),
            row.receipt_seq,
            c.receipted_seconds.0,
            c.billed_seconds.0,
            c.hourly.0,
            c.setup.0,
            c.total.0,
            row.settled_at.0
        ],
    )
}

fn of_host(db: &Connection, change: &Change) -> Done {
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
            run(db, "update hosts set session = ?2, session_reset = 0 where id = ?1", params![text(host), session])
        }
        C::HostSessionUsed { host, session } => {
            run(db, "update hosts set used_session = ?2 where id = ?1", params![text(host), session])
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

fn of_partition(db: &Connection, change: &Change) -> Done {
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

fn allocation(
    db: &Connection,
    partition: sublet_model::ids::PartitionId,
    a: &sublet_model::partition::Allocation,
    at: Timestamp,
) -> Done {
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

fn of_lease(db: &Connection, change: &Change) -> Done {
    use Change as C;
    match change {
        C::Lease(lease) => lease_row(db, lease),
        C::LeaseMoved { lease, state, timeline, detail } => {
            let (reason, silent_since) = marks(*state);
            run(
                db,
                "update leases set state = ?2, reason = ?3, silent_since = ?4, fetched_at = ?5, booted_at = ?6,
                 ready_at = ?7, contact_at = ?8, stopped_at = ?9, ended_at = ?10, detail = ?11 where id = ?1",
                params![
                    text(lease),
                    state.word(),
                    reason,
                    silent_since,
                    micros(timeline.fetched_at),
                    micros(timeline.booted_at),
                    micros(timeline.ready_at),
                    micros(timeline.contact_at),
                    micros(timeline.stopped_at),
                    micros(timeline.ended_at),
                    detail
                ],
            )
        }
        C::LeaseExtended { lease, term_seconds, paid_seconds } => run(
            db,
            "update leases set term_seconds = ?2, paid_seconds = ?3 where id = ?1",
            params![text(lease), term_seconds.0, paid_seconds.0],
        ),
        C::Receipt { lease, receipt, end, cpu_used_ms, at } => run(
            db,
            "insert into receipts (lease, seq, seconds, cpu_used_ms, last, digest, payload, signature, received_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                text(lease),
                end.seq,
                end.seconds.0,
                cpu_used_ms,
                end.last,
                text(end.digest),
                receipt.payload,
                receipt.signature,
                at.0
            ],
        ),
        _ => Ok(()),
    }
}

/// What a state carries, as columns: why it ends, and since when its host is silent.
fn marks(state: LeaseState) -> (Option<&'static str>, Option<i64>) {
    (state.reason().map(|r| r.word()), micros(state.silent_since()))
}

fn lease_row(db: &Connection, l: &Lease) -> Done {
    let (terms, (reason, silent_since)) = (l.terms(), marks(l.state));
    run(
        db,
        "insert into leases (id, name, account, member, host, partition, generation, revision, state, reason,
         silent_since, granted_at, term_seconds, paid_seconds, one_shot, release_after_disconnect_seconds,
         ssh_public_key, image, image_digest, hourly_micros, terms, terms_key, terms_signature, detail)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
         ?22, ?23)",
        params![
            text(l.id),
            l.name,
            text(l.account),
            text(l.member),
            text(l.host),
            text(l.partition),
            l.generation,
            l.state.word(),
            reason,
            silent_since,
            terms.granted_at.0,
            l.term_seconds.0,
            l.paid_seconds.0,
            l.one_shot,
            l.release_after_disconnect.0,
            l.ssh_public_key,
            l.image,
            text(terms.image),
            terms.prices.hourly(terms.resources).0,
            l.agreed.signed.payload,
            text(l.agreed.signed.key),
            l.agreed.signed.signature,
            l.detail
        ],
    )
}
