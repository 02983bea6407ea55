//! File transfer: the server side of SFTP, version 3, over stdin and stdout.
//!
//! It runs inside the partition as an ordinary process of the user, so what a client asks for is
//! bounded by what that user may do there, and nothing on the owner's computer reads the requests.
//! The protocol is draft-ietf-secsh-filexfer-02 with OpenSSH's extensions; its clients are `scp`,
//! `sftp`, `sshfs`, Ansible.

mod attributes;
mod files;
mod handles;
mod names;

use files::{Answer, Server};
use std::io::{self, Read, Write};
use sublet_guest::sftp_wire::{self as wire, MAX_PACKET_BYTES, Packet, VERSION, kind};

/// Read ahead from the client, so that many small requests cost one call.
const INPUT_BYTES: usize = 512 * 1024;
/// Serves one client until it ends its input.
pub fn serve(input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut input = Input { from: input, bytes: vec![0; INPUT_BYTES], start: 0, end: 0 };
    let mut server = Server::default();
    let mut out = Vec::with_capacity(MAX_PACKET_BYTES);
    while let Some(packet) = input.next()? {
        answer(&mut server, packet, &mut out)?;
        // While whole requests are waiting, their answers go out together.
        if !input.has_packet() || out.len() >= MAX_PACKET_BYTES {
            output.write_all(&out)?;
            output.flush()?;
            out.clear();
        }
    }
    output.write_all(&out)
}

/// Appends what an answer says after its id.
type Body<'a> = &'a dyn Fn(&mut Vec<u8>);

/// Appends the answer to one request.
fn answer(server: &mut Server, packet: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut packet = Packet(packet);
    let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "a packet that does not decode");
    let kind = packet.u8().map_err(malformed)?;
    if kind == kind::INIT {
        wire::packet(out, kind::VERSION, |out| {
            wire::u32(out, VERSION);
            files::EXTENSIONS.iter().for_each(|(name, data)| {
                wire::bytes(out, name.as_bytes());
                wire::bytes(out, data.as_bytes());
            });
        });
        return Ok(());
    }
    let id = packet.u32().map_err(malformed)?;
    let answer = server.answer(kind, packet);
    let (kind, body): (u8, Body<'_>) = match &answer {
        Answer::Status(status) => (kind::STATUS, &|out| status.write(out)),
        Answer::Handle(handle) => (kind::HANDLE, &|out| wire::bytes(out, &handle.to_be_bytes())),
        Answer::Data(bytes) => (kind::DATA, &|out| wire::bytes(out, bytes)),
        Answer::Names(names) => (kind::NAME, &|out| {
            wire::u32(out, names.len() as u32);
            names.iter().for_each(|name| name.write(out));
        }),
        Answer::Attributes(attributes) => (kind::ATTRS, &|out| attributes.write(out)),
        Answer::Extended(bytes) => (kind::EXTENDED_REPLY, &|out| out.extend_from_slice(bytes)),
    };
    wire::packet(out, kind, |out| {
        wire::u32(out, id);
        body(out);
    });
    Ok(())
}

/// Cuts packets out of what the client sends.
struct Input<R> {
    from: R,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Input<R> {
    /// The next packet without its length; `None` at the end.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        while !self.has_packet() {
            if let Some(length) = self.length().filter(|length| *length > MAX_PACKET_BYTES) {
                let words = format!("a packet of {length} bytes, {MAX_PACKET_BYTES} are the most");
                return Err(io::Error::new(io::ErrorKind::InvalidData, words));
            }
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match self.from.read(&mut self.bytes[self.end..]) {
                Ok(0) => return Ok(None),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let length = self.length().unwrap_or_default();
        let packet = self.start + 4..self.start + 4 + length;
        self.start = packet.end;
        Ok(Some(&self.bytes[packet]))
    }

    fn has_packet(&self) -> bool {
        self.length().is_some_and(|length| length <= MAX_PACKET_BYTES && self.end - self.start >= 4 + length)
    }

    fn length(&self) -> Option<usize> {
        let head = self.bytes[self.start..self.end].first_chunk::<4>()?;
        Some(u32::from_be_bytes(*head) as usize)
    }
}

#[cfg(test)]
mod tests;
