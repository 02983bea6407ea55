//! `sublet statement`

use crate::api::Market;
use crate::output::{self, Format, Rows};
use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::ToSpan;
use jiff::civil::Date;
use std::path::{Path, PathBuf};
use sublet_model::units::Timestamp;
use sublet_wire::api::Statement;

/// What was used and what it costs, with the arithmetic
///
/// Every lease of your account: what you pay for it, or with --side lender what you earn by it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sublet statement --side lender\n  \
                        sublet statement --month 2026-11 --export november.json; sublet verify november.json")]
pub struct StatementOf {
    /// What you pay, what you earn, or what the operator keeps
    #[arg(long, value_enum, default_value_t = Side::Client)]
    side: Side,
    /// Write the settled leases into this file, signed, with all that `sublet verify` needs (- for stdout)
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Only leases settled in this month, such as 2026-11, by UTC
    #[arg(long, value_name = "MONTH", value_parser = month)]
    month: Option<(Timestamp, Timestamp)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Client,
    Lender,
    #[value(hide = true)]
    Operator,
}

/// From its first moment to the first one after it.
pub(super) fn month(text: &str) -> Result<(Timestamp, Timestamp), String> {
    let wrong = || format!("{text:?} is not a month such as 2026-11");
    let first: Date = format!("{text}-01").parse().map_err(|_| wrong())?;
    let instant = |date: Date| -> Result<Timestamp, String> {
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
        Ok(Timestamp(midnight.timestamp().as_microsecond()))
    };
    Ok((instant(first)?, instant(first.checked_add(1.month()).map_err(|_| wrong())?)?))
}

impl StatementOf {
    /// Prints it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let side = match self.side {
            Side::Client => "client",
            Side::Lender => "lender",
            Side::Operator => "operator",
        };
        if let Some(file) = &self.export {
            let document = market.export(side, self.month).await.context("failed to export the statement")?;
            return write(file, &document);
        }
        let statement = market.statement_between(side, self.month).await.context("failed to get the statement")?;
        if format == Format::Json { output::json(&statement) } else { print(&statement) }
    }
}

fn write(file: &Path, document: &[u8]) -> anyhow::Result<()> {
    if file == Path::new("-") {
        return Ok(output::print(std::str::from_utf8(document).context("the statement is not text")?)?);
    }
    std::fs::write(file, document).with_context(|| format!("failed to write {}", file.display()))?;
    output::say_if_terminal(format!("written; `sublet verify {}` recomputes it", file.display()));
    Ok(())
}

fn print(statement: &Statement) -> anyhow::Result<()> {
    let mut headings = vec!["lease", "host", "image", "cpu", "memory", "ended", "receipts", "arithmetic", "charge"];
    let is_clients = statement.side == "client";
    headings.extend((!is_clients).then_some("fee"));
    headings.push("given back");
    let mut rows = Rows::new(&headings, "nothing was leased yet").right(&[3, 4, 6, 8, 9, 10]);
    for line in &statement.lines {
        let mut row = vec![
            line.name.clone(),
            line.host.clone(),
            line.image.clone(),
            line.resources.cpu.to_string(),
            line.resources.memory.to_string(),
            line.reason.map_or("running".into(), |reason| reason.to_string()),
            line.receipts.to_string(),
            line.arithmetic.clone(),
            format!("{}{}", line.charge.total, if line.settled { "" } else { " so far" }),
        ];
        row.extend((!is_clients).then(|| line.fee.to_string()));
        // What the sum below is made of: each side with the part that it gets or bears.
        let given_back = match statement.side.as_str() {
            "lender" => line.credited_by_lender,
            "operator" => line.credited - line.credited_by_lender,
            _ => line.credited,
        };
        row.push(given_back.to_string());
        rows.row(row);
    }
    rows.print()?;
    let verb = match statement.side.as_str() {
        "lender" => "earned",
        "operator" => "kept",
        _ => "to pay",
    };
    Ok(output::print(&format!("settled, {verb}: {} {}", statement.total, output::clean(&statement.currency)))?)
}

#[cfg(test)]
mod tests {
    use super::month;
    use sublet_model::units::Timestamp;

    #[test]
    fn a_month_is_from_its_first_moment_to_the_next_ones() {
        let day = 86_400_000_000;
        assert_eq!(month("1970-01"), Ok((Timestamp(0), Timestamp(31 * day))));
        assert_eq!(month("1970-12"), Ok((Timestamp(334 * day), Timestamp(365 * day))));
        for bad in ["", "1970", "1970-13", "1970-1", "1970-01-01", "-1", "januar"] {
            assert!(month(bad).is_err(), "{bad:?}");
        }
    }
}
