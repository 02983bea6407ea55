//! True time, and the clocks of a computer, which run at their own rate and jump.

use sublet_host::meter::Now;
use sublet_model::units::Timestamp;

/// True time: microseconds since the simulation began. Nobody in it can read this.
pub type At = i64;

/// A second of true time.
pub const SECOND: At = 1_000_000;
/// A millisecond of true time.
pub const MILLISECOND: At = 1000;

/// What every wall clock would show at the beginning, if it were right.
pub const BEGINNING: i64 = 1_800_000_000_000_000;

/// The clocks of one computer.
#[derive(Debug, Clone)]
pub struct Clock {
    /// How many microseconds it counts in a million of true ones.
    rate: i64,
    /// From this true moment on it counted at that rate …
    since: At,
    /// … beginning with this.
    counted: i64,
    /// How long it slept since it started: monotonic time leaves that out.
    slept: i64,
    /// What it had counted when it fell asleep, while it sleeps.
    asleep: Option<i64>,
    /// By how much its wall clock is wrong.
    wrong: i64,
}

impl Clock {
    /// A computer that starts now; `rate` in millionths.
    pub fn started(now: At, rate: i64) -> Self {
        Self { rate, since: now, counted: SECOND, slept: 0, asleep: None, wrong: 0 }
    }

    /// The same computer after a restart: its clocks begin anew, its wall clock stays wrong.
    pub fn restarted(&self, now: At) -> Self {
        Self { wrong: self.wrong, ..Self::started(now, self.rate) }
    }

    /// Counts at another rate from now on.
    pub fn set_rate(&mut self, now: At, rate: i64) {
        (self.counted, self.since, self.rate) = (self.boot_us(now), now, rate);
    }

    /// Sleeps from now on: monotonic time stands still.
    pub fn falls_asleep(&mut self, now: At) {
        self.asleep = Some(self.boot_us(now));
    }

    /// Sleeps no more. At what rate it counted meanwhile does not matter, even if that changed.
    pub fn wakes_up(&mut self, now: At) {
        if let Some(since) = self.asleep.take() {
            self.slept += self.boot_us(now) - since;
        }
    }

    /// Sets the wall clock: wrong by so much from now on.
    pub fn set_wrong(&mut self, wrong: i64) {
        self.wrong = wrong;
    }

    /// CLOCK_BOOTTIME.
    pub fn boot_us(&self, now: At) -> i64 {
        self.counted + (now - self.since) * self.rate / SECOND
    }

    /// Both clocks that a meter needs.
    pub fn now(&self, now: At) -> Now {
        let boot_us = self.boot_us(now);
        Now { mono_us: self.asleep.unwrap_or(boot_us) - self.slept, boot_us }
    }

    /// The wall clock.
    pub fn wall(&self, now: At) -> Timestamp {
        Timestamp(BEGINNING + now + self.wrong)
    }

    /// When CLOCK_BOOTTIME will show `boot_us`, in true time, if nothing changes its rate.
    pub fn when(&self, boot_us: i64) -> At {
        let left = (boot_us - self.counted).max(0);
        // Rounded up: at that moment it has passed.
        self.since + (left * SECOND + self.rate - 1) / self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_keeps_its_past_when_its_rate_changes() {
        let mut clock = Clock::started(0, 1_100_000);
        assert_eq!(clock.boot_us(10 * SECOND), 12 * SECOND);
        clock.set_rate(10 * SECOND, 500_000);
        assert_eq!(clock.boot_us(10 * SECOND), 12 * SECOND);
        assert_eq!(clock.boot_us(12 * SECOND), 13 * SECOND);
        assert_eq!(clock.when(13 * SECOND), 12 * SECOND);
        assert_eq!(clock.restarted(20 * SECOND).boot_us(20 * SECOND), SECOND);
    }

    #[test]
    fn monotonic_time_stands_still_in_a_sleep_whatever_becomes_of_the_rate() {
        let mut clock = Clock::started(0, 2 * SECOND);
        clock.falls_asleep(10 * SECOND);
        let before = clock.now(10 * SECOND).mono_us;
        assert_eq!(clock.now(20 * SECOND), Now { mono_us: before, boot_us: 41 * SECOND });
        clock.set_rate(20 * SECOND, 3 * SECOND);
        clock.wakes_up(30 * SECOND);
        assert_eq!(clock.now(30 * SECOND), Now { mono_us: before, boot_us: 71 * SECOND });
        assert_eq!(clock.now(31 * SECOND).mono_us, before + 3 * SECOND);
        clock.wakes_up(32 * SECOND);
        assert_eq!(clock.now(32 * SECOND).mono_us, before + 6 * SECOND, "it slept once");
    }
}
