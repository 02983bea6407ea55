//! What a client and a host say about detached jobs and the machine they run in: one question as a line of JSON on the input of the
//! SSH subsystem [`SUBSYSTEM`], the answer on its output, refusals in words on its standard error.
//! The market is not in the path.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use sublet_model::job::JobState;
use sublet_model::units::{GiB, MiB, Millicores, Seconds, Timestamp};

/// The name of the subsystem.
pub const SUBSYSTEM: &str = "sublet-jobs";

/// Jobs of one lease that a host keeps; the oldest that are over go first.
pub const MOST_JOBS: usize = 64;
/// Output that is kept of one job: the last of it, in bytes.
pub const KEPT_BYTES: u64 = 1024 * 1024;
/// The longest question, in bytes.
pub const MOST_QUESTION_BYTES: usize = 64 * 1024;
/// Command and variables of one job together, in bytes.
pub const MOST_COMMAND_BYTES: usize = 48 * 1024;
/// Variables of one job.
pub const MOST_VARIABLES: usize = 256;
/// Paths that are to be fetched of one job.
pub const MOST_OUTS: usize = 64;
/// Words of one command.
pub const MOST_WORDS: usize = 1024;
/// How often a job may be tried again.
pub const MOST_RETRIES: u8 = 100;
/// The longest name of a job, in bytes.
pub const MOST_NAME_BYTES: usize = 40;

/// What the host is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JobRequest {
    /// Start a job. Answered with its [`JobView`].
    Submit(NewJob),
    /// Every job of the lease. Answered with a list of [`JobView`].
    List,
    /// One job, by its number or name. Answered with its [`JobView`].
    Show {
        /// Which.
        job: String,
    },
    /// The same, once it is over.
    Wait {
        /// Which.
        job: String,
    },
    /// Ends a job: TERM, and KILL a while later. Answered with its [`JobView`] at once.
    Cancel {
        /// Which.
        job: String,
    },
    /// Ends the lease once nobody has used it for so long: no client in it, no job that is not over.
    /// Answered with [`Kept`].
    IdleRelease {
        /// How long; absent: it goes on to its end.
        #[serde(default)]
        seconds: Option<Seconds>,
    },
    /// What the machine of the lease is. Answered with its [`Figures`].
    Figures,
    /// What a job said. Answered with the bytes themselves; what of them is gone is said on stderr.
    Logs {
        /// Which.
        job: String,
        /// From this byte of its output on; from the oldest that is kept, if absent.
        #[serde(default)]
        from: Option<u64>,
        /// At most so many bytes back from the end.
        #[serde(default)]
        tail: Option<u64>,
        /// Whether to go on until the job is over.
        #[serde(default)]
        follow: bool,
    },
}

/// The answer where there is nothing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {}

/// What the machine of a lease is: none of it as it was asked for, all of it looked up at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The generation it was started for.
    pub generation: u64,
    /// Hardware threads its guest sees, by the monitor's own word.
    pub vcpus: u16,
    /// Its memory, by the monitor's own word.
    pub memory: MiB,
    /// The processor time that the host's kernel caps it at; none: it is not capped.
    pub cpu: Option<Millicores>,
    /// Its scratch disk, by the monitor's own word.
    pub disk: GiB,
}

/// A job to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// Made by the client: said again with the same key it is the same job.
    pub key: String,
    /// What to call it; its number does as well.
    #[serde(default)]
    pub name: Option<String>,
    /// Program and arguments; a single word is a line for the login user's shell.
    pub command: Vec<String>,
    /// Variables beside those of a login.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder it begins in, below the login user's home unless said from the root on; that home if
    /// absent.
    #[serde(default)]
    pub cwd: Option<String>,
    /// What it makes that is to be fetched, below that folder: only kept for whoever fetches.
    #[serde(default)]
    pub out: Vec<String>,
    /// A file below that folder in which all that it says is kept in the partition, beside the end that
    /// the host keeps.
    #[serde(default)]
    pub whole: Option<String>,
    /// How long each try may take.
    #[serde(default)]
    pub timeout_seconds: Option<Seconds>,
    /// How often it is tried again after it ended badly.
    #[serde(default)]
    pub retries: u8,
}

/// A job as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its number: the first of a lease is 1.
    pub number: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Where it stands.
    #[serde(flatten)]
    pub state: JobState,
    /// Why it could not be started, or what else there is to say.
    pub detail: Option<String>,
    /// As submitted.
    pub command: Vec<String>,
    /// The folder it begins in, as submitted.
    pub cwd: Option<String>,
    /// What is to be fetched, below that folder.
    pub out: Vec<String>,
    /// The try it is at: 1 is the first.
    pub attempt: u32,
    /// How many tries there are in all.
    pub attempts: u32,
    /// How long each try may take.
    pub timeout_seconds: Option<Seconds>,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When this try began.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// What it said.
    pub output: OutputView,
}

/// How much a job said, and how much of it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputView {
    /// In all, every try counted, in bytes.
    pub bytes: u64,
    /// Of these the last so many are kept.
    pub kept_bytes: u64,
    /// Bytes beside these that never reached the host: said while its agent was away, and too many.
    pub missed_bytes: u64,
}
