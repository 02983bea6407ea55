//! Accounts: made and suspended by the operator.

use crate::engine::command::{Command, Outcome};
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Asked, Caller, Named, Where};
use crate::http::page::{PageQuery, page};
use crate::http::problem::Fault;
use crate::http::{App, find, surprise, views};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use std::sync::Arc;
use sublet_model::ids::AccountId;
use sublet_wire::api::{AccountView, NewAccount, Page, Suspension};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(suspend))
}

fn view(app: &App, id: AccountId) -> Result<Json<AccountView>, Fault> {
    app.read(|state| state.account(id).map(views::account::account)).map(Json).ok_or_else(surprise)
}

/// Makes an account (operator).
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts",
    request_body = NewAccount, responses((status = 201, body = AccountView))
)]
async fn create(
    Shared(app): Shared<Arc<App>>,
    asked: Asked<NewAccount>,
) -> Result<(StatusCode, Json<AccountView>), Fault> {
    decide(&asked.actor, Action::RunMarket, Object::MARKET)?;
    let once = asked.key()?;
    let (id, name) = (sublet_wire::new_id(), asked.body.name.clone());
    let command = Command::CreateAccount { actor: asked.actor.clone(), id, name };
    let Outcome::Account(id) = app.ask(command, Some(once)).await? else { return Err(surprise()) };
    Ok((StatusCode::CREATED, view(&app, id)?))
}

/// Lists accounts, oldest first: all of them for the operator, one's own for others.
#[utoipa::path(
    get, path = "/v1/accounts", tag = "accounts", params(PageQuery),
    responses((status = 200, body = Page<AccountView>))
)]
async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<AccountView>>, Fault> {
    decide(&caller.actor, Action::SeeAccount, Object::of(caller.actor.account))?;
    app.read(|state| {
        let seen = |id| decide(&caller.actor, Action::SeeAccount, Object::of(id)).is_ok();
        let all = state.accounts().filter(|row| seen(row.id));
        page(all, |row| row.id.to_string(), views::account::account, &query).map(Json)
    })
}

/// Bars an account from new leases and new listings, or restores it (operator).
#[utoipa::path(
    put, path = "/v1/accounts/{account}/suspension", tag = "accounts",
    params(("account" = String, Path, description = "Id or name")),
    request_body = Suspension, responses((status = 200, body = AccountView))
)]
async fn suspend(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<Suspension>,
) -> Result<Json<AccountView>, Fault> {
    let id = app.read(|state| find::account(state, &asked.actor, Action::RunMarket, &named).map(|row| row.id))?;
    let suspended = asked.body.suspended;
    app.ask(Command::SuspendAccount { actor: asked.actor.clone(), id, suspended }, asked.once.clone()).await?;
    view(&app, id)
}
