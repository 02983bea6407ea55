//! File transfer: one client's requests, each answered from the file system in memory. The protocol's
//! layout is shared with the guest program; its clients are `scp`, `sftp`, `sshfs`.

mod handles;
mod requests;
mod status;

use crate::job::{Streams, UNHEARD};
use crate::world::World;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use requests::{Answer, Server};
use sublet_guest::messages::Status;
use sublet_guest::sftp_wire::{self as wire, MAX_PACKET_BYTES, Packet, VERSION, kind};

/// Requests served in one turn.
const REQUESTS_A_TURN: usize = 32;
/// What is told to a client that sends what is no packet.
const BROKEN: Status = Status::Code(1);

/// One client.
pub struct Session {
    streams: Rc<RefCell<Streams>>,
    server: Server,
    /// What came and is no whole packet yet.
    input: Vec<u8>,
    /// Answers that did not fit yet, and how many of their bytes did.
    output: Vec<u8>,
    sent: usize,
}

impl Session {
    /// Begins.
    pub fn new(streams: Rc<RefCell<Streams>>) -> Self {
        Self { streams, server: Server::default(), input: Vec::new(), output: Vec::new(), sent: 0 }
    }

    /// Serves what came; true if more has come already.
    pub fn run(&mut self, world: &World) -> Result<bool, Status> {
        for _ in 0..REQUESTS_A_TURN {
            if !self.flush()? {
                return Ok(false);
            }
            match self.packet()? {
                Some(packet) => answer(&mut self.server, &packet, world, &mut self.output).ok_or(BROKEN)?,
                None if self.streams.borrow().input_ended => return Err(Status::Code(0)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Writes what is to be said; whether all of it is.
    fn flush(&mut self) -> Result<bool, Status> {
        let mut streams = self.streams.borrow_mut();
        if streams.hung_up {
            return Err(UNHEARD);
        }
        self.sent += streams.write(0, &self.output[self.sent..]);
        if self.sent < self.output.len() {
            return Ok(false);
        }
        self.output.clear();
        self.sent = 0;
        Ok(true)
    }

    /// The next packet, without its length.
    fn packet(&mut self) -> Result<Option<Vec<u8>>, Status> {
        loop {
            let wanted = match self.input.first_chunk() {
                None => 4,
                Some(length) => 4 + u32::from_be_bytes(*length) as usize,
            };
            if wanted > 4 + MAX_PACKET_BYTES {
                return Err(BROKEN);
            }
            if self.input.len() == wanted && wanted > 4 {
                let packet = self.input.split_off(4);
                self.input.clear();
                return Ok(Some(packet));
            }
            let have = self.input.len();
            if have == wanted {
                // A packet of no bytes.
                return Err(BROKEN);
            }
            let mut streams = self.streams.borrow_mut();
            if streams.input.is_empty() {
                return Ok(None);
            }
            self.input.resize(wanted, 0);
            let count = streams.read(&mut self.input[have..]);
            self.input.truncate(have + count);
        }
    }
}

/// Appends the answer to one request; `None` if it is none.
fn answer(server: &mut Server, packet: &[u8], world: &World, out: &mut Vec<u8>) -> Option<()> {
    let mut packet = Packet(packet);
    let asked = packet.u8().ok()?;
    if asked == kind::INIT {
        wire::packet(out, kind::VERSION, |out| {
            wire::u32(out, VERSION);
            for (name, data) in requests::EXTENSIONS {
                wire::bytes(out, name.as_bytes());
                wire::bytes(out, data.as_bytes());
            }
        });
        return Some(());
    }
    let id = packet.u32().ok()?;
    let answer = server.answer(asked, &mut packet, world);
    let mut body = vec![];
    let kind = match &answer {
        Answer::Status(status) => {
            status.write(&mut body);
            kind::STATUS
        }
        Answer::Handle(handle) => {
            wire::bytes(&mut body, &handle.to_be_bytes());
            kind::HANDLE
        }
        Answer::Data(bytes) => {
            wire::bytes(&mut body, bytes);
            kind::DATA
        }
        Answer::Names(names) => {
            wire::u32(&mut body, names.len() as u32);
            for name in names {
                wire::bytes(&mut body, &name.name);
                wire::bytes(&mut body, &name.line);
                name.attributes.write(&mut body);
            }
            kind::NAME
        }
        Answer::Attributes(attributes) => {
            attributes.write(&mut body);
            kind::ATTRS
        }
        Answer::Extended(bytes) => {
            body.extend_from_slice(bytes);
            kind::EXTENDED_REPLY
        }
    };
    wire::packet(out, kind, |out| {
        wire::u32(out, id);
        out.extend_from_slice(&body);
    });
    Some(())
}
