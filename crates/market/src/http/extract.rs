//! What a handler takes: who asks, the body, the path, the query. Each refuses in words what it
//! can't use; who asks comes first, so a stranger's body is not even read.

use crate::engine::command::{Actor, Idempotency};
use crate::http::App;
use crate::http::gate::Pass;
use crate::http::problem::{Fault, shortened};
use crate::http::{authorize, json};
use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::MemberId;
use sublet_wire::api::IDEMPOTENCY_KEY;
use sublet_wire::problem::Kind;

/// The largest body of the client API.
pub const LARGEST_BODY_BYTES: usize = 1 << 20;
/// The largest body of somebody who is not known yet.
const LARGEST_STRANGERS_BODY_BYTES: usize = 16 << 10;
/// The largest body of a sync.
pub const LARGEST_SYNC_BYTES: usize = 16 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How much of a body that is too large is let run out, and for how long.
const MOST_DISCARDED_BYTES: usize = 128 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest idempotency key.
const LONGEST_KEY: usize = 128;

/// Who asks, without a body.
pub struct Caller {
    /// The member, and what it may do.
    pub actor: Actor,
    _pass: Pass<MemberId>,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let now = app.now();
        let actor = app.read(|state| authorize::actor(state, &parts.headers, now))?;
        let pass = app.members.enter(actor.member)?;
        Ok(Self { actor, _pass: pass })
    }
}

/// Who asks, with a body.
pub struct Asked<T> {
    /// The member, and what it may do.
    pub actor: Actor,
    /// What was sent.
    pub body: T,
    /// Under which idempotency key, if any.
    pub once: Option<Idempotency>,
    _pass: Pass<MemberId>,
}

impl<T> Asked<T> {
    /// The idempotency key, where a request that makes something must have one.
    pub fn key(&self) -> Result<Idempotency, Fault> {
        self.once.clone().ok_or_else(|| {
            Fault::invalid("a request that makes something needs an Idempotency-Key header")
                .advise("send any text that you never used before, and the same one when you repeat the request")
        })
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Asked<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Fault> {
        let (mut parts, body) = request.into_parts();
        let Caller { actor, _pass } = Caller::from_request_parts(&mut parts, app).await?;
        let key = idempotency_key(&parts.headers)?;
        let raw = whole(&parts.headers, body, LARGEST_BODY_BYTES).await?;
        let value = parse(&parts.headers, &raw)?;
        let once = key.map(|key| Idempotency {
            member: actor.member,
            key,
            body: request_digest(&parts.method, parts.uri.path(), &raw),
        });
        Ok(Self { actor, body: value, once, _pass })
    }
}

/// A body of somebody who has no token, or another kind of proof.
pub struct Sent<T>(pub T);

impl<T: DeserializeOwned> Sent<T> {
    /// Reads it, if it is no larger than `most`.
    pub async fn read(headers: &HeaderMap, body: Body, most: usize) -> Result<Self, Fault> {
        let raw = whole(headers, body, most).await?;
        parse(headers, &raw).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Sent<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Fault> {
        let (parts, body) = request.into_parts();
        Self::read(&parts.headers, body, LARGEST_STRANGERS_BODY_BYTES).await
    }
}

/// The body of a request that says everything in its path: nothing, `null` or `{}`.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl<'de> serde::Deserialize<'de> for Nothing {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Empty {}
        Option::<Empty>::deserialize(d).map(|_| Self)
    }
}

fn parse<T: DeserializeOwned>(headers: &HeaderMap, raw: &Bytes) -> Result<T, Fault> {
    // Who has nothing to say need not say in which form.
    let body: &[u8] = if raw.is_empty() { b"null" } else { raw };
    if !raw.is_empty() {
        json_type(headers)?;
    }
    json::read(body).map_err(|why| match raw.is_empty() {
        true => Fault::invalid("the request needs a body of JSON, and has none"),
        false => Fault::invalid(why).advise("see /v1/openapi.json for what this path takes"),
    })
}

/// A body is JSON and says so.
pub fn json_type(headers: &HeaderMap) -> Result<(), Fault> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let given = if given.is_empty() { "nothing".into() } else { format!("{:?}", shortened(given)) };
    Err(Fault::invalid(format!("bodies are JSON, but content-type says {given}"))
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .advise("send `content-type: application/json`"))
}

/// The whole body, if it is no larger than `most` and arrives in time.
pub async fn whole(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Fault> {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let mut body = body.into_data_stream();
    if said.is_some_and(|length| length > most as u64) {
        discard(body).await;
        return Err(too_large(most));
    }
    let arriving = tokio::time::timeout(BODY_TIMEOUT, gather(&mut body, most)).await;
    match arriving {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            discard(body).await;
            Err(too_large(most))
        }
        Ok(Err(_)) => Err(Fault::invalid("the body broke off")),
        Err(_) => Err(Fault::invalid(format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs()))
            .with_status(StatusCode::REQUEST_TIMEOUT)),
    }
}

fn too_large(most: usize) -> Fault {
    Fault::new(Kind::TooLarge, format!("the body is larger than the {} KiB that are accepted here", most / 1024))
}

/// None as soon as there is more than `most`.
async fn gather(body: &mut BodyDataStream, most: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut all = BytesMut::new();
    while let Some(part) = body.next().await.transpose()? {
        if all.len() + part.len() > most {
            return Ok(None);
        }
        all.extend_from_slice(&part);
    }
    Ok(Some(all.freeze()))
}

/// Lets a body that is too large run out, within limits: a client that still sends when the
/// connection closes would never read why.
async fn discard(mut body: BodyDataStream) {
    let mut left = MOST_DISCARDED_BYTES;
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, async {
        while let Some(Ok(part)) = body.next().await {
            left = left.saturating_sub(part.len());
            if left == 0 {
                return;
            }
        }
    })
    .await;
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let mut all = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let good =
        all.next().is_none() && (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if good {
        return Ok(Some(text.into()));
    }
    Err(Fault::invalid(format!("Idempotency-Key must be one header of 1 to {LONGEST_KEY} visible ASCII characters")))
}

/// What makes two requests the same one.
fn request_digest(method: &Method, path: &str, body: &[u8]) -> Sha256Digest {
    let mut all = format!("{method}\n{path}\n").into_bytes();
    all.extend_from_slice(body);
    Sha256Digest::of(&all)
}

/// The one variable part of a path: an id or a name.
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Fault::invalid("the path is not UTF-8, or misses a part"))?;
        if text.len() > 200 || text.chars().any(char::is_control) {
            return Err(Fault::invalid(format!("{:?} is no id and no name", shortened(&text))));
        }
        Ok(Self(text))
    }
}

/// What stands behind the question mark.
pub struct Where<Q>(pub Q);

impl<Q: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Where<Q> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        Query::try_from_uri(&parts.uri).map(|Query(query)| Self(query)).map_err(|rejection| {
            let words = rejection.to_string();
            let words = words.strip_prefix("Failed to deserialize query string: ").unwrap_or(&words);
            let cut: String = words.split_inclusive(['"', '`', '\'']).map(shortened).collect();
            Fault::invalid(format!("query: {cut}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys_are_visible_and_short() {
        let with = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, axum::http::HeaderValue::from_bytes(value).unwrap());
            }
            idempotency_key(&headers)
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&[b"req_1"]), Ok(Some("req_1".into())));
        assert_eq!(with(&[&[b'a'; 128]]), Ok(Some("a".repeat(128))));
        for bad in [&[&b""[..]][..], &[b"a b"], &[b"a\xff"], &[&[b'a'; 129]], &[b"a", b"a"]] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn another_path_or_body_is_another_request() {
        let digest = |path, body: &str| request_digest(&Method::POST, path, body.as_bytes());
        assert_eq!(digest("/a", "{}"), digest("/a", "{}"));
        assert_ne!(digest("/a", "{}"), digest("/b", "{}"));
        assert_ne!(digest("/a", "{}"), digest("/a", "{ }"));
    }

    #[test]
    fn nothing_is_said_in_three_ways() {
        for body in ["null", "{}", " { } "] {
            assert!(json::read::<Nothing>(body.as_bytes()).is_ok(), "{body}");
        }
        for body in ["[]x", "1", "\"\"", "{\"a\":1}"] {
            assert!(json::read::<Nothing>(body.as_bytes()).is_err(), "{body}");
        }
    }
}
