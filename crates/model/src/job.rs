//! A detached job: work that goes on in a leased partition when its client has left.
//!
//! ```text
//!           said to the guest          the guest runs it         cancel, time over
//! (submit) -> Waiting ------> Starting -----------------> Running ----------------> Stopping(why)
//!              ^  | <-- not now --|                        |    |                        |
//!              |  | cancel        | cannot be started;     |    | the guest lost it      | it ended,
//!              |  |               | lost what it began     |    v                        | or is lost
//!              |  v               v                        |  Ended(lost)                v
//!              | Ended(cancelled) Ended(failed | lost)     |                             |
//!              |                                           v                     Ended(cancelled |
//!              +--- ended badly, tries are left -- it ended by itself                    timed_out)
//!                   (its time over counts, too)            |
//!                                                          v
//!                                                     Ended(exited | signalled)
//! ```
//!
//! - **Waiting**: the guest was told nothing of this try; a restart of the agent tells it then.
//! - **Starting**: it may have been told. A guest that does not know the try is told again. A guest that
//!   does is listened to. So a try is started at most once: a program in the partition that was killed
//!   finds beside it what its earlier life began, and says that it is lost. One that has no room for it
//!   just now gets the same try a little later.
//! - **Running**: a guest that does not know it any more has lost it, and nothing is started twice.
//! - **Stopping**: signalled; what it says until it is gone is still kept.
//! - **Ended**: for good. Its output stays until the lease ends or newer jobs need the place.

use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Not said to the guest.
    Waiting,
    /// Perhaps said to the guest.
    Starting,
    /// The guest said that it runs.
    Running,
    /// It is being ended.
    Stopping {
        /// Why.
        why: StopCause,
    },
    /// It is over.
    Ended {
        /// How.
        #[serde(flatten)]
        outcome: Outcome,
    },
}

/// Why a job is ended before it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// Its client wants it.
    Cancelled,
    /// It took longer than it was given.
    TimedOut,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// By itself.
    Exited {
        /// With this status.
        code: u8,
    },
    /// By a signal that was not ours.
    Signalled {
        /// Its Linux number.
        signal: u8,
    },
    /// Its client wanted it.
    Cancelled,
    /// It took longer than it was given.
    TimedOut,
    /// The guest could not start it.
    Failed,
    /// The guest knows nothing of it any more.
    Lost,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// The guest is about to be told.
    Told,
    /// The guest runs it.
    Began,
    /// Its process ended with this status.
    Exited(u8),
    /// Its process ended by this signal.
    Signalled(u8),
    /// The guest can't start it.
    Refused,
    /// The guest can't start it now: it has too much to do.
    Busy,
    /// The guest does not know it.
    Unknown,
    /// The guest began it once, and knows no more what became of it.
    Lost,
    /// Its client wants it ended.
    Cancel,
    /// Its time is over.
    TimeOver,
}

impl JobState {
    /// What becomes of it; `again` says whether a try that ended badly may be repeated.
    pub fn after(self, event: JobEvent, again: bool) -> Self {
        use JobEvent as Event;
        let ended = |outcome| Self::Ended { outcome };
        let bad = |outcome| if again { Self::Waiting } else { ended(outcome) };
        match (self, event) {
            (Self::Ended { .. }, _) => self,

            (Self::Waiting, Event::Told) => Self::Starting,
            (Self::Waiting, Event::Cancel) => ended(Outcome::Cancelled),
            (Self::Waiting, _) => self,

            (Self::Starting | Self::Running, Event::Began) => Self::Running,
            (Self::Starting, Event::Unknown | Event::Told) => self,
            (Self::Running, Event::Unknown) | (Self::Starting | Self::Running, Event::Lost) => ended(Outcome::Lost),
            (Self::Running, Event::Told) => self,
            (Self::Starting | Self::Running, Event::Refused) => ended(Outcome::Failed),
            (Self::Starting, Event::Busy) => Self::Waiting,
            (Self::Running, Event::Busy) => self,
            (Self::Starting | Self::Running, Event::Exited(0)) => ended(Outcome::Exited { code: 0 }),
            (Self::Starting | Self::Running, Event::Exited(code)) => bad(Outcome::Exited { code }),
            (Self::Starting | Self::Running, Event::Signalled(signal)) => bad(Outcome::Signalled { signal }),
            (Self::Starting | Self::Running, Event::Cancel) => Self::Stopping { why: StopCause::Cancelled },
            (Self::Starting | Self::Running, Event::TimeOver) => Self::Stopping { why: StopCause::TimedOut },

            // It ended by itself before the signal came: that is the truth.
            (Self::Stopping { .. }, Event::Exited(0)) => ended(Outcome::Exited { code: 0 }),
            (
                Self::Stopping { why: StopCause::Cancelled },
                Event::Exited(_) | Event::Signalled(_) | Event::Unknown | Event::Lost | Event::Refused | Event::Busy,
            ) => ended(Outcome::Cancelled),
            (
                Self::Stopping { why: StopCause::TimedOut },
                Event::Exited(_) | Event::Signalled(_) | Event::Unknown | Event::Lost | Event::Refused | Event::Busy,
            ) => bad(Outcome::TimedOut),
            (Self::Stopping { .. }, Event::Cancel) => Self::Stopping { why: StopCause::Cancelled },
            (Self::Stopping { .. }, Event::Told | Event::Began | Event::TimeOver) => self,
        }
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    /// The word for it in a list.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping { .. } => "stopping",
            Self::Ended { outcome } => outcome.word(),
        }
    }
}

impl Outcome {
    /// The word for it in a list.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exited { .. } => "exited",
            Self::Signalled { .. } => "killed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }

    /// The exit status for whoever waits: the job's own, as a shell would say it; 124 as `timeout`
    /// does, 125 for what has none, 127 where there was nothing to run.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Exited { code } => code,
            Self::Signalled { signal } => 128u8.saturating_add(signal),
            Self::Cancelled => 130,
            Self::TimedOut => 124,
            Self::Failed => 127,
            Self::Lost => 125,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [JobEvent; 11] = [
        JobEvent::Told,
        JobEvent::Began,
        JobEvent::Exited(0),
        JobEvent::Exited(7),
        JobEvent::Signalled(9),
        JobEvent::Refused,
        JobEvent::Busy,
        JobEvent::Unknown,
        JobEvent::Lost,
        JobEvent::Cancel,
        JobEvent::TimeOver,
    ];

    fn states() -> Vec<JobState> {
        let stopping = [StopCause::Cancelled, StopCause::TimedOut].map(|why| JobState::Stopping { why });
        let lost = JobState::Ended { outcome: Outcome::Lost };
        [JobState::Waiting, JobState::Starting, JobState::Running, lost].into_iter().chain(stopping).collect()
    }

    #[test]
    fn the_whole_table() {
        let words = |state: JobState| match state {
            JobState::Stopping { why: StopCause::Cancelled } => "stopping",
            JobState::Stopping { why: StopCause::TimedOut } => "timing",
            other => other.word(),
        };
        let row = |state: JobState, again| EVENTS.map(|event| words(state.after(event, again))).join(" ");
        for (state, without, with) in [
            (
                JobState::Waiting,
                "starting waiting waiting waiting waiting waiting waiting waiting waiting cancelled waiting",
                "starting waiting waiting waiting waiting waiting waiting waiting waiting cancelled waiting",
            ),
            (
                JobState::Starting,
                "starting running exited exited killed failed waiting starting lost stopping timing",
                "starting running exited waiting waiting failed waiting starting lost stopping timing",
            ),
            (
                JobState::Running,
                "running running exited exited killed failed running lost lost stopping timing",
                "running running exited waiting waiting failed running lost lost stopping timing",
            ),
            (
                JobState::Stopping { why: StopCause::Cancelled },
                "stopping stopping exited cancelled cancelled cancelled cancelled cancelled cancelled stopping stopping",
                "stopping stopping exited cancelled cancelled cancelled cancelled cancelled cancelled stopping stopping",
            ),
            (
                JobState::Stopping { why: StopCause::TimedOut },
                "timing timing exited timed out timed out timed out timed out timed out timed out stopping timing",
                "timing timing exited waiting waiting waiting waiting waiting waiting stopping timing",
            ),
        ] {
            assert_eq!((row(state, false).as_str(), row(state, true).as_str()), (without, with), "{state:?}");
        }
    }

    #[test]
    fn an_end_is_for_good_and_only_a_bad_one_is_repeated() {
        for state in states() {
            for event in EVENTS {
                for again in [false, true] {
                    let next = state.after(event, again);
                    assert!(!state.is_over() || next == state);
                    let repeats = next == JobState::Waiting && state != JobState::Waiting;
                    // Not now is no try.
                    let not_begun = state == JobState::Starting && event == JobEvent::Busy;
                    assert!(!repeats || again || not_begun, "{state:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn it_is_kept_as_it_is_read() {
        for state in states() {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<JobState>(&text).unwrap(), state, "{text}");
        }
        let ended = JobState::Ended { outcome: Outcome::Exited { code: 7 } };
        assert_eq!(serde_json::to_string(&ended).unwrap(), r#"{"state":"ended","outcome":"exited","code":7}"#);
    }
}
