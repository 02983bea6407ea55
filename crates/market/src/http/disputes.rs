//! Disputes: opened by clients, resolved by the operator.

use crate::engine::command::{Command, Outcome};
use crate::engine::rows::DisputeRow;
use crate::engine::state::State;
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Asked, Caller, Named, Where};
use crate::http::page::{PageQuery, page};
use crate::http::problem::Fault;
use crate::http::{App, find, surprise, views};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use std::sync::Arc;
use sublet_model::ids::DisputeId;
use sublet_model::statement::CreditBearer;
use sublet_wire::api::{DisputeView, NewDispute, Page, Resolution};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(open, list)).routes(routes!(resolve))
}

fn view(app: &App, id: DisputeId) -> Result<Json<DisputeView>, Fault> {
    let found = app.read(|state| state.dispute(id).and_then(|row| views::money::dispute(state, row)));
    found.map(Json).ok_or_else(surprise)
}

/// Says that the charge of a lease is wrong (client). Until it is resolved, the lender's part is kept
/// back.
#[utoipa::path(
    post, path = "/v1/disputes", tag = "disputes",
    request_body = NewDispute, responses((status = 201, body = DisputeView))
)]
async fn open(
    Shared(app): Shared<Arc<App>>,
    asked: Asked<NewDispute>,
) -> Result<(StatusCode, Json<DisputeView>), Fault> {
    decide(&asked.actor, Action::Dispute, Object::of(asked.actor.account))?;
    let once = asked.key()?;
    let NewDispute { lease, line, reason, words } = asked.body.clone();
    let lease = app.read(|state| find::lease(state, &asked.actor, Action::Dispute, &lease).map(|row| row.id))?;
    let (actor, id) = (asked.actor.clone(), sublet_wire::new_id());
    let command = Command::OpenDispute { actor, id, lease, line, reason, words };
    let Outcome::Dispute(id) = app.ask(command, Some(once)).await? else { return Err(surprise()) };
    Ok((StatusCode::CREATED, view(&app, id)?))
}

/// Lists disputes, newest first: all of them for the operator, those about what one pays or earns for
/// others.
#[utoipa::path(
    get, path = "/v1/disputes", tag = "disputes", params(PageQuery),
    responses((status = 200, body = Page<DisputeView>))
)]
async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<DisputeView>>, Fault> {
    let actor = &caller.actor;
    decide(actor, Action::SeeDispute, Object::of(actor.account))?;
    app.read(|state: &State| {
        let seen = |row: &&DisputeRow| {
            state.lease(row.lease).is_some_and(|lease| {
                let (client, lender) = (Some(lease.account), Some(lease.terms().lender));
                decide(actor, Action::SeeDispute, Object { called: None, client, lender }).is_ok()
            })
        };
        let shown = state.disputes().rev().filter(seen).filter_map(|row| views::money::dispute(state, row));
        page(shown, |view| view.id.to_string(), |view| view, &query).map(Json)
    })
}

/// Resolves a dispute, with a credit note or without one (operator).
#[utoipa::path(
    post, path = "/v1/disputes/{dispute}/resolve", tag = "disputes",
    params(("dispute" = String, Path, description = "Id")),
    request_body = Resolution, responses((status = 200, body = DisputeView))
)]
async fn resolve(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<Resolution>,
) -> Result<Json<DisputeView>, Fault> {
    decide(&asked.actor, Action::RunMarket, Object::MARKET)?;
    let id: DisputeId = named.parse().map_err(|_| Fault::not_found("dispute", &named))?;
    let Resolution { credit, note, borne_by } = asked.body.clone();
    let (actor, borne_by) = (asked.actor.clone(), borne_by.unwrap_or(CreditBearer::Lender));
    app.ask(Command::ResolveDispute { actor, id, credit, borne_by, note }, asked.once.clone()).await?;
    view(&app, id)
}
