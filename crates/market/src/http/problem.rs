//! The one error map: which status each kind of problem has, and how it is told.
//!
//! Handlers return a [`Fault`]; it travels as an extension of an empty response to the outermost
//! layer, which alone knows the request's id and writes the body. So an answer that is no success
//! is always a problem, whoever made it: a handler, the router, a limit or a panic.

use crate::certificate::CertificateError;
use crate::engine::command::Refusal;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sublet_model::ids::RequestId;
use sublet_wire::api::UnfitCount;
use sublet_wire::problem::{Kind, Problem};

/// Nobody gets more of what they sent back than this.
const LONGEST_ECHO: usize = 100;
/// The longest detail that leaves the market.
const LONGEST_DETAIL: usize = 1000;

/// Why a request is not answered with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of problem.
    pub kind: Kind,
    /// Where HTTP has a more precise status than the kind's own.
    pub status: Option<StatusCode>,
    /// What happened.
    pub detail: String,
    /// What to do next.
    pub advice: Option<String>,
    /// Why partitions did not fit.
    pub unfit: Vec<UnfitCount>,
}

/// The status of each kind.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated | Kind::SessionRefused => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict | Kind::NoMatch => StatusCode::CONFLICT,
        Kind::OutOfFunds => StatusCode::PAYMENT_REQUIRED,
        Kind::Locked => StatusCode::LOCKED,
        Kind::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "the request can't be used",
        Kind::Unauthenticated => "who asks is not known",
        Kind::Forbidden => "not allowed",
        Kind::NotFound => "no such thing",
        Kind::Conflict => "something stands in the way",
        Kind::Locked => "held by a lease",
        Kind::IdempotencyMismatch => "the idempotency key was used for another request",
        Kind::NoMatch => "nothing fits",
        Kind::OutOfFunds => "too little to spend",
        Kind::TooLarge => "too large",
        Kind::SessionRefused => "the host's session is refused",
        Kind::Busy => "too much at once",
        Kind::Unavailable => "not now",
        Kind::Internal => "a fault of the market",
    }
}

/// Seconds after which the same request may do better.
fn retry_after(kind: Kind) -> Option<&'static str> {
    matches!(kind, Kind::Busy | Kind::Unavailable).then_some("1")
}

impl Fault {
    /// A problem of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, status: None, detail: detail.into(), advice: None, unfit: Vec::new() }
    }

    /// The request can't be read, or breaks a rule of its own.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, detail)
    }

    /// No such thing, or not for this actor to see: told apart by nobody.
    pub fn not_found(what: &str, name: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what} {:?} that you may see", shortened(name)))
    }

    /// The same, with what to do next.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The same, under a more precise status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// What a response that nobody explained must have meant.
    pub fn of_status(status: StatusCode) -> Self {
        let (kind, detail, advice) = match status {
            StatusCode::NOT_FOUND => {
                (Kind::NotFound, "there is nothing at this path", Some("see /v1/openapi.json for what there is"))
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                (Kind::Invalid, "this path does not take this method", Some("see the `allow` header"))
            }
            StatusCode::PAYLOAD_TOO_LARGE => (Kind::TooLarge, "the body is larger than is accepted", None),
            StatusCode::REQUEST_TIMEOUT => (Kind::Invalid, "the request did not arrive in time", None),
            other if other.is_client_error() => (Kind::Invalid, "the request can't be used", None),
            _ => (Kind::Internal, "the market failed", Some("tell the operator the request id")),
        };
        let fault = Self::new(kind, detail).with_status(status);
        match advice {
            Some(advice) => fault.advise(advice),
            None => fault,
        }
    }

    /// The answer's body.
    pub fn problem(&self, request_id: RequestId) -> Problem {
        Problem {
            kind: self.kind.urn(),
            status: self.http_status().as_u16(),
            title: title(self.kind).into(),
            detail: self.detail.clone(),
            advice: self.advice.clone(),
            request_id: Some(request_id.to_string()),
            unfit: self.unfit.clone(),
        }
    }

    /// The answer's status.
    pub fn http_status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| status(self.kind))
    }
}

/// At most [`LONGEST_ECHO`] characters of what somebody sent, for a message that goes back.
pub fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST_ECHO {
        return text.into();
    }
    text.chars().take(LONGEST_ECHO - 1).chain(['…']).collect()
}

/// The same text without anything that a terminal would obey, or that turns a line around.
fn plain(text: &str) -> String {
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().take(LONGEST_DETAIL).map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let Refusal { kind, detail, advice, unfit } = refusal;
        Self { kind, status: None, detail, advice, unfit }
    }
}

impl From<CertificateError> for Fault {
    fn from(error: CertificateError) -> Self {
        let kind = match error {
            CertificateError::Key(_) => Kind::Invalid,
            CertificateError::Over => Kind::Conflict,
            CertificateError::Signing(_) => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(mut self) -> Response {
        // Whatever is quoted in it goes to terminals and logs.
        self.detail = plain(&self.detail);
        let mut response = self.http_status().into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after(self.kind) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.kind == Kind::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sublet\""));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status_that_is_no_success() {
        for kind in Kind::ALL {
            let fault = Fault::new(kind, "x");
            assert!(fault.http_status().is_client_error() || fault.http_status().is_server_error(), "{kind:?}");
            assert_eq!(fault.problem(sublet_wire::new_id()).known_kind(), Some(kind));
        }
    }

    #[test]
    fn little_is_echoed() {
        let long = "é".repeat(5000);
        assert_eq!(shortened(&long).chars().count(), LONGEST_ECHO);
        assert!(Fault::not_found("lease", &long).detail.chars().count() < 200);
        assert_eq!(shortened("box"), "box");
        let sent = Fault::invalid(format!("\u{1b}[2J\u{202e}{long}")).into_response();
        let told = &sent.extensions().get::<Fault>().unwrap().detail;
        assert!(told.starts_with("\u{fffd}[2J\u{fffd}é") && told.chars().count() == LONGEST_DETAIL, "{told}");
    }
}
