//! `sublet dispute …`

use crate::api::Market;
use crate::output::{self, Format, Rows, facts};
use crate::values;
use anyhow::Context;
use clap::Subcommand;
use sublet_wire::api::{DisputeView, NewDispute};

/// Say that a charge is wrong
///
/// Until the operator resolves it, the lender's part is kept back. What the arithmetic says,
/// `sublet verify` tells without anybody; a dispute is for what it can't know.
#[derive(Debug, Subcommand)]
pub enum Dispute {
    /// Dispute a lease, such as `sublet dispute open box --line 3 --reason unreachable`
    Open {
        /// Name or id of the lease
        #[arg(value_parser = values::reference)]
        lease: String,
        /// Which line of the statement is wrong
        #[arg(long, value_name = "N")]
        line: Option<u32>,
        /// A word, such as unreachable, slow or wrong-image
        #[arg(long, value_name = "WORD")]
        reason: String,
        /// More words
        #[arg(default_value = "")]
        words: String,
    },
    /// Disputes about what you pay or earn
    #[command(visible_alias = "ls")]
    List,
}

impl Dispute {
    /// Does it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        match self {
            Self::Open { lease, line, reason, words } => {
                let new = NewDispute { lease: lease.clone(), line, reason, words };
                let opened = market.open_dispute(&new).await.with_context(|| format!("failed to dispute {lease}"))?;
                show(&opened, format)
            }
            Self::List => list(market, format).await,
        }
    }
}

/// A dispute as it stands.
pub fn show(dispute: &DisputeView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(dispute);
    }
    let mut all = vec![
        ("dispute", dispute.id.to_string()),
        ("lease", format!("{} ({})", dispute.lease_name, dispute.lease)),
        ("reason", format!("{}{}", dispute.reason, line(dispute))),
        ("kept back", dispute.withheld.to_string()),
        ("standing", standing(dispute)),
    ];
    all.extend(dispute.charged.map(|charged| ("charged", charged.to_string())));
    all.extend(dispute.note.clone().map(|note| ("note", note)));
    facts(&all)
}

/// Every dispute that one may see.
pub async fn list(market: &Market, format: Format) -> anyhow::Result<()> {
    let disputes = market.disputes().await.context("failed to list disputes")?;
    if format == Format::Json {
        return output::json(&disputes);
    }
    let headings = ["opened", "lease", "reason", "charged", "kept back", "standing", "id"];
    let mut rows = Rows::new(&headings, "no disputes").right(&[3, 4]);
    for dispute in &disputes {
        rows.row(vec![
            dispute.opened_at.to_string(),
            dispute.lease_name.clone(),
            format!("{}{}", dispute.reason, line(dispute)),
            dispute.charged.map_or("-".into(), |charged| charged.to_string()),
            dispute.withheld.to_string(),
            standing(dispute),
            dispute.id.to_string(),
        ]);
    }
    rows.print()
}

fn line(dispute: &DisputeView) -> String {
    dispute.line.map_or(String::new(), |line| format!(", line {line}"))
}

fn standing(dispute: &DisputeView) -> String {
    match (dispute.resolved_at, dispute.credited) {
        (Some(at), Some(credited)) => format!("resolved at {at}, {credited} given back"),
        _ => "open".into(),
    }
}
