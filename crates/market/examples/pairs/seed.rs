//! A market of any size, written straight into its database: one account that lends, some that
//! rent, hosts of a few partitions each, one image.

use std::path::Path;
use std::sync::Arc;
use sublet_market::db::{FirstMember, Sqlite, create};
use sublet_market::engine::change::Change;
use sublet_market::engine::command::certification;
use sublet_market::engine::commit::Commit;
use sublet_market::engine::rows::{Account, Host, Image, JoinToken, Member, OfferRow, PartitionRow, Purse};
use sublet_model::account::Role;
use sublet_model::host::{Inventory, Tier};
use sublet_model::identity::{PublicKey, SecretKey, Sha256Digest, Signed};
use sublet_model::image::{Blob, Boot, ImageManifest};
use sublet_model::offer::{Conditions, Offer};
use sublet_model::partition::{Allocation, Partition, Profile};
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, MicrosPerHour, Millicores, Seconds, Timestamp};
use uuid::Uuid;

pub const START: Timestamp = Timestamp(1_800_000_000_000_000);
pub const SSH_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+76JRBOFLQKQ0/Z+NtcHYR+qJo7ylM8vISjz2CTDh1";
pub const SSH_CA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDTestTestTestTestTestTestTestTestTestTest ca";
pub const DIAL: &str = "127.0.0.1:40222";
pub const PER_HOST: u64 = 8;

const LENDER: u128 = 2;
/// The first of the accounts that rent.
pub const CLIENT: u128 = 1000;
const TOKEN: u128 = 900;
/// Rows of one transaction while seeding.
const AT_ONCE: usize = 50_000;

pub fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

pub fn host_number(n: u64) -> u128 {
    (1 << 64) + u128::from(n)
}

pub fn partition_number(host: u64, k: u64) -> u128 {
    (2 << 64) + u128::from(host * PER_HOST + k)
}

/// A small generator of numbers, the same in every run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

pub fn inventory() -> Inventory {
    Inventory {
        arch: "x86_64".into(),
        cpu_model: "seeded".into(),
        cpu_flags: vec!["sse2".into(), "avx2".into()],
        threads: 64,
        cores: 32,
        memory: MiB(256 << 10),
        disk: GiB(4000),
        speed: 1000,
        tier: Tier::Kvm,
        confined: true,
        kernel: "6.1".into(),
        qemu: "9.2".into(),
    }
}

fn account(n: u128, name: &str, role: Role) -> [Change; 2] {
    let member = Member { id: id(n), account: id(n), name: name.into(), roles: vec![role], created_at: START };
    [
        Change::Account(Account {
            id: id(n),
            name: name.into(),
            suspended: false,
            created_at: START,
            purse: Purse::on_account(),
        }),
        Change::Member(member),
    ]
}

fn image() -> Change {
    let manifest = ImageManifest {
        name: "debian-12".into(),
        os: "debian".into(),
        version: "12.1".into(),
        arch: "x86_64".into(),
        boot: Boot::Direct { kernel: Blob { sha256: Sha256Digest::of(b"k"), bytes: 1 }, initrd: None, root: None },
        command_line: "quiet".into(),
        guest_channel: "sublet".into(),
        login_user: "root".into(),
        minimum_memory: MiB(64),
        minimum_vcpus: 1,
        licence: "GPL-2.0".into(),
        created_at: 1,
    };
    let signed = Signed::sign(&manifest, &SecretKey::from_seed(&[8; 32])).expect("a manifest is plain data");
    let digest = signed.digest();
    let depot = "http://127.0.0.1:7402".into();
    Change::Image(Image { manifest, signed, digest, depot, suspended: false, registered_at: START })
}

/// One host with its offer and partitions: sizes and prices by the dice.
fn host(n: u64, dice: &mut Dice) -> Vec<Change> {
    let mut conditions = Conditions::free();
    conditions.prices.cpu = MicrosPerHour(4_000 + i64::try_from(dice.below(16_000)).unwrap_or(0));
    conditions.prices.memory = MicrosPerHour(500 + i64::try_from(dice.below(2_000)).unwrap_or(0));
    let region = ["eu", "us", "asia"][usize::try_from(dice.below(3)).unwrap_or(0)];
    conditions.labels.insert("region".into(), region.into());
    let number = host_number(n);
    let offer = Offer { id: id(number), version: 1, account: id(LENDER), conditions };
    let mut rows = vec![
        Change::Offer(OfferRow { offer: offer.into(), created_at: START }),
        Change::Host(Host {
            id: id(number),
            name: format!("h{n}"),
            account: id(LENDER),
            // One of a kind; nothing is signed with it here.
            key: PublicKey(Sha256Digest::of(&n.to_be_bytes()).0),
            ssh_host_key: SSH_KEY.into(),
            inventory: Arc::new(inventory()),
            keep: Resources::ZERO,
            division_revision: 1,
            offer: Some((id(number), 1)),
            dial: DIAL.into(),
            session: 1,
            used_session: 1,
            session_reset: false,
            suspended: false,
            forgotten_at: None,
            plan_version: 1,
            joined_with: id(TOKEN),
            joined_at: START,
        }),
    ];
    rows.extend((0..PER_HOST).map(|k| partition(n, k, dice)));
    rows
}

fn partition(host: u64, k: u64, dice: &mut Dice) -> Change {
    let cpu = 1 + i64::try_from(dice.below(8)).unwrap_or(0);
    let size = Resources { cpu: Millicores(cpu * 1000), memory: MiB(cpu * 2048), disk: GiB(100) };
    let least = Resources { cpu: Millicores(500), memory: MiB(512), disk: GiB(0) };
    Change::Partition(PartitionRow {
        partition: Partition {
            id: id(partition_number(host, k)),
            host: id(host_number(host)),
            name: format!("p{k}"),
            lendable: true,
            offer: Some(id(host_number(host))),
            profile: Profile { min: least, desired: size, max: size },
            allocation: Allocation { generation: 0, revision: 0, resources: size, vcpus: Allocation::vcpus_for(size) },
            access: Some(certification(SSH_CA, SSH_KEY, DIAL)),
            failed_boots: 0,
        },
        listed_at: Some(START),
        unlisted_until: None,
        taken_back: None,
        leaving: false,
        retired_at: None,
        declared_at: START,
    })
}

/// Makes the market in `dir`, unless it is there already. Answers how many hosts it has.
pub fn seed(dir: &Path, partitions: u64, clients: usize) -> anyhow::Result<u64> {
    let hosts = partitions.div_ceil(PER_HOST);
    let done = dir.join("seeded");
    if done.exists() {
        return Ok(hosts);
    }
    let first = FirstMember {
        account: id(1),
        member: id(1),
        token: id(901),
        token_hash: Sha256Digest::of(b"secret"),
        token_expires_at: START.after(Seconds(86_400)),
    };
    std::fs::create_dir_all(dir)?;
    create(dir, "EUR", &first, START)?;
    let mut db = Sqlite::open(dir)?;
    let mut rows: Vec<Change> = account(LENDER, "lender", Role::Lender).into();
    for n in 0..clients {
        rows.extend(account(CLIENT + n as u128, &format!("client-{n}"), Role::Client));
    }
    rows.push(image());
    rows.push(Change::JoinToken(JoinToken {
        id: id(TOKEN),
        account: id(LENDER),
        member: id(LENDER),
        hash: Sha256Digest::of(b"join"),
        uses: 1,
        used: 1,
        expires_at: START,
        created_at: START,
    }));
    let mut dice = Dice::new(1);
    for n in 0..hosts {
        rows.extend(host(n, &mut dice));
        if rows.len() > AT_ONCE {
            db.commit(START, &rows.iter().collect::<Vec<_>>())?;
            rows.clear();
        }
    }
    db.commit(START, &rows.iter().collect::<Vec<_>>())?;
    std::fs::write(done, [])?;
    Ok(hosts)
}
