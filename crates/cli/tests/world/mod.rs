//! A market that the program serves itself, and the program as its people use it.

use assert_cmd::Command;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A market in a folder of its own, served by a process of its own; gone when dropped.
pub struct World {
    temp: tempfile::TempDir,
    pub server: Child,
    pub url: String,
    pub token: String,
}

impl World {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let market = temp.path().join("market");
        let init = bare().args(["market", "init"]).arg(&market).output().unwrap();
        let said = String::from_utf8_lossy(&init.stderr);
        assert!(init.status.success() && said.contains("not shown again"), "{said}");
        let token = String::from_utf8(init.stdout).unwrap().trim().to_string();
        let (server, url) = serve(&market, "127.0.0.1:0");
        Self { temp, server, url, token }
    }

    pub fn home(&self) -> PathBuf {
        self.temp.path().join("home")
    }

    pub fn sublet(&self, arguments: &[&str]) -> std::process::Output {
        bare().env("SUBLET_CONFIG", self.home()).args(arguments).output().unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let out = self.sublet(&[&["-o", "json"], arguments].concat());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {said}"))
    }

    pub fn login(&self, context: &str, token: &str) {
        let mut command = bare();
        command.env("SUBLET_CONFIG", self.home()).args(["login", &self.url, "--token-stdin", "--context", context]);
        command.write_stdin(format!("{token}\n")).assert().success();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Serves a market from its folder, and says where.
pub fn serve(market: &Path, listen: &str) -> (Child, String) {
    let mut server = std::process::Command::new(assert_cmd::cargo::cargo_bin("sublet"))
        .args(["market", "serve", "--listen", listen])
        .arg(market)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("listening at")).expect("the market starts");
    let url = line.split_once("listening at ").unwrap().1.split(',').next().unwrap().trim().to_string();
    std::thread::spawn(move || lines.count());
    (server, url)
}

pub fn bare() -> Command {
    let mut command = Command::cargo_bin("sublet").unwrap();
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SUBLET_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").timeout(Duration::from_secs(120));
    command
}
