//! Paid chunks: how far ahead of its use a lease is paid for.
//!
//! What is held is always the exact price of the seconds that the partition may run, so whatever
//! is used can be paid, and the partition stops where the money ends.

use crate::billing::PriceList;
use crate::resources::Resources;
use crate::units::{Micros, Seconds};

/// The shortest time that is always paid ahead, unless a market says otherwise.
pub const CHUNK: Seconds = Seconds(900);

/// Where the funds are short, the least that is worth holding: each step is told to the client.
pub const LEAST: Seconds = Seconds(60);

/// What a lease costs, and how far ahead it is paid.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The frozen prices.
    pub prices: PriceList,
    /// What the partition has.
    pub resources: Resources,
    /// The longest it may run.
    pub term: Seconds,
    /// The shortest time that is always paid ahead.
    pub chunk: Seconds,
    /// Beyond one chunk: for how long the market may be out of reach.
    pub outage_allowance: Seconds,
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// How long it may run, counted from ready.
    pub seconds: Seconds,
    /// What is held for it.
    pub held: Micros,
}

/// What is to be held next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Enough is paid ahead.
    Enough,
    /// Hold more.
    More {
        /// How long it may then run.
        seconds: Seconds,
        /// How much more.
        micros: Micros,
        /// Whether that is all that the funds pay for: the client is to be warned.
        last: bool,
    },
    /// Nothing is left to pay with: it stops where it is paid to.
    Short {
        /// What the next step would cost.
        micros: Micros,
    },
}

impl Plan {
    /// What running for `seconds` costs at the most; never less for more seconds.
    pub fn price(&self, seconds: Seconds) -> Micros {
        self.prices.total(self.resources, seconds.max(self.shortest()))
    }

    /// What is charged at the least: so long it may run in any case.
    pub fn shortest(&self) -> Seconds {
        self.prices.shortest_charge_seconds.min(self.term)
    }

    /// What to hold for a lease that used so much, when so much more could be held.
    pub fn next(&self, used: Seconds, paid: Paid, funds: Micros) -> Next {
        let wanted = self.wanted(used).max(paid.seconds);
        let missing = |seconds| (self.price(seconds) - paid.held).max(Micros::ZERO);
        match () {
            () if wanted == paid.seconds && missing(wanted) == Micros::ZERO => Next::Enough,
            () if missing(wanted) <= funds => Next::More { seconds: wanted, micros: missing(wanted), last: false },
            () => match self.affordable(paid.held + funds) {
                Some(seconds) if seconds - paid.seconds >= LEAST => {
                    let seconds = seconds.min(wanted);
                    Next::More { seconds, micros: missing(seconds), last: true }
                }
                _ => Next::Short { micros: missing(wanted) },
            },
        }
    }

    /// The least whole number of chunks that leaves one, and the allowance, ahead; at most the term, at
    /// least what is charged in any case.
    fn wanted(&self, used: Seconds) -> Seconds {
        let chunk = self.chunk.max(Seconds(1));
        let least = used.max(Seconds::ZERO) + chunk + self.outage_allowance.max(Seconds::ZERO);
        let chunks = least.0.saturating_add(chunk.0 - 1) / chunk.0;
        Seconds(chunks.saturating_mul(chunk.0)).min(self.term).max(self.shortest())
    }

    /// How long `budget` lasts, at most the term; none if it does not pay for the first moment.
    pub fn affordable(&self, budget: Micros) -> Option<Seconds> {
        if self.price(Seconds::ZERO) > budget {
            return None;
        }
        // The price never falls: halve what is in doubt.
        let (mut enough, mut doubt) = (0, self.term.0.max(0));
        while enough < doubt {
            let middle = enough + (doubt - enough + 1) / 2;
            if self.price(Seconds(middle)) <= budget { enough = middle } else { doubt = middle - 1 }
        }
        Some(Seconds(enough))
    }
}
