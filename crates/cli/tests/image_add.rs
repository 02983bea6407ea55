//! `sublet image add` of disk images, made by QEMU's own tools: what is taken, and what is refused.

use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("guest"), b"\x7fELF and so on").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn tool(&self, program: &str, words: &[&str]) {
        let out = Command::new(program).args(words).current_dir(self.0.path()).output().unwrap();
        assert!(out.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn sublet(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sublet"));
        command.args(words).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.env("SUBLET_GUEST", self.path("guest")).output().unwrap()
    }

    fn add(&self, file: &str) -> Output {
        self.sublet(&["-o", "json", "image", "add", file, "--name", "my-cloud", "--os", "my", "--depot", "depot"])
    }

    fn listed(&self) -> Vec<Value> {
        let out = self.sublet(&["-o", "json", "image", "list", "--depot", "depot"]);
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }
}

fn cut(path: &Path, by: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

#[test]
fn a_cloud_image_becomes_an_image_of_the_depot() {
    let place = Place::new();
    place.tool("qemu-img", &["create", "-q", "-f", "qcow2", "plain", "64M"]);
    place.tool("qemu-io", &["-c", "write -P 7 1M 1M", "plain"]);
    place.tool("qemu-img", &["convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", "plain", "zstd"]);
    place.tool("qemu-img", &["convert", "-c", "-O", "qcow2", "-o", "compat=0.10", "plain", "old"]);
    fs::write(place.path("raw"), [&[0; 510][..], &[0x55, 0xaa], &[0; 512]].concat()).unwrap();
    for (number, (file, format)) in
        [("plain", "qcow2"), ("zstd", "qcow2"), ("old", "qcow2"), ("raw", "raw")].into_iter().enumerate()
    {
        let added = place.add(file);
        assert!(added.status.success(), "{file}: {}", String::from_utf8_lossy(&added.stderr));
        let all = place.listed();
        assert_eq!(all.len(), number + 1, "{file}");
        let manifests = all.iter().map(|signed| serde_json::from_str(signed["payload"].as_str().unwrap()).unwrap());
        let newest = manifests.max_by_key(|manifest: &Value| manifest["created_at"].as_i64()).unwrap();
        assert_eq!((&newest["boot"]["kind"], &newest["boot"]["format"]), (&"disk".into(), &format.into()), "{newest}");
        let blob = newest["boot"]["disk"]["sha256"].as_str().unwrap();
        let stored = fs::read(place.path("depot/blobs/sha256").join(blob)).unwrap();
        assert!(stored == fs::read(place.path(file)).unwrap(), "{file} is kept as it is");
        assert_eq!((&newest["login_user"], &newest["command_line"]), (&"root".into(), &"".into()));
    }
}

#[test]
fn what_leads_elsewhere_or_is_cut_short_or_too_large_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let create = |options: &[&str], file: &str, size: &str| {
        place.tool("qemu-img", &[&["create", "-q", "-f", "qcow2"], options, &[file, size]].concat());
    };
    create(&[], "cut", "64M");
    place.tool("qemu-io", &["-c", "write -P 7 1M 1M", "cut"]);
    cut(&place.path("cut"), 100 << 10);
    place.tool("qemu-img", &["create", "-q", "-f", "raw", "base", "1M"]);
    create(&["-F", "raw", "-b", "base"], "backed", "1M");
    create(&["-o", "data_file=data"], "outside", "1M");
    create(&[], "headless", "1M");
    cut(&place.path("headless"), 196_608 - 100);
    create(&[], "large", "17G");
    create(&["--object", "secret,id=s,data=x", "-o", "encrypt.format=luks,encrypt.key-secret=s"], "locked", "1M");
    place.tool("qemu-img", &["create", "-q", "-f", "vmdk", "other", "1M"]);
    fs::write(place.path("odd"), [&[0; 510][..], &[0x55, 0xaa], &[0; 100]].concat()).unwrap();
    fs::write(place.path("empty"), "").unwrap();
    let table = [
        ("backed", "a difference to another file"),
        ("outside", "its data are in another file"),
        ("cut", "it is cut short"),
        ("headless", "it is cut short"),
        ("large", "it is a disk of 18253611008 bytes"),
        ("locked", "it is encrypted"),
        ("other", "is neither a qcow2 file nor a raw disk"),
        ("odd", "whole sectors"),
        ("empty", "is neither a qcow2 file nor a raw disk"),
        ("absent", "failed to find absent"),
    ];
    for (file, words) in table {
        let refused = place.add(file);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(words), "{file}: {said}");
    }
    create(&[], "good", "1M");
    let usage: [(&[&str], &str); 3] = [
        (&["image", "add", "good", "--os", "my", "--depot", "depot"], "--name"),
        (&["image", "add", "good", "--name", "my", "--depot", "depot"], "--os"),
        (&["image", "add", ".", "--os", "my", "--depot", "depot"], "image.toml"),
    ];
    for (words, expected) in usage {
        let refused = place.sublet(words);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains(expected), "{words:?}: {said}");
    }
    fs::write(place.path("guest"), "#!/bin/sh").unwrap();
    let said = String::from_utf8_lossy(&place.add("good").stderr).into_owned();
    assert!(said.contains("guest is not a program"), "{said}");
    assert!(place.listed().is_empty());
    let left: Vec<_> = fs::read_dir(place.path("depot/blobs/sha256")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let half = fs::read_dir(place.path("depot")).unwrap().flatten();
    assert_eq!(half.filter(|entry| entry.file_name().to_string_lossy().starts_with(".adding")).count(), 0);
}
