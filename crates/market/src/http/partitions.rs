//! Partitions, and changing what an idle one has.

use crate::engine::command::Command;
use crate::http::authorize::Action;
use crate::http::extract::{Asked, Caller, Named};
use crate::http::problem::Fault;
use crate::http::{App, find, surprise, views};
use axum::Json;
use axum::extract::State as Shared;
use std::sync::Arc;
use sublet_wire::api::{Alter, PartitionView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(alter))
}

/// Shows a partition to its owner, to the client that holds it, and to the operator.
#[utoipa::path(
    get, path = "/v1/partitions/{partition}", tag = "partitions",
    params(("partition" = String, Path, description = "Id")), responses((status = 200, body = PartitionView))
)]
async fn show(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Named(named): Named,
) -> Result<Json<PartitionView>, Fault> {
    app.read(|state| {
        let row = find::partition(state, &caller.actor, Action::SeePartition, &named)?;
        Ok(Json(views::host::partition(state, row)))
    })
}

/// Gives an idle partition another allocation (its owner, the operator). Refused while a lease
/// holds it: then the allocation is frozen.
#[utoipa::path(
    put, path = "/v1/partitions/{partition}/allocation", tag = "partitions",
    params(("partition" = String, Path, description = "Id")),
    request_body = Alter, responses((status = 200, body = PartitionView))
)]
async fn alter(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    asked: Asked<Alter>,
) -> Result<Json<PartitionView>, Fault> {
    let found = |state: &_| find::partition(state, &asked.actor, Action::ManageHost, &named).map(|row| row.id);
    let partition = app.read(found)?;
    let command = Command::Alter { actor: asked.actor.clone(), partition, resources: asked.body.resources };
    app.ask(command, asked.once.clone()).await?;
    let view = app.read(|state| state.partition(partition).map(|row| views::host::partition(state, row)));
    view.map(Json).ok_or_else(surprise)
}
