//! The life of a lease, drawn once and total.
//!
//! ```text
//!             grant          ready            release, expire, reclaim, funds out, guest gone
//!  (request) ------> Granted ------> Active --------------------------------------> Stopping --gone--> Ended
//!                      |  |            | ^                                             ^  ^
//!                      |  | boot       | | heard again: resumes                        |  |
//!                      |  | failed,    v |                                             |  |
//!                      |  | release   silent --- paid end, or the client leaves --> Lost  |
//!                      |  |                                                   host speaks |
//!                      |  +---------------------------------------------------------------+
//!                      +- silent, then the wait is over ---------------------------> Lost
//! ```
//!
//! - **Granted**: the right is given, the allocation is frozen, the host is to boot the image.
//! - **Active**: the guest answered with its identity set; the meter runs. While the host is
//!   silent the lease stays Active and nothing is destroyed: the host goes on and its receipts
//!   count when it is heard again.
//! - **Stopping**: left the plan; the slot is held until the host says *gone and wiped*.
//! - **Lost**: the host is silent and nobody waits for it; the slot is quarantined until the host
//!   speaks or the operator forgets the host.
//! - **Ended**: the slot is free.
//!
//! The first reason stands: whatever is said later about an ending lease changes nothing. Every
//! state has an answer to every event, because a host repeats itself and a client retries.

use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Why a lease ended, typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The client gave it back, or its one job ended.
    Released,
    /// The term is over.
    Expired,
    /// The owner took it back, after the notice of the offer.
    Reclaimed,
    /// The owner took it back at once.
    Evicted,
    /// Nothing is left to pay with.
    OutOfFunds,
    /// The operating system did not come up.
    BootFailed,
    /// The guest's kernel panicked, or its machine died.
    GuestCrashed,
    /// The guest shut itself down.
    GuestShutdown,
    /// The host was not heard of until the paid end, or the client did not want to wait.
    HostLost,
    /// The host lost the partition: it restarted, or its record of it is gone.
    HostRestarted,
    /// The image could not be fetched, or a byte of it was wrong.
    ImageUnavailable,
    /// The operator of the market ended it.
    Operator,
}

impl EndReason {
    /// Every reason there is.
    pub const ALL: [Self; 12] = [
        Self::Released,
        Self::Expired,
        Self::Reclaimed,
        Self::Evicted,
        Self::OutOfFunds,
        Self::BootFailed,
        Self::GuestCrashed,
        Self::GuestShutdown,
        Self::HostLost,
        Self::HostRestarted,
        Self::ImageUnavailable,
        Self::Operator,
    ];

    /// The word used in the API, the database and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Reclaimed => "reclaimed",
            Self::Evicted => "evicted",
            Self::OutOfFunds => "out_of_funds",
            Self::BootFailed => "boot_failed",
            Self::GuestCrashed => "guest_crashed",
            Self::GuestShutdown => "guest_shutdown",
            Self::HostLost => "host_lost",
            Self::HostRestarted => "host_restarted",
            Self::ImageUnavailable => "image_unavailable",
            Self::Operator => "operator",
        }
    }

    /// What happened and what to do next, for the person who rented.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Released => "the lease was released; rent again when you need a partition",
            Self::Expired => "the term is over; rent again, or extend earlier next time",
            Self::Reclaimed => "the owner took the partition back after the notice of the offer; rent another",
            Self::Evicted => "the owner took the partition back at once; rent another",
            Self::OutOfFunds => "the account has nothing left; deposit, then rent again",
            Self::BootFailed => {
                "the operating system did not come up and nothing is billed; rent again, or try another image"
            }
            Self::GuestCrashed => {
                "the operating system in the partition crashed; billed to the last receipt; rent again"
            }
            Self::GuestShutdown => "the operating system in the partition was shut down from inside; rent again",
            Self::HostLost => "the host was not heard of any more; billed to the last receipt; rent another",
            Self::HostRestarted => {
                "the host restarted and the partition went with it; billed to the last receipt; rent again"
            }
            Self::ImageUnavailable => "the image could not be fetched whole, and nothing is billed; try another image",
            Self::Operator => "the operator of the market ended the lease; ask them why",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Where a lease stands. A state carries its facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum LeaseState {
    /// Given; the host is to boot.
    Granted {
        /// Since when the host has not been heard of.
        silent_since: Option<Timestamp>,
    },
    /// In use; the meter runs.
    Active {
        /// When the market heard that the guest answered.
        ready_at: Timestamp,
        /// Since when the host has not been heard of.
        silent_since: Option<Timestamp>,
    },
    /// Ending; waits for the host's *gone and wiped*.
    Stopping {
        /// Why it ends.
        reason: EndReason,
    },
    /// The host is silent and nobody waits for it.
    Lost {
        /// Why it ends.
        reason: EndReason,
    },
    /// Over; the slot is free.
    Ended {
        /// Why it ended.
        reason: EndReason,
        /// When the slot became free.
        at: Timestamp,
    },
}

/// What can happen to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The host says that the guest answered with its identity set.
    Ready {
        /// When the market heard it.
        at: Timestamp,
    },
    /// Somebody or something ends it: client, owner, operator, the term, the guest, a failed boot.
    End(EndReason),
    /// The host has not been heard of for the time after which it counts as silent.
    Silent {
        /// When that was found.
        at: Timestamp,
    },
    /// The host of a silent lease was heard again.
    Heard,
    /// By the market's clock, what was paid for is used up.
    PaidEnd,
    /// The host says that this generation is stopped and wiped.
    Gone {
        /// When the market heard it.
        at: Timestamp,
    },
    /// The operator forgot the host; its partition ids are retired.
    Forgotten {
        /// When.
        at: Timestamp,
    },
}

/// What an event does to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It moves on.
    To(LeaseState),
    /// Nothing changes: said before, or too late to matter.
    Stay,
    /// It makes no sense in this state, for the reason given.
    Refused(&'static str),
}

impl LeaseState {
    /// Whether the partition is taken by it. At most one such lease a partition (I1).
    pub fn holds_slot(self) -> bool {
        !matches!(self, Self::Ended { .. })
    }

    /// Whether the host should be running it.
    pub fn is_wanted(self) -> bool {
        matches!(self, Self::Granted { .. } | Self::Active { .. })
    }

    /// Since when the host has been silent, while that matters.
    pub fn silent_since(self) -> Option<Timestamp> {
        match self {
            Self::Granted { silent_since } | Self::Active { silent_since, .. } => silent_since,
            _ => None,
        }
    }

    /// Why it ends or ended.
    pub fn reason(self) -> Option<EndReason> {
        match self {
            Self::Stopping { reason } | Self::Lost { reason } | Self::Ended { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// The word used in the API, the database and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Granted { .. } => "granted",
            Self::Active { .. } => "active",
            Self::Stopping { .. } => "stopping",
            Self::Lost { .. } => "lost",
            Self::Ended { .. } => "ended",
        }
    }

    /// What becomes of a lease in this state when `event` happens. Total.
    pub fn after(self, event: LeaseEvent) -> Step {
        use LeaseEvent as E;
        use LeaseState as S;
        match (self, event) {
            (S::Granted { .. }, E::Ready { at }) => Step::To(S::Active { ready_at: at, silent_since: None }),
            (S::Active { .. } | S::Stopping { .. } | S::Lost { .. }, E::Ready { .. }) => Step::Stay,
            (S::Ended { .. }, E::Ready { .. }) => Step::Refused("a lease that ended can't become ready"),

            // With a silent host the end can't be carried out: the slot is quarantined instead.
            (S::Granted { silent_since: Some(_) } | S::Active { silent_since: Some(_), .. }, E::End(reason)) => {
                Step::To(S::Lost { reason })
            }
            (S::Granted { silent_since: None } | S::Active { silent_since: None, .. }, E::End(reason)) => {
                Step::To(S::Stopping { reason })
            }
            (S::Stopping { .. } | S::Lost { .. } | S::Ended { .. }, E::End(_)) => Step::Stay,

            (S::Granted { silent_since: None }, E::Silent { at }) => Step::To(S::Granted { silent_since: Some(at) }),
            (S::Active { ready_at, silent_since: None }, E::Silent { at }) => {
                Step::To(S::Active { ready_at, silent_since: Some(at) })
            }
            (_, E::Silent { .. }) => Step::Stay,

            (S::Granted { silent_since: Some(_) }, E::Heard) => Step::To(S::Granted { silent_since: None }),
            (S::Active { ready_at, silent_since: Some(_) }, E::Heard) => {
                Step::To(S::Active { ready_at, silent_since: None })
            }
            (S::Lost { reason }, E::Heard) => Step::To(S::Stopping { reason }),
            (_, E::Heard) => Step::Stay,

            (S::Granted { silent_since: Some(_) } | S::Active { silent_since: Some(_), .. }, E::PaidEnd) => {
                Step::To(S::Lost { reason: EndReason::HostLost })
            }
            (S::Active { silent_since: None, .. }, E::PaidEnd) => {
                Step::To(S::Stopping { reason: EndReason::OutOfFunds })
            }
            (S::Granted { silent_since: None }, E::PaidEnd) => {
                Step::Refused("nothing is used before the guest is ready, so no paid time can end")
            }
            (S::Stopping { .. } | S::Lost { .. } | S::Ended { .. }, E::PaidEnd) => Step::Stay,

            // A host that says gone without having been asked lost the partition.
            (S::Granted { .. } | S::Active { .. }, E::Gone { at }) => {
                Step::To(S::Ended { reason: EndReason::HostRestarted, at })
            }
            (S::Stopping { reason } | S::Lost { reason }, E::Gone { at } | E::Forgotten { at }) => {
                Step::To(S::Ended { reason, at })
            }
            (S::Granted { .. } | S::Active { .. }, E::Forgotten { at }) => {
                Step::To(S::Ended { reason: EndReason::HostLost, at })
            }
            (S::Ended { .. }, E::Gone { .. } | E::Forgotten { .. }) => Step::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndReason::*;
    use LeaseEvent as E;
    use LeaseState as S;

    const T: Timestamp = Timestamp(5);
    const U: Timestamp = Timestamp(9);

    fn states() -> [S; 7] {
        [
            S::Granted { silent_since: None },
            S::Granted { silent_since: Some(T) },
            S::Active { ready_at: T, silent_since: None },
            S::Active { ready_at: T, silent_since: Some(T) },
            S::Stopping { reason: Expired },
            S::Lost { reason: Expired },
            S::Ended { reason: Expired, at: T },
        ]
    }

    /// One line an event: what becomes of each of `states()`, in order.
    #[test]
    fn every_state_answers_every_event() {
        use Step::*;
        let active = S::Active { ready_at: U, silent_since: None };
        let ended = |reason| To(S::Ended { reason, at: U });
        let stop = |reason| To(S::Stopping { reason });
        let lost = |reason| To(S::Lost { reason });
        let never = "a lease that ended can't become ready";
        let unused = "nothing is used before the guest is ready, so no paid time can end";
        let table: [(E, [Step; 7]); 7] = [
            (E::Ready { at: U }, [To(active), To(active), Stay, Stay, Stay, Stay, Refused(never)]),
            (E::End(Released), [stop(Released), lost(Released), stop(Released), lost(Released), Stay, Stay, Stay]),
            (
                E::Silent { at: U },
                [
                    To(S::Granted { silent_since: Some(U) }),
                    Stay,
                    To(S::Active { ready_at: T, silent_since: Some(U) }),
                    Stay,
                    Stay,
                    Stay,
                    Stay,
                ],
            ),
            (
                E::Heard,
                [
                    Stay,
                    To(S::Granted { silent_since: None }),
                    Stay,
                    To(S::Active { ready_at: T, silent_since: None }),
                    Stay,
                    stop(Expired),
                    Stay,
                ],
            ),
            (E::PaidEnd, [Refused(unused), lost(HostLost), stop(OutOfFunds), lost(HostLost), Stay, Stay, Stay]),
            (
                E::Gone { at: U },
                [
                    ended(HostRestarted),
                    ended(HostRestarted),
                    ended(HostRestarted),
                    ended(HostRestarted),
                    ended(Expired),
                    ended(Expired),
                    Stay,
                ],
            ),
            (
                E::Forgotten { at: U },
                [
                    ended(HostLost),
                    ended(HostLost),
                    ended(HostLost),
                    ended(HostLost),
                    ended(Expired),
                    ended(Expired),
                    Stay,
                ],
            ),
        ];
        for (event, answers) in table {
            for (state, answer) in states().into_iter().zip(answers) {
                assert_eq!(state.after(event), answer, "{state:?} after {event:?}");
            }
        }
    }

    #[test]
    fn the_first_reason_stands_whatever_follows() {
        for reason in EndReason::ALL {
            for later in EndReason::ALL {
                for state in [S::Stopping { reason }, S::Lost { reason }, S::Ended { reason, at: T }] {
                    assert_eq!(state.after(E::End(later)), Step::Stay);
                }
            }
            assert_eq!(S::Stopping { reason }.after(E::Gone { at: U }), Step::To(S::Ended { reason, at: U }));
        }
    }

    #[test]
    fn only_gone_or_forgotten_frees_the_slot() {
        for state in states().into_iter().filter(|s| s.holds_slot()) {
            for event in [E::Ready { at: U }, E::End(Evicted), E::Silent { at: U }, E::Heard, E::PaidEnd] {
                if let Step::To(next) = state.after(event) {
                    assert!(next.holds_slot(), "{state:?} after {event:?} frees the slot");
                }
            }
        }
    }
}

#[cfg(test)]
mod words;
