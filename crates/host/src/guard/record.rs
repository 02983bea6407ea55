//! What guard and agent tell each other, through files in the partition's run directory.
//! Only root (or the one user an unprivileged host has) can read or write there; QEMU cannot.
//!
//! ```text
//! order.json   agent -> guard   what to start, as whom, in which groups
//! deadline     agent -> guard   microseconds of CLOCK_BOOTTIME, replaced whenever it moves
//! pid.json     guard -> agent   who runs, with enough to know a reused pid
//! exit.json    guard -> agent   how it ended; durable
//! lock         held by the guard for its life: one machine a run directory
//! ```

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// No file of the run directory is longer.
pub const MAX_RECORD_BYTES: u64 = 256 * 1024;

/// An instant of CLOCK_BOOTTIME in microseconds: it goes on while the computer sleeps and no
/// one can set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boottime(pub i64);

impl Boottime {
    /// The end of what has none.
    pub const NEVER: Self = Self(i64::MAX);

    /// This instant.
    pub fn now() -> Self {
        Self(microseconds(ClockId::Boottime))
    }

    /// Later by so many microseconds.
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// Now, on CLOCK_MONOTONIC, in microseconds: it stands still while the computer sleeps.
pub fn monotonic_micros() -> i64 {
    microseconds(ClockId::Monotonic)
}

fn microseconds(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// Its paid end was reached, and the guard stopped it.
    Deadline,
    /// The agent asked the guard to stop it.
    Stopped,
    /// QEMU ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// QEMU was killed by somebody else, or by the kernel.
    Signalled {
        /// By which signal.
        signal: i32,
    },
    /// The guard is gone too, or the computer restarted: nobody saw how.
    Vanished,
}

/// The end of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The generation that ended.
    pub generation: u64,
    /// The machine that ended.
    pub uuid: Uuid,
    /// How.
    pub cause: ExitCause,
    /// When, on CLOCK_MONOTONIC of `boot_id`.
    pub at_monotonic_us: i64,
    /// When, on CLOCK_BOOTTIME of `boot_id`.
    pub at_boottime_us: i64,
    /// Which start of the computer the clocks belong to.
    pub boot_id: String,
    /// The last QEMU said on its standard error.
    pub said: String,
}

/// A process, told from a later one with the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the computer did.
    pub start_ticks: u64,
}

impl ProcessId {
    /// The process that has this number now, unless it is already dead.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        match parse_stat(&stat) {
            Some(('Z' | 'X', _)) => Err(io::Error::from(io::ErrorKind::NotFound)),
            Some((_, start_ticks)) => Ok(Self { pid, start_ticks }),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/<pid>/stat")),
        }
    }

    /// Whether this very process still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }
}

/// State and start time of a `/proc/<pid>/stat` line. The name may hold spaces and brackets.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut rest = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = rest.next()?.chars().next()?;
    // Field 22 of the line; the state is field 3.
    let start = rest.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// Who runs a machine: the guard's and QEMU's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidRecord {
    /// Which start of the computer.
    pub boot_id: String,
    /// The generation that runs.
    pub generation: u64,
    /// The machine that runs.
    pub uuid: Uuid,
    /// The parent.
    pub guard: ProcessId,
    /// QEMU.
    pub monitor: ProcessId,
}

/// The guard's first and only line on its standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// QEMU was started.
    Started(PidRecord),
    /// It was not, and nothing is left behind.
    Failed(String),
}

/// A descriptor that QEMU is to find open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// What is opened, or listened on.
    pub path: PathBuf,
    /// The number it has in QEMU.
    pub fd: i32,
    /// Whether QEMU may write to it: a template's files, while it is made, and no others.
    #[serde(default)]
    pub write: bool,
}

/// What the guard is to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The generation to run.
    pub generation: u64,
    /// The machine to run.
    pub uuid: Uuid,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Unix sockets to listen on and hand over.
    pub listen: Vec<Handed>,
    /// Files to open and hand over: so QEMU needs no way to their directories.
    pub open: Vec<Handed>,
    /// No file it writes to may become larger; 0 where it writes none.
    #[serde(default)]
    pub largest_file_bytes: u64,
    /// The number at which it finds the guard's own standard input; none: it does not.
    #[serde(default)]
    pub input: Option<i32>,
    /// The user to run as.
    pub uid: u32,
    /// The group to run as.
    pub gid: u32,
    /// Further groups: the one that may open /dev/kvm.
    pub groups: Vec<u32>,
    /// Whether it gets empty namespaces of its own, which only root can give it: no network.
    pub namespaces: bool,
    /// The directories of the control groups to join, one a hierarchy.
    pub control_groups: Vec<PathBuf>,
}

/// The partition's run directory.
#[derive(Debug, Clone)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Names it; nothing is touched.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The socket on which QEMU answers.
    pub fn qmp_socket(&self) -> PathBuf {
        self.0.join("qmp.sock")
    }

    /// The host's end of the guest channel.
    pub fn guest_socket(&self) -> PathBuf {
        self.0.join("guest.sock")
    }

    /// Held by the guard for its life.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Replaces the order.
    pub fn write_order(&self, order: &Order) -> io::Result<()> {
        self.replace("order.json", &serde_json::to_vec(order)?, Durability::Ordinary)
    }

    /// The order.
    pub fn read_order(&self) -> io::Result<Order> {
        self.read_json("order.json")
    }

    /// Moves the paid end. It need not outlive the computer: its clock would not either.
    pub fn write_deadline(&self, at: Boottime) -> io::Result<()> {
        self.replace("deadline", at.0.to_string().as_bytes(), Durability::Ordinary)
    }

    /// The paid end.
    pub fn read_deadline(&self) -> io::Result<Boottime> {
        let text = self.read("deadline")?;
        let number = std::str::from_utf8(&text).ok().and_then(|t| t.trim().parse().ok());
        number.map(Boottime).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the deadline is not a number"))
    }

    /// Says who runs.
    pub fn write_pid(&self, pid: &PidRecord) -> io::Result<()> {
        self.replace("pid.json", &serde_json::to_vec(pid)?, Durability::Ordinary)
    }

    /// Who runs, or ran.
    pub fn read_pid(&self) -> io::Result<PidRecord> {
        self.read_json("pid.json")
    }

    /// Says how it ended, and makes sure it stays said.
    pub fn write_exit(&self, exit: &ExitRecord) -> io::Result<()> {
        self.replace("exit.json", &serde_json::to_vec(exit)?, Durability::Synced)
    }

    /// How it ended.
    pub fn read_exit(&self) -> io::Result<ExitRecord> {
        self.read_json("exit.json")
    }

    /// Forgets what an earlier machine left, but for how it ended.
    pub fn remove_live_files(&self) -> io::Result<()> {
        for path in [self.qmp_socket(), self.guest_socket(), self.0.join("pid.json")] {
            ignore_missing(fs::remove_file(path))?;
        }
        Ok(())
    }

    /// Forgets how an earlier machine ended.
    pub fn remove_exit(&self) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.0.join("exit.json")))
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.read(name)?)?)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.0.join(name))?.take(MAX_RECORD_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_RECORD_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is too long")));
        }
        Ok(bytes)
    }

    /// A reader sees the old file or the new one, never a part.
    fn replace(&self, name: &str, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let (temporary, path) = (self.0.join(format!("{name}.new")), self.0.join(name));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        fs::rename(&temporary, &path)?;
        match durability {
            Durability::Synced => File::open(&self.0)?.sync_all(),
            Durability::Ordinary => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// Need not survive a crash of the computer.
    Ordinary,
    /// Must.
    Synced,
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Which start of the computer this is.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let own = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        let reused = ProcessId { start_ticks: own.start_ticks + 1, ..own };
        assert!(!reused.is_alive(), "another process with the same number is another process");
        assert!(!ProcessId { pid: i32::MAX, start_ticks: 0 }.is_alive());
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_name_is() {
        let after = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 77 20";
        for name in ["(qemu)", "(a b)", "(a) R 1 (b)"] {
            assert_eq!(parse_stat(&format!("12 {name} {after}")), Some(('S', 77)), "{name}");
        }
        for bad in ["", "12", "12 (x)", "12 (x) S 1 2"] {
            assert_eq!(parse_stat(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_record_is_read_back_and_bad_ones_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path());
        run.write_deadline(Boottime(-5)).unwrap();
        assert_eq!(run.read_deadline().unwrap(), Boottime(-5));
        for bad in [b"".as_slice(), b"soon", b"1e9", b"99999999999999999999", b"\xff"] {
            fs::write(dir.path().join("deadline"), bad).unwrap();
            assert_eq!(run.read_deadline().unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad:?}");
        }
        fs::write(dir.path().join("pid.json"), vec![b' '; MAX_RECORD_BYTES as usize + 1]).unwrap();
        assert!(run.read_pid().unwrap_err().to_string().contains("too long"));
        fs::write(dir.path().join("exit.json"), br#"{"generation": 1"#).unwrap();
        assert!(run.read_exit().is_err(), "a truncated record is not a record");
        run.remove_live_files().unwrap();
        run.remove_exit().unwrap();
        run.remove_exit().unwrap();
    }
}
