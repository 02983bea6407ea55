//! Random markets of few different values, so that much is equal, just fits, or just does not.

use crate::billing::PriceList;
use crate::book::{Book, Lending, Lent, Listing};
use crate::host::{Inventory, Tier};
use crate::identity::Sha256Digest;
use crate::ids::{AccountId, HostId, PartitionId};
use crate::image::{Blob, Boot, ImageManifest};
use crate::offer::{Audience, Conditions, Offer};
use crate::partition::alter::resources;
use crate::requirements::{Bounds, Choice, OrderBy, OrderKey, Requirements};
use crate::resources::Resources;
use crate::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds, Timestamp};
use std::sync::Arc;
use uuid::Uuid;

/// Numbers that only the seed decides.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn maybe<T>(&mut self, n: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(n).then(|| make(self))
    }
}

#[derive(Debug, Clone)]
pub struct Partition {
    id: PartitionId,
    reach: Resources,
    least: Resources,
    held: bool,
    listed_at: Timestamp,
    closed_until: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct Host {
    pub id: HostId,
    name: String,
    inventory: Arc<Inventory>,
    reliability: u16,
    offer: Arc<Offer>,
    /// Heard of at all: otherwise the book is told that nothing is free.
    online: bool,
    /// Not heard lately: the book is not told.
    stale: bool,
    partitions: Vec<Partition>,
}

pub struct Market {
    pub hosts: Vec<Host>,
    pub images: Vec<ImageManifest>,
    pub now: Timestamp,
    made: u128,
}

pub fn account(n: u64) -> AccountId {
    Uuid::from_u128(u128::from(n) + 1).into()
}

impl Market {
    pub fn new(random: &mut Random, hosts: usize) -> Self {
        let images = images(random);
        let mut market = Self { hosts: Vec::new(), images, now: Timestamp(1_790_000_000_000_000), made: 0 };
        for _ in 0..hosts {
            let host = market.host(random);
            market.hosts.push(host);
        }
        market
    }

    fn id(&mut self, random: &mut Random) -> Uuid {
        self.made += 1;
        // Ids do not rise with time here, so that they settle ties of their own.
        Uuid::from_u128(u128::from(random.next()) << 64 | self.made)
    }

    fn host(&mut self, random: &mut Random) -> Host {
        let id = self.id(random);
        let partitions = (0..random.below(6)).map(|_| self.partition(random)).collect();
        Host {
            id: id.into(),
            name: format!("host-{}", self.made),
            inventory: Arc::new(inventory(random)),
            reliability: random.pick(&[1000, 1000, 990, 500, 0]),
            offer: Arc::new(self.offer(random, 1)),
            online: !random.one_in(6),
            stale: random.one_in(12),
            partitions,
        }
    }

    fn offer(&mut self, random: &mut Random, version: u32) -> Offer {
        Offer { id: self.id(random).into(), version, account: account(random.below(4)), conditions: conditions(random) }
    }

    fn partition(&mut self, random: &mut Random) -> Partition {
        let least = sizes(random, &[100, 1000], &[64, 1024], &[0, 10]);
        Partition {
            id: self.id(random).into(),
            reach: sizes(random, &[0, 1000, 2000, 4000], &[64, 1024, 4096], &[-1, 0, 10, 50]),
            least,
            held: random.one_in(3),
            listed_at: Timestamp(random.below(3) as i64),
            closed_until: random.maybe(12, |r| Timestamp(1_790_000_000_000_000 + r.below(3) as i64 - 1)),
        }
    }

    /// Somebody: mostly one who lends nothing, or who is in an audience.
    pub fn client(&self, random: &mut Random) -> AccountId {
        account(random.below(9))
    }

    pub fn is_heard(&self, host: HostId) -> bool {
        self.hosts.iter().any(|h| h.id == host && !h.stale)
    }

    /// What the rule of fit sees: made without the book.
    pub fn listings(&self) -> Vec<Listing<'_>> {
        let of = |host: &Host, p: &Partition| (p.closed_until.is_none_or(|until| until <= self.now), host.has(p));
        let listed = self.hosts.iter().flat_map(|host| host.partitions.iter().map(move |p| (host, p)));
        listed
            .filter(|(host, p)| of(host, p).0)
            .map(|(host, p)| Listing {
                partition: p.id,
                host_name: &host.name,
                inventory: &host.inventory,
                offer: &host.offer,
                reach: host.has(p),
                least: p.least,
                reliability_permille: host.reliability,
                listed_at: p.listed_at,
            })
            .collect()
    }

    /// The same, but as if all were free; with each whether it is.
    pub fn listings_if_free(&self) -> Vec<(Listing<'_>, bool)> {
        let of = |listing: Listing<'_>| self.by_id(listing.partition).reach;
        // A computer that shrank has nothing to give.
        let whole = |reach: Resources| if Resources::ZERO.fits(reach) { reach } else { Resources::ZERO };
        let listings = self.listings().into_iter();
        let is_free = |l: Listing<'_>| self.host_of(l.partition).online && !self.by_id(l.partition).held;
        listings.map(|l| (Listing { reach: Some(whole(of(l))), ..l }, is_free(l))).collect()
    }

    /// Whether the host of a partition was heard lately.
    pub fn is_heard_on(&self, partition: PartitionId) -> bool {
        !self.host_of(partition).stale
    }

    fn host_of(&self, id: PartitionId) -> &Host {
        self.hosts.iter().find(|host| host.partitions.iter().any(|p| p.id == id)).unwrap()
    }

    fn by_id(&self, id: PartitionId) -> &Partition {
        self.hosts.iter().flat_map(|host| &host.partitions).find(|p| p.id == id).unwrap()
    }

    pub fn book(&self) -> Book {
        Book::of(self.hosts.iter().map(|host| (host.lending(), host.lent())))
    }

    /// Something happens in the market, and the book is told of that computer again.
    pub fn change(&mut self, random: &mut Random, book: &mut Book) {
        if self.hosts.is_empty() || random.one_in(10) {
            let host = self.host(random);
            book.set(&host.lending(), &host.lent());
            self.hosts.push(host);
        }
        let at = random.below(self.hosts.len() as u64) as usize;
        let new = (self.partition(random), self.offer(random, 2));
        let host = &mut self.hosts[at];
        let which = random.below(host.partitions.len() as u64) as usize;
        match random.below(12) {
            0 if !host.partitions.is_empty() => drop(host.partitions.swap_remove(which)),
            1 => host.partitions.push(new.0),
            2 => host.offer = Arc::new(new.1),
            3 => host.inventory = Arc::new(inventory(random)),
            4 => host.reliability = random.pick(&[1000, 990, 0]),
            5 => host.online = !host.online,
            6 => host.name = format!("renamed-{}", random.next()),
            7 => {
                book.remove(host.id);
                self.hosts.swap_remove(at);
                return;
            }
            8 => host.stale = !host.stale,
            _ => {
                if let Some(partition) = host.partitions.get_mut(which) {
                    (partition.held, partition.reach) = (!partition.held, new.0.reach);
                }
            }
        }
        book.set(&host.lending(), &host.lent());
    }
}

impl Host {
    fn has(&self, partition: &Partition) -> Option<Resources> {
        (self.online && !self.stale && !partition.held).then_some(partition.reach)
    }

    pub fn lending(&self) -> Lending<'_> {
        Lending { host: self.id, name: &self.name, inventory: &self.inventory, reliability_permille: self.reliability }
    }

    pub fn lent(&self) -> Vec<Lent> {
        let lent = |p: &Partition| Lent {
            partition: p.id,
            offer: Arc::clone(&self.offer),
            reach: p.reach,
            free: self.online && !p.held,
            least: p.least,
            listed_at: p.listed_at,
            closed_until: p.closed_until,
        };
        self.partitions.iter().map(lent).collect()
    }
}

fn sizes(random: &mut Random, cpu: &[i64], memory: &[i64], disk: &[i64]) -> Resources {
    resources(random.pick(cpu), random.pick(memory), random.pick(disk))
}

fn inventory(random: &mut Random) -> Inventory {
    let mut flags: Vec<String> = ["avx2", "avx512f", "sha_ni"].into_iter().map(String::from).collect();
    flags.truncate(random.below(4) as usize);
    Inventory {
        arch: random.pick(&["x86_64", "x86_64", "aarch64"]).into(),
        cpu_model: random.pick(&["AMD EPYC 7", "Intel Xeon"]).into(),
        cpu_flags: flags,
        threads: random.pick(&[1, 4, 8]),
        cores: 1,
        memory: MiB(8192),
        disk: GiB(100),
        speed: random.pick(&[1000, 2000]),
        tier: random.pick(&[Tier::Kvm, Tier::Kvm, Tier::Emulated]),
        confined: !random.one_in(6),
        kernel: format!("6.{}", random.below(3)),
        qemu: "9".into(),
    }
}

fn conditions(random: &mut Random) -> Conditions {
    let price = |random: &mut Random| match random.below(12) {
        0 => MicrosPerHour::MAX,
        1 => MicrosPerHour(i64::from(u32::MAX) - 1 + random.below(3) as i64),
        n => MicrosPerHour(n as i64 % 4 * 500),
    };
    let prices = PriceList {
        setup: Micros(random.pick(&[0, 0, 0, 7, 1 << 33])),
        flat: price(random),
        cpu: price(random),
        memory: price(random),
        disk: price(random),
        shortest_charge_seconds: Seconds::ZERO,
    };
    let audience = match random.below(8) {
        0 => Audience::Own,
        1 => Audience::Accounts(vec![account(5), account(6)]),
        _ => Audience::Everyone,
    };
    let mut labels = std::collections::BTreeMap::new();
    for key in ["region", "net"] {
        if !random.one_in(4) {
            labels.insert(key.into(), random.pick(&["eu", "us", "ap"]).into());
        }
    }
    Conditions {
        prices,
        shortest_term_seconds: Seconds(random.pick(&[60, 3600])),
        longest_term_seconds: Seconds(random.pick(&[3600, 7200, 86_400])),
        audience,
        images: random.maybe(4, |r| vec![r.pick(&["debian-12", "alpine-3"]).into()]).unwrap_or_default(),
        emulated_to_strangers: random.one_in(2),
        labels,
        ..Conditions::free()
    }
}

fn images(random: &mut Random) -> Vec<ImageManifest> {
    let image = |random: &mut Random, os: &str, name: &str, arch: &str| ImageManifest {
        name: name.into(),
        os: os.into(),
        version: format!("{}", random.below(3)),
        arch: arch.into(),
        boot: Boot::Direct { kernel: Blob { sha256: Sha256Digest::of(b""), bytes: 1 }, initrd: None, root: None },
        command_line: String::new(),
        guest_channel: "g".into(),
        login_user: "root".into(),
        minimum_memory: MiB(random.pick(&[32, 512, 1024])),
        minimum_vcpus: random.pick(&[1, 1, 2]),
        licence: String::new(),
        created_at: random.below(3) as i64,
    };
    let kinds =
        [("debian", "debian-12", "x86_64"), ("debian", "debian-12", "aarch64"), ("alpine", "alpine-3", "x86_64")];
    (0..random.below(7)).map(|n| kinds[n as usize % 3]).map(|(os, name, arch)| image(random, os, name, arch)).collect()
}

fn bounds<T: Copy + PartialOrd>(random: &mut Random, of: &[T]) -> Bounds<T> {
    let (a, b) = (random.pick(of), random.pick(of));
    match random.below(4) {
        0 => Bounds::AtMost(a),
        1 if a <= b => Bounds::Between(a, b),
        _ => Bounds::AtLeast(a),
    }
}

fn choice(random: &mut Random, of: &[&str]) -> Choice {
    let words: Vec<&str> = (0..random.below(2) + 1).map(|_| random.pick(of)).collect();
    if random.one_in(4) { Choice::none_of(words) } else { Choice::one_of(words) }
}

/// Some requirements; most can be met by something.
pub fn requirements(random: &mut Random) -> Requirements {
    let r = random;
    let mut asked = Requirements {
        cpu: r.maybe(2, |r| bounds(r, &[100, 1000, 1001, 2000, 4000].map(Millicores))),
        memory: r.maybe(2, |r| bounds(r, &[64, 65, 512, 1024, 4096].map(MiB))),
        disk: r.maybe(3, |r| bounds(r, &[0, 1, 10, 50].map(GiB))),
        vcpus: r.maybe(5, |r| bounds(r, &[1, 2, 4, 8])),
        os: r.maybe(4, |r| choice(r, &["debian", "alpine", "plan9"])),
        image: r.maybe(8, |r| choice(r, &["debian-12", "alpine-3"])),
        arch: r.maybe(4, |r| choice(r, &["x86_64", "aarch64"])),
        cpu_model: r.maybe(8, |r| choice(r, &["epyc", "xeon"])),
        host: r.maybe(12, |r| choice(r, &["host-1", "host-2", "host-9", "nowhere"])),
        tier: r.maybe(12, |r| r.pick(&[Tier::Kvm, Tier::Emulated])),
        emulated: r.maybe(3, |r| r.one_in(2)),
        speed_at_least: r.maybe(8, |r| r.pick(&[1000, 1001, 2000])),
        reliability_permille_at_least: r.maybe(8, |r| r.pick(&[0, 500, 990, 991, 1000])),
        price_at_most: r.maybe(3, |r| MicrosPerHour(r.pick(&[0, 500, 1500, 3000, 1 << 34]))),
        total_at_most: r.maybe(6, |r| Micros(r.pick(&[0, 7, 1500, 3007, 1 << 40]))),
        term_seconds: r.maybe(2, |r| Seconds(r.pick(&[59, 60, 3599, 3600, 3601, 7200, 86_400, 86_401]))),
        ..Requirements::default()
    };
    for key in ["region", "net", "rack"] {
        if r.one_in(5) {
            asked.labels.insert(key.into(), choice(r, &["eu", "us", "ap", "moon"]));
        }
    }
    for name in ["avx2", "avx512f", Requirements::CONFINED] {
        match r.below(10) {
            0 => drop(asked.traits.insert(name.into())),
            1 => drop(asked.without_traits.insert(name.into())),
            _ => {}
        }
    }
    for _ in 0..r.below(3) * r.below(2) {
        let key = OrderKey { by: r.pick(&OrderBy::ALL), reversed: r.one_in(3) };
        if !asked.order.iter().any(|k| k.by == key.by) {
            asked.order.push(key);
        }
    }
    asked
}
