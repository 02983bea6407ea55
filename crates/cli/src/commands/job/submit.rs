//! `sublet job submit`

use super::super::leasing;
use super::desk::Desk;
use super::place;
use super::show::Placed;
use crate::api::Market;
use crate::output::{self, Format, say, say_if_terminal};
use crate::transfer::{self, Transfer};
use crate::values;
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use sublet_model::units::Seconds;
use sublet_wire::jobs::{JobRequest, JobView, NewJob};

/// Start a job that goes on when you leave
///
/// Prints LEASE/NUMBER. The job has no input; stdout and stderr are kept together. It outlives this
/// program, the market and the host's agent, and ends with its lease.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet job submit box -- python3 train.py\n  sublet job submit 'box-*' --timeout 2h --retries 1 -- ./work.sh\n  sublet job submit box --env SEED=7 -- 'echo $SEED > /root/seed'\n  sublet job submit box --in . --out results -- make all"
)]
pub struct Submit {
    /// Names or ids of leases; box-* is every one that begins so [default: the one that runs]
    #[arg(value_parser = place::pattern, value_name = "LEASE")]
    leases: Vec<String>,
    /// What to call the job, beside its number
    #[arg(long)]
    name: Option<String>,
    /// A variable, NAME=VALUE; NAME alone passes this computer's on
    #[arg(short, long, value_parser = variable, value_name = "NAME=VALUE")]
    env: Vec<(String, String)>,
    /// The folder it begins in [default: the home folder, or one of its own with --in and --out]
    #[arg(long, value_name = "PATH")]
    cwd: Option<String>,
    /// Copy this folder's contents, or this file, into the job's folder first; only what differs goes
    #[arg(long = "in", value_name = "PATH")]
    from: Vec<PathBuf>,
    /// What it makes, below its folder; `sublet job fetch` brings it here
    #[arg(long, value_parser = below, value_name = "PATH")]
    out: Vec<String>,
    /// Keep all that it says in a file of the partition, too; `sublet job fetch` brings output.log here
    #[arg(long)]
    whole: bool,
    /// End it after so long; each try has as much
    #[arg(long, value_parser = values::seconds, value_name = "SPAN")]
    timeout: Option<Seconds>,
    /// Try it again so often if it ends badly
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    retries: u8,
    /// The command and its arguments, after --; a single word is a line for the shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The file of a job's whole output, below its folder.
const WHOLE: &str = "output.log";

/// A path below the job's folder.
pub fn below(text: &str) -> Result<String, String> {
    let bare = text.trim_end_matches('/');
    let fine = transfer::is_plain(bare) || bare == ".";
    if fine { Ok(bare.into()) } else { Err(format!("{text:?} is no path below the job's folder")) }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, std::env::var(text).map_err(|_| format!("there is no variable {text} here to pass on"))?),
    };
    if name.is_empty() { Err(format!("{text:?} names no variable")) } else { Ok((name.into(), value)) }
}

impl Submit {
    /// Submits to each; what could be submitted stays, whatever becomes of the others.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<ExitCode> {
        let leases = place::one_or_said(market, &self.leases).await?;
        let mut submitted: Vec<(String, JobView)> = Vec::new();
        let mut failed = None;
        for lease in leases {
            match self.submit(market, &lease).await {
                Ok(view) => submitted.push((lease, view)),
                Err(error) => {
                    say(format!("{lease}: not submitted"));
                    failed.get_or_insert(error);
                }
            }
        }
        let placed: Vec<Placed<'_>> = submitted.iter().map(|(lease, job)| Placed { lease, job }).collect();
        match format {
            Format::Json => output::json(&placed)?,
            Format::Table => placed.iter().try_for_each(|p| output::print(&format!("{}/{}", p.lease, p.job.number)))?,
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let [Placed { lease, job }] = placed.as_slice() {
            say_if_terminal(format!("follow it with `sublet job logs -f {lease}/{}`", job.number));
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn submit(&self, market: &Market, lease: &str) -> anyhow::Result<JobView> {
        let job = self.job();
        if self.is_apart() {
            let (pass, key) = leasing::pass_of(market, lease).await?;
            let (transfer, folder) = (Transfer::new(&pass, &key), job.cwd.as_deref().unwrap_or("."));
            transfer.make(folder).await?;
            for from in &self.from {
                transfer.copy_in(from, folder).await?;
            }
        }
        Desk::new(market, lease).view(JobRequest::Submit(job)).await
    }

    /// Whether it has files of its own.
    fn is_apart(&self) -> bool {
        self.whole || !self.from.is_empty() || !self.out.is_empty()
    }

    fn job(&self) -> NewJob {
        let key = uuid::Uuid::now_v7();
        let whole = self.whole.then(|| WHOLE.to_owned());
        // Its last part is random: two jobs do not meet.
        let own = || format!("jobs/{}", &key.simple().to_string()[20..]);
        NewJob {
            key: key.to_string(),
            name: self.name.clone(),
            command: self.command.clone(),
            env: self.env.iter().cloned().collect::<BTreeMap<_, _>>(),
            cwd: self.cwd.clone().or_else(|| self.is_apart().then(own)),
            out: self.out.iter().chain(&whole).cloned().collect(),
            whole,
            timeout_seconds: self.timeout,
            retries: self.retries,
        }
    }
}
