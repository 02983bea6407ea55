//! One run: everything under one seed, one event after the other, every check after every step.

mod compare;
mod post;
mod serving;

use super::check::{Check, Checked, Violation, ensure};
use super::client::Client;
use super::computer::{Computer, Effects, Wake};
use super::database::Database;
use super::faults::{Coverage, Fault, Mood, state_index};
use super::market::{Inbound, Market, Outbound, TICK};
use super::network::Link;
use super::random::Random;
use super::time::{At, MILLISECOND, SECOND};
use super::trace::Trace;
use super::trouble::Trouble;
use std::collections::BTreeMap;
use sublet_market::engine::State;
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

/// Whether it runs on a host that says nothing.
pub(super) fn is_silent(state: LeaseState) -> bool {
    matches!(state, LeaseState::Active { silent_since: Some(_), .. })
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

/// So many times as much goes wrong where a lease is silent: it is for a short time only.
pub(super) const HURRY: u64 = 6;
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
        self.audit_books()?;
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

    /// The mood of the host of a lease may be another one now.
    fn hurry(&mut self, lease: LeaseId) {
        let Some(host) = self.check.leases.get(&lease).map(|told| told.host) else { return };
        if let Some(number) = self.computers.iter().position(|c| c.host == host && c.original) {
            self.set_mood(number);
        }
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

    /// A number that stands for the whole run.
    pub(super) fn digest(&mut self) -> u64 {
        let tables = format!("{:?}", self.published.tables());
        self.trace.note(self.now, &tables);
        self.trace.digest()
    }
}
