//! What goes up to the market, and the checks of what comes down that concern it as a whole.
//! What the plan wants of each partition is judged by [`crate::reconcile`].

use crate::meter;
use crate::store::{Gone, Run, Stage, Store, StoreError};
use std::collections::BTreeMap;
use sublet_model::host::Inventory;
use sublet_model::ids::{LeaseId, PartitionId};
use sublet_model::lease::EndReason;
use sublet_model::partition::{Allocation, Phase};
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::sync::{Acknowledged, MOST_LIVES, MOST_PARTITIONS, MOST_RECEIPTS, Observed, SyncAnswer, SyncRequest};

/// No detail that is sent is longer.
pub const LONGEST_DETAIL: usize = 2000;
/// No word on how a machine was started is longer.
const LONGEST_START: usize = 200;
/// No warning of the market is shown longer.
const LONGEST_WARNING: usize = 500;
/// The most keys that may sign client certificates at a time.
const MOST_CAS: usize = 16;

/// What only the running agent knows.
#[derive(Debug)]
pub struct Live<'a> {
    /// What the computer has.
    pub inventory: &'a Inventory,
    /// Where clients dial.
    pub dial: &'a str,
    /// Which start of the computer this is.
    pub boot_id: &'a str,
    /// CLOCK_MONOTONIC, in microseconds.
    pub mono_us: i64,
    /// The host's wall clock.
    pub wall_clock: Timestamp,
    /// Why a wish of the market was refused.
    pub refusals: &'a BTreeMap<PartitionId, String>,
    /// The plan that is known.
    pub plan_version: u64,
    /// Whether all that the market may have forgotten was told in this session, taken in or not.
    pub caught_up: bool,
}

/// Everything the host sees. `fetched` tells how many bytes of a run's image are here, of how many.
pub fn request(
    store: &Store,
    live: &Live<'_>,
    fetched: impl Fn(&Run) -> (u64, u64),
) -> Result<SyncRequest, StoreError> {
    let (applied, gone, runs) = (store.applied()?, store.gone()?, store.live_runs()?);
    let observed = applied.into_iter().map(|(partition, applied)| {
        let run = runs.iter().find(|r| r.partition == partition && r.generation == applied.generation);
        let refusal = live.refusals.get(&partition);
        match run {
            Some(run) => of_run(run, applied, live, refusal, &fetched),
            None => at_rest(partition, applied, gone.get(&partition), refusal),
        }
    });
    Ok(SyncRequest {
        wall_clock: live.wall_clock,
        inventory: live.inventory.clone(),
        dial: live.dial.into(),
        division: store.division()?,
        observed: observed.collect(),
        receipts: store.unacknowledged(MOST_RECEIPTS)?,
        plan_version: live.plan_version,
        lives: store.untold(MOST_LIVES)?,
        catching_up: !live.caught_up && store.is_behind()?,
        keys: store.newest_market_key()?.map(|record| record.digest()),
    })
}

fn of_run(
    run: &Run,
    applied: Allocation,
    live: &Live<'_>,
    refusal: Option<&String>,
    fetched: impl Fn(&Run) -> (u64, u64),
) -> Observed {
    let phase = match run.stage {
        Stage::Fetching => {
            let (done, total) = fetched(run);
            Phase::Fetching { done, total }
        }
        Stage::Booting => Phase::Booting,
        Stage::Ready => Phase::Ready,
        // Where the market wants it stopped it knows why, and its first reason stands.
        Stage::Stopping | Stage::Gone => Phase::Stopping { reason: run.reason.unwrap_or(EndReason::Released) },
    };
    let seconds = if run.stage == Stage::Ready { meter::seconds(run, live.boot_id, live.mono_us) } else { run.metered };
    Observed {
        partition: run.partition,
        applied,
        lease: Some(run.lease()),
        phase,
        seconds,
        first_contact: run.contacted,
        started: run.started.as_ref().map(|how| plain(how, LONGEST_START)),
        detail: run.detail.as_ref().or(refusal).map(|d| plain(d, LONGEST_DETAIL)),
    }
}

fn at_rest(partition: PartitionId, applied: Allocation, gone: Option<&Gone>, refusal: Option<&String>) -> Observed {
    let gone = gone.filter(|g| g.generation >= applied.generation);
    let phase = gone.map_or(Phase::Idle, |g| Phase::Gone { reason: g.reason });
    let detail = gone.and_then(|g| g.detail.as_ref()).or(refusal).map(|d| plain(d, LONGEST_DETAIL));
    Observed {
        partition,
        applied,
        lease: None,
        phase,
        seconds: Seconds::ZERO,
        first_contact: false,
        detail,
        started: None,
    }
}

/// A text from elsewhere, without control characters and not too long: the end of it is kept.
pub fn plain(text: &str, longest: usize) -> String {
    let shown = |c: char| if c == '\n' || !c.is_control() { c } else { '·' };
    let all: Vec<char> = text.chars().map(shown).collect();
    let bytes = |chars: &[char]| chars.iter().map(|c| c.len_utf8()).sum::<usize>();
    let mut from = 0;
    while bytes(&all[from..]) > longest {
        from += (bytes(&all[from..]) - longest).div_ceil(4);
    }
    all[from..].iter().collect()
}

/// Keeps what the market has taken in. Answers whether any of it was news.
pub fn keep(store: &Store, acknowledged: &[Acknowledged], told: &[LeaseId]) -> Result<bool, StoreError> {
    if !told.is_empty() {
        store.told(told)?;
    }
    if acknowledged.is_empty() {
        return Ok(!told.is_empty());
    }
    let news = store.acknowledge(acknowledged)?;
    store.prune()?;
    Ok(!told.is_empty() || news > 0)
}

/// Why an answer can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the market's answer is refused: {0}")]
pub struct Refused(String);

/// Checks an answer as a whole; cuts what is only for people to a readable length.
pub fn check(answer: &mut SyncAnswer) -> Result<(), Refused> {
    let planned = answer.plan.as_ref().map_or(0, Vec::len);
    if planned > MOST_PARTITIONS {
        return Err(Refused(format!("a plan of {planned} partitions, {MOST_PARTITIONS} are the most")));
    }
    if answer.ssh_ca.len() > MOST_CAS {
        return Err(Refused(format!("{} SSH authorities, {MOST_CAS} are the most", answer.ssh_ca.len())));
    }
    for key in &answer.ssh_ca {
        ssh_key::PublicKey::from_openssh(key).map_err(|_| Refused("an SSH authority that is no key".into()))?;
    }
    answer.warnings.truncate(20);
    answer.warnings = answer.warnings.iter().map(|w| plain(w, LONGEST_WARNING)).collect();
    answer.division_refused = answer.division_refused.as_ref().map(|w| plain(w, LONGEST_WARNING));
    Ok(())
}

#[cfg(test)]
mod tests;
