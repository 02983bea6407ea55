//! Statements: what an account pays or earns, with the arithmetic.

use crate::http::App;
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Caller, Where};
use crate::http::problem::Fault;
use crate::http::views::statement::{self, Side};
use axum::Json;
use axum::extract::State as Shared;
use serde::Deserialize;
use std::sync::Arc;
use sublet_wire::api::Statement;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(show))
}

/// From which side.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatementQuery {
    /// `client` (what the account pays) or `lender` (what it earns); `client` if absent.
    #[param(inline)]
    side: Option<Side>,
}

/// The account's statement, newest lease first; running leases with what they come to so far.
#[utoipa::path(
    get, path = "/v1/statements", tag = "statements", params(StatementQuery),
    responses((status = 200, body = Statement))
)]
async fn show(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<StatementQuery>,
) -> Result<Json<Statement>, Fault> {
    let side = query.side.unwrap_or(Side::Client);
    let action = match side {
        Side::Client => Action::SeeSpending,
        Side::Lender => Action::SeeEarnings,
    };
    let account = caller.actor.account;
    decide(&caller.actor, action, Object::of(account))?;
    let now = app.now();
    Ok(Json(app.read(|state| statement::statement(state, account, side, &app.currency, now))))
}
