use super::*;
use crate::vmm::Accelerator;
use std::os::unix::fs::FileExt;
use sublet_model::units::MiB;

fn shape(letter: char) -> Shape {
    let text = serde_json::json!({
        "format": 1,
        "boot": { "kind": "direct", "kernel": { "sha256": "00".repeat(32), "bytes": 1 }, "initrd": null, "root": null },
        "command_line": letter,
        "guest_channel": "c",
        "vcpus": 1,
        "memory": MiB(64),
        "accelerator": Accelerator::Tcg,
        "machine": "q35",
        "host": "here",
    });
    serde_json::from_value(text).unwrap()
}

/// Makes one whose memory has a part that was never touched.
async fn made(shelf: &Shelf, letter: char) -> Key {
    let files = shelf.begin(1 << 20, 0, 0).unwrap();
    let memory = File::options().write(true).open(&files.memory).unwrap();
    memory.write_all_at(&[letter as u8; 4096], 8192).unwrap();
    fs::write(&files.devices, "devices").unwrap();
    shelf.finish(&shape(letter)).await.unwrap()
}

#[tokio::test]
async fn what_was_made_is_had_until_a_byte_of_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path()).unwrap();
    assert!(shelf.take(&shape('a')).await.unwrap().is_none());
    let key = made(&shelf, 'a').await;
    let taken = shelf.take(&shape('a')).await.unwrap().unwrap();
    assert_eq!((taken.key.clone(), shelf.key_of(&taken.files.memory)), (key.clone(), Some(key.clone())));
    let mode = fs::metadata(&taken.files.memory).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o444, "nobody writes it, everybody reads what is handed over");
    assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700, "and nobody finds it");

    // The next agent reads it through, and finds it whole.
    let next = Shelf::open(dir.path()).unwrap();
    assert!(next.take(&shape('a')).await.unwrap().is_some());
    for (path, at) in [(&taken.files.memory, 8192 + 5), (&taken.files.devices, 0)] {
        // A file system's clock ticks in milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"x", at).unwrap();
        let error = next.take(&shape('a')).await.unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        assert!(next.take(&shape('a')).await.unwrap().is_none(), "thrown out");
        made(&next, 'a').await;
    }
}

#[tokio::test]
async fn half_a_template_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path()).unwrap();
    shelf.begin(1 << 20, 0, 0).unwrap();
    fs::create_dir(dir.path().join("0".repeat(32))).unwrap();
    fs::write(dir.path().join("0".repeat(32)).join("memory"), "half").unwrap();
    let next = Shelf::open(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(next.kept(&[]).is_empty());
    made(&next, 'b').await;
    assert_eq!(next.kept(&[]).len(), 1);
}

#[tokio::test]
async fn room_is_made_by_throwing_out_what_was_not_used_for_longest() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path()).unwrap();
    let a = made(&shelf, 'a').await;
    let b = made(&shelf, 'b').await;
    let c = made(&shelf, 'c').await;
    drop(shelf.take(&shape('b')).await.unwrap());
    drop(shelf.take(&shape('c')).await.unwrap());
    drop(shelf.take(&shape('a')).await.unwrap());
    let one = shelf.kept(&[])[0].bytes;
    assert!(one < 1 << 20, "what was never touched takes no room: {one}");
    let keys = |running: &[Key]| shelf.kept(running).into_iter().map(|k| k.key).collect::<Vec<_>>();

    let held = shelf.take(&shape('b')).await.unwrap();
    assert!(shelf.make_room(one, 3 * one, &[]).unwrap());
    assert!(!keys(&[]).contains(&c), "b was used less lately, but somebody is about to start from it");
    drop(held);
    assert!(!shelf.make_room(3 * one, 3 * one, std::slice::from_ref(&a)).unwrap(), "a machine runs from a");
    assert!(shelf.make_room(2 * one, 3 * one, std::slice::from_ref(&a)).unwrap());
    assert_eq!(keys(&[]), [a]);
    assert!(shelf.take(&shape('b')).await.unwrap().is_none() && b != c);
}
