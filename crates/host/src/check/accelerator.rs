//! KVM or emulation? A device that opens proves nothing: on nested hosts it may crawl or hang.
//! So both run the same small piece of work, each against a deadline, and the times decide.

use crate::qemu::command_line::probe_arguments;
use crate::qemu::payload::{Payload, WORK_DONE};
use crate::vmm::Accelerator;
use std::io;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Emulation does the work in a second or two, even on a slow, busy computer.
const TCG_PATIENCE: Duration = Duration::from_secs(8);

/// Whoever is not done after so long is no faster than emulation.
const KVM_PATIENCE: Duration = Duration::from_secs(5);

/// About a second of emulation.
const WORK: Payload = Payload::Work { rounds: 60 };

/// How the work went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// Done after so long.
    Done(Duration),
    /// Not done when the patience was over; it was killed.
    TooSlow(Duration),
    /// It ended otherwise, and this is the last it said.
    Failed(String),
    /// It was not tried, and this is why.
    NotTried(&'static str),
}

/// What partitions will run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The choice.
    pub accelerator: Accelerator,
    /// Whether the owner insisted on it.
    pub insisted: bool,
    /// How the work went under KVM.
    pub kvm: Tried,
    /// How it went under emulation.
    pub tcg: Tried,
}

/// Tries both and chooses, unless the owner insists.
pub fn choose(qemu: &Path, insisted: Option<Accelerator>) -> Choice {
    let try_one = |accelerator, patience| {
        run(qemu, accelerator, patience).unwrap_or_else(|error| Tried::Failed(error.to_string()))
    };
    let kvm = match (insisted, Path::new("/dev/kvm").exists()) {
        (Some(Accelerator::Tcg), _) => Tried::NotTried("the owner chose emulation"),
        (_, false) => Tried::NotTried("there is no /dev/kvm"),
        _ => try_one(Accelerator::Kvm, KVM_PATIENCE),
    };
    let tcg = try_one(Accelerator::Tcg, TCG_PATIENCE);
    Choice { accelerator: insisted.unwrap_or_else(|| decide(&kvm, &tcg)), insisted: insisted.is_some(), kvm, tcg }
}

/// KVM must have done the work, and in less time than emulation if that did it too.
fn decide(kvm: &Tried, tcg: &Tried) -> Accelerator {
    match (kvm, tcg) {
        (Tried::Done(kvm), Tried::Done(tcg)) if kvm < tcg => Accelerator::Kvm,
        (Tried::Done(_), Tried::TooSlow(_) | Tried::Failed(_)) => Accelerator::Kvm,
        _ => Accelerator::Tcg,
    }
}

fn run(qemu: &Path, accelerator: Accelerator, patience: Duration) -> io::Result<Tried> {
    let directory = tempfile::tempdir()?;
    let kernel = directory.path().join("work");
    WORK.write(&kernel)?;
    let start = Instant::now();
    let mut command = Command::new(qemu);
    command
        .args(probe_arguments(accelerator, &kernel))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut qemu = Killed(command.spawn()?);
    match wait(&mut qemu.0, patience)? {
        Some(status) if status.code() == Some(WORK_DONE) => Ok(Tried::Done(start.elapsed())),
        Some(_) => Ok(Tried::Failed(last_words(&mut qemu.0))),
        None => Ok(Tried::TooSlow(patience)),
    }
}

/// A child that does not outlive its value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let held =
        rustix::process::pidfd_open(rustix::process::Pid::from_child(child), rustix::process::PidfdFlags::empty())?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut polled = [rustix::event::PollFd::new(&held, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn last_words(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(64 * 1024).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kvm_that_works_and_is_faster_is_chosen() {
        let done = |ms| Tried::Done(Duration::from_millis(ms));
        let slow = Tried::TooSlow(KVM_PATIENCE);
        let failed = Tried::Failed("abort".into());
        let table = [
            (done(100), done(1000), Accelerator::Kvm),
            (done(1000), done(100), Accelerator::Tcg),
            (done(100), slow.clone(), Accelerator::Kvm),
            (slow.clone(), done(100), Accelerator::Tcg),
            (failed.clone(), done(100), Accelerator::Tcg),
            (Tried::NotTried("none"), done(100), Accelerator::Tcg),
            (slow, failed, Accelerator::Tcg),
        ];
        for (kvm, tcg, expected) in table {
            assert_eq!(decide(&kvm, &tcg), expected, "{kvm:?} {tcg:?}");
        }
    }

    /// With the computer's own QEMU: whatever its KVM does, this comes back.
    #[test]
    fn it_comes_back_and_leaves_nothing_running() {
        let qemu = Path::new(crate::inventory::QEMU_PROGRAM);
        if !qemu.exists() {
            return eprintln!("not tried: there is no QEMU");
        }
        let start = Instant::now();
        let choice = choose(qemu, None);
        assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
        eprintln!("kvm {:?}, tcg {:?}", choice.kvm, choice.tcg);
        assert!(!matches!(choice.tcg, Tried::Failed(_) | Tried::NotTried(_)), "{:?}", choice.tcg);
        assert_eq!(choice.accelerator, decide(&choice.kvm, &choice.tcg));
        let insisted = choose(Path::new("/nonexistent/qemu"), Some(Accelerator::Tcg));
        assert!(insisted.insisted && matches!(insisted.tcg, Tried::Failed(_)));
    }
}
