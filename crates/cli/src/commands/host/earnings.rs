//! `sublet host earnings`

use crate::api::Market;
use crate::commands::statement::month;
use crate::output::{self, Format, Rows};
use anyhow::Context;
use clap::Args;
use std::collections::BTreeMap;
use sublet_model::units::{Micros, Seconds, Timestamp};
use sublet_wire::api::{Statement, StatementLine};

/// What your computers earned, after the operator's fee
#[derive(Debug, Args)]
pub struct Earnings {
    /// Only leases settled in this month, such as 2026-11, by UTC
    #[arg(long, value_name = "MONTH", value_parser = month)]
    month: Option<(Timestamp, Timestamp)>,
}

/// What one computer earned.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
struct Earned {
    host: String,
    leases: usize,
    seconds: Seconds,
    charged: Micros,
    fees: Micros,
    given_back: Micros,
    kept_back: Micros,
    earned: Micros,
}

impl Earnings {
    /// Prints it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let statement = market.statement_between("lender", self.month).await.context("failed to get the earnings")?;
        let all = by_host(&statement.lines);
        if format == Format::Json {
            return output::json(&serde_json::json!({
                "currency": statement.currency, "hosts": all, "earned": statement.total,
            }));
        }
        print(&all, &statement)
    }
}

fn by_host(lines: &[StatementLine]) -> Vec<Earned> {
    let mut hosts: BTreeMap<&str, Earned> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.settled) {
        let of = hosts.entry(&line.host).or_default();
        of.leases += 1;
        of.seconds += line.charge.billed_seconds;
        of.charged += line.charge.total;
        of.fees += line.fee;
        of.given_back += line.credited_by_lender;
        of.kept_back += line.withheld;
        of.earned += line.charge.total - line.fee - line.credited_by_lender;
    }
    hosts.into_iter().map(|(host, earned)| Earned { host: host.into(), ..earned }).collect()
}

fn print(all: &[Earned], statement: &Statement) -> anyhow::Result<()> {
    let headings = ["host", "leases", "used", "charged", "fees", "given back", "kept back", "earned"];
    let mut rows = Rows::new(&headings, "nothing was earned yet").right(&[1, 2, 3, 4, 5, 6, 7]);
    for one in all {
        rows.row(vec![
            one.host.clone(),
            one.leases.to_string(),
            one.seconds.to_string(),
            one.charged.to_string(),
            one.fees.to_string(),
            one.given_back.to_string(),
            one.kept_back.to_string(),
            one.earned.to_string(),
        ]);
    }
    rows.print()?;
    Ok(output::print(&format!("earned: {} {}", statement.total, output::clean(&statement.currency)))?)
}
