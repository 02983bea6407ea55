//! Whether the market works, who asks, and what the API looks like.

use crate::http::App;
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::Caller;
use crate::http::problem::Fault;
use axum::Json;
use axum::extract::State as Shared;
use std::sync::Arc;
use sublet_wire::api::{Health, WhoAmI};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(description)).routes(routes!(whoami))
}

/// Says that the market works.
#[utoipa::path(get, path = "/healthz", tag = "market", security(()), responses((status = 200, body = Health)))]
async fn health() -> Json<Health> {
    Json(Health { status: "ok".into(), version: VERSION.into() })
}

/// Describes this API, in OpenAPI 3.1.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "market", security(()),
    responses((status = 200, description = "The description", body = Object, content_type = "application/json"))
)]
async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(crate::http::description())
}

/// Says who asks, and whom.
#[utoipa::path(get, path = "/v1/whoami", tag = "market", responses((status = 200, body = WhoAmI)))]
async fn whoami(Shared(app): Shared<Arc<App>>, caller: Caller) -> Result<Json<WhoAmI>, Fault> {
    let actor = &caller.actor;
    decide(actor, Action::SeeAccount, Object::of(actor.account))?;
    app.read(|state| {
        let named = |found: Option<&String>| found.cloned().unwrap_or_default();
        Ok(Json(WhoAmI {
            account: actor.account,
            account_name: named(state.account(actor.account).map(|a| &a.name)),
            member: actor.member,
            member_name: named(state.member(actor.member).map(|m| &m.name)),
            roles: actor.roles.clone(),
            currency: app.currency.clone(),
            market_key: app.keys.signing.public(),
            keys: app.keys.chain.records().to_vec(),
            version: VERSION.into(),
        }))
    })
}
