//! What goes wrong, and which leases it met.

use super::random::Random;
use std::fmt;
use sublet_model::lease::LeaseState;

macro_rules! faults {
    ($($name:ident = $word:literal),* $(,)?) => {
        /// One kind of thing that goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each has its words")]
        pub enum Fault { $($name),* }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Fault] = &[$(Fault::$name),*];

            /// In words.
            pub fn words(self) -> &'static str {
                match self { $(Fault::$name => $word),* }
            }
        }
    };
}

faults! {
    Lost = "message of a host lost",
    Duplicated = "message of a host duplicated",
    Reordered = "message of a host overtaken",
    Delayed = "message of a host late",
    Cut = "host cut off",
    Silent = "host silent and back",
    ClientLost = "message of a client lost",
    ClientDuplicated = "message of a client duplicated",
    ClientCut = "clients cut off",
    MarketCrashed = "market killed",
    MarketJumped = "market's clock jumps",
    CommitBusy = "commit refused: busy",
    CommitLost = "power cut before the commit",
    CommitUnanswered = "power cut after the commit",
    Edited = "database edited by hand",
    AgentKilled = "agent killed",
    AgentKilledMidway = "agent killed amid a step",
    HostRestarted = "host restarted",
    HostSlept = "host slept",
    MachineFailed = "machine call fails",
    GuestDied = "guest dies",
    DiskFull = "host's disk full",
    RateChanged = "host's clock runs otherwise",
    WallJumped = "host's wall clock jumps",
    Cloned = "agent cloned",
    OwnerTookBack = "owner takes back",
}

impl Fault {
    /// Which row of a table it is.
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|f| *f == self).unwrap_or_default()
    }
}

/// The states of a lease that a fault has to meet.
pub const STATES: [&str; 6] = ["granted", "active", "active, silent", "stopping", "lost", "ended"];

/// Which of them a state is.
pub fn state_index(state: LeaseState) -> usize {
    match state {
        LeaseState::Granted { .. } => 0,
        LeaseState::Active { silent_since: None, .. } => 1,
        LeaseState::Active { silent_since: Some(_), .. } => 2,
        LeaseState::Stopping { .. } => 3,
        LeaseState::Lost { .. } => 4,
        LeaseState::Ended { .. } => 5,
    }
}

/// How often each fault happened, and how often it met a lease in each state.
#[derive(Debug, Clone)]
pub struct Coverage {
    /// How often.
    pub times: Vec<u64>,
    /// How many leases of each state it met.
    pub met: Vec<[u64; STATES.len()]>,
}

impl Default for Coverage {
    fn default() -> Self {
        let kinds = Fault::ALL.len();
        Self { times: vec![0; kinds], met: vec![[0; STATES.len()]; kinds] }
    }
}

impl Coverage {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (all, one) in self.times.iter_mut().zip(&other.times) {
            *all += one;
        }
        for (all, one) in self.met.iter_mut().zip(&other.met) {
            all.iter_mut().zip(one).for_each(|(all, one)| *all += one);
        }
    }

    /// How many faults there were.
    pub fn total(&self) -> u64 {
        self.times.iter().sum()
    }

    /// What never met what.
    pub fn missing(&self) -> Vec<String> {
        let of = |fault: &Fault| {
            let met = self.met[fault.index()];
            let never = STATES.iter().zip(met).filter(|(_, times)| *times == 0);
            never.map(|(state, _)| format!("{:?} never met a lease that was {state}", fault)).collect::<Vec<_>>()
        };
        Fault::ALL.iter().flat_map(of).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:32}{:>10}", "leases met in state", "times")?;
        STATES.iter().try_for_each(|state| write!(f, "{state:>16}"))?;
        for fault in Fault::ALL {
            write!(f, "\n{:32}{:>10}", fault.words(), self.times[fault.index()])?;
            self.met[fault.index()].iter().try_for_each(|times| write!(f, "{times:>16}"))?;
        }
        Ok(())
    }
}

/// What goes wrong in one run, and how often: each run has its own mood, for a world in which
/// everything fails at once hides what only one failure shows.
#[derive(Debug, Clone)]
pub struct Mood {
    on: Vec<bool>,
    /// Of a thousand messages so many are lost.
    pub lost: u64,
    /// So many come twice.
    pub duplicated: u64,
    /// So many are late.
    pub late: u64,
    /// Of a thousand commits so many fail in some way.
    pub commits: u64,
    /// Of a thousand steps of an agent so many are its last.
    pub midway: u64,
    /// Of a thousand calls of a machine so many fail.
    pub machines: u64,
    /// Of a thousand guests so many never answer.
    pub mute: u64,
    /// Seconds between two faults of the larger kind, on average.
    pub pause: i64,
}

impl Mood {
    /// A mood by chance.
    pub fn of(random: &mut Random) -> Self {
        let calm = random.chance(100);
        let on = Fault::ALL.iter().map(|_| !calm && random.chance(650)).collect();
        let some = |random: &mut Random, most: i64| random.between(0, most).unsigned_abs();
        Self {
            on,
            lost: some(random, 60),
            duplicated: some(random, 60),
            late: some(random, 100),
            commits: some(random, 20),
            midway: some(random, 15),
            machines: some(random, 80),
            mute: some(random, 80),
            pause: random.between(4, 25),
        }
    }

    /// Nothing goes wrong any more.
    pub fn healed() -> Self {
        let on = vec![false; Fault::ALL.len()];
        Self { on, lost: 0, duplicated: 0, late: 0, commits: 0, midway: 0, machines: 0, mute: 0, pause: i64::MAX }
    }

    /// Whether a kind happens in this run.
    pub fn has(&self, fault: Fault) -> bool {
        self.on[fault.index()]
    }

    /// One of these that happen in this run.
    pub fn pick(&self, random: &mut Random, from: &[Fault]) -> Option<Fault> {
        let on: Vec<Fault> = from.iter().copied().filter(|f| self.has(*f)).collect();
        random.pick(&on).copied()
    }
}
