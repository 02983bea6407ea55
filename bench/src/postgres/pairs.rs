//! Grants and releases of the peer: one call each, so one round trip and one commit.

use super::Cluster;
use super::search::{Columns, Search, columns};
use crate::data::NOW;
use crate::ours::CLIENT_KEY;
use crate::query::Query;
use anyhow::Result;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

const LEASES: &str = include_str!("../../sql/leases.sql");
const GRANT: &str = "select granted, granted_generation from grant_best($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
                     $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";

/// Adds leases to a cluster that has the market.
pub async fn add_leases(cluster: &Cluster) -> Result<()> {
    Ok(cluster.connect().await?.batch_execute(LEASES).await?)
}

/// Rows of everything that a pair leaves behind.
pub async fn rows(cluster: &Cluster) -> Result<i64> {
    let sql =
        "select (select count(*) from leases) + (select count(*) from allocations) + (select count(*) from charges)
               + (select count(*) from idempotency) + (select count(*) from events)";
    Ok(cluster.connect().await?.query_one(sql, &[]).await?.get(0))
}

/// A connection that searches, grants and releases.
pub struct Pairs {
    search: Search,
    client: Client,
    grant: Statement,
    release: Statement,
    gone: Statement,
}

impl Pairs {
    /// Prepares them.
    pub async fn new(cluster: &Cluster) -> Result<Self> {
        let client = cluster.connect().await?;
        let grant = client.prepare(GRANT).await?;
        let release = client.prepare("select release_lease($1, $2)").await?;
        let gone = client.prepare("select host_says_gone($1, $2)").await?;
        Ok(Self { search: Search::new(cluster.connect().await?).await?, client, grant, release, gone })
    }

    /// A search of which every row is taken in.
    pub async fn search(&self, query: &Query) -> Result<usize> {
        Ok(self.search.rows(&columns(query)).await?.len())
    }

    /// Grants the best that fits: partition and generation. Terms of the length of ours.
    pub async fn grant(&self, query: &Query, lease: Uuid) -> Result<Option<(Uuid, i64)>> {
        let (terms, signature) = (r#"{"terms":""}"#.to_string() + &" ".repeat(700), "s".repeat(88));
        let (key, body, now) = (lease.to_string(), "b".repeat(64), NOW.0);
        let c: Columns = columns(query);
        let mut values: Vec<&(dyn ToSql + Sync)> = c.values().to_vec();
        values.extend::<[&(dyn ToSql + Sync); 7]>([&lease, &key, &body, &CLIENT_KEY, &terms, &signature, &now]);
        let row = self.client.query_opt(&self.grant, &values).await?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    /// Gives a lease back, and its host says gone: two commits, as on our side.
    pub async fn release(&self, lease: Uuid) -> Result<()> {
        self.client.execute(&self.release, &[&lease, &NOW.0]).await?;
        self.client.execute(&self.gone, &[&lease, &NOW.0]).await?;
        Ok(())
    }
}
