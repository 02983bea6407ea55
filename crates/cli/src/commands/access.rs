//! `sublet ssh`

use super::{leasing, run};
use crate::api::Market;
use crate::output;
use crate::ssh::{self, Invocation};
use crate::values;
use clap::Args;
use std::process::ExitCode;

/// Enter a leased partition, or run one command in it
///
/// Asks nothing: key, certificate and the host's own key came with the lease. Works while the
/// market is down, too, as long as the certificate is good (an hour at most).
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet ssh box\n  sublet ssh box -- systemctl is-system-running\n  tar c src | sublet ssh box -- tar x -C /root\n  eval \"$(sublet ssh box --print)\""
)]
pub struct Ssh {
    /// Name or id of the lease
    #[arg(value_parser = values::reference)]
    lease: String,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Print the ssh command instead of running it, for scripts and other tools
    #[arg(long)]
    print: bool,
    /// A command and its arguments, after --; a single word is a line for the shell [default: a
    /// login shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Ssh {
    /// Runs it; the exit code is the guest's.
    pub async fn run(self, market: &Market) -> anyhow::Result<ExitCode> {
        ssh::available()?;
        let (pass, key) = leasing::pass_of(market, &self.lease).await?;
        let invocation = Invocation {
            terminal: self.tty.then_some(true),
            command: (!self.command.is_empty()).then(|| ssh::shell_line(&self.command)),
            ..Invocation::default()
        };
        if self.print {
            let arguments = invocation.arguments(&pass, &key)?;
            let words = std::iter::once("ssh".to_string()).chain(arguments.iter().map(|a| a.to_string_lossy().into()));
            output::print(&ssh::quoted(&words.collect::<Vec<_>>()))?;
            return Ok(ExitCode::SUCCESS);
        }
        run::enter(market, &pass, &key, invocation).await
    }
}
