//! What is sent, and what of it arrives.

use super::super::check::Checked;
use super::super::faults::Fault;
use super::super::market::{Answer, Inbound, Outbound, TURN};
use super::super::network::way;
use super::super::time::At;
use super::{CLIENTS, Event, World};
use sublet_model::ids::HostId;

impl World {
    pub(super) fn send_up(&mut self, link: usize, host: Option<HostId>, inbound: Inbound) {
        let (cut, number) = self.enter(link);
        if let Some(fault) = cut {
            return self.meets(fault, host);
        }
        for takes in self.ways(host, link) {
            self.at(self.now + takes, Event::Up { link, number, inbound: inbound.clone() });
        }
    }

    pub(super) fn send_down(&mut self, link: usize, host: Option<HostId>, outbound: Outbound) {
        let (cut, number) = self.enter(link);
        if let Some(fault) = cut {
            return self.meets(fault, host);
        }
        for takes in self.ways(host, link) {
            self.at(self.now + takes, Event::Down { link, number, outbound: outbound.clone() });
        }
    }

    pub(super) fn enter(&mut self, link: usize) -> (Option<Fault>, u64) {
        let link = self.links.entry(link).or_default();
        (link.cut, link.number())
    }

    pub(super) fn ways(&mut self, host: Option<HostId>, link: usize) -> Vec<At> {
        let times = if self.links.get(&link).is_some_and(|link| self.now < link.shaky_until) { 5 } else { 1 };
        let way = way(&mut self.net, &self.mood, link != CLIENTS, times);
        for fault in way.faults {
            self.note(fault.words());
            self.met(fault, host);
        }
        way.copies
    }

    /// Something reached the market.
    pub(super) fn arrive(&mut self, link: usize, number: u64, inbound: Inbound) {
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
    pub(in super::super) fn give(&mut self, inbound: Inbound) {
        let Some(market) = &mut self.market else { return };
        market.take(inbound);
        if !self.turn_planned {
            self.turn_planned = true;
            self.at(self.now + TURN, Event::Turn(self.market_life));
        }
    }

    /// An answer reached whoever asked.
    pub(super) fn answered(&mut self, link: usize, number: u64, outbound: Outbound) -> Checked {
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
}
