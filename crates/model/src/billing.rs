//! From signed terms and receipts to a bill: integers all the way, rounded once.

use crate::identity::{Sha256Digest, Statement};
use crate::ids::{AccountId, HostId, LeaseId, OfferId, PartitionId};
use crate::resources::Resources;
use crate::units::{Micros, MicrosPerHour, Seconds, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an offer asks. Prices are for an hour of one unit; zero is legal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PriceList {
    /// Once for each lease.
    pub setup: Micros,
    /// For the partition, whatever its size.
    pub flat: MicrosPerHour,
    /// For a core (1000 millicores).
    pub cpu: MicrosPerHour,
    /// For a GiB of memory.
    pub memory: MicrosPerHour,
    /// For a GiB of disk.
    pub disk: MicrosPerHour,
    /// The least time that is charged once a guest was ready.
    pub shortest_charge_seconds: Seconds,
}

/// Millicores in a core times MiB in a GiB: makes every hourly rate a whole number.
const RATE_SCALE: i128 = 1000 * 1024;
const SECONDS_AN_HOUR: i128 = 3600;
/// How many parts a micro has: a price an hour, times an amount, times seconds, is a whole number of them.
pub const PARTS_A_MICRO: i128 = RATE_SCALE * SECONDS_AN_HOUR;

impl PriceList {
    /// Whether every price is between zero and what is accepted.
    pub fn is_plausible(&self) -> bool {
        let hourly = [self.flat, self.cpu, self.memory, self.disk];
        hourly.iter().all(|p| (MicrosPerHour::ZERO..=MicrosPerHour::MAX).contains(p))
            && (0..=MicrosPerHour::MAX.0).contains(&self.setup.0)
            && (Seconds::ZERO..=Seconds::MAX).contains(&self.shortest_charge_seconds)
    }

    /// What is charged by the hour for `resources`: each dimension with its price, its amount, and
    /// how many parts an hour's price times the amount has in a second.
    pub fn rates(&self, resources: Resources) -> [Rate; 4] {
        let rate = |what, price, amount, scale| Rate { what, price, amount, scale };
        [
            rate("flat", self.flat, 1, RATE_SCALE),
            rate("cpu", self.cpu, resources.cpu.0, RATE_SCALE / 1000),
            rate("memory", self.memory, resources.memory.0, RATE_SCALE / 1024),
            rate("disk", self.disk, resources.disk.0, RATE_SCALE),
        ]
    }

    /// What `resources` cost an hour, in micros times `RATE_SCALE`. Exact.
    fn scaled_rate(&self, resources: Resources) -> i128 {
        self.rates(resources).iter().map(Rate::parts_a_second).sum()
    }

    /// What `resources` cost an hour, rounded half to even. For people and for ceilings; bills
    /// are computed from the exact rate.
    pub fn hourly(&self, resources: Resources) -> MicrosPerHour {
        MicrosPerHour(round_half_even(self.scaled_rate(resources), RATE_SCALE))
    }

    /// What `resources` cost for a span, set-up included, rounded half to even, once.
    pub fn total(&self, resources: Resources, span: Seconds) -> Micros {
        let scaled = self.scaled_rate(resources) * i128::from(span.0.max(0));
        let metered = round_half_even(scaled, RATE_SCALE * SECONDS_AN_HOUR);
        Micros(self.setup.0.saturating_add(metered))
    }
}

/// One dimension of a price list, applied to an amount.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// `flat`, `cpu`, `memory` or `disk`.
    pub what: &'static str,
    /// For an hour of one unit.
    pub price: MicrosPerHour,
    /// In the dimension's own unit: 1, millicores, MiB, GiB.
    pub amount: i64,
    scale: i128,
}

impl Rate {
    /// What one second costs, in parts of a micro. Exact.
    pub fn parts_a_second(&self) -> i128 {
        i128::from(self.price.0) * i128::from(self.amount) * self.scale
    }
}

/// Rounds `n / d` to the nearest whole number, a half to the even one; saturates at the ends of i64.
pub(crate) fn round_half_even(n: i128, d: i128) -> i64 {
    // Nearly every amount is short enough for a division many times as fast.
    let (whole, rest) = match (i64::try_from(n), i64::try_from(d)) {
        (Ok(n), Ok(d)) => (i128::from(n.div_euclid(d)), i128::from(n.rem_euclid(d))),
        _ => (n.div_euclid(d), n.rem_euclid(d)),
    };
    let up = match (rest * 2).cmp(&d) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => whole % 2 != 0,
    };
    let rounded = whole + i128::from(up);
    i64::try_from(rounded).unwrap_or(if rounded > 0 { i64::MAX } else { i64::MIN })
}

/// What was agreed at the grant, frozen and signed by the market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// For which lease.
    pub lease: LeaseId,
    /// Who pays.
    pub client: AccountId,
    /// Who earns.
    pub lender: AccountId,
    /// The computer.
    pub host: HostId,
    /// Its partition.
    pub partition: PartitionId,
    /// The partition's generation at the grant: the fence.
    pub generation: u64,
    /// What the partition has, frozen while the lease holds it.
    pub resources: Resources,
    /// Hardware threads that the guest sees.
    pub vcpus: u16,
    /// The lending conditions taken.
    pub offer: OfferId,
    /// Their version.
    pub offer_version: u32,
    /// Their prices.
    pub prices: PriceList,
    /// The signed manifest that boots.
    pub image: Sha256Digest,
    /// When the market granted.
    pub granted_at: Timestamp,
    /// When the offer closes, and the lease ends at the latest; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// How many thousandths of the charge the operator keeps.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub fee_permille: u16,
    /// The longest it may run, as agreed at the grant: lengthening it is agreed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term_seconds: Option<Seconds>,
}

fn is_nothing(permille: &u16) -> bool {
    *permille == 0
}

impl Statement for Terms {
    const KIND: &'static str = "sublet terms 1";
}

/// What the market itself saw of a lease: a bound on what a host may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Observation {
    /// When the market granted.
    pub granted_at: Timestamp,
    /// When the market heard that the guest was ready; none if it never was.
    pub ready_at: Option<Timestamp>,
    /// When the market decided or learned that the lease stops.
    pub stopped_at: Timestamp,
    /// The longest time the lease may run, counted from ready.
    pub term_seconds: Seconds,
}

/// A bill for one lease, with its arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Charge {
    /// What the host's newest receipt says.
    pub receipted_seconds: Seconds,
    /// What is billed: receipted, within the term, and plausible by the market's clock.
    pub billed_seconds: Seconds,
    /// For an hour, rounded for reading.
    pub hourly: MicrosPerHour,
    /// Once.
    pub setup: Micros,
    /// What the client pays and the lender earns.
    pub total: Micros,
}

/// What decided how many seconds are billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The guest never was ready, or nothing was receipted.
    NeverRan,
    /// What the host receipted.
    Receipts,
    /// The longest time that the lease may run.
    Term,
    /// What was paid for.
    Paid,
    /// The offer closed.
    Window,
    /// The time from grant to stop, by the market's own clock.
    Clock,
    /// The shortest charge.
    Shortest,
}

impl Bound {
    /// The word used in statements.
    pub fn word(self) -> &'static str {
        match self {
            Self::NeverRan => "never_ran",
            Self::Receipts => "receipts",
            Self::Term => "term",
            Self::Paid => "paid",
            Self::Window => "window",
            Self::Clock => "clock",
            Self::Shortest => "shortest",
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::NeverRan => "it never came to be ready",
            Self::Receipts => "that is what was receipted",
            Self::Term => "the term ended there",
            Self::Paid => "no more was paid for",
            Self::Window => "the offer closed there",
            Self::Clock => "no more passed between grant and stop by the market's own clock",
            Self::Shortest => "that is the shortest charge of the offer",
        }
    }
}

/// How many seconds are billed, and why so many: what was receipted, within the term, what was
/// `paid` for and the offer's hours, and plausible by the market's clock.
pub fn billed(terms: &Terms, receipted: Option<Seconds>, seen: Observation, paid: Seconds) -> (Seconds, Bound) {
    let Some(receipted) = receipted.filter(|r| seen.ready_at.is_some() || *r > Seconds::ZERO) else {
        // No receipt, no bill. And a host that never came to ready may still send a last one, over nothing.
        return (Seconds::ZERO, Bound::NeverRan);
    };
    // Nothing can have run before the grant, and what runs on after the stop is nobody's order: the
    // market's own span is the bound, without anything added. Booting took longer than news takes.
    let since_grant = |at: Timestamp| at.since(seen.granted_at).max(Seconds::ZERO);
    let bounds = [
        (seen.term_seconds, Bound::Term),
        (paid, Bound::Paid),
        (terms.until.map_or(Seconds(i64::MAX), since_grant), Bound::Window),
        (since_grant(seen.stopped_at), Bound::Clock),
    ];
    let used = bounds.into_iter().fold(
        (receipted, Bound::Receipts),
        |least, bound| {
            if bound.0 < least.0 { bound } else { least }
        },
    );
    let shortest = terms.prices.shortest_charge_seconds.min(seen.term_seconds).min(paid);
    if shortest > used.0 { (shortest, Bound::Shortest) } else { used }
}

/// The bill: a pure function of what was agreed, what was receipted and what was seen. A guest
/// that never was ready costs nothing, set-up included.
pub fn settle(terms: &Terms, receipted: Option<Seconds>, seen: Observation) -> Charge {
    let (billed_seconds, because) = billed(terms, receipted, seen, seen.term_seconds);
    let ran = because != Bound::NeverRan;
    Charge {
        receipted_seconds: receipted.unwrap_or(Seconds::ZERO),
        billed_seconds,
        hourly: terms.prices.hourly(terms.resources),
        setup: if ran { terms.prices.setup } else { Micros::ZERO },
        total: if ran { terms.prices.total(terms.resources, billed_seconds) } else { Micros::ZERO },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{GiB, MiB, Millicores};
    use uuid::Uuid;

    fn terms(prices: PriceList) -> Terms {
        let id = Uuid::from_u128(7);
        Terms {
            lease: id.into(),
            client: id.into(),
            lender: id.into(),
            host: id.into(),
            partition: id.into(),
            generation: 1,
            resources: Resources { cpu: Millicores(1500), memory: MiB(512), disk: GiB(3) },
            vcpus: 2,
            offer: id.into(),
            offer_version: 1,
            prices,
            image: Sha256Digest::of(b""),
            granted_at: Timestamp(0),
            until: None,
            fee_permille: 0,
            term_seconds: None,
        }
    }

    fn prices() -> PriceList {
        PriceList {
            setup: Micros(100),
            flat: MicrosPerHour(3600),
            cpu: MicrosPerHour(7200),
            memory: MicrosPerHour(7200),
            disk: MicrosPerHour(1200),
            shortest_charge_seconds: Seconds(0),
        }
    }

    fn seen(stopped: i64) -> Observation {
        Observation {
            granted_at: Timestamp(0),
            ready_at: Some(Timestamp(0)),
            stopped_at: Timestamp(stopped * 1_000_000),
            term_seconds: Seconds(3600),
        }
    }

    #[test]
    fn the_bill_is_receipted_within_the_term_and_plausible() {
        let t = terms(prices());
        // 3600 + 1.5 * 7200 + 0.5 * 7200 + 3 * 1200 = 21600 micros an hour: 6 a second.
        assert_eq!(t.prices.hourly(t.resources), MicrosPerHour(21_600));
        let billed = |receipted, stopped| settle(&t, receipted, seen(stopped)).billed_seconds.0;
        assert_eq!(billed(Some(Seconds(100)), 200), 100);
        assert_eq!(billed(Some(Seconds(5000)), 9000), 3600, "not past the term");
        assert_eq!(billed(Some(Seconds(3000)), 100), 100, "not past what the market saw");
        assert_eq!(billed(None, 200), 0);
        assert_eq!(settle(&t, Some(Seconds(100)), seen(200)).total, Micros(100 + 600));
        let never = Observation { ready_at: None, ..seen(200) };
        for receipted in [None, Some(Seconds(0))] {
            assert_eq!(settle(&t, receipted, never).total, Micros(0), "never ready, never billed, set-up included");
        }
        // Whether ready was heard or not: what was receipted was used.
        assert_eq!(settle(&t, Some(Seconds(5)), never).total, Micros(100 + 30));
    }

    #[test]
    fn what_limits_a_bill_is_named() {
        let t = terms(prices());
        let because = |receipted, stopped, paid| billed(&t, Some(Seconds(receipted)), seen(stopped), Seconds(paid));
        assert_eq!(because(100, 200, 3600), (Seconds(100), Bound::Receipts));
        assert_eq!(because(5000, 9000, 3600), (Seconds(3600), Bound::Term));
        assert_eq!(because(5000, 9000, 900), (Seconds(900), Bound::Paid));
        assert_eq!(because(3000, 100, 3600), (Seconds(100), Bound::Clock));
        assert_eq!(because(100, 100, 3600), (Seconds(100), Bound::Receipts), "not a second of it is out of reach");
        let closes = Terms { until: Some(Timestamp(50_000_000)), ..terms(prices()) };
        assert_eq!(billed(&closes, Some(Seconds(90)), seen(100), Seconds(3600)), (Seconds(50), Bound::Window));
        let least = Terms { prices: PriceList { shortest_charge_seconds: Seconds(60), ..prices() }, ..terms(prices()) };
        assert_eq!(billed(&least, Some(Seconds(1)), seen(5), Seconds(3600)), (Seconds(60), Bound::Shortest));
        assert_eq!(billed(&least, Some(Seconds(1)), seen(5), Seconds(30)), (Seconds(30), Bound::Shortest));
        assert_eq!(billed(&least, Some(Seconds(60)), seen(70), Seconds(3600)), (Seconds(60), Bound::Receipts));
        let never = Observation { ready_at: None, ..seen(5) };
        assert_eq!(billed(&least, Some(Seconds(0)), never, Seconds(30)), (Seconds(0), Bound::NeverRan));
    }

    #[test]
    fn prices_are_plausible_up_to_their_ends() {
        let most = MicrosPerHour::MAX;
        let all = PriceList {
            setup: Micros(most.0),
            flat: most,
            cpu: most,
            memory: most,
            disk: most,
            shortest_charge_seconds: Seconds::MAX,
        };
        assert!(all.is_plausible() && PriceList::default().is_plausible());
        let bad = [
            PriceList { flat: MicrosPerHour(most.0 + 1), ..all },
            PriceList { disk: MicrosPerHour(-1), ..all },
            PriceList { setup: Micros(most.0 + 1), ..all },
            PriceList { setup: Micros(-1), ..all },
            PriceList { shortest_charge_seconds: Seconds(-1), ..all },
            PriceList { shortest_charge_seconds: Seconds(Seconds::MAX.0 + 1), ..all },
        ];
        assert!(bad.iter().all(|prices| !prices.is_plausible()));
    }

    #[test]
    fn a_fee_of_nothing_is_not_written_and_each_bound_has_words() {
        let text = |fee_permille| serde_json::to_string(&Terms { fee_permille, ..terms(prices()) }).unwrap();
        assert!(!text(0).contains("fee_permille") && text(7).contains("\"fee_permille\":7"));
        use Bound::*;
        let all = [NeverRan, Receipts, Term, Paid, Window, Clock, Shortest];
        let words: std::collections::BTreeSet<&str> = all.iter().map(|bound| bound.words()).collect();
        assert!(words.len() == all.len() && words.iter().all(|words| words.contains(' ')), "{words:?}");
    }

    #[test]
    fn the_shortest_charge_counts_once_ready() {
        let t = terms(PriceList { shortest_charge_seconds: Seconds(60), ..prices() });
        assert_eq!(settle(&t, Some(Seconds(1)), seen(5)).billed_seconds, Seconds(60));
        assert_eq!(settle(&t, None, Observation { ready_at: None, ..seen(5) }).billed_seconds, Seconds(0));
    }

    #[test]
    fn halves_round_to_even_and_nothing_overflows() {
        assert_eq!([round_half_even(5, 10), round_half_even(15, 10), round_half_even(16, 10)], [0, 2, 2]);
        assert_eq!([round_half_even(-5, 10), round_half_even(-15, 10), round_half_even(-16, 10)], [0, -2, -2]);
        let dear = PriceList {
            flat: MicrosPerHour::MAX,
            cpu: MicrosPerHour::MAX,
            memory: MicrosPerHour::MAX,
            disk: MicrosPerHour::MAX,
            ..prices()
        };
        let huge = Resources { cpu: Millicores::MAX, memory: MiB::MAX, disk: GiB::MAX };
        assert_eq!(dear.total(huge, Seconds::MAX), Micros(i64::MAX), "saturates rather than wraps");
    }
}
