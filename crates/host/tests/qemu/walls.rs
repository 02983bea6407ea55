//! A hostile program in QEMU's place: what could a guest reach that has taken QEMU over? (QEMU's
//! own seccomp filter, which would forbid it even to run these commands, is not counted here.)

use crate::fixture::{PATIENCE, UID, guard_program, in_seconds};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Instant;
use sublet_host::guard::record::{ExitRecord, Handed, Order, RunDir};
use uuid::Uuid;

/// Runs `script` as QEMU would run, with one file handed over.
fn in_its_place(script: &str, dir: &std::path::Path) -> ExitRecord {
    let run_dir = RunDir::new(dir);
    let handed = dir.join("handed");
    std::fs::write(&handed, "handed over\n").unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let order = Order {
        generation: 1,
        uuid: Uuid::from_u128(1),
        program: "/bin/bash".into(),
        arguments: ["--norc", "-c", script].map(str::to_owned).to_vec(),
        listen: vec![],
        open: vec![Handed { path: handed, fd: 100, write: false }],
        largest_file_bytes: 0,
        input: None,
        uid: UID,
        gid: UID,
        groups: vec![],
        namespaces: is_root,
        control_groups: vec![],
    };
    run_dir.write_order(&order).unwrap();
    run_dir.write_deadline(in_seconds(60)).unwrap();
    let mut guard =
        Command::new(guard_program()).arg("guard").arg("--run-dir").arg(dir).stdout(Stdio::null()).spawn().unwrap();
    assert!(guard.wait().unwrap().success());
    run_dir.read_exit().unwrap()
}

#[test]
fn a_program_in_its_place_reaches_nothing() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not tried: only root can give a partition its own user");
    }
    let dir = tempfile::tempdir().unwrap();
    // Everything here is open to every user: only the walls are left.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let inner = dir.path().join("run");
    std::fs::create_dir(&inner).unwrap();
    std::fs::set_permissions(&inner, PermissionsExt::from_mode(0o777)).unwrap();
    let bait = dir.path().join("bait");
    std::fs::write(&bait, "bait").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = std::process::id();
    let (bait, order) = (bait.display(), inner.join("order.json").display().to_string());

    let attempts = [
        ("read a file", format!("cat {bait}")),
        ("read the accounts", "cat /etc/passwd".into()),
        ("read its order", format!("cat {order}")),
        ("list a directory", format!("ls {}", dir.path().display())),
        ("make a file", format!("echo x > {}/new", dir.path().display())),
        ("grow a file it may write", format!("echo x >> {bait}")),
        ("read the environment of another", format!("cat /proc/{own}/environ")),
        ("list processes", "ls /proc".into()),
        ("kill the agent", format!("kill -0 {own}")),
        ("kill the guard", "kill -0 $PPID".into()),
        ("connect to a loopback port", format!("echo x > /dev/tcp/127.0.0.1/{port}")),
        ("see a network device", "ip link show up | grep .".into()),
        ("become root", "su root -c true".into()),
        ("mount", "mount -t tmpfs none /mnt".into()),
        ("a namespace with rights", "unshare -Ur true && unshare -Urm mount -t tmpfs none /mnt".into()),
    ];
    let tries: String = attempts
        .iter()
        .map(|(what, try_it)| format!("if ({try_it}) >/dev/null 2>&1; then echo 'REACHED {what}' >&2; fi\n"))
        .collect();
    let script = format!("{tries} cat <&100 >&2; cat /proc/self/fd/100 >&2; echo done >&2; exit 3");
    let start = Instant::now();
    let exit = in_its_place(&script, &inner);
    assert!(start.elapsed() < PATIENCE);
    assert!(exit.said.contains("handed over") && exit.said.contains("done"), "the stub itself must run: {exit:?}");
    assert!(!exit.said.contains("REACHED"), "{}", exit.said);
    assert_eq!(exit.cause, sublet_host::guard::record::ExitCause::Exited { code: 3 });
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody came");
}

/// The attempts above would succeed without walls: else they would show nothing.
#[test]
fn without_walls_the_same_would_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for attempt in [
        "cat /etc/passwd",
        "ls /proc",
        "kill -0 $PPID",
        &format!("echo x > /dev/tcp/127.0.0.1/{port}"),
        "ip link show up | grep .",
    ] {
        let status = Command::new("bash").args(["-c", attempt]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "{attempt}");
    }
}
