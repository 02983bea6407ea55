//! The one HTTP client: for people's commands, for host agents, for tests.

use crate::api::IDEMPOTENCY_KEY;
use crate::events::{Happened, LAST_EVENT_ID, Reader};
use crate::mac::{self, KEY_BYTES};
use crate::problem::{Kind, Problem};
use crate::sync::{self, SyncAnswer, SyncMessage, SyncRequest, Told, header};
use data_encoding::BASE64;
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use sublet_model::identity::{SecretKey, Sha256Digest};
use sublet_model::ids::{HostId, RequestId};

/// Why a call gave no answer of the kind expected.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The market answered with a problem.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// No answer came.
    #[error("failed to reach {address}: {reason}")]
    Unreachable {
        /// Where it was sought.
        address: String,
        /// Why, as far as is known.
        reason: String,
    },
    /// An answer came that can't be read.
    #[error("{address} gave an answer that can't be read ({reason}): is it a sublet market?")]
    Unreadable {
        /// Where it came from.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address or the configuration can't be used.
    #[error("{0}")]
    Unusable(String),
}

impl ClientError {
    /// Which kind of problem the market named, if it did.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Problem(problem) => problem.known_kind(),
            _ => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. }) || matches!(self.kind(), Some(Kind::Busy | Kind::Unavailable))
    }
}

/// A market, and as whom to speak to it.
#[derive(Clone)]
pub struct Client {
    /// Made when it is first needed: reading the certificates that a computer trusts takes longer than a command
    /// that asks the market nothing.
    http: Arc<OnceLock<reqwest::Client>>,
    fingerprint: Option<Sha256Digest>,
    base: String,
    token: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

/// Whether an address names this computer itself, where TLS protects nothing.
pub fn is_loopback(url: &reqwest::Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// Answers larger than this are not read.
const LARGEST_ANSWER_BYTES: usize = 64 << 20;
/// A listener who hears nothing for so long is not connected any more.
const SILENCE: Duration = Duration::from_secs(45);

impl Client {
    /// A client of the market at `base`, such as `http://127.0.0.1:7400`. Off loopback only
    /// `https` will do; with a fingerprint exactly that certificate is trusted.
    pub fn new(base: &str, token: Option<String>, fingerprint: Option<Sha256Digest>) -> Result<Self, ClientError> {
        crate::tls::install_provider();
        let url =
            reqwest::Url::parse(base).map_err(|e| ClientError::Unusable(format!("{base:?} is no address: {e}")))?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => {
                let advice = "plain http is for this computer itself only; use https";
                return Err(ClientError::Unusable(format!("{base}: {advice}")));
            }
            other => return Err(ClientError::Unusable(format!("{base}: {other} is not http or https"))),
        }
        Ok(Self { http: Arc::default(), fingerprint, base: base.trim_end_matches('/').into(), token })
    }

    fn http(&self) -> Result<&reqwest::Client, ClientError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .user_agent(concat!("sublet/", env!("CARGO_PKG_VERSION")));
        let unusable = |reason: String| ClientError::Unusable(reason);
        let builder = match self.fingerprint {
            Some(print) => {
                builder.tls_backend_preconfigured(crate::tls::pinned(print).map_err(|e| unusable(e.to_string()))?)
            }
            None => builder,
        };
        let http = builder.build().map_err(|e| unusable(e.to_string()))?;
        Ok(self.http.get_or_init(|| http))
    }

    /// The address of the market.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same market with another token.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let request = self.http()?.request(method, format!("{}{path}", self.base));
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// GET.
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, ClientError> {
        self.answer(self.request(Method::GET, path)?).await
    }

    /// DELETE.
    pub async fn delete<A: DeserializeOwned>(&self, path: &str) -> Result<A, ClientError> {
        self.answer(self.request(Method::DELETE, path)?).await
    }

    /// PUT: names the whole of what is to be, so it may be repeated.
    pub async fn put<B: Serialize, A: DeserializeOwned>(&self, path: &str, body: &B) -> Result<A, ClientError> {
        self.answer(self.request(Method::PUT, path)?.json(body)).await
    }

    /// POST under a fresh idempotency key, repeated with the same key while the market can't be
    /// reached, for up to 10 seconds.
    pub async fn post<B: Serialize, A: DeserializeOwned>(&self, path: &str, body: &B) -> Result<A, ClientError> {
        self.post_with_key(path, body, &crate::new_id::<RequestId>().to_string()).await
    }

    /// POST under a given idempotency key.
    pub async fn post_with_key<B: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        key: &str,
    ) -> Result<A, ClientError> {
        let give_up = tokio::time::Instant::now() + Duration::from_secs(10);
        let mut pause = Duration::from_millis(50);
        loop {
            let request = self.request(Method::POST, path)?.header(IDEMPOTENCY_KEY, key).json(body);
            match self.answer(request).await {
                Err(error) if error.is_transient() && tokio::time::Instant::now() + pause < give_up => {
                    tracing::debug!(%error, path, "repeating");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                outcome => return outcome,
            }
        }
    }

    /// GET of a document that counts to the byte.
    pub async fn document(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        self.accepted(self.request(Method::GET, path)?).await
    }

    async fn answer<A: DeserializeOwned>(&self, request: RequestBuilder) -> Result<A, ClientError> {
        let body = self.accepted(request).await?;
        let body = if body.is_empty() { b"null".to_vec() } else { body };
        serde_json::from_slice(&body).map_err(|e| self.unreadable(e.to_string()))
    }

    /// The body of an answer, or the problem that it is.
    async fn accepted(&self, request: RequestBuilder) -> Result<Vec<u8>, ClientError> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        let body = self.body(response).await?;
        if status.is_success() {
            return Ok(body);
        }
        Err(self.problem(status, &body))
    }

    fn problem(&self, status: impl std::fmt::Display, body: &[u8]) -> ClientError {
        match serde_json::from_slice(body) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(e) => self.unreadable(format!("status {status}, {e}")),
        }
    }

    fn unreadable(&self, reason: String) -> ClientError {
        ClientError::Unreadable { address: self.base.clone(), reason }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
            if body.len() + chunk.len() > LARGEST_ANSWER_BYTES {
                return Err(ClientError::Unreadable {
                    address: self.base.clone(),
                    reason: "larger than 64 MiB".into(),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        // The innermost cause is the one people can act on.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        ClientError::Unreachable { address: self.base.clone(), reason: cause.to_string() }
    }

    /// Listens to what happens in the market, from after the event with the id `last` on, or from now on.
    pub async fn listen(&self, last: Option<&str>) -> Result<Listening, ClientError> {
        let mut request = self.request(Method::GET, "/v1/events")?.timeout(Duration::from_secs(24 * 3600));
        if let Some(last) = last {
            request = request.header(LAST_EVENT_ID, last);
        }
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if !response.status().is_success() {
            return Err(self.problem(response.status(), &self.body(response).await?));
        }
        Ok(Listening { client: self.clone(), response, reader: Reader::default(), waiting: VecDeque::new() })
    }

    /// A raw request, for downloads.
    pub async fn fetch(&self, path: &str, from_byte: u64) -> Result<Response, ClientError> {
        let mut request = self.request(Method::GET, path)?.timeout(Duration::from_secs(24 * 3600));
        if from_byte > 0 {
            request = request.header("range", format!("bytes={from_byte}-"));
        }
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(ClientError::Unreadable {
            address: self.base.clone(),
            reason: format!("status {} for {path}", response.status()),
        })
    }
}

/// A market that tells what happens, as it happens.
pub struct Listening {
    client: Client,
    response: Response,
    reader: Reader,
    waiting: VecDeque<Happened>,
}

impl Listening {
    /// The next event. The market says every few seconds that it is there: silence is an error.
    pub async fn next(&mut self) -> Result<Happened, ClientError> {
        let lost = |reason: String| ClientError::Unreachable { address: self.client.base.clone(), reason };
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let piece = tokio::time::timeout(SILENCE, self.response.chunk()).await;
            let piece = piece.map_err(|_| lost("nothing was heard of it for a while".into()))?;
            let piece = piece.map_err(|e| self.client.unreachable(&e))?;
            let piece = piece.ok_or_else(|| lost("it told nothing more".into()))?;
            self.waiting.extend(self.reader.read(&piece).map_err(|e| self.client.unreadable(e.to_string()))?);
        }
    }
}

/// An open session of a host.
pub struct HostSession {
    client: Client,
    host: HostId,
    session: u64,
    epoch: u64,
    seq: u64,
    mac_key: [u8; KEY_BYTES],
    told: Told,
}

impl HostSession {
    /// Proves who the host is and opens a session; ends the host's older one, which must be named
    /// (0 for none). Keep [`Self::session`] durably before the first sync.
    pub async fn open(client: &Client, host: HostId, key: &SecretKey, last_session: u64) -> Result<Self, ClientError> {
        Self::open_knowing(client, host, key, last_session, None).await
    }

    /// The same, naming the newest epoch of the market that the host knows: an older copy of the market
    /// is noticed by it.
    pub async fn open_knowing(
        client: &Client,
        host: HostId,
        key: &SecretKey,
        last_session: u64,
        epoch: Option<u64>,
    ) -> Result<Self, ClientError> {
        let challenge: sync::Challenge = client.post(&format!("/v1/hosts/{host}/challenge"), &()).await?;
        let request = sync::SessionRequest {
            signature: key.sign_bytes(&sync::session_proof(host, &challenge.nonce)),
            nonce: challenge.nonce,
            last_session,
            protocol: sync::PROTOCOL,
            epoch,
        };
        let answer: sync::SessionAnswer = client.post(&format!("/v1/hosts/{host}/sessions"), &request).await?;
        let bad_key = || ClientError::Unreadable { address: client.base.clone(), reason: "bad session key".into() };
        let mac_key = BASE64.decode(answer.mac_key.as_bytes()).map_err(|_| bad_key())?;
        let mac_key = mac_key.try_into().map_err(|_| bad_key())?;
        let told = Told::default();
        Ok(Self { client: client.clone(), host, session: answer.session, epoch: answer.epoch, seq: 0, mac_key, told })
    }

    /// Number of the session.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// The market's epoch: keep it durably before the first sync.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Says everything seen, hears everything wanted; leaves out what the market has. Held by the
    /// market while there is no news.
    pub async fn sync(&mut self, request: &SyncRequest) -> Result<SyncAnswer, ClientError> {
        let message = self.told.message(request);
        let answer = self.say(&message).await?;
        self.told.answered(request, &answer);
        Ok(answer)
    }

    async fn say(&mut self, message: &SyncMessage) -> Result<SyncAnswer, ClientError> {
        self.seq += 1;
        let body = serde_json::to_vec(message).map_err(|e| ClientError::Unusable(e.to_string()))?;
        let mac = mac::seal(&self.mac_key, self.session, self.seq, &body);
        let call = self
            .client
            .request(Method::POST, &format!("/v1/hosts/{}/sync", self.host))?
            .timeout(sync::HOLD + Duration::from_secs(10))
            .header(header::SESSION, self.session)
            .header(header::SEQ, self.seq)
            .header(header::MAC, mac)
            .header("content-type", "application/json")
            .body(body);
        self.client.answer(call).await
    }
}
