//! `sublet account …`

use super::money::print_balance;
use crate::api::Market;
use crate::output::{self, Format, Rows, facts};
use crate::values;
use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use sublet_model::units::{Micros, parse_micros};
use sublet_wire::api::{AccountView, NewAccount, NewMovement, PurseChange, TransferView};

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
    /// Take money in, such as `sublet account deposit physics 500 --ref PO-123`; said twice with the
    /// same reference it is the same deposit
    Deposit(Movement),
    /// Pay money out of what it can spend
    Refund(Movement),
    /// How it pays: what it has, or afterwards by its statements
    Pays {
        /// Name or id of the account
        #[arg(value_parser = values::reference)]
        account: String,
        /// From what was deposited and earned, or afterwards
        #[arg(value_enum)]
        how: How,
    },
    /// The most that it may spend in a month, such as `sublet account limit physics 200`
    Limit {
        /// Name or id of the account
        #[arg(value_parser = values::reference)]
        account: String,
        /// An amount, or none
        #[arg(value_parser = limit, value_name = "AMOUNT")]
        most: Limit,
    },
    /// Lift a suspension
    Restore {
        /// Name or id of the account
        #[arg(value_parser = values::reference)]
        account: String,
    },
}

/// Money that comes in or goes out.
#[derive(Debug, Args)]
pub struct Movement {
    /// Name or id of the account
    #[arg(value_parser = values::reference)]
    account: String,
    /// How much, such as 500 or 12.50
    #[arg(value_parser = parse_micros)]
    amount: Micros,
    /// What proves it outside, such as an order's number
    #[arg(long = "ref", value_name = "REFERENCE")]
    reference: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// From what was deposited and earned
    Prepaid,
    /// By its statements
    Afterwards,
}

/// A limit, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(Option<Micros>);

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        amount => parse_micros(amount).map(|micros| Limit(Some(micros))).map_err(|e| format!("{e}, or none")),
    }
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
            Self::Deposit(movement) => {
                let attempt = format!("failed to deposit for {}", movement.account);
                let (account, body) = movement.body();
                transfer(&market.deposit(&account, &body).await.context(attempt)?, market, &account, format).await
            }
            Self::Refund(movement) => {
                let attempt = format!("failed to refund {}", movement.account);
                let (account, body) = movement.body();
                transfer(&market.refund(&account, &body).await.context(attempt)?, market, &account, format).await
            }
            Self::Pays { account, how } => {
                let purse = PurseChange { on_account: Some(how == How::Afterwards), ..PurseChange::default() };
                purse_of(market, &account, &purse, format).await
            }
            Self::Limit { account, most: Limit(most) } => {
                let no_month_limit = most.is_none();
                let purse = PurseChange { month_limit: most, no_month_limit, ..PurseChange::default() };
                purse_of(market, &account, &purse, format).await
            }
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

impl Movement {
    fn body(self) -> (String, NewMovement) {
        (self.account, NewMovement { micros: self.amount, reference: self.reference })
    }
}

async fn transfer(made: &TransferView, market: &Market, account: &str, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(made);
    }
    output::say(format!("done: transfer {} of {}", made.number, made.at));
    let balance = market.balance(account).await.context("failed to get the balance")?;
    print_balance(&balance, format)
}

async fn purse_of(market: &Market, account: &str, purse: &PurseChange, format: Format) -> anyhow::Result<()> {
    let balance = market.set_purse(account, purse).await.with_context(|| format!("failed to change {account}"))?;
    print_balance(&balance, format)
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
