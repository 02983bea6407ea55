//! A lender's computer: clocks, disk, machines, and the agent on it while one lives.

use super::life::{FIRST_UID, Ground, Next, Slot};
use super::machines::{Doom, Machines, SimulatedDisk};
use super::market::{Answer, Ask, Caller};
use super::random::Random;
use super::talk::Talk;
use super::time::{At, Clock, SECOND};
use super::truth::Truth;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};
use sublet_host::agent::Shared;
use sublet_host::agent::hands::{Hands, Over, Reading, carry_out, take};
use sublet_host::division::lendable;
use sublet_host::meter::KEPT_EVERY;
use sublet_host::partition::Ending;
use sublet_host::reconcile::{Policy, reconcile, without_plan};
use sublet_host::store::{Identity, NewReceipt, Run, Stage, Store, StoreError};
use sublet_host::vmm::{Boottime, Moment, SimulatedVmm};
use sublet_model::host::Inventory;
use sublet_model::identity::SecretKey;
use sublet_model::ids::{HostId, PartitionId};
use sublet_model::lease::EndReason;
use sublet_model::market_keys::KeyChain;
use sublet_wire::sync::Wanted;

/// Pause after a step that failed.
const PAUSE: At = SECOND;
/// How often guards look at their clock, here.
const GUARDS_EVERY: At = SECOND;

/// For what a computer wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The worker of a partition; other tokens are of before.
    Work(PartitionId, u64),
    /// The meters.
    Meters,
    /// The next round with the market; other tokens are of before.
    Talk(u64),
    /// A call that has waited long enough.
    GiveUp(u64),
    /// The guards, which need no agent.
    Guards,
}

/// What a computer did that concerns others.
#[derive(Debug, Default)]
pub struct Effects {
    /// What its agent says to the market.
    pub asks: Vec<(Caller, Ask)>,
    /// When it wants to be woken; for which life of its agent (0: any).
    pub wakes: Vec<(At, u64, Wake)>,
    /// For the trace.
    pub notes: Vec<String>,
    /// Whether its agent was killed amid what it did.
    pub killed: bool,
    /// Whose machine was made to fail.
    pub failed: Vec<PartitionId>,
}

/// An agent that lives.
#[derive(Debug)]
pub struct Agent {
    pub(super) plan: Option<Vec<Wanted>>,
    pub(super) refusals: BTreeMap<PartitionId, String>,
    slots: BTreeMap<PartitionId, Slot>,
    pub(super) talk: Talk,
}

/// A lender's computer.
pub struct Computer {
    /// Which one.
    pub number: usize,
    /// Which host it is to the market.
    pub host: HostId,
    /// Whether it is the host itself, not a copy of its disk on another computer.
    pub original: bool,
    pub(super) key: SecretKey,
    /// Its disk.
    pub store: Store,
    pub(super) identity: Identity,
    pub(super) inventory: Inventory,
    /// Its machines.
    pub machines: Arc<Machines>,
    doom: Arc<Doom>,
    /// Its clocks.
    pub clock: Clock,
    boots: u64,
    /// Raised with every life of an agent on it.
    pub life: u64,
    /// The agent, while one lives.
    pub agent: Option<Agent>,
    /// Until when it sleeps, and since when.
    pub asleep: Option<(At, At)>,
    pub(super) random: Random,
    guests: BTreeMap<uuid::Uuid, Option<At>>,
    /// It is switched off for good.
    pub is_off: bool,
    /// Of a thousand steps so many are the agent's last.
    pub midway: u64,
    /// Of a thousand guests so many never answer.
    pub mute: u64,
    /// What really happened on it.
    pub truth: Truth,
    pub(super) calls: u64,
    _dir: Option<tempfile::TempDir>,
}

/// Whose computer, and what it is.
pub struct Made {
    /// Which one.
    pub number: usize,
    /// Signs.
    pub key: SecretKey,
    /// Who it is.
    pub identity: Identity,
    /// What it has.
    pub inventory: Inventory,
    /// Its disk.
    pub store: Store,
    /// Where a copied disk lies.
    pub dir: Option<tempfile::TempDir>,
}

/// Polls once: nothing here ever waits. None if the agent was killed in between.
fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

impl Computer {
    /// A computer that was just switched on; no agent runs.
    pub fn new(made: Made, now: At, mut random: Random, effects: &mut Effects) -> Self {
        let Made { number, key, identity, inventory, store, dir } = made;
        let doom = Arc::new(Doom::default());
        let rate = SECOND + random.between(-200, 200);
        effects.wakes.push((now + GUARDS_EVERY, 0, Wake::Guards));
        Self {
            number,
            host: identity.host,
            original: dir.is_none(),
            key,
            store,
            identity,
            inventory,
            machines: Arc::new(Machines::new(random.fork(), Arc::clone(&doom))),
            doom,
            clock: Clock::started(now, rate),
            boots: 1,
            life: 0,
            agent: None,
            asleep: None,
            random,
            guests: BTreeMap::new(),
            is_off: false,
            midway: 0,
            mute: 0,
            truth: Truth::default(),
            calls: 0,
            _dir: dir,
        }
    }

    pub(super) fn boot_id(&self) -> String {
        format!("computer-{}-boot-{}", self.number, self.boots)
    }

    /// The machines' own clocks follow the computer's.
    fn set_moment(&self, now: At) {
        let clocks = self.clock.now(now);
        let moment = Moment { mono_us: clocks.mono_us, boot_us: clocks.boot_us, boot_id: self.boot_id() };
        self.machines.simulated.set_now(moment);
    }

    /// Switches the agent on: what ran is looked at, the owner's word holds, then it speaks.
    pub fn start_agent(&mut self, now: At, effects: &mut Effects) {
        self.life += 1;
        self.set_moment(now);
        self.doom.set(None);
        let talk = Talk::default();
        self.agent = Some(Agent { plan: None, refusals: BTreeMap::new(), slots: BTreeMap::new(), talk });
        effects.notes.push(format!("computer {} agent life {}", self.number, self.life));
        for run in self.store.live_runs().unwrap_or_default() {
            self.work(now, run.partition, effects);
        }
        self.meters(now, effects);
        self.follow(now, effects);
        self.talk_soon(now, effects);
        self.settle(now, effects);
    }

    /// `kill -9`: what it held in memory is gone, machines go on.
    pub fn kill_agent(&mut self) {
        self.agent = None;
        self.doom.set(None);
    }

    /// The computer loses its power, and starts again.
    pub fn restart(&mut self, now: At) {
        self.kill_agent();
        self.set_moment(now);
        self.machines.simulated.power_off();
        self.truth.look(&self.machines.simulated, self.clock.now(now).mono_us);
        self.boots += 1;
        self.clock = self.clock.restarted(now);
        self.set_moment(now);
    }

    /// It was woken.
    pub fn wake(&mut self, now: At, life: u64, wake: Wake, effects: &mut Effects) {
        self.set_moment(now);
        if wake == Wake::Guards {
            effects.wakes.push((now + GUARDS_EVERY, 0, Wake::Guards));
            self.guards(now, effects);
        } else if life == self.life && self.agent.is_some() {
            match wake {
                Wake::Work(partition, token) if self.slot(partition).token == token => {
                    self.work(now, partition, effects)
                }
                Wake::Meters => self.meters(now, effects),
                Wake::Talk(token) => self.talk_is_due(now, token, effects),
                Wake::GiveUp(call) => self.give_up(now, call, effects),
                Wake::Work(..) | Wake::Guards => {}
            }
        }
        self.settle(now, effects);
    }

    /// The market answered.
    pub fn hear(&mut self, now: At, caller: Caller, answer: Answer, effects: &mut Effects) {
        self.set_moment(now);
        if caller.life == self.life && self.agent.is_some() {
            self.answered(now, caller.call, answer, effects);
        }
        self.settle(now, effects);
    }

    /// After whatever happened: killed agents are gone, what ended is noted.
    fn settle(&mut self, now: At, effects: &mut Effects) {
        if self.doom.has_struck() {
            self.kill_agent();
            effects.killed = true;
        }
        effects.failed.extend(self.machines.take_failed());
        self.truth.look(&self.machines.simulated, self.clock.now(now).mono_us);
        self.truth.clashes.extend(self.machines.take_clashes());
    }

    /// Guards stop what is past its end, whether an agent lives or not.
    fn guards(&mut self, now: At, effects: &mut Effects) {
        let before = self.machines.simulated.traces();
        self.machines.simulated.tick(Boottime(self.clock.boot_us(now)));
        let after = self.machines.simulated.traces();
        for (partition, ..) in before.iter().filter(|trace| !after.contains(trace)) {
            self.work(now, *partition, effects);
        }
    }

    /// Something happened to a machine from outside.
    pub fn look_again(&mut self, now: At, partition: PartitionId, effects: &mut Effects) {
        self.set_moment(now);
        self.work(now, partition, effects);
        self.settle(now, effects);
    }

    /// What a client does at the door.
    pub fn client(&mut self, now: At, partition: PartitionId, present: Option<u64>, effects: &mut Effects) {
        if self.agent.is_some() {
            self.slot(partition).present = present;
            self.look_again(now, partition, effects);
        }
    }

    /// The one job of a one-shot lease has ended.
    pub fn job_ended(&mut self, now: At, partition: PartitionId, generation: u64, effects: &mut Effects) {
        self.set_moment(now);
        let ready = |run: &Run| run.generation == generation && run.stage == Stage::Ready && run.wanted.one_shot;
        if self.agent.is_some()
            && let Ok(Some(run)) = self.store.live_run(partition)
            && ready(&run)
        {
            let metered = sublet_host::meter::seconds(&run, &self.boot_id(), self.clock.now(now).mono_us);
            let ending = Ending { reason: Some(EndReason::Released), detail: None, metered };
            if self.store.stopping(&run, ending.reason, None, ending.metered).is_ok() {
                self.tell(now, effects);
            }
        }
        self.look_again(now, partition, effects);
    }

    /// The owner said something: the agent notices and follows.
    pub fn owner_spoke(&mut self, now: At, effects: &mut Effects) {
        self.set_moment(now);
        if self.agent.is_some() {
            self.tell(now, effects);
            self.follow(now, effects);
        }
        self.settle(now, effects);
    }

    pub(super) fn slot(&mut self, partition: PartitionId) -> &mut Slot {
        let agent = self.agent.get_or_insert_with(|| unreachable!("only a living agent has slots"));
        agent.slots.entry(partition).or_default()
    }

    /// Now and then the agent is killed amid what comes now, at one of so many points.
    fn may_be_killed_within(&mut self, points: u64) {
        if self.random.chance(self.midway) {
            let after = self.random.below(points);
            self.doom.set(Some(after));
        }
    }

    /// Lets the worker of a partition do all that is due.
    fn work(&mut self, now: At, partition: PartitionId, effects: &mut Effects) {
        if self.agent.is_none() || self.doom.has_struck() {
            return;
        }
        self.may_be_killed_within(14);
        let mut ground = Ground {
            disk: SimulatedDisk { store: self.store.clone(), doom: Arc::clone(&self.doom) },
            machines: Arc::clone(&self.machines),
            key: self.key.clone(),
            boot_id: self.boot_id(),
            clock: self.clock.clone(),
            at: now,
            mute: self.mute,
            random: self.random.fork(),
            guests: std::mem::take(&mut self.guests),
            tell: false,
            follow: false,
            ready: Vec::new(),
            truth: std::mem::take(&mut self.truth),
            endings: Vec::new(),
        };
        let mut slot = std::mem::take(self.slot(partition));
        slot.token += 1;
        let until = loop {
            match now_or_never(ground.step(&mut slot, partition)) {
                None | Some(Ok(Next::Rest)) => break None,
                Some(Ok(Next::Now)) => {}
                Some(Ok(Next::Until(at))) => break Some(at.max(now + 1)),
                Some(Err(error)) => {
                    effects.notes.push(format!("computer {} step failed: {error}", self.number));
                    break Some(now + PAUSE);
                }
            }
        };
        effects.wakes.extend(until.map(|at| (at, self.life, Wake::Work(partition, slot.token))));
        *self.slot(partition) = slot;
        self.note(&ground, effects);
        (self.guests, self.truth) = (ground.guests, ground.truth);
        let (tell, follow) = (ground.tell, ground.follow);
        if self.doom.has_struck() {
            return;
        }
        self.doom.set(None);
        if tell {
            self.tell(now, effects);
        }
        if follow {
            self.follow(now, effects);
        }
    }

    /// Notes what a worker did.
    fn note(&self, ground: &Ground, effects: &mut Effects) {
        for (partition, generation) in &ground.ready {
            effects.notes.push(format!("computer {} {partition} generation {generation} ready", self.number));
        }
        for (partition, generation, reason) in &ground.endings {
            effects
                .notes
                .push(format!("computer {} {partition} generation {generation} ends: {reason:?}", self.number));
        }
    }

    /// What was stopped though that could not be recorded yet.
    pub(super) fn over(&self) -> Over {
        let slots = self.agent.iter().flat_map(|agent| &agent.slots);
        slots.map(|(partition, slot)| (*partition, slot.over)).collect()
    }

    /// Keeps the meters, and writes receipts that are due.
    fn meters(&mut self, now: At, effects: &mut Effects) {
        effects.wakes.push((now + KEPT_EVERY.as_micros() as At, self.life, Wake::Meters));
        if self.doom.has_struck() {
            return;
        }
        self.may_be_killed_within(6);
        let due = self.with_hands(now, async |hands, at| hands.keep_meters(at).await);
        if self.doom.has_struck() {
            return;
        }
        self.doom.set(None);
        for (run, seconds) in due.into_iter().flatten().flatten() {
            let (lease, generation) = (run.lease(), run.generation);
            let receipt = NewReceipt { lease, generation, seconds, cpu_used_ms: 0, last: false };
            let _ = self.store.add_receipt(&receipt, &self.key);
        }
    }

    /// Has the hands of a living agent do something at this instant. None if the agent is killed meanwhile.
    pub(super) fn with_hands<T>(
        &self,
        now: At,
        work: impl AsyncFnOnce(Hands<'_, SimulatedDisk, Machines>, &Reading<'_>) -> T,
    ) -> Option<T> {
        let disk = SimulatedDisk { store: self.store.clone(), doom: Arc::clone(&self.doom) };
        let (key, state) = (&self.key, self.store.state());
        let hands = Hands { disk: &disk, vmm: &*self.machines, key, state, first_uid: FIRST_UID };
        let at = Reading { now: self.clock.now(now), boot_id: &self.boot_id(), over: self.over() };
        now_or_never(work(hands, &at))
    }

    /// Carries the plan that is known out, as far as it goes now. False where a step failed.
    pub(super) fn follow(&mut self, now: At, effects: &mut Effects) -> bool {
        if self.doom.has_struck() {
            return false;
        }
        let Some(agent) = &self.agent else { return false };
        let (Ok(division), Ok(seen)) = (self.store.division(), Shared::<SimulatedVmm>::seen(&self.store)) else {
            return false;
        };
        let policy = Policy {
            host: self.host,
            market_keys: KeyChain::new(self.identity.market_key),
            arch: self.inventory.arch.clone(),
            threads: self.inventory.threads,
            lendable: lendable(&self.inventory, division.keep),
            partitions: Policy::partitions_of(&division),
        };
        let plan = agent.plan.as_deref();
        let steps = plan.map_or_else(|| without_plan(&seen, &policy), |plan| reconcile(plan, &seen, &policy));
        self.may_be_killed_within(6);
        let (boot_id, clocks) = (self.boot_id(), self.clock.now(now));
        let (store, doom) = (self.store.clone(), Arc::clone(&self.doom));
        let random = &mut self.random;
        let killed = || StoreError::Refused { attempt: "go on", rule: "the agent is killed".into() };
        let carried = carry_out(steps, |step| {
            if doom.strikes() {
                return Err(killed());
            }
            take(&store, step, &boot_id, &clocks, random.id())
        });
        if doom.strikes() || self.doom.has_struck() {
            return false;
        }
        self.doom.set(None);
        for partition in carried.touched {
            self.work(now, partition, effects);
        }
        if self.doom.has_struck() {
            return false;
        }
        let Some(agent) = &mut self.agent else { return false };
        let news = agent.refusals != carried.refusals;
        for (partition, why) in carried.refusals.iter().filter(|(p, why)| agent.refusals.get(p) != Some(why)) {
            effects.notes.push(format!("computer {} refuses for {partition}: {why}", self.number));
        }
        agent.refusals = carried.refusals;
        if news || carried.changed {
            self.tell(now, effects);
        }
        carried.failed.is_none()
    }

    /// Sets how often machines fail.
    pub fn set_mood(&mut self, midway: u64, mute: u64, machines: u64) {
        (self.midway, self.mute) = (midway, mute);
        self.machines.faulty.store(machines, SeqCst);
    }
}
