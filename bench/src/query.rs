//! The questions: 200 seeded ones of ten predicates and more each, the same for every side. A tenth of them
//! match nothing: half because the cheapest that fits is a micro too dear, half because nothing is
//! that large.

use crate::data::{ARCH_WEIGHTS, ARCHES, FLAGS, Market, NETS, OSES, REGION_WEIGHTS, REGIONS, amounts};
use crate::oracle;
use crate::rng::Rng;
use serde_json::{Value, json};
use sublet_model::resources::Resources;

/// How many there are.
pub const QUERIES: usize = 200;
/// How many of them match nothing.
pub const NOTHING: usize = QUERIES / 10;
/// How many matches each side answers with.
pub const LIMIT: usize = 20;

/// One question.
#[derive(Debug, Clone)]
pub struct Query {
    /// At least so much (three predicates).
    pub needs: Resources,
    /// At least so many hardware threads.
    pub vcpus: i64,
    /// Position in [`ARCHES`].
    pub arch: usize,
    /// Position in [`OSES`].
    pub os: usize,
    /// At most so much memory, in MiB, where a partition's own least is more than is asked.
    pub memory_at_most: i64,
    /// Bits of the [`REGIONS`] that will do.
    pub regions: u8,
    /// Bits of the [`NETS`] that will do.
    pub nets: u8,
    /// Bits of the [`FLAGS`] that the processor must have.
    pub flags: u8,
    /// For how many hours: within the offer's shortest and longest term.
    pub hours: i64,
    /// The dearest price for an hour, in micros.
    pub price_at_most: i64,
    /// Whether an emulated partition will do.
    pub emulated: bool,
}

impl Query {
    /// The same, as the market is asked.
    pub fn requirements(&self) -> Value {
        json!({
            "cpu": self.needs.cpu,
            "memory": {"at_least": self.needs.memory, "at_most": self.memory_at_most},
            "disk": self.needs.disk,
            "vcpus": self.vcpus,
            "arch": ARCHES[self.arch],
            "os": OSES[self.os],
            "labels": {"region": words(self.regions, &REGIONS), "net": words(self.nets, &NETS)},
            "traits": words(self.flags, &FLAGS[self.arch]),
            "term_seconds": self.hours * 3600,
            "price_at_most": self.price_at_most,
            "emulated": self.emulated,
        })
    }
}

/// The words whose bits are set.
pub fn words<'w>(bits: u8, of: &[&'w str]) -> Vec<&'w str> {
    of.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, word)| *word).collect()
}

/// The questions for a market: the seed's, with ceilings that make them match or not.
pub fn generate(seed: u64, market: &Market) -> Vec<Query> {
    let mut rng = Rng::new(seed ^ 0x5155_4552_4945_5300);
    let mut all = Vec::with_capacity(QUERIES);
    while all.len() < QUERIES {
        let mut query = draw(&mut rng);
        // Spread over the file, not at its end.
        let nothing = all.len() % 10 == 7;
        if nothing && all.len() % 20 == 7 {
            query.needs = amounts(query.needs.cpu.0, 8 << 20, query.needs.disk.0);
            query.memory_at_most = 16 << 20;
            query.price_at_most = 1_000_000_000;
            all.push(query);
            continue;
        }
        let mut fitting = oracle::hourly_of_fitting(market, &query);
        if fitting.is_empty() {
            continue;
        }
        fitting.sort_unstable();
        query.price_at_most = match nothing {
            true => fitting[0] - 1,
            // From a bargain to no bound at all.
            false => fitting[(fitting.len() - 1) * rng.pick(&[1, 5, 20, 50, 100]) / 100],
        };
        all.push(query);
    }
    all
}

fn draw(rng: &mut Rng) -> Query {
    let cpu = rng.pick(&[500, 1000, 1000, 2000, 2000, 4000, 4000, 8000, 16_000]);
    let memory = (cpu * rng.pick(&[1, 2, 4]) / 1000).max(1) * 1024;
    let least = (cpu + 999) / 1000;
    let mut regions = 0;
    for _ in 0..rng.between(1, 4) {
        regions |= 1 << rng.weighted(&REGION_WEIGHTS);
    }
    Query {
        needs: amounts(cpu, memory, rng.pick(&[0, 10, 20, 50, 100])),
        vcpus: least * rng.pick(&[1, 1, 2]),
        arch: rng.weighted(&ARCH_WEIGHTS),
        os: rng.below(OSES.len() as u64) as usize,
        memory_at_most: memory * rng.pick(&[2, 4, 1024]),
        regions,
        // From some speed on.
        nets: rng.pick(&[0b1111, 0b1110, 0b1110, 0b1100]),
        flags: rng.pick(&[0b0001, 0b0101, 0b0101, 0b1101]),
        hours: rng.pick(&[1, 1, 2, 8, 24, 72]),
        price_at_most: i64::MAX,
        emulated: rng.percent(10),
    }
}
