//! Market time: never before what was already recorded, and it counts the machine's sleep.

use sublet_model::units::Timestamp;

/// Gives the time of the market. Handed to the engine's thread; tests hand it another.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The highest time recorded, or the wall clock at the start if that is later, plus what
/// CLOCK_BOOTTIME counted since.
#[derive(Debug, Clone, Copy)]
pub struct MarketClock {
    base: Timestamp,
    boot_micros: i64,
}

impl MarketClock {
    /// A clock that starts no earlier than `high_water`.
    pub fn new(high_water: Timestamp) -> Self {
        let wall = Timestamp(jiff::Timestamp::now().as_microsecond());
        Self { base: wall.max(high_water), boot_micros: boot_micros() }
    }
}

impl Clock for MarketClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.base.0 + (boot_micros() - self.boot_micros))
    }
}

fn boot_micros() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_falls_behind_what_was_recorded() {
        let ahead = Timestamp(jiff::Timestamp::now().as_microsecond() + 3_600_000_000);
        let clock = MarketClock::new(ahead);
        let first = clock.now();
        assert!(first >= ahead && clock.now() >= first);
        let behind = MarketClock::new(Timestamp(0)).now();
        assert!((behind.0 - jiff::Timestamp::now().as_microsecond()).abs() < 1_000_000, "else it is the wall clock");
    }
}
