//! How a machine comes to be: from a template where there is one, by booting otherwise.

use super::{StepError, Worker};
use crate::agent::shared::Shared;
use crate::agent::templates::Recipe;
use crate::store::Run;
use crate::templates::{Key, Shape};
use crate::vmm::{Birth, BootFiles, Boottime, Machine, MachineSpec, Vmm, VmmError};
use std::time::Duration;
use sublet_model::image::{Boot, ImageManifest};
use sublet_model::partition::Allocation;
use sublet_model::units::GiB;
use tokio::time::Instant;

/// A guest that was woken answers within this, or it is booted instead.
const WAKE_WITHIN: Duration = Duration::from_secs(20);

/// What is told of a start is cut to so many characters.
const LONGEST_NOTE: usize = 160;

/// How the machine of a generation was started, as far as this agent did it.
#[derive(Debug)]
pub(super) enum Begun {
    /// From a template, and when.
    Warm(u64, Key, Instant),
    /// A template failed it: it boots, and why.
    Cold(u64, String),
}

impl<V: Vmm> Worker<V> {
    pub(super) async fn start(
        &mut self,
        run: &Run,
        machine: &Machine,
        image: &ImageManifest,
        give_up: Boottime,
    ) -> Result<(), StepError> {
        let spec = match self.spec(run, machine, image).await? {
            Ok(spec) => spec,
            Err(reason) => return Err(VmmError::Refused { partition: self.partition, reason }.into()),
        };
        let found = self.template(run, image).await;
        let vmm = &self.shared.vmm;
        let how = match found {
            Ok(taken) => {
                let begun = Instant::now();
                let warm = MachineSpec { birth: Birth::Clone(taken.files.clone()), ..spec.clone() };
                let woken = async {
                    vmm.prepare(&warm).await?;
                    vmm.start(&warm, give_up).await
                };
                match woken.await {
                    Ok(()) => {
                        self.begun = Some(Begun::Warm(run.generation, taken.key.clone(), begun));
                        return self.note(run, "warm: from a template").await;
                    }
                    Err(error) => {
                        self.shared.templates.throw_out(&taken.key);
                        vmm.wipe(machine).await?;
                        format!("cold: {error}")
                    }
                }
            }
            Err(why) => format!("cold: {why}"),
        };
        vmm.prepare(&spec).await?;
        vmm.start(&spec, give_up).await?;
        self.note(run, &how).await
    }

    /// A template for a life; or why it boots. Either way its shape is in demand.
    async fn template(&self, run: &Run, image: &ImageManifest) -> Result<crate::templates::Taken, String> {
        let has = self.applied(run).await.map_err(|error| error.to_string())?;
        if has.resources.disk > GiB(0) {
            return Err("a scratch disk is attached".into());
        }
        if matches!(image.boot, Boot::Disk { .. }) {
            return Err("it boots from a disk of its own".into());
        }
        let config = &self.shared.config;
        let shape = Shape::of(image, &has, config.accelerator, &config.monitor);
        let recipe = Recipe { shape: shape.clone(), image: image.clone(), depot: run.wanted.depot.clone() };
        self.shared.templates.wanted(recipe);
        if let Some(Begun::Cold(generation, why)) = &self.begun
            && *generation == run.generation
        {
            return Err(why.clone());
        }
        match self.shared.templates.take(&shape).await {
            Ok(Some(taken)) => Ok(taken),
            Ok(None) if config.template_limit_bytes == 0 => Err("this host makes no templates".into()),
            Ok(None) if self.shared.templates.is_pointless(&shape) => {
                Err("it boots as quickly as a template of it would start".into())
            }
            Ok(None) => Err("there is no template of it yet".into()),
            Err(error) => {
                tracing::warn!(partition = %self.partition, %error, "it boots instead");
                Err(error.to_string())
            }
        }
    }

    /// Until when a guest that was started now has to answer: a clone does so soon, or not at all.
    pub(super) fn answer_by(&self, run: &Run, left: Duration) -> Instant {
        match &self.begun {
            Some(Begun::Warm(generation, _, begun)) if *generation == run.generation => {
                (*begun + WAKE_WITHIN).min(Instant::now() + left)
            }
            _ => Instant::now() + left,
        }
    }

    /// Whether a life that did not come up came from a template: then it is booted instead.
    pub(super) async fn boots_instead(&mut self, run: &Run, machine: &Machine, why: &str) -> Result<bool, StepError> {
        match self.begun.take() {
            Some(Begun::Warm(generation, key, _)) if generation == run.generation => {
                tracing::warn!(partition = %self.partition, %key, why, "its template failed; it boots instead");
                self.begun = Some(Begun::Cold(generation, format!("its template failed: {why}")));
                self.shared.templates.throw_out(&key);
                self.shared.vmm.stop(machine).await?;
                self.shared.vmm.wipe(machine).await?;
                Ok(true)
            }
            other => {
                self.begun = other;
                Ok(false)
            }
        }
    }

    /// Records how a life was started: the market is told.
    async fn note(&self, run: &Run, how: &str) -> Result<(), StepError> {
        let (run, how) = (run.clone(), how.chars().take(LONGEST_NOTE).collect::<String>());
        Ok(self.shared.db(move |store| store.note_start(&run, &how)).await?)
    }

    /// All that the machine is to be, if it boots; or why it can't.
    async fn spec(
        &self,
        run: &Run,
        machine: &Machine,
        image: &ImageManifest,
    ) -> Result<Result<MachineSpec, String>, StepError> {
        let applied = self.applied(run).await?;
        let boot = match self.shared.cache.fetch(&image.boot, &run.wanted.depot).await {
            Ok(fetched) => fetched,
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(Ok(self.shared.machine_spec(machine, &applied, image, boot).await?))
    }
}

impl<V: Vmm> Shared<V> {
    /// All that a machine is to be that boots an image.
    pub(in crate::agent) async fn machine_spec(
        &self,
        machine: &Machine,
        has: &Allocation,
        image: &ImageManifest,
        boot: BootFiles,
    ) -> Result<MachineSpec, StepError> {
        let (partition, first) = (machine.partition, self.config.first_uid);
        let place = self.db(move |store| store.place(partition, first, super::super::users::exists)).await?;
        let (uid, gid) = self.config.run_as.unwrap_or((place.uid, place.uid));
        Ok(MachineSpec {
            partition,
            generation: machine.generation,
            uuid: machine.uuid,
            vcpus: has.vcpus,
            cpu: has.resources.cpu,
            memory: has.resources.memory,
            disk: has.resources.disk,
            boot,
            command_line: image.command_line.clone(),
            guest_channel: image.guest_channel.clone(),
            run_dir: machine.run_dir.clone(),
            uid,
            gid,
            accelerator: self.config.accelerator,
            birth: Birth::Cold,
        })
    }
}
