//! The same market as rows of our own resource database, written by the market's own database
//! layer, with its rules and triggers.

use crate::data::{
    ARCHES, Audience, CLIENTS, FLAGS, Host, LENDERS, Market, NETS, NOW, OSES, PARTITIONS_A_HOST, Partition, REGIONS, id,
};
use crate::query::words;
use crate::report::Options;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use sublet_market::config::{Config, Tls, loopback};
use sublet_market::db::Sqlite;
use sublet_market::engine::change::Change;
use sublet_market::engine::command::certification;
use sublet_market::engine::commit::Commit;
use sublet_market::engine::rows::{self, Agreed, Lease, OfferRow, PartitionRow};
use sublet_market::init::init;
use sublet_market::keys::Keys;
use sublet_model::account::Role;
use sublet_model::billing::{PriceList, Terms};
use sublet_model::host::Inventory;
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::ids::{AccountId, LeaseId, MemberId, TokenId};
use sublet_model::image::{Blob, Boot, ImageManifest};
use sublet_model::lease::LeaseState;
use sublet_model::offer::{self, Conditions, Offer};
use sublet_model::partition::{Allocation, Profile};
use sublet_model::units::{MiB, Micros, MicrosPerHour, Seconds, Timestamp};
use sublet_wire::api::Timeline;

/// Number of the account that asks and rents; lenders and other clients come before it.
pub const ASKING: u64 = LENDERS + CLIENTS;
/// The secret of its token.
pub const TOKEN: &str = "sublet_BENCH--BENCH--BENCH--BENCH--BENCH--BENCH---";
/// What every host calls its processor.
pub const CPU_MODEL: &str = "Bench CPU @ 3.00GHz";
/// Where every host says it is reached.
pub const DIAL: &str = "127.0.0.1:40222";
/// A client's key, in OpenSSH's form.
pub const CLIENT_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMlU0Aj30wsRdB3jLlo0A0DBuMqmwvZbzCbZhgBhUNZr me@laptop";
const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+76JRBOFLQKQ0/Z+NtcHYR+qJo7ylM8vISjz2CTDh1";
/// Everything was made and listed an hour before the clock stands still.
const LISTED: Timestamp = Timestamp(NOW.0 - 3_700_000_000);
/// Stands beside a database that was filled to its end.
const WHOLE: &str = "whole";
/// Changes that share one commit while loading.
const BATCH: usize = 20_000;

/// The account with this number.
pub fn account(n: u64) -> AccountId {
    id(4, n).into()
}

/// The member that acts for it.
pub fn member(n: u64) -> MemberId {
    id(5, n).into()
}

/// Name of a host.
pub fn host_name(n: usize) -> String {
    format!("host-{n:06}")
}

/// The key of a host.
pub fn host_key(n: usize) -> SecretKey {
    SecretKey::from_seed(&Sha256Digest::of(&n.to_be_bytes()).0)
}

/// What the image for an architecture and a system is called.
pub fn image_reference(arch: usize, os: usize) -> String {
    format!("{}@1.0-1", image_name(arch, os))
}

fn image_name(arch: usize, os: usize) -> String {
    format!("{}-{}", OSES[os], ["amd64", "arm64"][arch])
}

/// The accounts in a host's audience list, with or without the one that asks.
pub fn audience(host: &Host, with: bool) -> Vec<u64> {
    let some = (0..4).map(|n| LENDERS + (host.lender + n * 7) % CLIENTS);
    some.chain(with.then_some(ASKING)).collect()
}

/// A copy of the market of this size and seed, which is filled once and kept.
pub fn copy_of(options: &Options, seed: u64, rows: usize, market: &Market) -> Result<tempfile::TempDir> {
    let base = PathBuf::from(options.get("data").unwrap_or("target/bench/data"));
    let kept = base.join(format!("market-{rows}-{seed}"));
    if !kept.join(WHOLE).exists() {
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(&base)?;
        let began = Instant::now();
        fill(&kept, market)?;
        std::fs::write(kept.join(WHOLE), "")?;
        eprintln!("{rows}: our database filled in {:.1} s", began.elapsed().as_secs_f64());
    }
    // What an older program filled is brought to today's schema, once and not in every copy.
    drop(Sqlite::open(&kept)?);
    let copy = tempfile::Builder::new().prefix("run").tempdir_in(&base)?;
    // Sharing blocks where the file system can: a market of a million has some gigabytes.
    let from = format!("{}/.", kept.display());
    let copied = Command::new("cp").args(["-a", "--reflink=auto", &from]).arg(copy.path()).status()?;
    ensure!(copied.success(), "copying {from} failed");
    Ok(copy)
}

/// Makes a market in `dir` and fills its database.
pub fn fill(dir: &Path, market: &Market) -> Result<()> {
    let config = Config {
        name: "bench".into(),
        currency: "EUR".into(),
        listen: loopback(),
        tls: Tls::Never,
        relay: None,
        chunk_seconds: None,
    };
    init(dir, &config, &["localhost".into()]).context("make a market")?;
    let keys = Keys::load(dir)?;
    let mut db = Sqlite::open(dir)?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut put = |change: Change| -> Result<()> {
        batch.push(change);
        if batch.len() == BATCH { flush(&mut db, &mut batch) } else { Ok(()) }
    };
    people().into_iter().try_for_each(&mut put)?;
    put(Change::JoinToken(join_token(market.hosts.len())))?;
    for image in images()? {
        put(Change::Image(image))?;
    }
    for (n, host) in market.hosts.iter().enumerate() {
        put(Change::Offer(offer(host)))?;
        put(Change::Host(host_row(n, host)))?;
    }
    for (n, partition) in market.partitions.iter().enumerate() {
        let host = market.host_of(partition);
        put(Change::Partition(partition_row(n, partition, host, &keys)))?;
        if partition.held.is_some() {
            let lease = lease(n, partition, host, &keys)?;
            // All that a host sees of it is known: its first sync brings no news.
            let happened = Some(LISTED);
            let timeline =
                Timeline { fetched_at: happened, booted_at: happened, ready_at: happened, ..lease.timeline.clone() };
            let state = LeaseState::Active { ready_at: LISTED, silent_since: None };
            let id = lease.id;
            put(Change::Lease(Arc::new(lease)))?;
            put(Change::LeaseMoved { lease: id, state, timeline, detail: None })?;
        }
    }
    flush(&mut db, &mut batch)
}

fn flush(db: &mut Sqlite, batch: &mut Vec<Change>) -> Result<()> {
    db.commit(LISTED, &batch.iter().collect::<Vec<_>>()).context("load the database")?;
    batch.clear();
    Ok(())
}

fn people() -> Vec<Change> {
    let roles = vec![Role::Client, Role::Lender];
    let mut all = Vec::new();
    for n in 0..=ASKING {
        let name = format!("account-{n}");
        all.push(Change::Account(rows::Account {
            id: account(n),
            name: name.clone(),
            suspended: false,
            created_at: LISTED,
            purse: rows::Purse::on_account(),
        }));
        all.push(Change::Member(rows::Member {
            id: member(n),
            account: account(n),
            name,
            roles: roles.clone(),
            created_at: LISTED,
        }));
    }
    all.push(Change::Token(rows::Token {
        id: TokenId::from(id(6, 0)),
        member: member(ASKING),
        name: "bench".into(),
        hash: Sha256Digest::of(TOKEN.as_bytes()),
        roles,
        expires_at: NOW.after(Seconds(365 * 86_400)),
        created_at: LISTED,
        revoked_at: None,
    }));
    all
}

fn join_token(hosts: usize) -> rows::JoinToken {
    let count = u32::try_from(hosts).unwrap_or(u32::MAX);
    rows::JoinToken {
        id: TokenId::from(id(6, 1)),
        account: account(0),
        member: member(0),
        hash: Sha256Digest::of(b"join"),
        uses: count,
        used: count,
        expires_at: NOW,
        created_at: LISTED,
    }
}

/// The catalogue.
pub fn images() -> Result<Vec<rows::Image>> {
    let all = (0..ARCHES.len()).flat_map(|arch| (0..OSES.len()).map(move |os| (arch, os)));
    all.map(|(arch, os)| image(arch, os)).collect()
}

fn image(arch: usize, os: usize) -> Result<rows::Image> {
    let blob = |n: u8| Blob { sha256: Sha256Digest([n; 32]), bytes: 1 << 20 };
    let manifest = ImageManifest {
        name: image_name(arch, os),
        os: OSES[os].into(),
        version: "1.0-1".into(),
        arch: ARCHES[arch].into(),
        boot: Boot::Direct { kernel: blob(1), initrd: Some(blob(2)), root: None },
        command_line: String::new(),
        guest_channel: "sublet.guest".into(),
        login_user: "root".into(),
        minimum_memory: MiB(64),
        minimum_vcpus: 1,
        licence: "GPL-2.0".into(),
        created_at: 1_789_000_000,
    };
    let signed = Signed::sign(&manifest, &SecretKey::from_seed(&[3; 32]))?;
    let digest = signed.digest();
    Ok(rows::Image {
        manifest,
        signed,
        digest,
        depot: "http://127.0.0.1:7410".into(),
        suspended: false,
        registered_at: LISTED,
    })
}

/// A host's conditions, as its owner would state them.
pub fn conditions(h: &Host) -> Conditions {
    let [setup, flat, cpu, memory, disk] = h.prices;
    let accounts = |with| offer::Audience::Accounts(audience(h, with).into_iter().map(account).collect());
    let allowed = (0..OSES.len()).filter(|os| h.oses != 7 && h.oses & (1 << os) != 0);
    Conditions {
        prices: PriceList {
            setup: Micros(setup),
            flat: MicrosPerHour(flat),
            cpu: MicrosPerHour(cpu),
            memory: MicrosPerHour(memory),
            disk: MicrosPerHour(disk),
            ..PriceList::default()
        },
        shortest_term_seconds: Seconds(h.terms.0),
        longest_term_seconds: Seconds(h.terms.1),
        audience: match h.audience {
            Audience::Everyone => offer::Audience::Everyone,
            Audience::Own => offer::Audience::Own,
            Audience::With => accounts(true),
            Audience::Without => accounts(false),
        },
        images: allowed.map(|os| image_name(h.arch, os)).collect(),
        emulated_to_strangers: h.to_strangers,
        labels: [("net", NETS[h.net]), ("region", REGIONS[h.region])].map(|(k, v)| (k.into(), v.into())).into(),
        ..Conditions::free()
    }
}

/// The offer for a host's partitions.
pub fn offer(h: &Host) -> OfferRow {
    let offer = Offer { id: h.offer.into(), version: 1, account: account(h.lender), conditions: conditions(h) };
    OfferRow { offer: offer.into(), created_at: LISTED }
}

/// What a host's agent measured.
pub fn inventory(h: &Host) -> Inventory {
    Inventory {
        arch: ARCHES[h.arch].into(),
        cpu_model: CPU_MODEL.into(),
        cpu_flags: words(h.flags, &FLAGS[h.arch]).into_iter().map(String::from).collect(),
        threads: h.threads as u16,
        cores: h.threads as u16 / 2,
        memory: h.has.memory,
        disk: h.has.disk,
        speed: 100_000,
        tier: h.tier,
        confined: h.confined,
        kernel: "6.12.0".into(),
        qemu: "10.0.0".into(),
    }
}

fn host_row(n: usize, h: &Host) -> rows::Host {
    rows::Host {
        id: h.id.into(),
        name: host_name(n),
        account: account(h.lender),
        key: host_key(n).public(),
        ssh_host_key: HOST_KEY.into(),
        inventory: Arc::new(inventory(h)),
        keep: h.keep,
        division_revision: 1,
        offer: Some((h.offer.into(), 1)),
        dial: DIAL.into(),
        session: 1,
        used_session: 1,
        session_reset: false,
        suspended: false,
        forgotten_at: None,
        plan_version: 1,
        joined_with: TokenId::from(id(6, 1)),
        joined_at: LISTED,
    }
}

/// What a partition of the data set has at first.
pub fn allocation(p: &Partition) -> Allocation {
    let resources = p.held.unwrap_or(p.min);
    let vcpus = Allocation::vcpus_for(resources);
    Allocation { generation: u64::from(p.held.is_some()), revision: 0, resources, vcpus }
}

/// The bounds of a partition.
pub fn profile(p: &Partition) -> Profile {
    Profile { min: p.min, desired: p.min, max: p.max }
}

/// What the partition with this place is called on its host.
pub fn partition_name(n: usize) -> String {
    format!("p{}", n % PARTITIONS_A_HOST)
}

fn partition_row(n: usize, p: &Partition, h: &Host, keys: &Keys) -> PartitionRow {
    PartitionRow {
        partition: sublet_model::partition::Partition {
            id: p.id.into(),
            host: h.id.into(),
            name: partition_name(n),
            lendable: true,
            offer: Some(h.offer.into()),
            profile: profile(p),
            allocation: allocation(p),
            access: Some(certification(&keys.ssh_ca_public(), HOST_KEY, DIAL)),
            failed_boots: 0,
        },
        listed_at: Some(Timestamp(p.listed_at)),
        unlisted_until: None,
        taken_back: None,
        leaving: false,
        retired_at: None,
        declared_at: LISTED,
    }
}

/// The lease that holds the partition with this place.
pub fn lease_id(n: usize) -> LeaseId {
    id(7, n as u64).into()
}

fn lease(n: usize, p: &Partition, h: &Host, keys: &Keys) -> Result<Lease> {
    let client = LENDERS + n as u64 % CLIENTS;
    // Any system that may boot there.
    let os = h.oses.trailing_zeros() as usize;
    let image = image(h.arch, os)?;
    let Allocation { generation, resources, vcpus, .. } = allocation(p);
    let terms = Terms {
        lease: lease_id(n),
        client: account(client),
        lender: account(h.lender),
        host: h.id.into(),
        partition: p.id.into(),
        generation,
        resources,
        vcpus,
        offer: h.offer.into(),
        offer_version: 1,
        prices: conditions(h).prices,
        image: image.digest,
        granted_at: LISTED,
        until: None,
        fee_permille: 0,
        term_seconds: None,
    };
    let signed = Signed::sign(&terms, &keys.signing)?;
    Ok(Lease {
        id: terms.lease,
        name: format!("lease-{n}"),
        account: terms.client,
        member: member(client),
        host: terms.host,
        partition: terms.partition,
        generation,
        state: LeaseState::Granted { silent_since: None },
        timeline: Timeline { granted_at: Some(LISTED), ..Timeline::default() },
        agreed: Arc::new(Agreed { terms, signed }),
        image: image.manifest.reference(),
        term_seconds: Seconds(7 * 86_400),
        paid_seconds: Seconds(7 * 86_400),
        one_shot: false,
        release_after_disconnect: Seconds(120),
        ssh_public_key: CLIENT_KEY.into(),
        detail: None,
        chain: None,
        budget: rows::Budget::default(),
    })
}
