;; digest [FILE]: the SHA-256 of the file, or of standard input, in hexadecimal, and a newline.
;;
;; memory:     0  the 64 constants           256  the state, eight words
;;           288  the schedule, 64 words     544  one piece to read or write, and how much it was
;;           560  the name's pointers        600  the digest in letters
;;          1024  the arguments             65536  what was read; of each read whole blocks are digested
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 3)

  (data (i32.const 0)
    "\98\2f\8a\42\91\44\37\71\cf\fb\c0\b5\a5\db\b5\e9\5b\c2\56\39\f1\11\f1\59\a4\82\3f\92\d5\5e\1c\ab"
    "\98\aa\07\d8\01\5b\83\12\be\85\31\24\c3\7d\0c\55\74\5d\be\72\fe\b1\de\80\a7\06\dc\9b\74\f1\9b\c1"
    "\c1\69\9b\e4\86\47\be\ef\c6\9d\c1\0f\cc\a1\0c\24\6f\2c\e9\2d\aa\84\74\4a\dc\a9\b0\5c\da\88\f9\76"
    "\52\51\3e\98\6d\c6\31\a8\c8\27\03\b0\c7\7f\59\bf\f3\0b\e0\c6\47\91\a7\d5\51\63\ca\06\67\29\29\14"
    "\85\0a\b7\27\38\21\1b\2e\fc\6d\2c\4d\13\0d\38\53\54\73\0a\65\bb\0a\6a\76\2e\c9\c2\81\85\2c\72\92"
    "\a1\e8\bf\a2\4b\66\1a\a8\70\8b\4b\c2\a3\51\6c\c7\19\e8\92\d1\24\06\99\d6\85\35\0e\f4\70\a0\6a\10"
    "\16\c1\a4\19\08\6c\37\1e\4c\77\48\27\b5\bc\b0\34\b3\0c\1c\39\4a\aa\d8\4e\4f\ca\9c\5b\f3\6f\2e\68"
    "\ee\82\8f\74\6f\63\a5\78\14\78\c8\84\08\02\c7\8c\fa\ff\be\90\eb\6c\50\a4\f7\a3\f9\be\f2\78\71\c6")
  (data (i32.const 256)
    "\67\e6\09\6a\85\ae\67\bb\72\f3\6e\3c\3a\f5\4f\a5\7f\52\0e\51\8c\68\05\9b\ab\d9\83\1f\19\cd\e0\5b")
  (data (i32.const 700) "digest: cannot read the file\0a")

  (func $big_endian (param $word i32) (result i32)
    (i32.or
      (i32.rotl (i32.and (local.get $word) (i32.const 0x00ff00ff)) (i32.const 24))
      (i32.rotl (i32.and (local.get $word) (i32.const 0xff00ff00)) (i32.const 8))))

  (func $sigma (param $x i32) (param $a i32) (param $b i32) (param $c i32) (result i32)
    (i32.xor
      (i32.xor (i32.rotr (local.get $x) (local.get $a)) (i32.rotr (local.get $x) (local.get $b)))
      (i32.shr_u (local.get $x) (local.get $c))))

  (func $sum (param $x i32) (param $a i32) (param $b i32) (param $c i32) (result i32)
    (i32.xor
      (i32.xor (i32.rotr (local.get $x) (local.get $a)) (i32.rotr (local.get $x) (local.get $b)))
      (i32.rotr (local.get $x) (local.get $c))))

  ;; Digests the 64 bytes at $at.
  (func $block (param $at i32)
    (local $i i32) (local $p i32) (local $t i32) (local $u i32)
    (local $a i32) (local $b i32) (local $c i32) (local $d i32)
    (local $e i32) (local $f i32) (local $g i32) (local $h i32)
    (loop $load
      (i32.store offset=288 (local.get $i)
        (call $big_endian (i32.load (i32.add (local.get $at) (local.get $i)))))
      (br_if $load (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 64))))
    (loop $extend
      (i32.store offset=288 (local.get $i)
        (i32.add
          (i32.add
            (i32.load offset=288 (i32.sub (local.get $i) (i32.const 64)))
            (call $sigma (i32.load offset=288 (i32.sub (local.get $i) (i32.const 60)))
              (i32.const 7) (i32.const 18) (i32.const 3)))
          (i32.add
            (i32.load offset=288 (i32.sub (local.get $i) (i32.const 28)))
            (call $sigma (i32.load offset=288 (i32.sub (local.get $i) (i32.const 8)))
              (i32.const 17) (i32.const 19) (i32.const 10)))))
      (br_if $extend (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 256))))
    (local.set $a (i32.load offset=256 (i32.const 0)))
    (local.set $b (i32.load offset=256 (i32.const 4)))
    (local.set $c (i32.load offset=256 (i32.const 8)))
    (local.set $d (i32.load offset=256 (i32.const 12)))
    (local.set $e (i32.load offset=256 (i32.const 16)))
    (local.set $f (i32.load offset=256 (i32.const 20)))
    (local.set $g (i32.load offset=256 (i32.const 24)))
    (local.set $h (i32.load offset=256 (i32.const 28)))
    (local.set $i (i32.const 0))
    (loop $round
      (local.set $t
        (i32.add
          (i32.add
            (i32.add (local.get $h) (call $sum (local.get $e) (i32.const 6) (i32.const 11) (i32.const 25)))
            (i32.xor (i32.and (local.get $e) (local.get $f))
              (i32.and (i32.xor (local.get $e) (i32.const -1)) (local.get $g))))
          (i32.add (i32.load (local.get $i)) (i32.load offset=288 (local.get $i)))))
      (local.set $u
        (i32.add
          (call $sum (local.get $a) (i32.const 2) (i32.const 13) (i32.const 22))
          (i32.xor
            (i32.xor (i32.and (local.get $a) (local.get $b)) (i32.and (local.get $a) (local.get $c)))
            (i32.and (local.get $b) (local.get $c)))))
      (local.set $h (local.get $g))
      (local.set $g (local.get $f))
      (local.set $f (local.get $e))
      (local.set $e (i32.add (local.get $d) (local.get $t)))
      (local.set $d (local.get $c))
      (local.set $c (local.get $b))
      (local.set $b (local.get $a))
      (local.set $a (i32.add (local.get $t) (local.get $u)))
      (br_if $round (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 256))))
    (call $add (i32.const 0) (local.get $a))
    (call $add (i32.const 4) (local.get $b))
    (call $add (i32.const 8) (local.get $c))
    (call $add (i32.const 12) (local.get $d))
    (call $add (i32.const 16) (local.get $e))
    (call $add (i32.const 20) (local.get $f))
    (call $add (i32.const 24) (local.get $g))
    (call $add (i32.const 28) (local.get $h)))

  (func $add (param $at i32) (param $value i32)
    (i32.store offset=256 (local.get $at) (i32.add (i32.load offset=256 (local.get $at)) (local.get $value))))

  ;; What to read: the file that is named, or standard input.
  (func $source (result i32)
    (local $name i32) (local $end i32)
    (drop (call $args_sizes_get (i32.const 544) (i32.const 548)))
    (if (i32.lt_u (i32.load (i32.const 544)) (i32.const 2)) (then (return (i32.const 0))))
    (drop (call $args_get (i32.const 560) (i32.const 1024)))
    (local.set $name (i32.load (i32.const 564)))
    (local.set $end (local.get $name))
    (block $found
      (loop $next
        (br_if $found (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (if (call $path_open (i32.const 3) (i32.const 1) (local.get $name) (i32.sub (local.get $end) (local.get $name))
          (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 552))
      (then (call $fail)))
    (i32.load (i32.const 552)))

  (func $fail
    (i32.store (i32.const 544) (i32.const 700))
    (i32.store (i32.const 548) (i32.const 29))
    (drop (call $fd_write (i32.const 2) (i32.const 544) (i32.const 1) (i32.const 552)))
    (call $proc_exit (i32.const 1)))

  (func $print
    (local $i i32) (local $nibble i32)
    (loop $next
      (local.set $nibble
        (i32.and
          (i32.shr_u
            (i32.load offset=256 (i32.and (i32.shr_u (local.get $i) (i32.const 1)) (i32.const 0x1c)))
            (i32.shl (i32.sub (i32.const 7) (i32.and (local.get $i) (i32.const 7))) (i32.const 2)))
          (i32.const 15)))
      (i32.store8 offset=600 (local.get $i)
        (i32.add (local.get $nibble)
          (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $nibble) (i32.const 10)))))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 64))))
    (i32.store8 (i32.const 664) (i32.const 10))
    (i32.store (i32.const 544) (i32.const 600))
    (i32.store (i32.const 548) (i32.const 65))
    (drop (call $fd_write (i32.const 1) (i32.const 544) (i32.const 1) (i32.const 552))))

  (func (export "_start")
    (local $fd i32) (local $kept i32) (local $at i32) (local $total i64)
    (local.set $fd (call $source))
    (block $end
      (loop $read
        (i32.store (i32.const 544) (i32.add (i32.const 65536) (local.get $kept)))
        (i32.store (i32.const 548) (i32.const 65536))
        (if (call $fd_read (local.get $fd) (i32.const 544) (i32.const 1) (i32.const 552)) (then (call $fail)))
        (br_if $end (i32.eqz (i32.load (i32.const 552))))
        (local.set $total (i64.add (local.get $total) (i64.extend_i32_u (i32.load (i32.const 552)))))
        (local.set $kept (i32.add (local.get $kept) (i32.load (i32.const 552))))
        (local.set $at (i32.const 65536))
        (block $rest
          (loop $blocks
            (br_if $rest (i32.lt_u (local.get $kept) (i32.const 64)))
            (call $block (local.get $at))
            (local.set $at (i32.add (local.get $at) (i32.const 64)))
            (local.set $kept (i32.sub (local.get $kept) (i32.const 64)))
            (br $blocks)))
        (memory.copy (i32.const 65536) (local.get $at) (local.get $kept))
        (br $read)))
    ;; The rest, a one, zeros, and the length in bits, up to a whole block.
    (local.set $at (i32.add (i32.const 65536) (local.get $kept)))
    (memory.fill (local.get $at) (i32.const 0) (i32.const 128))
    (i32.store8 (local.get $at) (i32.const 0x80))
    (local.set $at
      (select (i32.const 65536) (i32.const 65600) (i32.lt_u (local.get $kept) (i32.const 56))))
    (i32.store offset=56 (local.get $at)
      (call $big_endian (i32.wrap_i64 (i64.shr_u (local.get $total) (i64.const 29)))))
    (i32.store offset=60 (local.get $at)
      (call $big_endian (i32.shl (i32.wrap_i64 (local.get $total)) (i32.const 3))))
    (call $block (i32.const 65536))
    (if (i32.ne (local.get $at) (i32.const 65536)) (then (call $block (local.get $at))))
    (call $print)))
