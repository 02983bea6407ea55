//! The guest as its port sees it: bytes come, bytes go, and in between jobs have their turn.

use crate::link::Outbox;
use crate::table::Table;
use crate::world::{Machine, World};
use alloc::rc::Rc;
use sublet_guest::frames::Decoder;

/// How often a host that speaks to an earlier life is told to begin anew; not in the first moments, when
/// its Hello may follow.
const TELL_LOST_EVERY_MICROS: u64 = 200_000;

/// What the kernel has to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Another turn at once: a job runs.
    Go,
    /// Wait for the port; for a time at most, if there is one.
    Wait(Option<u64>),
    /// Send what is to be sent and turn the machine off.
    PowerOff,
}

/// Everything between the port and the jobs.
pub struct Guest {
    decoder: Decoder,
    outbox: Outbox,
    table: Table,
    world: Rc<World>,
    strangers: u64,
    told_lost: u64,
    power_off: bool,
}

impl Guest {
    /// One that nobody has spoken to.
    pub fn new(machine: &'static dyn Machine) -> Self {
        let world = Rc::new(World::new(machine));
        Self {
            decoder: Decoder::for_guest(),
            outbox: Outbox::default(),
            table: Table::new(Rc::clone(&world)),
            world,
            strangers: 0,
            told_lost: machine.micros(),
            power_off: false,
        }
    }

    /// Room for what comes; none while the host asks and does not listen.
    pub fn room(&mut self) -> &mut [u8] {
        if self.outbox.choked() { &mut [] } else { self.decoder.room() }
    }

    /// So many bytes of [`Self::room`] were filled; does what they say.
    pub fn filled(&mut self, count: usize) {
        use crate::table::After;
        self.decoder.filled(count);
        // The guest's decoder skips what it does not like and never fails.
        while let Ok(Some(frame)) = self.decoder.next() {
            match self.table.handle(&frame, &mut self.outbox) {
                After::Nothing => {}
                After::Enter(session) => self.decoder.enter(session),
                After::PowerOff => self.power_off = true,
            }
        }
        let (strangers, now) = (self.decoder.strangers(), self.world.machine.micros());
        if strangers > self.strangers && !self.outbox.in_session() && now > self.told_lost + TELL_LOST_EVERY_MICROS {
            self.outbox.send_lost();
            self.told_lost = now;
        }
        self.strangers = strangers;
    }

    /// Gives every job its slice.
    pub fn turn(&mut self) -> After {
        let next = self.table.turn(&mut self.outbox);
        if self.power_off { After::PowerOff } else { next }
    }

    /// What is to be written to the port now.
    pub fn outgoing(&self) -> &[u8] {
        self.outbox.waiting()
    }

    /// So much of it was.
    pub fn sent(&mut self, count: usize) {
        self.outbox.sent(count);
    }

    /// The host's end is closed: jobs go on, half frames are forgotten.
    pub fn left(&mut self) {
        self.table.detach_all();
        self.outbox.leave();
        self.decoder.reset();
    }
}
