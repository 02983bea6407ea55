//! A lease as its client sees it.

use crate::engine::rows::{AlertKind, Lease};
use crate::engine::state::State;
use sublet_model::billing::{Charge, settle};
use sublet_model::units::Timestamp;
use sublet_wire::api::LeaseView;

/// A lease.
pub fn lease(state: &State, row: &Lease, now: Timestamp) -> LeaseView {
    let terms = row.terms();
    LeaseView {
        id: row.id,
        name: row.name.clone(),
        client: row.account,
        state: row.state,
        explanation: explanation(row),
        detail: row.detail.clone(),
        partition: row.partition,
        partition_name: state.partition(row.partition).map(|p| p.name.clone()).unwrap_or_default(),
        host: row.host,
        host_name: state.host(row.host).map(|h| h.name.clone()).unwrap_or_default(),
        generation: row.generation,
        resources: terms.resources,
        vcpus: terms.vcpus,
        image: row.image.clone(),
        hourly: terms.prices.hourly(terms.resources),
        term: row.term_seconds,
        paid: row.paid_seconds,
        held: state.held_for(row.id),
        funds_warning: funds_warning(state, row),
        seconds: state.seconds_so_far(row),
        cost_so_far: charge(state, row, now).total,
        ends_at: row.ends_at(),
        one_shot: row.one_shot,
        phase: state.live(row.host).and_then(|live| live.phase(row.partition, row.generation)),
        timeline: row.timeline.clone(),
        terms: row.agreed.signed.clone(),
        version: state.lease_version(row.id),
    }
}

/// What the client was told about how far the lease is paid now, while that matters.
fn funds_warning(state: &State, row: &Lease) -> Option<String> {
    let told = state.told(row.id, AlertKind::FundsLow, row.paid_seconds).filter(|_| row.state.is_wanted());
    told.map(|alert| alert.words.clone())
}

fn explanation(row: &Lease) -> Option<String> {
    if let Some(reason) = row.state.reason() {
        return Some(reason.explanation().into());
    }
    row.state.silent_since().map(|since| {
        format!(
            "the host was last heard at {since}: nothing is lost and silence is not billed past its receipts; \
             wait for it, or release the lease and rent another"
        )
    })
}

/// The final bill, or what it would be by now.
pub fn charge(state: &State, row: &Lease, now: Timestamp) -> Charge {
    if let Some(settled) = state.charge(row.id) {
        return settled.charge.clone();
    }
    let used = state.seconds_so_far(row);
    let was_ready = row.chain.is_some() || row.timeline.ready_at.is_some();
    settle(row.terms(), was_ready.then_some(used), row.observation(now))
}
