//! `sublet verify` as a person at a shell meets it. No market runs here.

use assert_cmd::Command;
use std::fs;
use std::path::{Path, PathBuf};
use sublet_model::identity::SecretKey;
use sublet_model::statement::{Head, Side, Writer};
use sublet_model::units::Timestamp;
use tempfile::TempDir;

fn sublet(home: &Path) -> Command {
    let mut command = Command::cargo_bin("sublet").unwrap();
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SUBLET_")) {
        command.env_remove(name);
    }
    command.env("SUBLET_CONFIG", home).env("NO_COLOR", "1").timeout(std::time::Duration::from_secs(60));
    command
}

/// Exit code, stdout and stderr of a call.
fn said(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    let out = sublet(home).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn market() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

/// A statement over nothing, in a file.
fn statement(temp: &TempDir) -> (PathBuf, String) {
    let head = Head {
        account: uuid::Uuid::from_u128(7).into(),
        name: "physics".into(),
        side: Side::Client,
        currency: "EUR".into(),
        from: Timestamp(0),
        until: Timestamp(1),
        made_at: Timestamp(2),
        market: market().public(),
        keys: Vec::new(),
        hosts: Vec::new(),
    };
    let text = Writer::new(head).unwrap().finish(&market()).unwrap();
    let file = temp.path().join("statement.json");
    fs::write(&file, &text).unwrap();
    (file, text)
}

#[test]
fn a_statement_holds_or_the_line_that_does_not_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let (file, text) = statement(&temp);
    let name = file.to_str().unwrap();
    let key = market().public().to_string();

    let (code, out, _) = said(temp.path(), &["verify", name, "--market-key", &key]);
    assert_eq!(code, 0);
    assert!(out.starts_with("holds: 0 leases") && out.contains("to pay: 0.00 EUR") && out.contains(&key), "{out}");
    let (code, out, _) = said(temp.path(), &["verify", name, "-o", "json"]);
    assert_eq!((code, out.lines().count()), (0, 1));
    assert!(out.starts_with("{\"holds\":true,"), "{out}");
    assert!(said(temp.path(), &["verify", name, "--as", "html"]).1.starts_with("<!doctype html>"));
    assert!(said(temp.path(), &["verify", name, "--as", "csv"]).1.starts_with("lease,name,"));

    let stranger = SecretKey::from_seed(&[2; 32]).public().to_string();
    let (code, out, error) = said(temp.path(), &["verify", name, "--market-key", &stranger]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("line 2, head was signed by another key") && error.contains(&stranger), "{error}");

    fs::write(&file, text.replace("physics", "physicz")).unwrap();
    for form in [&["verify", name][..], &["verify", name, "--as", "csv"]] {
        let (code, out, error) = said(temp.path(), form);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(error.contains("line 2, head was changed after the market signed"), "{error}");
        assert!(error.contains("what to do: get it again"), "{error}");
    }
    let (code, out, _) = said(temp.path(), &["verify", name, "-o", "json"]);
    assert_eq!(code, 1);
    assert!(out.starts_with("{\"holds\":false,\"line\":2,\"record\":\"head\",\"problem\":\"digest\""), "{out}");
}

#[test]
fn what_is_no_statement_is_told_apart() {
    let temp = tempfile::tempdir().unwrap();
    let (code, _, error) = said(temp.path(), &["verify", temp.path().join("none.json").to_str().unwrap()]);
    assert_eq!(code, 3, "{error}");
    let empty = temp.path().join("empty.json");
    fs::write(&empty, "").unwrap();
    let (code, _, error) = said(temp.path(), &["verify", empty.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(error.contains("line 1 does not begin or end as it has to"), "{error}");
    assert_eq!(said(temp.path(), &["verify"]).0, 2);
    assert_eq!(said(temp.path(), &["verify", "x", "--market-key", "short"]).0, 2);
    assert_eq!(said(temp.path(), &["statement", "--month", "2026-13"]).0, 2, "no such month");
}
