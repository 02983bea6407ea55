//! How long a lease was used, in whole seconds: from ready to the stop, by a clock that stands
//! still while the computer sleeps. Never more than the lease may run, never less than was said
//! before. Where nobody saw the end, the last durable progress is all that counts.

use crate::guard::record::{Boottime, ExitRecord};
use crate::store::Run;
use sublet_model::units::Seconds;

/// How often the meters of running leases are kept durably: the most that a power cut costs the owner.
pub const KEPT_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
/// How often a running lease's use is receipted.
pub const RECEIPT_EVERY: Seconds = Seconds(15);
/// With so many receipts waiting for the market, the next ones are made rarely.
const MANY_WAITING: u64 = 40;
/// How rarely then.
const RECEIPT_SELDOM: Seconds = Seconds(900);

/// This instant, on the clocks that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_MONOTONIC, in microseconds.
    pub mono_us: i64,
    /// CLOCK_BOOTTIME, in microseconds.
    pub boot_us: i64,
}

impl Now {
    /// This very instant.
    pub fn read() -> Self {
        Self { mono_us: crate::guard::record::monotonic_micros(), boot_us: Boottime::now().0 }
    }
}

/// What the meter of `run` shows at `now`, which is an instant of the boot `boot_id`.
pub fn seconds(run: &Run, boot_id: &str, mono_us: i64) -> Seconds {
    let Some(ready) = run.ready_mono_us.filter(|_| run.boot_id.as_deref() == Some(boot_id)) else {
        // Not ready yet, or the clock of an earlier boot: nothing more is known than what was kept.
        return run.metered;
    };
    let whole = Seconds(mono_us.saturating_sub(ready).div_euclid(1_000_000));
    whole.clamp(run.metered, run.limit().max(run.metered))
}

/// The same where nobody saw for certain that it ran until `mono_us`: not much more than was kept. An agent
/// that is awake keeps what it sees; one that stood still finds a machine that may be over for long.
pub fn last_seen_seconds(run: &Run, boot_id: &str, mono_us: i64) -> Seconds {
    seconds(run, boot_id, mono_us).min(run.metered + Seconds(KEPT_EVERY.as_secs() as i64))
}

/// What the meter shows for good, if the end was seen; `exit` is how the machine ended, and
/// `decided` when this agent saw or decided the end.
pub fn final_seconds(run: &Run, boot_id: &str, decided_mono_us: i64, exit: Option<&ExitRecord>) -> Seconds {
    let exited = exit.filter(|e| e.boot_id == boot_id && e.generation == run.generation && e.uuid == run.uuid);
    match exited {
        // It may have ended long before anybody looked.
        Some(exit) => seconds(run, boot_id, exit.at_monotonic_us.min(decided_mono_us)),
        None => seconds(run, boot_id, decided_mono_us),
    }
}

/// What is receipted of a life that is over: no more than until its machine ended, however late
/// the end could be recorded.
pub fn last_seconds(run: &Run, exit: Option<&ExitRecord>) -> Seconds {
    let same = |e: &&ExitRecord| {
        run.boot_id.as_deref() == Some(e.boot_id.as_str()) && e.generation == run.generation && e.uuid == run.uuid
    };
    match (exit.filter(same), run.ready_mono_us) {
        (Some(exit), Some(ready)) => {
            let whole = exit.at_monotonic_us.saturating_sub(ready).max(0) / 1_000_000;
            run.metered.min(Seconds(whole))
        }
        _ => run.metered,
    }
}

/// When the machine has to stop by itself: the end of its term or of what is paid, on CLOCK_BOOTTIME.
pub fn stop_at(run: &Run, boot_deadline_us: i64) -> Boottime {
    match (run.ready_boot_us, run.started_boot_us) {
        (Some(ready), _) => Boottime(ready).plus_micros(run.limit().0.saturating_mul(1_000_000)),
        (None, Some(started)) => Boottime(started).plus_micros(boot_deadline_us),
        (None, None) => Boottime::now().plus_micros(boot_deadline_us),
    }
}

/// Whether a running lease's use is to be receipted again: after a while, and when a paid chunk
/// or more has passed although many receipts wait.
pub fn receipt_is_due(receipted: Option<Seconds>, metered: Seconds, waiting: u64) -> bool {
    let every = if waiting < MANY_WAITING { RECEIPT_EVERY } else { RECEIPT_SELDOM };
    metered - receipted.unwrap_or(Seconds::ZERO) >= every
}

#[cfg(test)]
mod tests;
