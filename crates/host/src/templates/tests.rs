use super::decide::{Kept, MOST_FAILURES, Scene, Wanted, evict, next};
use super::*;
use std::collections::BTreeMap;
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, Millicores};

fn key(letter: char) -> Key {
    Key(letter.to_string().repeat(32))
}

fn kept(letter: char, bytes: u64, used: u64, in_use: bool) -> Kept {
    Kept { key: key(letter), bytes, used, in_use }
}

fn resources(cpu: i64, memory: i64) -> Resources {
    Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(0) }
}

fn wanted(letters: &str) -> Vec<Wanted> {
    letters.chars().map(|c| Wanted { key: key(c), bytes: 10, needs: resources(500, 256) }).collect()
}

#[test]
fn the_least_lately_used_goes_and_never_one_in_use() {
    let shelf = [kept('a', 10, 3, false), kept('b', 10, 1, true), kept('c', 10, 2, false)];
    let table: [(u64, u64, Option<&[char]>); 7] = [
        (10, 40, Some(&[])),
        (10, 39, Some(&['c'])),
        (10, 30, Some(&['c'])),
        (10, 29, Some(&['c', 'a'])),
        (10, 20, Some(&['c', 'a'])),
        (10, 19, None),
        (u64::MAX, 1 << 40, None),
    ];
    for (bytes, limit, expected) in table {
        let expected = expected.map(|letters| letters.iter().map(|c| key(*c)).collect::<Vec<_>>());
        assert_eq!(evict(&shelf, bytes, limit), expected, "{bytes} into {limit}");
    }
}

#[test]
fn the_most_wanted_is_made_where_there_is_room_for_it() {
    let none = BTreeMap::new();
    let failed = BTreeMap::from([(key('a'), MOST_FAILURES)]);
    let almost = BTreeMap::from([(key('a'), MOST_FAILURES - 1)]);
    let room = resources(1000, 512);
    let scene = |starts, kept| Scene { starts, kept, failures: &none, room, busy: false, limit_bytes: 20 };
    let (aab, ab, a) = (wanted("aab"), wanted("ab"), wanted("a"));
    let has_a = [kept('a', 10, 1, false)];
    let (others, in_use) = ([kept('x', 10, 1, false), kept('b', 10, 2, false)], [kept('x', 20, 1, true)]);
    let table: [(&str, Scene<'_>, Option<char>); 12] = [
        ("nothing was started", scene(&[], &[]), None),
        ("the more wanted one", scene(&aab, &[]), Some('a')),
        ("the later one", scene(&ab, &[]), Some('b')),
        ("what is there is not made", scene(&aab, &has_a), Some('b')),
        ("something is on its way up", Scene { busy: true, ..scene(&a, &[]) }, None),
        ("no processor is free", Scene { room: resources(499, 512), ..scene(&a, &[]) }, None),
        ("no memory is free", Scene { room: resources(1000, 255), ..scene(&a, &[]) }, None),
        ("it failed too often", Scene { failures: &failed, ..scene(&a, &[]) }, None),
        ("it failed a little", Scene { failures: &almost, ..scene(&a, &[]) }, Some('a')),
        ("what nobody wants goes for it", scene(&a, &others), Some('a')),
        ("what runs does not go for it", scene(&a, &in_use), None),
        ("no templates are kept at all", Scene { limit_bytes: 0, ..scene(&a, &[]) }, None),
    ];
    for (what, scene, expected) in table {
        assert_eq!(next(&scene), expected.map(key), "{what}");
    }
    // One that is as much wanted as what would have to go: else they would take turns for ever.
    let shelf = [kept('b', 20, 1, false)];
    assert_eq!(next(&scene(&ab, &shelf)), None);
    assert_eq!(next(&scene(&aab, &shelf)), Some(key('a')));
}

#[test]
fn machines_that_differ_in_anything_have_other_keys() {
    let shape = |vcpus: u16, memory: i64, accelerator, host: &str| Shape {
        format: FORMAT,
        boot: serde_json::from_value(serde_json::json!({
            "kind": "direct", "kernel": { "sha256": "00".repeat(32), "bytes": 1 }, "initrd": null, "root": null,
        }))
        .unwrap(),
        command_line: "quiet".into(),
        guest_channel: "c".into(),
        vcpus,
        memory: MiB(memory),
        accelerator,
        machine: "q35".into(),
        host: host.into(),
    };
    let one = shape(1, 256, Accelerator::Tcg, "10.0");
    assert_eq!(one.key(), one.clone().key());
    assert_eq!(Key::parse(one.key().as_str()), Some(one.key()));
    let mut keys = vec![
        one.key(),
        shape(2, 256, Accelerator::Tcg, "10.0").key(),
        shape(1, 257, Accelerator::Tcg, "10.0").key(),
        shape(1, 256, Accelerator::Kvm, "10.0").key(),
        shape(1, 256, Accelerator::Tcg, "10.1").key(),
        Shape { command_line: "quiet x".into(), ..one.clone() }.key(),
        Shape { guest_channel: "d".into(), ..one.clone() }.key(),
        Shape { machine: "pc".into(), ..one.clone() }.key(),
        Shape { format: FORMAT + 1, ..one }.key(),
    ];
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 9);
    for name in ["", "making", "../../etc", "0123456789abcdef0123456789ABCDEF"] {
        assert_eq!(Key::parse(name), None, "{name}");
    }
}
