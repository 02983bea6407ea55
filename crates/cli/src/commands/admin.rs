//! `sublet admin …`

use super::dispute;
use super::money::print_audit;
use crate::api::Market;
use crate::output::{self, Format, Rows};
use crate::values;
use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, parse_micros};
use sublet_wire::api::{Fee, Resolution};

/// What only an operator does
///
/// All of it stands in the audit log.
#[derive(Debug, Subcommand)]
pub enum Admin {
    /// The audit log, newest first
    Audit {
        /// Show at most so many lines
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
        limit: u32,
    },
    /// Whether the books hold: every transfer, balance and charge, from the first one on
    Ledger,
    /// What the operator keeps of charges, of leases granted from now on; shows it if none is given
    Fee {
        /// Such as 5% or 2.5%; at most 50%
        #[arg(value_parser = percent, value_name = "PERCENT")]
        fee: Option<u16>,
    },
    /// Disputes
    #[command(subcommand)]
    Dispute(AdminDispute),
    /// Hosts
    #[command(subcommand)]
    Host(AdminHost),
    /// Images
    #[command(subcommand)]
    Image(AdminImage),
}

/// Disputes, as the operator handles them.
#[derive(Debug, Subcommand)]
pub enum AdminDispute {
    /// Every dispute
    #[command(visible_alias = "ls")]
    List,
    /// Resolve one, with a credit note or without: `resolve disp_… --credit 0.12 --note "host was away"`
    Resolve {
        /// Id of the dispute
        #[arg(value_parser = values::reference)]
        dispute: String,
        /// What is given back to the client
        #[arg(long, value_parser = parse_micros, value_name = "AMOUNT", default_value = "0")]
        credit: Micros,
        /// Why: it stands in the statement
        #[arg(long, value_name = "TEXT")]
        note: String,
        /// By whom it is borne
        #[arg(long, value_enum, default_value_t = Bearer::Lender)]
        borne_by: Bearer,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bearer {
    /// Out of what the lender earned
    Lender,
    /// Out of the fees
    Operator,
}

/// Thousandths, said in percent.
fn percent(text: &str) -> Result<u16, String> {
    let wrong = || format!("{text:?} is not a fee such as 5% or 2.5%");
    let bare = text.trim().strip_suffix('%').unwrap_or(text.trim());
    let (whole, tenth) = bare.split_once('.').unwrap_or((bare, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() > 1 || whole.len() > 2 {
        return Err(wrong());
    }
    format!("{whole}{tenth}").parse().map_err(|_| wrong())
}

/// Hosts, as the operator handles them.
#[derive(Debug, Subcommand)]
pub enum AdminHost {
    /// Let a host open a session that does not know its last one (after a restored disk)
    Reset {
        /// Name or id of the host
        #[arg(value_parser = values::reference)]
        host: String,
    },
    /// No new grants on it
    Suspend {
        /// Name or id of the host
        #[arg(value_parser = values::reference)]
        host: String,
    },
    /// Lift a suspension
    Restore {
        /// Name or id of the host
        #[arg(value_parser = values::reference)]
        host: String,
    },
    /// Give up on a host that will not come back: its leases end, its partition ids are retired
    Forget {
        /// Name or id of the host
        #[arg(value_parser = values::reference)]
        host: String,
    },
}

/// Images, as the operator handles them.
#[derive(Debug, Subcommand)]
pub enum AdminImage {
    /// No new leases with it
    Suspend {
        /// Such as debian-12@12.11-1
        #[arg(value_parser = values::image)]
        image: String,
    },
    /// Lift a suspension
    Restore {
        /// Such as debian-12@12.11-1
        #[arg(value_parser = values::image)]
        image: String,
    },
}

impl Admin {
    /// Does it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let (what, answer) = match self {
            Self::Audit { limit } => return audit(market, limit, format).await,
            Self::Ledger => {
                return print_audit(&market.audit_ledger().await.context("failed to audit the books")?, format);
            }
            Self::Fee { fee } => return fee_of(market, fee, format).await,
            Self::Dispute(AdminDispute::List) => return dispute::list(market, format).await,
            Self::Dispute(AdminDispute::Resolve { dispute, credit, note, borne_by }) => {
                let borne_by = match borne_by {
                    Bearer::Lender => CreditBearer::Lender,
                    Bearer::Operator => CreditBearer::Operator,
                };
                let resolution = Resolution { credit, note, borne_by: Some(borne_by) };
                let resolved = market.resolve_dispute(&dispute, &resolution).await;
                return dispute::show(&resolved.with_context(|| format!("failed to resolve {dispute}"))?, format);
            }
            Self::Host(AdminHost::Reset { host }) => (format!("reset {host}"), market.reset_host(&host).await),
            Self::Host(AdminHost::Suspend { host }) => {
                (format!("suspend {host}"), market.suspend("hosts", &host, true).await)
            }
            Self::Host(AdminHost::Restore { host }) => {
                (format!("restore {host}"), market.suspend("hosts", &host, false).await)
            }
            Self::Host(AdminHost::Forget { host }) => (format!("forget {host}"), market.forget_host(&host).await),
            Self::Image(AdminImage::Suspend { image }) => {
                (format!("suspend {image}"), market.suspend("images", &image, true).await)
            }
            Self::Image(AdminImage::Restore { image }) => {
                (format!("restore {image}"), market.suspend("images", &image, false).await)
            }
        };
        let answer: Value = answer.with_context(|| format!("failed to {what}"))?;
        if format == Format::Json {
            return output::json(&answer);
        }
        output::say(format!("done: {what}"));
        Ok(())
    }
}

async fn fee_of(market: &Market, fee: Option<u16>, format: Format) -> anyhow::Result<()> {
    let answer = match fee {
        None => market.fee().await,
        Some(permille) => market.set_fee(&Fee { permille }).await,
    };
    let fee = answer.context("failed to get at the fee")?;
    if format == Format::Json {
        return output::json(&fee);
    }
    let (whole, tenth) = (fee.permille / 10, fee.permille % 10);
    Ok(output::print(&format!("{whole}.{tenth} % of charges, of leases granted from now on"))?)
}

async fn audit(market: &Market, limit: u32, format: Format) -> anyhow::Result<()> {
    let entries = market.audit(limit).await.context("failed to read the audit log")?;
    if format == Format::Json {
        return output::json(&entries);
    }
    let mut rows = Rows::new(&["seq", "at", "who", "what", "to what", "in words"], "nothing yet").right(&[0]);
    for entry in entries {
        rows.row(vec![
            entry.seq.to_string(),
            entry.at.to_string(),
            entry.actor,
            entry.action,
            entry.object,
            entry.detail,
        ]);
    }
    rows.print()
}
