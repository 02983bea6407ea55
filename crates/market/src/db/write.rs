//! Changes as rows. Statements are prepared once a connection.

use crate::engine::change::{Change, VERSION};
use crate::engine::rows::*;
use rusqlite::{Connection, Params, params};
use std::fmt::Display;
use sublet_model::account::Role;
use sublet_model::units::Timestamp;

mod host;
mod lease;
mod money;
mod partition;

type Done = rusqlite::Result<()>;

/// Writes a batch into an open transaction. The market's time is recorded with it: every event
/// carries it, and where there is none it is written by itself.
pub(super) fn changes(db: &Connection, at: Timestamp, changes: &[&Change]) -> Done {
    let mut recorded = false;
    for change in changes {
        row(db, change)?;
        if change.is_event() {
            event(db, at, change)?;
            recorded = true;
        }
    }
    if recorded {
        return Ok(());
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
        C::Account(account) => money::account(db, account),
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
        C::Transfer { .. }
        | C::Credit(..)
        | C::Dispute(..)
        | C::DisputeResolved { .. }
        | C::Alert(..)
        | C::AlertsPruned { .. }
        | C::Purse { .. }
        | C::Fee { .. } => money::of_money(db, change),
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
        | C::Plan { .. } => host::of_host(db, change),
        C::Partition(..)
        | C::PartitionDeclared { .. }
        | C::PartitionTakenBack { .. }
        | C::PartitionAccess { .. }
        | C::PartitionBoots { .. }
        | C::PartitionRetired { .. }
        | C::Allocation { .. } => partition::of_partition(db, change),
        C::Lease(..) | C::LeaseMoved { .. } | C::LeaseExtended { .. } | C::Receipt { .. } => {
            lease::of_lease(db, change)
        }
        C::Started { .. }
        | C::Heard { .. }
        | C::CatchingUp { .. }
        | C::KeysKnown { .. }
        | C::Seen { .. }
        | C::Silenced { .. }
        | C::Flagged { .. } => Ok(()),
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
