//! A host in a test: it speaks the same frames, and holds what it hears.

use crate::{After, Guest, KEPT_BYTES, Machine};
use std::cell::Cell;
use std::collections::BTreeMap;
use sublet_guest::frames::{self, Decoder, FILLER_BYTES};
use sublet_guest::messages::{Command, Exec, Identity, OWN_PROGRAM, PROTOCOL_VERSION, Refused, Status, Welcome, kind};

/// A machine whose time passes when a test says so.
pub struct Fake {
    pub micros: Cell<u64>,
    pub free_bytes: Cell<usize>,
}

impl Machine for Fake {
    fn micros(&self) -> u64 {
        self.micros.get()
    }

    fn free_bytes(&self) -> usize {
        self.free_bytes.get()
    }

    fn memory_bytes(&self) -> u64 {
        64 << 20
    }

    fn vcpus(&self) -> u16 {
        2
    }

    fn say(&self, _: &str) {}
}

/// What was heard of a stream.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    pub started: bool,
    pub data: [Vec<u8>; 2],
    pub ended: [bool; 2],
    pub status: Option<Status>,
    pub refused: Option<Refused>,
    pub credit: u64,
    pub answers: Vec<(u16, Vec<u8>)>,
}

impl Heard {
    pub fn over(&self) -> bool {
        self.refused.is_some() || self.status.is_some() && self.ended == [true; 2]
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.data[0]).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.data[1]).into_owned()
    }

    pub fn words(&self) -> String {
        self.refused.as_ref().map(|refused| refused.words.clone()).unwrap_or_default()
    }
}

pub struct Host {
    pub guest: Guest,
    pub machine: &'static Fake,
    pub heard: BTreeMap<u32, Heard>,
    /// Whether what is heard is granted again at once.
    pub grants: bool,
    /// Bytes of input said on each stream.
    said: BTreeMap<u32, u64>,
    session: u64,
    decoder: Decoder,
    next: u32,
}

/// More turns than any test needs.
const MOST_TURNS: usize = 200_000;

impl Host {
    /// Connected to a guest that nobody has spoken to.
    pub fn new() -> Self {
        let free_bytes = Cell::new(KEPT_BYTES + (48 << 20));
        let machine: &'static Fake = Box::leak(Box::new(Fake { micros: Cell::new(0), free_bytes }));
        let guest = Guest::new(machine);
        let (heard, said, decoder) = (BTreeMap::new(), BTreeMap::new(), Decoder::for_host(1));
        let mut host = Self { guest, machine, heard, grants: true, said, session: 0, decoder, next: 1 };
        host.connect();
        host
    }

    /// The same, with an identity.
    pub fn identified() -> Self {
        let mut host = Self::new();
        let answer = host.ask(kind::IDENTITY, &identity().encode());
        assert_eq!(answer.0, kind::READY);
        host
    }

    /// A new session; the guest hears that an older one is over, as by its port.
    pub fn connect(&mut self) -> Welcome {
        self.guest.left();
        self.session += 1;
        self.decoder = Decoder::for_host(self.session);
        self.heard.clear();
        self.say_bytes(&[0; FILLER_BYTES]);
        self.say(0, kind::HELLO, 0, &PROTOCOL_VERSION.to_le_bytes());
        self.turn();
        let (kind, payload) = self.heard[&0].answers[0].clone();
        assert_eq!(kind, kind::WELCOME);
        Welcome::decode(&payload).unwrap()
    }

    pub fn say(&mut self, stream: u32, kind: u16, channel: u16, payload: &[u8]) {
        let mut bytes = Vec::new();
        frames::write(&mut bytes, self.session, stream, kind, channel, payload);
        self.say_bytes(&bytes);
    }

    fn say_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.guest.room();
            assert!(!room.is_empty(), "the guest reads no more");
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.guest.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// One turn of the guest; hears what it says.
    pub fn turn(&mut self) -> After {
        let after = self.guest.turn();
        let mut credits = Vec::new();
        while !self.guest.outgoing().is_empty() {
            let count = self.decoder.push(self.guest.outgoing());
            self.guest.sent(count);
            while let Some(frame) = self.decoder.next().expect("the guest keeps to the protocol") {
                let heard = self.heard.entry(frame.stream).or_default();
                let channel = usize::from(frame.channel);
                match frame.kind {
                    kind::STARTED => heard.started = true,
                    kind::DATA => {
                        assert!(!heard.ended[channel], "data after the end");
                        heard.data[channel].extend_from_slice(frame.payload);
                        credits.push((frame.stream, frame.channel, frame.payload.len() as u32));
                    }
                    kind::EOF => heard.ended[channel] = true,
                    kind::EXITED => heard.status = Some(Status::decode(frame.payload).unwrap()),
                    kind::REFUSED => heard.refused = Some(Refused::decode(frame.payload).unwrap()),
                    kind::CREDIT => heard.credit += u64::from(u32::from_le_bytes(frame.payload.try_into().unwrap())),
                    kind => heard.answers.push((kind, frame.payload.to_vec())),
                }
            }
        }
        if self.grants {
            for (stream, channel, bytes) in credits {
                self.say(stream, kind::CREDIT, channel, &bytes.to_le_bytes());
            }
        }
        after
    }

    /// Turns until it is as wanted; time passes while nothing runs.
    pub fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        for _ in 0..MOST_TURNS {
            if wanted(self) {
                return;
            }
            let now = self.machine.micros.get();
            match self.turn() {
                After::Wait(Some(until)) => self.machine.micros.set(until.max(now)),
                _ => self.machine.micros.set(now + 10),
            }
        }
        panic!("never: {:?}", self.heard);
    }

    pub fn ask(&mut self, kind: u16, payload: &[u8]) -> (u16, Vec<u8>) {
        let stream = self.stream();
        self.say(stream, kind, 0, payload);
        self.until(|host| host.heard.get(&stream).is_some_and(|h| !h.answers.is_empty() || h.refused.is_some()));
        let heard = &self.heard[&stream];
        match &heard.refused {
            Some(refused) => (kind::REFUSED, refused.words.clone().into_bytes()),
            None => heard.answers[0].clone(),
        }
    }

    pub fn stream(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Starts a line; the stream it has.
    pub fn start(&mut self, line: &str) -> u32 {
        self.start_as(kind::EXEC, exec(Command::Line(line.into())))
    }

    pub fn start_as(&mut self, kind: u16, exec: Exec) -> u32 {
        let stream = self.stream();
        self.say(stream, kind, 0, &exec.encode());
        stream
    }

    /// Runs a line to its end with this input.
    pub fn run(&mut self, line: &str, input: &[u8]) -> Heard {
        let stream = self.start(line);
        for piece in input.chunks(32 * 1024) {
            self.until(|host| {
                let heard = host.heard.get(&stream);
                host.said(stream) + piece.len() as u64 <= 256 * 1024 + heard.map_or(0, |h| h.credit)
                    || heard.is_some_and(Heard::over)
            });
            self.send(stream, piece);
        }
        self.say(stream, kind::EOF, 0, &[]);
        self.finish(stream)
    }

    fn said(&self, stream: u32) -> u64 {
        self.said.get(&stream).copied().unwrap_or(0)
    }

    pub fn send(&mut self, stream: u32, piece: &[u8]) {
        *self.said.entry(stream).or_default() += piece.len() as u64;
        self.say(stream, kind::DATA, 0, piece);
    }

    pub fn finish(&mut self, stream: u32) -> Heard {
        self.until(|host| host.heard.get(&stream).is_some_and(Heard::over));
        self.heard[&stream].clone()
    }

    /// Puts a file there, as a client does: by SFTP.
    pub fn put(&mut self, path: &str, bytes: &[u8]) {
        super::transfer::put(self, path, bytes);
    }

    /// The same of a module written as text.
    pub fn put_wat(&mut self, path: &str, text: &str) {
        self.put(path, &wat::parse_str(text).expect("a module"));
    }

    /// Starts file transfer.
    pub fn sftp(&mut self) -> u32 {
        self.start_as(kind::EXEC, exec(Command::Argv(vec![OWN_PROGRAM.into(), "sftp".into()])))
    }
}

pub fn identity() -> Identity {
    Identity {
        lease: "lease_1".into(),
        generation: 3,
        hostname: "box".into(),
        wall_clock_micros: 1_700_000_000_000_000,
        entropy: (0..64).collect(),
        cpu_millicores: 1000,
        vcpus: 1,
        memory_mib: 64,
        disk_gib: 0,
    }
}

pub fn exec(command: Command) -> Exec {
    Exec {
        job: "job_1".into(),
        command,
        env: vec![("COLOUR".into(), "blue".into())],
        cwd: None,
        user: "root".into(),
        pty: None,
        keep: false,
    }
}
