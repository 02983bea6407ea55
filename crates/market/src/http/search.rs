//! What is offered, and what fits.

use crate::engine::command::Actor;
use crate::engine::listing;
use crate::engine::state::State;
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::{Asked, Caller, Where};
use crate::http::page::{PageQuery, page};
use crate::http::problem::Fault;
use crate::http::{App, views};
use axum::Json;
use axum::extract::State as Shared;
use std::sync::Arc;
use sublet_model::book::{Change, Search, Unfit};
use sublet_model::offer::Audience;
use sublet_model::requirements::Resolved;
use sublet_model::units::Timestamp;
use sublet_wire::api::{
    NearestAnswer, NearestChange, NearestRequest, OfferView, Page, SearchAnswer, SearchRequest, UnfitCount,
};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

mod shown;

use shown::Written;

/// Matches shown if nobody says how many.
const USUAL: u32 = 20;
/// The most matches shown.
const MOST: u32 = 200;
/// Who looks for what is near waits for the one before.
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(offers)).routes(routes!(search)).routes(routes!(nearest))
}

/// Lists the newest version of every offer that is open to the asking account.
#[utoipa::path(
    get, path = "/v1/offers", tag = "search", params(PageQuery),
    responses((status = 200, body = Page<OfferView>))
)]
async fn offers(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
    Where(query): Where<PageQuery>,
) -> Result<Json<Page<OfferView>>, Fault> {
    let actor = &caller.actor;
    decide(actor, Action::Browse, Object::MARKET)?;
    app.read(|state| {
        let all = state.offers().filter(|row| {
            let own = row.offer.account == actor.account || decide(actor, Action::RunMarket, Object::MARKET).is_ok();
            own || match &row.offer.conditions.audience {
                Audience::Everyone => true,
                Audience::Own => false,
                Audience::Accounts(accounts) => accounts.contains(&actor.account),
            }
        });
        page(all, |row| row.offer.id.to_string(), |row| views::image::offer(state, row), &query).map(Json)
    })
}

/// Finds the partitions that fit, best first; if none does, says why. Takes nothing.
#[utoipa::path(
    post, path = "/v1/search", tag = "search",
    request_body = SearchRequest, responses((status = 200, body = SearchAnswer))
)]
async fn search(Shared(app): Shared<Arc<App>>, asked: Asked<SearchRequest>) -> Result<Written, Fault> {
    decide(&asked.actor, Action::Browse, Object::MARKET)?;
    let limit = asked.body.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Fault::invalid(format!("limit: {limit} is not from 1 to {MOST}")));
    }
    let now = app.now();
    app.read(|state| answer(state, &asked.actor, &asked.body, limit as usize, now))
}

fn answer(
    state: &State,
    actor: &Actor,
    request: &SearchRequest,
    limit: usize,
    now: Timestamp,
) -> Result<Written, Fault> {
    let (needs, assumed) = request.requirements.resolve().map_err(|e| Fault::invalid(format!("requirements.{e}")))?;
    let (_, manifests) = listing::images(state);
    let search = Search { needs: &needs, client: actor.account, images: &manifests, now };
    let found = listing::find(state, &search, limit);
    let references = shown::references(&found.matches, &search);
    let matches: Vec<_> = found.matches.iter().filter_map(|hit| shown::hit(state, hit, &references, &search)).collect();
    let count = |(reason, partitions)| UnfitCount::new(reason, &needs.asked, partitions);
    let unfit = if matches.is_empty() { listing::unfit(state, &search) } else { Vec::new() };
    let asked = needs.asked.to_string();
    let plan = request.plan.then_some(found.looked);
    shown::Answer { matches, asked, assumed, unfit: unfit.into_iter().map(count).collect(), plan }.written()
}

/// Says what is near where nothing fits: which clause alone leaves out how many partitions, and the
/// smallest single changes with which something fits.
#[utoipa::path(
    post, path = "/v1/search/nearest", tag = "search",
    request_body = NearestRequest, responses((status = 200, body = NearestAnswer))
)]
async fn nearest(Shared(app): Shared<Arc<App>>, asked: Asked<NearestRequest>) -> Result<Json<NearestAnswer>, Fault> {
    decide(&asked.actor, Action::Browse, Object::MARKET)?;
    let requirements = &asked.body.requirements;
    let (needs, _) = requirements.resolve().map_err(|e| Fault::invalid(format!("requirements.{e}")))?;
    // It looks at much of the book: one at a time, so that searches and grants go on beside it.
    let _turn = ONE_AT_A_TIME.acquire().await;
    let now = app.now();
    Ok(Json(app.read(|state| near(state, &asked.actor, &needs, now))))
}

fn near(state: &State, actor: &Actor, needs: &Resolved, now: Timestamp) -> NearestAnswer {
    let (_, manifests) = listing::images(state);
    let search = Search { needs, client: actor.account, images: &manifests, now };
    let nearest = listing::nearest(state, &search);
    let count = |(reason, partitions): &(Unfit, usize)| UnfitCount::new(*reason, &needs.asked, *partitions);
    let mut alone: Vec<UnfitCount> = nearest.alone.iter().map(count).collect();
    alone.sort_by_key(|count| std::cmp::Reverse(count.partitions));
    let change = |change: Change| NearestChange {
        from: change.from,
        to: change.to,
        requirements: change.requirements.to_string(),
    };
    let ends = nearest.busy.iter().filter_map(|partition| state.holder(*partition)?.ends_at());
    NearestAnswer {
        asked: needs.asked.to_string(),
        lent: nearest.lent,
        fitting: nearest.fitting,
        alone,
        free_at: ends.min(),
        changes: nearest.changes.into_iter().map(change).collect(),
    }
}
