//! A market that says what the test wants, speaking the real protocol over real HTTP; machines
//! that are simulated but hold the real guest program; an agent between them.

use super::rehearsal::Rehearsal;
use crate::agent::{Agent, Config, Shared};
use crate::fixtures;
use crate::path::Entrances;
use crate::store::{Identity, Store};
use crate::vmm::{
    Accelerator, Birth, Boottime, ExitRecord, Machine, MachineSpec, Observed, SimulatedVmm, Usage, Vmm, VmmError,
};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use data_encoding::BASE64;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::{LeaseId, PartitionId};
use sublet_model::market_keys::KeyRecord;
use sublet_model::metering::{ChainEnd, Receipt, judge};
use sublet_model::partition::{Allocation, Phase};
use sublet_model::units::{Millicores, Seconds, Timestamp};
use sublet_wire::problem::{Kind, Problem};
use sublet_wire::sync::{
    self, Acknowledged, Challenge, SessionAnswer, SessionRequest, SyncAnswer, SyncMessage, SyncRequest, Wanted,
};
use sublet_wire::{mac, random_bytes};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

pub const KERNEL: &[u8] = b"not really a kernel";
const PATIENCE: Duration = Duration::from_secs(60);

/// What the market knows and wants.
#[derive(Default)]
pub struct Book {
    plan: BTreeMap<PartitionId, Wanted>,
    version: u64,
    pub session: u64,
    mac_key: [u8; 32],
    seq: u64,
    /// Whether it can't be reached.
    pub cut: bool,
    /// Whether it refuses this host's sessions.
    pub refuses: bool,
    pub last: Option<SyncRequest>,
    pub syncs: u64,
    /// Every phase seen, in order, without repetition.
    pub phases: BTreeMap<PartitionId, Vec<Phase>>,
    chains: BTreeMap<LeaseId, ChainEnd>,
    /// Every receipt taken in.
    pub receipts: Vec<Receipt>,
    /// The changes of its keys.
    pub keys: Vec<KeyRecord>,
}

#[derive(Clone)]
pub struct Market {
    book: Arc<Mutex<Book>>,
    news: Arc<Notify>,
    seen: watch::Sender<u64>,
    host_key: sublet_model::identity::PublicKey,
    pub address: String,
}

impl Market {
    async fn open(host_key: sublet_model::identity::PublicKey) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (seen, _) = watch::channel(0);
        let market = Self { book: Arc::default(), news: Arc::default(), seen, host_key, address };
        let routes = Router::new()
            .route("/v1/hosts/{host}/challenge", post(challenge))
            .route("/v1/hosts/{host}/sessions", post(open_session))
            .route("/v1/hosts/{host}/sync", post(take_sync))
            .route("/v1/blobs/sha256/{digest}", get(blob))
            .with_state(market.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        market
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    fn want(&self, wanted: Wanted) {
        let mut book = self.book();
        book.plan.insert(wanted.partition, wanted);
        book.version += 1;
        drop(book);
        self.news.notify_waiters();
    }

    /// Grants partition `n` its next generation.
    pub fn grant(&self, n: u128, generation: u64, change: impl FnOnce(&mut sync::Run)) -> LeaseId {
        let has = fixtures::allocation(generation, 0, 500);
        let mut run = fixtures::wanted_run_of(n, &has, &fixtures::manifest(KERNEL), &self.address);
        change(&mut run);
        let lease = run.lease;
        self.want(Wanted { partition: fixtures::partition(n), allocation: has, run: Some(run), gone: None });
        lease
    }

    /// It has these keys now.
    pub fn take_keys(&self, keys: &[KeyRecord]) {
        self.book().keys = keys.to_vec();
        self.news.notify_waiters();
    }

    /// The lease of partition `n` has ended.
    pub fn release(&self, n: u128) {
        let wanted = self.book().plan.get(&fixtures::partition(n)).cloned();
        if let Some(wanted) = wanted {
            self.want(Wanted { run: None, ..wanted });
        }
    }

    /// More was paid for.
    pub fn extend(&self, n: u128, paid: Seconds) {
        let mut wanted = self.book().plan[&fixtures::partition(n)].clone();
        wanted.run.as_mut().unwrap().paid_seconds = paid;
        self.want(wanted);
    }

    pub fn idle(&self, n: u128, allocation: Allocation) {
        self.want(fixtures::idle(n, allocation, None));
    }

    /// Waits until something is true of what the market knows.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&Book) -> Option<T>) -> T {
        let mut seen = self.seen.subscribe();
        let waited = async {
            loop {
                if let Some(found) = look(&self.book()) {
                    return found;
                }
                seen.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, waited).await {
            Ok(found) => found,
            Err(_) => panic!("never: {what}; the last sync was {:#?}", self.book().last),
        }
    }

    /// Waits until partition `n` is seen in a phase at its generation.
    pub async fn until_phase(&self, n: u128, generation: u64, wanted: impl Fn(Phase) -> bool) -> sync::Observed {
        let partition = fixtures::partition(n);
        self.until("the phase", |book| {
            let observed = book.last.as_ref()?.observed.iter().find(|o| o.partition == partition)?;
            (observed.applied.generation == generation && wanted(observed.phase)).then(|| observed.clone())
        })
        .await
    }

    pub async fn until_ready(&self, n: u128, generation: u64) -> sync::Observed {
        self.until_phase(n, generation, |phase| phase == Phase::Ready).await
    }

    pub async fn until_gone(&self, n: u128, generation: u64) -> sync::Observed {
        self.until_phase(n, generation, |phase| matches!(phase, Phase::Gone { .. })).await
    }

    pub fn receipts_of(&self, lease: LeaseId) -> Vec<Receipt> {
        self.book().receipts.iter().filter(|r| r.lease == lease).cloned().collect()
    }
}

fn problem(kind: Kind, status: u16) -> Response {
    let problem = Problem {
        kind: kind.urn(),
        status,
        title: kind.word().into(),
        detail: kind.word().into(),
        advice: None,
        request_id: None,
        unfit: Vec::new(),
    };
    let mut response = Json(problem).into_response();
    *response.status_mut() = status.try_into().unwrap();
    response
}

fn away() -> Response {
    problem(Kind::Unavailable, 503)
}

async fn challenge(State(market): State<Market>) -> Response {
    if market.book().cut { away() } else { Json(Challenge { nonce: "n".into() }).into_response() }
}

async fn open_session(
    State(market): State<Market>,
    Path(host): Path<String>,
    Json(request): Json<SessionRequest>,
) -> Response {
    let mut book = market.book();
    let proof = sync::session_proof(host.parse().unwrap(), &request.nonce);
    let proven = market.host_key.verify_bytes(&proof, &request.signature).is_ok();
    if book.cut {
        return away();
    }
    if book.refuses || !proven || request.last_session != book.session {
        return problem(Kind::SessionRefused, 409);
    }
    book.session += 1;
    (book.mac_key, book.seq) = (random_bytes(), 0);
    let mac_key = BASE64.encode(&book.mac_key);
    Json(SessionAnswer { session: book.session, mac_key, market_time: Timestamp(1), epoch: 1 }).into_response()
}

async fn take_sync(State(market): State<Market>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).unwrap().to_str().unwrap().to_owned();
    let (session, seq) = (header("sublet-session").parse().unwrap(), header("sublet-seq").parse().unwrap());
    let mac = header("sublet-mac");
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let news = market.news.notified();
    let hold = {
        let mut book = market.book();
        if book.cut {
            return away();
        }
        let proven = mac::holds(&book.mac_key, session, seq, &body, &mac);
        if book.refuses || session != book.session || seq <= book.seq || !proven {
            return problem(Kind::SessionRefused, 409);
        }
        book.seq = seq;
        let message: SyncMessage = serde_json::from_slice(&body).unwrap();
        let whole = book.whole(message);
        book.take(&market.host_key, whole)
    };
    market.seen.send_modify(|count| *count += 1);
    if hold {
        let _ = tokio::time::timeout(Duration::from_secs(5), news).await;
    }
    let book = market.book();
    if session != book.session {
        return problem(Kind::SessionRefused, 409);
    }
    if book.cut { away() } else { Json(book.answer()).into_response() }
}

async fn blob(Path(digest): Path<String>) -> Response {
    if digest == Sha256Digest::of(KERNEL).to_string() {
        return KERNEL.into_response();
    }
    problem(Kind::NotFound, 404)
}

impl Book {
    /// What was left out is as it was said before, in this session.
    fn whole(&self, message: SyncMessage) -> SyncRequest {
        let before = || self.last.as_ref().filter(|_| self.seq > 1).expect("what was said before in this session");
        SyncRequest {
            wall_clock: message.wall_clock,
            inventory: message.inventory.unwrap_or_else(|| before().inventory.clone()),
            dial: message.dial,
            division: message.division.unwrap_or_else(|| before().division.clone()),
            observed: message.observed.unwrap_or_else(|| before().observed.clone()),
            receipts: message.receipts,
            plan_version: message.plan_version,
            lives: message.lives,
            catching_up: message.catching_up,
            keys: message.keys,
        }
    }

    /// Whether there is nothing to answer at once.
    fn take(&mut self, key: &sublet_model::identity::PublicKey, request: SyncRequest) -> bool {
        for observed in &request.observed {
            let phases = self.phases.entry(observed.partition).or_default();
            if phases.last() != Some(&observed.phase) {
                phases.push(observed.phase);
            }
            if let (Phase::Gone { .. }, Some(wanted)) = (observed.phase, self.plan.get_mut(&observed.partition))
                && wanted.allocation.generation == observed.applied.generation
            {
                (wanted.run, wanted.gone) = (None, Some(observed.applied.generation));
            }
        }
        let before = self.receipts.len();
        for signed in &request.receipts {
            let receipt = signed.verify(key).unwrap();
            let end = self.chains.get(&receipt.lease);
            let intake = judge(receipt.lease, receipt.generation, end, &receipt, signed.digest());
            if intake.expect("a receipt that follows") == sublet_model::metering::Intake::Next {
                let (seq, seconds, last) = (receipt.seq, receipt.seconds, receipt.last);
                self.chains.insert(receipt.lease, ChainEnd { seq, digest: signed.digest(), seconds, last });
                self.receipts.push(receipt);
            }
        }
        let known = request.plan_version == self.version && self.receipts.len() == before;
        self.last = Some(request);
        self.syncs += 1;
        known
    }

    /// Every change of keys, unless the host knows the newest.
    fn keys_for_host(&self) -> Option<Vec<KeyRecord>> {
        let known = self.last.as_ref().and_then(|last| last.keys);
        (known != self.keys.last().map(KeyRecord::digest)).then(|| self.keys.clone())
    }

    fn answer(&self) -> SyncAnswer {
        SyncAnswer {
            told: Vec::new(),
            plan_version: self.version,
            plan: Some(self.plan.values().cloned().collect()),
            acknowledged: self.chains.iter().map(|(lease, end)| Acknowledged { lease: *lease, seq: end.seq }).collect(),
            division_revision: 1,
            division_refused: None,
            warnings: Vec::new(),
            ssh_ca: Vec::new(),
            keys: self.keys_for_host(),
            relay: None,
            market_time: Timestamp(1),
        }
    }
}

/// Machines that are simulated; in each that runs the real guest program answers.
#[derive(Clone, Default)]
pub struct Machines(Arc<Inner>);

#[derive(Default)]
struct Inner {
    simulated: SimulatedVmm,
    guests: Mutex<HashMap<PartitionId, Rehearsal>>,
    mute: std::sync::atomic::AtomicBool,
    mute_templates: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for Machines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machines")
    }
}

impl Machines {
    pub fn simulated(&self) -> &SimulatedVmm {
        &self.0.simulated
    }

    /// From now on no template comes up.
    pub fn mute_templates(&self) {
        self.0.mute_templates.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// From now on machines start in which nothing answers.
    pub fn mute(&self) {
        self.0.mute.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Vmm for Machines {
    async fn prepare(&self, spec: &MachineSpec) -> Result<(), VmmError> {
        std::fs::create_dir_all(&spec.run_dir).unwrap();
        self.0.simulated.prepare(spec).await
    }

    async fn start(&self, spec: &MachineSpec, stop_at: Boottime) -> Result<(), VmmError> {
        let before = self.0.simulated.started().len();
        let outcome = self.0.simulated.start(spec, stop_at).await;
        let started = self.0.simulated.started().len() > before;
        let set = |flag: &std::sync::atomic::AtomicBool| flag.load(std::sync::atomic::Ordering::SeqCst);
        let mute = set(&self.0.mute) || matches!(spec.birth, Birth::Template(_)) && set(&self.0.mute_templates);
        if started && !mute {
            let guest = Rehearsal::start();
            std::os::unix::fs::symlink(guest.socket(), spec.machine().guest_socket()).unwrap();
            self.0.guests.lock().unwrap().insert(spec.partition, guest);
        }
        outcome
    }

    async fn freeze(&self, machine: &Machine) -> Result<(), VmmError> {
        let spec = self.0.simulated.spec(machine.partition).unwrap();
        let Birth::Template(files) = spec.birth else { panic!("{} serves a lease", machine.partition) };
        std::fs::write(files.devices, "devices").unwrap();
        Ok(())
    }

    async fn set_deadline(&self, machine: &Machine, stop_at: Boottime) -> Result<(), VmmError> {
        self.0.simulated.set_deadline(machine, stop_at).await
    }

    async fn resize(&self, machine: &Machine, cpu: Millicores) -> Result<(), VmmError> {
        self.0.simulated.resize(machine, cpu).await
    }

    async fn observe(&self, machine: &Machine) -> Observed {
        self.0.simulated.observe(machine).await
    }

    async fn stop(&self, machine: &Machine) -> Result<Option<ExitRecord>, VmmError> {
        let outcome = self.0.simulated.stop(machine).await;
        if outcome.is_ok() {
            self.0.guests.lock().unwrap().remove(&machine.partition);
        }
        outcome
    }

    async fn wipe(&self, machine: &Machine) -> Result<(), VmmError> {
        self.0.simulated.wipe(machine).await?;
        let _ = std::fs::remove_dir_all(&machine.run_dir);
        Ok(())
    }

    async fn usage(&self, machine: &Machine) -> Result<Usage, VmmError> {
        self.0.simulated.usage(machine).await
    }

    async fn console(&self, machine: &Machine) -> Result<Vec<u8>, VmmError> {
        self.0.simulated.console(machine).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.simulated.changes()
    }
}

/// A host that joined and lends partitions 1 to 3.
pub struct World {
    _dir: tempfile::TempDir,
    pub store: Store,
    pub market: Market,
    pub machines: Machines,
    pub boot_deadline: Duration,
    /// None are made, unless a test asks for them.
    pub template_limit_bytes: u64,
    agent: Option<Agent<Machines>>,
}

impl World {
    /// A world in which no agent runs yet.
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s")).unwrap();
        let market = Market::open(store.keys().unwrap().identity.public()).await;
        store.enrol(&Identity { ..fixtures::identity(&market.address) }).unwrap();
        store.set_division(&fixtures::division()).unwrap();
        for n in 1..=3 {
            market.idle(n, fixtures::allocation(0, 0, 500));
        }
        let boot_deadline = Duration::from_secs(60);
        Self {
            _dir: dir,
            store,
            market,
            machines: Machines::default(),
            boot_deadline,
            template_limit_bytes: 0,
            agent: None,
        }
    }

    /// A world with an agent that was heard.
    pub async fn started() -> Self {
        let mut world = Self::new().await;
        world.start().await;
        world.market.until_phase(3, 0, |phase| phase == Phase::Idle).await;
        world
    }

    pub async fn start(&mut self) {
        self.start_on(Store::open(self.store.state()).unwrap()).await;
    }

    /// Starts it on a store as it is.
    pub async fn start_on(&mut self, store: Store) {
        let config = Config {
            accelerator: Accelerator::Tcg,
            inventory: fixtures::inventory(),
            boot_deadline: self.boot_deadline,
            first_uid: 61_000,
            run_as: None,
            template_limit_bytes: self.template_limit_bytes,
            monitor: "simulated".into(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let entrances = Entrances::tcp(listener, "127.0.0.1:1");
        let identity = store.identity().unwrap().unwrap();
        let agent = Agent::start(store, identity, config, self.machines.clone(), 1 << 30, entrances).await.unwrap();
        self.agent = Some(agent);
    }

    /// Ends the agent where it stands, as a kill would: nothing is recorded, told or stopped.
    pub async fn kill_agent(&mut self) {
        self.agent.take().unwrap().shut_down().await;
    }

    pub fn shared(&self) -> &Arc<Shared<Machines>> {
        self.agent.as_ref().unwrap().shared()
    }

    pub fn agent(&self) -> &Agent<Machines> {
        self.agent.as_ref().unwrap()
    }

    /// How often machines were started, by partition and generation.
    pub fn started_machines(&self) -> Vec<(PartitionId, u64)> {
        self.machines.simulated().started()
    }
}
