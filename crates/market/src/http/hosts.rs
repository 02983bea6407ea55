//! Hosts: joining, being seen, being managed. Their syncs are in `sync.rs`.

use crate::engine::command::{Command, Outcome};
use crate::http::authorize::{Action, Object, decide, join_secret};
use crate::http::extract::{Asked, Caller, Named, Nothing, Sent, Where};
use crate::http::page::{PageQuery, page};
use crate::http::problem::Fault;
use crate::http::{App, find, surprise, views};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use std::sync::Arc;
use sublet_model::ids::HostId;
use sublet_wire::api::{HostView, Page, Suspension};
use sublet_wire::sync::{JoinAnswer, JoinRequest};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The largest request to join: an inventory with every flag that a processor may have.
const LARGEST_JOIN_BYTES: usize = 256 << 10;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(join, list))
        .routes(routes!(show, forget))
        .routes(routes!(suspend))
        .routes(routes!(reset_session))
}

fn view(app: &App, id: HostId) -> Result<Json<HostView>, Fault> {
    let now = app.now();
    app.read(|state| state.host(id).map(|row| views::host::host(state, row, now))).map(Json).ok_or_else(surprise)
}

/// Makes the computer that asks a host. Authorised by a join token, which is used up. A computer
/// whose answer got lost may ask again with the same token and key.
#[utoipa::path(
    post, path = "/v1/hosts", tag = "hosts", security(("join_token" = [])),
    request_body = JoinRequest, responses((status = 201, body = JoinAnswer))
)]
async fn join(
    Shared(app): Shared<Arc<App>>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Result<(StatusCode, Json<JoinAnswer>), Fault> {
    let token = join_secret(&headers)?;
    // A stranger's body is not read: the token must be one that was made here.
    app.read(|state| state.join_token_by_hash(&token).map(|_| ())).ok_or_else(unknown_join_token)?;
    let Sent(request) = Sent::<JoinRequest>::read(&headers, body, LARGEST_JOIN_BYTES).await?;
    let JoinRequest { name, key, ssh_host_key, inventory } = request;
    check_host_key(&ssh_host_key)?;
    let command = Command::JoinHost { token, id: sublet_wire::new_id(), name, key, ssh_host_key, inventory };
    let Outcome::Joined { host, account } = app.ask(command, None).await? else { return Err(surprise()) };
    let (market_key, ssh_ca) = (app.keys.signing.public(), app.keys.ssh_ca_public());
    let keys = app.keys.chain.records().to_vec();
    Ok((StatusCode::CREATED, Json(JoinAnswer { host, account, market_key, ssh_ca, keys })))
}

fn unknown_join_token() -> Fault {
    Fault::new(sublet_wire::problem::Kind::Unauthenticated, "the join token is unknown, used up or expired")
        .advise("ask for a new one")
}

fn check_host_key(text: &str) -> Result<(), Fault> {
    let good = text.len() <= 4096
        && !text.chars().any(char::is_control)
        && ssh_key::PublicKey::from_openssh(text).is_ok_and(|key| key.algorithm() == ssh_key::Algorithm::Ed25519);
    if good {
        return Ok(());
    }
    Err(Fault::invalid("ssh_host_key: must be one line of an Ed25519 public key in OpenSSH's form"))
}

/// Lists hosts, oldest first: all of them for the operator, one's own for a lender.
#[utoipa::path(
    get, path = "/v1/hosts", tag = "hosts", params(PageQuery),
    responses((status = 200, body = Page<HostView>))
)]
async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<HostView>>, Fault> {
    let actor = &caller.actor;
    decide(actor, Action::SeeHost, Object::of(actor.account))?;
    let now = app.now();
    app.read(|state| {
        let all = state.hosts().filter(|row| decide(actor, Action::SeeHost, Object::of(row.account)).is_ok());
        page(all, |row| row.id.to_string(), |row| views::host::host(state, row, now), &query).map(Json)
    })
}

/// Shows a host and how it is divided.
#[utoipa::path(
    get, path = "/v1/hosts/{host}", tag = "hosts",
    params(("host" = String, Path, description = "Id or name")), responses((status = 200, body = HostView))
)]
async fn show(Shared(app): Shared<Arc<App>>, caller: Caller, Named(named): Named) -> Result<Json<HostView>, Fault> {
    let now = app.now();
    app.read(|state| {
        let row = find::host(state, &caller.actor, Action::SeeHost, &named)?;
        Ok(Json(views::host::host(state, row, now)))
    })
}

/// Bars a host from new grants, or restores it (its owner, the operator).
#[utoipa::path(
    put, path = "/v1/hosts/{host}/suspension", tag = "hosts",
    params(("host" = String, Path, description = "Id or name")),
    request_body = Suspension, responses((status = 200, body = HostView))
)]
async fn suspend(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<Suspension>,
) -> Result<Json<HostView>, Fault> {
    let host = app.read(|state| find::host(state, &asked.actor, Action::ManageHost, &named).map(|row| row.id))?;
    let suspended = asked.body.suspended;
    app.ask(Command::SuspendHost { actor: asked.actor.clone(), host, suspended }, asked.once.clone()).await?;
    view(&app, host)
}

/// Lets a host open its next session without naming the last one: after its disk was rolled back
/// (its owner, the operator).
#[utoipa::path(
    post, path = "/v1/hosts/{host}/reset-session", tag = "hosts",
    params(("host" = String, Path, description = "Id or name")), responses((status = 200, body = HostView))
)]
async fn reset_session(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<Nothing>,
) -> Result<Json<HostView>, Fault> {
    let host = app.read(|state| find::host(state, &asked.actor, Action::ManageHost, &named).map(|row| row.id))?;
    app.ask(Command::ResetSession { actor: asked.actor.clone(), host }, asked.once.clone()).await?;
    view(&app, host)
}

/// Gives a host up for good: its leases end, its partition ids are retired (operator).
#[utoipa::path(
    delete, path = "/v1/hosts/{host}", tag = "hosts",
    params(("host" = String, Path, description = "Id or name")),
    responses((status = 204, description = "Forgotten"))
)]
async fn forget(Shared(app): Shared<Arc<App>>, caller: Caller, Named(named): Named) -> Result<StatusCode, Fault> {
    let host = app.read(|state| find::host(state, &caller.actor, Action::RunMarket, &named).map(|row| row.id))?;
    app.ask(Command::ForgetHost { actor: caller.actor.clone(), host }, None).await?;
    app.sessions.forget(host);
    Ok(StatusCode::NO_CONTENT)
}
