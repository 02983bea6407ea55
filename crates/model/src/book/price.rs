//! What a partition costs, from columns: the arithmetic of [`PriceList`], in 64 bits wherever that
//! provably can't overflow.

use crate::billing::PriceList;
use crate::resources::Resources;
use crate::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds};

/// Millicores, MiB, GiB.
pub(super) type Amounts = [u32; 3];
/// Set-up; flat, core, GiB of memory, GiB of disk for an hour.
pub(super) type Prices = [u32; 5];

/// A price that has no room in a column: the true one stands in the offer.
pub(super) const BEYOND: u32 = u32::MAX;

const RATE_SCALE: i64 = 1000 * 1024;
const TOTAL_SCALE: i64 = RATE_SCALE * 3600;

/// A price list as columns have it. What has no room is [`BEYOND`], which is never above the truth.
pub(super) fn columns(list: &PriceList) -> Prices {
    [list.setup.0, list.flat.0, list.cpu.0, list.memory.0, list.disk.0].map(column)
}

fn column(price: i64) -> u32 {
    u32::try_from(price).unwrap_or(if price < 0 { 0 } else { BEYOND })
}

fn list(prices: &Prices) -> PriceList {
    let [setup, flat, cpu, memory, disk] = prices.map(i64::from);
    let hourly = MicrosPerHour;
    PriceList {
        setup: Micros(setup),
        flat: hourly(flat),
        cpu: hourly(cpu),
        memory: hourly(memory),
        disk: hourly(disk),
        shortest_charge_seconds: Seconds::ZERO,
    }
}

/// Amounts as columns have them: less than nothing anywhere is nothing at all.
pub(super) fn amounts(of: Resources) -> Amounts {
    let all = [of.cpu.0, of.memory.0, of.disk.0];
    if all.iter().any(|n| *n < 0) { [0; 3] } else { all.map(|n| u32::try_from(n).unwrap_or(u32::MAX)) }
}

/// The same, as the rest of the model has them.
pub(super) fn resources(of: &Amounts) -> Resources {
    let [cpu, memory, disk] = of.map(i64::from);
    Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(disk) }
}

/// The greater of both in every dimension.
pub(super) fn most(a: &Amounts, b: &Amounts) -> Amounts {
    [a[0].max(b[0]), a[1].max(b[1]), a[2].max(b[2])]
}

/// Prices for one term.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pricer {
    term: i64,
    /// Whether nothing asked here is beyond 64 bits.
    narrow: bool,
}

impl Pricer {
    /// For a term, over prices and amounts that are nowhere above these.
    pub fn new(term: Seconds, highest: &Prices, largest: &Amounts) -> Self {
        let [_, flat, cpu, memory, disk] = highest.map(i128::from);
        let [cores, ram, room] = largest.map(i128::from);
        let scale = i128::from(RATE_SCALE);
        let rate = flat * scale + cpu * cores * 1024 + memory * ram * 1000 + disk * room * scale;
        let term = term.0.max(0);
        // Twice again, for rounding looks at twice the rest.
        Self { term, narrow: rate.saturating_mul(i128::from(term.max(1))) < i128::from(i64::MAX / 4) }
    }

    /// The term.
    pub fn term(&self) -> Seconds {
        Seconds(self.term)
    }

    fn rate(prices: &Prices, amounts: &Amounts) -> i64 {
        let [_, flat, cpu, memory, disk] = prices.map(i64::from);
        let [cores, ram, room] = amounts.map(i64::from);
        (flat + disk * room) * RATE_SCALE + cpu * cores * 1024 + memory * ram * 1000
    }

    /// For an hour, in micros.
    pub fn hourly(&self, prices: &Prices, amounts: &Amounts) -> i64 {
        if self.narrow {
            return round_half_even(Self::rate(prices, amounts), RATE_SCALE);
        }
        list(prices).hourly(resources(amounts)).0
    }

    /// Whether an hour costs more than this. Where it is asked of very many, a division less counts.
    pub fn is_hourly_above(&self, prices: &Prices, amounts: &Amounts, most: i64) -> bool {
        match most.checked_mul(RATE_SCALE).and_then(|exact| exact.checked_add(RATE_SCALE / 2)) {
            Some(half) if self.narrow => {
                let rate = Self::rate(prices, amounts);
                // Just between two, the even one is taken.
                rate > half || (rate == half && most % 2 != 0)
            }
            _ => self.hourly(prices, amounts) > most,
        }
    }

    /// For the whole term, set-up included, in micros.
    pub fn total(&self, prices: &Prices, amounts: &Amounts) -> i64 {
        if self.narrow {
            let metered = round_half_even(Self::rate(prices, amounts) * self.term, TOTAL_SCALE);
            return i64::from(prices[0]) + metered;
        }
        list(prices).total(resources(amounts), Seconds(self.term)).0
    }
}

/// Rounds `n / d` to the nearest whole number, a half to the even one; `n` is not below zero.
fn round_half_even(n: i64, d: i64) -> i64 {
    let (whole, rest) = (n / d, n % d);
    whole + i64::from(rest * 2 > d || (rest * 2 == d && whole % 2 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn columns_cost_what_the_list_says(
            prices in any::<[u32; 5]>(), shrink in 0u32..32, cores in 0u32..5_000_000, ram in 0u32..70_000_000,
            room in 0u32..17_000_000, fewer in 0u32..24, term in 0i64..=Seconds::MAX.0,
        ) {
            let prices = prices.map(|p| p >> shrink);
            let amounts = [cores >> fewer, ram >> fewer, room >> fewer];
            let (pricer, span) = (Pricer::new(Seconds(term), &prices, &amounts), Seconds(term));
            prop_assert_eq!(pricer.total(&prices, &amounts), list(&prices).total(resources(&amounts), span).0);
            let hourly = list(&prices).hourly(resources(&amounts)).0;
            prop_assert_eq!(pricer.hourly(&prices, &amounts), hourly);
            for most in [i64::MIN, -1, 0, hourly - 1, hourly, hourly + 1, i64::MAX] {
                prop_assert_eq!(pricer.is_hourly_above(&prices, &amounts, most), hourly > most);
            }
        }
    }

    #[test]
    fn halves_go_to_the_even_one_and_what_is_narrow_is_known() {
        // Half a micro an hour, three halves an hour.
        let pricer = Pricer::new(Seconds::HOUR, &[0, 9, 9, 9, 9], &[1500, 1024, 1]);
        assert!(pricer.narrow);
        assert_eq!([500, 1500, 501].map(|cpu| pricer.total(&[0, 0, 1, 0, 0], &[cpu, 0, 0])), [0, 2, 1]);
        for (cpu, hourly) in [(500, 0), (1500, 2), (501, 1), (2500, 2), (3500, 4)] {
            let above = [hourly - 1, hourly].map(|most| pricer.is_hourly_above(&[0, 0, 1, 0, 0], &[cpu, 0, 0], most));
            assert_eq!(above, [true, false], "{cpu}");
        }
        assert!(!Pricer::new(Seconds::MAX, &[BEYOND; 5], &[1000; 3]).narrow);
    }

    #[test]
    fn what_has_no_room_is_never_above_the_truth() {
        assert_eq!(
            [-1, 0, 7, i64::from(u32::MAX) - 1, i64::from(u32::MAX), i64::MAX].map(column),
            [0, 0, 7, u32::MAX - 1, BEYOND, BEYOND]
        );
        let short = Resources { cpu: Millicores(4000), memory: MiB(4096), disk: GiB(-1) };
        assert_eq!(amounts(short), [0; 3], "a computer that shrank has nothing to give");
    }
}
