//! Money: the calls about it.

use super::{Answer, Market};
use sublet_wire::api::{
    AlertView, BalanceView, DisputeView, Fee, LedgerAudit, NewDispute, NewMovement, PurseChange, Resolution, Statement,
    Story, TransferView,
};

impl Market {
    /// POST /v1/accounts/{account}/deposits
    pub async fn deposit(&self, account: &str, movement: &NewMovement) -> Answer<TransferView> {
        self.client.post(&format!("/v1/accounts/{account}/deposits"), movement).await
    }

    /// POST /v1/accounts/{account}/refunds
    pub async fn refund(&self, account: &str, movement: &NewMovement) -> Answer<TransferView> {
        self.client.post(&format!("/v1/accounts/{account}/refunds"), movement).await
    }

    /// PUT /v1/accounts/{account}/purse
    pub async fn set_purse(&self, account: &str, purse: &PurseChange) -> Answer<BalanceView> {
        self.client.put(&format!("/v1/accounts/{account}/purse"), purse).await
    }

    /// GET /v1/accounts/{account}/balance
    pub async fn balance(&self, account: &str) -> Answer<BalanceView> {
        self.client.get(&format!("/v1/accounts/{account}/balance")).await
    }

    /// GET /v1/accounts/{account}/transfers, the newest page
    pub async fn transfers(&self, account: &str) -> Answer<Vec<TransferView>> {
        self.all(&format!("/v1/accounts/{account}/transfers")).await
    }

    /// GET /v1/alerts
    pub async fn alerts(&self) -> Answer<Vec<AlertView>> {
        self.all("/v1/alerts").await
    }

    /// GET /v1/fee
    pub async fn fee(&self) -> Answer<Fee> {
        self.client.get("/v1/fee").await
    }

    /// PUT /v1/fee
    pub async fn set_fee(&self, fee: &Fee) -> Answer<Fee> {
        self.client.put("/v1/fee", fee).await
    }

    /// GET /v1/ledger/audit
    pub async fn audit_ledger(&self) -> Answer<LedgerAudit> {
        self.client.get("/v1/ledger/audit").await
    }

    /// POST /v1/disputes
    pub async fn open_dispute(&self, dispute: &NewDispute) -> Answer<DisputeView> {
        self.client.post("/v1/disputes", dispute).await
    }

    /// GET /v1/disputes
    pub async fn disputes(&self) -> Answer<Vec<DisputeView>> {
        self.all("/v1/disputes").await
    }

    /// POST /v1/disputes/{dispute}/resolve
    pub async fn resolve_dispute(&self, dispute: &str, resolution: &Resolution) -> Answer<DisputeView> {
        self.client.post(&format!("/v1/disputes/{dispute}/resolve"), resolution).await
    }

    /// GET /v1/leases/{lease}/story
    pub async fn story(&self, lease: &str) -> Answer<Story> {
        self.client.get(&format!("/v1/leases/{lease}/story")).await
    }

    /// GET /v1/statements, of what was settled between two moments
    pub async fn statement_between(
        &self,
        side: &str,
        between: Option<(sublet_model::units::Timestamp, sublet_model::units::Timestamp)>,
    ) -> Answer<Statement> {
        let between = between.map_or(String::new(), |(from, until)| format!("&from={}&until={}", from.0, until.0));
        self.client.get(&format!("/v1/statements?side={side}{between}")).await
    }
}
