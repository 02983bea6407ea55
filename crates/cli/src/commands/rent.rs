//! `sublet rent`

use super::job;
use super::lease::{print_lease, table};
use super::leasing::{self, Patience};
use super::needs::Needs;
use super::renting::{self, Wish};
use crate::api::Market;
use crate::output::{self, Format, say, say_if_terminal};
use crate::progress::Progress;
use crate::values;
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;
use sublet_model::units::Seconds;
use sublet_wire::api::LeaseView;

/// Rent a partition for a while
///
/// It boots the operating system you ask for, and is yours alone until you release it or the time
/// is over.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet rent 'cpu>=2 memory=1GiB..4GiB os=debian' --for 2h\n  sublet rent --cpu 2 --memory 1GiB --os debian --for 2h --name box\n  sublet rent --cpu 2 --count 8 --name box --wait 10m\n  sublet ssh box\n  sublet release box"
)]
pub struct Rent {
    #[command(flatten)]
    pub(super) needs: Needs,
    /// What to call the lease [default: made up]
    #[arg(long, value_parser = values::name)]
    name: Option<String>,
    /// Only say which partition it would be, what would be altered for it and what it would cost
    #[arg(long, conflicts_with_all = ["no_wait", "timeout", "wait"])]
    dry_run: bool,
    /// If nothing fits, wait so long until something does; whoever came first is served first
    #[arg(long, value_parser = values::seconds, value_name = "SPAN")]
    wait: Option<Seconds>,
    /// Pay so much further ahead than a quarter of an hour, so that the lease outlives a market that
    /// is out of reach for as long
    #[arg(long, value_parser = values::seconds, value_name = "SPAN")]
    outage_allowance: Option<Seconds>,
    /// End it once nobody has used it for so long: no session in it, no detached job that is not over
    #[arg(long, value_parser = values::seconds, value_name = "SPAN", conflicts_with = "dry_run")]
    idle_release: Option<Seconds>,
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
        let wish = Wish {
            name: self.name.clone(),
            wait: self.wait,
            outage_allowance: self.outage_allowance,
            ..Wish::default()
        };
        if self.dry_run {
            renting::foresee(market, &self.needs, wish, format).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let rented = renting::rent(market, &self.needs, wish).await?;
        let mut leases: Vec<LeaseView> = rented.into_iter().map(|rented| rented.lease).collect();
        if let Some(span) = self.idle_release {
            for lease in &leases {
                job::release_when_idle(market, &lease.name, span).await?;
            }
        }
        if !self.no_wait {
            let patience = Patience::new(self.timeout);
            tokio::select! {
                ready = all_ready(market, leases.clone(), patience) => leases = ready?,
                _ = tokio::signal::ctrl_c() => {
                    for LeaseView { name, .. } in leases {
                        say(format!("stopped waiting; the lease goes on: `sublet lease show {name}`, `sublet release {name}`"));
                    }
                    return Ok(ExitCode::from(130));
                }
            }
        }
        match leases.as_slice() {
            [lease] => print_lease(lease, format)?,
            several if format == Format::Json => output::json(&several)?,
            several => table(several)?,
        }
        if let [lease, ..] = leases.as_slice() {
            say_if_terminal(format!(
                "enter it with `sublet ssh {0}`, give it back with `sublet release {0}`",
                lease.name
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Waits for one after the other: they boot side by side.
async fn all_ready(market: &Market, leases: Vec<LeaseView>, patience: Patience) -> anyhow::Result<Vec<LeaseView>> {
    let mut ready = Vec::new();
    for lease in leases {
        let progress = Progress::start(format!("{}: granted", lease.name));
        ready.push(leasing::until_ready(market, lease, &progress, patience).await?);
    }
    Ok(ready)
}
