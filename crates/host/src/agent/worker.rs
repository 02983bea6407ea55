//! One task a partition: reads what is recorded, does the one thing that is due, records, asks
//! again. What is decided stands in [`crate::partition`], with the diagram of a life.

mod start;

use super::guest;
use super::hands::StepError;
use super::shared::{Shared, Slot};
use crate::console::telling;
use crate::guest_link::GuestLink;
use crate::meter::{self, Now};
use crate::partition::{Ending, Look, due, ending_by_clock, ending_of};
use crate::store::{Run, Stage};
use crate::terms::check_image;
use crate::vmm::{Boottime, Machine, Observed, Vmm};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use sublet_model::ids::PartitionId;
use sublet_model::image::ImageManifest;
use sublet_model::lease::EndReason;
use tokio::sync::watch;

/// Pause after a step that failed, so that a broken disk is not asked a thousand times a second.
const PAUSE: Duration = Duration::from_secs(1);
/// Ends are looked at so often, for the timer stands still while the computer sleeps.
const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_secs(30);
/// So much of the end of a guest's console goes with a crash: what the market keeps of a detail.
const CONSOLE_BYTES: usize = 400;

/// What comes after a step.
enum Next {
    /// The next one.
    Now,
    /// Nothing, until somebody wakes the worker.
    Rest,
}

struct Worker<V: Vmm> {
    shared: Arc<Shared<V>>,
    partition: PartitionId,
    slot: Arc<Slot>,
    changed: watch::Receiver<u64>,
    machines: watch::Receiver<u64>,
    /// The generation that this agent saw running.
    watched: Option<u64>,
    /// An ending that could not be recorded yet: the first one stands.
    unrecorded: Option<Ending>,
    /// The paid end that the guard knows.
    told: Option<Boottime>,
    guest: Option<guest::Keeper>,
    /// How the machine of the present life was started.
    begun: Option<start::Begun>,
}

/// The slot of a partition, with its worker.
pub fn slot<V: Vmm>(shared: &Arc<Shared<V>>, partition: PartitionId) -> Arc<Slot> {
    let mut slots = Shared::<V>::lock(&shared.slots);
    let slot = slots.entry(partition).or_insert_with(|| {
        let slot = Arc::new(Slot::default());
        let worker = Worker {
            shared: Arc::clone(shared),
            partition,
            changed: slot.changed.subscribe(),
            machines: shared.vmm.changes(),
            slot: Arc::clone(&slot),
            watched: None,
            unrecorded: None,
            told: None,
            guest: None,
            begun: None,
        };
        let worker = tokio::spawn(worker.run());
        *Shared::<V>::lock(&slot.worker) = Some(worker.abort_handle());
        slot
    });
    Arc::clone(slot)
}

impl<V: Vmm> Worker<V> {
    async fn run(mut self) {
        loop {
            self.changed.borrow_and_update();
            let outcome = AssertUnwindSafe(self.step()).catch_unwind().await;
            let partition = self.partition;
            match outcome {
                Ok(Ok(Next::Now)) => continue,
                Ok(Ok(Next::Rest)) => {
                    if self.changed.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                Ok(Err(error)) => tracing::error!(%partition, %error, "a step failed; it is tried again"),
                Err(_) => tracing::error!(%partition, "a fault in a step; it is tried again"),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = self.changed.changed() => tokio::time::sleep(PAUSE / 10).await,
            }
        }
    }

    /// The one step that is due.
    async fn step(&mut self) -> Result<Next, StepError> {
        let partition = self.partition;
        let Some(run) = self.shared.db(move |store| store.live_run(partition)).await? else {
            return Ok(self.rest());
        };
        if let Some(ending) = self.unrecorded.take() {
            return self.end(&run, ending).await;
        }
        match run.stage {
            Stage::Fetching => self.fetch(run).await,
            Stage::Booting => self.boot(run).await,
            Stage::Ready => self.hold(run).await,
            Stage::Stopping => self.stop(run).await,
            Stage::Gone => Ok(self.rest()),
        }
    }

    fn rest(&mut self) -> Next {
        self.let_go();
        Next::Rest
    }

    fn let_go(&mut self) {
        (self.guest, self.watched, self.told) = (None, None, None);
        self.slot.guest.send_replace(None);
    }

    fn look(&self, run: &Run) -> Look<'_> {
        let Now { mono_us, boot_us } = Now::read();
        let watched = self.watched == Some(run.generation);
        Look { boot_id: &self.shared.boot_id, mono_us, boot_us, watched }
    }

    /// Has the image here, then records the start.
    async fn fetch(&mut self, run: Run) -> Result<Next, StepError> {
        let image = match check_image(&run.wanted) {
            Ok(image) => image,
            Err(words) => return self.fail(&run, EndReason::ImageUnavailable, words).await,
        };
        let shared = Arc::clone(&self.shared);
        let fetching = shared.cache.fetch(&image.boot, &run.wanted.depot);
        tokio::pin!(fetching);
        let mut shown = tokio::time::interval(Duration::from_millis(500));
        shown.tick().await;
        loop {
            tokio::select! {
                fetched = &mut fetching => match fetched {
                    Ok(_) => break,
                    Err(error) => return self.fail(&run, EndReason::ImageUnavailable, error.to_string()).await,
                },
                // Somebody wants something: if it is a stop, what is here so far is kept for the next.
                _ = self.changed.changed() => {
                    let partition = self.partition;
                    let now = self.shared.db(move |store| store.live_run(partition)).await?;
                    if now.is_none_or(|now| now.stage != Stage::Fetching) {
                        return Ok(Next::Now);
                    }
                }
                _ = shown.tick() => self.shared.tell(),
            }
        }
        let (boot_id, now, run) = (self.shared.boot_id.clone(), Now::read(), run.clone());
        self.shared.db(move |store| store.starting(&run, &boot_id, now.mono_us, now.boot_us)).await?;
        self.shared.tell();
        Ok(Next::Now)
    }

    /// Starts the machine if there is none, and waits until its guest has its identity.
    async fn boot(&mut self, run: Run) -> Result<Next, StepError> {
        let machine = self.machine(&run).await?;
        self.machines.borrow_and_update();
        let observed = self.shared.vmm.observe(&machine).await;
        if let Some(ending) = ending_of(&run, &observed, self.look(&run)) {
            return self.did_not_come_up(&run, &machine, ending).await;
        }
        self.slot.looked.send_replace(true);
        let patience_us = self.shared.config.boot_deadline.as_micros() as i64;
        let give_up = meter::stop_at(&run, patience_us);
        let image = match check_image(&run.wanted) {
            Ok(image) => image,
            Err(words) => return self.fail(&run, EndReason::ImageUnavailable, words).await,
        };
        if observed == Observed::NotRunning
            && let Err(error) = self.start(&run, &machine, &image, give_up).await
        {
            return match error {
                StepError::Store(error) => Err(error.into()),
                StepError::Vmm(error) => self.fail(&run, EndReason::BootFailed, error.to_string()).await,
            };
        }
        self.watched = Some(run.generation);
        self.meet(&run, &machine, &image, give_up).await
    }

    /// Waits for the guest, tells it who it is, and starts the meter.
    async fn meet(
        &mut self,
        run: &Run,
        machine: &Machine,
        image: &ImageManifest,
        give_up: Boottime,
    ) -> Result<Next, StepError> {
        let left = Duration::from_micros((give_up.0 - Boottime::now().0).max(0) as u64);
        let applied = self.applied(run).await?;
        let meeting = guest::meet(guest::Who::of(run, applied), machine.guest_socket(), self.answer_by(run, left));
        tokio::pin!(meeting);
        let link = loop {
            tokio::select! {
                met = &mut meeting => match met {
                    Ok(link) => break link,
                    Err(error) => {
                        // It may have died in this moment: then that is the better answer.
                        let observed = self.shared.vmm.observe(machine).await;
                        let words = format!("the guest did not come up: {error}");
                        let ending = ending_of(run, &observed, self.look(run)).unwrap_or(Ending {
                            reason: Some(EndReason::BootFailed), detail: Some(words), metered: run.metered,
                        });
                        return self.did_not_come_up(run, machine, ending).await;
                    }
                },
                _ = self.machines.changed() => {
                    let observed = self.shared.vmm.observe(machine).await;
                    if let Some(ending) = ending_of(run, &observed, self.look(run)) {
                        return self.did_not_come_up(run, machine, ending).await;
                    }
                }
                _ = self.changed.changed() => {
                    let partition = self.partition;
                    let now = self.shared.db(move |store| store.live_run(partition)).await?;
                    if now.is_none_or(|now| now.stage != Stage::Booting) {
                        return Ok(Next::Now);
                    }
                }
            }
        };
        let (now, record) = (Now::read(), run.clone());
        self.shared.db(move |store| store.ready(&record, now.mono_us, now.boot_us)).await?;
        // Before anybody hears of it: whatever becomes of this agent, its guard stops it in time.
        let ready = Run { ready_boot_us: run.ready_boot_us.or(Some(now.boot_us)), ..run.clone() };
        let stop_at = meter::stop_at(&ready, 0);
        self.shared.vmm.set_deadline(machine, stop_at).await?;
        self.told = Some(stop_at);
        tracing::info!(partition = %run.partition, lease = %run.lease(), "ready");
        self.keep_guest(run, machine, image, Some(link)).await?;
        self.shared.tell();
        Ok(Next::Now)
    }

    /// Ends a life that did not come up, unless its template is to blame.
    async fn did_not_come_up(&mut self, run: &Run, machine: &Machine, ending: Ending) -> Result<Next, StepError> {
        let why = ending.detail.clone().unwrap_or_default();
        if self.boots_instead(run, machine, &why).await? {
            return Ok(Next::Now);
        }
        self.end_with_console(run, machine, ending).await
    }

    async fn keep_guest(
        &mut self,
        run: &Run,
        machine: &Machine,
        image: &ImageManifest,
        link: Option<GuestLink>,
    ) -> Result<(), StepError> {
        let has = self.applied(run).await?;
        let kept = guest::Kept { run: run.clone(), has, login_user: image.login_user.clone() };
        self.guest = Some(guest::Keeper::start(&self.shared, &self.slot, machine, kept, link));
        Ok(())
    }

    /// Looks after a partition in use until something ends it.
    async fn hold(&mut self, run: Run) -> Result<Next, StepError> {
        let machine = self.machine(&run).await?;
        self.machines.borrow_and_update();
        // The clock first: what is then seen to run ran until here.
        let look = self.look(&run);
        let observed = self.shared.vmm.observe(&machine).await;
        let ending = ending_of(&run, &observed, look).or_else(|| ending_by_clock(&run, look));
        if let Some(ending) = ending {
            return self.end_with_console(&run, &machine, ending).await;
        }
        self.watched = Some(run.generation);
        self.slot.looked.send_replace(true);
        if self.note_client(&run).await? {
            return Ok(Next::Now);
        }
        let stop_at = meter::stop_at(&run, 0);
        if self.told != Some(stop_at) {
            self.shared.vmm.set_deadline(&machine, stop_at).await?;
            self.told = Some(stop_at);
        }
        if self.guest.is_none()
            && let Ok(image) = check_image(&run.wanted)
        {
            self.keep_guest(&run, &machine, &image, None).await?;
        }
        let next = due(&run).map_or(i64::MAX, |(at, _)| at).saturating_sub(Boottime::now().0).max(0);
        let pause = Duration::from_micros(next as u64).min(LOOK_AT_CLOCK_EVERY);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = self.machines.changed() => {}
            _ = self.changed.changed() => {}
        }
        Ok(Next::Now)
    }

    /// Records whether the client is there: a one-shot lease does not outlive it for long. True if
    /// that was news.
    async fn note_client(&self, run: &Run) -> Result<bool, StepError> {
        let here = *self.slot.present.borrow() == Some(run.generation);
        let contact = here && !run.contacted;
        let vanished = run.wanted.one_shot && here == run.vanished_boot_us.is_some();
        if !contact && !vanished {
            return Ok(false);
        }
        let (run, now) = (run.clone(), Now::read());
        self.shared
            .db(move |store| {
                if contact {
                    store.contacted(&run)?;
                }
                if vanished { store.vanished(&run, (!here).then_some(now.boot_us)) } else { Ok(()) }
            })
            .await?;
        self.shared.tell();
        Ok(true)
    }

    /// Stops the machine, writes the last receipt, wipes, and says gone.
    async fn stop(&mut self, run: Run) -> Result<Next, StepError> {
        let why = run.reason.map_or("it was ended by the market or released", EndReason::explanation);
        self.slot.say_end(run.generation, format!("{} has ended: {why}", run.lease()));
        self.let_go();
        self.shared.hands().stop(&run).await?;
        let (partition, generation, reason) = (run.partition, run.generation, run.reason);
        tracing::info!(%partition, generation, ?reason, "gone");
        self.shared.keep_jobs_of_live_leases().await;
        self.shared.tell();
        // What waited for this one to be gone may go on.
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.follow_again().await });
        Ok(Next::Now)
    }

    async fn fail(&mut self, run: &Run, reason: EndReason, words: String) -> Result<Next, StepError> {
        self.end(run, Ending { reason: Some(reason), detail: Some(words), metered: run.metered }).await
    }

    /// Ends a life whose guest had no time to say why elsewhere than on its console.
    async fn end_with_console(&mut self, run: &Run, machine: &Machine, mut ending: Ending) -> Result<Next, StepError> {
        let told = matches!(ending.reason, Some(EndReason::BootFailed | EndReason::GuestCrashed));
        if let (true, Ok(console)) = (told, self.shared.vmm.console(machine).await) {
            let text = telling(&console, CONSOLE_BYTES);
            if !text.is_empty() {
                let words = ending.detail.unwrap_or_default();
                ending.detail = Some(format!("{words}; its console says:\n{text}"));
            }
        }
        self.end(run, ending).await
    }

    /// Records an ending. Where that can't be done the machine is stopped all the same.
    async fn end(&mut self, run: &Run, ending: Ending) -> Result<Next, StepError> {
        tracing::info!(partition = %run.partition, reason = ?ending.reason, detail = ending.detail, "ends");
        if let Err(error) = self.shared.hands().end(run, &ending).await {
            self.slot.over.store(run.generation, Ordering::SeqCst);
            self.unrecorded = Some(ending);
            return Err(error);
        }
        self.slot.looked.send_replace(true);
        self.shared.tell();
        Ok(Next::Now)
    }

    async fn applied(&self, run: &Run) -> Result<sublet_model::partition::Allocation, StepError> {
        self.shared.hands().applied(run).await
    }

    async fn machine(&self, run: &Run) -> Result<Machine, StepError> {
        self.shared.hands().machine(run).await
    }
}
