//! Changes of leases, and their receipts.

use super::{Done, micros, run, text};
use crate::engine::change::Change;
use crate::engine::rows::Lease;
use rusqlite::{Connection, params};
use sublet_model::lease::LeaseState;

const MOVED: &str = "update leases set state = ?2, reason = ?3, silent_since = ?4, fetched_at = ?5, booted_at = ?6,
                     ready_at = ?7, contact_at = ?8, stopped_at = ?9, detail = ?10, started = ?11 where id = ?1";
const MOVED_TO_ITS_END: &str =
    "update leases set state = ?2, reason = ?3, silent_since = ?4, fetched_at = ?5, booted_at = ?6, ready_at = ?7,
     contact_at = ?8, stopped_at = ?9, detail = ?10, started = ?11, ended_at = ?12 where id = ?1";

pub(super) fn of_lease(db: &Connection, change: &Change) -> Done {
    use Change as C;
    match change {
        C::Lease(lease) => {
            lease_row(db, lease)?;
            super::money::budget(db, lease.id, lease.budget)
        }
        C::LeaseMoved { lease, state, timeline, detail } => {
            let (reason, silent_since) = marks(*state);
            let (lease, word) = (text(lease), state.word());
            let t = timeline;
            let [fetched, booted, ready] = [t.fetched_at, t.booted_at, t.ready_at].map(micros);
            let [contact, stopped, ended] = [t.contact_at, t.stopped_at, t.ended_at].map(micros);
            // One that goes on leaves the column alone by which indexes tell what runs: they need no look then.
            let sql = if ended.is_some() { MOVED_TO_ITS_END } else { MOVED };
            let how = &t.started;
            let mut values = params![
                lease,
                word,
                reason,
                silent_since,
                fetched,
                booted,
                ready,
                contact,
                stopped,
                detail,
                how,
                ended
            ];
            if ended.is_none() {
                values = &values[..values.len() - 1];
            }
            run(db, sql, values)
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
