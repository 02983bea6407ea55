//! `sublet statement`

use crate::api::Market;
use crate::output::{self, Format, Rows};
use anyhow::Context;
use clap::{Args, ValueEnum};
use sublet_wire::api::Statement;

/// What was used and what it costs, with the arithmetic
///
/// Every lease of your account: what you pay for it, or with --side lender what you earn by it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet statement --side lender")]
pub struct StatementOf {
    /// What you pay, or what you earn
    #[arg(long, value_enum, default_value_t = Side::Client)]
    side: Side,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Side {
    Client,
    Lender,
}

impl StatementOf {
    /// Prints it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let side = match self.side {
            Side::Client => "client",
            Side::Lender => "lender",
        };
        let statement = market.statement(side).await.context("failed to get the statement")?;
        if format == Format::Json { output::json(&statement) } else { print(&statement) }
    }
}

fn print(statement: &Statement) -> anyhow::Result<()> {
    let headings = ["lease", "host", "image", "cpu", "memory", "ended", "receipts", "arithmetic", "charge"];
    let mut rows = Rows::new(&headings, "nothing was leased yet").right(&[3, 4, 6, 8]);
    for line in &statement.lines {
        rows.row(vec![
            line.name.clone(),
            line.host.clone(),
            line.image.clone(),
            line.resources.cpu.to_string(),
            line.resources.memory.to_string(),
            line.reason.map_or("running".into(), |reason| reason.to_string()),
            line.receipts.to_string(),
            line.arithmetic.clone(),
            format!("{}{}", line.charge.total, if line.settled { "" } else { " so far" }),
        ]);
    }
    rows.print()?;
    let verb = if statement.side == "lender" { "earned" } else { "to pay" };
    Ok(output::print(&format!("settled, {verb}: {} {}", statement.total, output::clean(&statement.currency)))?)
}
