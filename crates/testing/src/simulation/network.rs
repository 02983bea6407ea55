//! What lies between the parts: messages come once, twice or never, soon or late.

use super::faults::{Fault, Mood};
use super::random::Random;
use super::time::{At, MILLISECOND, SECOND};

/// What becomes of one message: when its copies arrive, and what went wrong.
#[derive(Debug, Default)]
pub struct Way {
    /// After how long each copy arrives; none: it is lost.
    pub copies: Vec<At>,
    /// What went wrong with it.
    pub faults: Vec<Fault>,
}

/// One message between a host, or a client, and the market; so many times as much goes wrong as usual.
pub fn way(random: &mut Random, mood: &Mood, of_host: bool, times: u64) -> Way {
    let (lost, duplicated) =
        if of_host { (Fault::Lost, Fault::Duplicated) } else { (Fault::ClientLost, Fault::ClientDuplicated) };
    let mut way = Way::default();
    if mood.has(lost) && random.chance(mood.lost * times) {
        way.faults.push(lost);
        return way;
    }
    let twice = mood.has(duplicated) && random.chance(mood.duplicated * times);
    if twice {
        way.faults.push(duplicated);
    }
    for _ in 0..1 + u8::from(twice) {
        let mut takes = random.between(MILLISECOND, 40 * MILLISECOND);
        if mood.has(Fault::Delayed) && random.chance(mood.late * times) {
            takes += random.between(SECOND / 2, 20 * SECOND);
            if of_host {
                way.faults.push(Fault::Delayed);
            }
        }
        way.copies.push(takes);
    }
    way
}

/// The order of the messages on one link.
#[derive(Debug, Clone, Default)]
pub struct Link {
    sent: u64,
    arrived: u64,
    /// Why nothing passes.
    pub cut: Option<Fault>,
    /// Until when more goes wrong on it than usual.
    pub shaky_until: At,
}

impl Link {
    /// The number of the next message.
    pub fn number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// A message arrived. True if a later one came before it.
    pub fn arrived(&mut self, number: u64) -> bool {
        let overtaken = number < self.arrived;
        self.arrived = self.arrived.max(number);
        overtaken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_healed_world_every_message_comes_once_and_soon() {
        let mut random = Random::new(1);
        for of_host in [true, false] {
            let way = way(&mut random, &Mood::healed(), of_host, 5);
            assert!(way.faults.is_empty() && way.copies.len() == 1 && way.copies[0] <= 40 * MILLISECOND);
        }
    }

    #[test]
    fn a_message_that_comes_after_a_later_one_was_overtaken() {
        let mut link = Link::default();
        let (first, second) = (link.number(), link.number());
        assert!(!link.arrived(second) && link.arrived(first) && !link.arrived(second));
    }
}
