//! The real guest program on this machine, behind a socket as a machine would offer it.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;
use sublet_host::guest_link::{GuestLink, Identity};
use tokio::time::Instant;

/// A guest program in rehearsal.
pub struct Rehearsal {
    process: Child,
    directory: tempfile::TempDir,
}

impl Rehearsal {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let process = spawn(&directory.path().join("guest.sock"));
        Self { process, directory }
    }

    /// Another life of it, at the same place.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(&self.socket());
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("guest.sock")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub async fn connect(&self) -> GuestLink {
        GuestLink::connect(&self.socket(), soon()).await.unwrap()
    }

    /// A link to a guest that knows who it is.
    pub async fn ready(&self) -> GuestLink {
        let link = self.connect().await;
        link.identify(&identity("lease_a", 1)).await.unwrap();
        link
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(socket: &Path) -> Child {
    Command::new(program()).arg("--rehearse").arg("--socket").arg(socket).spawn().unwrap()
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

pub fn identity(lease: &str, generation: u64) -> Identity {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Identity {
        lease: lease.into(),
        generation,
        hostname: "box".into(),
        wall_clock_micros: now.as_micros() as u64,
        entropy: vec![5; 64],
        ..Identity::default()
    }
}

/// The guest program as just built; cargo builds no other package's programs for a test.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let this = std::env::current_exe().unwrap();
        let profile = this.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "--package", "sublet-guest", "--bin", "sublet-guest"]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(status.success(), "the guest program does not build");
        profile.join("sublet-guest")
    })
}

/// Resident memory of this process.
pub fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}
