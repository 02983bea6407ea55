//! The depot over HTTP: read only, nothing but manifests, the public key and whole blobs.

use crate::verified::{Look, Verified};
use crate::{Depot, DepotError};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum_server::accept::NoDelayAcceptor;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use sublet_model::identity::Sha256Digest;
use sublet_wire::connections::{self, Capped};
use sublet_wire::problem::{Kind, Problem};
use tokio_util::sync::CancellationToken;
use tower_http::services::ServeFile;

/// Where a depot listens unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7402";

struct Shared {
    depot: Depot,
    verified: Verified,
}

/// A depot that listens.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// Serves a depot until cancelled.
pub async fn serve(
    dir: impl Into<PathBuf>,
    address: SocketAddr,
    cancellation: CancellationToken,
) -> Result<(), DepotError> {
    Server::bind(Depot::open(dir)?, address)?.run(cancellation).await
}

impl Server {
    /// Listens; port 0 takes a free one.
    pub fn bind(depot: Depot, address: SocketAddr) -> Result<Self, DepotError> {
        let listener = TcpListener::bind(address).map_err(|source| DepotError::Listen { address, source })?;
        Ok(Self { listener, shared: Arc::new(Shared { depot, verified: Verified::default() }) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until cancelled; downloads under way are finished.
    pub async fn run(self, cancellation: CancellationToken) -> Result<(), DepotError> {
        let dir = self.shared.depot.dir().to_owned();
        let failed = |error| DepotError::io("serve", &dir)(error);
        read_ahead(self.shared.clone(), cancellation.clone());
        let routes = Router::new()
            .route("/v1/images", get(images))
            .route("/v1/key", get(key))
            .route("/v1/blobs/sha256/{digest}", get(blob))
            .route("/v1/health", get(health))
            .fallback(|| async { not_found("there is nothing at this address of a depot") })
            .with_state(self.shared.clone());
        let closing = axum_server::Handle::new();
        let server = axum_server::from_tcp(self.listener).map_err(failed)?.handle(closing.clone());
        let server = connections::bounded(server).acceptor(Capped::new(NoDelayAcceptor::new(), connections::room()));
        tokio::spawn(async move {
            cancellation.cancelled().await;
            closing.graceful_shutdown(None);
        });
        server.serve(routes.into_make_service()).await.map_err(failed)
    }
}

/// Reads every blob of every manifest once in the background, so that the first host need not
/// wait for it.
fn read_ahead(shared: Arc<Shared>, cancellation: CancellationToken) {
    tokio::task::spawn_blocking(move || {
        for manifest in shared.depot.list().unwrap_or_default().iter().filter_map(|signed| signed.read().ok()) {
            for (role, blob) in manifest.boot.blobs() {
                if cancellation.is_cancelled() {
                    return;
                }
                if shared.verified.look(&shared.depot, blob.sha256) == Look::Absent {
                    tracing::error!(image = manifest.reference(), role, digest = %blob.sha256, "a blob is missing");
                }
            }
        }
    });
}

async fn health() -> Response {
    Json(serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn key(State(shared): State<Arc<Shared>>) -> Response {
    Json(serde_json::json!({ "key": shared.depot.public_key() })).into_response()
}

async fn images(State(shared): State<Arc<Shared>>) -> Response {
    match tokio::task::spawn_blocking(move || shared.depot.list()).await {
        Ok(Ok(list)) => Json(list).into_response(),
        outcome => {
            tracing::error!(?outcome, "failed to list the manifests");
            problem(StatusCode::INTERNAL_SERVER_ERROR, Kind::Internal, "the depot's manifests can't be read", None)
        }
    }
}

async fn blob(
    State(shared): State<Arc<Shared>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    // Nothing but 64 hexadecimal digits gets any further, and so no path out of the folder.
    let Ok(digest) = digest.parse::<Sha256Digest>() else {
        let shown: String = digest.chars().take(80).collect();
        return not_found(&format!("{shown:?} is not a SHA-256 digest in lower-case hexadecimal"));
    };
    let path = shared.depot.blob_path(digest);
    let look = tokio::task::spawn_blocking(move || shared.verified.look(&shared.depot, digest)).await;
    match look {
        Ok(Look::Whole) => send(&path, digest, &headers, request).await,
        Ok(Look::Absent) => not_found(&format!("this depot has no blob {digest}")),
        Ok(Look::Damaged(why)) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Internal,
            &format!("the blob {digest} {why}"),
            Some("ask the operator of the depot to run `sublet depot verify`"),
        ),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, Kind::Internal, "the blob can't be read", None),
    }
}

async fn send(path: &std::path::Path, digest: Sha256Digest, headers: &HeaderMap, request: Request) -> Response {
    let tag = format!("\"{digest}\"");
    let matches = |known: &HeaderValue| {
        known.to_str().is_ok_and(|list| list.split(',').any(|t| t.trim() == "*" || t.trim() == tag))
    };
    let mut response = if headers.get_all(header::IF_NONE_MATCH).iter().any(matches) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match ServeFile::new(path).try_call(request).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                tracing::error!(%error, %digest, "failed to open a blob");
                problem(StatusCode::INTERNAL_SERVER_ERROR, Kind::Internal, "the blob can't be opened", None)
            }
        }
    };
    if response.status().is_server_error() {
        return response;
    }
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

fn not_found(detail: &str) -> Response {
    let advice = "GET /v1/images lists what this depot has";
    problem(StatusCode::NOT_FOUND, Kind::NotFound, detail, Some(advice))
}

fn problem(status: StatusCode, kind: Kind, detail: &str, advice: Option<&str>) -> Response {
    let problem = Problem {
        kind: kind.urn(),
        status: status.as_u16(),
        title: kind.word().replace('_', " "),
        detail: detail.into(),
        advice: advice.map(Into::into),
        request_id: None,
        unfit: Vec::new(),
    };
    let mut response = (status, Json(problem)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
