//! `sublet rent`

use super::lease::print_lease;
use super::leasing::{self, Patience, Rented};
use super::needs::Needs;
use crate::api::Market;
use crate::output::{Format, say, say_if_terminal};
use crate::progress::Progress;
use crate::values;
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

/// Rent a partition for a while
///
/// It boots the operating system you ask for, and is yours alone until you release it or the time
/// is over.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet rent 'cpu>=2 memory=1GiB..4GiB os=debian' --for 2h\n  sublet rent --cpu 2 --memory 1GiB --os debian --for 2h --name box\n  sublet ssh box\n  sublet release box"
)]
pub struct Rent {
    #[command(flatten)]
    pub(super) needs: Needs,
    /// What to call the lease [default: made up]
    #[arg(long, value_parser = values::name)]
    name: Option<String>,
    /// Come back as soon as it is granted, while it still boots
    #[arg(long)]
    no_wait: bool,
    /// Wait no longer than this until it is ready; the lease goes on all the same
    #[arg(long, value_parser = values::patience, value_name = "SPAN", conflicts_with = "no_wait")]
    timeout: Option<Duration>,
}

impl Rent {
    /// Prints the lease once it is ready.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<ExitCode> {
        let Rented { mut lease, .. } = leasing::rent(market, &self.needs, self.name.clone(), false).await?;
        if !self.no_wait {
            let progress = Progress::start(format!("{}: granted", lease.name));
            let name = lease.name.clone();
            let ready = leasing::until_ready(market, lease, &progress, Patience::new(self.timeout));
            tokio::select! {
                ready = ready => lease = ready?,
                _ = tokio::signal::ctrl_c() => {
                    progress.clear();
                    say(format!("stopped waiting; the lease goes on: `sublet lease show {name}`, `sublet release {name}`"));
                    return Ok(ExitCode::from(130));
                }
            }
        }
        print_lease(&lease, format)?;
        say_if_terminal(format!("enter it with `sublet ssh {0}`, give it back with `sublet release {0}`", lease.name));
        Ok(ExitCode::SUCCESS)
    }
}
