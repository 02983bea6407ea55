//! One task for each partition of the owner's own: reads what is recorded, does the one thing that is
//! due, asks again. What is decided stands in [`crate::own`], with the diagram.
//!
//! Nothing here asks the market, or tells it anything: it knows of a partition that is not lent.

mod door;
mod link;

#[cfg(test)]
pub(super) use door::OwnDoor;
pub(super) use door::open as open_door;
pub use door::{EVERY_START, SOCKET as OWN_SOCKET};
pub use link::user as own_user;

use super::hands::StepError;
use super::shared::{Linked, Shared, Slot};
use crate::console::telling;
use crate::own::{Due, Ending, Look, STEADY_AFTER, Then, due, pause};
use crate::store::{Own, Stand, Start, Store, StoreError};
use crate::vmm::{Boottime, Machine, Observed, Vmm};
use futures_util::FutureExt;
use link::{Keeper, who};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sublet_model::ids::PartitionId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

/// Pause after a step that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often room is looked for that was not there.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_secs(2);
/// A guest that is asked to shut down has so long for it.
const SHUT_DOWN_WITHIN: Duration = Duration::from_secs(20);
/// So much of the end of a guest's console is logged with a crash.
const CONSOLE_BYTES: usize = 400;

/// What is only known while the agent lives, of the owner's own partitions.
#[derive(Debug, Default)]
pub struct OwnSlots {
    slots: Mutex<BTreeMap<PartitionId, Arc<Slot>>>,
    halts: AtomicBool,
}

impl OwnSlots {
    /// The slot of each.
    pub fn all(&self) -> BTreeMap<PartitionId, Arc<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has all of them end, until another agent starts them.
    pub fn halt(&self) {
        self.halts.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Has all of them looked at again.
    pub fn wake(&self) {
        self.all().values().for_each(|slot| slot.wake());
    }

    fn forget(&self, partition: PartitionId) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }
}

/// Has each that is recorded looked after, and looked at now.
pub async fn follow<V: Vmm>(shared: &Arc<Shared<V>>) -> Result<(), StoreError> {
    for own in shared.db(Store::own).await? {
        if let Ok(image) = own.manifest() {
            shared.cache.keep(&own.partition.to_string(), Some(&image.boot));
        }
        let mut slots = shared.own.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(own.partition).or_insert_with(|| begin(shared, own.partition)).wake();
    }
    Ok(())
}

fn begin<V: Vmm>(shared: &Arc<Shared<V>>, partition: PartitionId) -> Arc<Slot> {
    let slot = Arc::new(Slot::default());
    let supervisor = Supervisor {
        shared: Arc::clone(shared),
        partition,
        changed: slot.changed.subscribe(),
        machines: shared.vmm.changes(),
        guest: slot.guest.subscribe(),
        slot: Arc::clone(&slot),
        link: None,
        late_at: None,
        crashes: 0,
        ready_since: None,
        again_at: None,
    };
    let task = tokio::spawn(supervisor.run());
    *Shared::<V>::lock(&slot.worker) = Some(task.abort_handle());
    slot
}

/// What comes after a step.
enum Next {
    /// The next one.
    Now,
    /// Nothing, until something changes.
    Wait,
    /// It is gone.
    Over,
}

struct Supervisor<V: Vmm> {
    shared: Arc<Shared<V>>,
    partition: PartitionId,
    slot: Arc<Slot>,
    changed: watch::Receiver<u64>,
    machines: watch::Receiver<u64>,
    guest: watch::Receiver<Option<Linked>>,
    /// Keeps the link to the guest of this start.
    link: Option<(u64, Keeper)>,
    /// When the guest of the present start has to have answered, since this agent looks after it.
    late_at: Option<Instant>,
    /// How often it crashed in a row.
    crashes: u32,
    /// Since when it is seen to be ready.
    ready_since: Option<Instant>,
    /// When it starts again, after a crash.
    again_at: Option<Instant>,
}

impl<V: Vmm> Supervisor<V> {
    async fn run(mut self) {
        loop {
            self.changed.borrow_and_update();
            self.machines.borrow_and_update();
            self.guest.borrow_and_update();
            let outcome = AssertUnwindSafe(self.step()).catch_unwind().await;
            let partition = self.partition;
            match outcome {
                Ok(Ok(Next::Now)) => continue,
                Ok(Ok(Next::Wait)) => {
                    self.wait().await;
                    continue;
                }
                Ok(Ok(Next::Over)) => return,
                Ok(Err(error)) => tracing::error!(%partition, %error, "a step failed; it is tried again"),
                Err(_) => tracing::error!(%partition, "a fault in a step; it is tried again"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Until something changes, or one of the times is reached.
    async fn wait(&mut self) {
        let next = [self.again_at, self.late_at].into_iter().flatten().min();
        let timed = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.changed.changed() => {}
            _ = self.machines.changed() => {}
            _ = self.guest.changed() => {}
            () = timed => {}
        }
    }

    /// The one step that is due.
    async fn step(&mut self) -> Result<Next, StepError> {
        let partition = self.partition;
        let Some(own) = self.shared.db(move |store| store.own_of(partition)).await? else { return Ok(self.over()) };
        let machine = self.machine(&own).await?;
        let observed = match &machine {
            Some(machine) => self.shared.vmm.observe(machine).await,
            None => Observed::NotRunning,
        };
        let now = Instant::now();
        self.again_at.take_if(|at| *at <= now);
        let look = Look {
            boot_id: &self.shared.boot_id,
            observed: &observed,
            answered: self.slot.guest.borrow().as_ref().is_some_and(|linked| linked.generation == own.starts),
            late: self.late_at.is_some_and(|at| at <= now),
            pauses: self.again_at.is_some(),
            halts: self.shared.own.halts.load(Ordering::SeqCst),
        };
        let due = due(&own, look);
        tracing::debug!(%partition, ?due, ?observed, "own");
        match (due, machine) {
            (Due::Leave, _) => self.leave(&own).await,
            (Due::Begin, _) => self.begin(&own).await,
            (Due::Launch, Some(machine)) => self.launch(&own, &machine).await,
            (Due::NoteReady, _) => self.note_ready(&own).await,
            (Due::End(ending), Some(machine)) => self.end(&own, &machine, ending).await,
            (_, Some(machine)) => Ok(self.watch(&own, &machine)),
            (_, None) => Ok(Next::Wait),
        }
    }

    async fn machine(&self, own: &Own) -> Result<Option<Machine>, StepError> {
        match &own.start {
            Some(start) => self.shared.hands().machine_of(own.partition, own.starts, start.uuid).await.map(Some),
            None => Ok(None),
        }
    }

    fn over(&mut self) -> Next {
        self.shared.own.forget(self.partition);
        Next::Over
    }

    async fn leave(&mut self, own: &Own) -> Result<Next, StepError> {
        let partition = self.partition;
        self.shared.db(move |store| crate::division::remove_own(store, partition)).await?;
        tracing::info!(%partition, name = own.name, "an own partition is gone");
        self.shared.cache.keep(&partition.to_string(), None);
        self.shared.tell();
        // What it had is free.
        self.shared.follow_again().await?;
        Ok(self.over())
    }

    /// Has the image here, takes the room, and records the start.
    async fn begin(&mut self, own: &Own) -> Result<Next, StepError> {
        let fetched = match own.manifest() {
            Ok(image) => self.fetch(own, &image).await,
            Err(words) => Err(words),
        };
        if let Err(words) = fetched {
            self.pause();
            return self.later(own, words).await;
        }
        let start = Start { uuid: Uuid::now_v7(), boot_id: self.shared.boot_id.clone() };
        if !self.shared.begin_own(own, start).await? {
            self.again_at = Some(Instant::now() + LOOK_FOR_ROOM_EVERY);
            let words = "it waits for room: what is lent has to become smaller, or to end, first";
            return self.later(own, words.into()).await;
        }
        tracing::info!(partition = %own.partition, name = own.name, "an own partition starts");
        self.late_at = Some(Instant::now() + self.shared.config.boot_deadline);
        Ok(Next::Now)
    }

    async fn fetch(&self, own: &Own, image: &sublet_model::image::ImageManifest) -> Result<(), String> {
        self.shared.cache.fetch(&image.boot, &own.depot).await.map(drop).map_err(|error| error.to_string())
    }

    /// Says why it does not start yet.
    async fn later(&mut self, own: &Own, words: String) -> Result<Next, StepError> {
        if own.waits.as_ref() != Some(&words) {
            tracing::warn!(partition = %own.partition, name = own.name, words, "an own partition does not start");
        }
        let partition = own.partition;
        self.shared.db(move |store| store.own_waits(partition, &words)).await?;
        Ok(Next::Wait)
    }

    fn pause(&mut self) {
        if self.ready_since.take().is_some_and(|since| since.elapsed() >= STEADY_AFTER) {
            self.crashes = 0;
        }
        self.crashes = self.crashes.saturating_add(1);
        self.again_at = Some(Instant::now() + pause(self.crashes));
    }

    /// Starts the machine. It has no end but what ends it: nobody pays for it.
    async fn launch(&mut self, own: &Own, machine: &Machine) -> Result<Next, StepError> {
        let started = async {
            let image = own.manifest()?;
            let boot = self.shared.cache.fetch(&image.boot, &own.depot).await.map_err(|error| error.to_string())?;
            let spec = self.shared.machine_spec(machine, &own.allocation(), &image, boot).await;
            let spec = spec.map_err(|error| error.to_string())?;
            let vmm = &self.shared.vmm;
            vmm.prepare(&spec).await.map_err(|error| error.to_string())?;
            vmm.start(&spec, Boottime::NEVER).await.map_err(|error| error.to_string())
        };
        match started.await {
            Ok(()) => Ok(Next::Now),
            Err(said) => self.end(own, machine, Ending { said, then: Then::AgainLater }).await,
        }
    }

    /// Keeps the link to its guest, until something changes.
    fn watch(&mut self, own: &Own, machine: &Machine) -> Next {
        if self.link.as_ref().is_none_or(|(starts, _)| *starts != own.starts) {
            if own.stand == Stand::Ready {
                self.ready_since.get_or_insert_with(Instant::now);
            }
            // An agent that finds it booting gives it all of the time again.
            let patience = self.shared.config.boot_deadline;
            if own.stand == Stand::Boots {
                self.late_at.get_or_insert_with(|| Instant::now() + patience);
            }
            self.link = Some((own.starts, Keeper::start(&self.slot, who(own), machine.guest_socket(), patience)));
        }
        Next::Wait
    }

    async fn note_ready(&mut self, own: &Own) -> Result<Next, StepError> {
        let partition = own.partition;
        self.shared.db(move |store| store.own_is_ready(partition)).await?;
        tracing::info!(%partition, name = own.name, "an own partition is ready");
        (self.late_at, self.ready_since) = (None, Some(Instant::now()));
        Ok(Next::Now)
    }

    /// Stops the machine, wipes, and records why.
    async fn end(&mut self, own: &Own, machine: &Machine, ending: Ending) -> Result<Next, StepError> {
        let Ending { said, then } = ending;
        let console = self.shared.vmm.console(machine).await.map(|bytes| telling(&bytes, CONSOLE_BYTES));
        tracing::warn!(partition = %own.partition, name = own.name, said, ?then, "an own partition ends");
        if let (Then::AgainLater, Ok(console)) = (then, console) {
            tracing::warn!(partition = %own.partition, console, "what its console said last");
        }
        if then == Then::AsWanted {
            self.ask_to_shut_down(machine).await;
        }
        let end = format!("{} has ended: {said}", own.name);
        self.slot.say_end(own.starts, end);
        self.link = None;
        self.slot.guest.send_replace(None);
        self.shared.vmm.stop(machine).await?;
        self.shared.vmm.wipe(machine).await?;
        let (partition, stays) = (own.partition, then == Then::StaysDown);
        self.shared.db(move |store| store.own_is_down(partition, Some(&said), stays)).await?;
        self.late_at = None;
        if then == Then::AgainLater {
            self.pause();
        }
        Ok(Next::Now)
    }

    /// Lets the guest write everything down, if it answers.
    async fn ask_to_shut_down(&mut self, machine: &Machine) {
        let Some(link) = self.slot.guest.borrow().as_ref().map(|linked| linked.link.clone()) else { return };
        let shut_down = async {
            link.shutdown().await.ok()?;
            while matches!(self.shared.vmm.observe(machine).await, Observed::Running { .. }) {
                self.machines.changed().await.ok()?;
            }
            Some(())
        };
        let done = timeout(SHUT_DOWN_WITHIN, shut_down).await;
        tracing::debug!(partition = %self.partition, ?done, "its guest was asked to shut down");
    }
}

impl<V: Vmm> Shared<V> {
    /// Records a start, and that the partition has what it has: no plan overbooks it from then on. False
    /// if there is no room.
    async fn begin_own(&self, own: &Own, start: Start) -> Result<bool, StoreError> {
        // Nobody carries a plan out meanwhile.
        let _plan = self.plan.lock().await;
        let (division, seen) = self.db(|store| Ok((store.division()?, Self::seen(store)?))).await?;
        if !crate::reconcile::has_room(&seen, &self.policy(&division), own.partition, own.resources) {
            return Ok(false);
        }
        let known = seen.iter().any(|seen| seen.partition == own.partition);
        let (partition, has) = (own.partition, own.allocation());
        self.db(move |store| {
            if !known {
                store.apply(partition, &has)?;
            }
            store.own_starts(partition, &start)
        })
        .await?;
        Ok(true)
    }
}
