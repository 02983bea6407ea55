//! A partition of the owner's own, on this computer alone: no lease, no market, no meter.
//!
//! ```text
//!             wanted, image here, room;            guest answered,
//!             start recorded                       recorded
//!       Down ---------------------------> Boots -------------------> Ready
//!       |  ^                                |                          |
//!       |  |   stopped, wiped, recorded     | crashed, silent,         | crashed, shut down,
//!       |  +--------------------------------+ not wanted               | not wanted
//!       |  |                                                           |
//!       |  +-----------------------------------------------------------+
//!       v to be removed
//!    (gone, and out of the division)
//! ```
//!
//! - **Down**: nothing of it is there. After a crash it starts again, each time a little later; after a
//!   shutdown from inside it stays down until its owner starts it.
//! - **Boots**: the start was recorded before it was tried. A restart of the agent adopts what runs, or
//!   starts it if nothing does.
//! - **Ready**: it runs until something ends it; a guest that is too busy to answer is not ended for that.
//!
//! Here is what is decided; `agent::own` does it.

use crate::store::{Own, Stand, Wish};
use crate::vmm::{ExitCause, ExitRecord, Observed};
use std::time::Duration;

/// After the first crash; doubled with each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Never longer than that.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Whoever ran for so long did not crash because it was started again too soon.
pub const STEADY_AFTER: Duration = Duration::from_secs(60);

/// What is seen of one at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Which start of the computer this is.
    pub boot_id: &'a str,
    /// Its machine, if one was started.
    pub observed: &'a Observed,
    /// Whether its guest answered since it was started.
    pub answered: bool,
    /// Whether the time is over within which it had to.
    pub late: bool,
    /// Whether it is to wait, after a crash.
    pub pauses: bool,
    /// Whether all of them are to end with the agent.
    pub halts: bool,
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing, until something changes.
    Nothing,
    /// To take it out of the division.
    Leave,
    /// To have its image here, and to record a start.
    Begin,
    /// To start the machine that is recorded.
    Launch,
    /// To record that it is ready.
    NoteReady,
    /// To end it.
    End(Ending),
}

/// How one ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// In words.
    pub said: String,
    /// What follows.
    pub then: Then,
}

/// What follows an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// As its owner wanted: the guest is asked to shut down first.
    AsWanted,
    /// It starts again at once.
    Again,
    /// It starts again after a pause.
    AgainLater,
    /// It stays down until its owner starts it.
    StaysDown,
}

/// The one thing that is due.
pub fn due(own: &Own, look: Look<'_>) -> Due {
    let wanted = own.wish == Wish::Run && !look.halts;
    let Some(start) = &own.start else {
        return match own.wish {
            Wish::Remove => Due::Leave,
            Wish::Run if wanted && !look.pauses => Due::Begin,
            Wish::Run | Wish::Stop => Due::Nothing,
        };
    };
    let end = |said: &str, then| Due::End(Ending { said: said.into(), then });
    if start.boot_id != look.boot_id {
        return end("the computer restarted", if wanted { Then::Again } else { Then::AsWanted });
    }
    if !wanted {
        let said = if look.halts { "the agent was told to end with its partitions" } else { "its owner stopped it" };
        return end(said, Then::AsWanted);
    }
    match ending_of(own.stand, look.observed) {
        Some(ending) => Due::End(ending),
        None if *look.observed == Observed::NotRunning => Due::Launch,
        None if own.stand == Stand::Ready => Due::Nothing,
        None if look.answered => Due::NoteReady,
        None if look.late => end("its guest did not answer in time", Then::AgainLater),
        None => Due::Nothing,
    }
}

fn ending_of(stand: Stand, observed: &Observed) -> Option<Ending> {
    let ready = stand == Stand::Ready;
    let crashed = |said: String| Some(Ending { said, then: Then::AgainLater });
    match observed {
        Observed::Running { .. } => None,
        Observed::NotRunning if ready => crashed("no trace of its machine was left".into()),
        Observed::NotRunning => None,
        Observed::Panicked => crashed("its guest's kernel panicked".into()),
        Observed::ShutDown if ready => {
            Some(Ending { said: "it was shut down, or restarted, from inside".into(), then: Then::StaysDown })
        }
        Observed::ShutDown => crashed("its guest shut down before it was up".into()),
        Observed::Exited(exit) => crashed(words_of(exit)),
    }
}

fn words_of(exit: &ExitRecord) -> String {
    let said = exit.said.trim();
    let said = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
    match &exit.cause {
        ExitCause::Exited { code } => format!("its machine ended with code {code}{said}"),
        ExitCause::Signalled { signal } => format!("its machine was killed by signal {signal}{said}"),
        ExitCause::Vanished => "its machine and its guard are gone".into(),
        ExitCause::Deadline | ExitCause::Stopped => "its machine was stopped on this computer".into(),
    }
}

/// How long one waits that crashed so many times in a row.
pub fn pause(crashes: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << crashes.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
