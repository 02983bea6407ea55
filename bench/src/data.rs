//! One seeded market, flat, as every side is loaded with it: hosts of eight partitions, half of
//! them busy, with price lists, terms, regions and audiences.
//!
//! Amounts and prices are multiples that make every total a whole number of micros, so that the
//! sides can't differ by how they round.

use crate::rng::Rng;
use sublet_model::host::Tier;
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Millicores, Timestamp};
use uuid::Uuid;

/// Partitions of one host.
pub const PARTITIONS_A_HOST: usize = 8;
/// Architectures.
pub const ARCHES: [&str; 2] = ["x86_64", "aarch64"];
/// Operating systems in the catalogue, each as one image an architecture.
pub const OSES: [&str; 3] = ["debian", "ubuntu", "alpine"];
/// Values of the label `region`.
pub const REGIONS: [&str; 8] =
    ["eu-central", "us-east", "eu-west", "us-west", "ap-south", "ap-east", "sa-east", "af-south"];
/// Values of the label `net`.
pub const NETS: [&str; 4] = ["1g", "10g", "25g", "100g"];
/// Flags of processors, by architecture; a host has some of them.
pub const FLAGS: [[&str; 4]; 2] = [["aes", "sse4_2", "avx2", "avx512f"], ["aes", "asimd", "sve", "sve2"]];
/// How often each region, network and architecture is met.
pub const REGION_WEIGHTS: [u64; 8] = [24, 22, 18, 14, 8, 8, 4, 2];
/// The same for networks.
pub const NET_WEIGHTS: [u64; 4] = [45, 35, 15, 5];
/// The same for architectures.
pub const ARCH_WEIGHTS: [u64; 2] = [78, 22];
/// Accounts that lend.
pub const LENDERS: u64 = 1000;
/// Accounts that rent what is busy.
pub const CLIENTS: u64 = 200;
/// When the market's clock stands still: an hour after everything was listed.
pub const NOW: Timestamp = Timestamp(1_790_000_000_000_000);

/// Who may rent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    Everyone,
    /// The owner's own account.
    Own,
    /// A list in which the asking client stands.
    With,
    /// A list in which it does not.
    Without,
}

/// A host with the one offer for its partitions.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its id.
    pub id: Uuid,
    /// Id of its offer.
    pub offer: Uuid,
    /// Which lender owns it.
    pub lender: u64,
    /// Position in [`ARCHES`].
    pub arch: usize,
    /// What runs its partitions.
    pub tier: Tier,
    /// Whether they are confined.
    pub confined: bool,
    /// Bits of the [`FLAGS`] that its processor has.
    pub flags: u8,
    /// Hardware threads.
    pub threads: i64,
    /// All it has.
    pub has: Resources,
    /// What its owner keeps.
    pub keep: Resources,
    /// Position in [`REGIONS`].
    pub region: usize,
    /// Position in [`NETS`].
    pub net: usize,
    /// Bits of the systems that may boot; all of them: any image.
    pub oses: u8,
    /// Who may rent.
    pub audience: Audience,
    /// Whether emulated partitions go to strangers.
    pub to_strangers: bool,
    /// Shortest and longest term, in seconds.
    pub terms: (i64, i64),
    /// Micros: setup once; flat, core, GiB of memory, GiB of disk for an hour.
    pub prices: [i64; 5],
}

/// A partition.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Its id; rises with its place.
    pub id: Uuid,
    /// Place of its host.
    pub host: usize,
    /// Never less; also what it has while idle.
    pub min: Resources,
    /// Never more.
    pub max: Resources,
    /// What it has while a lease holds it.
    pub held: Option<Resources>,
    /// The most it could become now; none while held.
    pub reach: Option<Resources>,
    /// When it was listed; no two at the same time.
    pub listed_at: i64,
}

/// The market.
#[derive(Debug, Clone)]
pub struct Market {
    /// Every host.
    pub hosts: Vec<Host>,
    /// Every partition, those of a host one after the other.
    pub partitions: Vec<Partition>,
}

/// A whole id in the form of version 7, so that ids rise with `n`.
pub fn id(kind: u128, n: u64) -> Uuid {
    let made_ms = 1_789_000_000_000u128 + u128::from(n);
    Uuid::from_u128(made_ms << 80 | 7 << 76 | kind << 64 | 2 << 62 | u128::from(n))
}

/// Shorthand for amounts: millicores, MiB, GiB.
pub fn amounts(cpu: i64, memory: i64, disk: i64) -> Resources {
    Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(disk) }
}

impl Market {
    /// The market of `partitions` partitions that this seed gives.
    pub fn generate(seed: u64, partitions: usize) -> Self {
        let mut rng = Rng::new(seed);
        let count = partitions / PARTITIONS_A_HOST;
        let hosts: Vec<Host> = (0..count as u64).map(|n| host(&mut rng, n)).collect();
        let mut all = Vec::with_capacity(partitions);
        for (place, host) in hosts.iter().enumerate() {
            divide(&mut rng, place, host, &mut all);
        }
        // Listed in another order than by id, so that neither order stands for the other.
        let mut order: Vec<i64> = (0..all.len() as i64).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, rng.below(at as u64 + 1) as usize);
        }
        for (partition, at) in all.iter_mut().zip(order) {
            partition.listed_at = NOW.0 - 3_600_000_000 - at;
        }
        Self { hosts, partitions: all }
    }

    /// The host of a partition.
    pub fn host_of(&self, partition: &Partition) -> &Host {
        &self.hosts[partition.host]
    }
}

fn host(rng: &mut Rng, n: u64) -> Host {
    let threads = rng.pick(&[8, 16, 24, 32, 48, 64, 96, 128]);
    let (memory, disk) = (rng.pick(&[2, 4, 8]), rng.pick(&[16, 32, 64]));
    let has = amounts(threads * 1000, threads * memory * 1024, threads * disk);
    let eighth = amounts(has.cpu.0 / 8, has.memory.0 / 8, has.disk.0 / 8);
    let (region, net) = (rng.weighted(&REGION_WEIGHTS), rng.weighted(&NET_WEIGHTS));
    Host {
        id: id(1, n),
        offer: id(2, n),
        lender: rng.below(LENDERS),
        arch: rng.weighted(&ARCH_WEIGHTS),
        tier: if rng.percent(85) { Tier::Kvm } else { Tier::Emulated },
        confined: rng.percent(98),
        flags: 3 | u8::from(rng.percent(80)) << 2 | u8::from(rng.percent(35)) << 3,
        threads,
        has,
        keep: if rng.percent(25) { eighth } else { Resources::ZERO },
        region,
        net,
        oses: if rng.percent(75) { 7 } else { rng.between(1, 6) as u8 },
        audience: match rng.below(100) {
            0..88 => Audience::Everyone,
            88..92 => Audience::Own,
            92..96 => Audience::With,
            _ => Audience::Without,
        },
        to_strangers: rng.percent(50),
        terms: (rng.pick(&[60, 3600, 6 * 3600]), rng.pick(&[1, 7, 30]) * 86_400),
        prices: prices(rng, region as i64, net as i64),
    }
}

/// Dearer where the region is rare and the network fast; every price is a multiple of 4.
fn prices(rng: &mut Rng, region: i64, net: i64) -> [i64; 5] {
    let level = 100 + 6 * region + 15 * net;
    let mut price = |from, to| rng.between(from, to) * level / 400 * 4;
    let (flat, core, memory, disk) = (price(0, 2000), price(4000, 40_000), price(500, 5000), price(8, 96));
    let setup = if rng.percent(30) { rng.between(1, 1250) * 4 } else { 0 };
    [setup, flat, core, memory, disk]
}

fn divide(rng: &mut Rng, place: usize, host: &Host, all: &mut Vec<Partition>) {
    let lendable = host.has - host.keep;
    let whole = |amount: i64, unit: i64| amount / unit * unit;
    let slice = |parts: i64, of: i64| {
        let part = |amount: i64, unit| whole(amount * parts / (8 * of), unit).max(unit);
        amounts(part(lendable.cpu.0, 250), part(lendable.memory.0, 256), part(lendable.disk.0, 1))
    };
    let first = all.len();
    for n in 0..PARTITIONS_A_HOST {
        let fixed = rng.percent(30);
        let min = if fixed { slice(rng.between(2, 4), 4) } else { amounts(500, 512, 1) };
        let max = if fixed { min } else { slice(rng.pick(&[1, 2, 4]), 1) };
        let held = rng.percent(50).then(|| if fixed { min } else { slice(rng.between(1, 4), 4).max(min) });
        let at = (place * PARTITIONS_A_HOST + n) as u64;
        all.push(Partition { id: id(3, at), host: place, min, max, held, reach: None, listed_at: 0 });
    }
    // The rule of alteration: an idle one can take all but what others hold, or need at the least.
    let taken: Resources = all[first..].iter().map(|p| p.held.unwrap_or(p.min)).sum();
    for partition in all[first..].iter_mut().filter(|p| p.held.is_none()) {
        partition.reach = Some(partition.max.min(lendable - (taken - partition.min)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::partition::Profile;
    use sublet_model::partition::alter::{Slot, check_division, reach};

    #[test]
    fn a_seed_gives_one_market_and_the_model_agrees_with_it() {
        let market = Market::generate(7, 4000);
        assert_eq!(market.partitions.len(), 4000);
        let again = Market::generate(7, 4000);
        assert!(market.partitions.iter().zip(&again.partitions).all(|(a, b)| a.reach == b.reach && a.id == b.id));
        let busy = market.partitions.iter().filter(|p| p.held.is_some()).count();
        assert!((1800..2200).contains(&busy), "{busy}");
        for of_host in market.partitions.chunks(PARTITIONS_A_HOST) {
            let host = market.host_of(&of_host[0]);
            let lendable = host.has - host.keep;
            let profile = |p: &Partition| Profile { min: p.min, desired: p.min, max: p.max };
            let slots: Vec<Slot> = of_host
                .iter()
                .map(|p| Slot {
                    id: p.id.into(),
                    profile: profile(p),
                    has: p.held.unwrap_or(p.min),
                    held: p.held.is_some(),
                })
                .collect();
            let profiles: Vec<Profile> = of_host.iter().map(profile).collect();
            check_division(lendable, &profiles).unwrap();
            for partition in of_host {
                profile(partition).check().unwrap();
                assert_eq!(reach(lendable, &slots, partition.id.into()), partition.reach);
            }
        }
    }
}
