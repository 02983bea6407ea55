//! Plain things for tests that change one of them.

use crate::billing::PriceList;
use crate::book::class::Classes;
use crate::book::leaf::Row;
use crate::book::{Lending, Lent};
use crate::host::{Inventory, Tier};
use crate::ids::{AccountId, HostId, PartitionId};
use crate::image::{Blob, Boot, ImageManifest};
use crate::offer::{Conditions, Offer};
use crate::partition::alter::resources;
use crate::units::{GiB, MiB, MicrosPerHour, Seconds, Timestamp};
use std::sync::Arc;
use uuid::Uuid;

pub fn account(n: u128) -> AccountId {
    Uuid::from_u128(n).into()
}

pub fn inventory() -> Inventory {
    Inventory {
        arch: "x86_64".into(),
        cpu_model: "AMD EPYC 7763".into(),
        cpu_flags: vec!["avx2".into()],
        threads: 8,
        cores: 4,
        memory: MiB(16_384),
        disk: GiB(100),
        speed: 1000,
        tier: Tier::Kvm,
        confined: true,
        kernel: "6".into(),
        qemu: "9".into(),
    }
}

pub fn conditions() -> Conditions {
    let prices = PriceList { cpu: MicrosPerHour(1000), ..PriceList::default() };
    let conditions = Conditions {
        prices,
        shortest_term_seconds: Seconds(60),
        longest_term_seconds: Seconds(86_400),
        ..Conditions::free()
    };
    Conditions { labels: [("region".to_owned(), "eu".to_owned())].into(), ..conditions }
}

pub fn image() -> ImageManifest {
    ImageManifest {
        name: "debian-12".into(),
        os: "debian".into(),
        version: "1".into(),
        arch: "x86_64".into(),
        boot: Boot::Direct {
            kernel: Blob { sha256: crate::identity::Sha256Digest::of(b""), bytes: 1 },
            initrd: None,
            root: None,
        },
        command_line: String::new(),
        guest_channel: "g".into(),
        login_user: "root".into(),
        minimum_memory: MiB(64),
        minimum_vcpus: 1,
        licence: String::new(),
        created_at: 1,
    }
}

/// A computer with one partition of 4 cores, 4 GiB and 40 GiB, lent by account 1.
#[derive(Debug, Clone)]
pub struct Computer {
    pub id: u128,
    pub name: String,
    pub inventory: Inventory,
    pub reliability: u16,
    pub conditions: Conditions,
    pub lent: Lent,
}

impl Computer {
    pub fn new(n: u128) -> Self {
        let offer = Offer { id: Uuid::from_u128(n).into(), version: 1, account: account(1), conditions: conditions() };
        let lent = Lent {
            partition: partition(n),
            offer: Arc::new(offer),
            reach: resources(4000, 4096, 40),
            free: true,
            least: resources(100, 64, 0),
            listed_at: Timestamp(5),
            closed_until: None,
        };
        let name = format!("host-{n}");
        Self { id: n, name, inventory: inventory(), reliability: 990, conditions: conditions(), lent }
    }

    /// The same, edited.
    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self.lent.offer = Arc::new(Offer { conditions: self.conditions.clone(), ..(*self.lent.offer).clone() });
        self
    }

    pub fn host(&self) -> HostId {
        Uuid::from_u128(self.id).into()
    }

    /// Tells of it, as the market tells a book.
    pub fn told<T>(&self, tell: impl FnOnce(&Lending<'_>, &[Lent]) -> T) -> T {
        let inventory = Arc::new(self.inventory.clone());
        let lending = Lending {
            host: self.host(),
            name: &self.name,
            inventory: &inventory,
            reliability_permille: self.reliability,
        };
        tell(&lending, std::slice::from_ref(&self.lent))
    }
}

pub fn partition(n: u128) -> PartitionId {
    Uuid::from_u128(n).into()
}

/// A row whose columns all differ.
pub fn row(number: u32, classes: &mut Classes) -> Row {
    Row {
        number,
        class: classes.enter(&inventory(), &conditions()),
        lender: 2,
        free: true,
        reach: [4000, 4096, 40],
        least: [100, 64, 1],
        prices: [3, 5, 7, 9, 11],
        unreliable: 13,
        threads: 8,
        speed: 17,
        shortest: 60,
        longest: 7200,
        listed: 19,
    }
}
