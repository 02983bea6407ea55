//! What really happened on a computer, noted beside the host's own code and never shown to it.

use std::collections::BTreeMap;
use sublet_host::store::{Run, Stage, Store};
use sublet_host::vmm::{MachineSpec, SimulatedVmm};
use sublet_model::ids::{LeaseId, PartitionId};
use uuid::Uuid;

/// One machine that was started.
#[derive(Debug, Clone)]
pub struct Ran {
    /// For which lease.
    pub lease: LeaseId,
    /// Which machine.
    pub uuid: Uuid,
    /// When its guest was ready, by the computer's monotonic clock.
    pub ready: Option<i64>,
    /// When it ran no more.
    pub ended: Option<i64>,
}

/// What really happened on a computer.
#[derive(Debug, Default)]
pub struct Truth {
    /// Every machine, by partition and generation.
    pub ran: BTreeMap<(PartitionId, u64), Ran>,
    /// Starts that met a live machine of another generation.
    pub clashes: Vec<(PartitionId, u64, u64)>,
    /// What should never have been.
    pub wrongs: Vec<String>,
}

impl Truth {
    /// A machine is about to be started.
    pub fn started(&mut self, store: &Store, run: &Run, spec: &MachineSpec, mono_us: i64) {
        let (partition, generation) = (spec.partition, spec.generation);
        let newest = self.ran.range((partition, 0)..=(partition, u64::MAX)).next_back();
        if let Some(((_, newest), _)) = newest.filter(|((_, newest), _)| *newest > generation) {
            self.wrongs.push(format!("I2: {partition} starts generation {generation} after {newest}"));
        }
        if let Some(other) = self.ran.get(&(partition, generation)).filter(|other| other.uuid != spec.uuid) {
            self.wrongs.push(format!("I2: {partition} generation {generation} is started twice, for {}", other.lease));
        }
        self.durable(store, run, spec);
        let ran = Ran { lease: run.lease(), uuid: spec.uuid, ready: None, ended: None };
        let ran = self.ran.entry((partition, generation)).or_insert(ran);
        // Started once more before it was ready: only the last one counts.
        if ran.ended.is_some_and(|ended| ended <= mono_us) && ran.ready.is_none() {
            ran.ended = None;
        }
    }

    /// What a machine is told to be was kept before, and is what was agreed.
    fn durable(&mut self, store: &Store, run: &Run, spec: &MachineSpec) {
        let (partition, generation) = (spec.partition, spec.generation);
        let applied = store.applied().ok().and_then(|applied| applied.get(&partition).copied());
        let kept = store.live_run(partition).ok().flatten();
        if applied.is_none_or(|a| a.generation != generation)
            || kept.is_none_or(|kept| kept.generation != generation || kept.stage < Stage::Booting)
        {
            self.wrongs.push(format!("I2: {partition} starts generation {generation}, which is not kept"));
        }
        let Ok(terms) = run.wanted.terms.read() else { return };
        let has = (spec.cpu, spec.memory, spec.vcpus);
        if has != (terms.resources.cpu, terms.resources.memory, terms.vcpus) {
            self.wrongs.push(format!("I3: {partition} is started with {has:?}, but {:?} is agreed", terms.resources));
        }
        if applied.is_some_and(|a| a.resources != terms.resources) {
            self.wrongs.push(format!("I3: {partition} has {applied:?} applied, but {:?} is agreed", terms.resources));
        }
    }

    /// A guest is ready.
    pub fn ready(&mut self, run: &Run, mono_us: i64) {
        if let Some(ran) = self.ran.get_mut(&(run.partition, run.generation)) {
            ran.ready.get_or_insert(mono_us);
        }
    }

    /// Notes what runs no more.
    pub fn look(&mut self, machines: &SimulatedVmm, mono_us: i64) {
        let traces = machines.traces();
        for ((partition, generation), ran) in self.ran.iter_mut().filter(|(_, ran)| ran.ended.is_none()) {
            if !traces.contains(&(*partition, *generation, true)) {
                ran.ended = Some(mono_us);
            }
        }
    }

    /// For how many whole seconds the machine of a lease ran, ready, until now at the latest.
    pub fn ran_for(&self, lease: LeaseId, mono_us: i64) -> Option<i64> {
        let ran = self.ran.values().find(|ran| ran.lease == lease)?;
        Some((ran.ended.unwrap_or(mono_us) - ran.ready?).max(0) / 1_000_000)
    }
}
