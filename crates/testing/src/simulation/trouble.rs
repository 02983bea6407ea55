//! The larger kinds of trouble: what they do, and how they end.

use super::computer::{Computer, Effects, Made};
use super::faults::{Fault, Mood};
use super::setup::{lending, operator};
use super::time::{At, MILLISECOND, SECOND};
use super::world::{CLIENTS, Event, World};
use sublet_host::division::{self, Which};
use sublet_market::engine::command::Command;
use sublet_model::ids::HostId;

/// Something that goes wrong, or is over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trouble {
    /// The next one, whichever it is.
    Next,
    /// One more, out of turn.
    Soon,
    MarketStarts,
    AgentStarts(usize),
    Joined(usize),
    ClientsJoined,
    Wakes(usize, At),
    RoomIsMade(usize),
    ClockIsSet(usize),
    CopyEnds(usize),
    OwnerLends(usize),
    OperatorLooks,
    OperatorForgets(HostId),
}

/// The kinds that come by themselves, one after the other.
const LARGE: [Fault; 14] = [
    Fault::Cut,
    Fault::Silent,
    Fault::ClientCut,
    Fault::MarketCrashed,
    Fault::MarketJumped,
    Fault::AgentKilled,
    Fault::HostRestarted,
    Fault::HostSlept,
    Fault::GuestDied,
    Fault::DiskFull,
    Fault::RateChanged,
    Fault::WallJumped,
    Fault::Cloned,
    Fault::OwnerTookBack,
];
/// After it was cut, a link stays bad for a while.
const SHAKY_FOR: At = 5 * SECOND;
/// How often the operator looks after what the market bars by itself.
const OPERATOR_EVERY: At = 60 * SECOND;

impl World {
    /// The next trouble comes after a while.
    pub(super) fn next_trouble(&mut self) {
        let after = self.random.between(SECOND, 2 * self.mood.pause * SECOND);
        self.at(self.now + after, Event::Trouble(Trouble::Next));
    }

    /// What is seldom draws trouble.
    pub(super) fn trouble_soon(&mut self) {
        if self.random.chance(400) {
            let after = self.random.between(0, 30 * SECOND);
            self.at(self.now + after, Event::Trouble(Trouble::Soon));
        }
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Next if self.healed.is_none() => {
                if let Some(fault) = self.mood.pick(&mut self.random, &LARGE) {
                    self.strike(fault);
                }
                self.next_trouble();
            }
            Trouble::Soon if self.healed.is_none() => {
                if let Some(fault) = self.mood.pick(&mut self.random, &LARGE) {
                    self.strike(fault);
                }
            }
            Trouble::Next | Trouble::Soon => {}
            Trouble::MarketStarts => self.failing(Self::market_starts),
            Trouble::AgentStarts(number) => self.agent_starts(number),
            Trouble::Joined(number) => self.join(number),
            Trouble::ClientsJoined => self.join(CLIENTS),
            Trouble::Wakes(number, since) => self.wake_up(number, since),
            Trouble::RoomIsMade(number) => {
                self.computers[number].store.forbid_writes(false);
                self.met_again(Fault::DiskFull, number);
            }
            Trouble::ClockIsSet(number) => self.computers[number].clock.set_wrong(0),
            Trouble::CopyEnds(number) => self.copy_ends(number),
            Trouble::OwnerLends(number) => self.owner_lends(number),
            Trouble::OperatorLooks => self.operator_looks(),
            Trouble::OperatorForgets(host) => {
                self.check.forgotten = Some(host);
                self.note(&format!("the operator forgets {host}"));
                self.failing(|world| world.word(Command::ForgetHost { actor: operator(), host }));
            }
        }
    }

    /// What fails here fails at the next check.
    pub(super) fn failing(&mut self, act: impl FnOnce(&mut Self) -> super::check::Checked) {
        if let Err(violation) = act(self) {
            self.check.found.get_or_insert(violation);
        }
    }

    fn met_again(&mut self, fault: Fault, number: usize) {
        let host = self.computers[number].host;
        self.meets(fault, Some(host));
    }

    fn strike(&mut self, fault: Fault) {
        let originals: Vec<usize> = self.computers.iter().filter(|c| c.original).map(|c| c.number).collect();
        let Some(number) = self.random.pick(&originals).copied() else { return };
        let host = self.computers[number].host;
        let struck = match fault {
            Fault::Cut => self.cut(number, fault, (1, 60)),
            Fault::Silent => self.silence(number),
            Fault::ClientCut => self.cut(CLIENTS, fault, (5, 40)),
            Fault::MarketCrashed => self.crash_market(false),
            Fault::MarketJumped => self.crash_market(true),
            Fault::AgentKilled => self.kill(number),
            Fault::HostRestarted => self.restart(number),
            Fault::HostSlept => self.sleep(number),
            Fault::GuestDied => self.kill_guest(number),
            Fault::DiskFull => self.fill(number),
            Fault::RateChanged => self.run_otherwise(number),
            Fault::WallJumped => self.jump(number),
            Fault::Cloned => self.random.chance(350) && self.copy(number),
            Fault::OwnerTookBack => self.take_back(number),
            _ => false,
        };
        if struck {
            self.note(&format!("trouble: {} (computer {number})", fault.words()));
            let of_all = matches!(fault, Fault::ClientCut | Fault::MarketCrashed | Fault::MarketJumped);
            self.met(fault, (!of_all).then_some(host));
        }
    }

    fn cut(&mut self, link: usize, fault: Fault, seconds: (i64, i64)) -> bool {
        let known = self.links.entry(link).or_default();
        if known.cut.is_some() {
            return false;
        }
        known.cut = Some(fault);
        let after = self.random.between(seconds.0 * SECOND, seconds.1 * SECOND);
        let end = if link == CLIENTS { Trouble::ClientsJoined } else { Trouble::Joined(link) };
        self.at(self.now + after, Event::Trouble(end));
        true
    }

    /// Long enough to be missed. Of several at once the market thinks that it is deaf itself.
    fn silence(&mut self, number: usize) -> bool {
        let silent = self.links.values().any(|link| link.cut == Some(Fault::Silent));
        !silent && self.cut(number, Fault::Silent, (70, 260))
    }

    fn join(&mut self, link: usize) {
        let known = self.links.entry(link).or_default();
        if let Some(fault) = known.cut.take() {
            known.shaky_until = self.now + SHAKY_FOR;
            let host = self.computers.get(link).map(|computer| computer.host);
            self.meets(fault, host);
            self.note(&format!("link {link} is whole again"));
        }
    }

    fn crash_market(&mut self, jumps: bool) -> bool {
        if self.market.is_none() {
            return false;
        }
        if jumps {
            // Backwards by any amount. A market that was far ahead once believes no host until true
            // time has caught up, for its time never goes back: so forwards by little.
            let most = if self.random.chance(900) { 25 } else { 180 };
            self.market_wrong = self.random.between(-3600, most) * SECOND;
            if self.random.chance(500) {
                self.market_wrong = self.random.between(0, most) * SECOND;
            }
        }
        self.market_ends();
        true
    }

    fn kill(&mut self, number: usize) -> bool {
        let computer = &mut self.computers[number];
        if computer.agent.is_none() || computer.asleep.is_some() {
            return false;
        }
        computer.kill_agent();
        let away = if self.random.chance(200) { (60, 200) } else { (0, 15) };
        let after = self.random.between(away.0 * SECOND + 200 * MILLISECOND, away.1 * SECOND);
        self.at(self.now + after, Event::Trouble(Trouble::AgentStarts(number)));
        true
    }

    fn restart(&mut self, number: usize) -> bool {
        if self.computers[number].asleep.is_some() {
            return false;
        }
        self.computers[number].restart(self.now);
        let after = self.random.between(5 * SECOND, 50 * SECOND);
        self.at(self.now + after, Event::Trouble(Trouble::AgentStarts(number)));
        true
    }

    fn agent_starts(&mut self, number: usize) {
        let computer = &self.computers[number];
        if computer.agent.is_some() || computer.asleep.is_some() || computer.is_off {
            return;
        }
        self.with(number, Computer::start_agent);
    }

    fn sleep(&mut self, number: usize) -> bool {
        if self.computers[number].asleep.is_some() {
            return false;
        }
        let until = self.now + self.random.between(2 * SECOND, 100 * SECOND);
        self.computers[number].asleep = Some((until, self.now));
        self.computers[number].clock.falls_asleep(self.now);
        self.at(until, Event::Trouble(Trouble::Wakes(number, self.now)));
        true
    }

    fn wake_up(&mut self, number: usize, since: At) {
        if self.computers[number].asleep.is_none_or(|(_, began)| began != since) {
            return;
        }
        let now = self.now;
        self.computers[number].asleep = None;
        self.computers[number].clock.wakes_up(now);
        self.met_again(Fault::HostSlept, number);
        // An agent that was to be started meanwhile.
        self.at(now + SECOND, Event::Trouble(Trouble::AgentStarts(number)));
    }

    fn kill_guest(&mut self, number: usize) -> bool {
        let traces = self.computers[number].machines.simulated.traces();
        let live: Vec<_> = traces.into_iter().filter(|(_, _, live)| *live).map(|(partition, ..)| partition).collect();
        let Some(partition) = self.random.pick(&live).copied() else { return true };
        if self.computers[number].asleep.is_some() {
            return false;
        }
        let how = self.random.below(3);
        self.with(number, |computer, now, effects| {
            match how {
                0 => computer.machines.simulated.panic(partition),
                1 => computer.machines.simulated.shut_down(partition),
                _ => computer.machines.simulated.kill(partition),
            }
            computer.look_again(now, partition, effects);
        });
        true
    }

    fn fill(&mut self, number: usize) -> bool {
        self.computers[number].store.forbid_writes(true);
        let after = self.random.between(2 * SECOND, 40 * SECOND);
        self.at(self.now + after, Event::Trouble(Trouble::RoomIsMade(number)));
        true
    }

    fn run_otherwise(&mut self, number: usize) -> bool {
        let off = if self.random.chance(300) { 100_000 } else { 5_000 };
        let rate = SECOND + self.random.between(-off, off);
        self.computers[number].clock.set_rate(self.now, rate);
        true
    }

    fn jump(&mut self, number: usize) -> bool {
        let wrong = self.random.between(-3600, 3600) * SECOND;
        self.computers[number].clock.set_wrong(wrong);
        let after = self.random.between(5 * SECOND, 60 * SECOND);
        self.at(self.now + after, Event::Trouble(Trouble::ClockIsSet(number)));
        true
    }

    /// Somebody starts a copy of a host's disk on another computer.
    fn copy(&mut self, number: usize) -> bool {
        let host = self.computers[number].host;
        if self.computers.iter().any(|c| !c.original && c.host == host && c.agent.is_some()) {
            return false;
        }
        let Ok(dir) = tempfile::Builder::new().prefix("sim").tempdir() else { return false };
        let copied = self.computers[number].store.copy_to(&dir.path().join("s"));
        let Ok(store) = copied else { return false };
        let original = &self.computers[number];
        let made = Made {
            number: self.computers.len(),
            key: original.key.clone(),
            identity: original.identity.clone(),
            inventory: original.inventory.clone(),
            store,
            dir: Some(dir),
        };
        let mut effects = Effects::default();
        let random = self.random.fork();
        let copy = Computer::new(made, self.now, random, &mut effects);
        let copied = copy.number;
        self.computers.push(copy);
        self.follow(copied, effects);
        let starts = self.random.between(0, 30 * SECOND);
        self.at(self.now + starts, Event::Trouble(Trouble::AgentStarts(copied)));
        let ends = self.random.between(10 * SECOND, 90 * SECOND);
        self.at(self.now + starts + ends, Event::Trouble(Trouble::CopyEnds(copied)));
        true
    }

    /// The copy is found and stopped, with all that runs on it; the owner allows a new start.
    fn copy_ends(&mut self, number: usize) {
        if self.computers[number].is_off {
            return;
        }
        let (now, host) = (self.now, self.computers[number].host);
        self.met_again(Fault::Cloned, number);
        self.computers[number].restart(now);
        self.computers[number].is_off = true;
        self.note(&format!("the copy on computer {number} is stopped"));
        if self.check.stolen.contains(&host) {
            if self.market.is_none() {
                self.computers[number].is_off = false;
                return self.at(now + 10 * SECOND, Event::Trouble(Trouble::CopyEnds(number)));
            }
            self.failing(|world| world.word(Command::ResetSession { actor: operator(), host }));
        }
    }

    fn take_back(&mut self, number: usize) -> bool {
        let computer = &self.computers[number];
        let Ok(division) = computer.store.division() else { return false };
        let names: Vec<String> = division.partitions.into_iter().map(|p| p.name).collect();
        let Some(name) = self.random.pick(&names).cloned() else { return false };
        let which = Which::Named(vec![name]);
        let now = self.random.chance(600);
        let store = &self.computers[number].store;
        let said = if now { division::take_back(store, &which) } else { division::unlist(store, &which) };
        if said.is_err() {
            return false;
        }
        self.with(number, Computer::owner_spoke);
        let after = self.random.between(10 * SECOND, 60 * SECOND);
        self.at(self.now + after, Event::Trouble(Trouble::OwnerLends(number)));
        true
    }

    fn owner_lends(&mut self, number: usize) {
        let store = self.computers[number].store.clone();
        let Ok(mut division) = store.division() else { return };
        division.revision += 1;
        division.conditions = Some(lending());
        division.partitions.iter_mut().for_each(|p| p.lendable = true);
        if store.set_division(&division).is_err() {
            // The disk is full: later.
            return self.at(self.now + 10 * SECOND, Event::Trouble(Trouble::OwnerLends(number)));
        }
        self.with(number, Computer::owner_spoke);
    }

    /// The operator restores what the market barred by itself.
    fn operator_looks(&mut self) {
        self.at(self.now + OPERATOR_EVERY, Event::Trouble(Trouble::OperatorLooks));
        self.money_matters();
        let Some(market) = &self.market else { return };
        let barred: Vec<HostId> = market.state().hosts().filter(|h| h.suspended).map(|h| h.id).collect();
        // What a copy said may have come late, after it was stopped: its owner is let in again.
        let locked_out: Vec<HostId> =
            self.check.stolen.iter().copied().filter(|host| self.is_locked_out(*host)).collect();
        for host in locked_out {
            self.failing(|world| world.word(Command::ResetSession { actor: operator(), host }));
        }
        for host in barred {
            let restore = Command::SuspendHost { actor: operator(), host, suspended: false };
            self.failing(|world| world.word(restore));
        }
    }

    /// Whether a copy that is stopped spoke last for a host.
    fn is_locked_out(&self, host: HostId) -> bool {
        let speaker = self.check.speaker.get(&host).and_then(|number| self.computers.get(*number));
        speaker.is_some_and(|computer| !computer.original && computer.is_off)
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.note("everything heals");
        self.healed = Some(self.now);
        self.mood = Mood::healed();
        let links: Vec<usize> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.join(link));
        let dead = self.random.chance(80);
        for number in 0..self.computers.len() {
            self.heal_computer(number);
        }
        if dead {
            self.forget_one();
        }
        if self.market.is_none() {
            self.market_wrong = 0;
            self.failing(Self::market_starts);
        }
    }

    fn heal_computer(&mut self, number: usize) {
        let now = self.now;
        if let Some((_, since)) = self.computers[number].asleep {
            self.wake_up(number, since);
        }
        let computer = &mut self.computers[number];
        computer.set_mood(0, 0, 0);
        computer.store.forbid_writes(false);
        computer.clock.set_wrong(0);
        computer.clock.set_rate(now, SECOND);
        if !computer.original {
            self.at(now + 30 * SECOND, Event::Trouble(Trouble::CopyEnds(number)));
        } else {
            self.at(now + 5 * SECOND, Event::Trouble(Trouble::OwnerLends(number)));
            self.at(now + 10 * SECOND, Event::Trouble(Trouble::AgentStarts(number)));
        }
    }

    /// A computer is gone for good, and the operator gives its host up.
    fn forget_one(&mut self) {
        let originals: Vec<usize> = self.computers.iter().filter(|c| c.original).map(|c| c.number).collect();
        let Some(number) = self.random.pick(&originals).copied() else { return };
        let host = self.computers[number].host;
        self.computers[number].restart(self.now);
        self.computers[number].is_off = true;
        self.dead = Some(host);
        self.at(self.now + 90 * SECOND, Event::Trouble(Trouble::OperatorForgets(host)));
    }
}
