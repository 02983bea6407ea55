//! What several tests of this crate need: a market's signature, an image, a plan, a run.

use crate::reconcile::{Local, Policy};
use crate::store::{Identity, Run, Stage};
use std::collections::BTreeMap;
use sublet_model::billing::{PriceList, Terms};
use sublet_model::host::{Inventory, Tier};
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::ids::{HostId, LeaseId, PartitionId};
use sublet_model::image::{Blob, Boot, ImageManifest};
use sublet_model::market_keys::KeyChain;
use sublet_model::partition::alter::resources;
use sublet_model::partition::{Allocation, Profile};
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Seconds, Timestamp};
use sublet_wire::sync::{self, Wanted};
use uuid::Uuid;

pub fn market() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

pub fn host() -> HostId {
    Uuid::from_u128(1).into()
}

pub fn partition(n: u128) -> PartitionId {
    Uuid::from_u128(100 + n).into()
}

/// The lease of a generation.
pub fn lease(n: u128, generation: u64) -> LeaseId {
    Uuid::from_u128(1000 * n + u128::from(generation)).into()
}

pub fn size(cpu: i64, memory: i64) -> Resources {
    resources(cpu, memory, 0)
}

pub fn allocation(generation: u64, revision: u32, cpu: i64) -> Allocation {
    let resources = size(cpu, 256);
    Allocation { generation, revision, resources, vcpus: Allocation::vcpus_for(resources) }
}

pub fn manifest(kernel: &[u8]) -> ImageManifest {
    ImageManifest {
        name: "linux".into(),
        os: "linux".into(),
        version: "1".into(),
        arch: "x86_64".into(),
        boot: Boot::Direct {
            kernel: Blob { sha256: Sha256Digest::of(kernel), bytes: kernel.len() as u64 },
            initrd: None,
            root: None,
        },
        command_line: "quiet".into(),
        guest_channel: "org.sublet.guest.0".into(),
        login_user: "root".into(),
        minimum_memory: MiB(64),
        minimum_vcpus: 1,
        licence: "GPL-2.0".into(),
        created_at: 1,
    }
}

pub fn terms(n: u128, has: &Allocation, image: &Signed<ImageManifest>) -> Terms {
    Terms {
        lease: lease(n, has.generation),
        client: Uuid::from_u128(2).into(),
        lender: Uuid::from_u128(3).into(),
        host: host(),
        partition: partition(n),
        generation: has.generation,
        resources: has.resources,
        vcpus: has.vcpus,
        offer: Uuid::from_u128(4).into(),
        offer_version: 1,
        prices: PriceList::default(),
        image: image.digest(),
        granted_at: Timestamp(5),
        until: None,
        fee_permille: 0,
        term_seconds: None,
    }
}

/// What the market wants to run in partition `n`, rightly signed.
pub fn wanted_run(n: u128, has: &Allocation) -> sync::Run {
    wanted_run_of(n, has, &manifest(b"kernel"), "http://127.0.0.1:1")
}

pub fn wanted_run_of(n: u128, has: &Allocation, manifest: &ImageManifest, depot: &str) -> sync::Run {
    let image = Signed::sign(manifest, &SecretKey::from_seed(&[8; 32])).unwrap();
    sync::Run {
        lease: lease(n, has.generation),
        hostname: "box".into(),
        terms: Signed::sign(&terms(n, has, &image), &market()).unwrap(),
        image,
        depot: depot.into(),
        term_seconds: Seconds(3600),
        paid_seconds: Seconds(900),
        one_shot: false,
        release_after_disconnect: Seconds(120),
        renter: None,
    }
}

/// The market wants partition `n` to have this and to run it.
pub fn held(n: u128, has: Allocation) -> Wanted {
    Wanted { partition: partition(n), allocation: has, run: Some(wanted_run(n, &has)), gone: None }
}

/// The market wants partition `n` to have this and to be idle.
pub fn idle(n: u128, has: Allocation, gone: Option<u64>) -> Wanted {
    Wanted { partition: partition(n), allocation: has, run: None, gone }
}

/// Two threads are lent, in partitions 1 to 3 of up to two threads each.
pub fn policy() -> Policy {
    let profile = Profile { min: size(100, 64), desired: size(500, 256), max: size(2000, 1024) };
    let local = Local { profile, lendable: true, taken_back: None };
    Policy {
        host: host(),
        market_keys: KeyChain::new(market().public()),
        arch: "x86_64".into(),
        threads: 2,
        lendable: size(2000, 2048),
        partitions: (1..=3).map(|n| (partition(n), local)).collect::<BTreeMap<_, _>>(),
    }
}

pub fn inventory() -> Inventory {
    Inventory {
        arch: "x86_64".into(),
        cpu_model: "test".into(),
        cpu_flags: Vec::new(),
        threads: 4,
        cores: 4,
        memory: MiB(8192),
        disk: GiB(10),
        speed: 1,
        tier: Tier::Emulated,
        confined: true,
        kernel: "6".into(),
        qemu: "10".into(),
    }
}

pub fn identity(market_address: &str) -> Identity {
    Identity {
        host: host(),
        name: "test".into(),
        account: Uuid::from_u128(3).into(),
        market: market_address.into(),
        fingerprint: None,
        market_key: market().public(),
        ssh_ca: Vec::new(),
        session: 0,
    }
}

/// A life of partition 1, generation 1, at a stage, ready at 10 s of the boot `boot`.
pub fn run(stage: Stage) -> Run {
    let has = allocation(1, 0, 1000);
    let ready = (stage >= Stage::Ready).then_some(10_000_000);
    Run {
        partition: partition(1),
        generation: 1,
        wanted: wanted_run(1, &has),
        term: Seconds(3600),
        paid: Seconds(900),
        stage,
        uuid: Uuid::from_u128(9),
        boot_id: (stage >= Stage::Booting).then(|| "boot".into()),
        started_boot_us: (stage >= Stage::Booting).then_some(8_000_000),
        ready_mono_us: ready,
        ready_boot_us: ready,
        metered: Seconds(0),
        contacted: false,
        job: None,
        vanished_boot_us: None,
        started: None,
        reason: None,
        detail: None,
    }
}

/// Partitions 1 to 3 are lent.
pub fn division() -> sync::Division {
    let profile = Profile { min: size(100, 64), desired: size(500, 256), max: size(2000, 1024) };
    let declared =
        |n| sync::Declared { id: partition(n), name: format!("p{n}"), profile, lendable: true, taken_back: None };
    sync::Division {
        revision: 1,
        keep: size(2000, 4096),
        conditions: Some(sublet_model::offer::Conditions::free()),
        partitions: (1..=3).map(declared).collect(),
    }
}
