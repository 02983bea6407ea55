//! Modules, each a few lines of text.

use super::host::{Heard, Host};
use sublet_guest::messages::Status;

/// Standard output and input of one buffer, at 0; what they say of it at 8.
const STREAMS: &str = r#"
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func $say (param $fd i32) (param $at i32) (param $bytes i32) (result i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $bytes))
    (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
"#;

/// A module that does this at its start; `more` stands before it.
pub fn module(more: &str, start: &str) -> String {
    format!("(module {STREAMS} {more} (func (export \"_start\") {start}))")
}

/// A module that ends with what a call answers, as its status.
fn status_of(import: &str, call: &str) -> String {
    format!(
        "(module (import \"wasi_snapshot_preview1\" {import})
           (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
           (memory (export \"memory\") 1)
           (func (export \"_start\") (call $exit {call})))"
    )
}

fn ran(text: &str, line: &str, input: &[u8]) -> Heard {
    let mut host = Host::identified();
    host.put_wat("job.wasm", text);
    host.run(line, input)
}

/// All input to the output.
pub fn cat() -> String {
    module(
        "",
        r#"(loop $again
          (i32.store (i32.const 0) (i32.const 4096))
          (i32.store (i32.const 4) (i32.const 50000))
          (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
          (if (i32.load (i32.const 8)) (then
            (call $all (i32.load (i32.const 8)))
            (br $again))))"#,
    )
    .replace(
        "(func (export",
        r#"(func $all (param $left i32) (local $at i32)
          (local.set $at (i32.const 4096))
          (loop $more
            (if (call $say (i32.const 1) (local.get $at) (local.get $left)) (then unreachable))
            (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
            (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.load (i32.const 8)))))))
        (func (export"#,
    )
}

#[test]
fn output_errors_and_status() {
    let text = module(
        r#"(data (i32.const 100) "out\n") (data (i32.const 200) "err\n")"#,
        "(drop (call $say (i32.const 1) (i32.const 100) (i32.const 4)))
         (drop (call $say (i32.const 2) (i32.const 200) (i32.const 4)))
         (call $exit (i32.const 7))",
    );
    let heard = ran(&text, "job.wasm", b"");
    assert_eq!((heard.stdout().as_str(), heard.stderr().as_str()), ("out\n", "err\n"));
    assert_eq!((heard.started, heard.status), (true, Some(Status::Code(7))));
    for line in ["./job.wasm", "/job.wasm", "'job.wasm' x"] {
        assert_eq!(ran(&text, line, b"").status, Some(Status::Code(7)), "{line}");
    }
}

#[test]
fn a_mebibyte_through_a_module_is_the_same_mebibyte() {
    let input: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let heard = ran(&cat(), "job.wasm", &input);
    assert_eq!(heard.status, Some(Status::Code(0)), "{}", heard.stderr());
    assert!(heard.data[0] == input, "{} bytes", heard.data[0].len());
}

#[test]
fn the_digest_is_the_one_that_others_compute() {
    let digest = include_str!("../../../jobs/digest.wat");
    let mut host = Host::identified();
    host.put_wat("digest.wasm", digest);
    for (input, expected) in [
        (&b""[..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1\n",
        ),
        (&[b'a'; 1_000_000], "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0\n"),
    ] {
        assert_eq!(host.run("digest.wasm", input).stdout(), expected);
        host.put("input", input);
        assert_eq!(host.run("digest.wasm input", b"").stdout(), expected);
    }
    let heard = host.run("digest.wasm nowhere", b"");
    assert_eq!((heard.status, heard.stderr().as_str()), (Some(Status::Code(1)), "digest: cannot read the file\n"));
}

#[test]
fn arguments_and_variables_arrive() {
    let text = |what: &str| {
        module(
            &format!(
                r#"(import "wasi_snapshot_preview1" "{what}_get" (func $get (param i32 i32) (result i32)))
                   (import "wasi_snapshot_preview1" "{what}_sizes_get" (func $sizes (param i32 i32) (result i32)))"#
            ),
            "(drop (call $sizes (i32.const 16) (i32.const 20)))
             (drop (call $get (i32.const 1000) (i32.const 2000)))
             (drop (call $say (i32.const 1) (i32.const 2000) (i32.load (i32.const 20))))
             (call $exit (i32.load (i32.const 16)))",
        )
    };
    // Imports come before everything else.
    let text = |what| {
        let text: String = text(what);
        let at = text.find("(import \"wasi_snapshot_preview1\" \"").unwrap();
        let more = text.find(&format!("(import \"wasi_snapshot_preview1\" \"{what}_get")).unwrap();
        let end = text[more..].find("(func (export").unwrap() + more;
        [&text[..at], &text[more..end], &text[at..more], &text[end..]].concat()
    };
    let heard = ran(&text("args"), "job.wasm 'a b' '' c", b"");
    assert_eq!((heard.stdout().as_str(), heard.status), ("job.wasm\0a b\0\0c\0", Some(Status::Code(4))));
    let heard = ran(&text("environ"), "X=1 COLOUR=red job.wasm", b"");
    let expected = "HOME=/\0USER=root\0LOGNAME=root\0SUBLET_LEASE=lease_1\0COLOUR=red\0X=1\0";
    assert_eq!((heard.stdout().as_str(), heard.status), (expected, Some(Status::Code(6))));
}

#[test]
fn a_fault_of_a_module_is_its_own_end_and_said() {
    for (start, words) in [
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const 0x7fffffff)))", "out of bounds"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(call $deep)", "stack"),
    ] {
        let heard = ran(&module("(func $deep (call $deep))", start), "job.wasm", b"");
        assert_eq!(heard.status, Some(Status::Code(134)), "{start}");
        assert!(heard.stderr().starts_with("job.wasm: ") && heard.stderr().contains(words), "{}", heard.stderr());
    }
}

#[test]
fn what_is_no_command_is_refused_in_words() {
    let mut host = Host::identified();
    for (text, words) in [
        ("(module)", "no _start"),
        ("(module (func (export \"_start\") (param i32)))", "takes or returns"),
        ("(module (import \"env\" \"f\" (func)) (func (export \"_start\")))", "env.f"),
        ("(module (import \"env\" \"m\" (memory 1)) (func (export \"_start\")))", "no function"),
        ("(module (func $f) (start $f) (func (export \"_start\")))", "start"),
        ("(module (memory 60000) (func (export \"_start\")))", "memory"),
        ("(module (table 9000000 funcref) (func (export \"_start\")))", "table"),
        ("(module (import \"wasi_snapshot_preview1\" \"fd_close\" (func)) (func (export \"_start\")))", "fd_close"),
    ] {
        host.put_wat("job.wasm", text);
        let heard = host.run("job.wasm", b"");
        assert!(heard.words().contains(words), "{text}: {:?}", heard.words());
    }
    host.put("job.wasm", b"#!/bin/sh\n");
    assert!(host.run("job.wasm", b"").words().contains("no WebAssembly module"));
    host.put("job.wasm", b"\0asm\x01\0\0\0\xff\xff");
    assert!(host.run("job.wasm", b"").refused.is_some());
}

#[test]
fn a_module_gets_what_memory_there_is_and_no_more() {
    // Grows by a MiB until it is refused, and ends with how often it was not.
    let text = module(
        "",
        "(local $count i32)
         (loop $more
           (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then
             (local.set $count (i32.add (local.get $count) (i32.const 1)))
             (br_if $more (i32.lt_u (local.get $count) (i32.const 200))))))
         (call $exit (local.get $count))",
    );
    let mut host = Host::identified();
    host.put_wat("job.wasm", &text);
    host.machine.free_bytes.set(crate::KEPT_BYTES + (1 << 20) + 1000);
    // The machine of this test does not count: each MiB is asked for by itself.
    assert_eq!(host.run("job.wasm", b"").status, Some(Status::Code(200)));
    host.machine.free_bytes.set(crate::KEPT_BYTES + (1 << 20) + 1000);
    let stream = host.start("job.wasm");
    host.machine.free_bytes.set(crate::KEPT_BYTES + (1 << 20) - 1);
    assert_eq!(host.finish(stream).status, Some(Status::Code(0)));
}

#[test]
fn places_outside_a_modules_memory_are_faults_of_the_call() {
    const FAULT: Status = Status::Code(21);
    for (import, call) in [
        ("\"random_get\" (func $f (param i32 i32) (result i32))", "(call $f (i32.const 65530) (i32.const 7))"),
        ("\"random_get\" (func $f (param i32 i32) (result i32))", "(call $f (i32.const -1) (i32.const -1))"),
        ("\"args_get\" (func $f (param i32 i32) (result i32))", "(call $f (i32.const -4) (i32.const 0))"),
        (
            "\"fd_write\" (func $f (param i32 i32 i32 i32) (result i32))",
            "(call $f (i32.const 1) (i32.const 65533) (i32.const 1) (i32.const 0))",
        ),
        ("\"fd_fdstat_get\" (func $f (param i32 i32) (result i32))", "(call $f (i32.const 1) (i32.const -1))"),
        ("\"fd_filestat_get\" (func $f (param i32 i32) (result i32))", "(call $f (i32.const 1) (i32.const -1))"),
        (
            "\"poll_oneoff\" (func $f (param i32 i32 i32 i32) (result i32))",
            "(call $f (i32.const -48) (i32.const 0) (i32.const 1) (i32.const 0))",
        ),
    ] {
        assert_eq!(ran(&status_of(import, call), "job.wasm", b"").status, Some(FAULT), "{import} {call}");
    }
}

#[test]
fn what_there_is_not_says_so() {
    let text = status_of(
        "\"sock_accept\" (func $f (param i32 i32 i32) (result i32))",
        "(call $f (i32.const 0) (i32.const 0) (i32.const 0))",
    );
    assert_eq!(ran(&text, "job.wasm", b"").status, Some(Status::Code(52)));
}

#[test]
fn clocks_go_and_sleep_takes_its_time() {
    // Sleeps for 2 s, and ends with how many passed; before, it looks at the time of day.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start")
          (drop (call $time (i32.const 0) (i64.const 1) (i32.const 800)))
          (if (i64.ne (i64.div_u (i64.load (i32.const 800)) (i64.const 1000000000)) (i64.const 1700000000))
            (then unreachable))
          (i64.store (i32.const 0) (i64.const 42))
          (i32.store (i32.const 16) (i32.const 1))
          (i64.store (i32.const 24) (i64.const 2000000000))
          (drop (call $time (i32.const 1) (i64.const 1) (i32.const 800)))
          (if (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)) (then unreachable))
          (if (i64.ne (i64.load (i32.const 100)) (i64.const 42)) (then unreachable))
          (if (i32.ne (i32.load (i32.const 200)) (i32.const 1)) (then unreachable))
          (drop (call $time (i32.const 1) (i64.const 1) (i32.const 808)))
          (call $exit (i32.wrap_i64 (i64.div_u
            (i64.sub (i64.load (i32.const 808)) (i64.load (i32.const 800))) (i64.const 1000000000))))))"#;
    let heard = ran(text, "job.wasm", b"");
    assert_eq!(heard.status, Some(Status::Code(2)), "{}", heard.stderr());
}
