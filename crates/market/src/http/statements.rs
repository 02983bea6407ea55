//! Statements: what an account pays or earns, with the arithmetic.

use crate::db::Reader;
use crate::http::App;
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Caller, Where};
use crate::http::problem::Fault;
use crate::http::records::blocking;
use crate::http::views::export::{self, Ask, Export};
use crate::http::views::statement::{self, Side};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use std::sync::Arc;
use sublet_model::identity::SecretKey;
use sublet_model::statement::{self as model, StatementError, Writer};
use sublet_model::units::Timestamp;
use sublet_wire::api::Statement;
use sublet_wire::problem::Kind;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(export))
}

/// The most leases of one document.
const MOST_LEASES: usize = 10_000;

/// From which side.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatementQuery {
    /// `client` (what the account pays), `lender` (what it earns) or `operator` (what the market keeps,
    /// of all leases); `client` if absent.
    #[param(inline)]
    side: Option<Side>,
    /// Only leases settled from here on, in microseconds since 1970.
    from: Option<i64>,
    /// Only leases settled before here.
    until: Option<i64>,
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
    let account = caller.actor.account;
    let (action, object) = match side {
        Side::Client => (Action::SeeSpending, Object::of(account)),
        Side::Lender => (Action::SeeEarnings, Object::of(account)),
        Side::Operator => (Action::RunMarket, Object::MARKET),
    };
    decide(&caller.actor, action, object)?;
    let now = app.now();
    let between = match (query.from, query.until) {
        (None, None) => None,
        (from, until) => Some((Timestamp(from.unwrap_or(0)), Timestamp(until.unwrap_or(i64::MAX)))),
    };
    let shown = app.read(|state| statement::statement(state, account, side, &app.currency, now, between, MOST_LEASES));
    shown.map(Json).ok_or_else(too_many)
}

fn too_many() -> Fault {
    Fault::invalid(format!("more than {MOST_LEASES} leases are meant")).advise("ask for a shorter time: from, until")
}

/// What a document is about.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExportQuery {
    /// `client` (what the account pays), `lender` (what it earns) or `operator` (what the market
    /// keeps); `client` if absent.
    #[param(inline)]
    side: Option<ExportSide>,
    /// Leases settled from here on, in microseconds since 1970; from the first if absent.
    from: Option<i64>,
    /// Leases settled before here; up to now if absent.
    until: Option<i64>,
}

#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum ExportSide {
    Client,
    Lender,
    Operator,
}

/// The account's settled leases as a signed document that `sublet verify` recomputes offline: terms,
/// receipts, what the market saw, and the arithmetic.
#[utoipa::path(
    get, path = "/v1/statements/export", tag = "statements", params(ExportQuery),
    responses((status = 200, body = String, content_type = "application/json"))
)]
async fn export(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<ExportQuery>,
) -> Result<impl IntoResponse, Fault> {
    let account = caller.actor.account;
    let (side, action, object) = match query.side.unwrap_or(ExportSide::Client) {
        ExportSide::Client => (model::Side::Client, Action::SeeSpending, Object::of(account)),
        ExportSide::Lender => (model::Side::Lender, Action::SeeEarnings, Object::of(account)),
        ExportSide::Operator => (model::Side::Operator, Action::RunMarket, Object::MARKET),
    };
    decide(&caller.actor, action, object)?;
    let now = app.now();
    // What is settled in this very moment is in the next one.
    let (from, until) = (Timestamp(query.from.unwrap_or(0)), Timestamp(query.until.unwrap_or(now.0)).min(now));
    if !(Timestamp(0) <= from && from <= until) {
        return Err(Fault::invalid("from: is before 1970, after until, or in the future"));
    }
    let currency = app.currency.clone();
    let ask = Ask { account, side, from, until, now, keys: app.keys.chain.clone(), currency };
    let found = app.read(|state| export::export(state, ask, MOST_LEASES));
    let found = found.ok_or_else(too_many)?;
    let key = app.keys.signing.clone();
    let text = blocking(&app, move |records| Ok(document(records, found, &key))).await??;
    Ok(([(header::CONTENT_TYPE, "application/json")], text))
}

/// Blocks: the receipts are in the database only.
fn document(records: &Reader, found: Export, key: &SecretKey) -> Result<String, Fault> {
    let unwritten = |error: StatementError| match error {
        StatementError::TooMuch => Fault::invalid(error.to_string()),
        _ => {
            tracing::error!(%error, source = ?std::error::Error::source(&error), "failed to write a statement");
            Fault::new(Kind::Internal, "the statement can't be written").advise("tell the operator of the market")
        }
    };
    let mut writer = Writer::new(found.head).map_err(unwritten)?;
    for told in found.leases {
        let (lease, charge) = (Arc::clone(&told.lease), told.charge.clone());
        let receipts = records.receipts(lease.id).map_err(|error| {
            tracing::error!(%error, lease = %lease.id, "failed to read the receipts of a lease");
            Fault::new(Kind::Unavailable, "the records can't be read now").advise("try again in a moment")
        })?;
        let receipts = receipts.into_iter().map(|row| (row.received_at, row.receipt)).collect();
        let written = writer.lease(export::life(told, receipts)).map_err(unwritten)?;
        if written.total != charge.charge.total {
            // The bill was another one: by another rule, or by somebody's hand.
            tracing::error!(lease = %lease.id, billed = %charge.charge.total, follows = %written.total, "a charge does not follow");
            let problem =
                format!("lease {} was billed {}, and {} follows", lease.id, charge.charge.total, written.total);
            return Err(Fault::new(Kind::Internal, problem).advise("tell the operator of the market"));
        }
    }
    writer.finish(key).map_err(unwritten)
}
