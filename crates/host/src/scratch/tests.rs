use super::*;
use std::io::Read;

/// Reads a disk with QEMU's own tools, which know nothing of how it was made.
fn opened(path: &Path, secret: &Secret, to: &Path) -> (bool, String) {
    let option = format!("driver=luks,key-secret=s,file.driver=file,file.filename={}", path.display());
    let mut child = Command::new("qemu-img")
        .args(["convert", "-O", "raw", "--object", "secret,id=s,file=/dev/stdin", "--image-opts", &option])
        .arg(to)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(secret.0.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn what_is_made_opens_with_its_secret_alone_and_holds_a_sound_file_system() {
    let temp = tempfile::tempdir().unwrap();
    let (disk, clear) = (temp.path().join(FILE), temp.path().join("clear"));
    let secret = Secret::random().unwrap();
    make(&disk, GiB(1), &secret).unwrap();
    assert_eq!(std::fs::metadata(&disk).unwrap().len(), file_bytes(GiB(1)));
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left beside it");
    let (ok, said) = opened(&disk, &secret, &clear);
    assert!(ok, "{said}");
    assert_eq!(std::fs::metadata(&clear).unwrap().len(), 1 << 30);
    let checked = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(&clear).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let other = Secret::random().unwrap();
    let (ok, said) = opened(&disk, &other, &clear);
    assert!(!ok && said.contains("Invalid password"), "{said}");
}

#[test]
fn two_disks_have_nothing_in_common() {
    let temp = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let path = temp.path().join(name);
        let secret = Secret::random().unwrap();
        make(&path, GiB(1), &secret).unwrap();
        let mut bytes = vec![0; 1 << 20];
        let file = File::open(&path).unwrap();
        file.read_exact_at(&mut bytes, PAYLOAD_BYTES).unwrap();
        let mut handed = String::new();
        File::from(secret.hand_over().unwrap()).read_to_string(&mut handed).unwrap();
        assert_eq!(handed, *secret.0);
        (bytes, handed)
    };
    let (one, other) = (start("one"), start("other"));
    assert_ne!(one.1, other.1);
    let same = one.0.chunks(16).zip(other.0.chunks(16)).filter(|(a, b)| a == b && a.iter().any(|byte| *byte != 0));
    assert_eq!(same.count(), 0);
}

#[test]
fn more_than_there_is_room_for_is_refused_and_nothing_is_left() {
    let temp = tempfile::tempdir().unwrap();
    let error = make(&temp.path().join(FILE), GiB(1 << 20), &Secret::random().unwrap()).unwrap_err();
    assert!(matches!(error, ScratchError::NoRoom(_) | ScratchError::File(..) | ScratchError::Mkfs(..)), "{error}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}
