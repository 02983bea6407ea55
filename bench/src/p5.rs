//! P5: from request to first output, cold, against bare QEMU with the same kernel and options.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use sublet_host::guest_link::{Command as GuestCommand, ExecRequest, GuestLink, Identity};
use sublet_testing::{Person, World, WorldOptions};

const ROUNDS: usize = 7;
const TARGET: f64 = 1.10;
const WORD: &str = "out";
const RENT: [&str; 9] = ["--os", "linux-minimal", "--emulated", "--cpu", "1", "--memory", "256MiB", "--for", "10m"];

fn main() -> Result<()> {
    let options = options(std::env::args().skip(1))?;
    let out = options.out.clone();
    let world = World::start(WorldOptions {
        program: options.program,
        depot: options.depot,
        partitions: vec!["only=cpu:1,memory:512MiB".into()],
    })?;
    let client = world.person("client")?;
    let bare = Bare::like_ours(&world, &client)?;

    let mut rounds = Vec::new();
    println!("| round | ours s | bare QEMU s |\n|---|---|---|");
    for round in 1..=ROUNDS {
        let (ours, peer) = (ours(&client, round)?, bare.first_output()?);
        println!("| {round} | {:.3} | {:.3} |", ours.as_secs_f64(), peer.as_secs_f64());
        rounds.push((ours.as_secs_f64(), peer.as_secs_f64()));
    }
    let (ours, peer) = (median(rounds.iter().map(|r| r.0)), median(rounds.iter().map(|r| r.1)));
    let ratio = ours / peer;
    println!("| median | {ours:.3} | {peer:.3} |\n");
    println!("ratio {ratio:.3} (target <= {TARGET:.2}): {}", if ratio <= TARGET { "reached" } else { "missed" });
    let rounds: Vec<_> = rounds.iter().map(|(ours, peer)| json!({"ours_s": ours, "peer_s": peer})).collect();
    let notes = "first output of a job, image cached; bare QEMU has the same arguments, without guard, user, cgroup, market, SSH";
    let report = json!({
        "id": "p5", "ratio": ratio, "target": TARGET, "rounds": rounds,
        "ours": {"median_s": ours}, "peer": {"name": "bare QEMU", "median_s": peer}, "notes": notes,
    });
    std::fs::write(&out, serde_json::to_string_pretty(&report)?)?;
    Ok(())
}

struct Options {
    program: PathBuf,
    depot: PathBuf,
    out: PathBuf,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        program: "target/release/sublet".into(),
        depot: "target/depot".into(),
        out: "target/bench/p5.json".into(),
    };
    while let Some(flag) = args.next() {
        let value = PathBuf::from(args.next().with_context(|| format!("{flag} needs a value"))?);
        match flag.as_str() {
            "--program" => options.program = value.canonicalize()?,
            "--depot" => options.depot = value.canonicalize()?,
            "--out" => options.out = value,
            other => anyhow::bail!("unknown flag {other}"),
        }
    }
    Ok(options)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// From the command to the first bytes of its job.
fn ours(client: &Person, round: usize) -> Result<Duration> {
    let name = format!("round-{round}");
    let args = [&["run", "--name", &name][..], &RENT, &["--", "echo", WORD]].concat();
    let began = Instant::now();
    let mut child = client.command(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut first = [0; WORD.len()];
    child.stdout.as_mut().context("piped")?.read_exact(&mut first).context("the job gave no output")?;
    let took = began.elapsed();
    ensure!(first == *WORD.as_bytes(), "equal answers first: {first:?}");
    ensure!(child.wait()?.success());
    client.wait_lease(&name, "ended")?;
    Ok(took)
}

/// QEMU as our own machine had it, without anything of ours around it.
struct Bare {
    program: String,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
}

impl Bare {
    /// Rents once, which also fills the host's image cache, and copies the machine's arguments.
    fn like_ours(world: &World, client: &Person) -> Result<Self> {
        client.json(&[&["rent", "--name", "model"][..], &RENT].concat())?;
        let pid = world.machines().first().context("the model runs")?.0;
        let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
        let words: Vec<String> = line
            .split(|b| *b == 0)
            .filter(|w| !w.is_empty())
            .map(|w| String::from_utf8_lossy(w).into_owned())
            .collect();
        let program = std::fs::read_link(format!("/proc/{pid}/exe"))?.to_string_lossy().into_owned();
        let dir = tempfile::tempdir()?;
        let arguments = words[1..].iter().map(|word| unhand(word, pid, dir.path())).collect::<Result<_>>()?;
        client.run(&["release", "model"])?.ok()?;
        client.wait_lease("model", "ended")?;
        Ok(Self { program, arguments, dir })
    }

    fn first_output(&self) -> Result<Duration> {
        for socket in ["guest", "qmp"] {
            let _ = std::fs::remove_file(self.dir.path().join(socket));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let began = Instant::now();
        let child = Command::new(&self.program).args(&self.arguments).stdin(Stdio::null()).spawn()?;
        let mut machine = Ended(child);
        runtime.block_on(self.answer(began))?;
        let took = began.elapsed();
        machine.0.kill()?;
        machine.0.wait()?;
        Ok(took)
    }

    async fn answer(&self, began: Instant) -> Result<()> {
        let socket = self.dir.path().join("guest");
        let deadline = began + Duration::from_secs(120);
        while !socket.exists() {
            ensure!(Instant::now() < deadline, "bare QEMU opened no socket");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let link = GuestLink::connect(&socket, deadline.into()).await?;
        link.identify(&identity()).await?;
        let mut job = link.exec(&exec()).await?;
        let first = job.stdout.next().await?.context("the job gave no output")?;
        ensure!(first.starts_with(WORD.as_bytes()));
        Ok(())
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

fn exec() -> ExecRequest {
    ExecRequest {
        job: "bare".into(),
        command: GuestCommand::Line(format!("echo {WORD}").into_bytes()),
        env: Vec::new(),
        cwd: None,
        user: "root".into(),
        pty: None,
        keep: false,
    }
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// What the guard hands over as open descriptors gets its name back.
fn unhand(word: &str, pid: u32, dir: &Path) -> Result<String> {
    if let Some(fd) = word.strip_prefix("/proc/self/fd/") {
        return Ok(std::fs::read_link(format!("/proc/{pid}/fd/{fd}"))?.to_string_lossy().into_owned());
    }
    if let Some(rest) = word.strip_prefix("socket,id=") {
        let id = rest.split(',').next().context("a socket has an id")?;
        return Ok(format!("socket,id={id},path={},server=on,wait=off", dir.join(id).display()));
    }
    Ok(word.to_string())
}
