//! The command line: nouns with verbs, and the shortcuts that clients use all day.

use crate::commands::{
    access, account, admin, completions, context, copy, depot, dispute, events, forward, host, image, job, lease,
    market, money, proxy, rent, run, search, ssh_config, statement, token, user, verify,
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
  client    sublet login URL --token-stdin; sublet search; sublet run --os debian -- uname -a
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
    Search(search::Search),
    Run(run::Run),
    Rent(rent::Rent),
    Ssh(access::Ssh),
    Cp(copy::Copy),
    Forward(forward::Forward),
    Proxy(proxy::Proxy),
    SshConfig(ssh_config::SshConfig),
    #[command(subcommand)]
    Job(job::Job),
    #[command(subcommand)]
    Lease(lease::Lease),
    Extend(lease::Extend),
    Release(lease::Release),
    Statement(statement::StatementOf),
    Balance(money::Balance),
    Alerts(money::Alerts),
    Events(events::Events),
    #[command(subcommand)]
    Dispute(dispute::Dispute),
    Verify(verify::Verify),
    Login(context::Login),
    #[command(subcommand)]
    Context(context::Contexts),
    /// As whom you act, and what you may do
    Whoami,
    #[command(subcommand)]
    Image(image::Image),
    #[command(subcommand)]
    Host(host::Host),
    #[command(subcommand)]
    Depot(depot::DepotCommand),
    #[command(subcommand)]
    Market(market::Market),
    #[command(subcommand)]
    Account(account::Account),
    #[command(subcommand)]
    User(user::User),
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    Admin(admin::Admin),
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

    /// Two arguments of one id, one of them global, would only meet when a person calls them.
    #[test]
    fn no_command_takes_a_name_that_is_everywhere() {
        fn look(command: &clap::Command, global: &[String]) {
            for below in command.get_subcommands() {
                let clash = below.get_arguments().find(|a| global.contains(&a.get_id().to_string()));
                assert!(clash.is_none(), "{}: {:?}", below.get_name(), clash.map(|a| a.get_id()));
                look(below, global);
            }
        }
        let command = Args::command();
        let global: Vec<String> = command.get_arguments().map(|a| a.get_id().to_string()).collect();
        assert!(global.contains(&"output".into()));
        look(&command, &global);
    }
}
