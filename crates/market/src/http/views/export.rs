//! A statement as a document that anyone can recompute: everything that was signed, what the
//! market saw, and what follows from both.

use crate::engine::rows::{ChargeRow, CreditRow, Host, Lease};
use crate::engine::state::State;
use std::collections::BTreeMap;
use std::sync::Arc;
use sublet_model::identity::Signed;
use sublet_model::ids::{AccountId, HostId, LeaseId};
use sublet_model::lease::EndReason;
use sublet_model::market_keys::KeyChain;
use sublet_model::metering::Receipt;
use sublet_model::statement::{Credit, Head, HostKey, Life, Seen, Side};
use sublet_model::units::{Micros, Timestamp};

/// Which leases, and for whom.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Whose statement.
    pub account: AccountId,
    /// From which side.
    pub side: Side,
    /// Settled from here on …
    pub from: Timestamp,
    /// … to before here.
    pub until: Timestamp,
    /// When it is written.
    pub now: Timestamp,
    /// The market's own keys.
    pub keys: KeyChain,
    /// Name of the currency.
    pub currency: String,
}

/// What the state knows of a statement: all but the receipts.
#[derive(Debug)]
pub struct Export {
    /// Its head.
    pub head: Head,
    /// Leases with their charges, by id.
    pub leases: Vec<Told>,
}

/// A settled lease, with its money.
#[derive(Debug)]
pub struct Told {
    /// The lease.
    pub lease: Arc<Lease>,
    /// Its bill.
    pub charge: ChargeRow,
    /// What was held for it; none where it is free, or from before there were holds.
    pub held: Option<Micros>,
    /// What was given back since.
    pub credits: Vec<Credit>,
}

fn told(state: &State, lease: Arc<Lease>, charge: ChargeRow) -> Told {
    let credit = |row: &CreditRow| Credit {
        lease: row.lease,
        number: row.number,
        at: row.at,
        micros: row.micros,
        borne_by: row.borne_by,
        note: row.note.clone(),
    };
    Told { held: state.held_for(lease.id), credits: state.credits(lease.id).map(credit).collect(), lease, charge }
}

/// The leases of a statement, and its head; none if there are more than `most`.
pub fn export(state: &State, ask: Ask, most: usize) -> Option<Export> {
    let charged = |lease: &Arc<Lease>| {
        let charge = state.charge(lease.id)?;
        (ask.from..ask.until).contains(&charge.settled_at).then(|| (lease.clone(), charge.clone()))
    };
    let mut leases: BTreeMap<LeaseId, (Arc<Lease>, ChargeRow)> = BTreeMap::new();
    let all: Box<dyn Iterator<Item = &Arc<Lease>>> = match ask.side {
        Side::Client => Box::new(state.leases_of(ask.account)),
        Side::Lender => Box::new(state.leases_lent_by(ask.account)),
        Side::Operator => Box::new(state.leases()),
    };
    for (lease, charge) in all.filter_map(charged) {
        leases.insert(lease.id, (lease, charge));
        if leases.len() > most {
            return None;
        }
    }
    let hosts: BTreeMap<HostId, &Host> =
        leases.values().filter_map(|(lease, _)| state.host(lease.host)).map(|host| (host.id, host)).collect();
    let hosts = hosts.into_values().map(|h| HostKey { host: h.id, name: h.name.clone(), key: h.key }).collect();
    let Ask { account, side, from, until, now, keys, currency } = ask;
    let name = state.account(account).map(|a| a.name.clone()).unwrap_or_default();
    let (market, keys) = (keys.newest(), keys.records().to_vec());
    let head = Head { account, name, side, currency, from, until, made_at: now, market, keys, hosts };
    let leases = leases.into_values().map(|(lease, charge)| told(state, lease, charge)).collect();
    Some(Export { head, leases })
}

/// A lease with the receipts that its charge rests on.
pub fn life(told: Told, receipts: Vec<(Timestamp, Signed<Receipt>)>) -> Life {
    let Told { lease, charge, held, credits } = told;
    let timeline = &lease.timeline;
    let seen = Seen {
        lease: lease.id,
        name: lease.name.clone(),
        image: lease.image.clone(),
        fetched_at: timeline.fetched_at,
        booted_at: timeline.booted_at,
        ready_at: timeline.ready_at,
        contact_at: timeline.contact_at,
        stopped_at: timeline.stopped_at.unwrap_or(charge.settled_at),
        // What came after the bill is not in it.
        ended_at: timeline.ended_at.filter(|at| *at <= charge.settled_at),
        term_seconds: lease.term_seconds,
        paid_seconds: lease.paid_seconds,
        held,
        reason: lease.state.reason().unwrap_or(EndReason::Operator),
        settled_at: charge.settled_at,
    };
    let billed = usize::try_from(charge.receipt_seq).unwrap_or(usize::MAX);
    Life { terms: lease.agreed.signed.clone(), seen, receipts: receipts.into_iter().take(billed).collect(), credits }
}
