//! `sublet balance`, `sublet alerts`

use crate::api::Market;
use crate::output::{self, Format, Rows, facts};
use crate::values;
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use sublet_model::units::Micros;
use sublet_wire::api::{BalanceView, LedgerAudit, TransferView};

/// What an account has, holds for its leases and can still spend
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sublet balance\n  sublet balance --transfers")]
pub struct Balance {
    /// Name or id of the account [default: your own]
    #[arg(value_parser = values::reference)]
    account: Option<String>,
    /// Show what moved, newest first
    #[arg(long)]
    transfers: bool,
}

/// What the market told your account without being asked, newest first
#[derive(Debug, Args)]
pub struct Alerts {}

/// Whether the books of a market hold, from its folder: every transfer, balance and charge
///
/// It only reads, and may run beside the market. Exits with 1 if something does not hold.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet market audit ./market")]
pub struct Audit {
    /// The market's folder
    #[arg(env = "SUBLET_MARKET_DIR", hide_env_values = true, default_value = "market")]
    dir: PathBuf,
}

impl Audit {
    /// Prints what is in the books.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        super::market::check_is_market(&self.dir)?;
        let attempt = || format!("failed to audit the books of {}", self.dir.display());
        let records = sublet_market::db::Reader::open(&self.dir).with_context(attempt)?;
        print_audit(
            &records.audit_ledger().with_context(attempt)?.context("the books are being audited already")?,
            format,
        )
    }
}

impl Balance {
    /// Prints it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let account = match self.account {
            Some(account) => account,
            None => market.whoami().await.context("failed to find out whose balance is meant")?.account.to_string(),
        };
        if self.transfers {
            let transfers = market.transfers(&account).await.context("failed to list what moved")?;
            return if format == Format::Json { output::json(&transfers) } else { moved(&transfers) };
        }
        let balance = market.balance(&account).await.context("failed to get the balance")?;
        print_balance(&balance, format)
    }
}

/// An account's money.
pub fn print_balance(balance: &BalanceView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(balance);
    }
    let money = |micros: Micros| format!("{micros} {}", balance.currency);
    let how = if balance.on_account { "afterwards, by its statements" } else { "from what it has" };
    let spendable = balance.spendable.map_or_else(|| "as much as it likes".into(), money);
    let mut all = vec![
        ("account", format!("{} ({})", balance.name, balance.account)),
        ("available", money(balance.available)),
        ("held for leases", money(balance.held)),
    ];
    if balance.owed > Micros::ZERO {
        all.push(("owed", money(balance.owed)));
    }
    if balance.withheld > Micros::ZERO {
        all.push(("kept back", format!("{}, while it is disputed", money(balance.withheld))));
    }
    all.extend([("pays", how.to_string()), ("can spend", spendable), ("this month", money(balance.spent_this_month))]);
    all.extend(balance.month_limit.map(|limit| ("monthly limit", money(limit))));
    facts(&all)
}

fn moved(transfers: &[TransferView]) -> anyhow::Result<()> {
    let mut rows = Rows::new(&["number", "at", "why", "for", "to", "amount"], "nothing moved yet").right(&[0, 5]);
    for transfer in transfers {
        let taken = transfer.postings.iter().find(|p| p.micros < Micros::ZERO);
        let to = transfer.postings.iter().filter(|p| p.micros > Micros::ZERO).map(|p| p.book.clone());
        let what = transfer.lease.map(|lease| lease.to_string()).or_else(|| transfer.reference.clone());
        rows.row(vec![
            transfer.number.to_string(),
            transfer.at.to_string(),
            transfer.cause.clone(),
            what.unwrap_or_default(),
            to.collect::<Vec<_>>().join(", "),
            taken.map_or(String::new(), |p| (Micros::ZERO - p.micros).to_string()),
        ]);
    }
    rows.print()
}

impl Alerts {
    /// Prints them.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let alerts = market.alerts().await.context("failed to list alerts")?;
        if format == Format::Json {
            return output::json(&alerts);
        }
        let mut rows = Rows::new(&["at", "what", "in words"], "nothing to tell");
        for alert in alerts {
            rows.row(vec![alert.at.to_string(), alert.kind, alert.words]);
        }
        rows.print()
    }
}

/// Whether the books hold, and what is in them; a failure if they don't.
pub fn print_audit(audit: &LedgerAudit, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        output::json(audit)?;
    } else {
        facts(&[
            ("transfers", audit.transfers.to_string()),
            ("charges", audit.charges.to_string()),
            ("available", audit.available.to_string()),
            ("owed", audit.owed.to_string()),
            ("held", audit.held.to_string()),
            ("kept back", audit.withheld.to_string()),
            ("fees", audit.fees.to_string()),
            ("outside", audit.outside.to_string()),
            ("verdict", if audit.holds { "all of it holds".into() } else { "it does not hold".into() }),
        ])?;
    }
    if audit.holds {
        return Ok(());
    }
    Err(anyhow::anyhow!("the books do not hold:\n  {}", audit.problems.join("\n  ")))
}
