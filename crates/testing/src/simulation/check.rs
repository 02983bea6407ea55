//! The invariants, checked by simple means of their own against what was committed and what really
//! happened: none of it asks the engine for its opinion.

use super::books::Books;
use super::computer::Computer;
use super::time::At;
use std::collections::BTreeMap;
use std::fmt;
use sublet_market::engine::change::Change;
use sublet_market::engine::command::Outcome;
use sublet_market::engine::rows::{ChargeRow, Lease};
use sublet_market::engine::state::Tables;
use sublet_model::ids::{HostId, LeaseId, MemberId, PartitionId};
use sublet_model::lease::LeaseState;
use sublet_model::partition::Allocation;
use sublet_model::resources::Resources;
use sublet_model::units::{Seconds, Timestamp};

/// Something that must never be, was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, and what was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What a check says.
pub type Checked = Result<(), Violation>;

/// Refuses what must never be.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation { what: what() }) }
}

/// A lease as its events tell it.
#[derive(Debug, Clone)]
pub struct Told {
    /// On which host.
    pub host: HostId,
    /// In which partition.
    pub partition: PartitionId,
    /// Of which generation.
    pub generation: u64,
    /// Where it stands.
    pub state: LeaseState,
    /// How long it may run.
    pub term: Seconds,
    /// For how much of that money is held.
    pub paid: Seconds,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// Whether the market heard that its guest was ready.
    pub was_ready: bool,
    /// When it stopped.
    pub stopped_at: Option<Timestamp>,
    /// The newest receipt: number, seconds, and whether it is the last.
    pub receipt: Option<(u64, Seconds, bool)>,
    /// Whether it was settled.
    pub charged: bool,
    agreed: Resources,
    vcpus: u16,
}

/// Everything that was committed, as its own simple picture of the market.
#[derive(Debug, Default)]
pub struct Check {
    /// Every lease.
    pub leases: BTreeMap<LeaseId, Told>,
    /// Who holds each partition.
    holders: BTreeMap<PartitionId, LeaseId>,
    allocations: BTreeMap<PartitionId, Allocation>,
    /// Which generation of a partition ended last.
    ended: BTreeMap<PartitionId, u64>,
    /// What was answered under each key.
    done: BTreeMap<(MemberId, String), Outcome>,
    /// For which key each lease was asked.
    pub asked: BTreeMap<LeaseId, (usize, String)>,
    granted: BTreeMap<(usize, String), Vec<LeaseId>>,
    /// Every extension that was committed: lease and by how much.
    pub extended: Vec<(LeaseId, Seconds)>,
    sessions: BTreeMap<HostId, u64>,
    /// Hosts whose key, or disk, was copied: what the copy says is no lie of the host.
    pub stolen: Vec<HostId>,
    /// Up to which generation a copy's word ended what a partition was held by: what the host itself
    /// still runs of that, the market was told is gone.
    ended_by_copy: BTreeMap<PartitionId, u64>,
    /// A host that the operator gave up: whatever is on it, its partitions never come back.
    pub forgotten: Option<HostId>,
    /// Which computer spoke last for each host.
    pub speaker: BTreeMap<HostId, usize>,
    /// How many seconds were billed in all.
    pub billed: i64,
    /// The money.
    books: Books,
    /// What was found where nobody could be told.
    pub found: Option<Violation>,
}

impl Check {
    /// Takes in what was committed.
    pub fn committed(&mut self, changes: &[Change], computers: &[Computer], now: At) -> Checked {
        changes.iter().try_for_each(|change| self.change(change, computers, now))?;
        self.books.hold()
    }

    fn change(&mut self, change: &Change, computers: &[Computer], now: At) -> Checked {
        match change {
            Change::Lease(lease) => self.granted(lease, computers),
            Change::LeaseMoved { lease, state, timeline, .. } => {
                if let Some(told) = self.leases.get_mut(lease) {
                    told.was_ready |= timeline.ready_at.is_some();
                }
                self.moved(*lease, *state, timeline.stopped_at, computers)
            }
            Change::LeaseExtended { lease, term_seconds, paid_seconds } => {
                let Some(told) = self.leases.get_mut(lease) else { return unknown(*lease) };
                let (term, paid) = (*term_seconds, *paid_seconds);
                ensure((term > told.term && paid >= told.paid) || (term == told.term && paid > told.paid), || {
                    format!("lease {lease} is shortened to {term}, paid for {paid}")
                })?;
                if term > told.term {
                    self.extended.push((*lease, term - told.term));
                }
                (told.term, told.paid) = (term, paid);
                self.books.paid(*lease, paid);
                Ok(())
            }
            Change::Allocation { partition, allocation, .. } => self.allocated(*partition, *allocation),
            Change::Partition(row) => {
                self.allocations.insert(row.id, row.allocation);
                Ok(())
            }
            Change::Receipt { lease, end, .. } => {
                let Some(told) = self.leases.get_mut(lease) else { return unknown(*lease) };
                let (seq, seconds, last) = told.receipt.unwrap_or((0, Seconds::ZERO, false));
                ensure(end.seq == seq + 1 && end.seconds >= seconds && !last, || {
                    format!(
                        "I5: receipt {} of lease {lease} over {} follows {seq} over {seconds}",
                        end.seq, end.seconds
                    )
                })?;
                told.receipt = Some((end.seq, end.seconds, end.last));
                Ok(())
            }
            Change::Charge(row) => {
                self.books.billed(row);
                self.charged(row, computers, now)
            }
            Change::Transfer { transfer, after } => self.books.moved(transfer, after),
            Change::Done { member, key, outcome, .. } => {
                let before = self.done.insert((*member, key.clone()), outcome.clone());
                ensure(before.is_none(), || format!("I10: key {key} was done twice"))
            }
            Change::HostSession { host, session } => {
                let before = self.sessions.insert(*host, *session).unwrap_or(0);
                ensure(*session > before, || format!("session {session} of {host} after {before}"))
            }
            _ => Ok(()),
        }
    }

    /// I1, I2, I9, I10: nobody holds it, nothing of before is left, and it was asked for once.
    fn granted(&mut self, lease: &Lease, computers: &[Computer]) -> Checked {
        let (id, partition, generation) = (lease.id, lease.partition, lease.generation);
        if let Some(other) = self.holders.insert(partition, id) {
            return ensure(false, || format!("I1: {partition} is granted to {id}, but {other} holds it"));
        }
        let ended = self.ended.get(&partition).copied().unwrap_or(0);
        ensure(generation > ended, || format!("I2: {id} is granted generation {generation}, and {ended} has ended"))?;
        let has = self.allocations.get(&partition).copied();
        ensure(
            has.is_some_and(|has| has.generation == generation && has.resources == lease.terms().resources),
            || format!("I3: {id} is granted {:?}, but its partition has {has:?}", lease.terms().resources),
        )?;
        self.nothing_left(lease.host, partition, generation - 1, computers, "granted again")?;
        if let Some(key) = self.asked.get(&id).cloned() {
            let all = self.granted.entry(key.clone()).or_default();
            all.push(id);
            // Several that were asked for together share their key; each attempt has ids of its own.
            let first = all[0];
            let together = self.asked_together(first, id);
            ensure(together, || format!("I10: {first} and {id} are granted for the one key {}", key.1))?;
        }
        let told = Told {
            host: lease.host,
            partition,
            generation,
            state: lease.state,
            term: lease.term_seconds,
            paid: lease.paid_seconds,
            granted_at: lease.terms().granted_at,
            was_ready: false,
            stopped_at: None,
            receipt: None,
            charged: false,
            agreed: lease.terms().resources,
            vcpus: lease.terms().vcpus,
        };
        self.books.granted(id, told.agreed, told.paid);
        ensure(self.leases.insert(id, told).is_none(), || format!("lease {id} is granted twice"))
    }

    /// Ids of one attempt follow each other.
    fn asked_together(&self, first: LeaseId, other: LeaseId) -> bool {
        let number = |id: LeaseId| id.uuid().as_u128() >> 8;
        number(first) == number(other)
    }

    fn moved(&mut self, id: LeaseId, next: LeaseState, stopped: Option<Timestamp>, computers: &[Computer]) -> Checked {
        let Some(told) = self.leases.get_mut(&id) else { return unknown(id) };
        let before = told.state;
        ensure(holds(before) || next == before, || format!("lease {id} comes back from its end: {next:?}"))?;
        let goes_on = matches!(next, LeaseState::Granted { .. } | LeaseState::Active { .. });
        let backwards = before.reason().is_some() && goes_on;
        ensure(!backwards, || format!("lease {id} goes on after {before:?}"))?;
        let other = before.reason().is_some() && next.reason() != before.reason();
        ensure(!other, || format!("lease {id}: the first reason stands, but {before:?} becomes {next:?}"))?;
        told.state = next;
        told.stopped_at = told.stopped_at.or(stopped);
        let (host, partition, generation) = (told.host, told.partition, told.generation);
        if let (true, LeaseState::Ended { .. }) = (holds(before), next) {
            let held = self.holders.remove(&partition);
            ensure(held == Some(id), || format!("I1: {id} ends, but {held:?} holds its partition"))?;
            self.ended.insert(partition, generation);
            let speaker = self.speaker.get(&host).and_then(|number| computers.get(*number));
            if self.stolen.contains(&host) && speaker.is_some_and(|computer| !computer.original) {
                self.ended_by_copy.insert(partition, generation);
            }
            self.nothing_left(host, partition, generation, computers, "free")?;
        }
        Ok(())
    }

    /// I9: of a partition that is free, nothing runs and nothing is left, up to a generation.
    fn nothing_left(
        &self,
        host: HostId,
        partition: PartitionId,
        up_to: u64,
        computers: &[Computer],
        now: &str,
    ) -> Checked {
        if self.forgotten == Some(host) {
            return Ok(());
        }
        let stolen = self.stolen.contains(&host);
        let speaker = self.speaker.get(&host).copied();
        // What a copy of its disk does elsewhere no host can know; and where a copy speaks for the
        // host, it can only speak of itself.
        let is_meant = |c: &&Computer| if stolen { speaker == Some(c.number) } else { c.original };
        let meant = computers.iter().filter(|c| c.host == host).filter(is_meant);
        for computer in meant {
            let traces = computer.machines.simulated.traces();
            let ended = self.ended_by_copy.get(&partition).filter(|_| computer.original);
            let since = ended.copied().unwrap_or(0);
            let left = traces.iter().find(|(p, g, _)| *p == partition && *g > since && *g <= up_to);
            if let Some((_, generation, live)) = left {
                let what = if *live { "runs" } else { "is not wiped" };
                return ensure(false, || {
                    format!(
                        "I9: {partition} is {now}, but generation {generation} {what} on computer {}",
                        computer.number
                    )
                });
            }
        }
        Ok(())
    }

    /// I3: what is held does not change; a generation's allocations only follow each other.
    fn allocated(&mut self, partition: PartitionId, allocation: Allocation) -> Checked {
        let before = self.allocations.insert(partition, allocation);
        let rises = before.is_none_or(|b| (allocation.generation, allocation.revision) > (b.generation, b.revision));
        ensure(rises, || format!("I3: {partition} has {allocation:?} after {before:?}"))?;
        let holder = self.holders.get(&partition);
        ensure(holder.is_none(), || format!("I3: {partition} is altered to {allocation:?} while {holder:?} holds it"))
    }

    /// I5: billed once, receipted, within the term, plausible, for no longer than it really ran; and
    /// for no less than the host has a right to.
    fn charged(&mut self, row: &ChargeRow, computers: &[Computer], now: At) -> Checked {
        let id = row.lease;
        let Some(told) = self.leases.get_mut(&id) else { return unknown(id) };
        ensure(!told.charged, || format!("I5: lease {id} is billed twice"))?;
        told.charged = true;
        let billed = row.charge.billed_seconds.0;
        self.billed += billed;
        let receipted = told.receipt.map_or(0, |(_, seconds, _)| seconds.0);
        let runs = matches!(told.state, LeaseState::Granted { .. } | LeaseState::Active { .. });
        ensure(!runs, || format!("I5: lease {id} is billed while it runs"))?;
        ensure(billed <= receipted, || format!("I5: lease {id} is billed {billed} s, receipted are {receipted}"))?;
        ensure(billed <= told.term.0, || format!("I5: lease {id} is billed {billed} s of a term of {}", told.term))?;
        let seen = told.stopped_at.map_or(i64::MAX, |stopped| (stopped.0 - told.granted_at.0).div_euclid(1_000_000));
        ensure(billed <= seen.saturating_add(11), || {
            format!("I5: lease {id} is billed {billed} s, but the market saw it for {seen}")
        })?;
        let of_host = computers.iter().filter(|c| c.host == told.host);
        let ran = of_host.filter_map(|c| c.truth.ran_for(id, c.clock.now(now).mono_us)).max().unwrap_or(0);
        ensure(billed <= ran, || format!("I5: lease {id} is billed {billed} s, but it ran for {ran}"))?;
        ensure(billed <= told.paid.0, || format!("I4: lease {id} is billed {billed} s, paid are {}", told.paid))?;
        let due = receipted.min(told.term.0).min(told.paid.0).min(seen);
        ensure(billed >= due, || format!("I5: lease {id} is billed {billed} s, though {due} are due"))?;
        let waited = told.stopped_at.map_or(0, |stopped| (row.settled_at.0 - stopped.0).div_euclid(1_000_000));
        let is_complete = told.receipt.map_or(!told.was_ready, |(.., last)| last);
        ensure(is_complete || waited >= 3600, || {
            format!("I5: lease {id} is billed {waited} s after its end, and its last receipt is not there")
        })?;
        priced(row, told.agreed)
    }

    /// I1, I3 over the rows as they stand.
    pub fn rows(&self, tables: &Tables) -> Checked {
        let mut holders: BTreeMap<PartitionId, LeaseId> = BTreeMap::new();
        for lease in tables.leases.values().filter(|lease| holds(lease.state)) {
            if let Some(other) = holders.insert(lease.partition, lease.id) {
                return ensure(false, || format!("I1: {} and {other} both hold {}", lease.id, lease.partition));
            }
            let has = tables.partitions.get(&lease.partition).map(|p| p.allocation);
            let terms = lease.terms();
            ensure(
                has.is_some_and(|has| {
                    (has.generation, has.resources, has.vcpus) == (lease.generation, terms.resources, terms.vcpus)
                }),
                || {
                    format!(
                        "I3: {} holds {}, which has {has:?} instead of {:?}",
                        lease.id, lease.partition, terms.resources
                    )
                },
            )?;
        }
        ensure(holders == self.holders, || {
            format!("I1: the events say that {:?} hold, the rows say {holders:?}", self.holders)
        })
    }

    /// What was seen on the way, by whoever could not say it.
    pub fn hosts_quickly(&self, computers: &[Computer]) -> Checked {
        if let Some(found) = &self.found {
            return Err(found.clone());
        }
        for computer in computers {
            ensure(computer.truth.wrongs.is_empty(), || computer.truth.wrongs.join("; "))?;
            if let Some((partition, running, wanted)) = computer.truth.clashes.first() {
                return ensure(false, || format!("I2: {partition} was to run generation {wanted} while {running} ran"));
            }
        }
        Ok(())
    }

    /// I3 on the hosts: what their disks say of a generation that is held is what was agreed.
    pub fn hosts(&self, computers: &[Computer]) -> Checked {
        for computer in computers {
            if self.stolen.contains(&computer.host) || self.forgotten == Some(computer.host) {
                continue;
            }
            let applied = computer.store.applied().map_err(|e| Violation { what: format!("a host's disk: {e}") })?;
            for (partition, has) in applied {
                let holder = self.holders.get(&partition).and_then(|id| self.leases.get(id));
                if let Some(told) = holder.filter(|told| told.generation == has.generation) {
                    let agreed = (told.agreed, told.vcpus);
                    ensure((has.resources, has.vcpus) == agreed, || {
                        format!("I3: {partition} has {has:?} on its host, but {agreed:?} is agreed")
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a lease in this state holds its partition: said here once more, for what is checked must
/// not be asked.
fn holds(state: LeaseState) -> bool {
    !matches!(state, LeaseState::Ended { .. })
}

fn unknown(lease: LeaseId) -> Checked {
    ensure(false, || format!("lease {lease} was never granted, but something happens to it"))
}

/// What so many seconds cost, set-up included.
pub(super) fn cost(agreed: Resources, span: Seconds) -> i128 {
    let (rate, setup) = super::prices(agreed);
    let scaled = rate * i128::from(span.0);
    let whole = 1000 * 1024 * 3600;
    let (quotient, rest) = (scaled / whole, scaled % whole);
    let up = rest * 2 > whole || (rest * 2 == whole && quotient % 2 == 1);
    setup + quotient + i128::from(up)
}

/// The price, computed once more: in thousandths of a core times 1024ths of a GiB times hours.
fn priced(row: &ChargeRow, agreed: Resources) -> Checked {
    let charge = &row.charge;
    let was_ready = charge.setup.0 > 0;
    let total = if was_ready { cost(agreed, charge.billed_seconds) } else { 0 };
    ensure(i128::from(charge.total.0) == total, || {
        format!("I5: lease {} costs {:?}, but {total} micros by another reckoning", row.lease, charge.total)
    })
}
