//! The real guest program, in rehearsal over a socket: what it does with jobs, and with hosts that
//! stop in the middle of a word.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command as Process};
use std::time::{Duration, Instant};
use sublet_guest::frames::{self, Decoder, FILLER_BYTES, MAX_PAYLOAD_BYTES, WINDOW_BYTES};
use sublet_guest::messages::{
    Command, Exec, Identity, JobState, Pty, Ready, Refusal, Refused, Stats, Status, Tail, Welcome, decode_jobs, kind,
};

/// A guest and the host's end of its port. What is sent and received is spelled out by each test.
struct Guest {
    process: Child,
    socket: UnixStream,
    session: u64,
    decoder: Decoder,
}

#[derive(Debug, PartialEq, Eq)]
struct Said {
    stream: u32,
    kind: u16,
    channel: u16,
    payload: Vec<u8>,
}

impl Guest {
    fn start() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
        let fd = theirs.as_raw_fd().to_string();
        let process =
            Process::new(env!("CARGO_BIN_EXE_sublet-guest")).args(["--rehearse", "--fd", &fd]).spawn().unwrap();
        drop(OwnedFd::from(theirs));
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { process, socket: ours, session: 0, decoder: Decoder::for_guest() }
    }

    /// A guest that knows who it is.
    fn ready() -> Self {
        let mut guest = Self::start();
        guest.hello(7);
        guest.send(1, kind::IDENTITY, 0, &identity("lease_a", 1).encode());
        let said = guest.next();
        assert_eq!(said.kind, kind::READY, "{said:?}");
        assert!(Ready::decode(&said.payload).unwrap().memory_kib > 0);
        guest
    }

    fn hello(&mut self, session: u64) -> Welcome {
        self.session = session;
        self.decoder = Decoder::for_host(session);
        let mut bytes = vec![0; FILLER_BYTES];
        frames::write(&mut bytes, session, 0, kind::HELLO, 0, &1u16.to_le_bytes());
        self.socket.write_all(&bytes).unwrap();
        let said = self.next();
        assert_eq!(said.kind, kind::WELCOME);
        Welcome::decode(&said.payload).unwrap()
    }

    fn send(&mut self, stream: u32, kind: u16, channel: u16, payload: &[u8]) {
        let mut bytes = Vec::new();
        frames::write(&mut bytes, self.session, stream, kind, channel, payload);
        self.socket.write_all(&bytes).unwrap();
    }

    fn next(&mut self) -> Said {
        loop {
            if let Some(frame) = self.decoder.next().expect("the guest keeps to the format") {
                return Said {
                    stream: frame.stream,
                    kind: frame.kind,
                    channel: frame.channel,
                    payload: frame.payload.to_vec(),
                };
            }
            let count = self.socket.read(self.decoder.room()).expect("the guest answers in time");
            assert!(count > 0, "the guest hung up");
            self.decoder.filled(count);
        }
    }

    fn exec(&mut self, stream: u32, exec: &Exec) {
        self.send(stream, kind::EXEC, 0, &exec.encode());
    }

    /// Everything a stream says until it is over; grants as it reads.
    fn collect(&mut self, stream: u32) -> Collected {
        let mut all = Collected::default();
        let mut open = 2;
        while open > 0 || all.status.is_none() {
            let said = self.next();
            if said.stream != stream {
                continue;
            }
            match said.kind {
                kind::STARTED | kind::CREDIT => {}
                kind::DATA => {
                    all.output[usize::from(said.channel)].extend_from_slice(&said.payload);
                    self.send(stream, kind::CREDIT, said.channel, &(said.payload.len() as u32).to_le_bytes());
                }
                kind::EOF => open -= 1,
                kind::EXITED => all.status = Some(Status::decode(&said.payload).unwrap()),
                other => panic!("unexpected kind {other}: {:?}", Refused::decode(&said.payload)),
            }
        }
        all
    }

    fn run(&mut self, stream: u32, line: &str) -> Collected {
        self.exec(stream, &shell(line));
        self.collect(stream)
    }

    fn jobs(&mut self) -> Vec<JobState> {
        self.send(900, kind::JOBS, 0, &[]);
        loop {
            let said = self.next();
            if said.kind == kind::JOBS_ARE {
                return decode_jobs(&said.payload).unwrap();
            }
        }
    }

    fn wait_for_job(&mut self, id: &str) -> Status {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let ended = self.jobs().into_iter().find(|job| job.job == id).and_then(|job| job.ended);
            match ended {
                Some(status) => return status,
                None => assert!(Instant::now() < deadline, "job {id} did not end"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A new connection to the same program would need its listener; a new session is as good.
    fn reconnect(&mut self, session: u64) -> Welcome {
        self.hello(session)
    }

    fn resident_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Debug, Default)]
struct Collected {
    output: [Vec<u8>; 2],
    status: Option<Status>,
}

impl Collected {
    fn text(&self) -> (String, String, Option<Status>) {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        (text(&self.output[0]), text(&self.output[1]), self.status)
    }
}

fn identity(lease: &str, generation: u64) -> Identity {
    Identity { lease: lease.into(), generation, hostname: "box".into(), entropy: vec![5; 64], ..Identity::default() }
}

fn shell(line: &str) -> Exec {
    Exec {
        job: format!("job-{line:.20}"),
        command: Command::Argv(vec![b"/bin/sh".into(), b"-c".into(), line.into()]),
        env: vec![],
        cwd: Some(b"/".into()),
        user: String::new(),
        pty: None,
        keep: false,
    }
}

fn ok(out: &str) -> (String, String, Option<Status>) {
    (out.into(), String::new(), Some(Status::Code(0)))
}

#[test]
fn nothing_runs_before_the_identity() {
    let mut guest = Guest::start();
    assert_eq!(guest.hello(3).identity, None);
    guest.exec(1, &shell("true"));
    let said = guest.next();
    assert_eq!((said.kind, Refused::decode(&said.payload).unwrap().why), (kind::REFUSED, Refusal::NoIdentity));
}

#[test]
fn an_identity_is_given_once() {
    let mut guest = Guest::ready();
    for (lease, generation, expected) in
        [("lease_a", 1, kind::READY), ("lease_a", 2, kind::REFUSED), ("lease_b", 1, kind::REFUSED)]
    {
        guest.send(9, kind::IDENTITY, 0, &identity(lease, generation).encode());
        assert_eq!(guest.next().kind, expected, "{lease} {generation}");
    }
    assert_eq!(guest.reconnect(8).identity, Some(("lease_a".into(), 1)));
}

#[test]
fn streams_and_status() {
    let mut guest = Guest::ready();
    let table = [
        ("echo out; echo err >&2; exit 7", ("out\n".into(), "err\n".into(), Some(Status::Code(7)))),
        ("kill -9 $$", (String::new(), String::new(), Some(Status::Signal(9)))),
        ("echo $SUBLET_LEASE $USER", ok("lease_a root\n")),
        ("cat /proc/self/oom_score_adj", ok("0\n")),
        ("ps -o pgid=,sid= -p $$ | awk -v p=$$ '{print $1==p && $2==p}'", ok("1\n")),
        ("ls /proc/self/fd | wc -l", ok("4\n")),
    ];
    for (stream, (line, expected)) in (10..).zip(table) {
        assert_eq!(guest.run(stream, line).text(), expected, "{line}");
    }
}

#[test]
fn what_cannot_start_is_refused_in_words() {
    let mut guest = Guest::ready();
    let with = |change: &dyn Fn(&mut Exec)| {
        let mut exec = shell("true");
        change(&mut exec);
        exec
    };
    let argv = |word: &str| Command::Argv(vec![word.into()]);
    let table = [
        (with(&|e| e.command = argv("no-such-program")), Refusal::NotFound, "no program no-such-program"),
        (with(&|e| e.command = argv("/no/such")), Refusal::NotFound, "No such file"),
        (with(&|e| e.command = argv("/etc")), Refusal::Failed, "Permission denied"),
        (with(&|e| e.command = Command::Argv(vec![])), Refusal::Protocol, "without words"),
        (with(&|e| e.user = "nobody-here".into()), Refusal::NotFound, "no user nobody-here"),
        (with(&|e| e.cwd = Some(b"/no/such".into())), Refusal::NotFound, "No such file"),
        (with(&|e| e.command = argv("a\0b/c")), Refusal::Protocol, "NUL"),
    ];
    for (stream, (exec, why, words)) in (20..).zip(table) {
        guest.exec(stream, &exec);
        let said = guest.next();
        assert_eq!(said.kind, kind::REFUSED, "{exec:?}");
        let refused = Refused::decode(&said.payload).unwrap();
        assert!(refused.why == why && refused.words.contains(words), "{refused:?}");
    }
    assert_eq!(guest.jobs(), vec![], "what never ran is no job");
}

#[test]
fn input_goes_in_and_ends() {
    let mut guest = Guest::ready();
    guest.exec(5, &shell("wc -c; echo after"));
    for _ in 0..3 {
        guest.send(5, kind::DATA, 0, &[b'x'; 1000]);
    }
    guest.send(5, kind::EOF, 0, &[]);
    assert_eq!(guest.collect(5).text(), ok("3000\nafter\n"));
}

#[test]
fn a_stream_that_is_not_read_blocks_nobody_and_grows_nothing() {
    let mut guest = Guest::ready();
    guest.exec(5, &shell("yes"));
    guest.exec(6, &shell("sleep 1000"));
    // Stream 5 is never granted more than its first window, stream 6 never reads its input.
    let mut flood = 0;
    while flood < WINDOW_BYTES {
        let said = guest.next();
        flood += if said.kind == kind::DATA { said.payload.len() as u32 } else { 0 };
    }
    for _ in 0..WINDOW_BYTES / MAX_PAYLOAD_BYTES as u32 {
        guest.send(6, kind::DATA, 0, &[1; MAX_PAYLOAD_BYTES]);
    }
    let before = guest.resident_kib();
    for stream in 100..130 {
        assert_eq!(guest.run(stream, "echo here").text(), ok("here\n"));
    }
    assert_eq!(flood, WINDOW_BYTES, "not a byte more than granted");
    assert!(guest.resident_kib() < before + 1024, "{} -> {} KiB", before, guest.resident_kib());
}

#[test]
fn more_input_than_granted_ends_the_stream() {
    let mut guest = Guest::ready();
    guest.exec(6, &shell("sleep 1000"));
    let frames = WINDOW_BYTES / MAX_PAYLOAD_BYTES as u32 + 8;
    (0..frames).for_each(|_| guest.send(6, kind::DATA, 0, &[1; MAX_PAYLOAD_BYTES]));
    let refused = loop {
        let said = guest.next();
        if said.kind == kind::REFUSED {
            break Refused::decode(&said.payload).unwrap();
        }
    };
    assert!(refused.words.contains("more input than was granted"), "{refused:?}");
}

#[test]
fn a_job_that_stops_reading_does_not_hold_its_input_up() {
    let mut guest = Guest::ready();
    guest.exec(6, &shell("exec <&-; echo closed; sleep 1000"));
    while guest.next().kind != kind::DATA {}
    let mut granted = u64::from(WINDOW_BYTES);
    let mut sent = 0u64;
    while sent < 8 * u64::from(WINDOW_BYTES) {
        while granted < MAX_PAYLOAD_BYTES as u64 {
            let said = guest.next();
            assert_eq!(said.kind, kind::CREDIT);
            granted += u64::from(u32::from_le_bytes(said.payload.try_into().unwrap()));
        }
        guest.send(6, kind::DATA, 0, &[1; MAX_PAYLOAD_BYTES]);
        (sent, granted) = (sent + MAX_PAYLOAD_BYTES as u64, granted - MAX_PAYLOAD_BYTES as u64);
    }
}

#[test]
fn signals_reach_the_whole_group() {
    let mut guest = Guest::ready();
    guest.exec(5, &shell("sleep 1000 & sleep 1000 & echo up; wait"));
    while guest.next().kind != kind::DATA {}
    guest.send(5, kind::SIGNAL, 0, &[15]);
    // Both sleepers hold stdout: its end proves that they are gone as well.
    assert_eq!(guest.collect(5).status, Some(Status::Signal(15)));
}

#[test]
fn a_terminal_has_a_size_and_hangs_up() {
    let mut guest = Guest::ready();
    let pty = |line: &str| Exec { pty: Some(Pty { term: "xterm".into(), rows: 33, cols: 77 }), ..shell(line) };
    guest.exec(5, &pty("tty; stty size; echo $TERM; read x; stty size; exit 3"));
    let mut seen = String::new();
    while !seen.contains("xterm") {
        let said = guest.next();
        if said.kind == kind::DATA {
            seen += &String::from_utf8_lossy(&said.payload);
        }
    }
    assert!(seen.starts_with("/dev/pts/") && seen.contains("33 77\r\n"), "{seen}");
    guest.send(5, kind::WINDOW, 0, &[40, 0, 100, 0]);
    guest.send(5, kind::DATA, 0, b"go\n");
    let rest = guest.collect(5);
    assert!(rest.text().0.contains("40 100\r\n"), "{rest:?}");
    assert_eq!(rest.status, Some(Status::Code(3)));

    guest.exec(6, &pty("cat"));
    guest.send(6, kind::DATA, 0, b"unfinished");
    guest.send(6, kind::EOF, 0, &[]);
    assert_eq!(guest.collect(6).status, Some(Status::Code(0)), "the end of input ends a reader");

    guest.exec(7, &Exec { job: "shell".into(), ..pty("trap 'exit 9' HUP; echo up; while :; do sleep 0.05; done") });
    while guest.next().kind != kind::DATA {}
    guest.send(7, kind::CLOSE, 0, &[0]);
    assert_eq!(guest.wait_for_job("shell"), Status::Code(9));
}

#[test]
fn jobs_outlive_the_connection_and_terminals_hang_up_unless_kept() {
    let mut guest = Guest::ready();
    let wait = "while read x; do :; done; i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 5";
    guest.exec(5, &Exec { job: "piped".into(), ..shell(wait) });
    let pty = Some(Pty { term: String::new(), rows: 1, cols: 1 });
    let loops = "trap 'exit 9' HUP; echo up; while :; do sleep 0.05; done";
    guest.exec(6, &Exec { job: "shell".into(), pty: pty.clone(), ..shell(loops) });
    guest.exec(7, &Exec { job: "kept".into(), pty, keep: true, ..shell("echo up; sleep 0.3; exit 4") });
    let mut up = 0;
    while up < 2 {
        up += usize::from(guest.next().kind == kind::DATA);
    }
    // The host dies in the middle of a frame that claims more than ever comes.
    let mut half = Vec::new();
    frames::write(&mut half, 7, 5, kind::DATA, 0, &[b'z'; 5000]);
    guest.socket.write_all(&half[..700]).unwrap();

    let welcome = guest.reconnect(4711);
    assert_eq!(welcome.identity, Some(("lease_a".into(), 1)));
    assert!(welcome.jobs.iter().any(|job| job.job == "kept" && job.ended.is_none()), "{welcome:?}");
    assert_eq!(guest.wait_for_job("piped"), Status::Code(5));
    assert_eq!(guest.wait_for_job("shell"), Status::Code(9));
    assert_eq!(guest.wait_for_job("kept"), Status::Code(4));
    guest.send(3, kind::TAIL, 0, b"piped");
    let tail = Tail::decode(&guest.next().payload).unwrap();
    assert!(tail.bytes.ends_with(b"line 19999\n") && tail.dropped_bytes > 0, "{}", tail.dropped_bytes);
}

#[test]
fn any_cut_is_survived_and_no_old_byte_reaches_a_job() {
    let mut guest = Guest::ready();
    guest.exec(5, &Exec { job: "digest".into(), ..shell("cat > /dev/null; echo quiet") });
    let mut whole = Vec::new();
    for (stream, kind, payload) in
        [(5, kind::DATA, vec![b'q'; 300]), (5, kind::SIGNAL, vec![9]), (31, kind::EXEC, shell("true").encode())]
    {
        frames::write(&mut whole, 7, stream, kind, 0, &payload);
    }
    // The first cut is made in the session that was; its whole frames count. Later ones are stale.
    for (session, cut) in (1000..).zip((0..whole.len()).step_by(13)) {
        guest.socket.write_all(&whole[..cut]).unwrap();
        guest.reconnect(session);
        assert_eq!(guest.run(77, "echo still here").text(), ok("still here\n"), "cut at {cut}");
    }
}

#[test]
fn a_program_started_anew_says_so() {
    let mut guest = Guest::start();
    guest.session = 99;
    let deadline = Instant::now() + Duration::from_secs(10);
    guest.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut said = Vec::new();
    let mut bytes = vec![0; 1 << 20];
    // A host that believes in a session speaks; zeros and a frame of session 0 come back.
    while said.len() < FILLER_BYTES + frames::HEADER_BYTES {
        assert!(Instant::now() < deadline, "not told");
        guest.send(4, kind::PING, 0, b"there?");
        let count = guest.socket.read(&mut bytes).unwrap_or(0);
        said.extend_from_slice(&bytes[..count]);
    }
    let mut lost = Vec::new();
    frames::write(&mut lost, 0, 0, kind::LOST, 0, &[]);
    assert!(said.windows(lost.len()).any(|window| window == lost));
    guest.socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(guest.hello(100).identity, None);
}

#[test]
fn garbage_is_survived() {
    let mut guest = Guest::ready();
    let mut state = 88172645463325252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..60u64 {
        let mut bytes: Vec<u8> = (0..random() % 5000).map(|_| random() as u8).collect();
        // Whole frames with random kinds and payloads, in session, then flipped bits.
        for _ in 0..20 {
            let payload: Vec<u8> = (0..random() % 200).map(|_| random() as u8).collect();
            let kind = match (random() % 48) as u16 {
                kind::SHUTDOWN | kind::HELLO => kind::PING,
                kind => kind,
            };
            frames::write(&mut bytes, guest.session, (random() % 4) as u32, kind, (random() % 3) as u16, &payload);
        }
        if round % 2 == 0 {
            let at = random() as usize % bytes.len();
            bytes[at] ^= 1 << (random() % 8);
        }
        guest.socket.write_all(&bytes).unwrap();
        guest.reconnect(5000 + round);
    }
    assert_eq!(guest.run(9, "echo fine").text(), ok("fine\n"));
    assert!(guest.resident_kib() < 16 * 1024);
}

#[test]
fn orphaned_output_does_not_hide_the_exit() {
    let mut guest = Guest::ready();
    guest.exec(5, &shell("sleep 1000 & echo $!"));
    let mut pid = String::new();
    loop {
        let said = guest.next();
        match said.kind {
            kind::DATA => pid += &String::from_utf8_lossy(&said.payload),
            kind::EXITED => break,
            _ => {}
        }
    }
    // What the job left behind still holds its stdout, so there was no Eof; the group can be signalled.
    guest.send(5, kind::SIGNAL, 0, &[9]);
    while guest.next().kind != kind::EOF {}
}

#[test]
fn statistics_and_pings() {
    let mut guest = Guest::ready();
    guest.send(3, kind::STATS, 0, &[]);
    let stats = Stats::decode(&guest.next().payload).unwrap();
    assert!(stats.memory_total_kib > 0 && stats.uptime_micros > 0 && stats.processes > 0, "{stats:?}");
    guest.send(4, kind::PING, 0, b"12345678");
    assert_eq!(guest.next(), Said { stream: 4, kind: kind::PONG, channel: 0, payload: b"12345678".into() });
}

#[test]
fn a_host_that_asks_and_does_not_listen_costs_no_memory() {
    let mut guest = Guest::ready();
    guest.socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut bytes = Vec::new();
    (0..1000).for_each(|_| frames::write(&mut bytes, 7, 1, kind::PING, 0, &[9; 8000]));
    // The guest stops reading at its limit, so the write must time out.
    let refused = (0..100).any(|_| guest.socket.write_all(&bytes).is_err());
    assert!(refused && guest.resident_kib() < 16 * 1024, "{} KiB", guest.resident_kib());
}

#[test]
fn asked_to_end_it_ends() {
    let mut guest = Guest::ready();
    guest.send(3, kind::SHUTDOWN, 0, &[]);
    assert_eq!(guest.next().kind, kind::DONE);
    assert!(guest.process.wait().unwrap().success());
}
