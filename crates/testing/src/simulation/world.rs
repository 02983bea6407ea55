//! One run: everything under one seed, one event after the other, every check after every step.

mod compare;

use super::check::{Check, Checked, Violation, ensure};
use super::client::Client;
use super::computer::{Computer, Effects, Wake};
use super::database::{Database, Upset};
use super::faults::{Coverage, Fault, Mood, state_index};
use super::market::{Answer, Inbound, Market, Outbound, TICK, TURN, Turn};
use super::network::{Link, way};
use super::random::Random;
use super::time::{At, MILLISECOND, SECOND};
use super::trace::Trace;
use super::trouble::Trouble;
use std::collections::BTreeMap;
use sublet_market::engine::State;
use sublet_market::engine::change::Change;
use sublet_market::engine::command::Command;
use sublet_market::engine::commit::Commit;
use sublet_model::ids::{HostId, LeaseId, PartitionId};
use sublet_model::lease::LeaseState;
use sublet_model::units::Seconds;

/// The shortest run, in true time, before everything heals.
pub const LEAST: At = 600 * SECOND;
/// The fewest leases of a run.
pub const LEASES: usize = 20;
/// Where so many leases never come together, something is wrong with the simulation itself.
const LONGEST: At = 2 * 3600 * SECOND;
/// So long after everything healed, everything has to have reached its end. The last receipt of a
/// lease is waited for for an hour.
const PATIENCE: At = 3 * 3600 * SECOND;
/// How often everything is compared that takes longer.
const AUDIT_EVERY: At = 60 * SECOND;

/// Something that happens.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "most of them are messages")]
pub(super) enum Event {
    /// A message arrives at the market, over a link.
    Up { link: usize, number: u64, inbound: Inbound },
    /// An answer arrives.
    Down { link: usize, number: u64, outbound: Outbound },
    /// The market looks at what came; in this life of it.
    Turn(u64),
    /// Time passes for it.
    Tick(u64),
    /// A computer wakes; in this life of its agent.
    Computer(usize, u64, Wake),
    /// A client acts.
    Client(usize),
    /// Somebody does something at the door of a lease's partition.
    Visit(LeaseId, Visit),
    /// Something goes wrong, or what went wrong is over.
    Trouble(Trouble),
    /// Everything is compared.
    Audit,
}

/// What a client does at the door.
#[derive(Debug, Clone, Copy)]
pub(super) enum Visit {
    Comes,
    Leaves,
    JobEnds,
}

/// Everything.
pub struct World {
    pub(super) now: At,
    queue: BTreeMap<(At, u64), Event>,
    count: u64,
    pub(super) random: Random,
    net: Random,
    pub(super) mood: Mood,
    pub(super) healed: Option<At>,
    pub(super) db: Database,
    pub(super) market: Option<Market>,
    pub(super) market_life: u64,
    pub(super) market_wrong: i64,
    published: State,
    turn_planned: bool,
    /// When the next held sync is let go.
    held_turn: Option<At>,
    pub(super) computers: Vec<Computer>,
    /// One a computer, then one for all clients.
    pub(super) links: BTreeMap<usize, Link>,
    pub(super) clients: Vec<Client>,
    pub(super) check: Check,
    terms: BTreeMap<LeaseId, Seconds>,
    acknowledged: BTreeMap<LeaseId, u64>,
    /// What went wrong, and what it met.
    pub coverage: Coverage,
    pub(super) trace: Trace,
    /// How often the market committed, or tried to.
    pub turns: u64,
    /// Whether nothing but bills is waited for.
    only_bills_remain: bool,
    /// A host that never comes back.
    pub(super) dead: Option<HostId>,
}

/// The link of all clients.
pub(super) const CLIENTS: usize = usize::MAX;

impl World {
    /// An empty world.
    pub(super) fn new(seed: u64, echo: bool) -> Result<Self, Violation> {
        let mut random = Random::new(seed);
        let mood = Mood::of(&mut random);
        let db = Database::empty().map_err(|e| Violation { what: format!("no database: {e}") })?;
        Ok(Self {
            now: 0,
            queue: BTreeMap::new(),
            count: 0,
            net: random.fork(),
            random,
            mood,
            healed: None,
            db,
            market: None,
            market_life: 0,
            market_wrong: 0,
            published: State::default(),
            turn_planned: false,
            held_turn: None,
            computers: Vec::new(),
            links: BTreeMap::new(),
            clients: Vec::new(),
            check: Check::default(),
            terms: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            coverage: Coverage::default(),
            trace: Trace::new(echo),
            turns: 0,
            only_bills_remain: false,
            dead: None,
        })
    }

    /// Runs until everything has reached its end. Answers how long that took.
    pub(super) fn run(&mut self) -> Result<At, Violation> {
        self.at(self.now + AUDIT_EVERY, Event::Audit);
        for client in 0..self.clients.len() {
            self.at(self.now + client as At * SECOND, Event::Client(client));
        }
        self.next_trouble();
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = self.now.max(at);
            self.happen(event)?;
            match self.healed {
                None if self.now >= LEAST && self.check.leases.len() >= LEASES => self.heal(),
                None => ensure(self.now < LONGEST, || format!("only {} leases in hours", self.check.leases.len()))?,
                Some(_) if self.is_at_rest() => break,
                Some(since) => ensure(self.now < since + PATIENCE, || self.unfinished())?,
            }
        }
        self.audit()?;
        Ok(self.now)
    }

    pub(super) fn at(&mut self, at: At, event: Event) {
        self.count += 1;
        self.queue.insert((at.max(self.now), self.count), event);
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Up { link, number, inbound } => self.arrive(link, number, inbound),
            Event::Down { link, number, outbound } => return self.answered(link, number, outbound),
            Event::Turn(life) if life == self.market_life => {
                self.turn_planned = false;
                self.held_turn = self.held_turn.filter(|until| *until > self.now);
                return self.turn();
            }
            Event::Tick(life) if life == self.market_life && self.market.is_some() => {
                self.at(self.now + self.tick_every(), Event::Tick(life));
                self.give(Inbound::Tick);
            }
            Event::Turn(_) | Event::Tick(_) => {}
            Event::Computer(number, life, wake) => {
                if self.only_bills_remain {
                    self.at(self.now + 60 * SECOND, Event::Computer(number, life, wake));
                } else if let Some((until, _)) = self.computers[number].asleep {
                    self.at(until + MILLISECOND, Event::Computer(number, life, wake));
                } else {
                    self.with(number, |computer, now, effects| computer.wake(now, life, wake, effects));
                }
            }
            Event::Client(number) => self.client(number),
            Event::Visit(lease, visit) => self.visit(lease, visit),
            Event::Trouble(trouble) => self.trouble(trouble),
            Event::Audit => {
                self.at(self.now + AUDIT_EVERY, Event::Audit);
                self.audit()?;
                let over = |told: &super::check::Told| matches!(told.state, LeaseState::Ended { .. });
                self.only_bills_remain = self.healed.is_some_and(|since| self.now > since + 120 * SECOND)
                    && self.check.leases.values().all(over)
                    && self.hosts_are_at_rest();
            }
        }
        self.check.hosts_quickly(&self.computers)
    }

    /// Once nothing runs any more and only last receipts are waited for that nobody has, hosts may
    /// sleep and seconds do not matter.
    fn tick_every(&self) -> At {
        if self.only_bills_remain { 60 * TICK } else { TICK }
    }

    /// Lets a computer do something, and does what follows from it.
    pub(super) fn with(&mut self, number: usize, act: impl FnOnce(&mut Computer, At, &mut Effects)) {
        let mut effects = Effects::default();
        act(&mut self.computers[number], self.now, &mut effects);
        self.follow(number, effects);
    }

    pub(super) fn follow(&mut self, number: usize, effects: Effects) {
        let host = self.computers[number].host;
        for note in effects.notes {
            self.note(&note);
        }
        for (at, life, wake) in effects.wakes {
            self.at(at, Event::Computer(number, life, wake));
        }
        for partition in effects.failed {
            self.met_in(Fault::MachineFailed, partition);
        }
        for (caller, ask) in effects.asks {
            self.send_up(number, Some(host), Inbound::Host(caller, host, ask));
        }
        if effects.killed {
            self.met(Fault::AgentKilledMidway, Some(host));
            self.note(&format!("computer {number}: its agent is killed amid a step"));
            let after = self.random.between(SECOND / 2, 10 * SECOND);
            self.at(self.now + after, Event::Trouble(Trouble::AgentStarts(number)));
        }
    }

    /// Notes a fault, and which leases it met: those of a host, or all.
    pub(super) fn met(&mut self, fault: Fault, host: Option<HostId>) {
        self.coverage.times[fault.index()] += 1;
        self.meets(fault, host);
    }

    /// A fault that goes on meets leases again.
    pub(super) fn meets(&mut self, fault: Fault, host: Option<HostId>) {
        for told in self.check.leases.values().filter(|told| host.is_none_or(|host| told.host == host)) {
            self.coverage.met[fault.index()][state_index(told.state)] += 1;
        }
    }

    /// A fault of one partition.
    fn met_in(&mut self, fault: Fault, partition: PartitionId) {
        self.coverage.times[fault.index()] += 1;
        for told in self.check.leases.values().filter(|told| told.partition == partition) {
            self.coverage.met[fault.index()][state_index(told.state)] += 1;
        }
    }

    pub(super) fn note(&mut self, what: &str) {
        self.trace.note(self.now, what);
    }

    fn send_up(&mut self, link: usize, host: Option<HostId>, inbound: Inbound) {
        let (cut, number) = self.enter(link);
        if let Some(fault) = cut {
            return self.meets(fault, host);
        }
        for takes in self.ways(host, link) {
            self.at(self.now + takes, Event::Up { link, number, inbound: inbound.clone() });
        }
    }

    fn send_down(&mut self, link: usize, host: Option<HostId>, outbound: Outbound) {
        let (cut, number) = self.enter(link);
        if let Some(fault) = cut {
            return self.meets(fault, host);
        }
        for takes in self.ways(host, link) {
            self.at(self.now + takes, Event::Down { link, number, outbound: outbound.clone() });
        }
    }

    fn enter(&mut self, link: usize) -> (Option<Fault>, u64) {
        let link = self.links.entry(link).or_default();
        (link.cut, link.number())
    }

    fn ways(&mut self, host: Option<HostId>, link: usize) -> Vec<At> {
        let way = way(&mut self.net, &self.mood, link != CLIENTS);
        for fault in way.faults {
            self.note(fault.words());
            self.met(fault, host);
        }
        way.copies
    }

    /// Something reached the market.
    fn arrive(&mut self, link: usize, number: u64, inbound: Inbound) {
        let host = self.computers.get(link).map(|computer| computer.host);
        let known = self.links.entry(link).or_default();
        if let Some(fault) = known.cut {
            return self.meets(fault, host);
        }
        if known.arrived(number) && link != CLIENTS {
            self.met(Fault::Reordered, host);
        }
        if self.market.is_some() {
            return self.give(inbound);
        }
        // Nobody listens: that is known at once.
        if let Inbound::Host(caller, ..) = inbound {
            self.send_down(link, host, Outbound::Host(caller, Answer::Away));
        }
    }

    /// Gives the market something to decide.
    pub(super) fn give(&mut self, inbound: Inbound) {
        let Some(market) = &mut self.market else { return };
        market.take(inbound);
        if !self.turn_planned {
            self.turn_planned = true;
            self.at(self.now + TURN, Event::Turn(self.market_life));
        }
    }

    /// An answer reached whoever asked.
    fn answered(&mut self, link: usize, number: u64, outbound: Outbound) -> Checked {
        let known = self.links.entry(link).or_default();
        let (cut, overtaken) = (known.cut, known.arrived(number));
        match outbound {
            Outbound::Client(client, attempt, outcome) => match cut {
                Some(fault) => self.meets(fault, None),
                None => self.clients[client].hear(attempt, outcome)?,
            },
            Outbound::Host(caller, answer) => {
                let host = self.computers[link].host;
                if overtaken {
                    self.met(Fault::Reordered, Some(host));
                }
                match cut {
                    Some(fault) => self.meets(fault, Some(host)),
                    None if self.computers[link].asleep.is_some() => {}
                    None => self.with(link, |computer, now, effects| computer.hear(now, caller, answer, effects)),
                }
            }
        }
        self.check.hosts_quickly(&self.computers)
    }

    /// The market decides.
    fn turn(&mut self) -> Checked {
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
    fn upset(&mut self) -> Option<(Upset, Fault)> {
        if !self.random.chance(self.mood.commits) {
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
    fn publish(&mut self, turn: Turn) -> Checked {
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
    fn spoke(&mut self, host: HostId, session: u64, computer: usize) {
        self.check.speaker.insert(host, computer);
        if !self.computers[computer].original && !self.check.stolen.contains(&host) {
            self.note(&format!("computer {computer} speaks for {host} in session {session}: a copy was quicker"));
            self.check.stolen.push(host);
        }
    }

    fn committed(&mut self, changes: &[Change]) -> Checked {
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

    /// Somebody may come to the partition of a lease that became ready.
    fn invite(&mut self, lease: LeaseId) {
        if self.random.chance(300) {
            return;
        }
        let comes = self.now + self.random.between(SECOND / 10, 8 * SECOND);
        self.at(comes, Event::Visit(lease, Visit::Comes));
        let ends = comes + self.random.between(SECOND, 60 * SECOND);
        let how = if self.random.chance(500) { Visit::JobEnds } else { Visit::Leaves };
        self.at(ends, Event::Visit(lease, how));
    }

    fn visit(&mut self, lease: LeaseId, visit: Visit) {
        let Some(told) = self.check.leases.get(&lease) else { return };
        let (host, partition, generation) = (told.host, told.partition, told.generation);
        let Some(number) = self.computers.iter().position(|c| c.host == host && c.original) else { return };
        if self.computers[number].asleep.is_some() {
            return;
        }
        self.with(number, |computer, now, effects| match visit {
            Visit::Comes => computer.client(now, partition, Some(generation), effects),
            Visit::Leaves => computer.client(now, partition, None, effects),
            Visit::JobEnds => computer.job_ended(now, partition, generation, effects),
        });
    }

    fn client(&mut self, number: usize) {
        let may_rent = self.healed.is_none();
        let (sending, again) = self.clients[number].act(self.now, may_rent);
        if may_rent || self.clients[number].waits() || self.now < self.healed.unwrap_or(0) + 600 * SECOND {
            self.at(again, Event::Client(number));
        }
        let Some(sending) = sending else { return };
        for id in &sending.ids {
            self.check.asked.insert(*id, (number, sending.key.clone()));
        }
        // What it is about stands for which leases the message meets.
        let host = sending.about.and_then(|lease| self.check.leases.get(&lease)).map(|told| told.host);
        self.send_up(CLIENTS, host, Inbound::Client(number, sending.attempt, sending.request));
    }

    /// The market is gone, as by `kill -9`: what it held in memory is gone with it.
    pub(super) fn market_ends(&mut self) {
        self.market = None;
        self.market_life += 1;
        (self.turn_planned, self.held_turn) = (false, None);
        let away = if self.random.chance(100) { (20, 100) } else { (0, 8) };
        let back = self.random.between(away.0 * SECOND + 50 * MILLISECOND, away.1 * SECOND);
        self.at(self.now + back, Event::Trouble(Trouble::MarketStarts));
    }

    /// A market starts over what the database holds, which is exactly what was committed (I6, I7).
    pub(super) fn market_starts(&mut self) -> Checked {
        if self.market.is_some() {
            return Ok(());
        }
        let unheard = std::mem::take(&mut self.db.unheard);
        unheard.iter().for_each(|change| drop(self.published.apply(change)));
        self.committed(&unheard)?;
        self.compare()?;
        let broken = |e: sublet_market::engine::commit::CommitError| Violation { what: format!("no start: {e}") };
        let market = Market::start(&mut self.db, self.now, self.market_wrong).map_err(broken)?;
        self.published = market.state().clone();
        self.market = Some(market);
        self.market_life += 1;
        (self.turn_planned, self.held_turn) = (false, None);
        self.note("the market starts");
        self.at(self.now + TICK, Event::Tick(self.market_life));
        Ok(())
    }

    /// Writes what everybody starts with, before anything can go wrong.
    pub(super) fn write(&mut self, rows: &[Change]) -> Checked {
        let at = sublet_model::units::Timestamp(super::time::BEGINNING);
        let done = self.db.commit(at, &rows.iter().collect::<Vec<_>>());
        done.map_err(|e| Violation { what: format!("the first rows: {e}") })?;
        let tables = self.db.rows().map_err(|e| Violation { what: e.to_string() })?;
        self.published = State::new(tables);
        Ok(())
    }

    /// The operator says something, and it is done before anything else happens.
    pub(super) fn word(&mut self, command: Command) -> Checked {
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

    /// A number that stands for the whole run.
    pub(super) fn digest(&mut self) -> u64 {
        let tables = format!("{:?}", self.published.tables());
        self.trace.note(self.now, &tables);
        self.trace.digest()
    }
}
