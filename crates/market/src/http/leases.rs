//! Leases: watching, getting in, extending, giving back. Renting has its own file.

use crate::certificate::{self, Right};
use crate::engine::command::{Actor, Command};
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Asked, Caller, Named, Nothing, Where};
use crate::http::page::{PageQuery, page};
use crate::http::problem::Fault;
use crate::http::{App, find, surprise, views};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use sublet_model::ids::LeaseId;
use sublet_wire::api::{Access, AccessRequest, Extend, LeaseView, Page};
use sublet_wire::path::Reach;
use sublet_wire::problem::Kind;
use tokio::time::timeout;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The longest that a watcher is held.
const LONGEST_WAIT: u64 = 30;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(super::renting::rent, list))
        .routes(routes!(show))
        .routes(routes!(access))
        .routes(routes!(extend))
        .routes(routes!(release))
}

pub(super) fn view(app: &App, id: LeaseId) -> Result<Json<LeaseView>, Fault> {
    let now = app.now();
    app.read(|state| state.lease(id).map(|row| views::lease::lease(state, row, now))).map(Json).ok_or_else(surprise)
}

/// A certificate for a lease that runs, and where to go with it.
pub(super) fn certified(app: &App, actor: &Actor, id: LeaseId, key: Option<&str>) -> Result<Access, Fault> {
    let now = app.now();
    let (right, key, (dial, host_key), identity, newest_keys) = app.read(|state| {
        let row = state.lease(id).ok_or_else(surprise)?;
        if !row.state.is_wanted() {
            return Err(over(id, row.state));
        }
        let known = state.partition(row.partition).and_then(|p| p.access.as_ref());
        let reach = known.map(|access| (access.dial.clone(), access.host_key.clone()));
        let reach = reach.filter(|(dial, _)| dial.parse::<Reach>().is_ok_and(|reach| !reach.is_empty()));
        let identity = state.host(row.host).map(|host| host.key);
        // Not ready yet: the term begins later, so the lease ends no earlier than this.
        let ends_at = row.ends_at().unwrap_or(now.after(row.term_seconds));
        let right = Right { lease: id, generation: row.generation, member: actor.member, ends_at };
        let newest_keys = state.live(row.host).is_some_and(|live| live.keys == app.keys.chain.head());
        let key = key.unwrap_or(&row.ssh_public_key).to_owned();
        Ok((right, key, reach.ok_or_else(unreachable_host)?, identity, newest_keys))
    })?;
    let (authority, until) = app.keys.ssh_authority(newest_keys, now);
    let right = Right { ends_at: until.map_or(right.ends_at, |until| right.ends_at.min(until)), ..right };
    let made = certificate::certify(authority, &key, right, now)?;
    let (certificate, expires_at) = (made.text, made.expires_at);
    let relay = app.relay_pass(id, expires_at);
    Ok(Access { user: id.to_string(), dial, identity, relay, host_key, certificate, expires_at })
}

fn over(id: LeaseId, state: sublet_model::lease::LeaseState) -> Fault {
    let why = state.reason().map_or("it is over", |reason| reason.explanation());
    Fault::new(Kind::Conflict, format!("lease {id} is {} and opens nothing any more: {why}", state.word()))
        .advise("rent again")
}

fn unreachable_host() -> Fault {
    Fault::new(Kind::Unavailable, "the host has not said yet where it is reached").advise("try again in a moment")
}

/// Which leases.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `running` (it holds a partition), `ended` or `all`; `all` if absent.
    #[param(inline)]
    state: Option<Which>,
    /// From the page before; the first page if absent.
    cursor: Option<String>,
    /// How many at most: 1 to 200, 100 if absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// Leases by whether they are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Which {
    /// Those that hold a partition.
    Running,
    /// Those that are over.
    Ended,
    /// Both.
    All,
}

/// Lists leases, newest first: all of them for the operator, the account's own for others.
#[utoipa::path(
    get, path = "/v1/leases", tag = "leases", params(ListQuery),
    responses((status = 200, body = Page<LeaseView>))
)]
async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(ListQuery { state: which, cursor, limit }): Where<ListQuery>,
) -> Result<Json<Page<LeaseView>>, Fault> {
    let actor = &caller.actor;
    decide(actor, Action::SeeLease, Object::of(actor.account))?;
    let now = app.now();
    let query = PageQuery { cursor, limit };
    app.read(|state| {
        let wanted = |running: bool| match which.unwrap_or(Which::All) {
            Which::Running => running,
            Which::Ended => !running,
            Which::All => true,
        };
        let seen = |client| decide(actor, Action::SeeLease, Object { client: Some(client), ..Object::MARKET }).is_ok();
        let all = state.leases().rev().filter(|row| wanted(row.state.holds_slot()) && seen(row.account));
        page(all, |row| row.id.to_string(), |row| views::lease::lease(state, row, now), &query).map(Json)
    })
}

/// Whether to wait for news.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WatchQuery {
    /// A version that is known already: the answer waits for another one.
    after: Option<u64>,
    /// For how many seconds at most: up to 30, which is also meant if absent.
    #[param(maximum = 30)]
    wait: Option<u64>,
}

/// Shows a lease; with `after`, as soon as it differs from that version.
#[utoipa::path(
    get, path = "/v1/leases/{lease}", tag = "leases",
    params(("lease" = String, Path, description = "Id, or name among one's own"), WatchQuery),
    responses(
        (status = 200, body = LeaseView, headers(("etag" = String, description = "The version"))),
        (status = 304, description = "If-None-Match names this version"),
    )
)]
async fn show(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Named(named): Named,
    Where(query): Where<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let wait = query.wait.unwrap_or(LONGEST_WAIT);
    if wait > LONGEST_WAIT {
        return Err(Fault::invalid(format!("wait: {wait} is more than {LONGEST_WAIT} seconds")));
    }
    let id = app.read(|state| find::lease(state, &caller.actor, Action::SeeLease, &named).map(|row| row.id))?;
    if let Some(known) = query.after {
        let _ = timeout(Duration::from_secs(wait), async {
            tokio::select! {
                () = app.handle.lease_changed(id, known) => {}
                () = app.stopping.cancelled() => {}
            }
        })
        .await;
    }
    let Json(view) = view(&app, id)?;
    let etag = format!("\"{}\"", view.version);
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == etag.as_bytes());
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { Json(view).into_response() };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Gives a fresh certificate, for the key of the grant or another one (client).
#[utoipa::path(
    post, path = "/v1/leases/{lease}/access", tag = "leases",
    params(("lease" = String, Path, description = "Id, or name among one's own")),
    request_body = AccessRequest, responses((status = 200, body = Access))
)]
async fn access(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<AccessRequest>,
) -> Result<Json<Access>, Fault> {
    let id = app.read(|state| find::lease(state, &asked.actor, Action::UseLease, &named).map(|row| row.id))?;
    certified(&app, &asked.actor, id, asked.body.ssh_public_key.as_deref()).map(Json)
}

/// Lengthens a lease (client). Needs an idempotency key: said twice it would lengthen twice.
#[utoipa::path(
    post, path = "/v1/leases/{lease}/extend", tag = "leases",
    params(("lease" = String, Path, description = "Id, or name among one's own")),
    request_body = Extend, responses((status = 200, body = LeaseView))
)]
async fn extend(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<Extend>,
) -> Result<Json<LeaseView>, Fault> {
    let lease = app.read(|state| find::lease(state, &asked.actor, Action::UseLease, &named).map(|row| row.id))?;
    let once = asked.key()?;
    let command = Command::Extend { actor: asked.actor.clone(), lease, by: asked.body.by };
    app.ask(command, Some(once)).await?;
    view(&app, lease)
}

/// Gives a lease back (client, operator). Said twice it is the same.
#[utoipa::path(
    post, path = "/v1/leases/{lease}/release", tag = "leases",
    params(("lease" = String, Path, description = "Id, or name among one's own")),
    responses((status = 200, body = LeaseView))
)]
async fn release(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<Nothing>,
) -> Result<Json<LeaseView>, Fault> {
    let lease = app.read(|state| find::lease(state, &asked.actor, Action::Release, &named).map(|row| row.id))?;
    app.ask(Command::Release { actor: asked.actor.clone(), lease }, asked.once.clone()).await?;
    view(&app, lease)
}
