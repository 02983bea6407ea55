//! The host's side of the market: a challenge, a session, and then one held sync after the other.
//!
//! The signature over the challenge is checked before the engine hears of a session; number and
//! MAC of a sync before its body is parsed.

use crate::engine::command::{Command, Outcome, Reply};
use crate::http::extract::{LARGEST_SYNC_BYTES, Named, Nothing, Sent, json_type, whole};
use crate::http::problem::{Fault, shortened};
use crate::http::sessions::{Proof, Proven};
use crate::http::{App, json, surprise};
use axum::Json;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use data_encoding::BASE64;
use std::sync::Arc;
use std::time::Instant;
use sublet_model::identity::PublicKey;
use sublet_model::ids::{HostId, LeaseId};
use sublet_wire::problem::Kind;
use sublet_wire::sync::{
    self, Acknowledged, Challenge, HOLD, MOST_PARTITIONS, MOST_RECEIPTS, SessionAnswer, SessionRequest, SyncAnswer,
    SyncMessage, header,
};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(challenge)).routes(routes!(open_session)).routes(routes!(sync))
}

fn refused(detail: impl Into<String>) -> Fault {
    Fault::new(Kind::SessionRefused, detail)
}

fn host_id(named: &str) -> Result<HostId, Fault> {
    named.parse().map_err(|_| Fault::not_found("host", named))
}

/// Gives a host something fresh to sign.
#[utoipa::path(
    post, path = "/v1/hosts/{host}/challenge", tag = "sync", security(()),
    params(("host" = String, Path, description = "Id")), responses((status = 200, body = Challenge))
)]
async fn challenge(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    _: Sent<Nothing>,
) -> Result<Json<Challenge>, Fault> {
    // Anybody may ask, for any id: only who holds the host's key can use the answer.
    let host = host_id(&named)?;
    Ok(Json(Challenge { nonce: app.sessions.challenge(host, Instant::now()) }))
}

/// Opens a session with a signature over the challenge; ends the host's older one.
#[utoipa::path(
    post, path = "/v1/hosts/{host}/sessions", tag = "sync", security(()),
    params(("host" = String, Path, description = "Id")),
    request_body = SessionRequest, responses((status = 200, body = SessionAnswer))
)]
async fn open_session(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    Sent(request): Sent<SessionRequest>,
) -> Result<Json<SessionAnswer>, Fault> {
    let host = host_id(&named)?;
    let _pass = app.hosts.enter(host)?;
    let SessionRequest { nonce, signature, last_session, protocol, epoch } = request;
    if !(sync::PROTOCOL.saturating_sub(1).max(1)..=sync::PROTOCOL).contains(&protocol) {
        let detail = format!("this market speaks version {} of the protocol, the host {protocol}", sync::PROTOCOL);
        return Err(Fault::invalid(detail).advise("update whichever is older"));
    }
    let own = app.read(|state| state.epoch().number);
    if epoch.is_some_and(|known| known > own) {
        let detail = format!(
            "the host knows epoch {} of this market, which is in epoch {own}: an older copy of it is served",
            epoch.unwrap_or(0)
        );
        return Err(
            refused(detail).advise("the operator puts the newest back, or restores it with `sublet market restore`")
        );
    }
    let now = Instant::now();
    app.sessions.check_challenge(host, &nonce, now)?;
    known_key(&app, host)?
        .verify_bytes(&sync::session_proof(host, &nonce), &signature)
        .map_err(|_| refused("the signature over the challenge is not by this host's key"))?;
    app.sessions.use_challenge(&nonce, now)?;
    let Outcome::Session(session) = app.ask(Command::OpenSession { host, last_session }, None).await? else {
        return Err(surprise());
    };
    let mac_key = app.sessions.opened(host, session).ok_or_else(|| {
        refused(format!("another agent opened a session with this host's key just now (session {session} is over)"))
    })?;
    Ok(Json(SessionAnswer { session, mac_key: BASE64.encode(&mac_key), market_time: app.now(), epoch: own }))
}

fn known_key(app: &App, host: HostId) -> Result<PublicKey, Fault> {
    let known = app.read(|state| state.host(host).filter(|row| row.forgotten_at.is_none()).map(|row| row.key));
    known.ok_or_else(|| {
        Fault::not_found("host", &host.to_string()).advise("the market forgot it: join again with a new join token")
    })
}

/// Takes in everything a host sees, and answers with everything it should have: at once if that
/// is news, else after up to five seconds. Headers carry session, number and MAC.
#[utoipa::path(
    post, path = "/v1/hosts/{host}/sync", tag = "sync", security(("sync_mac" = [])),
    params(
        ("host" = String, Path, description = "Id"),
        ("sublet-session" = u64, Header, description = "Number of the session"),
        ("sublet-seq" = u64, Header, description = "Rises with each sync of the session"),
        ("sublet-mac" = String, Header, description = "HMAC-SHA-256 over session, number and body"),
    ),
    request_body = SyncMessage, responses((status = 200, body = SyncAnswer))
)]
async fn sync(
    Shared(app): Shared<Arc<App>>,
    Named(named): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SyncAnswer>, Fault> {
    let host = host_id(&named)?;
    let proof = proof(&headers)?;
    // Who has no session open gets no 16 MiB read.
    app.sessions.check_session(host, proof.session)?;
    let _pass = app.hosts.enter(host)?;
    json_type(&headers)?;
    let raw = whole(&headers, body, LARGEST_SYNC_BYTES).await?;
    let proven = app.sessions.prove(host, proof, &raw)?;
    let request: SyncMessage = json::read(&raw).map_err(Fault::invalid)?;
    drop(raw);
    check(&request)?;
    take_in(&app, host, proof.session, request, proven).await.map(Json)
}

fn proof(headers: &HeaderMap) -> Result<Proof<'_>, Fault> {
    let one = |name: &str| {
        let mut all = headers.get_all(name).iter();
        let (value, None) = (all.next()?, all.next()) else { return None };
        value.to_str().ok()
    };
    let missing = || refused(format!("a sync needs the headers {}, {}, {}", header::SESSION, header::SEQ, header::MAC));
    let number = |name: &str| {
        let text = one(name).ok_or_else(missing)?;
        let plain = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
        plain
            .then(|| text.parse::<u64>().ok())
            .flatten()
            .ok_or_else(|| refused(format!("{name}: {:?} is not a number", shortened(text))))
    };
    Ok(Proof {
        session: number(header::SESSION)?,
        seq: number(header::SEQ)?,
        mac: one(header::MAC).ok_or_else(missing)?,
    })
}

fn check(request: &SyncMessage) -> Result<(), Fault> {
    let declared = request.division.as_ref().map_or(0, |division| division.partitions.len());
    let counts = [
        ("observed", request.observed.as_ref().map_or(0, Vec::len), MOST_PARTITIONS),
        ("division.partitions", declared, MOST_PARTITIONS),
        ("receipts", request.receipts.len(), MOST_RECEIPTS),
    ];
    match counts.into_iter().find(|(_, count, most)| count > most) {
        None => Ok(()),
        Some((field, count, most)) => {
            Err(Fault::invalid(format!("{field}: {count} entries are more than the {most} that are taken")))
        }
    }
}

async fn take_in(
    app: &App,
    host: HostId,
    session: u64,
    request: SyncMessage,
    proven: Proven,
) -> Result<SyncAnswer, Fault> {
    let knows = request.plan_version;
    let receipts = receipts_of(&request);
    let divided = |app: &App| app.read(|state| state.host(host).map(|row| row.division_revision));
    let before = divided(app);
    let reply = app.handle.call(Command::Sync { host, session, request: Box::new(request) }, None).await?;
    let Reply::Sync(mut answer) = reply else { return Err(surprise()) };
    let is_news = answer.plan_version != knows
        || divided(app) != before
        || settles(&answer.acknowledged, &receipts)
        || !answer.told.is_empty();
    if !is_news && !app.stopping.is_cancelled() {
        hold(app, host, knows, proven).await;
        app.sessions.check_session(host, session)?;
        // What came in between is told now; whatever the host saw was taken in before.
        let newest = app.read(|state| state.host(host).map(|row| row.plan_version));
        if newest != Some(answer.plan_version)
            && let Some(plan) = app.handle.plan(host)
        {
            (answer.plan_version, answer.plan) = (plan.version, (plan.version != knows).then_some(plan.wanted));
        }
        answer.market_time = app.now();
    }
    answer.relay = app.relay.as_ref().map(|(offer, _)| offer.clone());
    Ok(*answer)
}

/// Waits for news, for a newer sync of this host, for the market's end, or for long enough.
async fn hold(app: &App, host: HostId, knows: u64, mut proven: Proven) {
    let _ = timeout(HOLD, async {
        tokio::select! {
            () = app.handle.plan_changed(host, knows) => {}
            // A new number, or the end of the session: either way nobody waits for this answer.
            _ = proven.newer.changed() => {}
            () = app.stopping.cancelled() => {}
        }
    })
    .await;
}

fn receipts_of(request: &SyncMessage) -> Vec<(LeaseId, u64)> {
    request.receipts.iter().filter_map(|signed| signed.read().ok()).map(|r| (r.lease, r.seq)).collect()
}

/// Whether the host can let go of a receipt that it sent. One that is refused is no news, or a
/// host with a receipt that nobody takes would ask without a pause.
fn settles(acknowledged: &[Acknowledged], sent: &[(LeaseId, u64)]) -> bool {
    sent.iter().any(|(lease, seq)| acknowledged.iter().any(|a| a.lease == *lease && a.seq >= *seq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn numbers_in_headers_are_plain_and_single() {
        let with = |session: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in session {
                headers.append(header::SESSION, value.parse().unwrap());
            }
            headers.insert(header::SEQ, "7".parse().unwrap());
            headers.insert(header::MAC, "00".parse().unwrap());
            proof(&headers).map(|p| (p.session, p.seq)).map_err(|f| f.kind)
        };
        assert_eq!(with(&["4"]), Ok((4, 7)));
        for bad in [&[][..], &["4", "4"], &["+4"], &["-1"], &[""], &["18446744073709551616"], &["0x4"], &["4 "]] {
            // A trailing space never arrives: HTTP trims it.
            let expected = if bad == ["4 "] { with(bad) } else { Err(Kind::SessionRefused) };
            assert_eq!(with(bad), expected, "{bad:?}");
        }
    }

    #[test]
    fn only_a_receipt_that_the_host_may_forget_is_news() {
        let lease = |n: u128| LeaseId::from(Uuid::from_u128(n));
        let acked = [Acknowledged { lease: lease(1), seq: 3 }];
        assert!(settles(&acked, &[(lease(1), 3)]));
        assert!(settles(&acked, &[(lease(1), 2)]));
        assert!(!settles(&acked, &[(lease(1), 4)]));
        assert!(!settles(&acked, &[(lease(2), 1)]));
        assert!(!settles(&acked, &[]));
    }
}
