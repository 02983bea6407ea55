//! What no ordinary client sends. What they do send is tested with the real ones, on the host's side.

use super::*;

fn said(input: &[u8]) -> (io::Result<()>, Vec<(u8, Vec<u8>)>) {
    let mut output = Vec::new();
    let end = serve(input, &mut output);
    let (mut rest, mut packets) = (output.as_slice(), Vec::new());
    while let Some((head, more)) = rest.split_first_chunk::<4>() {
        let (packet, more) = more.split_at(u32::from_be_bytes(*head) as usize);
        packets.push((packet[0], packet[1..].to_vec()));
        rest = more;
    }
    (end, packets)
}

fn request(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::packet(&mut out, kind, |out| {
        wire::u32(out, id);
        out.extend_from_slice(body);
    });
    out
}

fn status_of(packet: &(u8, Vec<u8>)) -> (u32, u32) {
    assert_eq!(packet.0, kind::STATUS, "{packet:?}");
    let mut body = Packet(&packet.1);
    (body.u32().unwrap(), body.u32().unwrap())
}

#[test]
fn a_bad_request_is_answered_and_the_next_one_served() {
    let text = |text: &[u8]| {
        let mut out = Vec::new();
        wire::bytes(&mut out, text);
        out
    };
    let table: Vec<(u8, Vec<u8>, u32)> = vec![
        (kind::STAT, b"\0\0\0\xffshort".to_vec(), 5),
        (kind::STAT, text(b"/no/such/file"), 2),
        (kind::STAT, text(b"a\0b"), 4),
        (kind::READ, text(b"\0\0\0\x09"), 4),
        (kind::READ, text(b"not four bytes"), 4),
        (kind::CLOSE, text(&7u32.to_be_bytes()), 4),
        (kind::OPENDIR, text(b"/proc/version"), 2),
        (kind::REMOVE, text(b"/proc"), 4),
        (kind::EXTENDED, text(b"moon@sublet"), 8),
        (99, text(b"/"), 8),
    ];
    let mut input = Vec::new();
    for (id, (kind, body, _)) in table.iter().enumerate() {
        input.extend(request(*kind, id as u32, body));
    }
    input.extend(request(kind::REALPATH, 1000, &text(b"/proc/../no-such")));
    let (end, packets) = said(&input);
    end.unwrap();
    assert_eq!(packets.len(), table.len() + 1);
    for (id, (kind, body, expected)) in table.iter().enumerate() {
        assert_eq!(status_of(&packets[id]), (id as u32, *expected), "{kind} {body:?}");
    }
    assert_eq!(packets[table.len()].0, kind::NAME);
    assert!(packets[table.len()].1.windows(8).any(|window| window == b"/no-such"));
}

#[test]
fn files_that_are_open_are_counted() {
    let mut body = Vec::new();
    wire::bytes(&mut body, b"/dev/null");
    wire::u32(&mut body, 1);
    wire::u32(&mut body, 0);
    let input: Vec<u8> = (0..120).flat_map(|id| request(kind::OPEN, id, &body)).collect();
    let (_, packets) = said(&input);
    let opened = packets.iter().filter(|(kind, _)| *kind == kind::HANDLE).count();
    assert_eq!(opened, sublet_guest::handles::MAX_OPEN);
    assert_eq!(status_of(&packets[119]), (119, 4));
}

#[test]
fn a_packet_too_long_ends_the_session() {
    let (end, packets) = said(&[0x7f, 0, 0, 0, 1]);
    assert!(end.unwrap_err().to_string().contains("the most"), "{packets:?}");
    let (end, _) = said(&[0, 0, 0, 0]);
    assert!(end.unwrap_err().to_string().contains("does not decode"));
    let (end, packets) = said(&[0, 0, 0]);
    assert!(end.is_ok() && packets.is_empty());
}

#[test]
fn the_version_comes_with_the_extensions() {
    let mut input = Vec::new();
    wire::packet(&mut input, kind::INIT, |out| wire::u32(out, 6));
    let (_, packets) = said(&input);
    let mut body = Packet(&packets[0].1);
    assert_eq!((packets[0].0, body.u32()), (kind::VERSION, Ok(3)));
    assert_eq!(body.bytes(), Ok(&b"posix-rename@openssh.com"[..]));
}
