//! Whose turn it is: requests that stand come before those that came later; see `standing.rs`.

use super::{Decided, Engine};
use crate::engine::change::Change;
use crate::engine::command::{Command, Idempotency, Outcome, Refusal, Rent, Reply};
use crate::engine::draft::Draft;
use crate::engine::rent;
use crate::engine::standing::{Asked, Freed};
use std::collections::BTreeSet;
use sublet_model::ids::HostId;
use sublet_model::lease::LeaseState;
use sublet_model::units::Timestamp;
use sublet_wire::problem::Kind;

impl Engine {
    /// Rents, or lets the request stand, or says how it stands.
    pub(super) fn rent(
        &mut self,
        decided: &mut Decided,
        rent: &Rent,
        once: Option<&Idempotency>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let stood = once.map_or(Asked::Unknown, |once| self.standing.ask(once, now));
        let mut tried = BTreeSet::new();
        match stood {
            Asked::Refused(refusal) => Err(refusal),
            Asked::Stands(place) => match self.try_standing(decided, place, now, &mut tried) {
                Ok(reply) => Ok(reply),
                Err(refusal) if refusal.kind == Kind::NoMatch => Ok(self.stands(place)),
                Err(refusal) => {
                    self.standing.remove(place);
                    Err(refusal)
                }
            },
            Asked::Unknown => {
                let refusal = match self.in_turn(decided, rent, once, u64::MAX, now, &mut tried) {
                    Ok(reply) => return Ok(reply),
                    Err(refusal) => refusal,
                };
                let Some(once) = once else { return Err(refusal) };
                let place = self.standing.enter(rent, once, refusal, now)?;
                Ok(self.stands(place))
            }
        }
    }

    fn stands(&self, place: u64) -> Reply {
        // It is there: its place was just looked up.
        self.standing.stands(place).map_or(Reply::Outcome(Outcome::Done), Reply::Stands)
    }

    /// Grants, but first tries those that came before `place` and could use what would be taken.
    fn in_turn(
        &mut self,
        decided: &mut Decided,
        rent: &Rent,
        once: Option<&Idempotency>,
        place: u64,
        now: Timestamp,
        tried: &mut BTreeSet<u64>,
    ) -> Result<Reply, Refusal> {
        while let Some(earlier) = self.goes_first(rent, place, now, tried)? {
            tried.insert(earlier);
            // Refused, it stands on: then it is no hindrance.
            let _ = self.try_standing(decided, earlier, now, tried);
        }
        self.run(decided, &Command::Rent(Box::new(rent.clone())), once, now)
    }

    /// The first of the earlier ones, not tried yet, that anything fits where this one would be granted.
    fn goes_first(
        &mut self,
        rent: &Rent,
        place: u64,
        now: Timestamp,
        tried: &BTreeSet<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let mut waiting = self.standing.waiting(place, now);
        waiting.retain(|earlier| !tried.contains(earlier));
        if waiting.is_empty() {
            return Ok(None);
        }
        let mut draft = Draft::new(&mut self.state, &self.keys, now);
        let decided = rent::decide(&mut draft, rent);
        let hosts = rent.ids.iter().filter_map(|id| draft.lease(*id)).map(|lease| lease.host).collect();
        draft.abandon();
        decided?;
        Ok(waiting.into_iter().find(|earlier| self.standing.fits_on(*earlier, &self.state, &hosts, now)))
    }

    /// Tries one that stands.
    fn try_standing(
        &mut self,
        decided: &mut Decided,
        place: u64,
        now: Timestamp,
        tried: &mut BTreeSet<u64>,
    ) -> Result<Reply, Refusal> {
        tried.insert(place);
        let unknown = || Refusal::not_found("such request");
        let (rent, once) = self.standing.entry(place).map(|e| (e.rent.clone(), e.once.clone())).ok_or_else(unknown)?;
        let granted = self.in_turn(decided, &rent, Some(&once), place, now, tried);
        match &granted {
            Ok(_) => {
                self.standing.granted(place, true);
                decided.served.push(place);
            }
            Err(refusal) => self.standing.tried(place, refusal.clone()),
        }
        granted
    }

    /// Offers what came free to those that stand, oldest first.
    pub(in crate::engine) fn serve_standing(&mut self, decided: &mut Decided, now: Timestamp) {
        let Some(freed) = self.standing.take_freed(now) else { return };
        let mut tried = BTreeSet::new();
        for place in self.standing.waiting(u64::MAX, now) {
            let hopeful = match &freed {
                Freed::Everywhere => true,
                Freed::On(hosts) => self.standing.fits_on(place, &self.state, hosts, now),
            };
            if hopeful && !tried.contains(&place) {
                let _ = self.try_standing(decided, place, now, &mut tried);
            }
        }
    }

    /// Whether a command comes from a host that may get new grants already.
    pub(super) fn hears_fresh(&self, command: &Command, now: Timestamp) -> bool {
        match command {
            Command::Sync { host, .. } => self.state.live(*host).is_some_and(|live| live.is_fresh(now)),
            _ => true,
        }
    }

    /// Notes where these changes may have made room for one that stands.
    pub(super) fn note_freed(&mut self, changes: &[Change], was_fresh: bool) {
        use Change as C;
        if self.standing.is_empty() {
            return;
        }
        for change in changes {
            let host: Option<HostId> = match change {
                C::LeaseMoved { lease, state: LeaseState::Ended { .. }, .. } => {
                    self.state.lease(*lease).map(|lease| lease.host)
                }
                C::Allocation { partition, .. } => self.state.partition(*partition).map(|row| row.host),
                // Partitions come, go and change with these, or with the end of a lease.
                C::HostMeasured { host, .. } | C::HostDivided { host, .. } | C::HostSuspended { host, .. } => {
                    Some(*host)
                }
                C::Heard { host, .. } if !was_fresh => Some(*host),
                C::AccountSuspended { .. } | C::Image(_) | C::ImageSuspended { .. } => {
                    self.standing.anything_may_fit();
                    None
                }
                _ => None,
            };
            host.into_iter().for_each(|host| self.standing.freed(host));
        }
    }
}
