//! The outermost layer: names every request, logs it without its secrets, and makes a problem of
//! every answer that is no success.

use crate::http::problem::Fault;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::time::{Duration, Instant};
use sublet_model::ids::RequestId;
use sublet_wire::problem::Kind;
use tracing::Instrument;

/// Every request is answered within this: more than the longest wait that may be asked for, and
/// than a body may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(55);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SAFE: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// Runs the rest of the market's layers and finishes whatever comes out.
pub async fn outer(request: Request, next: Next) -> Response {
    let id: RequestId = sublet_wire::new_id();
    let method = request.method().clone();
    // The pattern, not the path: ids do not belong into the name of a span.
    let path = request.extensions().get::<MatchedPath>().map_or("-".into(), |p| p.as_str().to_owned());
    let span = tracing::info_span!("request", %id, %method, path);
    async {
        let began = Instant::now();
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
        let response = finished(answer.unwrap_or_else(|_| too_slow()), id);
        log(&response, began.elapsed());
        response
    }
    .instrument(span)
    .await
}

fn too_slow() -> Response {
    let detail = format!("no answer was ready within {} s", REQUEST_TIMEOUT.as_secs());
    Fault::new(Kind::Unavailable, detail).advise("send the same request again").into_response()
}

fn log(response: &Response, took: Duration) {
    let (status, took_ms) = (response.status().as_u16(), took.as_millis());
    match response.extensions().get::<Fault>() {
        Some(fault) if response.status().is_server_error() => {
            tracing::error!(status, took_ms, detail = %fault.detail, "failed");
        }
        Some(fault) => tracing::info!(status, took_ms, detail = %fault.detail, "refused"),
        None => tracing::debug!(status, took_ms, "answered"),
    }
}

fn finished(response: Response, id: RequestId) -> Response {
    let passes = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    let mut response = if passes { response } else { explained(response, id) };
    let headers = response.headers_mut();
    headers.extend(SAFE);
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// The same answer as a problem, whoever made it.
fn explained(response: Response, id: RequestId) -> Response {
    let (mut parts, _) = response.into_parts();
    let fault = parts.extensions.remove::<Fault>().unwrap_or_else(|| Fault::of_status(parts.status));
    let problem = fault.problem(id);
    parts.status = fault.http_status();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    parts.extensions.insert(fault);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    Response::from_parts(parts, Body::from(body))
}

/// What a panic in a handler is answered with; its words go to the log only.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = words.unwrap_or("without words"), "a handler panicked");
    Fault::new(Kind::Internal, "the market failed at this request")
        .advise("tell the operator the request id")
        .into_response()
}
