//! The catalogue of images.

use crate::engine::command::{Command, Outcome};
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Asked, Caller, Named, Where};
use crate::http::page::{PageQuery, page};
use crate::http::problem::Fault;
use crate::http::{App, surprise, views};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use std::sync::Arc;
use sublet_wire::api::{ImageView, NewImage, Page, Suspension};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(register, list)).routes(routes!(suspend))
}

fn view(app: &App, reference: &str) -> Result<Json<ImageView>, Fault> {
    let found = app.read(|state| state.image(reference).map(views::image::image));
    found.map(Json).ok_or_else(|| Fault::not_found("image", reference))
}

/// Puts an image into the catalogue (operator). Its signature and manifest are checked.
#[utoipa::path(
    post, path = "/v1/images", tag = "images",
    request_body = NewImage, responses((status = 201, body = ImageView))
)]
async fn register(
    Shared(app): Shared<Arc<App>>,
    asked: Asked<NewImage>,
) -> Result<(StatusCode, Json<ImageView>), Fault> {
    decide(&asked.actor, Action::RunMarket, Object::MARKET)?;
    let once = asked.key()?;
    let NewImage { manifest, depot } = asked.body.clone();
    let read = manifest.verify(&manifest.key).map_err(|e| Fault::invalid(format!("manifest: {e}")))?;
    read.check().map_err(|e| Fault::invalid(format!("manifest: {e}")))?;
    check_depot(&depot)?;
    let command = Command::RegisterImage { actor: asked.actor.clone(), manifest, depot };
    let Outcome::Image(reference) = app.ask(command, Some(once)).await? else { return Err(surprise()) };
    Ok((StatusCode::CREATED, view(&app, &reference)?))
}

/// A depot's base address is plain http or https, without a path that climbs, or anything secret.
fn check_depot(depot: &str) -> Result<(), Fault> {
    let rest = depot.strip_prefix("https://").or_else(|| depot.strip_prefix("http://"));
    let good = rest.is_some_and(|rest| {
        !rest.is_empty()
            && depot.len() <= 500
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:/[]_~".contains(&b))
            && !rest.starts_with(['/', ':'])
            && !rest.contains("..")
    });
    if good {
        return Ok(());
    }
    Err(Fault::invalid("depot: must be an address such as http://127.0.0.1:7402 or https://depot.example"))
}

/// Lists the catalogue, by reference.
#[utoipa::path(
    get, path = "/v1/images", tag = "images", params(PageQuery),
    responses((status = 200, body = Page<ImageView>))
)]
async fn list(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<ImageView>>, Fault> {
    decide(&caller.actor, Action::Browse, Object::MARKET)?;
    app.read(|state| page(state.images(), |row| row.manifest.reference(), views::image::image, &query).map(Json))
}

/// Bars an image from new leases, or restores it (operator).
#[utoipa::path(
    put, path = "/v1/images/{reference}/suspension", tag = "images",
    params(("reference" = String, Path, description = "Such as debian-12@12.11-1")),
    request_body = Suspension, responses((status = 200, body = ImageView))
)]
async fn suspend(
    Shared(app): Shared<Arc<App>>,
    Named(reference): Named,
    asked: Asked<Suspension>,
) -> Result<Json<ImageView>, Fault> {
    decide(&asked.actor, Action::RunMarket, Object::MARKET)?;
    let _ = view(&app, &reference)?;
    let suspended = asked.body.suspended;
    let command = Command::SuspendImage { actor: asked.actor.clone(), reference: reference.clone(), suspended };
    app.ask(command, asked.once.clone()).await?;
    view(&app, &reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depots_have_plain_addresses() {
        for good in ["http://127.0.0.1:7402", "https://depot.example/images", "http://[::1]:7402"] {
            assert!(check_depot(good).is_ok(), "{good}");
        }
        for bad in ["", "http://", "file:///etc", "http://a b", "http://u:p@h/", "http://h/../x", "http://h/?a", "h:1"]
        {
            assert!(check_depot(bad).is_err(), "{bad}");
        }
    }
}
