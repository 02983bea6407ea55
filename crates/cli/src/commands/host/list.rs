//! `sublet host list`, `sublet host show`

use super::own::bounds;
use crate::api::Market;
use crate::output::{self, Format, Rows, at, facts};
use anyhow::Context;
use sublet_wire::api::{HostView, PartitionView};

/// Hosts of the market.
pub async fn list(market: &Market, format: Format) -> anyhow::Result<()> {
    let hosts = market.hosts().await.context("failed to list hosts")?;
    if format == Format::Json {
        return output::json(&hosts);
    }
    let headings = ["name", "status", "tier", "threads", "memory", "lent", "leased", "processor", "id"];
    let mut rows = Rows::new(&headings, "no hosts; `sublet host join` makes one").right(&[3, 4, 5, 6]);
    for host in &hosts {
        let count = |which: fn(&PartitionView) -> bool| host.partitions.iter().filter(|p| which(p)).count().to_string();
        rows.row(vec![
            host.name.clone(),
            host.status.clone(),
            host.inventory.tier.to_string(),
            host.inventory.threads.to_string(),
            host.inventory.memory.to_string(),
            count(|p| p.lendable),
            count(|p| p.locked),
            host.inventory.cpu_model.clone(),
            host.id.to_string(),
        ]);
    }
    rows.print()
}

/// One host with its partitions.
pub async fn show(market: &Market, which: &str, format: Format) -> anyhow::Result<()> {
    let host = market.host(which).await.with_context(|| format!("failed to show {which}"))?;
    if format == Format::Json {
        return output::json(&host);
    }
    facts(&about(&host))?;
    partitions(&host.partitions)
}

fn about(host: &HostView) -> Vec<(&'static str, String)> {
    let inventory = &host.inventory;
    vec![
        ("host", host.id.to_string()),
        ("name", host.name.clone()),
        ("status", format!("{}, heard {}", host.status, at(host.heard_at))),
        ("processor", format!("{}, {} threads, {} cores", inventory.cpu_model, inventory.threads, inventory.cores)),
        ("has", inventory.resources().to_string()),
        ("kept", host.keep.to_string()),
        ("partitions", format!("{}{}", inventory.tier, if inventory.confined { "" } else { ", unconfined" })),
        ("kernel", format!("{} {}", inventory.arch, inventory.kernel)),
        ("qemu", inventory.qemu.clone()),
    ]
}

fn partitions(all: &[PartitionView]) -> anyhow::Result<()> {
    let headings = ["partition", "lent", "bounds", "has", "could have", "generation", "phase", "lease"];
    let mut rows = Rows::new(&headings, "not divided yet").right(&[5]);
    for partition in all {
        let locked = if partition.locked { " (locked)" } else { "" };
        rows.row(vec![
            partition.name.clone(),
            if partition.lendable { "yes" } else { "no" }.into(),
            bounds(&partition.profile),
            format!("{}{locked}", partition.allocation.resources),
            partition.reach.map_or("-".into(), |reach| reach.to_string()),
            partition.allocation.generation.to_string(),
            partition.phase.map_or("-".into(), |phase| phase.word().to_string()),
            partition.lease.map_or("-".into(), |lease| lease.to_string()),
        ]);
    }
    rows.print()
}
