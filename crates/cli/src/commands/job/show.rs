//! How jobs are shown.

use crate::output::{self, Format, Rows, at, facts};
use serde::Serialize;
use sublet_model::job::{JobState, Outcome, StopCause};
use sublet_wire::jobs::JobView;

/// A job with its lease.
#[derive(Debug, Serialize)]
pub struct Placed<'a> {
    /// Of which lease.
    pub lease: &'a str,
    /// The job.
    #[serde(flatten)]
    pub job: &'a JobView,
}

/// Where it stands, in words.
pub fn words(job: &JobView) -> String {
    match job.state {
        JobState::Ended { outcome: Outcome::Exited { code } } => format!("exited {code}"),
        JobState::Ended { outcome: Outcome::Signalled { signal } } => format!("killed by signal {signal}"),
        JobState::Stopping { why: StopCause::Cancelled } => "stopping: cancelled".into(),
        JobState::Stopping { why: StopCause::TimedOut } => "stopping: its time is over".into(),
        state => state.word().into(),
    }
}

/// A table, or what programs read.
pub fn all(jobs: &[Placed<'_>], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&jobs);
    }
    let headings = ["job", "name", "state", "try", "submitted", "output", "command"];
    let mut rows = Rows::new(&headings, "no jobs: `sublet job submit LEASE -- COMMAND` starts one");
    for Placed { lease, job } in jobs {
        rows.row(vec![
            format!("{lease}/{}", job.number),
            job.name.clone().unwrap_or_else(|| "-".into()),
            words(job),
            format!("{}/{}", job.attempt, job.attempts),
            job.submitted_at.to_string(),
            indicatif::HumanBytes(job.output.bytes).to_string(),
            short(job),
        ]);
    }
    rows.print()
}

/// One of them, with everything.
pub fn one(lease: &str, job: &JobView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&Placed { lease, job });
    }
    let out = job.output;
    let mut said = format!("{} bytes, the last {} kept", out.bytes, out.kept_bytes);
    if out.missed_bytes > 0 {
        said += &format!(", {} missed while the host's agent was away", out.missed_bytes);
    }
    let mut lines = vec![
        ("job", format!("{lease}/{}", job.number)),
        ("state", words(job)),
        ("try", format!("{} of {}", job.attempt, job.attempts)),
        ("command", crate::ssh::shell_line(&job.command)),
        ("submitted", job.submitted_at.to_string()),
        ("started", at(job.started_at)),
        ("ended", at(job.ended_at)),
        ("output", said),
    ];
    if let Some(name) = &job.name {
        lines.insert(1, ("name", name.clone()));
    }
    if let Some(detail) = &job.detail {
        lines.push(("detail", detail.clone()));
    }
    if let Some(timeout) = job.timeout_seconds {
        lines.push(("timeout", timeout.to_string()));
    }
    facts(&lines)
}

fn short(job: &JobView) -> String {
    const MOST: usize = 48;
    let line = crate::ssh::shell_line(&job.command);
    let cut: String = line.chars().take(MOST).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { line }
}
