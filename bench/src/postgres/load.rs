//! The same market as rows of PostgreSQL: one file a table, copied in, analyzed.

use super::Cluster;
use crate::data::{ARCHES, Audience, Host, Market, OSES, PARTITIONS_A_HOST, Partition};
use crate::ours;
use anyhow::Result;
use bytes::Bytes;
use futures_util::SinkExt;
use std::fmt::Write;
use std::pin::pin;
use sublet_model::host::Tier;
use tokio_postgres::Client;

const SCHEMA: &str = include_str!("../../sql/schema.sql");
const INDEXES: &str = include_str!("../../sql/indexes.sql");
/// Bytes of a copy that go over at once.
const CHUNK: usize = 1 << 16;

/// Fills the cluster with the market.
pub async fn load(cluster: &Cluster, market: &Market) -> Result<()> {
    let db = cluster.connect().await?;
    db.batch_execute(SCHEMA).await?;
    copy(&db, "copy hosts from stdin", market.hosts.iter().enumerate().map(|(n, h)| host(n, h))).await?;
    copy(
        &db,
        "copy partitions from stdin",
        market.partitions.iter().enumerate().map(|(n, p)| partition(n, p, market.host_of(p))),
    )
    .await?;
    let images = (0..ARCHES.len()).flat_map(|arch| (0..OSES.len()).map(move |os| image(arch, os)));
    copy(&db, "copy images from stdin", images).await?;
    db.batch_execute(INDEXES).await?;
    db.batch_execute("vacuum (analyze)").await?;
    db.batch_execute("checkpoint").await?;
    Ok(())
}

async fn copy(db: &Client, sql: &str, lines: impl Iterator<Item = String>) -> Result<()> {
    let mut sink = pin!(db.copy_in::<_, Bytes>(sql).await?);
    let mut chunk = String::with_capacity(CHUNK * 2);
    for line in lines {
        chunk += &line;
        if chunk.len() >= CHUNK {
            sink.send(Bytes::from(std::mem::take(&mut chunk))).await?;
        }
    }
    sink.send(Bytes::from(chunk)).await?;
    sink.finish().await?;
    Ok(())
}

fn flag(is: bool) -> char {
    if is { 't' } else { 'f' }
}

fn tier(tier: Tier) -> u8 {
    u8::from(tier == Tier::Kvm)
}

fn host(n: usize, h: &Host) -> String {
    let lendable = h.has - h.keep;
    format!(
        "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t1000\n",
        h.id,
        ours::host_name(n),
        h.lender,
        h.arch,
        tier(h.tier),
        flag(h.confined),
        h.threads,
        ours::CPU_MODEL,
        lendable.cpu.0,
        lendable.memory.0,
        lendable.disk.0
    )
}

fn partition(n: usize, p: &Partition, h: &Host) -> String {
    let mut line = format!("{}\t{}\tp{}\t{}\t", p.id, h.id, n % PARTITIONS_A_HOST, flag(p.held.is_none()));
    let mut put = |value: i64| write!(line, "{value}\t").unwrap_or_default();
    put(i64::from(p.held.is_some()));
    for r in [p.min, p.max, p.held.unwrap_or(p.min), p.reach.unwrap_or_default()] {
        [r.cpu.0, r.memory.0, r.disk.0].into_iter().for_each(&mut put);
    }
    [h.arch as i64, i64::from(tier(h.tier))].into_iter().for_each(&mut put);
    let (kind, accounts) = match h.audience {
        Audience::Everyone => (0, "{}".to_string()),
        Audience::Own => (1, "{}".to_string()),
        Audience::With => (2, list(ours::audience(h, true))),
        Audience::Without => (2, list(ours::audience(h, false))),
    };
    let _ = write!(
        line,
        "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{kind}\t{accounts}\t{}\t{}\t{}",
        flag(h.confined),
        h.flags,
        h.threads,
        h.region,
        h.net,
        h.oses,
        h.lender,
        flag(h.to_strangers),
        h.terms.0,
        h.terms.1
    );
    for price in h.prices {
        let _ = write!(line, "\t{price}");
    }
    let _ = writeln!(line, "\t1000\t{}", p.listed_at);
    line
}

fn list(accounts: Vec<u64>) -> String {
    format!("{{{}}}", accounts.iter().map(u64::to_string).collect::<Vec<_>>().join(","))
}

fn image(arch: usize, os: usize) -> String {
    format!("{arch}\t{os}\t{}\n", ours::image_reference(arch, os))
}
