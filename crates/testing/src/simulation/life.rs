//! What the worker of a partition does, without waiting: where the agent awaits a fetch, a guest
//! or a clock, this says until when, and is asked again. All that is decided, recorded and done to
//! machines is the host's own code.

use super::machines::{Machines, SimulatedDisk};
use super::random::Random;
use super::time::{At, Clock, SECOND};
use super::truth::Truth;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use sublet_host::agent::hands::Disk;
use sublet_host::agent::hands::{Hands, StepError};
use sublet_host::meter::{self, Now};
use sublet_host::partition::{Ending, Look, due, ending_by_clock, ending_of};
use sublet_host::store::{Run, Stage};
use sublet_host::terms::check_image;
use sublet_host::vmm::{Accelerator, Birth, BootFiles, Boottime, Machine, MachineSpec, Observed, Vmm};
use sublet_model::identity::SecretKey;
use sublet_model::ids::PartitionId;
use sublet_model::lease::EndReason;
use uuid::Uuid;

/// Within what time a guest must answer.
pub const BOOT_DEADLINE: At = 30 * SECOND;
/// Ends are looked at so often.
const LOOK_AT_CLOCK_EVERY: At = 30 * SECOND;
/// The user of the first partition.
pub(super) const FIRST_UID: u32 = 61_000;

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next one.
    Now,
    /// Nothing, until somebody wakes the worker.
    Rest,
    /// Nothing, until then or until somebody wakes it.
    Until(At),
}

/// What only a living agent knows of a partition.
#[derive(Debug, Default)]
pub struct Slot {
    watched: Option<u64>,
    unrecorded: Option<Ending>,
    told: Option<Boottime>,
    /// The generation whose machine was stopped though that could not be recorded yet.
    pub over: u64,
    /// Of which generation the image is on its way, when it is here, and whether it is whole.
    fetch: Option<(u64, At, bool)>,
    /// The generation whose client has a connection open.
    pub present: Option<u64>,
    /// Raised by whoever wakes the worker; wakes of before are over.
    pub token: u64,
}

/// The computer under a worker at one moment.
pub struct Ground {
    /// Its store.
    pub disk: SimulatedDisk,
    /// Its machines.
    pub machines: Arc<Machines>,
    /// Signs receipts.
    pub key: SecretKey,
    /// Which start of the computer this is.
    pub boot_id: String,
    /// Its clocks.
    pub clock: Clock,
    /// True time.
    pub at: At,
    /// Of a thousand guests so many never answer; of a thousand images so many are broken.
    pub mute: u64,
    /// Chance.
    pub random: Random,
    /// When each machine's guest answers, by true time; none: never. Guests outlive agents.
    pub guests: BTreeMap<Uuid, Option<At>>,
    /// The market should hear something at once.
    pub tell: bool,
    /// What waited for a partition to be gone may go on.
    pub follow: bool,
    /// What became ready: partition and generation.
    pub ready: Vec<(PartitionId, u64)>,
    /// What really happens.
    pub truth: Truth,
    /// Why lives ended, for the trace.
    pub endings: Vec<(PartitionId, u64, Option<EndReason>)>,
}

impl Ground {
    fn now(&self) -> Now {
        self.clock.now(self.at)
    }

    /// One step of the life of a partition, if there is one.
    pub async fn step(&mut self, slot: &mut Slot, partition: PartitionId) -> Result<Next, StepError> {
        let Some(run) = self.disk.db(move |store| store.live_run(partition)).await? else {
            *slot = Slot { token: slot.token, present: slot.present, ..Slot::default() };
            return Ok(Next::Rest);
        };
        if let Some(ending) = slot.unrecorded.take() {
            return self.end(slot, &run, ending).await;
        }
        match run.stage {
            Stage::Fetching => self.fetch(slot, run).await,
            Stage::Booting => self.boot(slot, run).await,
            Stage::Ready => self.hold(slot, run).await,
            Stage::Stopping => self.stop(slot, run).await,
            Stage::Gone => Ok(Next::Rest),
        }
    }

    /// Does something with disk and machines of this computer.
    fn hands<'a>(parts: &'a (SimulatedDisk, Arc<Machines>, SecretKey, PathBuf)) -> Hands<'a, SimulatedDisk, Machines> {
        let (disk, vmm, key, state) = parts;
        Hands { disk, vmm, key, state, first_uid: FIRST_UID }
    }

    fn parts(&self) -> (SimulatedDisk, Arc<Machines>, SecretKey, PathBuf) {
        (self.disk.clone(), Arc::clone(&self.machines), self.key.clone(), self.disk.store.state().to_owned())
    }

    fn look<'a>(&'a self, slot: &Slot, run: &Run) -> Look<'a> {
        let Now { mono_us, boot_us } = self.now();
        Look { boot_id: &self.boot_id, mono_us, boot_us, watched: slot.watched == Some(run.generation) }
    }

    async fn fetch(&mut self, slot: &mut Slot, run: Run) -> Result<Next, StepError> {
        if let Err(words) = check_image(&run.wanted) {
            return self.fail(slot, &run, EndReason::ImageUnavailable, words).await;
        }
        let here = match slot.fetch {
            Some((generation, at, whole)) if generation == run.generation => (at, whole),
            _ => {
                // Most images are here already.
                let takes = if self.random.chance(700) { 0 } else { self.random.between(SECOND, 8 * SECOND) };
                let here = (self.at + takes, !self.random.chance(self.mute / 4));
                slot.fetch = Some((run.generation, here.0, here.1));
                here
            }
        };
        match here {
            (at, _) if self.at < at => return Ok(Next::Until(at)),
            (_, false) => {
                slot.fetch = None;
                let words = "a byte of it is wrong".to_owned();
                return self.fail(slot, &run, EndReason::ImageUnavailable, words).await;
            }
            (_, true) => {}
        }
        let (boot_id, now) = (self.boot_id.clone(), self.now());
        self.disk.db(move |store| store.starting(&run, &boot_id, now.mono_us, now.boot_us)).await?;
        self.tell = true;
        Ok(Next::Now)
    }

    async fn boot(&mut self, slot: &mut Slot, run: Run) -> Result<Next, StepError> {
        let parts = self.parts();
        let machine = Self::hands(&parts).machine(&run).await?;
        let mut observed = self.machines.observe(&machine).await;
        if let Some(ending) = ending_of(&run, &observed, self.look(slot, &run)) {
            return self.end(slot, &run, ending).await;
        }
        let give_up = meter::stop_at(&run, BOOT_DEADLINE);
        if observed == Observed::NotRunning {
            if let Err(error) = self.start(&run, &machine, give_up).await {
                return match error {
                    StepError::Store(error) => Err(error.into()),
                    StepError::Vmm(error) => self.fail(slot, &run, EndReason::BootFailed, error.to_string()).await,
                };
            }
            observed = self.machines.observe(&machine).await;
        }
        slot.watched = Some(run.generation);
        if let Some(ending) = ending_of(&run, &observed, self.look(slot, &run)) {
            return self.end(slot, &run, ending).await;
        }
        let (at, mute) = (self.at, self.mute);
        let random = &mut self.random;
        let answers = *self
            .guests
            .entry(run.uuid)
            .or_insert_with(|| (!random.chance(mute)).then(|| at + random.between(SECOND / 2, 9 * SECOND)));
        if answers.is_some_and(|answers| answers <= at) {
            let (now, record) = (self.now(), run.clone());
            self.truth.ready(&run, now.mono_us);
            self.disk.db(move |store| store.ready(&record, now.mono_us, now.boot_us)).await?;
            self.ready.push((run.partition, run.generation));
            self.tell = true;
            return Ok(Next::Now);
        }
        if self.now().boot_us >= give_up.0 {
            let words = "the guest did not come up: it is silent".to_owned();
            return self.fail(slot, &run, EndReason::BootFailed, words).await;
        }
        let until = self.clock.when(give_up.0);
        Ok(Next::Until(answers.map_or(until, |answers| answers.min(until))))
    }

    async fn start(&mut self, run: &Run, machine: &Machine, give_up: Boottime) -> Result<(), StepError> {
        let parts = self.parts();
        let applied = Self::hands(&parts).applied(run).await?;
        let spec = MachineSpec {
            partition: run.partition,
            generation: run.generation,
            uuid: run.uuid,
            vcpus: applied.vcpus,
            cpu: applied.resources.cpu,
            memory: applied.resources.memory,
            disk: applied.resources.disk,
            boot: BootFiles::Direct { kernel: PathBuf::from("kernel"), initrd: None, root: None },
            command_line: String::new(),
            guest_channel: "sublet".into(),
            run_dir: machine.run_dir.clone(),
            uid: FIRST_UID,
            gid: FIRST_UID,
            accelerator: Accelerator::Kvm,
            birth: Birth::Cold,
        };
        // Noted before it is tried: whoever is killed in between may have started it.
        let mono_us = self.now().mono_us;
        self.truth.started(&self.disk.store, run, &spec, mono_us);
        self.machines.prepare(&spec).await?;
        Ok(self.machines.start(&spec, give_up).await?)
    }

    async fn hold(&mut self, slot: &mut Slot, run: Run) -> Result<Next, StepError> {
        let parts = self.parts();
        let machine = Self::hands(&parts).machine(&run).await?;
        let observed = self.machines.observe(&machine).await;
        let look = self.look(slot, &run);
        if let Some(ending) = ending_of(&run, &observed, look).or_else(|| ending_by_clock(&run, look)) {
            return self.end(slot, &run, ending).await;
        }
        slot.watched = Some(run.generation);
        if self.note_client(slot, &run).await? {
            return Ok(Next::Now);
        }
        let stop_at = meter::stop_at(&run, 0);
        if slot.told != Some(stop_at) {
            self.machines.set_deadline(&machine, stop_at).await?;
            slot.told = Some(stop_at);
        }
        let next = due(&run).map_or(At::MAX, |(at, _)| self.clock.when(at));
        Ok(Next::Until(next.min(self.at + LOOK_AT_CLOCK_EVERY)))
    }

    async fn note_client(&mut self, slot: &Slot, run: &Run) -> Result<bool, StepError> {
        let here = slot.present == Some(run.generation);
        let contact = here && !run.contacted;
        let vanished = run.wanted.one_shot && here == run.vanished_boot_us.is_some();
        if !contact && !vanished {
            return Ok(false);
        }
        let (run, now) = (run.clone(), self.now());
        let note = move |store: &sublet_host::store::Store| {
            if contact {
                store.contacted(&run)?;
            }
            if vanished { store.vanished(&run, (!here).then_some(now.boot_us)) } else { Ok(()) }
        };
        self.disk.db(note).await?;
        self.tell = true;
        Ok(true)
    }

    async fn stop(&mut self, slot: &mut Slot, run: Run) -> Result<Next, StepError> {
        (slot.watched, slot.told, slot.fetch) = (None, None, None);
        let parts = self.parts();
        Self::hands(&parts).stop(&run).await?;
        (self.tell, self.follow) = (true, true);
        Ok(Next::Now)
    }

    async fn fail(&mut self, slot: &mut Slot, run: &Run, reason: EndReason, words: String) -> Result<Next, StepError> {
        let ending = Ending { reason: Some(reason), detail: Some(words), metered: run.metered };
        self.end(slot, run, ending).await
    }

    async fn end(&mut self, slot: &mut Slot, run: &Run, ending: Ending) -> Result<Next, StepError> {
        self.endings.push((run.partition, run.generation, ending.reason));
        let parts = self.parts();
        if let Err(error) = Self::hands(&parts).end(run, &ending).await {
            slot.over = run.generation;
            slot.unrecorded = Some(ending);
            return Err(error);
        }
        self.tell = true;
        Ok(Next::Now)
    }
}
