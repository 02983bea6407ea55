//! One machine that runs: its processes, its monitor's answers, and the task that watches both.

use super::process::Processes;
use super::qmp::{Qmp, QmpError};
use super::{command_line, vanished};
use crate::guard::record::RunDir;
use crate::vmm::{ExitRecord, Machine, Observed};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use sublet_model::units::{GiB, MiB};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

/// A monitor comes up within this, even where everything is emulated and busy.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// A monitor that runs answers within this, or it is not to be trusted any longer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// What was killed is gone after so long, or the kernel is in trouble.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A machine the driver watches.
#[derive(Debug)]
pub struct Live {
    /// Which one.
    pub machine: Machine,
    /// Its processes.
    pub processes: Arc<Processes>,
    state: watch::Receiver<Observed>,
    pub(super) monitor: Arc<Monitor>,
    watcher: tokio::task::AbortHandle,
}

impl Drop for Live {
    /// A machine nobody asks about any more is not watched; it runs on under its guard.
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// What the watching task shares with those who ask.
#[derive(Debug)]
pub(super) struct Monitor {
    /// Replaced when it has to be connected again.
    qmp: Mutex<Qmp>,
    /// What the monitor said of its machine, once.
    shape: OnceLock<Shape>,
    /// The end of what the guest wrote to its console.
    console: Mutex<Vec<u8>>,
}

/// What does not change while a monitor runs, so that it is asked once: each question waits for a
/// processor of the guest to pause, and costs the guest more than it costs us.
#[derive(Debug, Clone, Copy)]
struct Shape {
    uuid: Uuid,
    vcpus: u16,
    memory: MiB,
}

impl Live {
    /// What was seen last.
    pub fn seen(&self) -> Observed {
        self.state.borrow().clone()
    }

    /// Asks again, if there is someone to ask.
    pub async fn look(&self) -> Observed {
        if !self.seen().is_live() {
            return self.seen();
        }
        let asked = self.monitor.state(&self.machine, self.processes.monitor_pid).await;
        match self.seen() {
            seen if seen.is_live() => asked.unwrap_or(seen),
            ended => ended,
        }
    }

    /// Its processors and memory, in the monitor's own words of this moment: what is claimed of it
    /// is not taken from memory.
    pub async fn size(&self) -> Result<(u16, MiB), QmpError> {
        let now = shape(&self.monitor.qmp()).await?;
        Ok((now.vcpus, now.memory))
    }

    /// How large its scratch disk is, in the monitor's own words.
    pub async fn disk(&self) -> Result<GiB, QmpError> {
        let qmp = self.monitor.qmp();
        let nodes = qmp.execute("query-named-block-nodes", json!({ "flat": true }), ANSWER_PATIENCE).await?;
        let is_it = |node: &&Value| node["node-name"] == command_line::SCRATCH_NODE;
        let node = nodes.as_array().and_then(|nodes| nodes.iter().find(is_it));
        Ok(GiB(node.and_then(|node| node["image"]["virtual-size"].as_i64()).unwrap_or(0) >> 30))
    }

    /// Waits for the end.
    pub async fn ended(&self, patience: Duration) -> Option<ExitRecord> {
        let mut state = self.state.clone();
        let ended = timeout(patience, state.wait_for(|seen| matches!(seen, Observed::Exited(_)))).await;
        match ended.ok()?.ok()?.clone() {
            Observed::Exited(record) => Some(record),
            _ => None,
        }
    }

    /// The end of what the guest wrote to its console.
    pub async fn console(&self) -> Vec<u8> {
        if self.seen().is_live() {
            self.monitor.read_console().await;
        }
        self.monitor.console.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Monitor {
    pub fn qmp(&self) -> Qmp {
        self.qmp.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the monitor says of its machine.
    async fn state(&self, machine: &Machine, pid: i32) -> Result<Observed, QmpError> {
        let qmp = self.qmp();
        let status = qmp.execute("query-status", Value::Null, ANSWER_PATIENCE).await?;
        match status["status"].as_str() {
            Some("guest-panicked") => return Ok(Observed::Panicked),
            // An error inside QEMU, or of its storage, is the end of the guest as well.
            Some("shutdown" | "internal-error" | "io-error") => return Ok(Observed::ShutDown),
            Some(_) => {}
            None => return Err(QmpError::Nonsense("a status without a name".to_owned())),
        }
        let Shape { uuid, vcpus, memory } = match self.shape.get() {
            Some(known) => *known,
            None => *self.shape.get_or_init({
                let asked = shape(&qmp).await?;
                move || asked
            }),
        };
        Ok(Observed::Running { pid, uuid, generation: machine.generation, vcpus, memory })
    }

    /// Reading empties the ring: what was read is kept here, as much of it as the ring holds.
    async fn read_console(&self) {
        let arguments = json!({ "device": "console", "size": command_line::CONSOLE_BYTES, "format": "base64" });
        let Ok(Value::String(text)) = self.qmp().execute("ringbuf-read", arguments, ANSWER_PATIENCE).await else {
            return;
        };
        let Ok(bytes) = data_encoding::BASE64.decode(text.as_bytes()) else { return };
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        console.extend_from_slice(&bytes);
        let excess = console.len().saturating_sub(command_line::CONSOLE_BYTES as usize);
        console.drain(..excess);
    }
}

/// Connects to a machine that was just started, or says what QEMU said when it did not come up.
pub async fn watch(machine: Machine, processes: Processes, changes: &watch::Sender<u64>) -> Result<Live, String> {
    let socket = RunDir::new(&machine.run_dir).qmp_socket();
    let connected = tokio::select! {
        connected = Qmp::connect(&socket, CONNECT_PATIENCE) => connected.map_err(|error| error.to_string()),
        () = processes.ended() => Err("it ended at once".to_owned()),
    };
    match connected {
        Ok(qmp) => Ok(spawn(machine, processes, qmp, changes).await),
        Err(reason) => {
            let exit = finish(&machine, &processes).await;
            Err(format!("{reason} ({:?}) {}", exit.cause, exit.said.trim()))
        }
    }
}

/// Finds a machine that an earlier agent started; or else says what there is in its place.
pub async fn adopt(machine: &Machine, changes: &watch::Sender<u64>) -> Result<Live, Observed> {
    let run_dir = RunDir::new(&machine.run_dir);
    let Ok(record) = run_dir.read_pid() else { return Err(remembered(machine)) };
    let processes = match Processes::hold(&record) {
        Ok(processes) if processes.any() => processes,
        // The computer restarted, or all are dead and their numbers perhaps reused: kill nobody.
        _ if record.uuid == machine.uuid => {
            return Err(Observed::Exited(recorded(machine).unwrap_or(vanished(machine))));
        }
        _ => return Err(remembered(machine)),
    };
    if (record.generation, record.uuid) != (machine.generation, machine.uuid) {
        finish(machine, &processes).await;
        return Err(remembered(machine));
    }
    if processes.both()
        && let Ok(qmp) = Qmp::connect(&run_dir.qmp_socket(), ANSWER_PATIENCE).await
        && uuid(&qmp).await.is_ok_and(|uuid| uuid == machine.uuid)
    {
        if super::warm::is_asleep(&qmp).await {
            // A clone that was never woken is no machine yet: it is forgotten, and started again.
            finish(machine, &processes).await;
            let _ = run_dir.remove_exit();
            return Err(Observed::NotRunning);
        }
        return Ok(spawn(machine.clone(), processes, qmp, changes).await);
    }
    Err(Observed::Exited(finish(machine, &processes).await))
}

async fn spawn(machine: Machine, processes: Processes, qmp: Qmp, changes: &watch::Sender<u64>) -> Live {
    let pid = processes.monitor_pid;
    // A guest that panics between these two lines sends a hint that `follow` still finds.
    let hints = qmp.hints();
    let monitor = Arc::new(Monitor { qmp: Mutex::new(qmp), shape: OnceLock::new(), console: Mutex::default() });
    let first = monitor.state(&machine, pid).await.unwrap_or(Observed::NotRunning);
    let (state, seen) = watch::channel(first);
    let processes = Arc::new(processes);
    let watcher = Watcher {
        machine: machine.clone(),
        processes: processes.clone(),
        monitor: monitor.clone(),
        state,
        changes: changes.clone(),
    };
    let watcher = tokio::spawn(watcher.follow(hints)).abort_handle();
    Live { machine, processes, state: seen, monitor, watcher }
}

struct Watcher {
    machine: Machine,
    processes: Arc<Processes>,
    monitor: Arc<Monitor>,
    state: watch::Sender<Observed>,
    changes: watch::Sender<u64>,
}

impl Watcher {
    /// Until both processes have ended.
    async fn follow(self, mut hints: watch::Receiver<super::qmp::Hints>) {
        loop {
            self.look().await;
            let changed = tokio::select! {
                () = self.processes.ended() => break,
                changed = hints.changed() => changed.is_ok() && hints.borrow().ended.is_none(),
            };
            if !changed {
                match self.reconnect().await {
                    Some(again) => hints = again,
                    None => break,
                }
            }
        }
        let exit = finish(&self.machine, &self.processes).await;
        self.publish(Observed::Exited(exit));
    }

    async fn look(&self) {
        if let Ok(seen) = self.monitor.state(&self.machine, self.processes.monitor_pid).await {
            if matches!(seen, Observed::Panicked | Observed::ShutDown) {
                self.monitor.read_console().await;
            }
            self.publish(seen);
        }
    }

    /// A monitor that closes its connection is either ending or up to something.
    async fn reconnect(&self) -> Option<watch::Receiver<super::qmp::Hints>> {
        let socket = RunDir::new(&self.machine.run_dir).qmp_socket();
        let connected = tokio::select! {
            () = self.processes.ended() => return None,
            connected = Qmp::connect(&socket, ANSWER_PATIENCE) => connected,
        };
        match connected {
            Ok(qmp) => {
                let hints = qmp.hints();
                *self.monitor.qmp.lock().unwrap_or_else(PoisonError::into_inner) = qmp;
                Some(hints)
            }
            Err(_) => None,
        }
    }

    fn publish(&self, seen: Observed) {
        let changed = self.state.send_if_modified(|state| {
            let changed = *state != seen;
            *state = seen;
            changed
        });
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

/// Makes sure that both processes have ended, and tells how. The guard's own record is the truth;
/// where the guard was killed there is none.
async fn finish(machine: &Machine, processes: &Processes) -> ExitRecord {
    processes.kill_monitor();
    if timeout(KILL_PATIENCE, processes.ended()).await.is_err() {
        processes.kill();
        let _ = timeout(KILL_PATIENCE, processes.ended()).await;
    }
    let record = recorded(machine).unwrap_or_else(|| vanished(machine));
    let _ = RunDir::new(&machine.run_dir).remove_live_files();
    record
}

fn recorded(machine: &Machine) -> Option<ExitRecord> {
    let exit = RunDir::new(&machine.run_dir).read_exit().ok()?;
    ((exit.generation, exit.uuid) == (machine.generation, machine.uuid)).then_some(exit)
}

fn remembered(machine: &Machine) -> Observed {
    recorded(machine).map_or(Observed::NotRunning, Observed::Exited)
}

async fn shape(qmp: &Qmp) -> Result<Shape, QmpError> {
    let ask = |command| qmp.execute(command, Value::Null, ANSWER_PATIENCE);
    Ok(Shape {
        uuid: uuid(qmp).await?,
        vcpus: ask("query-cpus-fast").await?.as_array().map_or(0, |cpus| cpus.len() as u16),
        memory: memory(&ask("query-memory-size-summary").await?),
    })
}

fn memory(summary: &Value) -> MiB {
    let bytes = |key: &str| summary[key].as_i64().unwrap_or(0);
    MiB(bytes("base-memory").saturating_add(bytes("plugged-memory")) >> 20)
}

async fn uuid(qmp: &Qmp) -> Result<Uuid, QmpError> {
    let answer = qmp.execute("query-uuid", Value::Null, ANSWER_PATIENCE).await?;
    let text = answer["UUID"].as_str().unwrap_or_default();
    text.parse().map_err(|_| QmpError::Nonsense("a UUID that is none".to_owned()))
}
