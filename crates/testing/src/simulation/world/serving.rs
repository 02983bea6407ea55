//! The market's turns: how its commits go wrong, and what is checked and told of what it committed.

use super::super::check::{Checked, Violation, ensure};
use super::super::database::Upset;
use super::super::faults::Fault;
use super::super::market::{Answer, Inbound, Market, Outbound, TICK, TURN, Turn};
use super::super::time::{BEGINNING, MILLISECOND, SECOND};
use super::super::trouble::Trouble;
use super::{CLIENTS, Event, HURRY, World, is_silent};
use sublet_market::engine::State;
use sublet_market::engine::change::Change;
use sublet_market::engine::command::Command;
use sublet_market::engine::commit::Commit;
use sublet_model::ids::HostId;
use sublet_model::lease::LeaseState;

impl World {
    /// The market decides.
    pub(super) fn turn(&mut self) -> Checked {
        let Some(mut market) = self.market.take() else { return Ok(()) };
        let upset = self.upset();
        self.db.next = upset.map(|(upset, _)| upset);
        let outcome = market.turn(&mut self.db, self.now);
        // Noted before what came of it, and though the power may have gone.
        for (host, session, computer) in std::mem::take(&mut market.spoke) {
            self.spoke(host, session, computer);
        }
        self.turns += 1;
        let fired = upset.filter(|_| self.db.next.take().is_none());
        if let Some((_, fault)) = fired {
            self.note(fault.words());
            self.met(fault, None);
        }
        let turn = match outcome {
            Ok(turn) => turn,
            Err(why) => {
                self.note(&format!("the market must end: {why}"));
                self.market_ends();
                return Ok(());
            }
        };
        if turn.reloaded {
            self.published = market.state().clone();
        }
        let more = market.has_work();
        self.market = Some(market);
        if more {
            self.turn_planned = true;
            self.at(self.now + TURN, Event::Turn(self.market_life));
        }
        self.publish(turn)
    }

    /// How the next commit goes wrong, if it does.
    pub(super) fn upset(&mut self) -> Option<(Upset, Fault)> {
        let silent = |told: &super::super::check::Told| is_silent(told.state);
        let times = if self.check.leases.values().any(silent) { HURRY } else { 1 };
        if !self.random.chance(self.mood.commits * times) {
            return None;
        }
        let kinds = [
            (Upset::Busy, Fault::CommitBusy),
            (Upset::CutBefore, Fault::CommitLost),
            (Upset::CutAfter, Fault::CommitUnanswered),
            (Upset::Edited, Fault::Edited),
        ];
        let on: Vec<_> = kinds.into_iter().filter(|(_, fault)| self.mood.has(*fault)).collect();
        self.random.pick(&on).copied()
    }

    /// What was committed is checked, and told.
    pub(super) fn publish(&mut self, turn: Turn) -> Checked {
        if let Some(until) = turn.held_until.filter(|until| self.held_turn.is_none_or(|known| *until < known)) {
            self.held_turn = Some(until);
            self.at(until, Event::Turn(self.market_life));
        }
        if !turn.reloaded {
            turn.changes.iter().for_each(|change| drop(self.published.apply(change)));
        }
        self.committed(&turn.changes)?;
        for outbound in turn.out {
            if let Outbound::Client(_, _, Err(refusal)) = &outbound {
                let internal = refusal.kind == sublet_wire::problem::Kind::Internal;
                ensure(!internal, || format!("the engine decides what the database refuses: {}", refusal.detail))?;
            }
            match outbound {
                Outbound::Host(caller, answer) => {
                    if let Answer::Sync(answer) = &answer {
                        for known in &answer.acknowledged {
                            let newest = self.acknowledged.entry(known.lease).or_default();
                            *newest = known.seq.max(*newest);
                        }
                    }
                    let host = self.computers[caller.computer].host;
                    self.send_down(caller.computer, Some(host), Outbound::Host(caller, answer));
                }
                client => self.send_down(CLIENTS, None, client),
            }
        }
        Ok(())
    }

    /// A computer spoke for a host, in a session that the market took for the newest.
    pub(super) fn spoke(&mut self, host: HostId, session: u64, computer: usize) {
        self.check.speaker.insert(host, computer);
        if !self.computers[computer].original && !self.check.stolen.contains(&host) {
            self.note(&format!("computer {computer} speaks for {host} in session {session}: a copy was quicker"));
            self.check.stolen.push(host);
        }
    }

    pub(super) fn committed(&mut self, changes: &[Change]) -> Checked {
        self.check.committed(changes, &self.computers, self.now)?;
        for change in changes {
            match change {
                Change::Lease(lease) => {
                    self.terms.insert(lease.id, lease.term_seconds);
                    self.note(&format!("{} granted {} generation {}", lease.id, lease.partition, lease.generation));
                }
                Change::LeaseMoved { lease, state, .. } => {
                    self.note(&format!("{lease} is {state:?}"));
                    if matches!(state, LeaseState::Active { silent_since: None, .. }) {
                        self.invite(*lease);
                    }
                    if is_silent(*state) {
                        self.trouble_soon();
                    }
                    self.hurry(*lease);
                }
                Change::Charge(row) => {
                    self.note(&format!("{} costs {:?}", row.lease, row.charge.total));
                }
                _ => {}
            }
        }
        if changes.iter().any(|change| !change.is_ephemeral()) {
            self.check.rows(self.published.tables())?;
        }
        Ok(())
    }

    /// The market is gone, as by `kill -9`: what it held in memory is gone with it.
    pub(in super::super) fn market_ends(&mut self) {
        self.market = None;
        self.market_life += 1;
        (self.turn_planned, self.held_turn) = (false, None);
        let away = if self.random.chance(100) { (20, 100) } else { (0, 8) };
        let back = self.random.between(away.0 * SECOND + 50 * MILLISECOND, away.1 * SECOND);
        self.at(self.now + back, Event::Trouble(Trouble::MarketStarts));
    }

    /// A market starts over what the database holds, which is exactly what was committed (I6, I7).
    pub(in super::super) fn market_starts(&mut self) -> Checked {
        if self.market.is_some() {
            return Ok(());
        }
        let unheard = std::mem::take(&mut self.db.unheard);
        unheard.iter().for_each(|change| drop(self.published.apply(change)));
        self.committed(&unheard)?;
        let broken = |e: sublet_market::engine::commit::CommitError| Violation { what: format!("no start: {e}") };
        let market = Market::start(&mut self.db, self.now, self.market_wrong).map_err(broken)?;
        self.compare_with(market.state().tables())?;
        self.audit_books()?;
        self.market = Some(market);
        self.market_life += 1;
        (self.turn_planned, self.held_turn) = (false, None);
        self.note("the market starts");
        self.at(self.now + TICK, Event::Tick(self.market_life));
        Ok(())
    }

    /// Writes what everybody starts with, before anything can go wrong.
    pub(in super::super) fn write(&mut self, rows: &[Change]) -> Checked {
        let at = sublet_model::units::Timestamp(BEGINNING);
        let done = self.db.commit(at, &rows.iter().collect::<Vec<_>>());
        done.map_err(|e| Violation { what: format!("the first rows: {e}") })?;
        let tables = self.db.rows().map_err(|e| Violation { what: e.to_string() })?;
        self.published = State::new(tables);
        Ok(())
    }

    /// The operator says something, and it is done before anything else happens.
    pub(in super::super) fn word(&mut self, command: Command) -> Checked {
        let Some(market) = &mut self.market else { return Ok(()) };
        market.take(Inbound::Word(command));
        let turn = market.turn(&mut self.db, self.now).map_err(|what| Violation { what })?;
        if let Some(Err(refusal)) = turn.words.first() {
            let refusal = refusal.to_string();
            self.note(&format!("the operator is refused: {refusal}"));
        }
        if turn.reloaded {
            self.published = self.market.as_ref().map(|m| m.state().clone()).unwrap_or_default();
        }
        self.publish(turn)
    }
}
