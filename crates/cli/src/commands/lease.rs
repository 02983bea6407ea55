//! `sublet lease list|show|explain|verify`, `sublet extend`, `sublet release`

mod verify;

use super::job::below;
use super::leasing::{self, Patience};
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Rows, at, facts, span};
use crate::progress::{self, Progress};
use crate::transfer::Transfer;
use crate::values;
use anyhow::Context;
use clap::{Args, Subcommand};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::api::{LeaseView, Story, Timeline};

/// Look at leases
#[derive(Debug, Subcommand)]
pub enum Lease {
    /// Your leases; the running ones, or all
    #[command(visible_alias = "ls")]
    List {
        /// Those that ended too
        #[arg(long)]
        all: bool,
    },
    /// One lease: where it stands, what it costs, what happened when
    Show {
        /// Name or id of the lease
        #[arg(value_parser = values::reference)]
        lease: String,
    },
    /// The whole story of a lease, from what is stored: terms, steps, receipts, money, disputes
    Explain {
        /// Name or id of the lease
        #[arg(value_parser = values::reference)]
        lease: String,
    },
    /// Compare what was agreed with what the host says the machine is, and with what is seen inside
    ///
    /// The terms are checked against the market's signature; the host's figures are those of its
    /// monitor and its kernel at this moment; inside, your own session looks. Exit codes: 0 all of it
    /// agrees, 1 it does not.
    Verify {
        /// Name or id of the lease
        #[arg(value_parser = values::reference)]
        lease: String,
    },
}

/// Make a lease last longer
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet extend box 1h")]
pub struct Extend {
    /// Name or id of the lease
    #[arg(value_parser = values::reference)]
    lease: String,
    /// By how much, such as 1h
    #[arg(value_parser = values::seconds)]
    by: Seconds,
}

/// Give a lease back, and see the bill
///
/// Waits until the host says that it is stopped and wiped.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet release box")]
pub struct Release {
    /// Name or id of the lease
    #[arg(value_parser = values::reference)]
    lease: String,
    /// First bring this here: a path below the home folder there
    #[arg(long, value_parser = below, value_name = "PATH")]
    save: Vec<String>,
    /// Come back at once, while it still stops
    #[arg(long)]
    no_wait: bool,
    /// Wait no longer than this; it goes on stopping all the same
    #[arg(long, value_parser = values::patience, value_name = "SPAN", default_value = "2m", conflicts_with = "no_wait")]
    timeout: Duration,
}

impl Lease {
    /// Prints what was asked for.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { all } => {
                let leases = market.leases(all).await.context("failed to list leases")?;
                if format == Format::Json {
                    output::json(&leases)?;
                } else {
                    table(&leases)?;
                }
            }
            Self::Show { lease } => {
                let lease = market.lease(&lease).await.with_context(|| format!("failed to show {lease}"))?;
                print_lease(&lease, format)?;
            }
            Self::Explain { lease } => {
                let story = market.story(&lease).await.with_context(|| format!("failed to explain {lease}"))?;
                if format == Format::Json { output::json(&story)? } else { tell(&story)? }
            }
            Self::Verify { lease } => return verify::verify(market, &lease, format).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Extend {
    /// Prints the lease with its new term.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let extend = sublet_wire::api::Extend { by: self.by };
        let lease =
            market.extend(&self.lease, &extend).await.with_context(|| format!("failed to extend {}", self.lease))?;
        print_lease(&lease, format)
    }
}

impl Release {
    /// Prints the bill.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<ExitCode> {
        if !self.save.is_empty() {
            let (pass, key) = leasing::pass_of(market, &self.lease).await?;
            for path in &self.save {
                let saved = Transfer::new(&pass, &key).copy_out(".", path, Path::new(".")).await;
                saved.with_context(|| format!("{} was not released, for {path} could not be saved", self.lease))?;
            }
        }
        let attempt = || format!("failed to release {}", self.lease);
        let mut lease = market.release(&self.lease).await.with_context(attempt)?;
        if !self.no_wait {
            let progress = Progress::start(format!("{}: stopping and wiping", lease.name));
            lease = leasing::until_ended(market, lease, &progress, Patience::new(Some(self.timeout))).await?;
        }
        if format == Format::Json {
            output::json(&lease)?;
        } else if lease.state.holds_slot() {
            output::print(&format!("{}: {}", lease.name, progress::step(&lease)))?;
        } else {
            let bill = leasing::bill(market, lease.id).await;
            output::print(&output::clean(&leasing::summary(&lease, bill.as_ref())))?;
        }
        if !self.no_wait && lease.state.holds_slot() {
            let lost = Failure::new(Exit::Failed, format!("the host of {} is not heard of", lease.name));
            return Err(lost.advise("you pay no more than the last receipt says; `sublet statement` shows it").into());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Leases, a line each.
pub fn table(leases: &[LeaseView]) -> anyhow::Result<()> {
    let headings = ["name", "state", "host", "image", "cpu", "memory", "used", "cost", "ends", "id"];
    let mut rows = Rows::new(&headings, "no leases; `sublet rent` makes one").right(&[4, 5, 6, 7]);
    for lease in leases {
        let state = lease.state.reason().map_or_else(
            || progress::step(lease),
            |r| {
                let ended = if lease.state.holds_slot() { "stopping" } else { "ended" };
                format!("{ended}: {r}")
            },
        );
        rows.row(vec![
            lease.name.clone(),
            state,
            lease.host_name.clone(),
            lease.image.clone(),
            lease.resources.cpu.to_string(),
            lease.resources.memory.to_string(),
            lease.seconds.to_string(),
            lease.cost_so_far.to_string(),
            at(lease.ends_at),
            lease.id.to_string(),
        ]);
    }
    rows.print()
}

/// One lease with its timeline.
pub fn print_lease(lease: &LeaseView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(lease);
    }
    let mut all = vec![("lease", lease.id.to_string()), ("name", lease.name.clone()), ("state", progress::step(lease))];
    if let Some(reason) = lease.state.reason() {
        all.push(("reason", reason.to_string()));
    }
    all.extend(lease.detail.clone().map(|detail| ("detail", detail)));
    all.extend(lease.explanation.clone().map(|words| ("in words", words)));
    let holds = lease.state.holds_slot();
    let locked = if holds { "; locked while leased" } else { "" };
    all.extend([
        ("partition", format!("{} of {} (generation {})", lease.partition_name, lease.host_name, lease.generation)),
        ("allocation", format!("{}, {} vcpus{locked}", lease.resources, lease.vcpus)),
        ("image", lease.image.clone()),
        ("price", lease.hourly.to_string()),
        ("term", format!("{} from ready", lease.term)),
        ("used", format!("{}, {}", lease.seconds, lease.cost_so_far)),
    ]);
    if let Some(held) = lease.held {
        all.push(("paid", format!("for {} so far, {held} held", lease.paid)));
    }
    all.extend(lease.funds_warning.clone().map(|words| ("warning", words)));
    if holds {
        all.push(("ends", at(lease.ends_at)));
    }
    facts(&all)?;
    timeline(&lease.timeline)
}

/// A line an event, oldest first.
fn tell(story: &Story) -> anyhow::Result<()> {
    let mut rows = Rows::new(&["at", "what", "in words"], "nothing is known of it");
    for event in &story.events {
        rows.row(vec![exact(event.at), event.what.clone(), event.words.clone()]);
    }
    rows.print()
}

/// What happened when, and how long each step took.
fn timeline(timeline: &Timeline) -> anyhow::Result<()> {
    let lines = timeline_lines(timeline);
    if !lines.is_empty() {
        output::print(&format!("timeline:\n{}", lines.join("\n")))?;
    }
    Ok(())
}

fn timeline_lines(timeline: &Timeline) -> Vec<String> {
    let t = timeline;
    let steps = [
        ("granted", t.granted_at),
        ("fetched", t.fetched_at),
        ("booted", t.booted_at),
        ("ready", t.ready_at),
        ("first contact", t.contact_at),
        ("stopped", t.stopped_at),
        ("ended", t.ended_at),
    ];
    let mut happened: Vec<(&str, Timestamp)> =
        steps.into_iter().filter_map(|(name, at)| at.map(|at| (name, at))).collect();
    // A contact may be heard of late: the order is that of the clock.
    happened.sort_by_key(|(_, at)| *at);
    let mut before = None;
    let line = |(name, at): (&str, Timestamp)| {
        let since = before.replace(at).map_or(String::new(), |b: Timestamp| format!("  +{}", span(at.0 - b.0)));
        let how = t.started.as_ref().filter(|_| name == "booted").map_or(String::new(), |how| format!("  {how}"));
        format!("  {name:14} {}{since}{how}", exact(at))
    };
    happened.into_iter().map(line).collect()
}

/// With milliseconds, for steps are shorter than a second.
fn exact(at: Timestamp) -> String {
    let whole = at.to_string();
    let millis = at.0.rem_euclid(1_000_000) / 1000;
    whole.strip_suffix('Z').map_or(whole.clone(), |bare| format!("{bare}.{millis:03}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_shows_how_long_each_step_took() {
        let at = |millis: i64| Some(Timestamp(millis * 1000));
        let timeline =
            Timeline { granted_at: at(1000), booted_at: at(1094), ready_at: at(3500), ..Timeline::default() };
        assert_eq!(
            timeline_lines(&timeline),
            [
                "  granted        1970-01-01T00:00:01.000Z",
                "  booted         1970-01-01T00:00:01.094Z  +0.094s",
                "  ready          1970-01-01T00:00:03.500Z  +2.406s",
            ]
        );
    }
}
