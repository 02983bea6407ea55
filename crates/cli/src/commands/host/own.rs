//! `sublet host unlist`, `take-back` and `status`: the owner's word on the own computer.

use super::State;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Rows, facts, say_if_terminal};
use anyhow::Context;
use clap::Args;
use sublet_host::division::{PartitionStatus, Which, status, take_back, unlist};
use sublet_host::store::Store;
use sublet_model::partition::Profile;
use sublet_wire::sync::Division;

/// Lend partitions no more; leases that hold one go on to their end
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet host unlist small")]
pub struct Unlist {
    /// Names of partitions [default: all]
    partitions: Vec<String>,
    #[command(flatten)]
    state: State,
}

/// Take partitions back at once; leases that hold one are evicted
///
/// They are lent no more until `host lend` is said again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet host take-back small --now")]
pub struct TakeBack {
    /// Names of partitions [default: all]
    partitions: Vec<String>,
    /// Now, evicting whoever has one
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    state: State,
}

/// How this computer is divided, and what runs in it
///
/// Whether the agent runs or not.
#[derive(Debug, Args)]
pub struct StatusOf {
    #[command(flatten)]
    state: State,
}

fn which(names: Vec<String>) -> Which {
    if names.is_empty() { Which::All } else { Which::Named(names) }
}

impl Unlist {
    /// Says it to the store, where the agent hears of it.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        let store = self.state.joined()?;
        let division = unlist(&store, &which(self.partitions)).context("failed to unlist")?;
        print_division(&division, &store, format)
    }
}

impl TakeBack {
    /// Says it to the store, where the agent hears of it.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        if !self.now {
            let unsure = Failure::new(Exit::Usage, "taking back at once evicts whoever has the partition");
            return Err(unsure
                .advise("say --now if you mean it; `sublet host unlist` lets leases go on to their end")
                .into());
        }
        let store = self.state.joined()?;
        let division = take_back(&store, &which(self.partitions)).context("failed to take back")?;
        print_division(&division, &store, format)
    }
}

impl StatusOf {
    /// Prints it.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        let store = self.state.joined()?;
        let known = status(&store)?;
        if format == Format::Json {
            let partition = |p: &PartitionStatus| {
                serde_json::json!({
                    "declared": p.declared, "applied": p.applied,
                    "lease": p.run.as_ref().map(|run| run.wanted.lease),
                    "generation": p.run.as_ref().map(|run| run.generation),
                    "own": p.own.as_ref().map(super::mine::shown),
                })
            };
            return output::json(&serde_json::json!({
                "host": known.identity.as_ref().map(|i| i.host),
                "name": known.identity.as_ref().map(|i| &i.name),
                "market": known.identity.as_ref().map(|i| &i.market),
                "agent_runs": known.agent_runs,
                "division": known.division,
                "partitions": known.partitions.iter().map(partition).collect::<Vec<_>>(),
            }));
        }
        if let Some(identity) = &known.identity {
            facts(&[
                ("host", format!("{} ({})", identity.name, identity.host)),
                ("market", identity.market.clone()),
                (
                    "agent",
                    if known.agent_runs { "runs" } else { "does not run; start it with `sublet host run`" }.into(),
                ),
                ("kept", known.division.keep.to_string()),
            ])?;
        }
        table(&known.partitions)
    }
}

/// What was decided, with what is now known of each partition.
pub fn print_division(division: &Division, store: &Store, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(division);
    }
    let known = status(store)?;
    table(&known.partitions)?;
    if !known.agent_runs {
        say_if_terminal("the market hears of it when the agent runs: `sublet host run`");
    }
    Ok(())
}

fn table(partitions: &[PartitionStatus]) -> anyhow::Result<()> {
    let headings = ["partition", "lent", "bounds", "has", "lease"];
    let mut rows = Rows::new(&headings, "not divided yet; `sublet host lend` does");
    for partition in partitions {
        let declared = &partition.declared;
        let lent = match (&partition.own, declared.lendable, declared.taken_back) {
            (Some(_), ..) => "no, your own",
            (None, true, _) => "yes",
            (None, false, Some(_)) => "taken back",
            (None, false, None) => "no",
        };
        rows.row(vec![
            declared.name.clone(),
            lent.into(),
            bounds(&declared.profile),
            partition.applied.map_or("-".into(), |a| a.resources.to_string()),
            partition.run.as_ref().map_or("-".into(), |run| run.wanted.lease.to_string()),
        ]);
    }
    rows.print()
}

/// `0.5 to 2 cpu, 1GiB memory`.
pub fn bounds(profile: &Profile) -> String {
    let range = |min: String, max: String| if min == max { min } else { format!("{min}..{max}") };
    let (min, max) = (&profile.min, &profile.max);
    let mut text = format!(
        "{} cpu, {} memory",
        range(min.cpu.to_string(), max.cpu.to_string()),
        range(min.memory.to_string(), max.memory.to_string())
    );
    if max.disk.0 > 0 {
        text += &format!(", {} disk", range(min.disk.to_string(), max.disk.to_string()));
    }
    text
}
