//! One life of a partition on its host: a generation for one lease.
//!
//! ```text
//!  Begin            blobs verified,         guest answered,        stop wanted, end reached,
//! -------> Fetching ---------------> Booting -------------> Ready ---------------------> Stopping
//!             |      start recorded     |    ready recorded   |    meter stopped, recorded   |
//!             | no blob                 | no answer in time   | crashed, shut down           | stopped,
//!             +-------------------------+---------------------+----------> Stopping          | receipted,
//!                                                                                            v wiped
//!                                                                                          Gone
//! ```
//!
//! - **Fetching**: nothing was started; a restart of the agent goes on fetching.
//! - **Booting**: the start was recorded before it was tried. A restart of the agent adopts what
//!   runs, or starts it if nothing does: before ready nobody has used it.
//! - **Ready**: the meter runs from the recorded instant, whatever happens to the agent.
//! - **Stopping**: why, and the meter's end, are recorded; the machine is stopped, the last
//!   receipt written, its traces wiped. Every part of that may be repeated.
//! - **Gone**: said to the market until it asks no more.
//!
//! Each step of a life reads the recorded stage, does the one thing that is due, records, and is
//! asked again. Here is what is decided; `agent::worker` does it.

use crate::guard::record::{ExitCause, ExitRecord};
use crate::meter;
use crate::store::{Run, Stage};
use crate::vmm::Observed;
use sublet_model::lease::EndReason;
use sublet_model::units::Seconds;

/// How a life ends: why, in words, and where its meter stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why, where the host is the one who knows.
    pub reason: Option<EndReason>,
    /// In more words.
    pub detail: Option<String>,
    /// What the meter shows for good.
    pub metered: Seconds,
}

/// When and how somebody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look<'a> {
    /// Which start of the computer this is.
    pub boot_id: &'a str,
    /// CLOCK_MONOTONIC, in microseconds.
    pub mono_us: i64,
    /// CLOCK_BOOTTIME, in microseconds.
    pub boot_us: i64,
    /// Whether this agent saw it running before: then what it sees now has only just happened.
    pub watched: bool,
}

/// Whether what is seen of the machine ends the life, and how.
pub fn ending_of(run: &Run, observed: &Observed, look: Look<'_>) -> Option<Ending> {
    if run.boot_id.as_deref().is_some_and(|boot| boot != look.boot_id) {
        let words = "the computer restarted, and the partition went with it";
        return Some(kept(run, EndReason::HostRestarted, words.into()));
    }
    let crashed = if run.stage == Stage::Booting { EndReason::BootFailed } else { EndReason::GuestCrashed };
    match observed {
        Observed::Running { .. } => None,
        // Before ready it is simply to be started.
        Observed::NotRunning if run.stage == Stage::Booting => None,
        Observed::NotRunning => Some(seen(run, look, crashed, "no trace of its machine is left on the host".into())),
        Observed::Panicked => Some(seen(run, look, crashed, "the guest's kernel panicked".into())),
        Observed::ShutDown => {
            let reason = if run.stage == Stage::Booting { crashed } else { EndReason::GuestShutdown };
            Some(seen(run, look, reason, "the guest shut down or tried to restart".into()))
        }
        Observed::Exited(exit) => Some(exited(run, exit, look, crashed)),
    }
}

fn exited(run: &Run, exit: &ExitRecord, look: Look<'_>, crashed: EndReason) -> Ending {
    let said = exit.said.trim();
    let said = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
    let (reason, words) = match &exit.cause {
        ExitCause::Deadline if run.stage == Stage::Booting => (crashed, "it did not come up in time".to_string()),
        ExitCause::Deadline => (end_reason(run), "its time was over, and its guard stopped it".into()),
        ExitCause::Stopped => (EndReason::HostRestarted, "its machine was stopped on the host".into()),
        ExitCause::Exited { code } => (crashed, format!("its machine ended with code {code}{said}")),
        ExitCause::Signalled { signal } => (crashed, format!("its machine was killed by signal {signal}{said}")),
        ExitCause::Vanished => (crashed, "its machine and its guard are gone: somebody killed the guard".into()),
    };
    if exit.cause == ExitCause::Vanished {
        return seen(run, look, reason, words);
    }
    let metered = meter::final_seconds(run, look.boot_id, look.mono_us, Some(exit));
    Ending { reason: Some(reason), detail: Some(words), metered }
}

/// Ends at this moment, if somebody watched and did not stand still meanwhile; else at the last moment
/// that is known for certain.
fn seen(run: &Run, look: Look<'_>, reason: EndReason, words: String) -> Ending {
    if !look.watched {
        return kept(run, reason, words);
    }
    let metered = meter::last_seen_seconds(run, look.boot_id, look.mono_us);
    Ending { reason: Some(reason), detail: Some(words), metered }
}

fn kept(run: &Run, reason: EndReason, words: String) -> Ending {
    Ending { reason: Some(reason), detail: Some(words), metered: run.metered }
}

/// Why a life ends that used up its time.
fn end_reason(run: &Run) -> EndReason {
    if run.term <= run.paid { EndReason::Expired } else { EndReason::OutOfFunds }
}

/// The next instant, on CLOCK_BOOTTIME, at which a ready life ends by itself, and why.
pub fn due(run: &Run) -> Option<(i64, EndReason)> {
    let ready = run.ready_boot_us?;
    let end = (ready.saturating_add(run.limit().0.saturating_mul(1_000_000)), end_reason(run));
    let vanished = run.vanished_boot_us.filter(|_| run.wanted.one_shot);
    let left = vanished.map(|since| {
        let patience = run.wanted.release_after_disconnect.0.saturating_mul(1_000_000);
        (since.saturating_add(patience), EndReason::Released)
    });
    Some(left.filter(|(at, _)| *at < end.0).unwrap_or(end))
}

/// The ending of a life whose time, or whose client's, is over at this look.
pub fn ending_by_clock(run: &Run, look: Look<'_>) -> Option<Ending> {
    let (at, reason) = due(run)?;
    let detail = match reason {
        EndReason::Released => "the client went away and did not come back in time",
        EndReason::OutOfFunds => "what was paid for is used up",
        _ => "the term is over",
    };
    let metered = meter::seconds(run, look.boot_id, look.mono_us);
    (look.boot_us >= at).then(|| Ending { reason: Some(reason), detail: Some(detail.into()), metered })
}

#[cfg(test)]
mod tests;
