//! `sublet job submit|list|show|logs|wait|cancel`
//!
//! Jobs live on the host and in the guest; all of this goes over the lease's own SSH door and works
//! while the market is away.

mod desk;
mod place;
mod show;
mod submit;

use super::leasing;
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::transfer::Transfer;
use anyhow::Context;
use clap::{Args, Subcommand};
pub use desk::Desk;
use place::JobPlace;
use show::Placed;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use sublet_model::job::JobState;
use sublet_model::units::Seconds;
use sublet_wire::jobs::{JobRequest, JobView};
pub use submit::below;

/// How long a lease that was just granted may be unknown to its host, and how often that is asked.
const DOOR: Duration = Duration::from_secs(15);
const DOOR_PAUSE: Duration = Duration::from_millis(500);

/// Run jobs that go on when you leave
///
/// A job is named LEASE/NUMBER or LEASE/NAME; LEASE alone is its newest. The host keeps the last MiB of
/// what it says, and all of this works while the market is down.
#[derive(Debug, Subcommand)]
pub enum Job {
    Submit(submit::Submit),
    /// The jobs of your leases, or of these
    #[command(visible_alias = "ls")]
    List {
        /// Names or ids of leases; box-* is every one that begins so [default: all that run]
        #[arg(value_parser = place::pattern, value_name = "LEASE")]
        leases: Vec<String>,
    },
    /// One job: where it stands, and how much it has said
    Show {
        /// Which
        #[arg(value_name = "LEASE/JOB")]
        job: JobPlace,
    },
    Logs(Logs),
    Wait(Wait),
    Fetch(Fetch),
    /// End jobs: TERM, and KILL ten seconds later
    Cancel {
        /// Which
        #[arg(value_name = "LEASE/JOB", required = true)]
        jobs: Vec<JobPlace>,
    },
}

/// What a job said, stdout and stderr as they came
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet job logs box/1\n  sublet job logs -f box/train\n  sublet job logs box --tail 4000"
)]
pub struct Logs {
    /// Which
    #[arg(value_name = "LEASE/JOB")]
    job: JobPlace,
    /// Go on until it is over
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many bytes
    #[arg(long, value_name = "BYTES")]
    tail: Option<u64>,
}

/// Bring here what a job made: its --out paths, or these
///
/// Only what differs is copied, what broke off goes on where it did, and digests are compared. Works
/// while the job runs, too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sublet job fetch box/1\n  sublet job fetch box/1 --to out results/model.bin")]
pub struct Fetch {
    /// Which
    #[arg(value_name = "LEASE/JOB")]
    job: JobPlace,
    /// Below the job's folder [default: what was given as --out]
    #[arg(value_parser = submit::below, value_name = "PATH")]
    paths: Vec<String>,
    /// Whereto
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    to: PathBuf,
}

/// Wait until jobs are over; the exit status is theirs
///
/// That of the job (128 and more for a signal); 124 if its time was over, 125 if it was lost, 127 if it
/// could not be started, 130 if it was cancelled. Of several the first that is not 0.
#[derive(Debug, Args)]
pub struct Wait {
    /// Which
    #[arg(value_name = "LEASE/JOB", required = true)]
    jobs: Vec<JobPlace>,
}

impl Job {
    /// Runs it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<ExitCode> {
        crate::ssh::available()?;
        match self {
            Self::Submit(submit) => return submit.run(market, format).await,
            Self::List { leases } => list(market, &leases, format).await?,
            Self::Show { job } => {
                let which = job.job(market).await?;
                let view = Desk::new(market, &job.lease).view(JobRequest::Show { job: which }).await?;
                show::one(&job.lease, &view, format)?;
            }
            Self::Logs(Logs { job, follow, tail }) => {
                let which = job.job(market).await?;
                Desk::new(market, &job.lease).logs(which, tail, follow).await?;
            }
            Self::Wait(wait) => return wait.run(market, format).await,
            Self::Fetch(fetch) => fetch.run(market).await?,
            Self::Cancel { jobs } => {
                for place in jobs {
                    let job = place.job(market).await?;
                    let view = Desk::new(market, &place.lease).view(JobRequest::Cancel { job }).await?;
                    output::say(format!("{}/{}: {}", place.lease, view.number, show::words(&view)));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Has a lease end once nobody has used it for so long. One that was just granted will do: its host may
/// hear of it a moment after we do.
pub async fn release_when_idle(market: &Market, lease: &str, span: Seconds) -> anyhow::Result<()> {
    let until = Instant::now() + DOOR;
    let kept = loop {
        let kept = Desk::new(market, lease).keep(JobRequest::IdleRelease { seconds: Some(span) }).await;
        let denied = kept.as_ref().is_err_and(|error| format!("{error:#}").contains("Permission denied"));
        let wanted = || async { market.lease(lease).await.is_ok_and(|lease| lease.state.is_wanted()) };
        if !denied || Instant::now() > until || !wanted().await {
            break kept;
        }
        tokio::time::sleep(DOOR_PAUSE).await;
    };
    kept.with_context(|| format!("{lease} is rented, but its host was not told to end it when it is idle"))
}

/// Leases that can't be asked are said, and the others are shown.
async fn list(market: &Market, patterns: &[String], format: Format) -> anyhow::Result<()> {
    let mut found: Vec<(String, Vec<JobView>)> = Vec::new();
    let mut failed = None;
    for lease in place::leases(market, patterns).await? {
        match Desk::new(market, &lease).views(JobRequest::List).await {
            Ok(jobs) => found.push((lease, jobs)),
            Err(error) => {
                output::say(format!("{lease}: its jobs can't be asked for"));
                failed.get_or_insert(error);
            }
        }
    }
    let placed = found.iter().flat_map(|(lease, jobs)| jobs.iter().map(move |job| Placed { lease, job }));
    show::all(&placed.collect::<Vec<_>>(), format)?;
    failed.map_or(Ok(()), Err)
}

impl Fetch {
    async fn run(self, market: &Market) -> anyhow::Result<()> {
        let job = self.job.job(market).await?;
        let view = Desk::new(market, &self.job.lease).view(JobRequest::Show { job }).await?;
        let paths = if self.paths.is_empty() { &view.out } else { &self.paths };
        if paths.is_empty() {
            let none = Failure::new(Exit::Usage, "nothing is to be fetched of this job");
            return Err(none.advise("say which paths, or submit it with --out").into());
        }
        let (pass, key) = leasing::pass_of(market, &self.job.lease).await?;
        for path in paths {
            Transfer::new(&pass, &key).copy_out(view.cwd.as_deref().unwrap_or("."), path, &self.to).await?;
            output::say_if_terminal(format!("{path} is here: {}", self.to.join(path).display()));
        }
        Ok(())
    }
}

impl Wait {
    async fn run(self, market: &Market, format: Format) -> anyhow::Result<ExitCode> {
        let waits = self.jobs.iter().map(|place| async move {
            let job = place.job(market).await?;
            let view = Desk::new(market, &place.lease).view(JobRequest::Wait { job }).await?;
            anyhow::Ok((place.lease.clone(), view))
        });
        let over = futures_util::future::try_join_all(waits).await?;
        let placed: Vec<Placed<'_>> = over.iter().map(|(lease, job)| Placed { lease, job }).collect();
        match format {
            Format::Json => output::json(&placed)?,
            Format::Table => {
                placed.iter().for_each(|p| {
                    output::say_if_terminal(format!("{}/{}: {}", p.lease, p.job.number, show::words(p.job)))
                });
            }
        }
        let statuses = over.iter().filter_map(|(_, job)| match job.state {
            JobState::Ended { outcome } => Some(outcome.exit_status()),
            _ => None,
        });
        Ok(ExitCode::from(statuses.into_iter().find(|status| *status != 0).unwrap_or(0)))
    }
}
