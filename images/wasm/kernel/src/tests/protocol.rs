//! What the host says beside jobs.

use super::host::{Host, identity};
use super::modules::{cat, module};
use sublet_guest::messages::{Identity, Ready, Stats, Status, kind};

#[test]
fn nothing_runs_before_the_identity() {
    let mut host = Host::new();
    let stream = host.start("job.wasm");
    assert!(host.finish(stream).words().contains("before the identity"));
    let stream = host.sftp();
    assert!(host.finish(stream).words().contains("before the identity"));
}

#[test]
fn an_identity_is_taken_once_and_told_to_whoever_asks() {
    let mut host = Host::new();
    assert_eq!(host.ask(kind::TEMPLATE, &[]).0, kind::REFUSED, "it boots as quickly");
    let few = Identity { entropy: vec![1; 63], ..identity() };
    assert_eq!(host.ask(kind::IDENTITY, &few.encode()).0, kind::REFUSED);
    let disk = Identity { disk_gib: 1, ..identity() };
    assert!(String::from_utf8(host.ask(kind::IDENTITY, &disk.encode()).1).unwrap().contains("scratch disk"));
    assert_eq!(host.connect().identity, None);
    let (said, ready) = host.ask(kind::IDENTITY, &identity().encode());
    assert_eq!(said, kind::READY);
    assert!(Ready::decode(&ready).unwrap().kernel.starts_with("sublet-wasm"));
    let welcome = host.connect();
    assert_eq!((welcome.identity, welcome.boot_id.len()), (Some(("lease_1".into(), 3)), 36));
    assert_eq!(host.ask(kind::IDENTITY, &identity().encode()).0, kind::READY, "again, and the same");
    assert_eq!(host.connect().boot_id, welcome.boot_id);
    let other = Identity { generation: 4, ..identity() };
    assert_eq!(host.ask(kind::IDENTITY, &other.encode()).0, kind::REFUSED);
}

#[test]
fn questions_are_answered_and_nonsense_is_refused() {
    let mut host = Host::identified();
    assert_eq!(host.ask(kind::PING, b"ping"), (kind::PONG, b"ping".to_vec()));
    let (said, stats) = host.ask(kind::STATS, &[]);
    assert_eq!((said, Stats::decode(&stats).unwrap().memory_total_kib), (kind::STATS_ARE, 64 * 1024));
    for (asked, payload) in [(kind::EXEC, &b"x"[..]), (kind::FORGET, b"nothing"), (kind::TAIL, b"nothing"), (999, b"")]
    {
        assert_eq!(host.ask(asked, payload).0, kind::REFUSED, "{asked}");
    }
    let figures = host.run("/proc/self/exe figures", b"").stdout();
    assert!(figures.starts_with("vcpus 2\n") && figures.contains("present 16384\ngeneration=3\n"), "{figures}");
    assert_eq!(host.ask(kind::SHUTDOWN, &[]).0, kind::DONE);
    assert_eq!(host.turn(), crate::After::PowerOff);
}

#[test]
fn a_host_that_comes_back_finds_its_job_and_what_it_said() {
    let text = module(
        r#"(data (i32.const 100) "said\n")"#,
        "(drop (call $say (i32.const 1) (i32.const 100) (i32.const 5)))
         (i32.store (i32.const 0) (i32.const 200))
         (i32.store (i32.const 4) (i32.const 10))
         (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
         (drop (call $say (i32.const 1) (i32.const 100) (i32.const 5)))
         (call $exit (i32.const 3))",
    );
    let mut host = Host::identified();
    host.put_wat("job.wasm", &text);
    host.put_wat("cat.wasm", &cat());
    let stream = host.start("job.wasm");
    host.until(|host| host.heard.get(&stream).is_some_and(|heard| heard.stdout() == "said\n"));
    // Its input ends with the host that had it; it goes on and is over.
    host.connect();
    host.until(|host| host.guest.outgoing().is_empty());
    for _ in 0..100 {
        host.turn();
    }
    let welcome = host.connect();
    let job = welcome.jobs.iter().find(|job| job.job == "job_1" && job.ended == Some(Status::Code(3)));
    assert!(job.is_some(), "{:?}", welcome.jobs);
}
