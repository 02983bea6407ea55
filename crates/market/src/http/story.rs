//! The whole story of a lease, from what is stored: what was agreed, what happened when, what its host
//! signed, where the money went, what was disputed.

use crate::db::query::StoredReceipt;
use crate::engine::rows::{DisputeRow, Lease};
use crate::engine::state::State;
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Caller, Named};
use crate::http::problem::Fault;
use crate::http::records::blocking;
use crate::http::{App, find};
use axum::Json;
use axum::extract::State as Shared;
use std::sync::Arc;
use sublet_model::ledger::{Book, Cause, Transfer};
use sublet_model::units::{Micros, Timestamp};
use sublet_wire::api::{AuditEntry, Story, StoryEvent};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(story))
}

/// Tells the whole story of a lease from what is stored, for whoever pays or earns.
#[utoipa::path(
    get, path = "/v1/leases/{lease}/story", tag = "leases",
    params(("lease" = String, Path, description = "Id, or name among one's own")),
    responses((status = 200, body = Story))
)]
async fn story(Shared(app): Shared<Arc<App>>, caller: Caller, Named(named): Named) -> Result<Json<Story>, Fault> {
    let (lease, mut events, pays) = app.read(|state| {
        let lease = find::lease(state, &caller.actor, Action::SeeDispute, &named)?;
        // What a client has, and what it lacks, is no business of its lender's.
        let pays = decide(&caller.actor, Action::SeeBalance, Object::of(lease.account)).is_ok();
        Ok::<_, Fault>((Arc::clone(lease), remembered(state, lease, pays), pays))
    })?;
    let id = lease.id;
    let (receipts, transfers, said) = blocking(&app, move |records| {
        Ok((records.receipts(id)?, records.transfers_for(id)?, records.audit_about(id)?))
    })
    .await?;
    events.extend(receipted(&receipts));
    events.extend(transfers.iter().filter(|transfer| pays || is_for_both(&transfer.cause)).map(moved));
    events.extend(said.into_iter().map(audited));
    // In one moment what was agreed comes first, then money: stable, for they were put in that order.
    events.sort_by_key(|event| event.at);
    Ok(Json(Story { lease: id, name: lease.name.clone(), events }))
}

fn event(at: Timestamp, what: &str, words: String) -> StoryEvent {
    StoryEvent { at, what: what.into(), words }
}

/// What the state knows.
fn remembered(state: &State, lease: &Lease, pays: bool) -> Vec<StoryEvent> {
    let mut events = agreed(state, lease);
    let t = &lease.timeline;
    let reason = lease.state.reason().map_or(String::new(), |r| format!(": {r}, {}", r.explanation()));
    let detail = lease.detail.as_ref().map_or(String::new(), |d| format!(" (the host says: {d})"));
    let marks = [
        (t.fetched_at, "fetched", "the image was whole on the host".to_string()),
        (t.booted_at, "booted", "the machine was started".to_string()),
        (t.ready_at, "ready", "the guest answered: from here on it is metered".to_string()),
        (t.contact_at, "first contact", "the client authenticated for the first time".to_string()),
        (t.stopped_at, "stopped", format!("it was to stop{reason}{detail}")),
        (t.ended_at, "ended", "the host said gone and wiped".to_string()),
    ];
    events.extend(marks.into_iter().filter_map(|(at, what, words)| Some(event(at?, what, words))));
    if let Some(since) = lease.state.silent_since() {
        events.push(event(since, "silent", "its host was not heard of any more".into()));
    }
    let told = state.alerts_about(lease.id).filter(|_| pays);
    events.extend(told.map(|alert| event(alert.at, alert.kind.word(), alert.words.clone())));
    if let Some(row) = state.charge(lease.id) {
        let charge = &row.charge;
        let words = format!(
            "{} receipted, {} billed at {}, set-up {}: {}",
            charge.receipted_seconds, charge.billed_seconds, charge.hourly, charge.setup, charge.total
        );
        events.push(event(row.settled_at, "billed", words));
    }
    let disputes = state.disputes().filter(|row| row.lease == lease.id);
    events.extend(disputes.flat_map(disputed));
    let credits = state.credits(lease.id);
    events.extend(credits.map(|c| event(c.at, "credited", format!("{} given back: {}", c.micros, c.note))));
    events
}

fn agreed(state: &State, lease: &Lease) -> Vec<StoryEvent> {
    let terms = lease.terms();
    let host = state.host(lease.host).map(|h| h.name.clone()).unwrap_or_default();
    let fee = match terms.fee_permille {
        0 => String::new(),
        permille => format!(", of which the operator keeps {permille} thousandths"),
    };
    let words = format!(
        "{} on {host}, generation {}, with {} for {}: {} an hour, set-up {}{fee}",
        lease.image,
        lease.generation,
        terms.resources,
        lease.term_seconds,
        terms.prices.hourly(terms.resources),
        terms.prices.setup
    );
    vec![event(terms.granted_at, "granted", words)]
}

fn disputed(row: &DisputeRow) -> Vec<StoryEvent> {
    let line = row.line.map_or(String::new(), |line| format!(", line {line}"));
    let words = if row.words.is_empty() { String::new() } else { format!(": {}", row.words) };
    let opened = event(row.opened_at, "disputed", format!("{}{line}{words}", row.reason));
    let resolved =
        row.resolved.as_ref().map(|r| event(r.at, "resolved", format!("{} given back: {}", r.credited, r.note)));
    std::iter::once(opened).chain(resolved).collect()
}

/// Of many receipts the first and the last are told, and how many there were.
fn receipted(receipts: &[StoredReceipt]) -> Vec<StoryEvent> {
    let told = |stored: &StoredReceipt| {
        let receipt = stored.receipt.read().ok()?;
        let last = if receipt.last { ", the last one" } else { "" };
        let words = format!("receipt {}{last}: {} metered, signed by the host", receipt.seq, receipt.seconds);
        Some(event(stored.received_at, "receipt", words))
    };
    match receipts {
        [] => Vec::new(),
        [one] => told(one).into_iter().collect(),
        [first, .., last] => [told(first), told(last)].into_iter().flatten().collect(),
    }
}

/// What is set aside, and what of that goes back, is between the client and the market.
fn is_for_both(cause: &Cause) -> bool {
    !matches!(cause, Cause::Hold { .. } | Cause::Void { .. })
}

fn moved(transfer: &Transfer) -> StoryEvent {
    let into = |is_meant: fn(Book) -> bool| {
        transfer.postings.iter().filter(|p| is_meant(p.book)).map(|p| p.micros).sum::<Micros>()
    };
    let amount = transfer.postings.iter().map(|p| p.micros.max(Micros::ZERO)).sum::<Micros>();
    let words = match &transfer.cause {
        Cause::Hold { .. } => format!("{amount} set aside"),
        Cause::Charge { receipt, .. } => {
            let (fees, kept) = (into(|book| book == Book::Fees), into(|book| matches!(book, Book::Withheld(_))));
            let kept = if kept > Micros::ZERO { format!(", {kept} kept back") } else { String::new() };
            format!("{amount} of that to the lender, by receipt {receipt}; fees {fees}{kept}")
        }
        Cause::Void { .. } => format!("{amount} not used, and back"),
        Cause::Withhold { .. } => format!("{amount} kept back from the lender"),
        Cause::PayOut { .. } => format!("{amount} that were kept back to the lender"),
        Cause::Credit { number, .. } => format!("credit note {number}: {amount} back to the client"),
        Cause::Deposit { .. } | Cause::Refund { .. } => format!("{amount}"),
    };
    event(transfer.at, transfer.cause.word(), words)
}

fn audited(entry: AuditEntry) -> StoryEvent {
    let detail = if entry.detail.is_empty() { String::new() } else { format!(": {}", entry.detail) };
    event(entry.at, "audit", format!("{} by {}{detail}", entry.action, entry.actor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::Command;
    use crate::engine::tests::world::{CLIENT, World, id, operator};
    use sublet_wire::api::PurseChange;

    #[test]
    fn a_lender_reads_nothing_of_what_its_client_has() {
        let (mut world, mut agent) = World::lending();
        let change = PurseChange { on_account: Some(false), ..PurseChange::default() };
        world.call(Command::SetPurse { actor: operator(), account: id(CLIENT), change }).unwrap();
        let (account, micros, reference) = (id(CLIENT), Micros(1_000_000), "PO".to_string());
        world.call(Command::Deposit { actor: operator(), account, micros, reference }).unwrap();
        let lease = world.running(&mut agent);
        world.pass(300);
        world.sync(&mut agent);
        world.tick();
        let told = |pays| remembered(world.engine.state(), &lease, pays).iter().any(|event| event.what == "funds_low");
        assert_eq!((told(true), told(false)), (true, false));
        let both = [Cause::Hold { lease: lease.id, client: lease.account }, Cause::Void { lease: lease.id }];
        assert!(!both.iter().any(is_for_both));
        assert!(is_for_both(&Cause::PayOut { lease: lease.id }));
    }
}
