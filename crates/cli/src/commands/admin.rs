//! `sublet admin …`

use crate::api::Market;
use crate::output::{self, Format, Rows};
use crate::values;
use anyhow::Context;
use clap::Subcommand;
use serde_json::Value;

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
    /// Hosts
    #[command(subcommand)]
    Host(AdminHost),
    /// Images
    #[command(subcommand)]
    Image(AdminImage),
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
