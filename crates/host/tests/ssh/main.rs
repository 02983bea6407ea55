//! The SSH server before the real guest program, with the OpenSSH client that people have.

mod files;
mod forwards;
mod jobs;
#[path = "../rehearsal/mod.rs"]
mod rehearsal;
mod setup;

use setup::{Cert, House, sha256};
use std::time::Duration;
use sublet_host::guest_link::Status;
use sublet_host::ssh::SessionEvent;
use tokio::time::{Instant, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_with_status_and_streams_apart() {
    let house = House::open().await;
    let table: [(&[&str], &str, &str, i32); 6] = [
        (&["echo out; echo err >&2; exit 7"], "out\n", "err\n", 7),
        (&["true"], "", "", 0),
        (&["cat"], "typed", "", 0),
        (&["echo $USER $HOME $SUBLET_LEASE"], "root /root lease_a\n", "", 0),
        (&["kill -TERM $$"], "", "", 255),
        (&["no-such-program-here"], "", "not found", 127),
    ];
    for (words, out, err, code) in table {
        let done = house.ssh(&[], words, b"typed").await;
        assert_eq!((done.out().as_str(), done.code()), (out, code), "{words:?}: {}", done.err());
        assert!(done.err().contains(err), "{words:?}: {}", done.err());
    }
    let refused = house.ssh(&["-s"], &["netconf"], b"").await;
    assert_ne!(refused.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_mib_through_stdin_are_the_same_inside() {
    let house = House::open().await;
    let bytes: Vec<u8> = (0..21_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let begun = Instant::now();
    let done = house.ssh(&[], &["sha256sum"], &bytes).await;
    assert_eq!(done.out(), format!("{}  -\n", sha256(&bytes)));
    eprintln!("{:.1} MiB/s in and digested", 20.0 / begun.elapsed().as_secs_f64());
    // Out and in at once, and more out than in: neither direction may wait for the other.
    for (line, factor) in [("cat", 1), ("while read -r -n 65536 x; do printf '%s%s%s%s' $x $x $x $x; done", 0)] {
        let begun = Instant::now();
        let input = if factor == 1 { bytes.clone() } else { vec![b'x'; 3 << 20] };
        let done = timeout(Duration::from_secs(120), house.ssh(&[], &[line], &input)).await.expect(line);
        match factor {
            1 => assert_eq!(sha256(&done.stdout), sha256(&bytes)),
            _ => assert!(done.stdout.iter().all(|b| *b == b'x')),
        }
        eprintln!("{line}: {} MiB out in {:?}", done.stdout.len() >> 20, begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_swells_does_not_stall_its_output() {
    let house = House::open().await;
    // Each byte in becomes 300 out, and more than both windows goes in.
    let swell = "python3 -c 'import sys\nfor b in iter(lambda: sys.stdin.buffer.read(1024), b\"\"): sys.stdout.buffer.write(b * 300)'";
    let input = vec![b's'; 1 << 20];
    let done = timeout(Duration::from_secs(120), house.ssh(&[], &[swell], &input)).await.expect("no stall");
    assert_eq!(done.stdout.len(), 300 << 20, "{}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_reads_slowly_holds_its_client_and_resumes() {
    let house = House::open().await;
    let before = rehearsal::resident_kib();
    let bytes = vec![b'w'; 16 << 20];
    let (done, held) = tokio::join!(house.ssh(&[], &["sleep 2; wc -c"], &bytes), async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        rehearsal::resident_kib()
    });
    assert_eq!(done.out().trim(), (16 << 20).to_string());
    assert!(held < before + 65_536, "{before} -> {held} KiB while the job slept");
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals() {
    let house = House::open().await;
    let done = house.ssh(&["-tt"], &["tty; stty size; echo $TERM; exit 3"], b"").await;
    assert!(done.out().starts_with("/dev/pts/"), "{}", done.out());
    assert!(done.code() == 3 && done.out().contains("\r\n"), "{}", done.out());
    let shell = house.ssh(&["-tt"], &[], b"echo a$((1+1))b; exit 5\n").await;
    assert!(shell.out().contains("a2b") && shell.code() == 5, "{} {}", shell.code(), shell.out());
    let typed = house.ssh(&["-tt"], &["cat; exit 6"], b"line\n").await;
    assert!(typed.out().contains("line\r\nline\r\n") && typed.code() == 6, "{}", typed.out());
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_chosen() {
    let house = House::open().await;
    let options = ["-o", "SetEnv=LC_ALL=C.UTF-8 SUBLET_ENV_X=1 LD_PRELOAD=/evil.so PATH=/evil"];
    let done = house.ssh(&options, &["echo $LC_ALL,$SUBLET_ENV_X,$LD_PRELOAD,$PATH"], b"").await;
    assert!(done.out().starts_with("C.UTF-8,1,,/usr/local/sbin:"), "{} {}", done.out(), done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_key_is_refused_with_its_reason() {
    let house = House::open().await;
    let keys = &house.keys;
    let good = || Cert { principals: "lease_a.g3", ..Cert::default() };
    let table: Vec<(&str, Option<Cert>, &str, &str)> = vec![
        ("expired", Some(Cert { validity: "-2h:-1h", ..good() }), "out_of_time", "has expired"),
        ("not yet valid", Some(Cert { validity: "+1h:+2h", ..good() }), "out_of_time", "not valid yet"),
        ("attacker's own CA", Some(Cert { ca: "attacker", ..good() }), "unknown_authority", "unknown authority"),
        ("another client's", Some(Cert { principals: "lease_b.g1", ..good() }), "other_lease", "another lease"),
        (
            "older generation",
            Some(Cert { principals: "lease_a.g2", ..good() }),
            "other_generation",
            "another generation",
        ),
        ("no principals", Some(Cert { principals: "", ..good() }), "no_principals", "names no lease"),
        // OpenSSH's client does not even offer this one; the server's own check has a test of its own.
        ("for a host", Some(Cert { host: true, ..good() }), "plain_key", "plain keys are not accepted"),
        ("forced", Some(Cert { option: "force-command=/bin/true", ..good() }), "critical_option", "force-command"),
        (
            "unknown option",
            Some(Cert { option: "critical:moon@sublet=full", ..good() }),
            "critical_option",
            "moon@sublet",
        ),
        ("plain key", None, "plain_key", "plain keys are not accepted"),
    ];
    for (name, cert, counted, words) in table {
        let before = house.refused(counted);
        let key = keys.issue(name, cert.as_ref());
        let done = house.ssh_with(&key, "lease_a", &[], &["echo in"], b"").await;
        assert_eq!((done.out().as_str(), done.code()), ("", 255), "{name}");
        assert!(done.err().contains(words), "{name}: {}", done.err());
        assert_eq!(house.refused(counted), before + 1, "{name} counted");
    }
    let done = house.ssh_with(&keys.issue("right", Some(&good())), "lease_z", &[], &["true"], b"").await;
    assert!(done.err().contains("no lease lease_z on this host"), "{}", done.err());
    // As `sublet` itself calls it: quiet, and asking nothing.
    let attackers = keys.issue("quiet", Some(&Cert { ca: "attacker", ..good() }));
    let quiet = ["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"];
    let done = house.ssh_with(&attackers, "lease_a", &quiet, &["true"], b"").await;
    assert!(done.err().contains("unknown authority"), "{}", done.err());
    let password = ["-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password"];
    let done = house.ssh(&password, &["echo in"], b"").await;
    assert!(done.code() == 255 && done.err().contains("Permission denied"), "{}", done.err());
    let done = house.ssh(&[], &["echo in"], b"").await;
    assert_eq!(done.out(), "in\n", "the right one still opens: {}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_modern_algorithms() {
    let house = House::open().await;
    for weak in ["Ciphers=aes128-ctr", "KexAlgorithms=diffie-hellman-group14-sha256", "HostKeyAlgorithms=ssh-rsa"] {
        let done = house.ssh(&["-o", weak], &["true"], b"").await;
        assert!(done.code() == 255 && done.err().contains("no matching"), "{weak}: {}", done.err());
    }
    for good in ["Ciphers=chacha20-poly1305@openssh.com", "KexAlgorithms=curve25519-sha256"] {
        let done = house.ssh(&["-o", good], &["true"], b"").await;
        assert_eq!(done.code(), 0, "{good}: {}", done.err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_before_the_boot_waits() {
    let house = House::boot_later().await;
    let early = house.ssh(&[], &["echo up"], b"");
    let boot = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(house.saw(|event| *event == SessionEvent::Authenticated), "let in before the boot");
        house.boot().await;
    };
    let (done, ()) = tokio::join!(early, boot);
    assert_eq!((done.out().as_str(), done.code()), ("up\n", 0), "{}", done.err());

    let house = House::boot_later().await;
    let (done, ()) = tokio::join!(house.ssh(&[], &["echo up"], b""), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        house.end_lease("its image did not boot");
    });
    assert!(done.code() == 255 && done.err().contains("its image did not boot"), "{}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_lease_ends_every_session_within_a_second() {
    let house = House::open().await;
    let sessions = [
        house.ssh(&[], &["sleep 1000"], b""),
        house.ssh(&["-tt"], &["sleep 1000"], b""),
        house.ssh(&[], &["yes"], b""),
        house.ssh(&["-N"], &[], b""),
    ];
    let ending = async {
        house
            .wait_for("3 jobs", |events| {
                events.iter().filter(|e| matches!(e, SessionEvent::Opened { .. })).count() == 3
            })
            .await;
        house.end_lease("taken back by the owner");
        Instant::now()
    };
    let (done, ended) = tokio::join!(futures_util::future::join_all(sessions), ending);
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
    for (at, done) in done.iter().enumerate() {
        assert_eq!(done.code(), 255, "{at}");
        assert!(done.err().contains("taken back by the owner"), "{at}: {}", done.err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_with_its_job_cuts_no_output() {
    let house = House::open().await;
    // All of it fits the buffers between job and client, so the job ends at once; then the lease does.
    let line = "head -c 2000000 /dev/zero; exit 3";
    let (done, ()) = tokio::join!(house.ssh_slowly(line), async {
        house.wait_for("the start", |events| events.iter().any(|e| matches!(e, SessionEvent::Opened { .. }))).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        house.end_lease("its job ended");
    });
    assert_eq!((done.stdout.len(), done.code()), (2_000_000, 3), "{}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_dies_ends_its_sessions() {
    let house = House::open().await;
    let (done, ()) = tokio::join!(house.ssh(&[], &["echo up; sleep 1000"], b""), async {
        house.wait_for("a job", |events| events.iter().any(|e| matches!(e, SessionEvent::Opened { .. }))).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        house.crash_guest();
        tokio::time::sleep(Duration::from_millis(200)).await;
        house.end_lease("its guest crashed");
    });
    assert!(done.code() == 255 && done.err().contains("its guest crashed"), "{}", done.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_job_of_a_one_shot_lease_outlives_its_client() {
    for options in [&[][..], &["-tt"]] {
        let house = House::one_shot().await;
        let mark = house.path("mark");
        let line = format!("echo up; sleep 1; echo done > {}; exit 4", mark.display());
        house.ssh_killed(options, &line, "up").await;
        let left = |events: &[SessionEvent]| events.iter().any(|event| matches!(event, SessionEvent::Left { .. }));
        house.wait_for("that nobody serves it", left).await;
        assert_eq!(house.job_ends().await, Status::Code(4), "it runs on");
        assert_eq!(std::fs::read_to_string(mark).unwrap(), "done\n");
        // A second command is not the job.
        assert_eq!(house.ssh(&[], &["echo second"], b"").await.out(), "second\n");
        let jobs = house.events().into_iter().filter(|e| matches!(e, SessionEvent::Opened { only: true, .. })).count();
        assert_eq!(jobs, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_takes_its_terminal_along() {
    let house = House::open().await;
    let mark = house.path("hung-up");
    let line = format!("trap 'echo hup > {}; exit' HUP; echo up; while :; do sleep 0.05; done", mark.display());
    house.ssh_killed(&["-tt"], &line, "up").await;
    let deadline = rehearsal::soon();
    while !mark.exists() {
        assert!(Instant::now() < deadline, "no SIGHUP");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let line = format!("echo up; cat > /dev/null; echo eof > {}", house.path("eof").display());
    house.ssh_killed(&[], &line, "up").await;
    while !house.path("eof").exists() {
        assert!(Instant::now() < deadline, "no end of input");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.wait_for("the connections' ends", |events| events.contains(&SessionEvent::Closed { remaining: 0 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_commands_over_one_connection() {
    let house = House::open().await;
    let control = house.path("ctl").display().to_string();
    let master = ["-M", "-N", "-f", "-S", &control];
    assert_eq!(house.ssh(&master, &[], b"").await.code(), 0);
    let shared = ["-S", control.as_str()];
    let commands: Vec<String> = (0..8).map(|n| format!("echo {n}; sleep 0.2")).collect();
    let all = commands.iter().map(|line| house.ssh_lines(&shared, line));
    for (n, done) in futures_util::future::join_all(all).await.into_iter().enumerate() {
        assert_eq!(done.out(), format!("{n}\n"), "{}", done.err());
    }
    for n in 0..12 {
        assert_eq!(house.ssh(&shared, &["true"], b"").await.code(), 0, "a channel that is over counts no more: {n}");
    }
    let entered = house.events().into_iter().filter(|event| *event == SessionEvent::Authenticated).count();
    assert_eq!(entered, 1, "all over the one connection");
    // One that is not read blocks none of the others.
    let zeros = vec![0; 8 << 20];
    let (stuck, free) =
        tokio::join!(timeout(Duration::from_secs(3), house.ssh(&shared, &["sleep 1000"], &zeros)), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            timeout(Duration::from_secs(2), house.ssh(&shared, &["echo free"], b"")).await
        });
    assert!(stuck.is_err());
    assert_eq!(free.expect("in time").out(), "free\n");
    house.ssh(&["-O", "exit", "-S", &control], &[], b"").await;
}
