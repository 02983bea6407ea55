//! The market's HTTP API: extract, call, view. No SQL and no rules here.

use crate::engine::command::{Command, Idempotency, Outcome, Refusal, Reply};
use crate::engine::state::State;
use crate::engine::thread::Handle;
use crate::keys::Keys;
use crate::relay::Tokens;
use axum::Router;
use std::sync::Arc;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::{HostId, LeaseId, MemberId};
use sublet_model::units::Timestamp;
use sublet_wire::path::{RelayOffer, RelayPass};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

pub mod accounts;
pub mod authorize;
pub mod disputes;
pub mod events;
pub mod extract;
pub mod find;
pub mod gate;
pub mod health;
pub mod hosts;
pub mod images;
pub mod json;
pub mod leases;
pub mod members;
pub mod money;
pub mod openapi;
pub mod outer;
pub mod page;
pub mod partitions;
pub mod problem;
pub mod records;
pub mod renting;
pub mod search;
pub mod secret;
pub mod sessions;
pub mod statements;
pub mod story;
pub mod sync;
pub mod views;

use gate::Gate;
use problem::Fault;
use sessions::Sessions;

/// How much one member may have going on at once, long waits included.
const MOST_FOR_A_MEMBER: u32 = 256;
/// The same for a host: one sync, and one that supersedes it, with room for what lies in between.
const MOST_FOR_A_HOST: u32 = 4;

/// All that handlers share.
pub struct App {
    /// Reaches the engine.
    pub handle: Handle,
    /// Reads what is not in memory.
    pub records: crate::db::Reader,
    /// What the market signs with.
    pub keys: Keys,
    /// Name of the currency.
    pub currency: String,
    /// Of the TLS certificate; none on loopback without TLS.
    pub fingerprint: Option<Sha256Digest>,
    /// The relay, if there is one, and what lets clients use it.
    pub relay: Option<(RelayOffer, Tokens)>,
    /// Open sessions of hosts.
    pub sessions: Sessions,
    /// How much each member has going on.
    pub members: Gate<MemberId>,
    /// How much each host has going on.
    pub hosts: Gate<HostId>,
    /// Cancelled when the market stops: whoever waits is answered at once.
    pub stopping: CancellationToken,
}

impl App {
    /// What handlers of a market share.
    pub fn new(
        handle: Handle,
        records: crate::db::Reader,
        keys: Keys,
        currency: String,
        fingerprint: Option<Sha256Digest>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            handle,
            records,
            keys,
            currency,
            fingerprint,
            relay: None,
            sessions: Sessions::default(),
            members: Gate::new(MOST_FOR_A_MEMBER),
            hosts: Gate::new(MOST_FOR_A_HOST),
            stopping,
        }
    }

    /// The market's clock.
    pub fn now(&self) -> Timestamp {
        self.handle.now()
    }

    /// Reads what is committed.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.handle.read(look)
    }

    /// What a lease's client is told of the relay.
    fn relay_pass(&self, lease: LeaseId, expires_at: Timestamp) -> Option<RelayPass> {
        let (offer, tokens) = self.relay.as_ref()?;
        let token = tokens.make(lease, expires_at);
        Some(RelayPass { port: offer.port, fingerprint: offer.fingerprint, token })
    }

    /// Asks the engine for anything but a sync or renting.
    pub async fn ask(&self, command: Command, once: Option<Idempotency>) -> Result<Outcome, Fault> {
        match self.handle.call(command, once).await? {
            Reply::Outcome(outcome) => Ok(outcome),
            Reply::Sync(_) | Reply::Preview(_) | Reply::Stands(_) => Err(surprise()),
        }
    }
}

/// The engine answered something else than was asked: a fault of ours.
pub(crate) fn surprise() -> Fault {
    Fault::from(Refusal::new(sublet_wire::problem::Kind::Internal, "the engine gave an answer to another question"))
}

fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::head())
        .merge(health::routes())
        .merge(accounts::routes())
        .merge(members::routes())
        .merge(records::routes())
        .merge(images::routes())
        .merge(hosts::routes())
        .merge(sync::routes())
        .merge(partitions::routes())
        .merge(search::routes())
        .merge(leases::routes())
        .merge(statements::routes())
        .merge(money::routes())
        .merge(disputes::routes())
        .merge(story::routes())
        .merge(events::routes())
}

/// The description of the API, complete.
pub fn description() -> utoipa::openapi::OpenApi {
    openapi::finished(routes().into_openapi())
}

/// The whole API.
pub fn router(app: Arc<App>) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .layer(CatchPanicLayer::custom(outer::panicked))
        .layer(axum::middleware::from_fn(outer::outer))
        .with_state(app)
}
