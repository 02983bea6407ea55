//! Renting: at once, as soon as something fits, or only to see what would be.

use super::leases::{certified, view};
use crate::certificate::check_key;
use crate::engine::command::{Actor, Command, Foreseen, Idempotency, Outcome, Preview, Rent, Reply, Stands};
use crate::engine::standing::HOLD;
use crate::engine::state::State;
use crate::engine::thread::Handle;
use crate::http::authorize::{Action, Object, decide};
use crate::http::extract::Asked;
use crate::http::problem::Fault;
use crate::http::{App, surprise};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sublet_model::ids::{LeaseId, PartitionId};
use sublet_model::requirements::Assumed;
use sublet_model::units::{Micros, MicrosPerHour, Seconds};
use sublet_wire::api::{AlteredView, Granted, GrantedLease, RentRequest, Standing, WouldGrant, WouldLease};

/// How long a one-shot lease goes on after its client vanished, if nobody says so.
const USUAL_AFTERLIFE: Seconds = Seconds(120);

/// Rents the best partitions that fit (client): the lease, how to get in, and a certificate for the
/// key that was sent. With `wait_seconds` the call is held while nothing fits, and answered with 202
/// after a while: repeat it then with the same idempotency key. With `dry_run` nothing is taken.
#[utoipa::path(
    post, path = "/v1/leases", tag = "leases",
    request_body = RentRequest,
    responses(
        (status = 201, body = Granted),
        (status = 202, body = Standing, description = "Nothing fits yet: the request stands"),
        (status = 200, body = WouldGrant, description = "What a dry run found"),
    )
)]
pub(super) async fn rent(Shared(app): Shared<Arc<App>>, asked: Asked<RentRequest>) -> Result<Response, Fault> {
    decide(&asked.actor, Action::Rent, Object::of(asked.actor.account))?;
    let rent = Box::new(wanted(&asked)?);
    if asked.body.dry_run {
        return preview(&app, rent).await;
    }
    let once = asked.key()?;
    let give_up = Instant::now() + Duration::from_secs(HOLD.0.unsigned_abs());
    loop {
        let stands = match app.handle.call(Command::Rent(rent.clone()), Some(once.clone())).await? {
            Reply::Outcome(Outcome::Granted { lease, others, assumed }) => {
                return granted(&app, &asked.actor, lease, &others, assumed);
            }
            Reply::Stands(stands) => stands,
            _ => return Err(surprise()),
        };
        if hold(&app, &stands, &once, give_up).await == Held::Long {
            let (standing_since, standing_until) = (stands.since, stands.until);
            let standing = Standing { standing_since, standing_until, ahead: stands.ahead };
            return Ok((StatusCode::ACCEPTED, Json(standing)).into_response());
        }
    }
}

fn wanted(asked: &Asked<RentRequest>) -> Result<Rent, Fault> {
    let body = asked.body.clone();
    let key = check_key(&body.ssh_public_key)?;
    if body.wait_seconds.is_some_and(|wait| !(Seconds::ZERO..=crate::engine::standing::LONGEST).contains(&wait)) {
        return Err(Fault::invalid("wait_seconds: a request stands for a day at most"));
    }
    let count = body.requirements.count.unwrap_or(1).min(sublet_model::requirements::Requirements::MOST_PARTITIONS);
    Ok(Rent {
        actor: asked.actor.clone(),
        ids: (0..count).map(|_| sublet_wire::new_id()).collect(),
        name: body.name,
        requirements: body.requirements,
        ssh_public_key: key.to_openssh().map_err(|_| Fault::invalid("ssh_public_key: can't be written again"))?,
        one_shot: body.one_shot,
        release_after_disconnect: body.release_after_disconnect.unwrap_or(USUAL_AFTERLIFE),
        wait: body.wait_seconds,
        outage_allowance: body.outage_allowance_seconds.unwrap_or(Seconds::ZERO),
    })
}

/// How the waiting for a request that stands ended.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    /// It is granted, or its time is over: ask again.
    Ask,
    /// Long enough for one call.
    Long,
}

/// Tells the engine that nobody waits any more, unless it is told otherwise.
struct Waiting<'a> {
    handle: &'a Handle,
    away: Option<Command>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(away) = self.away.take() {
            self.handle.tell(away);
        }
    }
}

async fn hold(app: &App, stands: &Stands, once: &Idempotency, give_up: Instant) -> Held {
    let away = Command::Away { once: once.clone(), turn: stands.turn };
    // The client may break off, and this with it.
    let mut waiting = Waiting { handle: &app.handle, away: Some(away) };
    let left = Duration::from_secs(stands.until.since(app.now()).0.max(0).unsigned_abs() + 1);
    let over = (Instant::now() + left).min(give_up);
    let held = tokio::select! {
        () = app.handle.lease_granted(stands.lease) => Held::Ask,
        () = tokio::time::sleep_until(over.into()) => if over < give_up { Held::Ask } else { Held::Long },
        () = app.stopping.cancelled() => Held::Long,
    };
    waiting.away = None;
    held
}

fn granted(
    app: &App,
    actor: &Actor,
    first: LeaseId,
    others: &[LeaseId],
    assumed: Vec<Assumed>,
) -> Result<Response, Fault> {
    // Signed anew when the request is repeated: credentials are stored nowhere.
    let one = |id: LeaseId| -> Result<GrantedLease, Fault> {
        let access = certified(app, actor, id, None)?;
        let Json(lease) = view(app, id)?;
        Ok(GrantedLease { lease, access })
    };
    let GrantedLease { lease, access } = one(first)?;
    let others = others.iter().map(|id| one(*id)).collect::<Result<_, _>>()?;
    Ok((StatusCode::CREATED, Json(Granted { lease, access, others, assumed })).into_response())
}

async fn preview(app: &App, rent: Box<Rent>) -> Result<Response, Fault> {
    let Reply::Preview(preview) = app.handle.call(Command::Preview(rent), None).await? else { return Err(surprise()) };
    let Preview { grants, assumed } = *preview;
    let would: Vec<WouldLease> = app.read(|state| grants.into_iter().map(|one| foreseen(state, one)).collect());
    let hourly: MicrosPerHour = would.iter().map(|one| one.hourly).sum();
    let total: Micros = would.iter().map(|one| one.total).sum();
    Ok((StatusCode::OK, Json(WouldGrant { would, hourly, total, assumed })).into_response())
}

fn foreseen(state: &State, foreseen: Foreseen) -> WouldLease {
    let Foreseen { name, terms, term, altered } = foreseen;
    let partition_name = |id: PartitionId| state.partition(id).map(|p| p.name.clone()).unwrap_or_default();
    let altered = altered.into_iter().map(|one| AlteredView {
        partition: one.partition,
        partition_name: partition_name(one.partition),
        from: one.from,
        to: one.to,
    });
    WouldLease {
        name,
        partition: terms.partition,
        partition_name: partition_name(terms.partition),
        host: state.host(terms.host).map(|host| host.name.clone()).unwrap_or_default(),
        image: state.image_by_digest(&terms.image).map(|i| i.manifest.reference()).unwrap_or_default(),
        resources: terms.resources,
        vcpus: terms.vcpus,
        hourly: terms.prices.hourly(terms.resources),
        total: terms.prices.total(terms.resources, term),
        term,
        altered: altered.collect(),
    }
}
