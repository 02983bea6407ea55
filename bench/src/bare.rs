//! QEMU as one of our own machines had it, without anything of ours around it: no guard, no user of its
//! own, no cgroup, no market, no SSH.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use sublet_host::guest_link::{Command as GuestCommand, ExecRequest, GuestLink, Identity};
use sublet_testing::{Person, World};

/// A boot may take so long.
const PATIENCE: Duration = Duration::from_secs(180);

/// The command line of a machine of ours, every file by its name again.
pub struct Bare {
    program: PathBuf,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
}

/// A machine that runs; it ends when dropped.
pub struct Running {
    machine: Child,
    dir: PathBuf,
}

impl Bare {
    /// Rents once, which also fills the host's image cache, and copies the machine's arguments.
    pub fn like_ours(world: &World, client: &Person, rent: &[&str]) -> Result<Self> {
        client.json(&[&["rent", "--name", "model"][..], rent].concat())?;
        let pid = world.machines().first().context("the model runs")?.0;
        let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
        let words = line.split(|b| *b == 0).filter(|w| !w.is_empty());
        let words: Vec<String> = words.map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        let program = std::fs::read_link(format!("/proc/{pid}/exe"))?;
        let dir = tempfile::tempdir()?;
        let arguments = with_names(&words[1..], pid, dir.path())?;
        client.run(&["release", "model"])?.ok()?;
        client.wait_lease("model", "ended")?;
        Ok(Self { program, arguments, dir })
    }

    /// Starts it, with more arguments than ours has.
    pub fn start(&self, more: &[String]) -> Result<Running> {
        for socket in ["guest", "qmp"] {
            let _ = std::fs::remove_file(self.dir.path().join(socket));
        }
        let mut command = Command::new(&self.program);
        let machine = command.args(&self.arguments).args(more).stdin(Stdio::null()).spawn()?;
        Ok(Running { machine, dir: self.dir.path().into() })
    }
}

impl Running {
    /// QEMU's process.
    pub fn pid(&self) -> u32 {
        self.machine.id()
    }

    /// The guest, once it answers and was told who it is.
    pub async fn link(&self) -> Result<GuestLink> {
        let socket = self.dir.join("guest");
        let deadline = Instant::now() + PATIENCE;
        while !socket.exists() {
            ensure!(Instant::now() < deadline, "bare QEMU opened no socket");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let link = GuestLink::connect(&socket, deadline.into()).await?;
        link.identify(&identity()).await?;
        Ok(link)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = (self.machine.kill(), self.machine.wait());
    }
}

/// What a guest is asked to run, as a line of shell.
pub fn line(words: &str) -> ExecRequest {
    ExecRequest {
        job: "bare".into(),
        command: GuestCommand::Line(words.into()),
        env: Vec::new(),
        cwd: None,
        user: "root".into(),
        pty: None,
        keep: false,
    }
}

fn identity() -> Identity {
    Identity {
        lease: "bare".into(),
        generation: 1,
        hostname: "bare".into(),
        wall_clock_micros: 1_700_000_000_000_000,
        entropy: vec![7; 64],
        cpu_millicores: 1000,
        vcpus: 1,
        memory_mib: 256,
        disk_gib: 0,
    }
}

/// What the guard hands over as open descriptors gets its name back.
fn with_names(words: &[String], pid: u32, dir: &Path) -> Result<Vec<String>> {
    let name = |fd: &str| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).map(|path| path.display().to_string());
    let mut named = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "-add-fd" {
            let set = words.next().context("-add-fd has a value")?;
            ensure!(set.ends_with(",set=1"), "only a root is expected in a set: {set}");
        } else if let Some(fd) = word.strip_prefix("/proc/self/fd/") {
            named.push(name(fd).context("a descriptor that stands in the command line")?);
        } else if let Some(rest) = word.strip_prefix("socket,id=") {
            let id = rest.split(',').next().context("a socket has an id")?;
            named.push(format!("socket,id={id},path={},server=on,wait=off", dir.join(id).display()));
        } else {
            named.push(word.clone());
        }
    }
    if let Some(at) = named.iter().position(|word| word.contains("/dev/fdset/1")) {
        // QEMU holds it under a number of its own choice.
        named[at] = named[at].replace("/dev/fdset/1", &root(pid)?);
    }
    ensure!(!named.iter().any(|word| word.contains("/dev/fdset/")), "an unknown descriptor: {named:?}");
    Ok(named)
}

/// The one image that a machine still reads: kernel and initrd were read before it started.
fn root(pid: u32) -> Result<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let files = open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).map(|path| path.display().to_string());
    let mut images: Vec<String> = files.filter(|path| path.contains("/sha256/")).collect();
    images.sort();
    images.dedup();
    let largest = images.into_iter().max_by_key(|path| std::fs::metadata(path).map_or(0, |m| m.len()));
    largest.context("it has a root")
}
