//! A [`Vmm`] without machines: for tests of speed and of failure, never for a host that lends.

use super::{Boottime, ExitCause, ExitRecord, Machine, MachineSpec, Observed, Usage, Vmm, VmmError};
use crate::guard::record::{boot_id, monotonic_micros};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use sublet_model::ids::PartitionId;
use sublet_model::units::Millicores;
use tokio::sync::watch;

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Vmm::prepare`].
    Prepare,
    /// [`Vmm::start`].
    Start,
    /// [`Vmm::set_deadline`].
    SetDeadline,
    /// [`Vmm::resize`].
    Resize,
    /// [`Vmm::stop`].
    Stop,
    /// [`Vmm::wipe`].
    Wipe,
}

/// Whether a failing call does its work before it fails: as after a crash, nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Before,
    After,
}

/// Machines that only exist as rows in memory.
#[derive(Debug)]
pub struct SimulatedVmm {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

/// A moment of a computer, as the records of exits name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// CLOCK_MONOTONIC, in microseconds.
    pub mono_us: i64,
    /// CLOCK_BOOTTIME, in microseconds.
    pub boot_us: i64,
    /// Which start of the computer.
    pub boot_id: String,
}

#[derive(Debug, Default)]
struct State {
    prepared: HashSet<PartitionId>,
    machines: HashMap<PartitionId, Simulated>,
    faults: HashMap<Operation, Vec<Fault>>,
    /// The most that ever ran at once for one partition would be two: kept to be checked.
    started: Vec<(PartitionId, u64)>,
    /// The moment that it is; none: the computer's own clocks say.
    now: Option<Moment>,
}

#[derive(Debug)]
struct Simulated {
    machine: Machine,
    spec: MachineSpec,
    stop_at: Boottime,
    observed: Observed,
}

impl Default for SimulatedVmm {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::channel(0).0 }
    }
}

impl SimulatedVmm {
    /// Makes the next such call fail without having done anything.
    pub fn fail_next(&self, operation: Operation) {
        self.state().faults.entry(operation).or_default().push(Fault::Before);
    }

    /// Makes the next such call do its work and then fail.
    pub fn fail_after_next(&self, operation: Operation) {
        self.state().faults.entry(operation).or_default().push(Fault::After);
    }

    /// The guest's kernel dies.
    pub fn panic(&self, partition: PartitionId) {
        self.become_observed(partition, |_, _| Observed::Panicked);
    }

    /// The guest ends itself.
    pub fn shut_down(&self, partition: PartitionId) {
        self.become_observed(partition, |_, _| Observed::ShutDown);
    }

    /// The monitor is killed.
    pub fn kill(&self, partition: PartitionId) {
        self.exits(partition, ExitCause::Signalled { signal: 9 });
    }

    /// Ends what is past its deadline, as the guards would.
    pub fn tick(&self, now: Boottime) {
        let due: Vec<_> =
            self.state().machines.values().filter(|m| m.stop_at <= now).map(|m| m.machine.partition).collect();
        for partition in due {
            self.exits(partition, ExitCause::Deadline);
        }
    }

    /// From here on it is this moment, whatever the computer's own clocks say.
    pub fn set_now(&self, now: Moment) {
        self.state().now = Some(now);
    }

    /// The computer loses its power: what ran runs no more, and nobody saw how it ended.
    pub fn power_off(&self) {
        let live: Vec<_> =
            self.state().machines.values().filter(|m| m.observed.is_live()).map(|m| m.machine.partition).collect();
        for partition in live {
            self.exits(partition, ExitCause::Vanished);
        }
    }

    /// Of which machines there is a trace: partition, generation, and whether it is live.
    pub fn traces(&self) -> Vec<(PartitionId, u64, bool)> {
        let state = self.state();
        let traces = state.machines.values().map(|m| (m.machine.partition, m.machine.generation, m.observed.is_live()));
        let mut traces: Vec<_> = traces.collect();
        traces.sort_unstable();
        traces
    }

    /// What a machine was told to be; none if there is no trace of it.
    pub fn spec(&self, partition: PartitionId) -> Option<MachineSpec> {
        self.state().machines.get(&partition).map(|m| m.spec.clone())
    }

    /// Every start there was, in order.
    pub fn started(&self) -> Vec<(PartitionId, u64)> {
        self.state().started.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exits(&self, partition: PartitionId, cause: ExitCause) {
        self.become_observed(partition, |machine, now| Observed::Exited(exit(machine, cause.clone(), now)));
    }

    fn become_observed(&self, partition: PartitionId, next: impl Fn(&Machine, Option<&Moment>) -> Observed) {
        let mut state = self.state();
        let now = state.now.clone();
        if let Some(m) = state.machines.get_mut(&partition).filter(|m| m.observed.is_live()) {
            m.observed = next(&m.machine, now.as_ref());
        }
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    fn faulty<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State) -> Result<T, VmmError>,
    ) -> Result<T, VmmError> {
        let mut state = self.state();
        let faults = state.faults.entry(operation).or_default();
        let fault = if faults.is_empty() { None } else { Some(faults.remove(0)) };
        let failure = || VmmError::System {
            attempt: format!("{operation:?}").to_lowercase(),
            source: std::io::Error::other("made to fail"),
        };
        match fault {
            Some(Fault::Before) => Err(failure()),
            Some(Fault::After) => work(&mut state).and_then(|_| Err(failure())),
            None => work(&mut state),
        }
    }
}

fn exit(machine: &Machine, cause: ExitCause, now: Option<&Moment>) -> ExitRecord {
    let clocks =
        || Moment { mono_us: monotonic_micros(), boot_us: Boottime::now().0, boot_id: boot_id().unwrap_or_default() };
    let Moment { mono_us, boot_us, boot_id } = now.cloned().unwrap_or_else(clocks);
    ExitRecord {
        generation: machine.generation,
        uuid: machine.uuid,
        cause,
        at_monotonic_us: mono_us,
        at_boottime_us: boot_us,
        boot_id,
        said: String::new(),
    }
}

impl State {
    fn find(&mut self, machine: &Machine) -> Option<&mut Simulated> {
        self.machines.get_mut(&machine.partition).filter(|m| m.machine == *machine)
    }

    fn find_live(&mut self, machine: &Machine) -> Result<&mut Simulated, VmmError> {
        let live = self.find(machine).filter(|m| m.observed.is_live());
        live.ok_or(VmmError::NotRunning { partition: machine.partition })
    }

    fn start(&mut self, spec: &MachineSpec, stop_at: Boottime) -> Result<(), VmmError> {
        let (partition, machine) = (spec.partition, spec.machine());
        if !self.prepared.contains(&partition) {
            return Err(VmmError::Start { partition, reason: "it was not prepared".to_owned() });
        }
        if let Some(other) = self.machines.get(&partition).filter(|m| m.observed.is_live()) {
            let running = other.machine.generation;
            return if other.machine == machine {
                Ok(())
            } else {
                Err(VmmError::AlreadyRunning { partition, running })
            };
        }
        let observed = Observed::Running {
            pid: 1,
            uuid: spec.uuid,
            generation: spec.generation,
            vcpus: spec.vcpus,
            memory: spec.memory,
        };
        self.started.push((partition, spec.generation));
        self.machines.insert(partition, Simulated { machine, spec: spec.clone(), stop_at, observed });
        Ok(())
    }
}

impl Vmm for SimulatedVmm {
    async fn prepare(&self, spec: &MachineSpec) -> Result<(), VmmError> {
        self.faulty(Operation::Prepare, |state| {
            state.prepared.insert(spec.partition);
            Ok(())
        })
    }

    async fn start(&self, spec: &MachineSpec, stop_at: Boottime) -> Result<(), VmmError> {
        self.faulty(Operation::Start, |state| state.start(spec, stop_at))
    }

    async fn set_deadline(&self, machine: &Machine, stop_at: Boottime) -> Result<(), VmmError> {
        self.faulty(Operation::SetDeadline, |state| {
            state.find_live(machine)?.stop_at = stop_at;
            Ok(())
        })
    }

    async fn resize(&self, machine: &Machine, cpu: Millicores) -> Result<(), VmmError> {
        self.faulty(Operation::Resize, |state| {
            state.find_live(machine)?.spec.cpu = cpu;
            Ok(())
        })
    }

    async fn observe(&self, machine: &Machine) -> Observed {
        self.state().find(machine).map_or(Observed::NotRunning, |m| m.observed.clone())
    }

    async fn stop(&self, machine: &Machine) -> Result<Option<ExitRecord>, VmmError> {
        let stopped = self.faulty(Operation::Stop, |state| {
            let now = state.now.clone();
            let Some(found) = state.find(machine) else { return Ok(None) };
            if found.observed.is_live() {
                found.observed = Observed::Exited(exit(machine, ExitCause::Stopped, now.as_ref()));
            }
            match &found.observed {
                Observed::Exited(record) => Ok(Some(record.clone())),
                _ => Ok(None),
            }
        });
        self.changes.send_modify(|count| *count += 1);
        stopped
    }

    async fn wipe(&self, machine: &Machine) -> Result<(), VmmError> {
        self.faulty(Operation::Wipe, |state| {
            let partition = machine.partition;
            if let Some(live) = state.machines.get(&partition).filter(|m| m.observed.is_live()) {
                return Err(VmmError::AlreadyRunning { partition, running: live.machine.generation });
            }
            state.machines.remove(&partition);
            state.prepared.remove(&partition);
            Ok(())
        })
    }

    async fn usage(&self, machine: &Machine) -> Result<Usage, VmmError> {
        let mut state = self.state();
        let memory = state.find_live(machine)?.spec.memory;
        Ok(Usage { cpu_nanoseconds: 0, memory_bytes: (memory.0 as u64) << 20 })
    }

    async fn console(&self, machine: &Machine) -> Result<Vec<u8>, VmmError> {
        self.state().find_live(machine).map(|_| Vec::new())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
