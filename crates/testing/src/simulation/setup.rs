//! The people, the hosts and the image with which every run begins.

use super::check::{Checked, Violation};
use super::client::Client;
use super::computer::{Computer, Effects, Made};
use super::faults::Fault;
use super::market::keys;
use super::time::BEGINNING;
use super::trouble::Trouble;
use super::world::{Event, HURRY, World, is_silent};
use sublet_host::store::{Identity, Store};
use sublet_market::engine::change::Change;
use sublet_market::engine::command::{Actor, Command};
use sublet_market::engine::rows::{Account, Member, Purse};
use sublet_model::account::Role;
use sublet_model::billing::PriceList;
use sublet_model::host::{Inventory, Tier};
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::ids::{AccountId, MemberId};
use sublet_model::image::{Blob, Boot, ImageManifest};
use sublet_model::ledger::{Book, Cause, Posting, Transfer};
use sublet_model::offer::Conditions;
use sublet_model::partition::Profile;
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds, Timestamp};
use sublet_wire::sync::{Declared, Division};
use uuid::Uuid;

const SSH_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDHostHostHostHostHostHostHostHostHostHost host";
const OPERATOR: u128 = 1;
const LENDER: u128 = 2;
/// Those who rent.
pub const CLIENTS: std::ops::RangeInclusive<u128> = 3..=6;
/// What a client has that pays from what it has: little, the operator takes in more now and then.
const FUNDS: i64 = 500_000;
/// How many hosts there are.
pub const HOSTS: usize = 3;

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

fn actor(n: u128, roles: &[Role]) -> Actor {
    Actor { member: id(n), account: id(n), roles: roles.to_vec() }
}

/// One of those who rent.
pub fn client(n: u128) -> Actor {
    actor(n, &[Role::Client])
}

/// The market's operator.
pub fn operator() -> Actor {
    actor(OPERATOR, &Role::ALL)
}

fn resources(cpu: i64, memory: i64) -> Resources {
    Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(0) }
}

fn price_list() -> PriceList {
    PriceList {
        setup: Micros(100),
        flat: MicrosPerHour(7),
        cpu: MicrosPerHour(3_600_001),
        memory: MicrosPerHour(1_000_003),
        ..PriceList::default()
    }
}

/// What a second costs in micros, times 1000 * 1024 * 3600; and the set-up.
pub fn prices(of: Resources) -> (i128, i128) {
    let (cpu, memory) = (i128::from(of.cpu.0), i128::from(of.memory.0));
    (7 * 1_024_000 + 3_600_001 * cpu * 1024 + 1_000_003 * memory * 1000, 100)
}

/// On what conditions everything is lent.
pub fn lending() -> Conditions {
    Conditions {
        prices: price_list(),
        shortest_term_seconds: Seconds(10),
        longest_term_seconds: Seconds(900),
        eviction_credit: Micros(5_000),
        ..Conditions::free()
    }
}

fn people() -> Vec<Change> {
    let roles = |n: u128| match n {
        OPERATOR => Role::ALL.to_vec(),
        LENDER => vec![Role::Lender],
        _ => vec![Role::Client],
    };
    let created_at = Timestamp(BEGINNING);
    let of = |n: u128| {
        let (account, member): (AccountId, MemberId) = (id(n), id(n));
        let name = format!("person-{n}");
        // Some pay afterwards, some from what they have; it may run out.
        let purse = Purse { on_account: n.is_multiple_of(2), month_limit: None };
        [
            Change::Account(Account { id: account, name: name.clone(), suspended: false, created_at, purse }),
            Change::Member(Member { id: member, account, name, roles: roles(n), created_at }),
        ]
    };
    let people = (OPERATOR..=*CLIENTS.end()).flat_map(of);
    people.chain(CLIENTS.filter(|n| n % 2 == 1).zip(1..).map(|(n, number)| funds(n, number))).collect()
}

/// What a client begins with: enough for a few leases.
fn funds(n: u128, number: u64) -> Change {
    let (account, micros): (AccountId, i64) = (id(n), FUNDS);
    let cause = Cause::Deposit { account, reference: format!("first-{n}") };
    let posting = |book, micros| Posting { book, micros: Micros(micros) };
    let postings = vec![posting(Book::Available(account), micros), posting(Book::Outside, -micros)];
    let outside = Micros(-micros * i64::try_from(number).unwrap_or(1));
    let transfer = Transfer { number, at: Timestamp(BEGINNING), cause, postings };
    Change::Transfer { transfer, after: vec![Micros(micros), outside] }
}

fn inventory(threads: u16) -> Inventory {
    Inventory {
        arch: "x86_64".into(),
        cpu_model: "simulated".into(),
        cpu_flags: vec!["sse2".into()],
        threads,
        cores: threads,
        memory: MiB(8192),
        disk: GiB(100),
        speed: 1,
        tier: Tier::Kvm,
        confined: true,
        kernel: "6.1".into(),
        qemu: "10.0".into(),
    }
}

fn image() -> ImageManifest {
    ImageManifest {
        name: "tiny".into(),
        os: "tiny".into(),
        version: "1".into(),
        arch: "x86_64".into(),
        boot: Boot::Direct { kernel: Blob { sha256: Sha256Digest::of(b"k"), bytes: 1 }, initrd: None, root: None },
        command_line: "quiet".into(),
        guest_channel: "sublet".into(),
        login_user: "root".into(),
        minimum_memory: MiB(64),
        minimum_vcpus: 1,
        licence: "GPL-2.0".into(),
        created_at: 1,
    }
}

fn division(host: u128, partitions: u128) -> Division {
    let profile = Profile { min: resources(300, 256), desired: resources(1000, 512), max: resources(3000, 4096) };
    let declared = |k: u128| Declared {
        id: id(host * 1000 + k),
        name: format!("p{k}"),
        profile,
        lendable: true,
        taken_back: None,
    };
    Division {
        revision: 1,
        keep: resources(1000, 1024),
        conditions: Some(lending()),
        partitions: (1..=partitions).map(declared).collect(),
    }
}

impl World {
    /// People, an image, hosts that joined and speak, clients.
    pub(super) fn set_up(&mut self) -> Checked {
        self.write(&people())?;
        self.check.committed(&people(), &[], 0)?;
        self.market_starts()?;
        let broken = |e: &dyn std::fmt::Display| Violation { what: format!("the beginning: {e}") };
        let signed = Signed::sign(&image(), &SecretKey::from_seed(&[8; 32])).map_err(|e| broken(&e))?;
        let depot = "http://127.0.0.1:7402".into();
        self.word(Command::RegisterImage { actor: operator(), manifest: signed, depot })?;
        self.word(Command::SetFee { actor: operator(), permille: 50 })?;
        for number in 0..HOSTS {
            self.add_host(number)?;
        }
        for (number, n) in CLIENTS.enumerate() {
            let random = self.random.fork();
            self.clients.push(Client::new(number, client(n), random));
        }
        self.at(0, Event::Trouble(Trouble::OperatorLooks));
        Ok(())
    }

    /// How often what a host does goes wrong. A lease is silent for a short time only, so then
    /// trouble has to hurry.
    pub(super) fn set_mood(&mut self, number: usize) {
        let host = self.computers[number].host;
        let silent = self.check.leases.values().any(|told| told.host == host && is_silent(told.state));
        let times = if silent { HURRY } else { 1 };
        let on = |fault, permille| if self.mood.has(fault) { permille * times } else { 0 };
        let (midway, machines) =
            (on(Fault::AgentKilledMidway, self.mood.midway), on(Fault::MachineFailed, self.mood.machines));
        self.computers[number].set_mood(midway, self.mood.mute, machines);
    }

    fn add_host(&mut self, number: usize) -> Checked {
        let n = 100 + number as u128;
        let key = SecretKey::from_seed(&[n as u8; 32]);
        let inventory = inventory([4, 5, 6][number % 3]);
        let token = Sha256Digest::of(&n.to_be_bytes());
        let expires_at = Timestamp(BEGINNING + 3_600_000_000);
        let lender = actor(LENDER, &[Role::Lender]);
        self.word(Command::CreateJoinToken { actor: lender, id: id(n), hash: token, uses: 1, expires_at })?;
        self.word(Command::JoinHost {
            token,
            id: id(n),
            name: format!("host-{number}"),
            key: key.public(),
            ssh_host_key: SSH_KEY.into(),
            inventory: inventory.clone(),
        })?;
        let identity = Identity {
            host: id(n),
            name: format!("host-{number}"),
            account: id(LENDER),
            market: "http://127.0.0.1:1".into(),
            fingerprint: None,
            market_key: keys().market.public(),
            ssh_ca: Vec::new(),
            session: 0,
        };
        let broken = |e: sublet_host::store::StoreError| Violation { what: format!("the beginning: {e}") };
        let store = Store::in_memory().map_err(broken)?;
        store.enrol(&identity).map_err(broken)?;
        store.set_division(&division(n, 2 + number as u128 % 2)).map_err(broken)?;
        let made = Made { number, key, identity, inventory, store, dir: None };
        let mut effects = Effects::default();
        let random = self.random.fork();
        self.computers.push(Computer::new(made, self.now, random, &mut effects));
        self.set_mood(number);
        self.follow(number, effects);
        self.with(number, Computer::start_agent);
        Ok(())
    }
}
