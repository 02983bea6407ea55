//! Questions to one lease's host, asked again where the way broke: an agent that is started anew is
//! away for a moment, its jobs are not.

use super::super::leasing;
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::output::say;
use crate::ssh::{self, Asked};
use anyhow::Context;
use serde::de::DeserializeOwned;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use sublet_wire::jobs::{JobRequest, JobView, Kept};

/// For how long a way that broke is tried again, counted from when it last stood.
const TRY_FOR: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);
/// No answer but output is longer.
const MOST_ANSWER_BYTES: usize = 16 << 20;

/// Where one lease's jobs are asked for.
pub struct Desk<'a> {
    market: &'a Market,
    lease: &'a str,
}

impl<'a> Desk<'a> {
    /// That of a lease.
    pub fn new(market: &'a Market, lease: &'a str) -> Self {
        Self { market, lease }
    }

    /// Asks for one job.
    pub async fn view(&self, request: JobRequest) -> anyhow::Result<JobView> {
        self.answer(request).await
    }

    /// Asks for several.
    pub async fn views(&self, request: JobRequest) -> anyhow::Result<Vec<JobView>> {
        self.answer(request).await
    }

    /// Asks for something that has no answer.
    pub async fn keep(&self, request: JobRequest) -> anyhow::Result<()> {
        self.answer::<Kept>(request).await.map(drop)
    }

    /// Asks for something.
    pub async fn answer<T: DeserializeOwned>(&self, request: JobRequest) -> anyhow::Result<T> {
        let mut stood = Instant::now();
        loop {
            let mut text = Vec::new();
            let take = |bytes: &[u8]| {
                text.extend_from_slice(bytes);
                if text.len() > MOST_ANSWER_BYTES {
                    Err(io::Error::other("the host's answer is too long"))
                } else {
                    Ok(())
                }
            };
            if self.once(&request, &mut stood, take).await? {
                return serde_json::from_slice(&text).context("failed to read the host's answer");
            }
        }
    }

    /// Copies what a job said to stdout, from where it broke off if it does.
    pub async fn logs(&self, job: String, tail: Option<u64>, follow: bool) -> anyhow::Result<()> {
        let show = self.view(JobRequest::Show { job: job.clone() }).await?;
        let output = show.output;
        let oldest = output.bytes - output.kept_bytes;
        let mut from = tail.map_or(0, |tail| output.bytes.saturating_sub(tail));
        if from < oldest && tail.is_none() {
            say(format!("{oldest} bytes that came before these are not kept any more"));
        }
        from = from.max(oldest);
        let job = show.number.to_string();
        let mut stood = Instant::now();
        loop {
            let request = JobRequest::Logs { job: job.clone(), from: Some(from), tail: None, follow };
            let take = |bytes: &[u8]| {
                from += bytes.len() as u64;
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            };
            if self.once(&request, &mut stood, take).await? {
                return Ok(());
            }
        }
    }

    /// Asks once. False: the way broke, and it may be asked again.
    async fn once(
        &self,
        request: &JobRequest,
        stood: &mut Instant,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> anyhow::Result<bool> {
        let (pass, key) = leasing::pass_of(self.market, self.lease).await?;
        let mut came = false;
        let taking = |bytes: &[u8]| {
            came = true;
            take(bytes)
        };
        match ssh::ask(&pass, &key, request, taking).await? {
            Asked::Done => Ok(true),
            Asked::Refused(255, words) => {
                let seen = leasing::reason_within(self.market, pass.lease, Duration::from_secs(3)).await;
                let failure = match seen.filter(|lease| !lease.state.is_wanted()) {
                    Some(lease) => leasing::ended(&lease),
                    None => Failure::new(Exit::Transport, words),
                };
                Err(failure.with_exit(Exit::Transport).into())
            }
            Asked::Refused(code, words) => Err(Failure::new(exit(code), words).into()),
            Asked::Broken(words) => {
                if came {
                    // It stood: patience begins anew.
                    *stood = Instant::now();
                }
                let seen = leasing::reason_within(self.market, pass.lease, Duration::from_secs(1)).await;
                if let Some(lease) = seen.filter(|lease| !lease.state.is_wanted()) {
                    return Err(leasing::ended(&lease).with_exit(Exit::Transport).into());
                }
                let denied = words.contains("Permission denied") || words.contains("the lease has ended");
                if denied || stood.elapsed() > TRY_FOR {
                    let broken = Failure::new(Exit::Transport, format!("the way to {} broke: {words}", self.lease));
                    return Err(broken
                        .advise(format!("`sublet lease show {}` says whether it still runs", self.lease))
                        .into());
                }
                tracing::info!(words, "asking again");
                tokio::time::sleep(PAUSE).await;
                Ok(false)
            }
        }
    }
}

fn exit(code: u8) -> Exit {
    match code {
        2 => Exit::Usage,
        3 => Exit::NotFound,
        5 => Exit::Conflict,
        _ => Exit::Failed,
    }
}
