//! `sublet user …`

use crate::api::Market;
use crate::output::{self, Format, facts};
use crate::values;
use anyhow::Context;
use clap::Subcommand;
use sublet_model::account::Role;
use sublet_wire::api::NewMember;

/// Members of accounts: people and programs (operator)
#[derive(Debug, Subcommand)]
pub enum User {
    /// Add a member; `sublet token create --member ID` then makes a token for it
    #[command(after_help = "Example:\n  sublet user add physics ada --role client --role lender")]
    Add {
        /// Name or id of the account
        #[arg(value_parser = values::reference)]
        account: String,
        /// One of a kind in the account
        #[arg(value_parser = values::name)]
        name: String,
        /// What it may do: client, lender, billing, auditor or operator; may be repeated
        #[arg(long = "role", required = true)]
        roles: Vec<Role>,
    },
}

impl User {
    /// Does it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let Self::Add { account, name, roles } = self;
        let member = market
            .add_member(&NewMember { account: account.clone(), name: name.clone(), roles })
            .await
            .with_context(|| format!("failed to add {name} to {account}"))?;
        if format == Format::Json {
            return output::json(&member);
        }
        facts(&[
            ("member", member.id.to_string()),
            ("name", member.name.clone()),
            ("account", member.account.to_string()),
            ("roles", member.roles.iter().map(|r| r.word()).collect::<Vec<_>>().join(", ")),
        ])
    }
}
