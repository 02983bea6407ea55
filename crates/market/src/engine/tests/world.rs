//! A small market: an operator, a lender with one host of two partitions, two clients. Everything
//! that a test does goes through `step`, and is checked after it.

use crate::db::Sqlite;
use crate::engine::change::Change;
use crate::engine::command::{Actor, Command, Idempotency, Outcome, Refusal, Rent, Reply};
use crate::engine::commit::Commit;
use crate::engine::draft::Keys;
use crate::engine::plan::{self, Plan};
use crate::engine::rows::{Account, Lease, Member, Purse};
use crate::engine::state::State;
use crate::engine::step::{Engine, Request};
use std::collections::BTreeMap;
use std::sync::Arc;
use sublet_model::account::Role;
use sublet_model::billing::PriceList;
use sublet_model::host::{Inventory, Tier};
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::ids::{AccountId, HostId, LeaseId, MemberId, PartitionId};
use sublet_model::image::{Blob, Boot, ImageManifest};
use sublet_model::ledger::Book;
use sublet_model::metering::Receipt;
use sublet_model::offer::Conditions;
use sublet_model::partition::alter::resources;
use sublet_model::partition::{Allocation, Phase, Profile};
use sublet_model::requirements::Requirements;
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds, Timestamp};
use sublet_wire::sync::{Declared, Division, Observed, SyncAnswer, SyncMessage, SyncRequest};
use uuid::Uuid;

/// The market opens its doors.
pub const START: Timestamp = Timestamp(1_800_000_000_000_000);
pub const SSH_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDTestTestTestTestTestTestTestTestTestTest someone";

pub fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

pub fn actor(n: u128, roles: &[Role]) -> Actor {
    Actor { member: id(n), account: id(n), roles: roles.to_vec() }
}

pub const OPERATOR: u128 = 1;
pub const LENDER: u128 = 2;
pub const CLIENT: u128 = 3;
pub const STRANGER: u128 = 4;
pub const HOST: u128 = 100;

pub fn operator() -> Actor {
    actor(OPERATOR, &Role::ALL)
}

pub fn lender() -> Actor {
    actor(LENDER, &[Role::Lender])
}

pub fn client() -> Actor {
    actor(CLIENT, &[Role::Client])
}

pub fn stranger() -> Actor {
    actor(STRANGER, &[Role::Client, Role::Lender])
}

pub fn inventory(threads: u16) -> Inventory {
    Inventory {
        arch: "x86_64".into(),
        cpu_model: "test".into(),
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

pub fn profile(min: i64, desired: i64, max: i64) -> Profile {
    let r = |cpu| resources(cpu, 512, 0);
    Profile { min: r(min), desired: r(desired), max: Resources { memory: MiB(4096), ..r(max) } }
}

/// What one host says, and how it signs.
pub struct Agent {
    pub host: HostId,
    pub key: SecretKey,
    pub session: u64,
    pub says: SyncRequest,
    /// The newest receipt of each lease.
    pub chains: BTreeMap<LeaseId, (u64, Sha256Digest)>,
}

impl Agent {
    pub fn new(n: u128) -> Self {
        let declared = |k: u128, name: &str| Declared {
            id: id(n * 1000 + k),
            name: name.into(),
            profile: profile(500, 1000, 3000),
            lendable: true,
            taken_back: None,
        };
        let prices = PriceList { setup: Micros(100), cpu: MicrosPerHour(3_600_000), ..PriceList::default() };
        let division = Division {
            revision: 1,
            keep: resources(1000, 1024, 0),
            conditions: Some(Conditions { prices, ..Conditions::free() }),
            partitions: vec![declared(1, "one"), declared(2, "two")],
        };
        Self {
            host: id(n),
            key: SecretKey::from_seed(&[n as u8; 32]),
            session: 1,
            says: SyncRequest {
                wall_clock: START,
                inventory: inventory(4),
                dial: "127.0.0.1:40222".into(),
                division,
                observed: Vec::new(),
                receipts: Vec::new(),
                plan_version: 0,
                lives: Vec::new(),
                catching_up: false,
                keys: None,
            },
            chains: BTreeMap::new(),
        }
    }

    pub fn partition(&self, n: usize) -> PartitionId {
        self.says.division.partitions[n].id
    }

    /// What it says at this moment, for a batch.
    pub fn sync(&mut self, now: Timestamp) -> Command {
        self.says.wall_clock = now;
        Command::Sync { host: self.host, session: self.session, request: Box::new(self.says.clone().into()) }
    }

    /// Sees the partition of a lease in this phase.
    pub fn sees(&mut self, lease: &Lease, phase: Phase) {
        let seen = Observed {
            partition: lease.partition,
            applied: Allocation {
                generation: lease.generation,
                revision: 0,
                resources: lease.terms().resources,
                vcpus: lease.terms().vcpus,
            },
            lease: Some(lease.id),
            phase,
            seconds: Seconds(0),
            first_contact: false,
            started: None,
            detail: None,
        };
        self.says.observed.retain(|o| o.partition != lease.partition);
        self.says.observed.push(seen);
    }

    /// The next receipt of a lease.
    pub fn receipt(&mut self, lease: &Lease, seconds: i64, last: bool) -> Signed<Receipt> {
        let (seq, previous) = self.chains.get(&lease.id).map_or((0, None), |(seq, digest)| (*seq, Some(*digest)));
        let receipt = Receipt {
            lease: lease.id,
            generation: lease.generation,
            seq: seq + 1,
            seconds: Seconds(seconds),
            cpu_used_ms: 7,
            last,
            previous,
        };
        let signed = Signed::sign(&receipt, &self.key).unwrap();
        self.chains.insert(lease.id, (seq + 1, signed.digest()));
        signed
    }
}

pub fn manifest(name: &str, os: &str) -> ImageManifest {
    ImageManifest {
        name: name.into(),
        os: os.into(),
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

pub struct World<D = Sqlite> {
    pub engine: Engine,
    pub db: D,
    /// What readers see.
    pub published: State,
    pub now: Timestamp,
    next_id: u128,
    /// The newest plan of each host: with the same version it must stay the same.
    plans: BTreeMap<HostId, Plan>,
}

pub fn keys() -> Keys {
    Keys::first(SecretKey::from_seed(&[9; 32]), vec!["ssh-ed25519 CA".into()])
}

/// The rows with which every test begins.
pub fn first_rows() -> Vec<Change> {
    let mut rows = Vec::new();
    let people: [(u128, &str, &[Role]); 4] = [
        (OPERATOR, "operator", &Role::ALL),
        (LENDER, "lender", &[Role::Lender]),
        (CLIENT, "client", &[Role::Client]),
        (STRANGER, "stranger", &[Role::Client, Role::Lender]),
    ];
    for (n, name, roles) in people {
        let (account, member): (AccountId, MemberId) = (id(n), id(n));
        let purse = Purse::on_account();
        let account = Account { id: account, name: name.into(), suspended: false, created_at: START, purse };
        rows.push(Change::Account(account.clone()));
        let account = account.id;
        let (roles, name) = (roles.to_vec(), name.into());
        rows.push(Change::Member(Member { id: member, account, name, roles, created_at: START }));
    }
    rows
}

impl World {
    /// People only.
    pub fn empty() -> Self {
        Self::over(Sqlite::in_memory().unwrap())
    }

    /// With an image, and a host that has synced once.
    pub fn lending() -> (Self, Agent) {
        let mut world = Self::empty();
        let agent = world.add_host(HOST);
        (world, agent)
    }
}

impl<D: Commit> World<D> {
    pub fn over(mut db: D) -> Self {
        let rows = first_rows();
        db.commit(START, &rows.iter().collect::<Vec<_>>()).unwrap();
        let engine = Engine::new(State::new(db.load().unwrap()), keys(), START);
        let published = engine.state().clone();
        Self { engine, db, published, now: START, next_id: 1_000_000, plans: BTreeMap::new() }
    }

    /// A market that starts over what its database holds.
    pub fn started(mut db: D, now: Timestamp) -> Self {
        let engine = Engine::new(State::new(db.load().unwrap()), keys(), now);
        let published = engine.state().clone();
        Self { engine, db, published, now, next_id: 2_000_000, plans: BTreeMap::new() }
    }

    /// The market starts again: what it only had in memory is forgotten.
    pub fn restart(&mut self) {
        self.restart_with(keys());
    }

    /// And with these keys.
    pub fn restart_with(&mut self, keys: Keys) {
        self.engine = Engine::new(State::new(self.db.load().unwrap()), keys, self.now);
        self.published = self.engine.state().clone();
    }

    pub fn fresh<T: From<Uuid>>(&mut self) -> T {
        self.next_id += 1;
        id(self.next_id)
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now = self.now.after(Seconds(seconds));
    }

    /// Steps, publishes, and checks that all three agree.
    pub fn step(&mut self, batch: Vec<Request>) -> Vec<Result<Reply, Refusal>> {
        let stepped = self.engine.step(&mut self.db, &batch, self.now).unwrap();
        assert!(!stepped.reloaded);
        for change in &stepped.changes {
            let _ = self.published.apply(change);
        }
        assert_eq!(self.engine.state().tables(), self.published.tables(), "a refusal leaves nothing behind");
        // What is ephemeral touches no table: reading them all again would only take time.
        if stepped.changes.iter().any(|change| !change.is_ephemeral()) {
            self.check();
        }
        stepped.answers
    }

    /// The database read anew, the engine's state and what readers see are the same; the rules hold.
    pub fn check(&mut self) {
        let stored = self.db.load().unwrap();
        assert_eq!(*self.engine.state().tables(), stored, "the engine's state is what is stored");
        assert_eq!(*self.published.tables(), stored, "what readers see is what is stored");
        assert!(self.engine.state().is_consistent() && self.published.is_consistent());
        assert_invariants(self.engine.state());
        self.check_plans();
    }

    /// A host that knows the newest version of its plan knows the plan.
    fn check_plans(&mut self) {
        let hosts: Vec<HostId> = self.engine.state().hosts().map(|h| h.id).collect();
        for host in hosts {
            let plan = plan::of(self.engine.state(), host).unwrap();
            if let Some(known) = self.plans.get(&host).filter(|known| known.version == plan.version) {
                assert_eq!(known.wanted, plan.wanted, "the plan changed without a new version");
            }
            self.plans.insert(host, plan);
        }
    }

    pub fn reply(&mut self, command: Command, idempotency: Option<Idempotency>) -> Result<Reply, Refusal> {
        self.step(vec![Request { command, idempotency }]).remove(0)
    }

    pub fn call(&mut self, command: Command) -> Result<Outcome, Refusal> {
        match self.reply(command, None)? {
            Reply::Outcome(outcome) => Ok(outcome),
            other => panic!("no outcome: {other:?}"),
        }
    }

    pub fn tick(&mut self) {
        self.call(Command::Tick).unwrap();
    }

    pub fn register(&mut self, manifest: &ImageManifest) {
        let manifest = Signed::sign(manifest, &SecretKey::from_seed(&[8; 32])).unwrap();
        let depot = "http://127.0.0.1:7402".into();
        self.call(Command::RegisterImage { actor: operator(), manifest, depot }).unwrap();
    }

    /// A host of the lender joins, opens a session and says what it lends.
    pub fn add_host(&mut self, n: u128) -> Agent {
        let mut agent = Agent::new(n);
        if self.engine.state().images().next().is_none() {
            self.register(&manifest("tiny", "tiny"));
        }
        let hash = Sha256Digest::of(&n.to_be_bytes());
        let token = self.fresh();
        let expires_at = self.now.after(Seconds(3600));
        self.call(Command::CreateJoinToken { actor: lender(), id: token, hash, uses: 1, expires_at }).unwrap();
        self.call(Command::JoinHost {
            token: hash,
            id: agent.host,
            name: format!("host-{n}"),
            key: agent.key.public(),
            ssh_host_key: SSH_KEY.into(),
            inventory: agent.says.inventory.clone(),
        })
        .unwrap();
        let opened = self.call(Command::OpenSession { host: agent.host, last_session: 0 }).unwrap();
        assert_eq!(opened, Outcome::Session(1));
        self.sync(&mut agent);
        agent
    }

    pub fn try_sync(&mut self, agent: &mut Agent) -> Result<SyncAnswer, Refusal> {
        agent.says.wall_clock = self.now;
        self.raw_sync(agent.host, agent.session, agent.says.clone())
    }

    pub fn raw_sync(
        &mut self,
        host: HostId,
        session: u64,
        request: impl Into<SyncMessage>,
    ) -> Result<SyncAnswer, Refusal> {
        let command = Command::Sync { host, session, request: Box::new(request.into()) };
        match self.reply(command, None)? {
            Reply::Sync(answer) => {
                let row = self.engine.state().host(host).unwrap();
                assert_eq!(answer.plan_version, row.plan_version, "the answer names the plan it carries");
                Ok(*answer)
            }
            other => panic!("a sync is answered with a plan, not {other:?}"),
        }
    }

    pub fn sync(&mut self, agent: &mut Agent) -> SyncAnswer {
        self.try_sync(agent).unwrap()
    }

    pub fn rent_as(&mut self, actor: Actor, cpu: i64) -> Result<Arc<Lease>, Refusal> {
        let id = self.fresh();
        self.call(rent(actor, id, cpu))?;
        Ok(Arc::clone(self.engine.state().lease(id).unwrap()))
    }

    pub fn rent(&mut self, cpu: i64) -> Result<Arc<Lease>, Refusal> {
        self.rent_as(client(), cpu)
    }

    pub fn lease(&self, id: LeaseId) -> &Arc<Lease> {
        self.engine.state().lease(id).unwrap()
    }

    pub fn has(&self, partition: PartitionId) -> Allocation {
        self.engine.state().partition(partition).unwrap().allocation
    }

    /// Rents, and lets the host bring it up.
    pub fn running(&mut self, agent: &mut Agent) -> Arc<Lease> {
        let lease = self.rent(1000).unwrap();
        agent.sees(&lease, Phase::Ready);
        self.sync(agent);
        Arc::clone(self.lease(lease.id))
    }
}

pub fn rent(actor: Actor, id: LeaseId, cpu: i64) -> Command {
    Command::Rent(Box::new(asking(actor, &[id], cpu)))
}

pub fn asking(actor: Actor, ids: &[LeaseId], cpu: i64) -> Rent {
    Rent {
        actor,
        ids: ids.to_vec(),
        name: None,
        requirements: Requirements {
            cpu: Some(Millicores(cpu).into()),
            memory: Some(MiB(512).into()),
            ..Requirements::default()
        },
        ssh_public_key: SSH_KEY.into(),
        one_shot: false,
        release_after_disconnect: Seconds(120),
        wait: None,
        outage_allowance: Seconds::ZERO,
    }
}

/// I1 and I3, and that what is lent is never more than there is.
pub fn assert_invariants(state: &State) {
    let mut holders: BTreeMap<PartitionId, u32> = BTreeMap::new();
    for lease in state.leases().filter(|l| l.state.holds_slot()) {
        *holders.entry(lease.partition).or_default() += 1;
        let partition = state.partition(lease.partition).unwrap();
        assert_eq!(partition.allocation.generation, lease.generation, "I3: a held partition has its lease's own");
        assert_eq!(partition.allocation.resources, lease.terms().resources, "I3");
        assert_eq!(partition.allocation.vcpus, lease.terms().vcpus, "I3");
    }
    assert!(holders.values().all(|n| *n == 1), "I1: at most one slot-holding lease a partition");
    for host in state.hosts() {
        let held: Resources = state.held_on(host.id).map(|l| l.terms().resources).sum();
        let all: Resources = state.partitions_of(host.id).map(|p| p.allocation.resources).sum();
        let mins = state.partitions_of(host.id).filter(|p| state.holder(p.id).is_none()).map(|p| p.profile.min).sum();
        // A computer that shrank, or an owner that keeps more, may leave too little: then idle
        // partitions are at their min, and held ones are what they were.
        assert!(all.fits(host.lendable()) || all.fits(held + mins), "{all} of {}", host.lendable());
    }
    for charge in state.tables().charges.values() {
        let lease = state.lease(charge.lease).unwrap();
        assert!(!lease.state.is_wanted() && charge.charge.billed_seconds <= lease.term_seconds, "I5");
        assert!(lease.chain.is_some() || charge.charge.total == Micros(0), "I5: nothing receipted, nothing billed");
    }
    assert_books(state);
}

/// I4: together nothing, nobody below zero; for a lease never more posted than was held, and once it is
/// billed exactly the bill, and nothing left.
pub fn assert_books(state: &State) {
    let ledger = state.ledger();
    assert_eq!(ledger.balances().map(|(_, micros)| micros).sum::<i128>(), 0, "I4: together nothing");
    let below = ledger.balances().find(|(book, micros)| *micros < 0 && !book.may_be_below_zero());
    assert_eq!(below, None, "I4: nobody below zero");
    let above = ledger.balances().find(|(book, micros)| *micros > 0 && matches!(book, Book::Owed(_)));
    assert_eq!(above, None, "I4: nobody is owed by what it owes");
    for (lease, of) in ledger.leases() {
        assert!(of.charged <= of.held, "never more than was held");
        let row = state.lease(lease).unwrap();
        let paid = row.terms().prices.total(row.terms().resources, row.paid_seconds);
        assert!(state.charge(lease).is_some() || of.held >= i128::from(paid.0), "what is promised to the host is held");
        if let Some(charge) = state.charge(lease) {
            assert_eq!(of.charged, i128::from(charge.charge.total.0), "what is billed is posted");
            assert_eq!(ledger.balance(Book::Held(lease)), 0, "and the rest went back");
            assert_eq!(of.credited, state.credits(lease).map(|credit| i128::from(credit.micros.0)).sum::<i128>());
        }
    }
}
