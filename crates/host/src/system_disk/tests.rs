use super::*;
use std::io::Seek;
use std::os::unix::fs::PermissionsExt;

/// The programs of QEMU judge what was made here.
fn tool(program: &str, arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut command = Command::new(program);
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&said));
    String::from_utf8_lossy(&said).into_owned()
}

fn secret_words(secret: &Secret) -> String {
    let mut words = String::new();
    File::from(secret.hand_over().unwrap()).read_to_string(&mut words).unwrap();
    words
}

#[test]
fn an_overlay_names_no_file_and_shows_what_lies_below_until_it_is_written_to() {
    let temp = tempfile::tempdir().unwrap();
    let (base, over, back) = (temp.path().join("base"), temp.path().join(OVERLAY), temp.path().join("back"));
    let content: Vec<u8> = (0u32..1 << 18).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&base, &content).unwrap();
    let secret = Secret::random().unwrap();
    overlay(&over, disk_bytes(&base, DiskFormat::Raw).unwrap(), Path::new("qemu-img"), &secret).unwrap();
    assert_eq!(std::fs::metadata(&over).unwrap().len(), overlay_bytes(1 << 20));
    assert_eq!(std::fs::metadata(&over).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2, "nothing is left beside it");

    let words = secret_words(&secret);
    let encrypted =
        format!(r#""driver":"luks","key-secret":"s","file":{{"driver":"file","filename":"{}"}}"#, over.display());
    let alone = format!(r#"json:{{"driver":"qcow2","file":{{{encrypted}}}}}"#);
    let object = ["--object", "secret,id=s,file=/dev/stdin"];
    let told = tool("qemu-img", &[&["info"], &object[..], &[&alone]].concat(), &words);
    assert!(!told.contains("backing") && told.contains("virtual size: 1 MiB"), "{told}");

    let below = format!(
        r#""backing":{{"driver":"raw","read-only":true,"file":{{"driver":"file","filename":"{}"}}}}"#,
        base.display()
    );
    let both = format!(r#"json:{{"driver":"qcow2",{below},"file":{{{encrypted}}}}}"#);
    tool("qemu-io", &[&object[..], &["-c", "write -P 7 4096 4096", &both]].concat(), &words);
    tool("qemu-img", &[&["convert", "-O", "raw"], &object[..], &[&both, back.to_str().unwrap()]].concat(), &words);
    let mut expected = content.clone();
    expected[4096..8192].fill(7);
    assert!(std::fs::read(&back).unwrap() == expected, "what was written, over what lies below");
    assert!(std::fs::read(&base).unwrap() == content, "the image's disk is as it was");
    let stored = std::fs::read(&over).unwrap();
    assert!(
        !stored.windows(512).any(|sector| sector.iter().all(|byte| *byte == 7)),
        "what a guest wrote lies there bare"
    );
}

#[test]
fn a_seed_is_what_cloud_init_looks_for() {
    let temp = tempfile::tempdir().unwrap();
    let (guest, path) = (temp.path().join("guest"), temp.path().join(SEED));
    let program: Vec<u8> = (0u32..600_000).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&guest, &program).unwrap();
    let instance = uuid::Uuid::from_u128(9);
    seed::write(&path, &guest, instance).unwrap();
    let mut file = File::open(&path).unwrap();
    assert_eq!(tool("blkid", &["-p", "-o", "value", "-s", "LABEL", path.to_str().unwrap()], "").trim(), "CIDATA");
    file.rewind().unwrap();
    let volume =
        fatfs::FileSystem::new(File::options().read(true).write(true).open(&path).unwrap(), fatfs::FsOptions::new())
            .unwrap();
    let read = |name: &str| {
        let mut bytes = Vec::new();
        volume.root_dir().open_file(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(read("meta-data"), format!("instance-id: sublet-{instance}\n").into_bytes());
    assert!(read("user-data").starts_with(b"#cloud-config\n"));
    assert!(read("sublet-guest") == program);
    tool("sh", &["-n"], &String::from_utf8(read("start.sh")).unwrap());
}

#[test]
fn a_disk_that_leads_elsewhere_is_refused_before_anything_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (base, data) = (path("base"), path("data"));
    tool("qemu-img", &["create", "-q", "-f", "raw", &base, "1M"], "");
    let made = |options: &[&str]| {
        let bad = path("bad.qcow2");
        tool("qemu-img", &[&["create", "-q", "-f", "qcow2"], options, &[&bad, "1M"]].concat(), "");
        disk_bytes(Path::new(&bad), DiskFormat::Qcow2).map_err(|error| error.to_string())
    };
    assert_eq!(made(&[]), Ok(1 << 20));
    let table: [(&[&str], &str); 3] = [
        (&["-F", "raw", "-b", &base], "backing file"),
        (&["-o", &format!("data_file={data}")], "in another file"),
        (&["-o", "extended_l2=on"], "not known here"),
    ];
    for (options, word) in table {
        let error = made(options).unwrap_err();
        assert!(error.contains(word) && error.contains("not booted"), "{error}");
    }
    let error = disk_bytes(Path::new(&base), DiskFormat::Qcow2).unwrap_err().to_string();
    assert!(error.contains("not a qcow2 file"), "{error}");
}
