//! The market's API, a function a call. Where it answers is known here and nowhere else.

mod money;

use crate::config::{Asked, Config, Folders};
use crate::failure::{Exit, Failure};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use sublet_model::ids::LeaseId;
use sublet_model::units::Timestamp;
use sublet_wire::api::{
    Access, AccessRequest, AccountView, AuditEntry, Extend, HostView, ImageView, LeaseView, MemberView, NearestAnswer,
    NearestRequest, NewAccount, NewImage, NewJoinToken, NewMember, NewToken, Page, RentAnswer, RentRequest,
    SearchAnswer, SearchRequest, Statement, Suspension, TokenSecret, WhoAmI,
};
use sublet_wire::client::{Client, ClientError, Listening};

type Answer<T> = Result<T, ClientError>;

/// A market, as one of its members.
#[derive(Debug, Clone)]
pub struct Market {
    /// Speaks HTTP.
    client: Client,
    /// Name of the context in use.
    pub context: String,
    /// Folder of that context's keys and certificates.
    pub folder: PathBuf,
}

/// Pages are followed up to here; more is a case for a filter.
const MOST_PAGES: usize = 200;
/// Between two looks at a market that answers at once although there is no news.
const PAUSE: Duration = Duration::from_millis(200);

impl Market {
    /// The market of the context in use.
    pub fn open(asked: &Asked) -> anyhow::Result<Self> {
        let folders = Folders::find()?;
        let (name, context) = Config::read(&folders)?.choose(asked)?;
        if context.token.is_none() {
            let none = Failure::new(Exit::Auth, format!("there is no token for {}", context.market));
            return Err(none.advise("run `sublet login URL`, or set SUBLET_TOKEN").into());
        }
        let client = Client::new(&context.market, context.token, context.fingerprint)?;
        Ok(Self { client, folder: folders.of_context(&name), context: name })
    }

    /// The address.
    pub fn base(&self) -> &str {
        self.client.base()
    }

    /// GET /v1/whoami
    pub async fn whoami(&self) -> Answer<WhoAmI> {
        whoami(&self.client).await
    }

    /// GET /v1/events
    pub async fn listen(&self, last: Option<&str>) -> Answer<Listening> {
        self.client.listen(last).await
    }

    /// POST /v1/accounts
    pub async fn create_account(&self, account: &NewAccount) -> Answer<AccountView> {
        self.client.post("/v1/accounts", account).await
    }

    /// GET /v1/accounts
    pub async fn accounts(&self) -> Answer<Vec<AccountView>> {
        self.all("/v1/accounts").await
    }

    /// PUT /v1/{accounts,hosts,images}/{which}/suspension
    pub async fn suspend<T: DeserializeOwned>(&self, kind: &str, which: &str, suspended: bool) -> Answer<T> {
        self.client.put(&format!("/v1/{kind}/{which}/suspension"), &Suspension { suspended }).await
    }

    /// POST /v1/members
    pub async fn add_member(&self, member: &NewMember) -> Answer<MemberView> {
        self.client.post("/v1/members", member).await
    }

    /// POST /v1/tokens
    pub async fn create_token(&self, token: &NewToken) -> Answer<TokenSecret> {
        self.client.post("/v1/tokens", token).await
    }

    /// DELETE /v1/tokens/{id}
    pub async fn revoke_token(&self, token: &str) -> Answer<serde_json::Value> {
        self.client.delete(&format!("/v1/tokens/{token}")).await
    }

    /// POST /v1/join-tokens
    pub async fn create_join_token(&self, token: &NewJoinToken) -> Answer<TokenSecret> {
        self.client.post("/v1/join-tokens", token).await
    }

    /// GET /v1/audit
    pub async fn audit(&self, limit: u32) -> Answer<Vec<AuditEntry>> {
        let page: Page<AuditEntry> = self.client.get(&format!("/v1/audit?limit={limit}")).await?;
        Ok(page.items)
    }

    /// POST /v1/images
    pub async fn publish_image(&self, image: &NewImage) -> Answer<ImageView> {
        self.client.post("/v1/images", image).await
    }

    /// GET /v1/images
    pub async fn images(&self) -> Answer<Vec<ImageView>> {
        self.all("/v1/images").await
    }

    /// GET /v1/hosts
    pub async fn hosts(&self) -> Answer<Vec<HostView>> {
        self.all("/v1/hosts").await
    }

    /// GET /v1/hosts/{which}
    pub async fn host(&self, which: &str) -> Answer<HostView> {
        self.client.get(&format!("/v1/hosts/{which}")).await
    }

    /// POST /v1/hosts/{which}/reset-session
    pub async fn reset_host(&self, which: &str) -> Answer<serde_json::Value> {
        self.client.post(&format!("/v1/hosts/{which}/reset-session"), &()).await
    }

    /// DELETE /v1/hosts/{which}
    pub async fn forget_host(&self, which: &str) -> Answer<serde_json::Value> {
        self.client.delete(&format!("/v1/hosts/{which}")).await
    }

    /// POST /v1/search
    pub async fn search(&self, request: &SearchRequest) -> Answer<SearchAnswer> {
        self.client.post("/v1/search", request).await
    }

    /// POST /v1/search/nearest
    pub async fn nearest(&self, request: &NearestRequest) -> Answer<NearestAnswer> {
        self.client.post("/v1/search/nearest", request).await
    }

    /// POST /v1/leases. Said again with the same key it is the same request.
    pub async fn rent(&self, request: &RentRequest, key: &str) -> Answer<RentAnswer> {
        self.client.post_with_key("/v1/leases", request, key).await
    }

    /// GET /v1/leases
    pub async fn leases(&self, all: bool) -> Answer<Vec<LeaseView>> {
        self.all(if all { "/v1/leases?state=all" } else { "/v1/leases?state=running" }).await
    }

    /// GET /v1/leases/{which}
    pub async fn lease(&self, which: &str) -> Answer<LeaseView> {
        self.client.get(&format!("/v1/leases/{which}")).await
    }

    /// GET /v1/leases/{which}?after=: the next version, or the same after a while.
    pub async fn lease_after(&self, which: LeaseId, version: u64) -> Answer<LeaseView> {
        let asked = Instant::now();
        let view: LeaseView = self.client.get(&format!("/v1/leases/{which}?after={version}")).await?;
        if view.version == version {
            tokio::time::sleep(PAUSE.saturating_sub(asked.elapsed())).await;
        }
        Ok(view)
    }

    /// POST /v1/leases/{which}/extend
    pub async fn extend(&self, which: &str, extend: &Extend) -> Answer<LeaseView> {
        self.client.post(&format!("/v1/leases/{which}/extend"), extend).await
    }

    /// POST /v1/leases/{which}/release
    pub async fn release(&self, which: &str) -> Answer<LeaseView> {
        self.client.post(&format!("/v1/leases/{which}/release"), &()).await
    }

    /// POST /v1/leases/{which}/access
    pub async fn access(&self, which: &str, request: &AccessRequest) -> Answer<Access> {
        self.client.post(&format!("/v1/leases/{which}/access"), request).await
    }

    /// GET /v1/statements
    pub async fn statement(&self, side: &str) -> Answer<Statement> {
        self.client.get(&format!("/v1/statements?side={side}")).await
    }

    /// GET /v1/statements/export
    pub async fn export(&self, side: &str, between: Option<(Timestamp, Timestamp)>) -> Answer<Vec<u8>> {
        let between = between.map_or(String::new(), |(from, until)| format!("&from={}&until={}", from.0, until.0));
        self.client.document(&format!("/v1/statements/export?side={side}{between}")).await
    }

    /// Every page of a list.
    async fn all<T: DeserializeOwned>(&self, path: &str) -> Answer<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        let joint = if path.contains('?') { '&' } else { '?' };
        for _ in 0..MOST_PAGES {
            let address = match &cursor {
                Some(cursor) => format!("{path}{joint}cursor={}", encoded(cursor)),
                None => path.to_string(),
            };
            let page: Page<T> = self.client.get(&address).await?;
            items.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(items)
    }
}

/// GET /v1/whoami, of a market that has no context yet.
pub async fn whoami(client: &Client) -> Answer<WhoAmI> {
    client.get("/v1/whoami").await
}

/// A cursor is opaque, and so may hold anything.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cursor_is_encoded() {
        assert_eq!(super::encoded("a b/ü=&-_"), "a%20b%2F%C3%BC%3D%26-_");
    }
}
