//! A market, the people who use it, and an image in its catalogue.

use crate::fake_host::FakeHost;
use crate::manifest::manifest;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use sublet_market::config::{Config, Tls};
use sublet_market::init::init;
use sublet_market::serve::{ServeOptions, Server, serve};
use sublet_model::account::Role;
use sublet_model::ids::{AccountId, MemberId};
use sublet_model::requirements::Requirements;
use sublet_model::units::{MiB, Micros, Millicores, Seconds};
use sublet_wire::api::{
    AccountView, Granted, ImageView, MemberView, NewAccount, NewImage, NewJoinToken, NewMember, NewMovement, NewToken,
    RentRequest, TokenSecret, TransferView,
};
use sublet_wire::client::Client;
use sublet_wire::problem::Problem;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// An Ed25519 key of a client, in OpenSSH's form.
pub const CLIENT_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMlU0Aj30wsRdB3jLlo0A0DBuMqmwvZbzCbZhgBhUNZr me@laptop";

/// A running market.
pub struct World {
    dir: TempDir,
    pub server: Option<Server>,
    pub base: String,
    pub stop: CancellationToken,
    pub operator: Person,
}

/// Somebody with a token.
#[derive(Clone)]
pub struct Person {
    pub client: Client,
    pub token: String,
    pub account: AccountId,
    pub member: MemberId,
}

/// What came back, whatever it is.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        // What happens is told without an end.
        let is_endless = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let body = if is_endless { String::new() } else { response.text().await.unwrap_or_default() };
        Self { status, headers, body }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The problem that every answer must be that is no success.
    #[track_caller]
    pub fn problem(&self) -> Problem {
        assert!(!self.status.is_success(), "{} {}", self.status, self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.body);
        let problem: Problem = serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body));
        assert!(problem.known_kind().is_some() && problem.status == self.status.as_u16(), "{problem:?}");
        assert_eq!(problem.request_id.as_deref(), self.headers["x-request-id"].to_str().ok());
        problem
    }
}

pub fn config() -> Config {
    let listen = "127.0.0.1:0".parse().unwrap();
    Config { name: "test".into(), currency: "EUR".into(), listen, tls: Tls::Auto, relay: None, chunk_seconds: None }
}

impl World {
    pub async fn new() -> Self {
        Self::with(ServeOptions::default()).await
    }

    pub async fn with(options: ServeOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let first = init(&dir.path().join("market"), &config(), &["localhost".into(), "127.0.0.1".into()]).unwrap();
        let stop = CancellationToken::new();
        let server = serve(&dir.path().join("market"), options, stop.clone()).await.unwrap();
        let base = server.base();
        let client = Client::new(&base, Some(first.secret.clone()), server.fingerprint).unwrap();
        let me: sublet_wire::api::WhoAmI = client.get("/v1/whoami").await.unwrap();
        let operator = Person { client, token: first.secret, account: me.account, member: me.member };
        Self { dir, server: Some(server), base, stop, operator }
    }

    /// A market that another process serves at `base`, made in `dir`'s `market`.
    #[allow(dead_code, reason = "the histories, which share this file, use it")]
    pub async fn served_elsewhere(dir: TempDir, base: String, operators_token: String) -> Self {
        let client = Client::new(&base, Some(operators_token.clone()), None).unwrap();
        let me: sublet_wire::api::WhoAmI = client.get("/v1/whoami").await.unwrap();
        let operator = Person { client, token: operators_token, account: me.account, member: me.member };
        Self { dir, server: None, base, stop: CancellationToken::new(), operator }
    }

    pub fn dir(&self) -> std::path::PathBuf {
        self.dir.path().join("market")
    }

    /// Stops it and starts it again over the same database, on the same address.
    pub async fn restart(&mut self) {
        self.restart_after(|_| ()).await;
    }

    /// As [`Self::restart`], and in between something is done with its folder.
    pub async fn restart_after<T>(&mut self, act: impl FnOnce(&Path) -> T) -> T {
        let server = self.server.take().unwrap();
        let listen = Some(server.address);
        self.stop.cancel();
        server.ended().await.unwrap();
        let done = act(&self.dir());
        self.stop = CancellationToken::new();
        let options = ServeOptions { listen, tls: None, relay: None };
        self.server = Some(serve(&self.dir(), options, self.stop.clone()).await.unwrap());
        done
    }

    /// An account with one member of these roles.
    pub async fn person(&self, name: &str, roles: &[Role]) -> Person {
        let account: AccountView =
            self.operator.client.post("/v1/accounts", &NewAccount { name: name.into() }).await.unwrap();
        if roles.contains(&Role::Client) {
            self.deposit(account.id, 1_000_000_000).await;
        }
        self.member(account.id, "only", roles).await
    }

    /// The operator takes so many micros in for an account.
    pub async fn deposit(&self, account: AccountId, micros: i64) -> TransferView {
        let body = NewMovement { micros: Micros(micros), reference: unique() };
        self.operator.client.post(&format!("/v1/accounts/{account}/deposits"), &body).await.unwrap()
    }

    pub async fn member(&self, account: AccountId, name: &str, roles: &[Role]) -> Person {
        let new = NewMember { account: account.to_string(), name: name.into(), roles: roles.to_vec() };
        let member: MemberView = self.operator.client.post("/v1/members", &new).await.unwrap();
        let new = NewToken { member: Some(member.id), name: "test".into(), expires_in: None, roles: None };
        let token: TokenSecret = self.operator.client.post("/v1/tokens", &new).await.unwrap();
        let client = self.operator.client.with_token(token.secret.clone());
        Person { client, token: token.secret, account, member: member.id }
    }

    /// The operator with no other role than that.
    pub async fn operator_alone(&self) -> Person {
        let roles = Some(vec![Role::Operator]);
        let new = NewToken { member: None, name: "operator only".into(), expires_in: None, roles };
        let token: TokenSecret = self.operator.client.post("/v1/tokens", &new).await.unwrap();
        let client = self.operator.client.with_token(token.secret.clone());
        Person { client, token: token.secret, ..self.operator }
    }

    /// A host of `lender` with partitions of this many cores each, all lent.
    pub async fn host(&self, lender: &Person, name: &str, cores: &[i64]) -> FakeHost {
        let token: TokenSecret =
            lender.client.post("/v1/join-tokens", &NewJoinToken { uses: None, expires_in: None }).await.unwrap();
        let secret = token.secret.split('@').next().unwrap().to_owned();
        let mut host = FakeHost::join(&self.operator.client.with_token(secret), name, cores).await.unwrap();
        host.settle().await;
        host
    }

    pub async fn image(&self) -> ImageView {
        let new = NewImage { manifest: manifest("1"), depot: "http://127.0.0.1:7402".into() };
        self.operator.client.post("/v1/images", &new).await.unwrap()
    }

    /// Any request.
    pub async fn send(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = http().request(method, format!("{}{path}", self.base)).header("idempotency-key", unique());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request.send().await.unwrap()).await
    }
}

/// One client for all; it keeps no connection, for each test has a runtime of its own.
pub fn http() -> reqwest::Client {
    static HTTP: std::sync::OnceLock<reqwest::Client> = std::sync::OnceLock::new();
    let make = || {
        sublet_wire::tls::install_provider();
        reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap()
    };
    HTTP.get_or_init(make).clone()
}

pub fn unique() -> String {
    sublet_wire::new_id::<sublet_model::ids::RequestId>().to_string()
}

pub fn needs() -> Requirements {
    Requirements {
        cpu: Some(Millicores(1000).into()),
        memory: Some(MiB(256).into()),
        term_seconds: Some(Seconds(3600)),
        emulated: Some(true),
        ..Requirements::default()
    }
}

pub fn rent_request(name: Option<&str>) -> RentRequest {
    RentRequest {
        name: name.map(Into::into),
        requirements: needs(),
        ssh_public_key: CLIENT_KEY.into(),
        one_shot: false,
        release_after_disconnect: None,
        wait_seconds: None,
        outage_allowance_seconds: None,
        dry_run: false,
    }
}

impl Person {
    pub async fn rent(&self, name: &str) -> Granted {
        self.client.post("/v1/leases", &rent_request(Some(name))).await.unwrap()
    }
}

/// Where the tables of what was tried and answered are put.
pub fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), std::path::PathBuf::from)
}

/// A body that rents, for those who send it by hand.
pub fn rent_body() -> Value {
    json!({
        "ssh_public_key": CLIENT_KEY,
        "requirements": {"cpu": 1000, "memory": 256, "term_seconds": 3600, "emulated": true}
    })
}
