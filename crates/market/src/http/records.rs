//! What is kept for the record: the audit log, and the signed receipts of a lease. They are read
//! from the database, which blocks; so they are read where that is allowed.

use crate::db::{DbError, Reader};
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Caller, Named, Where};
use crate::http::page::{PageQuery, page, seal};
use crate::http::problem::Fault;
use crate::http::{App, find};
use axum::Json;
use axum::extract::State as Shared;
use std::sync::Arc;
use sublet_model::identity::Signed;
use sublet_model::metering::Receipt;
use sublet_wire::api::{AuditEntry, Page};
use sublet_wire::problem::Kind;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(audit)).routes(routes!(receipts))
}

/// Lists the audit log, newest first (operator).
#[utoipa::path(
    get, path = "/v1/audit", tag = "records", params(PageQuery),
    responses((status = 200, body = Page<AuditEntry>))
)]
async fn audit(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<AuditEntry>>, Fault> {
    decide(&caller.actor, Action::SeeAudit, Object::MARKET)?;
    let limit = query.limit()?;
    let before = match query.after()? {
        None => None,
        Some(seq) => Some(seq.parse::<i64>().map_err(|_| Fault::invalid("cursor: is not one of this list"))?),
    };
    // One more than is shown tells whether there is another page.
    let more = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let mut items = blocking(&app, move |records| records.audit(before, more)).await?;
    let is_last = items.len() <= limit;
    items.truncate(limit);
    let next = items.last().filter(|_| !is_last).map(|entry| seal(&entry.seq.to_string()));
    Ok(Json(Page { items, next }))
}

/// Lists the receipts of a lease as its host signed them, oldest first, for whoever pays or earns.
#[utoipa::path(
    get, path = "/v1/leases/{lease}/receipts", tag = "records",
    params(("lease" = String, Path, description = "Id, or name among one's own"), PageQuery),
    responses((status = 200, body = Page<Signed<Receipt>>))
)]
async fn receipts(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Named(named): Named,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<Signed<Receipt>>>, Fault> {
    let id = app.read(|state| find::lease(state, &caller.actor, Action::SeeReceipts, &named).map(|row| row.id))?;
    let stored = blocking(&app, move |records| records.receipts(id)).await?;
    let key = |receipt: &Signed<Receipt>| receipt.digest().to_string();
    page(stored.into_iter().map(|row| row.receipt), key, |receipt| receipt, &query).map(Json)
}

/// Reads from the database where waiting is allowed.
pub async fn blocking<R: Send + 'static>(
    app: &App,
    read: impl FnOnce(&Reader) -> Result<R, DbError> + Send + 'static,
) -> Result<R, Fault> {
    let records = app.records.clone();
    let done = tokio::task::spawn_blocking(move || read(&records)).await;
    let failed = |why: String| {
        tracing::error!(why, "failed to read the records");
        Fault::new(Kind::Unavailable, "the records can't be read now").advise("try again in a moment")
    };
    done.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(format!("{e}: {:?}", std::error::Error::source(&e))))
}
