//! Which job, of which lease.

use super::desk::Desk;
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::ssh::Pass;
use crate::values;
use std::str::FromStr;
use sublet_wire::jobs::JobRequest;

/// `box/3`, `box/train`, or `box` for its newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPlace {
    /// Name or id of the lease.
    pub lease: String,
    job: Option<String>,
}

impl FromStr for JobPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (lease, job) = text.split_once('/').map_or((text, None), |(lease, job)| (lease, Some(job)));
        let fine = |job: &str| !job.is_empty() && job.len() <= 80 && job.chars().all(|c| c.is_ascii_graphic());
        match job {
            Some(job) if !fine(job) => Err(format!("{text:?} is no job: LEASE/NUMBER or LEASE/NAME")),
            job => Ok(Self { lease: values::reference(lease)?, job: job.map(Into::into) }),
        }
    }
}

impl JobPlace {
    /// The word by which the host knows it.
    pub async fn job(&self, market: &Market) -> anyhow::Result<String> {
        if let Some(job) = &self.job {
            return Ok(job.clone());
        }
        let all = Desk::new(market, &self.lease).views(JobRequest::List).await?;
        let newest = all.iter().map(|job| job.number).max();
        let none = || {
            Failure::new(Exit::NotFound, format!("no job was submitted to {}", self.lease))
                .advise(format!("sublet job submit {} -- COMMAND", self.lease))
        };
        Ok(newest.ok_or_else(none)?.to_string())
    }
}

/// A lease, or the beginning of several leases' names.
pub fn pattern(text: &str) -> Result<String, String> {
    match text.strip_suffix('*') {
        Some("") => Ok(text.into()),
        Some(beginning) => values::reference(beginning).map(|_| text.into()),
        None => values::reference(text),
    }
}

/// The leases that are meant: all that run, if nothing is said. Without the market, those whose passes
/// are still good.
pub async fn leases(market: &Market, patterns: &[String]) -> anyhow::Result<Vec<String>> {
    if !patterns.is_empty() && patterns.iter().all(|pattern| !pattern.ends_with('*')) {
        return Ok(patterns.to_vec());
    }
    let mut running: Vec<String> = match market.leases(false).await {
        Ok(leases) => leases.into_iter().filter(|lease| lease.state.is_wanted()).map(|lease| lease.name).collect(),
        Err(error) if error.is_transient() => Pass::valid(&market.folder).into_iter().map(|pass| pass.name).collect(),
        Err(error) => return Err(error.into()),
    };
    running.sort_by_key(|name| (name.len(), name.clone()));
    if patterns.is_empty() {
        return Ok(running);
    }
    let mut meant = Vec::new();
    for pattern in patterns {
        let found: Vec<String> = match pattern.strip_suffix('*') {
            Some(beginning) => running.iter().filter(|name| name.starts_with(beginning)).cloned().collect(),
            None => vec![pattern.clone()],
        };
        if found.is_empty() {
            return Err(Failure::new(Exit::NotFound, format!("no lease of yours that runs is called {pattern}")).into());
        }
        meant.extend(found.into_iter().filter(|name| !meant.contains(name)).collect::<Vec<_>>());
    }
    Ok(meant)
}

/// The same where it must be clear which: nothing said means the only one.
pub async fn one_or_said(market: &Market, patterns: &[String]) -> anyhow::Result<Vec<String>> {
    let meant = leases(market, patterns).await?;
    match (patterns, meant.as_slice()) {
        ([], []) => {
            Err(Failure::new(Exit::NotFound, "no lease of yours runs").advise("rent one with `sublet rent`").into())
        }
        ([], [_, _, ..]) => {
            let several = Failure::new(Exit::Usage, format!("several of your leases run: {}", meant.join(", ")));
            Err(several.advise("say which, before the --; '*' is each of them").into())
        }
        _ => Ok(meant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_by_its_lease() {
        let place = |lease: &str, job: Option<&str>| JobPlace { lease: lease.into(), job: job.map(Into::into) };
        for (text, expected) in [
            ("box/3", Some(place("box", Some("3")))),
            ("box/train.a", Some(place("box", Some("train.a")))),
            ("box", Some(place("box", None))),
            ("box/", None),
            ("/3", None),
            ("a b/3", None),
            ("box/a b", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_pattern_is_the_beginning_of_a_name() {
        for (text, fine) in [("box", true), ("box-*", true), ("*", true), ("b*x", false), ("../*", false)] {
            assert_eq!(pattern(text).is_ok(), fine, "{text}");
        }
    }
}
