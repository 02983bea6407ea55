//! File transfer, as a client speaks it.

use super::host::Host;
use sublet_guest::messages::{Status, kind as frame};
use sublet_guest::sftp_wire::{self as wire, Attributes, Packet, kind};

/// Most bytes of a write, so that a request fits a window.
const PIECE_BYTES: usize = 32 * 1024;

pub struct Client {
    stream: u32,
    id: u32,
    read: usize,
}

impl Client {
    pub fn start(host: &mut Host) -> Self {
        let mut client = Self { stream: host.sftp(), id: 0, read: 0 };
        let mut packet = Vec::new();
        wire::packet(&mut packet, kind::INIT, |out| wire::u32(out, 3));
        host.send(client.stream, &packet);
        assert_eq!(client.answer(host).0, kind::VERSION);
        client
    }

    /// One request and its answer, without the id.
    pub fn ask(&mut self, host: &mut Host, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> (u8, Vec<u8>) {
        self.id += 1;
        let mut packet = Vec::new();
        wire::packet(&mut packet, kind, |out| {
            wire::u32(out, self.id);
            body(out);
        });
        host.send(self.stream, &packet);
        let (kind, body) = self.answer(host);
        assert_eq!(body[..4], self.id.to_be_bytes());
        (kind, body[4..].to_vec())
    }

    fn answer(&mut self, host: &mut Host) -> (u8, Vec<u8>) {
        let (stream, read) = (self.stream, self.read);
        let whole = |host: &Host| {
            let data = &host.heard.get(&stream)?.data[0][read..];
            let length = u32::from_be_bytes(*data.first_chunk()?) as usize;
            data.get(4..4 + length).map(<[u8]>::to_vec)
        };
        host.until(|host| whole(host).is_some());
        let packet = whole(host).unwrap();
        self.read += 4 + packet.len();
        (packet[0], packet[1..].to_vec())
    }

    pub fn path(&mut self, host: &mut Host, kind: u8, path: &str) -> (u8, Vec<u8>) {
        self.ask(host, kind, |out| {
            wire::bytes(out, path.as_bytes());
            Attributes::default().write(out);
        })
    }

    pub fn open(&mut self, host: &mut Host, path: &str, flags: u32) -> (u8, Vec<u8>) {
        self.ask(host, kind::OPEN, |out| {
            wire::bytes(out, path.as_bytes());
            wire::u32(out, flags);
            Attributes::default().write(out);
        })
    }

    pub fn write(&mut self, host: &mut Host, handle: &[u8], at: u64, bytes: &[u8]) -> u32 {
        let answer = self.ask(host, kind::WRITE, |out| {
            out.extend_from_slice(handle);
            wire::u64(out, at);
            wire::bytes(out, bytes);
        });
        status(&answer)
    }

    pub fn read(&mut self, host: &mut Host, handle: &[u8], at: u64, count: u32) -> Option<Vec<u8>> {
        let answer = self.ask(host, kind::READ, |out| {
            out.extend_from_slice(handle);
            wire::u64(out, at);
            wire::u32(out, count);
        });
        (answer.0 == kind::DATA).then(|| Packet(&answer.1).bytes().unwrap().to_vec())
    }

    pub fn close(&mut self, host: &mut Host, handle: &[u8]) -> u32 {
        let answer = self.ask(host, kind::CLOSE, |out| out.extend_from_slice(handle));
        status(&answer)
    }

    pub fn end(self, host: &mut Host) {
        host.say(self.stream, frame::EOF, 0, &[]);
        assert_eq!(host.finish(self.stream).status, Some(Status::Code(0)));
    }
}

pub fn status(answer: &(u8, Vec<u8>)) -> u32 {
    assert_eq!(answer.0, kind::STATUS, "{answer:?}");
    Packet(&answer.1).u32().unwrap()
}

const WRITE: u32 = 2;
const READ: u32 = 1;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 16;

pub fn put(host: &mut Host, path: &str, bytes: &[u8]) {
    let mut client = Client::start(host);
    let (kind, handle) = client.open(host, path, WRITE | CREATE | TRUNCATE);
    assert_eq!(kind, kind::HANDLE);
    for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
        assert_eq!(client.write(host, &handle, (index * PIECE_BYTES) as u64, piece), 0);
    }
    assert_eq!(client.close(host, &handle), 0);
    client.end(host);
}

fn get(host: &mut Host, path: &str) -> Option<Vec<u8>> {
    let mut client = Client::start(host);
    let (kind, handle) = client.open(host, path, READ);
    if kind != kind::HANDLE {
        return None;
    }
    let mut all = Vec::new();
    while let Some(bytes) = client.read(host, &handle, all.len() as u64, PIECE_BYTES as u32) {
        all.extend(bytes);
    }
    client.close(host, &handle);
    client.end(host);
    Some(all)
}

#[test]
fn what_is_put_there_comes_back() {
    let mut host = Host::identified();
    for bytes in [0, 1, 4095, 4096, 4097, 300_000] {
        let text: Vec<u8> = (0..bytes).map(|at| (at * 7 % 251) as u8).collect();
        host.put("file", &text);
        assert_eq!(get(&mut host, "/file"), Some(text.clone()), "{bytes}");
        assert_eq!(get(&mut host, "~/./x/../file"), Some(text));
    }
    assert_eq!(get(&mut host, "/none"), None);
}

#[test]
fn folders_are_made_listed_and_taken_away() {
    let mut host = Host::identified();
    let mut client = Client::start(&mut host);
    let host = &mut host;
    assert_eq!(status(&client.path(host, kind::MKDIR, "a")), 0);
    assert_eq!(status(&client.path(host, kind::MKDIR, "a")), 4, "there already");
    assert_eq!(status(&client.path(host, kind::MKDIR, "no/such")), 2);
    for index in 0..150 {
        let (kind, handle) = client.open(host, &format!("a/file-{index:03}"), WRITE | CREATE);
        assert_eq!(kind, kind::HANDLE);
        assert_eq!(client.close(host, &handle), 0);
    }
    let (_, handle) = client.path(host, kind::OPENDIR, "/a");
    let mut names = Vec::new();
    loop {
        let (kind, body) = client.ask(host, kind::READDIR, |out| out.extend_from_slice(&handle));
        if kind == kind::STATUS {
            break;
        }
        let mut packet = Packet(&body);
        for _ in 0..packet.u32().unwrap() {
            names.push(String::from_utf8(packet.bytes().unwrap().to_vec()).unwrap());
            packet.bytes().unwrap();
            Attributes::read(&mut packet).unwrap();
        }
    }
    assert_eq!((names.len(), names[0].as_str(), names[151].as_str()), (152, ".", "file-149"));
    assert_eq!(status(&client.path(host, kind::RMDIR, "a")), 4, "not empty");
    assert_eq!(status(&client.path(host, kind::REMOVE, "a")), 4, "a folder");
    assert_eq!(status(&client.path(host, kind::REMOVE, "a/file-000")), 0);
    assert_eq!(status(&client.path(host, kind::STAT, "a/file-000")), 2);
    assert_eq!(client.path(host, kind::STAT, "a").0, kind::ATTRS);
}

#[test]
fn a_bad_request_is_answered_and_the_next_one_served() {
    let mut host = Host::identified();
    let mut client = Client::start(&mut host);
    let host = &mut host;
    for (kind, body, expected) in [
        (kind::STAT, b"\0\0\0\xffshort".to_vec(), 5),
        (kind::STAT, b"\0\0\0\x03a\0b".to_vec(), 4),
        (kind::READ, b"\0\0\0\x04\0\0\0\x09".to_vec(), 4),
        (kind::CLOSE, b"\0\0\0\x04\0\0\0\x09".to_vec(), 4),
        (kind::EXTENDED, b"\0\0\0\x04moon".to_vec(), 8),
        (kind::SYMLINK, b"\0\0\0\x01a\0\0\0\x01b".to_vec(), 8),
        (99, b"\0\0\0\x01/".to_vec(), 8),
    ] {
        let answer = client.ask(host, kind, |out| out.extend_from_slice(&body));
        assert_eq!(status(&answer), expected, "{kind} {body:?}");
    }
    let (kind, body) = client.path(host, kind::REALPATH, "/../a/./b/..");
    assert_eq!((kind, &body[4..10]), (kind::NAME, &b"\0\0\0\x02/a"[..]));
}

#[test]
fn what_is_no_packet_ends_the_session() {
    for bytes in [&b"\x7f\0\0\0\x01"[..], b"\0\0\0\0"] {
        let mut host = Host::identified();
        let stream = host.sftp();
        host.send(stream, bytes);
        assert_eq!(host.finish(stream).status, Some(Status::Code(1)));
    }
}

#[test]
fn files_never_take_the_last_memory() {
    let mut host = Host::identified();
    let mut client = Client::start(&mut host);
    let (_, handle) = client.open(&mut host, "big", WRITE | CREATE);
    assert_eq!(client.write(&mut host, &handle, 0, &[1; 1000]), 0);
    assert_eq!(client.write(&mut host, &handle, 1 << 40, &[1; 1000]), 4, "a hole is not free");
    assert_eq!(client.write(&mut host, &handle, u64::MAX, &[1; 1000]), 4);
    host.machine.free_bytes.set(crate::KEPT_BYTES + 4096);
    assert_eq!(client.write(&mut host, &handle, 4096, &[1; 8192]), 4);
    assert_eq!(client.write(&mut host, &handle, 500, &[1; 1000]), 0, "what is there is written");
    host.machine.free_bytes.set(crate::KEPT_BYTES);
    assert_eq!(status(&client.open(&mut host, "another", WRITE | CREATE)), 4);
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let mut host = Host::identified();
    host.put("file", &[7; 10_000]);
    let mut client = Client::start(&mut host);
    for size in [5000, 9000] {
        let answer = client.ask(&mut host, kind::SETSTAT, |out| {
            wire::bytes(out, b"file");
            Attributes { size: Some(size), ..Attributes::default() }.write(out);
        });
        assert_eq!(status(&answer), 0);
    }
    let expected = [vec![7; 5000], vec![0; 4000]].concat();
    assert_eq!(get(&mut host, "file"), Some(expected));
}
