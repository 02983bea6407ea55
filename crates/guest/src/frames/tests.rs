//! The decoder against everything that may lie in the stream.

use super::*;
use crate::messages::kind;

/// Small and seeded, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }
}

fn frame(session: u64, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, session, 5, kind, 1, payload);
    bytes
}

/// Feeds bytes in pieces of at most `piece`; the payloads that came out, or what broke.
fn decode(decoder: &mut Decoder, mut bytes: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, Broken> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let count = decoder.push(&bytes[..bytes.len().min(piece)]);
        assert!(count > 0, "the decoder must always have room");
        bytes = &bytes[count..];
        while let Some(frame) = decoder.next()? {
            assert_eq!((frame.stream, frame.channel), (5, 1));
            seen.push(frame.payload.to_vec());
        }
    }
    Ok(seen)
}

#[test]
fn frames_come_out_as_they_went_in_however_they_are_cut() {
    let mut random = Random(42);
    let payloads: Vec<Vec<u8>> = (0..40).map(|_| random.bytes(9000)).chain([vec![7; MAX_PAYLOAD_BYTES]]).collect();
    let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(9, kind::DATA, payload)).collect();
    for piece in [1, 2, 31, 33, 4096, 65_536, stream.len()] {
        let mut strict = Decoder::for_host(9);
        assert_eq!(decode(&mut strict, &stream, piece).unwrap(), payloads, "pieces of {piece}");
        let mut lenient = Decoder::for_guest();
        lenient.enter(9);
        assert_eq!(decode(&mut lenient, &stream, piece).unwrap(), payloads, "pieces of {piece}");
        assert_eq!(lenient.dropped_bytes(), 0);
    }
}

#[test]
fn a_guest_finds_hello_after_any_cut_and_no_old_payload() {
    let old = frame(9, kind::DATA, &[0xd7; 3000]);
    let hello = frame(10, kind::HELLO, b"hello");
    for cut in (0..old.len()).step_by(61).chain(old.len() - 5..=old.len()) {
        let mut decoder = Decoder::for_guest();
        decoder.enter(9);
        let stream = [&old[..cut], &[0; FILLER_BYTES], &hello].concat();
        let seen = decode(&mut decoder, &stream, 5000).unwrap();
        let whole = cut == old.len();
        assert_eq!(seen.last().unwrap(), b"hello", "cut at {cut}");
        assert_eq!(seen.len(), 1 + usize::from(whole), "cut at {cut}: half a frame is no frame");
    }
}

#[test]
fn a_payload_is_never_searched_for_frames() {
    let hidden = frame(11, kind::HELLO, b"hidden");
    let outer = frame(9, kind::DATA, &hidden);
    let mut decoder = Decoder::for_guest();
    // A frame of a session that was: dropped whole, with the Hello that its user put inside.
    assert_eq!(decode(&mut decoder, &outer, 10).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(decoder.dropped_bytes(), outer.len() as u64);
}

#[test]
fn a_host_hunts_for_its_session_and_is_strict_afterwards() {
    let stale = [frame(8, kind::DATA, &[1; 500]), vec![0xd7; 100], frame(7, kind::WELCOME, b"old")].concat();
    for cut in 0..stale.len() {
        let mut decoder = Decoder::for_host(9);
        let stream = [&stale[..cut], &frame(9, kind::WELCOME, b"new")].concat();
        assert_eq!(decode(&mut decoder, &stream, 64).unwrap(), [b"new".to_vec()], "cut at {cut}");
    }
    let good = frame(9, kind::DATA, b"good");
    let mut short = good.clone();
    short.truncate(good.len() - 1);
    short.extend_from_slice(&good);
    let mut long = header(9, 5, kind::DATA, 1, 0).to_vec();
    long[16..20].copy_from_slice(&(MAX_PAYLOAD_BYTES as u32 + 1).to_le_bytes());
    let sum = check(&long[..24]).to_le_bytes();
    long[24..32].copy_from_slice(&sum);
    let table = [
        (b"HTTP".to_vec(), Broken::Header),
        (vec![0; 100], Broken::Header),
        (frame(8, kind::DATA, b""), Broken::Session),
        (short, Broken::Trailer),
        (long, Broken::Length(MAX_PAYLOAD_BYTES as u32 + 1)),
    ];
    for (bad, expected) in table {
        let mut decoder = Decoder::for_host(9);
        assert_eq!(decode(&mut decoder, &good, 64).unwrap().len(), 1);
        assert_eq!(decode(&mut decoder, &bad, 64), Err(expected));
    }
}

#[test]
fn every_flipped_bit_is_noticed_but_those_of_the_payload() {
    let whole = frame(9, kind::DATA, b"payload");
    for bit in (0..whole.len() * 8).step_by(3) {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut decoder = Decoder::for_guest();
        decoder.enter(9);
        let seen = decode(&mut decoder, &[flipped, vec![0; FILLER_BYTES]].concat(), 4096).unwrap();
        let in_payload = (HEADER_BYTES..HEADER_BYTES + 7).contains(&(bit / 8));
        assert_eq!(seen.len(), usize::from(in_payload), "bit {bit}");
    }
}

#[test]
fn garbage_never_panics_and_never_grows() {
    let mut random = Random(7);
    for round in 0..40 {
        let mut lenient = Decoder::for_guest();
        let mut hunting = Decoder::for_host(9);
        for _ in 0..30 {
            let mut bytes = random.bytes(6000);
            // Half of it begins like a frame, and some are frames with a wrong part.
            if random.below(2) == 0 {
                let (session, length) = (random.next() % 12, random.next() as u32);
                let head = header(session, 5, random.next() as u16 % 50, 1, length % (2 * MAX_PAYLOAD_BYTES as u32));
                bytes = [&head[..random.below(HEADER_BYTES + 1)], &bytes].concat();
            }
            if random.below(3) == 0 {
                lenient.enter(random.next() % 12);
            }
            let _ = decode(&mut lenient, &bytes, 1000).expect("the guest's side never fails");
            let _ = decode(&mut hunting, &bytes, 1000);
        }
        assert_eq!(lenient.buffer.len(), BUFFER_BYTES);
        let sound = [vec![0; FILLER_BYTES], frame(10, kind::HELLO, b"hello")].concat();
        assert_eq!(decode(&mut lenient, &sound, 4096).unwrap().last().unwrap(), b"hello", "round {round}");
    }
}

#[test]
fn a_reset_forgets_half_a_frame() {
    let mut decoder = Decoder::for_guest();
    decoder.enter(9);
    decode(&mut decoder, &frame(9, kind::DATA, &[1; 900])[..400], 400).unwrap();
    decoder.reset();
    assert_eq!(decode(&mut decoder, &frame(9, kind::DATA, b"x"), 99).unwrap().len(), 0, "no session any more");
    assert_eq!(decode(&mut decoder, &frame(3, kind::HELLO, b"x"), 99).unwrap().len(), 1);
}
