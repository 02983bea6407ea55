//! What a host sees of its partitions drives their leases. Only the generation that the market
//! granted counts: older ones are over, and foreign ones are nobody's.

use super::{Intake, tidy, was_started};
use crate::engine::alter;
use crate::engine::change::Change;
use crate::engine::command::Refusal;
use crate::engine::rows::Lease;
use std::collections::HashSet;
use std::sync::Arc;
use sublet_model::ids::{LeaseId, PartitionId};
use sublet_model::lease::{EndReason, LeaseEvent, LeaseState};
use sublet_model::partition::Phase;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::sync::{Observed, ended_by_host};

/// After how many failed boots in a row the market lends a partition no more for a while.
const FAILED_BOOTS: u32 = 3;
/// For how long at first; doubled with every further failure.
const BACKOFF: Seconds = Seconds(600);
/// For how long a partition is not lent in which something was seen to run that nobody holds.
const CLOSED: Seconds = Seconds(60);
/// For how long at most.
const LONGEST_BACKOFF: Seconds = Seconds(86_400);

impl Intake<'_, '_> {
    pub(super) fn observe(&mut self, observed: &[Observed]) -> Result<(), Refusal> {
        let mut seen = HashSet::new();
        if let Some(twice) = observed.iter().find(|o| !seen.insert(o.partition)) {
            return Err(Refusal::invalid(format!("partition {} is seen twice in one sync", twice.partition)));
        }
        self.observe_each(observed);
        Ok(())
    }

    /// What was seen last is still so.
    pub(super) fn observe_again(&mut self) {
        let Some(observed) = self.draft.live(self.host).map(|live| Arc::clone(&live.observed)) else { return };
        self.observe_each(observed.values());
    }

    fn observe_each<'o>(&mut self, observed: impl IntoIterator<Item = &'o Observed>) {
        let held_before: HashSet<PartitionId> = self.draft.held_on(self.host).map(|l| l.partition).collect();
        observed.into_iter().for_each(|one| self.observe_one(one));
        let held_now: HashSet<PartitionId> = self.draft.held_on(self.host).map(|l| l.partition).collect();
        if held_before != held_now {
            self.retire_the_leaving();
            alter::settle(self.draft, self.host);
        }
    }

    fn observe_one(&mut self, seen: &Observed) {
        let Some(partition) = self.draft.partition(seen.partition).filter(|p| p.host == self.host) else {
            let warning = format!("partition {} is not one of this host", seen.partition);
            return self.flag("sync.foreign_partition", seen.partition, warning);
        };
        let (known, applied) = (partition.allocation, seen.applied);
        if applied.generation > known.generation {
            let warning = format!(
                "partition {} has generation {} applied, but the market knows only {}: was the market restored from a backup?",
                partition.name, applied.generation, known.generation
            );
            return self.flag("sync.generation_ahead", seen.partition, warning);
        }
        let Some(lease) = self.draft.holder(seen.partition).cloned() else {
            return self.keep_closed(seen);
        };
        if applied.generation < lease.generation {
            // It has not applied the grant yet; the plan of the answer tells it to. But where the
            // guest was up, the host has lost its record, and what it had with it.
            if matches!(lease.state, LeaseState::Active { .. }) {
                self.event(lease.id, LeaseEvent::End(EndReason::HostRestarted));
            }
            return;
        }
        if seen.lease.is_some_and(|said| said != lease.id) {
            let warning =
                format!("generation {} belongs to lease {}, not to the one named", lease.generation, lease.id);
            return self.flag("sync.other_lease", lease.id, warning);
        }
        if applied.resources != known.resources && was_started(seen.phase) {
            let warning = format!(
                "partition {} runs with {}, but {} is granted",
                seen.partition, applied.resources, known.resources
            );
            self.flag("sync.other_allocation", lease.id, warning);
        }
        self.follow(&lease, seen);
    }

    /// Something runs that nobody holds: a copy of the agent runs what the other one has said gone.
    /// Nothing is granted there until it stops, which the plan tells it to.
    fn keep_closed(&mut self, seen: &Observed) {
        let Some(partition) = self.draft.partition(seen.partition) else { return };
        let runs = !matches!(seen.phase, Phase::Idle | Phase::Gone { .. });
        if !runs || seen.applied.generation != partition.allocation.generation {
            return;
        }
        let (failed_boots, until) = (partition.failed_boots, self.draft.now.after(CLOSED));
        let soon = self.draft.now.after(Seconds(CLOSED.0 / 2));
        if partition.unlisted_until.is_some_and(|closed| closed > soon) {
            return;
        }
        let (partition, warning) = (partition.id, format!("partition {} runs what nobody holds", partition.name));
        self.draft.put(Change::PartitionBoots { partition, failed_boots, unlisted_until: Some(until) });
        self.flag("sync.runs_unheld", partition, warning);
    }

    /// The host's phase, as events of the lease.
    fn follow(&mut self, lease: &Arc<Lease>, seen: &Observed) {
        self.mark(lease.id, seen);
        match seen.phase {
            Phase::Idle | Phase::Fetching { .. } | Phase::Booting => {}
            Phase::Ready => self.event(lease.id, LeaseEvent::Ready { at: self.draft.now }),
            Phase::Stopping { .. } => self.end_by_host(lease.id, seen),
            Phase::Gone { .. } => {
                self.end_by_host(lease.id, seen);
                self.gone(lease.id);
            }
        }
    }

    /// Notes what happened on the way: a mark is set once and stays.
    fn mark(&mut self, id: LeaseId, seen: &Observed) {
        let Some(lease) = self.draft.lease(id).cloned() else { return };
        let mut timeline = lease.timeline.clone();
        let now = self.draft.now;
        let started = matches!(seen.phase, Phase::Booting | Phase::Ready);
        let note = |mark: &mut Option<Timestamp>, is_so: bool| {
            if is_so {
                mark.get_or_insert(now);
            }
        };
        note(&mut timeline.fetched_at, started);
        note(&mut timeline.booted_at, started);
        note(&mut timeline.contact_at, seen.first_contact);
        if started && seen.started.is_some() {
            timeline.started = seen.started.as_deref().map(tidy);
        }
        let detail = seen.detail.as_deref().map(tidy).or_else(|| lease.detail.clone());
        if timeline != lease.timeline || detail != lease.detail {
            self.draft.put(Change::LeaseMoved { lease: id, state: lease.state, timeline, detail });
        }
    }

    /// The host ended the generation by itself and says why. The first reason stands.
    fn end_by_host(&mut self, id: LeaseId, seen: &Observed) {
        let Some(reason) = ended_by_host(&seen.phase) else { return };
        let reason = match reason {
            // Not for a host to say.
            EndReason::Operator | EndReason::HostLost => EndReason::HostRestarted,
            said => said,
        };
        self.event(id, LeaseEvent::End(reason));
    }

    pub(super) fn gone(&mut self, id: LeaseId) {
        self.event(id, LeaseEvent::Gone { at: self.draft.now });
        self.ended.push(id);
        let Some(lease) = self.draft.lease(id).cloned() else { return };
        let Some(partition) = self.draft.partition(lease.partition).cloned() else { return };
        if partition.taken_back.is_some() {
            self.draft.put(Change::PartitionTakenBack { partition: partition.id, taken_back: None });
        }
        let failed = matches!(
            lease.state,
            LeaseState::Ended { reason: EndReason::BootFailed | EndReason::ImageUnavailable, .. }
        );
        let worked = lease.timeline.ready_at.is_some();
        let boots = match (failed, worked) {
            (true, _) => partition.failed_boots + 1,
            (false, true) => 0,
            (false, false) => partition.failed_boots,
        };
        if boots != partition.failed_boots {
            let unlisted_until = backoff(boots).map(|span| self.draft.now.after(span));
            self.draft.put(Change::PartitionBoots { partition: partition.id, failed_boots: boots, unlisted_until });
            if let Some(until) = unlisted_until {
                let detail = format!("{boots} boots failed in a row: not lent until {until}");
                self.draft.audit("market", "partition.unlist", partition.id, detail);
            }
        }
    }
}

/// For how long a partition is not lent after so many failed boots in a row.
fn backoff(failed_boots: u32) -> Option<Seconds> {
    let further = failed_boots.checked_sub(FAILED_BOOTS)?;
    Some(Seconds(BACKOFF.0 << further.min(10)).min(LONGEST_BACKOFF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_begins_at_the_third_failure_and_doubles_to_a_day() {
        let spans: Vec<Option<i64>> = [0, 2, 3, 4, 5, 13, u32::MAX].map(|n| backoff(n).map(|s| s.0)).into();
        assert_eq!(spans, [None, None, Some(600), Some(1200), Some(2400), Some(86_400), Some(86_400)]);
    }
}
