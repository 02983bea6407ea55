//! The machines of one computer: the host's own simulated VMM, with an eye on what is started, and
//! the instants at which an agent can be killed.

use super::random::Random;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sublet_host::agent::hands::Disk;
use sublet_host::store::{Store, StoreError};
use sublet_host::vmm::{
    Boottime, ExitRecord, Machine, MachineSpec, Observed, Operation, SimulatedVmm, Usage, Vmm, VmmError,
};
use sublet_model::ids::PartitionId;
use sublet_model::units::Millicores;
use tokio::sync::watch;

/// The instant at which an agent is killed: after so many more things that it does.
#[derive(Debug)]
pub struct Doom {
    left: AtomicU64,
    struck: AtomicBool,
}

impl Default for Doom {
    fn default() -> Self {
        Self { left: AtomicU64::new(u64::MAX), struck: AtomicBool::new(false) }
    }
}

impl Doom {
    /// Strikes after so many more things; none: never.
    pub fn set(&self, after: Option<u64>) {
        self.left.store(after.unwrap_or(u64::MAX), SeqCst);
        self.struck.store(false, SeqCst);
    }

    /// Whether it struck.
    pub fn has_struck(&self) -> bool {
        self.struck.load(SeqCst)
    }

    /// Strikes, if it is time.
    pub fn strikes(&self) -> bool {
        let left = self.left.load(SeqCst);
        if left == 0 {
            self.struck.store(true, SeqCst);
        } else if left < u64::MAX {
            self.left.store(left - 1, SeqCst);
        }
        self.has_struck()
    }

    /// Goes on, or never again: whoever is killed does nothing more.
    pub async fn point(&self) {
        if self.strikes() {
            std::future::pending().await
        }
    }
}

/// A store whose every use is an instant at which the agent can be killed, before it and after it.
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    /// The store.
    pub store: Store,
    /// Of the agent that uses it.
    pub doom: Arc<Doom>,
}

impl Disk for SimulatedDisk {
    async fn db<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.doom.point().await;
        let outcome = work(&self.store);
        self.doom.point().await;
        outcome
    }
}

/// The machines of one computer.
#[derive(Debug)]
pub struct Machines {
    /// What runs.
    pub simulated: SimulatedVmm,
    doom: Arc<Doom>,
    random: Mutex<Random>,
    /// Of a thousand calls so many fail.
    pub faulty: AtomicU64,
    failed: Mutex<Vec<PartitionId>>,
    /// Starts that a machine of an older generation was in the way of.
    clashes: Mutex<Vec<(PartitionId, u64, u64)>>,
}

impl Machines {
    /// A computer without machines.
    pub fn new(random: Random, doom: Arc<Doom>) -> Self {
        let (simulated, faulty) = (SimulatedVmm::default(), AtomicU64::new(0));
        Self {
            simulated,
            doom,
            random: Mutex::new(random),
            faulty,
            failed: Mutex::default(),
            clashes: Mutex::default(),
        }
    }

    /// Whose calls were made to fail since this was asked last.
    pub fn take_failed(&self) -> Vec<PartitionId> {
        std::mem::take(&mut *lock(&self.failed))
    }

    /// Which starts met a live machine of another generation since this was asked last.
    pub fn take_clashes(&self) -> Vec<(PartitionId, u64, u64)> {
        std::mem::take(&mut *lock(&self.clashes))
    }

    async fn before(&self, partition: PartitionId, operation: Operation) {
        self.doom.point().await;
        let mut random = lock(&self.random);
        if random.chance(self.faulty.load(SeqCst)) {
            lock(&self.failed).push(partition);
            if random.chance(500) {
                self.simulated.fail_next(operation);
            } else {
                self.simulated.fail_after_next(operation);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vmm for Machines {
    async fn prepare(&self, spec: &MachineSpec) -> Result<(), VmmError> {
        self.before(spec.partition, Operation::Prepare).await;
        self.simulated.prepare(spec).await
    }

    async fn start(&self, spec: &MachineSpec, stop_at: Boottime) -> Result<(), VmmError> {
        self.before(spec.partition, Operation::Start).await;
        let outcome = self.simulated.start(spec, stop_at).await;
        if let Err(VmmError::AlreadyRunning { partition, running }) = &outcome {
            lock(&self.clashes).push((*partition, *running, spec.generation));
        }
        self.doom.point().await;
        outcome
    }

    async fn set_deadline(&self, machine: &Machine, stop_at: Boottime) -> Result<(), VmmError> {
        self.before(machine.partition, Operation::SetDeadline).await;
        self.simulated.set_deadline(machine, stop_at).await
    }

    async fn resize(&self, machine: &Machine, cpu: Millicores) -> Result<(), VmmError> {
        self.before(machine.partition, Operation::Resize).await;
        self.simulated.resize(machine, cpu).await
    }

    async fn observe(&self, machine: &Machine) -> Observed {
        self.doom.point().await;
        self.simulated.observe(machine).await
    }

    async fn stop(&self, machine: &Machine) -> Result<Option<ExitRecord>, VmmError> {
        self.before(machine.partition, Operation::Stop).await;
        let outcome = self.simulated.stop(machine).await;
        self.doom.point().await;
        outcome
    }

    async fn wipe(&self, machine: &Machine) -> Result<(), VmmError> {
        self.before(machine.partition, Operation::Wipe).await;
        let outcome = self.simulated.wipe(machine).await;
        self.doom.point().await;
        outcome
    }

    async fn usage(&self, machine: &Machine) -> Result<Usage, VmmError> {
        self.simulated.usage(machine).await
    }

    async fn console(&self, machine: &Machine) -> Result<Vec<u8>, VmmError> {
        self.simulated.console(machine).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.simulated.changes()
    }
}
