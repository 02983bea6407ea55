//! `sublet account …`

use crate::api::Market;
use crate::output::{self, Format, Rows, facts};
use crate::values;
use anyhow::Context;
use clap::Subcommand;
use sublet_wire::api::{AccountView, NewAccount};

/// Accounts of the market (operator)
///
/// An account holds the money and owns hosts and leases.
#[derive(Debug, Subcommand)]
pub enum Account {
    /// Make one, such as `sublet account create physics`
    Create {
        /// One of a kind in the market
        #[arg(value_parser = values::name)]
        name: String,
    },
    /// Every account you may see
    #[command(visible_alias = "ls")]
    List,
    /// Bar one from new leases and new listings
    Suspend {
        /// Name or id of the account
        #[arg(value_parser = values::reference)]
        account: String,
    },
    /// Lift a suspension
    Restore {
        /// Name or id of the account
        #[arg(value_parser = values::reference)]
        account: String,
    },
}

impl Account {
    /// Does it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        match self {
            Self::Create { name } => {
                let made = market.create_account(&NewAccount { name: name.clone() }).await;
                show(&made.with_context(|| format!("failed to make the account {name}"))?, format)
            }
            Self::List => list(&market.accounts().await.context("failed to list accounts")?, format),
            Self::Suspend { account } => {
                let changed = market.suspend("accounts", &account, true).await;
                show(&changed.with_context(|| format!("failed to suspend {account}"))?, format)
            }
            Self::Restore { account } => {
                let changed = market.suspend("accounts", &account, false).await;
                show(&changed.with_context(|| format!("failed to restore {account}"))?, format)
            }
        }
    }
}

fn standing(account: &AccountView) -> String {
    if account.suspended { "suspended".into() } else { "in good standing".into() }
}

fn show(account: &AccountView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(account);
    }
    facts(&[("account", account.id.to_string()), ("name", account.name.clone()), ("standing", standing(account))])
}

fn list(accounts: &[AccountView], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&accounts);
    }
    let mut rows = Rows::new(&["name", "standing", "made", "id"], "no accounts");
    for account in accounts {
        rows.row(vec![account.name.clone(), standing(account), account.created_at.to_string(), account.id.to_string()]);
    }
    rows.print()
}
