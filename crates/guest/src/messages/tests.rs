//! Every message comes back as it was said, and nothing else decodes.

use super::*;
use crate::codec::Malformed;

fn exec() -> Exec {
    Exec {
        job: "job_1".into(),
        command: Command::Argv(vec![b"sh".into(), b"-c".into(), vec![0xff, 0]]),
        env: vec![(b"A".into(), b"1".into()), (b"B".into(), b"".into())],
        cwd: Some(b"/tmp".into()),
        user: "ann".into(),
        pty: Some(Pty { term: "xterm".into(), rows: 1, cols: 65_535 }),
        keep: true,
    }
}

fn welcome() -> Welcome {
    let jobs = (0..MAX_RUNNING_JOBS + MAX_ENDED_JOBS).map(|n| JobState {
        job: "x".repeat(MAX_JOB_ID_BYTES),
        ended: [None, Some(Status::Code(7)), Some(Status::Signal(9))][n % 3],
    });
    Welcome {
        version: PROTOCOL_VERSION,
        boot_id: "b".repeat(36),
        identity: Some(("lease_a".into(), u64::MAX)),
        jobs: jobs.collect(),
    }
}

#[test]
fn said_is_heard() {
    let identity = Identity { lease: "l".into(), hostname: "h".into(), entropy: vec![9; 64], ..Identity::default() };
    let refused = Refused { why: Refusal::Pointless, words: "ünknown".into() };
    let stats = Stats { uptime_micros: 1, processes: 3, ..Stats::default() };
    let ready = Ready { uptime_micros: 5, kernel: "6.12".into(), vcpus: 2, memory_kib: 9 };
    let tail = Tail { dropped_bytes: 3, bytes: vec![1, 2] };
    assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
    assert_eq!(Refused::decode(&refused.encode()), Ok(refused));
    assert_eq!(Welcome::decode(&welcome().encode()), Ok(welcome()));
    assert_eq!(Ready::decode(&ready.encode()), Ok(ready));
    assert_eq!(Stats::decode(&stats.encode()), Ok(stats));
    assert_eq!(Tail::decode(&tail.encode()), Ok(tail));
    for command in [Command::Login, Command::Line(b"ls".into()), exec().command] {
        let exec = Exec { command, ..exec() };
        assert_eq!(Exec::decode(&exec.encode()), Ok(exec));
    }
    for status in [Status::Code(255), Status::Signal(15)] {
        assert_eq!(Status::decode(&status.encode()), Ok(status));
    }
}

#[test]
fn the_largest_messages_fit_a_frame() {
    assert!(welcome().encode().len() <= crate::frames::MAX_PAYLOAD_BYTES);
    let tail = Tail { dropped_bytes: 0, bytes: vec![0; TAIL_BYTES] };
    assert!(tail.encode().len() <= crate::frames::MAX_PAYLOAD_BYTES);
    let long = Refused { why: Refusal::Failed, words: "é".repeat(MAX_TEXT_BYTES) };
    assert!(Refused::decode(&long.encode()).unwrap().words.len() <= MAX_TEXT_BYTES);
}

#[test]
fn a_cut_or_longer_message_is_none() {
    let messages = [exec().encode(), welcome().encode(), Stats::default().encode(), encode_jobs(&welcome().jobs)];
    for (at, whole) in messages.iter().enumerate() {
        let decodes = |bytes: &[u8]| match at {
            0 => Exec::decode(bytes).is_ok(),
            1 => Welcome::decode(bytes).is_ok(),
            2 => Stats::decode(bytes).is_ok(),
            _ => decode_jobs(bytes).is_ok(),
        };
        assert!(decodes(whole));
        assert!((0..whole.len()).step_by(1 + whole.len() / 300).all(|cut| !decodes(&whole[..cut])), "message {at}");
        assert!(!decodes(&[whole.as_slice(), &[0]].concat()), "message {at}");
    }
}

#[test]
fn counts_that_lie_and_text_that_is_none() {
    let mut jobs = encode_jobs(&[]);
    jobs[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode_jobs(&jobs), Err(Malformed));
    assert_eq!(Refused::decode(b"\x00\x02\x00\x00\x00\xff\xfe"), Err(Malformed));
    assert_eq!(Refused::decode(b"\x09\x00\x00\x00\x00"), Err(Malformed));
    let long = Exec { job: "x".repeat(MAX_JOB_ID_BYTES + 1), ..exec() };
    assert_eq!(Exec::decode(&long.encode()), Err(Malformed));
    assert_eq!(Welcome::decode(&9u16.to_le_bytes()).unwrap().version, 9, "another version is named, not guessed");
}
