//! Files as modules see them.

use super::host::Host;
use sublet_guest::messages::Status;

/// Writes "hello" to out/made.txt in a folder that it makes, reads it back, and lists the folder.
const WORK: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "out") (data (i32.const 110) "out/made.txt") (data (i32.const 130) "hello")
  (data (i32.const 140) "../up") (data (i32.const 150) "out/kept.txt")
  (func $fine (param i32) (if (local.get 0) (then unreachable)))
  (func $is (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
  (func (export "_start") (local $fd i32)
    (call $fine (call $mkdir (i32.const 3) (i32.const 100) (i32.const 3)))
    (call $is (call $mkdir (i32.const 3) (i32.const 100) (i32.const 3)) (i32.const 20))
    (call $is (call $mkdir (i32.const 3) (i32.const 140) (i32.const 5)) (i32.const 76))
    (call $is (call $unlink (i32.const 3) (i32.const 110) (i32.const 12)) (i32.const 44))
    (call $fine (call $open (i32.const 3) (i32.const 0) (i32.const 110) (i32.const 12)
      (i32.const 5) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 0)))
    (local.set $fd (i32.load (i32.const 0)))
    (i32.store (i32.const 8) (i32.const 130))
    (i32.store (i32.const 12) (i32.const 5))
    (call $fine (call $write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 0)))
    (call $is (i32.load (i32.const 0)) (i32.const 5))
    (call $fine (call $seek (local.get $fd) (i64.const -4) (i32.const 2) (i32.const 16)))
    (i32.store (i32.const 8) (i32.const 1000))
    (i32.store (i32.const 12) (i32.const 100))
    (call $fine (call $read (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 0)))
    (call $is (i32.load (i32.const 0)) (i32.const 4))
    (call $is (i32.load (i32.const 1000)) (i32.load (i32.const 131)))
    (call $fine (call $close (local.get $fd)))
    (call $is (call $close (local.get $fd)) (i32.const 8))
    (call $fine (call $stat (i32.const 3) (i32.const 0) (i32.const 110) (i32.const 12) (i32.const 2000)))
    (call $is (i32.load8_u (i32.const 2016)) (i32.const 4))
    (call $is (i32.load (i32.const 2032)) (i32.const 5))
    (call $fine (call $rename (i32.const 3) (i32.const 110) (i32.const 12) (i32.const 3) (i32.const 150) (i32.const 12)))
    (call $fine (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 3)
      (i32.const 2) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
    (call $fine (call $list (i32.load (i32.const 0)) (i32.const 3000) (i32.const 1000) (i64.const 0) (i32.const 4)))
    (call $is (i32.load (i32.const 4)) (i32.const 32))
    (call $is (i32.load (i32.const 3016)) (i32.const 8))))"#;

#[test]
fn a_module_makes_reads_and_renames_files() {
    let mut host = Host::identified();
    host.put_wat("work.wasm", WORK);
    let heard = host.run("work.wasm", b"");
    assert_eq!(heard.status, Some(Status::Code(0)), "{}", heard.stderr());
    // What one job left, the next one finds.
    host.put_wat("digest.wasm", include_str!("../../../jobs/digest.wat"));
    let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n";
    assert_eq!(host.run("digest.wasm out/kept.txt", b"").stdout(), digest);
}
