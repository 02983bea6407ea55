//! The command line: nouns with verbs, and the shortcuts that clients use all day.

use crate::commands::{
    access, account, admin, completions, context, depot, host, image, lease, market, rent, run, search, statement,
    token, user,
};
use crate::config::Asked;
use crate::output::Format;
use clap::{ArgAction, Parser, Subcommand};

/// Rent a real partition of another computer, or lend one of yours.
///
/// A lender divides a computer and lends a part of it; a client says what is needed and gets a
/// partition with its own operating system; an operator runs the market between them. Every
/// second is receipted, and the bill shows its arithmetic.
#[derive(Debug, Parser)]
#[command(name = "sublet", version, max_term_width = 100, disable_help_subcommand = true, after_help = START)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const START: &str = "\
Where to start:
  client    sublet login URL --token-stdin; sublet search --os debian; sublet run --os debian -- uname -a
  lender    sublet host check; sublet host join URL --token TOKEN; sublet host lend --keep 1cpu,2GiB
  operator  sublet market init ./market; sublet market serve ./market

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 conflict, 6 nothing fits,
124 timeout; `run` and `ssh` give the guest's own, 255 if the way to it broke.";

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// How data is printed on stdout
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Say more on stderr; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Use this context instead of the current one
    #[arg(long, global = true, env = "SUBLET_CONTEXT", hide_env_values = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Use the market at this address (the token then comes from SUBLET_TOKEN)
    #[arg(long = "market", global = true, env = "SUBLET_MARKET", hide_env_values = true, value_name = "URL")]
    pub market: Option<String>,
}

impl Global {
    /// Which market is meant.
    pub fn asked(&self) -> Asked {
        Asked { context: self.context.clone(), market: self.market.clone() }
    }
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find partitions that fit, and what they cost
    Search(search::Search),
    /// Run one command in a partition of its own, pass its streams and exit status on, pay, done
    Run(run::Run),
    /// Rent a partition for a while
    Rent(rent::Rent),
    /// Enter a leased partition
    Ssh(access::Ssh),
    /// Look at leases
    #[command(subcommand)]
    Lease(lease::Lease),
    /// Make a lease last longer
    Extend(lease::Extend),
    /// Give a lease back, and see the bill
    Release(lease::Release),
    /// What was used and what it costs, with the arithmetic
    Statement(statement::StatementOf),
    /// Log in to a market
    Login(context::Login),
    /// Markets you are logged in to
    #[command(subcommand)]
    Context(context::Contexts),
    /// As whom you act, and what you may do
    Whoami,
    /// Operating systems that can boot in a partition
    #[command(subcommand)]
    Image(image::Image),
    /// Lend this computer, and look at hosts
    #[command(subcommand)]
    Host(host::Host),
    /// The file server of operating systems
    #[command(subcommand)]
    Depot(depot::DepotCommand),
    /// The management server and its resource database
    #[command(subcommand)]
    Market(market::Market),
    /// Accounts of the market (operator)
    #[command(subcommand)]
    Account(account::Account),
    /// Members of accounts (operator)
    #[command(subcommand)]
    User(user::User),
    /// API tokens
    #[command(subcommand)]
    Token(token::Token),
    /// What only an operator does
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Completions for your shell
    Completions(completions::Completions),
    /// The small parent process of one partition (started by `host run`)
    #[command(hide = true)]
    Guard(host::guard::Guard),
}

impl Command {
    /// Whether it goes on until it is stopped, and logs what it does.
    pub fn serves(&self) -> bool {
        matches!(
            self,
            Self::Market(market::Market::Serve(_))
                | Self::Depot(depot::DepotCommand::Serve(_))
                | Self::Host(host::Host::Run(_))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }
}
