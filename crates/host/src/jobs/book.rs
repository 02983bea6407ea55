//! Every lease's jobs, found by lease.

use super::{Job, Record};
use crate::ssh::LeaseKey;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use sublet_model::units::Seconds;
use sublet_wire::jobs::{
    MOST_COMMAND_BYTES, MOST_JOBS, MOST_NAME_BYTES, MOST_OUTS, MOST_RETRIES, MOST_VARIABLES, MOST_WORDS, NewJob,
};
use tokio::sync::watch;

/// Jobs of one lease, in one generation, that are not over may be so many.
const MOST_UNFINISHED: usize = MOST_JOBS / 2;

/// The file that says how long a lease may be idle, in seconds.
const IDLE_RELEASE: &str = "idle-release";

/// Why a job is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It makes no sense.
    #[error("{0}")]
    Unfit(String),
    /// There are too many.
    #[error("{MOST_UNFINISHED} jobs are not over yet, and more are not taken: wait for one, or cancel one")]
    TooMany,
    /// It could not be written down.
    #[error("failed to write the job down on the host: {0}")]
    Disk(#[from] io::Error),
}

/// The jobs of a host.
#[derive(Debug)]
pub struct Jobs {
    root: PathBuf,
    leases: Mutex<HashMap<LeaseKey, Arc<LeaseJobs>>>,
}

/// The jobs of one lease in one generation.
#[derive(Debug)]
pub struct LeaseJobs {
    folder: PathBuf,
    jobs: Mutex<BTreeMap<u32, Arc<Job>>>,
    /// Raised when one was submitted.
    submitted: watch::Sender<u64>,
    /// How long nobody may use the lease before it ends.
    idle_release: Mutex<Option<Seconds>>,
    /// When a job was last submitted.
    used: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Jobs {
    /// Those that are kept under a folder, which is made when the first comes.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), leases: Mutex::default() }
    }

    /// Those of a lease. Blocks while they are read for the first time.
    pub fn of(&self, lease: &LeaseKey) -> io::Result<Arc<LeaseJobs>> {
        let mut leases = lock(&self.leases);
        if let Some(jobs) = leases.get(lease) {
            return Ok(Arc::clone(jobs));
        }
        let jobs = Arc::new(LeaseJobs::open(self.root.join(lease.principal()))?);
        leases.insert(lease.clone(), Arc::clone(&jobs));
        Ok(jobs)
    }

    /// Forgets those of all leases that are not alive, and removes their files. Which are alive is asked
    /// after a look at what is there: a lease that begins meanwhile keeps its jobs.
    pub fn keep_only<E: From<io::Error>>(&self, live: impl FnOnce() -> Result<Vec<LeaseKey>, E>) -> Result<(), E> {
        let known: HashSet<LeaseKey> = lock(&self.leases).keys().cloned().collect();
        let folders = self.folders()?;
        let live = live()?;
        lock(&self.leases).retain(|lease, _| !known.contains(lease) || live.contains(lease));
        let kept: HashSet<String> = live.iter().map(LeaseKey::principal).collect();
        for folder in folders {
            if !folder.to_str().is_some_and(|name| kept.contains(name)) {
                std::fs::remove_dir_all(self.root.join(folder))?;
            }
        }
        Ok(())
    }

    /// Names of the folders that are there.
    fn folders(&self) -> io::Result<Vec<OsString>> {
        match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            folders => folders?.map(|folder| Ok(folder?.file_name())).collect(),
        }
    }
}

impl LeaseJobs {
    fn open(folder: PathBuf) -> io::Result<Self> {
        let mut jobs = BTreeMap::new();
        let files = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            files => Some(files?),
        };
        for file in files.into_iter().flatten() {
            let name = file?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            let Some(number) = number else { continue };
            match Job::load(&folder, number) {
                Ok(job) => drop(jobs.insert(number, job)),
                Err(error) => tracing::error!(folder = %folder.display(), number, %error, "a job can't be read"),
            }
        }
        let idle_release = match std::fs::read_to_string(folder.join(IDLE_RELEASE)) {
            Ok(text) => text.trim().parse().ok().map(Seconds),
            Err(_) => None,
        };
        Ok(Self {
            folder,
            jobs: Mutex::new(jobs),
            submitted: watch::Sender::new(0),
            idle_release: Mutex::new(idle_release),
            used: Mutex::new(None),
        })
    }

    /// Takes a job in: from here on it will be run. The same key again is the same job. Blocks for as
    /// long as the disk takes.
    pub fn submit(&self, new: NewJob) -> Result<Arc<Job>, SubmitError> {
        check(&new).map_err(SubmitError::Unfit)?;
        let mut jobs = lock(&self.jobs);
        if let Some(job) = jobs.values().find(|job| job.record().job.key == new.key) {
            return Ok(Arc::clone(job));
        }
        if jobs.values().filter(|job| !job.state().is_over()).count() >= MOST_UNFINISHED {
            return Err(SubmitError::TooMany);
        }
        while jobs.len() >= MOST_JOBS {
            let Some(number) = jobs.iter().find(|(_, job)| job.state().is_over()).map(|(number, _)| *number) else {
                return Err(SubmitError::TooMany);
            };
            if let Some(old) = jobs.remove(&number) {
                old.remove()?;
            }
        }
        let number = jobs.last_key_value().map_or(1, |(last, _)| last + 1);
        crate::store::private_dir(&self.folder).map_err(io::Error::other)?;
        let job = Job::create(&self.folder, Record::new(number, new))?;
        jobs.insert(number, Arc::clone(&job));
        drop(jobs);
        *lock(&self.used) = Some(Instant::now());
        self.submitted.send_modify(|count| *count += 1);
        Ok(job)
    }

    /// All of them, in their order.
    pub fn all(&self) -> Vec<Arc<Job>> {
        lock(&self.jobs).values().cloned().collect()
    }

    /// One, by its number, or by its name: of several the newest.
    pub fn find(&self, which: &str) -> Option<Arc<Job>> {
        let jobs = lock(&self.jobs);
        let by_number = which.parse().ok().and_then(|number: u32| jobs.get(&number));
        let named = || jobs.values().rev().find(|job| job.record().job.name.as_deref() == Some(which));
        by_number.or_else(named).cloned()
    }

    /// Whether any is not over.
    pub fn is_busy(&self) -> bool {
        lock(&self.jobs).values().any(|job| !job.state().is_over())
    }

    /// When a job was last submitted here, be it long over.
    pub fn last_use(&self) -> Option<Instant> {
        *lock(&self.used)
    }

    /// How long nobody may use the lease before it ends: no client in it, no job that is not over.
    pub fn idle_release(&self) -> Option<Seconds> {
        *lock(&self.idle_release)
    }

    /// Keeps that, durably.
    pub fn set_idle_release(&self, most: Option<Seconds>) -> io::Result<()> {
        let mut kept = lock(&self.idle_release);
        crate::store::private_dir(&self.folder).map_err(io::Error::other)?;
        let file = self.folder.join(IDLE_RELEASE);
        match most {
            Some(most) => super::job::replace(&self.folder, &file, most.0.to_string().as_bytes())?,
            None if file.exists() => std::fs::remove_file(&file)?,
            None => {}
        }
        *kept = most;
        Ok(())
    }

    /// Tells when one was submitted.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.submitted.subscribe()
    }
}

/// Whether a job can be meant; what is wrong with it if not.
fn check(new: &NewJob) -> Result<(), String> {
    let words = || {
        new.command
            .iter()
            .chain(new.env.keys())
            .chain(new.env.values())
            .chain(&new.cwd)
            .chain(&new.out)
            .chain(&new.whole)
    };
    let size: usize = words().map(String::len).sum();
    let named = |name: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        name.len() <= MOST_NAME_BYTES && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain)
    };
    let wrong = if new.command.iter().all(String::is_empty) {
        "a job needs a command"
    } else if new.command.len() > MOST_WORDS || size > MOST_COMMAND_BYTES {
        return Err(format!(
            "a command of {} words and {size} bytes with its variables; {MOST_WORDS} words and {MOST_COMMAND_BYTES} \
             bytes are the most: put more into a file",
            new.command.len()
        ));
    } else if words().any(|word| word.contains('\0')) {
        "a NUL byte in the command or a variable"
    } else if new.env.len() > MOST_VARIABLES {
        return Err(format!("{} variables; {MOST_VARIABLES} are the most", new.env.len()));
    } else if let Some(name) = new.env.keys().find(|name| name.is_empty() || name.contains('=')) {
        return Err(format!("{name:?} is no name of a variable"));
    } else if !new.name.as_ref().is_none_or(named) {
        return Err(format!(
            "a job's name begins with a letter, has letters, digits, -, _ or ., and at most {MOST_NAME_BYTES}"
        ));
    } else if new.out.len() > MOST_OUTS {
        return Err(format!("{} paths to fetch; {MOST_OUTS} are the most", new.out.len()));
    } else if new.retries > MOST_RETRIES {
        return Err(format!("{} retries; {MOST_RETRIES} are the most", new.retries));
    } else if new.timeout_seconds.is_some_and(|timeout| timeout < Seconds(1)) {
        "a timeout is at least one second"
    } else if new.key.is_empty() || new.key.len() > 64 {
        "a key has 1 to 64 bytes"
    } else {
        return Ok(());
    };
    Err(wrong.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(number: u32) -> LeaseKey {
        LeaseKey { lease: format!("lease_{number}"), generation: 1 }
    }

    fn new_job(key: &str) -> NewJob {
        serde_json::from_value(serde_json::json!({ "key": key, "command": ["true"] })).unwrap()
    }

    fn fails(outcome: Result<Arc<Job>, SubmitError>) -> bool {
        matches!(outcome, Err(SubmitError::Disk(_)))
    }

    #[test]
    fn a_lease_that_begins_while_others_are_cleaned_up_keeps_its_jobs() {
        let root = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(root.path());
        jobs.of(&lease(1)).unwrap().submit(new_job("old")).unwrap();
        let live = || {
            jobs.of(&lease(2)).unwrap().submit(new_job("new")).unwrap();
            Ok::<_, io::Error>(Vec::new())
        };
        jobs.keep_only(live).unwrap();
        assert_eq!(jobs.folders().unwrap(), ["lease_2.g1"]);
        assert_eq!(jobs.of(&lease(2)).unwrap().all().len(), 1, "it is still the one that serves");
        assert_eq!(jobs.of(&lease(1)).unwrap().all().len(), 0);
        jobs.keep_only(|| Ok::<_, io::Error>(Vec::new())).unwrap();
        assert!(jobs.folders().unwrap().is_empty());
    }

    #[test]
    fn a_job_whose_submission_failed_is_not_found_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lease_1.g1");
        let jobs = LeaseJobs::open(folder.clone()).unwrap();
        for in_the_way in ["1.out", "1.json"] {
            std::fs::create_dir_all(folder.join(in_the_way).join("full")).unwrap();
            assert!(fails(jobs.submit(new_job("first"))), "{in_the_way}");
            std::fs::remove_dir_all(folder.join(in_the_way)).unwrap();
            assert!(LeaseJobs::open(folder.clone()).unwrap().all().is_empty(), "{in_the_way}");
            assert!(!folder.join("1.json").exists() && !folder.join("1.out").exists(), "{in_the_way}");
        }
        assert_eq!(jobs.submit(new_job("first")).unwrap().record().number, 1);
        assert_eq!(LeaseJobs::open(folder).unwrap().all().len(), 1);
    }

    #[test]
    fn kept_jobs_hold_no_file_open() {
        let root = tempfile::tempdir().unwrap();
        let jobs = LeaseJobs::open(root.path().join("lease_1.g1")).unwrap();
        for number in 0..8 {
            let job = jobs.submit(new_job(&number.to_string())).unwrap();
            job.append(1, 0, b"words").unwrap();
            assert_eq!(job.read(0, 100).unwrap().1, b"words");
        }
        let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fd.ok()?.path().read_link().ok());
        let ours: Vec<PathBuf> = open.filter(|path| path.starts_with(root.path())).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }

    #[test]
    fn a_job_that_the_guest_had_no_room_for_waits_and_lost_no_try() {
        use sublet_model::job::{JobEvent, JobState};
        let root = tempfile::tempdir().unwrap();
        let jobs = LeaseJobs::open(root.path().join("lease_1.g1")).unwrap();
        let job = jobs.submit(new_job("one")).unwrap();
        for _ in 0..3 {
            job.apply(JobEvent::Told, None).unwrap();
            assert_eq!(job.apply(JobEvent::Busy, Some("64 jobs run already".into())).unwrap(), JobState::Waiting);
            assert_eq!((job.record().attempt, job.view().detail.as_deref()), (1, Some("64 jobs run already")));
        }
        job.apply(JobEvent::Told, None).unwrap();
        assert_eq!(job.apply(JobEvent::Began, None).unwrap(), JobState::Running);
        assert_eq!(job.record().detail, None, "it was not for good");
    }
}
