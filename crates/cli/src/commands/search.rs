//! `sublet search`

use super::nearest;
use super::needs::{Needs, say_assumed};
use crate::api::Market;
use crate::failure::Exit;
use crate::output::{self, Format, Rows};
use clap::Args;
use std::process::ExitCode;
use sublet_model::book::Looked;
use sublet_wire::api::{MatchView, NearestRequest, SearchAnswer, SearchRequest};

/// Find partitions that fit, and what they cost
///
/// Best first: the cheapest in all, then the most reliable host. Takes nothing. Where nothing
/// fits, it says what each reason left out, and exits with 6.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet search 'cpu>=2 memory>=1GiB os=debian price<=0.05/h'\n  sublet search --cpu 2 --memory 1GiB --os debian --price-at-most 0.05/h"
)]
pub struct Search {
    #[command(flatten)]
    pub(super) needs: Needs,
    /// Show at most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200), value_name = "N")]
    limit: u32,
    /// Say how they were found: what was looked at, and what not
    #[arg(long)]
    plan: bool,
}

impl Search {
    /// Prints the matches; exit 6 and the reasons where there is none.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<ExitCode> {
        let requirements = self.needs.requirements()?;
        let request = SearchRequest { requirements: requirements.clone(), limit: Some(self.limit), plan: self.plan };
        let answer = market.search(&request).await.map_err(|e| anyhow::Error::from(e).context("failed to search"))?;
        if format == Format::Json {
            output::json(&answer)?;
        } else {
            say_assumed(&answer.assumed);
            table(&answer.matches)?;
        }
        if let Some(plan) = &answer.plan {
            say_plan(plan);
        }
        if answer.matches.is_empty() {
            // A market that is older than this program has no answer to it.
            match market.nearest(&NearestRequest { requirements }).await {
                Ok(nearest) => nearest::lines(&nearest, &answer.unfit).iter().for_each(output::say),
                Err(_) => say_unfit(&answer),
            }
            return Ok(ExitCode::from(Exit::NoMatch as u8));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(matches: &[MatchView]) -> anyhow::Result<()> {
    let mut headings =
        vec!["host", "partition", "cpu", "memory", "disk", "vcpus", "tier", "image", "an hour", "in all"];
    // Few offers close: the column is there only where one does.
    let closes = matches.iter().any(|hit| hit.until.is_some());
    headings.extend(closes.then_some("open until"));
    let mut rows = Rows::new(&headings, "").right(&[2, 3, 4, 5, 8, 9]);
    for hit in matches {
        let mut cells = vec![
            hit.host.clone(),
            hit.partition_name.clone(),
            hit.resources.cpu.to_string(),
            hit.resources.memory.to_string(),
            hit.resources.disk.to_string(),
            hit.vcpus.to_string(),
            hit.tier.to_string(),
            hit.image.clone(),
            hit.hourly.to_string(),
            format!("{} for {}", hit.total, hit.term),
        ];
        cells.extend(closes.then(|| output::at(hit.until)));
        rows.row(cells);
    }
    rows.print()
}

fn say_plan(plan: &Looked) {
    let Looked { lent, parts, groups, classes, fitting, asked, admitted } = plan;
    output::say(format!("of {lent} partitions that are lent:"));
    output::say(format!("  {parts} parts of the book judged as a whole, {groups} of them looked into"));
    output::say(format!("  {fitting} partitions with columns that fit, of which {classes} kinds were asked about"));
    output::say(format!("  {asked} put to the rule of fit, {admitted} admitted"));
}

fn say_unfit(answer: &SearchAnswer) {
    if answer.unfit.is_empty() {
        output::say("nothing fits: nobody lends a partition at the moment");
        return;
    }
    output::say("nothing fits; left out were");
    for unfit in &answer.unfit {
        output::say(format!("  {}", output::unfit_line(unfit)));
    }
}
