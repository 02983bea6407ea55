//! Drives the host's side of the protocol by hand. A real client over real HTTP; only the
//! partitions are missing: whatever the plan wants is said to run.

use std::collections::BTreeMap;
use sublet_model::host::{Inventory, Tier};
use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::ids::{HostId, LeaseId, PartitionId};
use sublet_model::metering::Receipt;
use sublet_model::offer::Conditions;
use sublet_model::partition::{Allocation, Phase, Profile};
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds, Timestamp};
use sublet_wire::client::{Client, ClientError, HostSession};
use sublet_wire::sync::{
    Declared, Division, JoinAnswer, JoinRequest, KeptLife, MOST_LIVES, MOST_RECEIPTS, Observed, Run, SyncAnswer,
    SyncRequest, Wanted,
};

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+76JRBOFLQKQ0/Z+NtcHYR+qJo7ylM8vISjz2CTDh1";

pub struct FakeHost {
    pub client: Client,
    pub id: HostId,
    pub key: SecretKey,
    pub session: Option<HostSession>,
    pub known_session: u64,
    pub division: Division,
    pub observed: BTreeMap<PartitionId, Observed>,
    pub receipts: Vec<Signed<Receipt>>,
    /// What the market knows of this host's past in its epoch, and what has to be told again.
    pub memory: Memory,
    chains: BTreeMap<LeaseId, (u64, Sha256Digest)>,
    pub plan_version: u64,
    pub plan: Vec<Wanted>,
    /// The newest change of the market's keys that it says it knows.
    pub market_keys: Option<Sha256Digest>,
}

pub fn inventory() -> Inventory {
    Inventory {
        arch: "x86_64".into(),
        cpu_model: "Test CPU".into(),
        cpu_flags: vec!["sse2".into()],
        threads: 8,
        cores: 4,
        memory: MiB(16 << 10),
        disk: GiB(100),
        speed: 1000,
        tier: Tier::Kvm,
        confined: true,
        kernel: "6.1".into(),
        qemu: "9.2".into(),
    }
}

pub fn size(cores: i64) -> Resources {
    Resources { cpu: Millicores(cores * 1000), memory: MiB(cores * 512), disk: GiB(cores) }
}

pub fn conditions() -> Conditions {
    let mut conditions = Conditions::free();
    conditions.prices.cpu = MicrosPerHour(8_000);
    conditions.prices.setup = Micros(100);
    conditions.emulated_to_strangers = true;
    conditions
}

pub fn join_request(name: &str, key: &SecretKey) -> JoinRequest {
    JoinRequest { name: name.into(), key: key.public(), ssh_host_key: HOST_KEY.into(), inventory: inventory() }
}

/// What a host keeps for a market that is restored from a backup.
#[derive(Default)]
pub struct Memory {
    epoch: u64,
    pub kept: BTreeMap<LeaseId, (KeptLife, Vec<Signed<Receipt>>)>,
    untold: Vec<LeaseId>,
    catching_up: bool,
}

impl Memory {
    fn enter(&mut self, epoch: u64) {
        if self.epoch != 0 && epoch != self.epoch {
            self.untold = self.kept.keys().copied().collect();
            self.untold.sort_by_key(|lease| self.kept[lease].0.run.terms.read().unwrap().generation);
            self.catching_up = !self.untold.is_empty();
        }
        self.epoch = epoch;
    }

    fn lives(&self) -> Vec<KeptLife> {
        self.untold.iter().take(MOST_LIVES).map(|lease| self.kept[lease].0.clone()).collect()
    }

    fn is_told(&self, receipt: &Signed<Receipt>) -> bool {
        !self.untold.contains(&receipt.read().unwrap().lease)
    }

    /// The receipts of lives that are known again now.
    fn told(&mut self, leases: &[LeaseId]) -> Vec<Signed<Receipt>> {
        self.untold.retain(|lease| !leases.contains(lease));
        leases.iter().flat_map(|lease| self.kept[lease].1.clone()).collect()
    }

    fn begins(&mut self, run: &Run) {
        let (term_seconds, paid_seconds) = (run.term_seconds, run.paid_seconds);
        let life = KeptLife { run: run.clone(), term_seconds, paid_seconds, ready: true, over: false, reason: None };
        self.kept.insert(run.lease, (life, Vec::new()));
    }

    fn goes_on(&mut self, run: &Run) {
        if let Some((life, _)) = self.kept.get_mut(&run.lease) {
            (life.term_seconds, life.paid_seconds) = (run.term_seconds, run.paid_seconds);
        }
    }

    fn is_over(&mut self, lease: LeaseId) {
        self.kept.entry(lease).and_modify(|(life, _)| life.over = true);
    }

    fn receipt(&mut self, lease: LeaseId, signed: Signed<Receipt>) {
        self.kept.entry(lease).and_modify(|(_, receipts)| receipts.push(signed));
    }
}

impl FakeHost {
    /// Joins with the client's join token and opens a session.
    pub async fn join(client: &Client, name: &str, cores: &[i64]) -> Result<Self, ClientError> {
        let key = SecretKey::from_seed(&sublet_wire::random_bytes());
        let answer: JoinAnswer = client.post("/v1/hosts", &join_request(name, &key)).await?;
        let declared = |(at, cores): (usize, &i64)| Declared {
            id: sublet_wire::new_id(),
            name: format!("p{at}"),
            profile: Profile { min: size(1), desired: size(1), max: size(*cores) },
            lendable: true,
            taken_back: None,
        };
        let division = Division {
            revision: 1,
            keep: size(1),
            conditions: Some(conditions()),
            partitions: cores.iter().enumerate().map(declared).collect(),
        };
        let mut host = Self {
            client: client.clone(),
            id: answer.host,
            key,
            session: None,
            known_session: 0,
            division,
            observed: BTreeMap::new(),
            receipts: Vec::new(),
            memory: Memory::default(),
            chains: BTreeMap::new(),
            plan_version: 0,
            plan: Vec::new(),
            market_keys: None,
        };
        host.open().await?;
        Ok(host)
    }

    pub async fn open(&mut self) -> Result<u64, ClientError> {
        let epoch = Some(self.memory.epoch);
        let session = HostSession::open_knowing(&self.client, self.id, &self.key, self.known_session, epoch).await?;
        self.known_session = session.session();
        self.memory.enter(session.epoch());
        self.plan_version = 0;
        self.session = Some(session);
        Ok(self.known_session)
    }

    pub fn request(&self) -> SyncRequest {
        SyncRequest {
            wall_clock: Timestamp(
                i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros())
                    .unwrap(),
            ),
            inventory: inventory(),
            dial: "127.0.0.1:40222".into(),
            division: self.division.clone(),
            observed: self.observed.values().cloned().collect(),
            receipts: self.receipts.iter().filter(|r| self.memory.is_told(r)).take(MOST_RECEIPTS).cloned().collect(),
            plan_version: self.plan_version,
            lives: self.memory.lives(),
            catching_up: self.memory.catching_up,
            keys: self.market_keys,
        }
    }

    /// One sync, and doing what the answer says.
    pub async fn sync(&mut self) -> Result<SyncAnswer, ClientError> {
        let request = self.request();
        let answer = self.session.as_mut().expect("a session is open").sync(&request).await?;
        let before = self.receipts.len();
        self.receipts.retain(|signed| {
            let receipt = signed.read().unwrap();
            !answer.acknowledged.iter().any(|a| a.lease == receipt.lease && a.seq >= receipt.seq)
        });
        if request.catching_up {
            // The plan is of a market that does not know yet what runs here.
            self.receipts.splice(0..0, self.memory.told(&answer.told));
            self.memory.catching_up = !answer.told.is_empty() || self.receipts.len() < before;
            return Ok(answer);
        }
        self.plan_version = answer.plan_version;
        if let Some(plan) = &answer.plan {
            self.plan.clone_from(plan);
        }
        for wanted in self.plan.clone() {
            self.follow(&wanted);
        }
        Ok(answer)
    }

    fn follow(&mut self, wanted: &Wanted) {
        let idle = Observed {
            partition: wanted.partition,
            applied: Allocation { generation: 0, revision: 0, resources: Resources::ZERO, vcpus: 1 },
            lease: None,
            phase: Phase::Idle,
            seconds: Seconds::ZERO,
            first_contact: false,
            started: None,
            detail: None,
        };
        let seen = self.observed.entry(wanted.partition).or_insert(idle);
        let newer = wanted.allocation.is_after(&seen.applied);
        match &wanted.run {
            Some(run) if seen.lease != Some(run.lease) => {
                let (had, gets) = (seen.applied.generation, wanted.allocation.generation);
                assert!(seen.lease.is_none() && gets > had, "granted twice: {seen:?}, and now {wanted:?}");
                self.memory.begins(run);
                (seen.lease, seen.phase, seen.applied) = (Some(run.lease), Phase::Ready, wanted.allocation);
                seen.seconds = Seconds(0);
                self.receipt(run.lease, wanted.allocation.generation, 0, false);
            }
            Some(run) => self.memory.goes_on(run),
            None => {
                if let Some(lease) = seen.lease.take() {
                    self.memory.is_over(lease);
                    let (generation, seconds) = (seen.applied.generation, seen.seconds.0);
                    seen.phase = Phase::Gone { reason: None };
                    self.receipt(lease, generation, seconds, true);
                } else if newer {
                    if wanted.allocation.generation > seen.applied.generation {
                        // Granted and given back before this host heard of it: nothing ran, and that has to be said.
                        seen.phase = Phase::Gone { reason: None };
                    }
                    seen.applied = wanted.allocation;
                }
            }
        }
    }

    /// The next receipt of a lease's chain.
    pub fn receipt(&mut self, lease: LeaseId, generation: u64, seconds: i64, last: bool) {
        let end = self.chains.get(&lease).copied();
        let receipt = Receipt {
            lease,
            generation,
            seq: end.map_or(1, |(seq, _)| seq + 1),
            seconds: Seconds(seconds),
            cpu_used_ms: 0,
            last,
            previous: end.map(|(_, digest)| digest),
        };
        let signed = Signed::sign(&receipt, &self.key).unwrap();
        self.chains.insert(lease, (receipt.seq, signed.digest()));
        self.memory.receipt(lease, signed.clone());
        self.receipts.push(signed);
    }

    /// The digest of a lease's newest receipt.
    pub fn chain_end(&self, lease: LeaseId) -> Option<Sha256Digest> {
        self.chains.get(&lease).map(|(_, digest)| *digest)
    }

    /// Says that a lease has used this many seconds.
    pub fn use_seconds(&mut self, lease: LeaseId, seconds: i64) {
        if let Some(seen) = self.observed.values_mut().find(|o| o.lease == Some(lease)) {
            seen.seconds = Seconds(seconds);
        }
    }

    /// Syncs until nothing is new: the market knows all that is here, and the other way round.
    pub async fn settle(&mut self) {
        for _ in 0..10 {
            let (before, seen, waiting) = (self.plan_version, self.observed.clone(), self.receipts.len());
            // Says an unknown version, so that nothing is held.
            self.plan_version = 0;
            let answer = self.sync().await.unwrap();
            assert_eq!(answer.division_refused, None);
            if self.plan_version == before && self.observed == seen && self.receipts.len() == waiting {
                return;
            }
        }
        panic!("the plan never settles");
    }
}
