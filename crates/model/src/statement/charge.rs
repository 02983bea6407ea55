//! What a lease comes to: recomputed by whoever asks, never believed.

use super::record::{ChargeRecord, Closing, Credit, CreditBearer, Head, Line, Seen, Segment, Side};
use crate::billing::{Bound, Observation, PARTS_A_MICRO, Terms, billed, round_half_even};
use crate::identity::Sha256Digest;
use crate::ledger::fee;
use crate::units::{Micros, Seconds};

/// The charge for a lease, of which the last of so many receipts says so many seconds.
pub fn work_out(terms: &Terms, seen: &Seen, receipts: u64, receipted: Option<Seconds>) -> ChargeRecord {
    let observation = Observation {
        granted_at: terms.granted_at,
        ready_at: seen.ready_at,
        stopped_at: seen.stopped_at,
        term_seconds: seen.term_seconds,
    };
    let (billed_seconds, because) = billed(terms, receipted, observation, seen.paid_seconds);
    let segments: Vec<Segment> = segment(terms, billed_seconds).into_iter().collect();
    let parts = terms.prices.rates(terms.resources).iter().map(|rate| rate.parts_a_second()).sum::<i128>();
    let metered = Micros(round_half_even(parts * i128::from(billed_seconds.0), PARTS_A_MICRO));
    let setup = if because == Bound::NeverRan { Micros::ZERO } else { terms.prices.setup };
    let total = setup + metered;
    let charged = seen.held.map_or(total, |held| total.min(held));
    let fee = fee(charged, terms.fee_permille);
    ChargeRecord {
        lease: terms.lease,
        receipts,
        receipted_seconds: receipted.unwrap_or(Seconds::ZERO),
        billed_seconds,
        because,
        segments,
        metered,
        setup,
        total,
        charged,
        fee,
        earned: charged - fee,
    }
}

/// The one span of a lease, with a line for everything that costs something.
fn segment(terms: &Terms, seconds: Seconds) -> Option<Segment> {
    if seconds == Seconds::ZERO {
        return None;
    }
    let rates = terms.prices.rates(terms.resources).into_iter().filter(|rate| rate.price.0 != 0 && rate.amount != 0);
    let lines = rates.map(|rate| Line {
        what: rate.what.into(),
        price: rate.price.0,
        amount: rate.amount,
        seconds,
        parts: (rate.parts_a_second() * i128::from(seconds.0)).to_string(),
    });
    Some(Segment { from_second: Seconds::ZERO, until_second: seconds, lines: lines.collect() })
}

/// The sums of a statement, as they grow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub leases: u64,
    pub charged: i128,
    pub credited: i128,
    pub fees: i128,
    pub earned: i128,
    credited_by_operator: i128,
}

impl Sums {
    pub fn charge(&mut self, charge: &ChargeRecord) {
        self.leases += 1;
        self.charged += i128::from(charge.charged.0);
        self.fees += i128::from(charge.fee.0);
        self.earned += i128::from(charge.earned.0);
    }

    pub fn credit(&mut self, credit: &Credit) {
        let micros = i128::from(credit.micros.0);
        self.credited += micros;
        match credit.borne_by {
            CreditBearer::Lender => self.earned -= micros,
            CreditBearer::Operator => self.credited_by_operator += micros,
        }
    }

    /// What it comes to for a side.
    pub fn amount(&self, side: Side) -> i128 {
        match side {
            Side::Client => self.charged - self.credited,
            Side::Lender => self.earned,
            Side::Operator => self.fees - self.credited_by_operator,
        }
    }

    /// The closing of a statement; none if a sum is beyond what money can be.
    pub fn closing(&self, head: &Head, lines: Vec<Sha256Digest>) -> Option<Closing> {
        let micros = |sum: i128| i64::try_from(sum).ok().map(Micros);
        Some(Closing {
            account: head.account,
            side: head.side,
            from: head.from,
            until: head.until,
            leases: self.leases,
            charged: micros(self.charged)?,
            credited: micros(self.credited)?,
            fees: micros(self.fees)?,
            earned: micros(self.earned)?,
            amount: micros(self.amount(head.side))?,
            lines,
        })
    }
}
