//! The market takes other keys under a real lease: its session stays, new ones open by both authorities,
//! the next lease is under the new key, and one statement of both holds under the first key.

use crate::fixture::{SMALL, world};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World};

/// The certificates that a person has, each with the fingerprint of the authority that signed it.
fn certificates(person: &Person) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![person.home().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("certificate.pub") {
                let out = Command::new("ssh-keygen").arg("-L").arg("-f").arg(&path).output()?;
                let text = String::from_utf8(out.stdout)?;
                let line = text.lines().find(|line| line.contains("Signing CA")).context("Signing CA")?;
                let print = line.split_whitespace().find(|word| word.starts_with("SHA256:")).context("SHA256")?;
                found.push((path, print.to_owned()));
            }
        }
    }
    Ok(found)
}

fn fingerprint(authority: &Path) -> Result<String> {
    let out = Command::new("ssh-keygen").arg("-l").arg("-f").arg(authority).output()?;
    let text = String::from_utf8(out.stdout)?;
    Ok(text.split_whitespace().nth(1).context("a fingerprint")?.to_owned())
}

fn exported(world: &World, person: &Person, known: &str) -> Result<(Value, Value)> {
    let file = world.dir().join("statement.json");
    let name = file.to_string_lossy().into_owned();
    let _ = fs::remove_file(&file);
    person.run(&["statement", "--export", &name])?.ok()?;
    let ours = person.run(&["verify", &name, "--market-key", known, "-o", "json"])?.ok()?.stdout;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/verify/sublet_verify.py");
    let theirs = Command::new("python3").args([script, "--market-key", known, &name]).output()?;
    ensure!(ours.as_bytes() == theirs.stdout, "{ours} {}", String::from_utf8_lossy(&theirs.stdout));
    let text = fs::read_to_string(&file)?;
    let head: Value = serde_json::from_str(text.lines().nth(1).context("a head")?.trim_end_matches(','))?;
    Ok((serde_json::from_str(&ours)?, head))
}

#[test]
fn a_lease_and_its_session_go_on_while_the_market_takes_other_keys() -> Result<()> {
    let mut world = world()?;
    let alice = world.person("alice")?;
    let first = alice.json(&["whoami"])?["market_key"].as_str().context("the market's key")?.to_owned();
    let keys = world.market_dir().join("keys");
    let old_authority = fingerprint(&keys.join("ssh_ca"))?;
    alice.rent("box", "linux-minimal", &SMALL)?;
    let mut session = alice
        .command(&["ssh", "box", "--", "n=0; while [ $n -lt 3000 ]; do echo $n; n=$((n+1)); sleep 0.2; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(session.stdout.take().context("stdout")?).lines();
    ensure!(lines.next().context("a line")?? == "0");

    let folder = world.market_dir().to_string_lossy().into_owned();
    let refused = world.operator().run(&["market", "rotate-keys", &folder])?;
    ensure!(refused.code != 0 && refused.stderr.contains("stop it first"), "while it runs: {refused:?}");
    world.kill_market()?;
    let change = world.operator().json(&["market", "rotate-keys", &folder])?;
    ensure!(change["old"] == first.as_str() && change["number"] == 1, "{change}");
    world.start_market()?;
    eventually("the host follows", PATIENCE, || {
        Ok(world.agent_log(0).contains("the market took other keys").then_some(()))
    })?;

    // The certificate from before opens a session, and so does the one that is asked for now.
    let before = certificates(&alice)?;
    ensure!(before.iter().all(|(_, authority)| *authority == old_authority) && before.len() == 1, "{before:?}");
    ensure!(alice.inside("box", "echo in")?.ok()?.stdout == "in\n", "with the old certificate");
    ensure!(certificates(&alice)? == before, "it was used, not renewed");
    let new_authority = fingerprint(&keys.join("ssh_ca-1"))?;
    eventually("a certificate of the new authority", PATIENCE, || {
        for (path, _) in certificates(&alice)? {
            // The whole pass, so that it is asked for anew.
            fs::remove_dir_all(path.parent().context("a folder")?)?;
        }
        ensure!(alice.inside("box", "echo in")?.ok()?.stdout == "in\n", "with the certificate that was given");
        Ok(certificates(&alice)?.iter().all(|(_, authority)| *authority == new_authority).then_some(()))
    })?;
    alice.run(&["lease", "verify", "box"])?.ok()?;

    alice.rent("next", "linux-minimal", &SMALL)?;
    let signer = |name: &str| -> Result<String> {
        Ok(alice.lease(name)?["terms"]["key"].as_str().context("who signed the terms")?.to_owned())
    };
    ensure!(signer("box")? == first && signer("next")? == change["new"].as_str().context("new")?);
    for expected in 1..50 {
        ensure!(lines.next().context("the session broke")?? == expected.to_string());
    }
    session.kill()?;
    session.wait()?;
    for name in ["box", "next"] {
        alice.run(&["release", name])?.ok()?;
        alice.wait_lease(name, "ended")?;
    }
    eventually("both are settled", PATIENCE, || {
        let lines = alice.json(&["statement"])?["lines"].as_array().context("lines")?.clone();
        Ok((lines.len() == 2 && lines.iter().all(|line| line["settled"] == true)).then_some(()))
    })?;
    let (said, head) = exported(&world, &alice, &first)?;
    ensure!(said["holds"] == true && said["leases"] == 2 && head["keys"].as_array().is_some_and(|k| k.len() == 1));
    ensure!(head["market"] == change["new"], "{head}");
    let listed = world.operator().json(&["market", "keys", &folder])?;
    ensure!(
        listed["keys"].as_array().is_some_and(|keys| keys.len() == 2 && keys[0]["key"] == first.as_str()),
        "{listed}"
    );
    Ok(())
}
