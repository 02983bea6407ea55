//! The link against the real guest program, and against guests that mean harm.

mod figures;
mod ordeal;
#[path = "../rehearsal/mod.rs"]
mod rehearsal;

use rehearsal::{Rehearsal, identity, resident_kib, soon};
use std::path::Path;
use std::time::Duration;
use sublet_guest::frames::{self, Decoder, WINDOW_BYTES};
use sublet_guest::messages::{self, JobState, Welcome as WelcomeMessage, kind};
use sublet_host::guest_link::{Command, ExecRequest, GuestLink, LinkError, Pty, Refusal, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout};

fn line(text: &str) -> ExecRequest {
    ExecRequest {
        job: "job_1".into(),
        command: Command::Line(text.into()),
        env: vec![],
        cwd: Some(b"/".into()),
        user: String::new(),
        pty: None,
        keep: false,
    }
}

async fn run(link: &GuestLink, text: &str) -> (String, String, Status) {
    let mut exec = link.exec(&line(text)).await.unwrap();
    let out = exec.stdout.collect(1 << 20).await.unwrap();
    let err = exec.stderr.collect(1 << 20).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(err), exec.control.wait().await.unwrap())
}

#[tokio::test]
async fn jobs_run_and_report() {
    let guest = Rehearsal::start();
    let link = guest.ready().await;
    let table = [
        ("echo out; echo err >&2; exit 7", ("out\n", "err\n", Status::Code(7))),
        ("kill -TERM $$", ("", "", Status::Signal(15))),
        ("cat", ("", "", Status::Code(0))),
    ];
    for (text, (out, err, status)) in table {
        let mut exec = link.exec(&line(text)).await.unwrap();
        exec.stdin.finish().await.unwrap();
        drop(exec);
        if text != "cat" {
            assert_eq!(run(&link, text).await, (out.into(), err.into(), status), "{text}");
        }
    }
    let refused = link.exec(&ExecRequest { user: "nobody-here".into(), ..line("true") }).await.unwrap_err();
    assert!(matches!(refused, LinkError::Refused { why: Refusal::NotFound, .. }), "{refused}");
    let long = link.exec(&line(&"x".repeat(70_000))).await.unwrap_err();
    assert!(matches!(long, LinkError::TooLong(n) if n > 70_000), "{long}");
    assert!(link.stats().await.unwrap().memory_total_kib > 0);
    assert!(link.ping().await.unwrap() < Duration::from_secs(5));
}

#[tokio::test]
async fn twenty_mib_go_in_and_come_out_unchanged() {
    let guest = Rehearsal::start();
    let link = guest.ready().await;
    let exec = link.exec(&line("cat")).await.unwrap();
    let (mut stdin, mut stdout) = (exec.stdin, exec.stdout);
    let piece: Vec<u8> = (0..100_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let begun = Instant::now();
    let writer = tokio::spawn({
        let piece = piece.clone();
        async move {
            for _ in 0..210 {
                stdin.write(&piece).await.unwrap();
            }
            stdin.finish().await.unwrap();
        }
    });
    let mut seen = 0usize;
    while let Some(bytes) = stdout.next().await.unwrap() {
        for byte in &bytes {
            assert_eq!(*byte, piece[seen % piece.len()], "at {seen}");
            seen += 1;
        }
    }
    writer.await.unwrap();
    assert_eq!(seen, 210 * piece.len());
    eprintln!("{} MiB/s both ways", seen as f64 / begun.elapsed().as_secs_f64() / 1_048_576.0);
}

#[tokio::test]
async fn a_job_that_does_not_read_holds_its_writer_and_nobody_else() {
    let guest = Rehearsal::start();
    let link = guest.ready().await;
    let mut stuck = link.exec(&line("sleep 1000")).await.unwrap();
    let blocked = timeout(Duration::from_millis(300), stuck.stdin.write(&vec![0; 8 << 20])).await;
    assert!(blocked.is_err(), "8 MiB cannot go into a job that does not read");
    let mut flood = link.exec(&line("yes")).await.unwrap();
    assert!(flood.stdout.next().await.unwrap().is_some());
    let before = resident_kib();
    for _ in 0..20 {
        assert_eq!(run(&link, "echo free").await.0, "free\n");
    }
    assert!(resident_kib() < before + 32_768);
    stuck.control.signal(9).await.unwrap();
    assert_eq!(stuck.control.wait().await.unwrap(), Status::Signal(9));
}

#[tokio::test]
async fn a_terminal_is_sized_and_dropped() {
    let guest = Rehearsal::start();
    let link = guest.ready().await;
    let pty = Some(Pty { term: "xterm".into(), rows: 20, cols: 60 });
    let request = ExecRequest { pty: pty.clone(), ..line("stty size; read x; stty size") };
    let mut exec = link.exec(&request).await.unwrap();
    assert_eq!(exec.stdout.next().await.unwrap().unwrap(), "20 60\r\n");
    exec.control.resize(30, 90).await.unwrap();
    exec.stdin.write(b"\n").await.unwrap();
    assert!(exec.stdout.collect(1000).await.unwrap().ends_with(b"30 90\r\n"));
    assert_eq!(exec.stderr.next().await.unwrap(), None);

    let request =
        ExecRequest { pty, job: "left".into(), ..line("trap 'exit 9' HUP; echo up; while :; do sleep 0.05; done") };
    let mut exec = link.exec(&request).await.unwrap();
    assert!(exec.stdout.next().await.unwrap().is_some());
    drop(exec);
    assert_eq!(ended(&link, "left").await, Status::Code(9));
}

async fn ended(link: &GuestLink, id: &str) -> Status {
    let deadline = soon();
    loop {
        let jobs = link.jobs().await.unwrap();
        if let Some(JobState { ended: Some(status), .. }) = jobs.iter().find(|job| job.job == id) {
            return *status;
        }
        assert!(Instant::now() < deadline, "{id} does not end: {jobs:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn jobs_outlive_the_link() {
    let guest = Rehearsal::start();
    let link = guest.ready().await;
    let exec = link
        .exec(&ExecRequest { job: "long".into(), ..line("cat >/dev/null; echo last words; exit 6") })
        .await
        .unwrap();
    link.close();
    assert!(matches!(exec.control.wait().await, Err(LinkError::Gone)));
    drop((exec, link));
    let link = guest.connect().await;
    assert_eq!(link.welcome().identity, Some(("lease_a".into(), 1)));
    assert_eq!(ended(&link, "long").await, Status::Code(6));
    assert_eq!(link.tail("long").await.unwrap().bytes, b"last words\n");
    let other = link.identify(&identity("lease_b", 1)).await.unwrap_err();
    assert!(matches!(other, LinkError::Refused { why: Refusal::OtherIdentity, .. }), "{other}");
}

#[tokio::test]
async fn a_dead_guest_is_noticed_by_all_at_once() {
    let mut guest = Rehearsal::start();
    let link = guest.ready().await;
    let mut exec = link.exec(&line("echo up; sleep 1000")).await.unwrap();
    assert!(exec.stdout.next().await.unwrap().is_some());
    let pid = link.jobs().await.unwrap();
    assert_eq!(pid.len(), 1);
    exec.control.signal(9).await.unwrap();
    let mut exec = link.exec(&line("cat")).await.unwrap();
    guest.kill();
    let all = async {
        assert!(matches!(exec.stdout.next().await, Err(LinkError::Gone)));
        assert!(matches!(exec.stderr.next().await, Err(LinkError::Gone)));
        assert!(matches!(exec.control.wait().await, Err(LinkError::Gone)));
        assert!(matches!(link.closed().await, LinkError::Gone));
        while exec.stdin.write(b"x").await.is_ok() {}
        assert!(link.stats().await.is_err());
    };
    timeout(Duration::from_secs(1), all).await.expect("noticed within a second");
}

#[tokio::test]
async fn nobody_answers() {
    let directory = tempfile::tempdir().unwrap();
    let deadline = || Instant::now() + Duration::from_millis(100);
    let nothing = GuestLink::connect(&directory.path().join("none"), deadline()).await.unwrap_err();
    assert!(matches!(nothing, LinkError::Connect { .. }), "{nothing}");
    let path = directory.path().join("mute");
    let _listener = UnixListener::bind(&path).unwrap();
    let mute = GuestLink::connect(&path, deadline()).await.unwrap_err();
    assert!(matches!(mute, LinkError::Silent(_)), "{mute}");
}

/// A guest made of whatever bytes a test likes.
struct Evil {
    socket: UnixStream,
    session: u64,
}

impl Evil {
    /// Accepts a host, says `before`, then a proper Welcome.
    async fn accept(path: &Path, before: &[u8], version: u16) -> (GuestLinkResult, Self) {
        let listener = UnixListener::bind(path).unwrap();
        let connect = tokio::spawn({
            let path = path.to_owned();
            async move { GuestLink::connect(&path, soon()).await }
        });
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut decoder = Decoder::for_guest();
        let session = loop {
            if let Ok(Some(frame)) = decoder.next() {
                break frame.session;
            }
            let count = socket.read(decoder.room()).await.unwrap();
            decoder.filled(count);
        };
        let mut evil = Self { socket, session };
        evil.socket.write_all(before).await.unwrap();
        let welcome = WelcomeMessage { version, ..WelcomeMessage::default() };
        evil.say(0, kind::WELCOME, 0, &welcome.encode()).await;
        (connect.await.unwrap(), evil)
    }

    async fn say(&mut self, stream: u32, kind: u16, channel: u16, payload: &[u8]) {
        let mut bytes = Vec::new();
        frames::write(&mut bytes, self.session, stream, kind, channel, payload);
        // A host that has had enough hangs up: that is the point.
        let _ = self.socket.write_all(&bytes).await;
    }
}

type GuestLinkResult = Result<GuestLink, LinkError>;

#[tokio::test]
async fn stale_bytes_before_the_welcome_are_skipped() {
    let mut stale = Vec::new();
    frames::write(&mut stale, 999, 4, kind::DATA, 0, &[7; 60_000]);
    let cuts = [0, 1, 10, 31, 32, 33, 5000, stale.len() - 1, stale.len()];
    for cut in cuts {
        let directory = tempfile::tempdir().unwrap();
        let before = [&[0xd7; 40][..], &stale[..cut]].concat();
        let (link, _evil) = Evil::accept(&directory.path().join("s"), &before, 1).await;
        assert!(link.is_ok(), "cut at {cut}: {link:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let (link, _evil) = Evil::accept(&directory.path().join("s"), &[], 9).await;
    assert!(matches!(link, Err(LinkError::Version { theirs: 9 })), "{link:?}");
}

#[tokio::test]
async fn a_guest_that_breaks_the_protocol_loses_its_link() {
    let status = messages::Status::Code(0).encode();
    let too_much = vec![1u8; WINDOW_BYTES as usize / 4 - 100];
    type Bad = Vec<(u16, u16, Vec<u8>)>;
    let table: Vec<(&str, Bad)> = vec![
        ("more output than was granted", vec![(kind::DATA, 0, too_much.clone()); 5]),
        ("more output than was granted", vec![(kind::DATA, 1, too_much); 5]),
        ("output after its end", vec![(kind::EOF, 0, vec![]), (kind::DATA, 0, vec![1])]),
        ("more credit than there is room", vec![(kind::CREDIT, 0, vec![1, 0, 0, 0])]),
        ("more credit than there is room", vec![(kind::CREDIT, 0, vec![255; 4])]),
        ("credit without an amount", vec![(kind::CREDIT, 0, vec![1])]),
        ("a status that does not decode", vec![(kind::EXITED, 0, vec![9, 9])]),
        ("a refusal that does not decode", vec![(kind::REFUSED, 0, b"\x00\x04\x00\x00\x00\xff\xff\xff\xff".into())]),
        ("what jobs do not", vec![(kind::DATA, 2, vec![])]),
        ("what jobs do not", vec![(kind::WELCOME, 0, vec![])]),
        ("what jobs do not", vec![(4242, 0, status)]),
    ];
    for (words, frames) in table {
        let directory = tempfile::tempdir().unwrap();
        let (link, mut evil) = Evil::accept(&directory.path().join("s"), &[], 1).await;
        let link = link.unwrap();
        let job = tokio::spawn({
            let link = link.clone();
            async move { link.exec(&line("x")).await }
        });
        let mut byte = [0; 1];
        evil.socket.read_exact(&mut byte).await.unwrap();
        evil.say(1, kind::STARTED, 0, &[]).await;
        let _exec = job.await.unwrap().unwrap();
        for (kind, channel, payload) in frames {
            evil.say(1, kind, channel, &payload).await;
        }
        let error = timeout(Duration::from_secs(5), link.closed()).await.expect(words);
        assert!(error.to_string().contains(words), "{error}, not {words}");
    }
}

#[tokio::test]
async fn garbage_and_floods_close_the_link_within_bounds() {
    let huge = {
        let mut head = frames::header(0, 1, kind::DATA, 0, 1 << 30);
        head[4] = 1;
        head
    };
    let table: [&[u8]; 4] = [b"HTTP/1.1 200 OK\r\n\r\n", &[0; 4096], &[0xff; 4096], &huge];
    for garbage in table {
        let directory = tempfile::tempdir().unwrap();
        let (link, mut evil) = Evil::accept(&directory.path().join("s"), &[], 1).await;
        evil.socket.write_all(garbage).await.unwrap();
        let error = timeout(Duration::from_secs(5), link.unwrap().closed()).await.unwrap();
        assert!(matches!(error, LinkError::Broken(_)), "{error}");
    }
    // Well-formed frames for nobody are read and dropped: 400 MiB of them cost nothing.
    let directory = tempfile::tempdir().unwrap();
    let (link, mut evil) = Evil::accept(&directory.path().join("s"), &[], 1).await;
    let link = link.unwrap();
    let mut flood = Vec::new();
    (0..64).for_each(|_| frames::write(&mut flood, evil.session, 77, kind::DATA, 0, &[3; 65_536]));
    let before = resident_kib();
    for _ in 0..100 {
        evil.socket.write_all(&flood).await.unwrap();
    }
    assert!(resident_kib() < before + 65_536, "{before} -> {} KiB", resident_kib());
    drop(link);
}
