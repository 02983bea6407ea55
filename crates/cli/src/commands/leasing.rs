//! What `rent` and `run` share: the means to enter, the wait until it is ready, the bill.

use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::output::clean;
use crate::progress::Progress;
use crate::ssh::{ClientKey, Pass};
use std::time::{Duration, Instant};
use sublet_model::ids::LeaseId;
use sublet_model::lease::LeaseState;
use sublet_wire::api::{AccessRequest, LeaseView, StatementLine};
use sublet_wire::client::ClientError;

/// A lease with the means to enter it.
pub struct Rented {
    pub lease: LeaseView,
    pub pass: Pass,
    pub key: ClientKey,
}

/// The pass of a lease that is there, renewed where it is about to expire. Works on a kept one
/// while the market can't be reached.
pub async fn pass_of(market: &Market, which: &str) -> anyhow::Result<(Pass, ClientKey)> {
    let key = ClientKey::of(&market.folder)?;
    let kept = Pass::find(&market.folder, which);
    if let Some(pass) = kept.as_ref().filter(|p| p.is_fresh()) {
        return Ok((pass.clone(), key));
    }
    match renew(market, which, &key).await {
        Ok(pass) => Ok((pass, key)),
        Err(error) => match (kept.filter(Pass::is_valid), error.downcast_ref::<ClientError>()) {
            (Some(pass), Some(failed)) if failed.is_transient() => Ok((pass, key)),
            _ => Err(error.context(format!("failed to get access to {which}"))),
        },
    }
}

/// Asks for a certificate for our key.
pub async fn renew(market: &Market, which: &str, key: &ClientKey) -> anyhow::Result<Pass> {
    let lease = market.lease(which).await?;
    let request = AccessRequest { ssh_public_key: Some(key.public.clone()) };
    let access = market.access(&lease.id.to_string(), &request).await?;
    Pass::keep(market, key, &lease, &access)
}

/// Until when to wait.
#[derive(Debug, Clone, Copy)]
pub struct Patience(Option<(Instant, Duration)>);

impl Patience {
    /// From now on.
    pub fn new(most: Option<Duration>) -> Self {
        Self(most.map(|most| (Instant::now() + most, most)))
    }

    fn check(self, what: &str, lease: &LeaseView) -> anyhow::Result<()> {
        match self.0 {
            Some((until, most)) if Instant::now() >= until => {
                let late = Failure::new(
                    Exit::Timeout,
                    format!("{what} took longer than {}", humantime::format_duration(most)),
                );
                Err(late
                    .advise(format!("the lease goes on: `sublet lease show {0}`, `sublet release {0}`", lease.name))
                    .into())
            }
            _ => Ok(()),
        }
    }
}

/// Waits until the guest answers, or says why it never will.
pub async fn until_ready(
    market: &Market,
    lease: LeaseView,
    progress: &Progress,
    patience: Patience,
) -> anyhow::Result<LeaseView> {
    let lease = beyond_granted(market, lease, progress, patience).await?;
    match lease.state {
        LeaseState::Active { .. } => Ok(lease),
        _ => Err(ended(&lease).into()),
    }
}

/// Waits until a lease is anything but granted.
pub async fn beyond_granted(
    market: &Market,
    mut lease: LeaseView,
    progress: &Progress,
    patience: Patience,
) -> anyhow::Result<LeaseView> {
    loop {
        progress.lease(&lease);
        if !matches!(lease.state, LeaseState::Granted { .. }) {
            return Ok(lease);
        }
        lease = next(market, &lease, patience, "getting ready").await?;
    }
}

/// Waits a short while until the market knows that a lease ends, and so why.
pub async fn reason_within(market: &Market, lease: LeaseId, most: Duration) -> Option<LeaseView> {
    let mut seen = market.lease(&lease.to_string()).await.ok()?;
    let until = Instant::now() + most;
    while seen.state.is_wanted() && Instant::now() < until {
        match tokio::time::timeout_at(until.into(), market.lease_after(lease, seen.version)).await {
            Ok(Ok(next)) => seen = next,
            _ => break,
        }
    }
    Some(seen)
}

/// Waits until the host said *gone and wiped*.
pub async fn until_ended(
    market: &Market,
    mut lease: LeaseView,
    progress: &Progress,
    patience: Patience,
) -> anyhow::Result<LeaseView> {
    while lease.state.holds_slot() {
        progress.lease(&lease);
        if let LeaseState::Lost { .. } = lease.state {
            return Ok(lease);
        }
        lease = next(market, &lease, patience, "stopping").await?;
    }
    Ok(lease)
}

/// The next version of a lease; a market that is away for a moment is asked again.
async fn next(market: &Market, lease: &LeaseView, patience: Patience, what: &str) -> anyhow::Result<LeaseView> {
    loop {
        patience.check(what, lease)?;
        let call = market.lease_after(lease.id, lease.version);
        let answer = match patience.0 {
            Some((until, _)) => match tokio::time::timeout_at(until.into(), call).await {
                Ok(answer) => answer,
                Err(_) => continue,
            },
            None => call.await,
        };
        match answer {
            Err(error) if error.is_transient() => {
                tracing::info!(%error, "asking again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            answer => return Ok(answer?),
        }
    }
}

/// A lease that is over, as a failure: the typed reason, what the host said, what to do.
pub fn ended(lease: &LeaseView) -> Failure {
    let reason = lease.state.reason().map_or("ended", |reason| reason.word());
    let detail = lease.detail.as_ref().map(|d| format!(" ({})", clean(&short(d)))).unwrap_or_default();
    let failure = Failure::new(Exit::Failed, format!("the lease {} ended: {reason}{detail}", lease.name));
    match (&lease.explanation, lease.state.reason()) {
        (Some(words), _) => failure.advise(words.clone()),
        (None, Some(reason)) => failure.advise(reason.explanation()),
        _ => failure,
    }
}

/// The end of a console is long; `lease show` has all of it.
fn short(detail: &str) -> String {
    const MOST: usize = 160;
    let words: String = detail.chars().take(MOST).collect();
    if words.len() < detail.len() { format!("{words}…") } else { words }
}

/// A lease's line of the statement, with the currency.
pub async fn bill(market: &Market, lease: LeaseId) -> Option<(StatementLine, String)> {
    let statement = market.statement("client").await.ok()?;
    let line = statement.lines.into_iter().find(|line| line.lease == lease)?;
    Some((line, statement.currency))
}

/// `box: released after 37s, 0.000322 EUR (37 s at …)`.
pub fn summary(lease: &LeaseView, bill: Option<&(StatementLine, String)>) -> String {
    let reason = lease.state.reason().map_or("running", |reason| reason.word());
    match bill {
        Some((line, currency)) => {
            let so_far = if line.settled { "" } else { " so far" };
            let (seconds, total) = (line.charge.billed_seconds, line.charge.total);
            format!(
                "{}: {reason}, {seconds} on {}, {total} {currency}{so_far} ({})",
                lease.name, lease.host_name, line.arithmetic
            )
        }
        None => format!("{}: {reason}, {} on {}", lease.name, lease.seconds, lease.host_name),
    }
}
