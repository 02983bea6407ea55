//! P4: a command, and a MiB of output, in a leased partition, against an OpenSSH control socket into an
//! sshd in the same guest; files in and out against what the guest link itself carries.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use sublet_bench::bare::{Bare, Running, line};
use sublet_bench::cpu;
use sublet_bench::partitions::options;
use sublet_bench::report::{head, median, row, write};
use sublet_host::guest_link::{GuestLink, Status};
use sublet_testing::world::{eventually, free_port};
use sublet_testing::{Person, World, WorldOptions};

const ROUNDS: usize = 5;
const TARGET: f64 = 1.2;
const TRUES: usize = 20;
const OUTPUTS: usize = 10;
const FRESH: usize = 3;
const OUTPUT_BYTES: usize = 1 << 20;
const FILE_BYTES: usize = 64 << 20;
const RENT: [&str; 9] = ["--os", "debian-12", "--emulated", "--cpu", "1", "--memory", "768MiB", "--for", "3h"];
const OUTPUT: &str = "head -c 1048576 /dev/zero";
/// In the guest's memory, on both sides.
const THERE: &str = "/dev/shm/file";
/// The peer's server and what it links to, for the guest to unpack.
const SSHD: &str = "target/bench/sshd.tar";

fn main() -> Result<()> {
    let options = options("p4", ROUNDS, std::env::args().skip(1))?;
    let mut world =
        World::start(WorldOptions { program: options.program, depot: options.depot, partitions: Vec::new() })?;
    let words = ["--templates", "0", "--ssh-listen", "127.0.0.1:0"];
    world.add_host_with("host", &["only=cpu:1,memory:768MiB".into()], &words)?;
    let client = world.person("client")?;
    let bare = Bare::like_ours(&world, &client, &RENT)?;
    let peer = Peer::start(&bare, world.dir())?;
    client.json(&[&["rent", "--name", "box"][..], &RENT].concat())?;
    let agent = world.hosts[0].agent_pid().context("the agent runs")?;
    let guard = world.guards().first().context("a guard")?.0;
    let ours = Side::ours(&client, world.dir(), vec![agent, guard])?;
    let theirs = peer.side(world.dir())?;

    let sides = [("ours, QUIC", &ours.0), ("ours, TCP", &ours.1), ("sshd", &theirs)];
    for (name, side) in sides {
        ensure!(side.ssh(&["echo equal; exit 7"])? == (b"equal\n".to_vec(), 7), "{name}: equal answers first");
    }
    let file = world.dir().join("file");
    fs::write(
        &file,
        (0..FILE_BYTES / 4).flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>(),
    )?;

    let mut rounds = Vec::new();
    head(&[
        "round",
        "side",
        "true ms",
        "CPU ms",
        "1 MiB ms",
        "CPU ms",
        "true, fresh connection ms",
        "scp in MiB/s",
        "scp out MiB/s",
    ]);
    for round in 1..=options.rounds {
        for (name, side) in sides {
            let taken = side.measure(&file)?;
            row(&[&[round.to_string(), name.into()][..], &taken.cells()].concat());
            rounds.push(json!({"round": round, "side": name, "figures": taken.json()}));
        }
        let (into, out_of) = peer.raw(&fs::read(&file)?)?;
        let cells = ["", "", "", "", ""].map(String::from);
        row(&[&[round.to_string(), "link itself".into()][..], &cells, &[format!("{into:.1}"), format!("{out_of:.1}")]]
            .concat());
        rounds.push(json!({"round": round, "side": "link", "figures": {"in_mib_s": into, "out_mib_s": out_of}}));
    }
    let lease = client.lease("box")?;
    let used = lease["seconds"].as_i64().context("seconds that were used so far")?;
    ensure!(used > 0, "usage is recorded");
    let report = report(&rounds, used);
    write(&options.out, &report)
}

/// Medians, ratios, and what they say.
fn report(rounds: &[Value], used: i64) -> Value {
    let of = |side: &str, what: &str| {
        median(rounds.iter().filter(|r| r["side"] == side).filter_map(|r| r["figures"][what].as_f64()))
    };
    head(&["", "ours, QUIC", "ours, TCP", "sshd", "ratio (QUIC)", "target"]);
    let mut ratios = Vec::new();
    for what in ["true_ms", "output_ms", "fresh_ms"] {
        let [quic, tcp, peer] = ["ours, QUIC", "ours, TCP", "sshd"].map(|side| of(side, what));
        let target = if what == "fresh_ms" { "-".into() } else { format!("<= {TARGET}") };
        row(&[
            what.into(),
            format!("{quic:.2}"),
            format!("{tcp:.2}"),
            format!("{peer:.2}"),
            format!("{:.2}", quic / peer),
            target,
        ]);
        ratios.push(quic / peer);
    }
    head(&["scp, MiB/s", "ours, QUIC", "ours, TCP", "sshd", "link itself", "of the link (QUIC)"]);
    for what in ["in_mib_s", "out_mib_s"] {
        let [quic, tcp, peer, link] = ["ours, QUIC", "ours, TCP", "sshd", "link"].map(|side| of(side, what));
        row(&[
            what.into(),
            format!("{quic:.1}"),
            format!("{tcp:.1}"),
            format!("{peer:.1}"),
            format!("{link:.1}"),
            format!("{:.2}", quic / link),
        ]);
    }
    let reached = ratios[..2].iter().all(|r| *r <= TARGET);
    println!(
        "\n`true` and 1 MiB of output (target <= {TARGET}): {}; usage recorded: {used} s",
        if reached { "reached" } else { "missed" }
    );
    json!({
        "id": "p4", "ratio": ratios[0], "ratio_output": ratios[1], "target": TARGET, "rounds": rounds,
        "notes": "the system's ssh over a control socket, both sides; the same Debian guest, kernel and QEMU arguments; the peer has a \
                  user-mode network card and OpenSSH's sshd in the guest, and no CPU cap",
    })
}

/// What a client measured in one round.
struct Taken {
    true_ms: f64,
    true_cpu_ms: f64,
    output_ms: f64,
    output_cpu_ms: f64,
    fresh_ms: f64,
    in_mib_s: f64,
    out_mib_s: f64,
}

impl Taken {
    fn cells(&self) -> [String; 7] {
        let Self { true_ms, true_cpu_ms, output_ms, output_cpu_ms, fresh_ms, in_mib_s, out_mib_s } = self;
        [true_ms, true_cpu_ms, output_ms, output_cpu_ms, fresh_ms, in_mib_s, out_mib_s].map(|n| format!("{n:.1}"))
    }

    fn json(&self) -> Value {
        json!({
            "true_ms": self.true_ms, "true_cpu_ms": self.true_cpu_ms, "output_ms": self.output_ms,
            "output_cpu_ms": self.output_cpu_ms, "fresh_ms": self.fresh_ms, "in_mib_s": self.in_mib_s,
            "out_mib_s": self.out_mib_s,
        })
    }
}

/// One way in, by the system's `ssh` with a control socket that stays open.
struct Side {
    /// Words that stand before where to go.
    words: Vec<String>,
    destination: String,
    /// In whose surroundings: their passes, their token.
    person: Option<Person>,
    /// Of whose trees the processor time is counted: host or machine; the control socket's is added.
    processes: Vec<u32>,
    master: Child,
    socket: PathBuf,
}

impl Side {
    /// Ours over QUIC and over TCP.
    fn ours(client: &Person, dir: &Path, processes: Vec<u32>) -> Result<(Self, Self)> {
        let config = dir.join("ssh_config");
        fs::write(&config, client.run(&["ssh-config"])?.ok()?.stdout)?;
        // The file that is included names a pass; it is written when a lease is asked for.
        client.inside("box", "true")?.ok()?;
        let words = vec!["-F".into(), config.display().to_string()];
        let quic = Self::open(words.clone(), "box.sublet", dir.join("quic.socket"), processes.clone(), Some(client))?;
        let id = client.lease("box")?["id"].as_str().context("an id")?.to_string();
        let (_, access) = client.curl("POST", &format!("/v1/leases/{id}/access"), Some("{}"))?;
        let access: Value = serde_json::from_str(&access)?;
        let dial = access["dial"].as_str().context("where to dial")?;
        let tcp = dial.split(';').find_map(|way| way.strip_prefix("tcp=")).context("the host listens on TCP")?;
        let (host, port) = tcp.rsplit_once(':').context("an address")?;
        let direct = [format!("-oHostName={host}"), format!("-oPort={port}"), "-oProxyCommand=none".into()];
        let words = [&direct[..], &words].concat();
        let tcp = Self::open(words, "box.sublet", dir.join("tcp.socket"), processes, Some(client))?;
        Ok((quic, tcp))
    }

    fn open(
        words: Vec<String>,
        destination: &str,
        socket: PathBuf,
        processes: Vec<u32>,
        person: Option<&Person>,
    ) -> Result<Self> {
        let mut command = program_of("ssh", person);
        command.args(["-o", "ControlMaster=yes", "-o", &format!("ControlPath={}", socket.display())]);
        let master = command.args(&words).args(["-N", destination]).stdin(Stdio::null()).spawn()?;
        let side = Self { words, destination: destination.into(), person: person.cloned(), processes, master, socket };
        eventually("the control socket is there", Duration::from_secs(120), || Ok(side.socket.exists().then_some(())))?;
        Ok(side)
    }

    fn command(&self, program: &str, control: &Path) -> Command {
        let mut command = program_of(program, self.person.as_ref());
        command.args(["-o", &format!("ControlPath={}", control.display()), "-o", "ControlMaster=no"]).args(&self.words);
        command.stdin(Stdio::null());
        command
    }

    /// Output and exit status of a command line over the control socket.
    fn ssh(&self, words: &[&str]) -> Result<(Vec<u8>, i32)> {
        let out = self.command("ssh", &self.socket).arg(&self.destination).args(words).output()?;
        Ok((out.stdout, out.status.code().unwrap_or(-1)))
    }

    fn cpu(&self) -> Duration {
        self.processes.iter().chain([&self.master.id()]).map(|pid| cpu::of_tree(*pid)).sum()
    }

    /// Wall and processor time of one of `count`, in milliseconds.
    fn each(&self, count: usize, mut once: impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
        let (began, before) = (Instant::now(), self.cpu());
        for _ in 0..count {
            once()?;
        }
        let each = |time: Duration| time.as_secs_f64() * 1000.0 / count as f64;
        Ok((each(began.elapsed()), each(self.cpu().saturating_sub(before))))
    }

    fn measure(&self, file: &Path) -> Result<Taken> {
        let (true_ms, true_cpu_ms) = self.each(TRUES, || {
            ensure!(self.ssh(&["true"])? == (Vec::new(), 0));
            Ok(())
        })?;
        let (output_ms, output_cpu_ms) = self.each(OUTPUTS, || {
            let (bytes, code) = self.ssh(&[OUTPUT])?;
            ensure!(bytes.len() == OUTPUT_BYTES && code == 0, "{} bytes, exit status {code}", bytes.len());
            Ok(())
        })?;
        let (fresh_ms, _) = self.each(FRESH, || {
            let status = self.command("ssh", Path::new("none")).arg(&self.destination).arg("true").status()?;
            ensure!(status.success());
            Ok(())
        })?;
        let back = file.with_extension("back");
        let there = format!("{}:{THERE}", self.destination);
        let in_mib_s = self.copy(&file.display().to_string(), &there)?;
        let out_mib_s = self.copy(&there, &back.display().to_string())?;
        ensure!(fs::read(&back)? == fs::read(file)?, "the file came back as it went");
        fs::remove_file(back)?;
        Ok(Taken { true_ms, true_cpu_ms, output_ms, output_cpu_ms, fresh_ms, in_mib_s, out_mib_s })
    }

    /// MiB/s of one `scp` over the control socket.
    fn copy(&self, from: &str, to: &str) -> Result<f64> {
        let began = Instant::now();
        let status = self.command("scp", &self.socket).args(["-q", from, to]).status()?;
        ensure!(status.success(), "scp {from} {to}");
        Ok(mib_s(began.elapsed()))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = (self.master.kill(), self.master.wait());
    }
}

/// A program in the surroundings of a person.
fn program_of(program: &str, person: Option<&Person>) -> Command {
    let mut command = Command::new(program);
    let surroundings = person.map(|person| person.command(&[]));
    for (name, value) in surroundings.iter().flat_map(|command| command.get_envs()) {
        command.env(name, value.unwrap_or_default());
    }
    command
}

fn mib_s(took: Duration) -> f64 {
    FILE_BYTES as f64 / 1_048_576.0 / took.as_secs_f64()
}

/// The same guest, bare, with a network card and sshd in it.
struct Peer {
    machine: Running,
    link: GuestLink,
    runtime: tokio::runtime::Runtime,
    port: u16,
    key: PathBuf,
}

impl Peer {
    fn start(bare: &Bare, dir: &Path) -> Result<Self> {
        let key = dir.join("peer_key");
        ensure!(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?.success());
        let port = free_port()?;
        let network = format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22");
        let more = ["-netdev", &network, "-device", "virtio-net-pci,netdev=net,romfile="].map(String::from);
        let machine = bare.start(&more)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let link = runtime.block_on(machine.link())?;
        let peer = Self { machine, link, runtime, port, key };
        peer.set_up()?;
        Ok(peer)
    }

    /// Unpacks sshd in the guest and starts it, by the guest link.
    fn set_up(&self) -> Result<()> {
        let sshd = fs::read(SSHD).with_context(|| format!("{SSHD} is made by bench/setup p4"))?;
        let public = fs::read_to_string(self.key.with_extension("pub"))?;
        self.inside("tar --extract --directory / --no-same-owner", &sshd)?;
        let card =
            "modprobe virtio_net && ip link set lo up && ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0";
        let user = "mkdir -p /run/sshd /root/.ssh && cat > /root/.ssh/authorized_keys && chmod -R go= /root/.ssh && \
                    echo sshd:x:101:65534::/run/sshd:/usr/sbin/nologin >> /etc/passwd";
        let server = "ldconfig && ssh-keygen -A && /usr/sbin/sshd -f /dev/null -o UsePAM=no -o PermitRootLogin=yes -o UseDNS=no \
                      -o 'Subsystem sftp /usr/lib/openssh/sftp-server'";
        self.inside(user, public.as_bytes())?;
        for line in [card, server] {
            self.inside(line, b"")?;
        }
        Ok(())
    }

    fn inside(&self, words: &str, input: &[u8]) -> Result<()> {
        self.runtime.block_on(async {
            let mut exec = self.link.exec(&line(words)).await?;
            exec.stdin.write(input).await?;
            exec.stdin.finish().await?;
            let mut said = Vec::new();
            while let Some(bytes) = exec.stderr.next().await? {
                said.extend_from_slice(&bytes);
            }
            let status = exec.control.wait().await?;
            ensure!(status == Status::Code(0), "{words}: {status:?}: {}", String::from_utf8_lossy(&said));
            Ok(())
        })
    }

    fn side(&self, dir: &Path) -> Result<Side> {
        let words = [
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ];
        let own = [format!("-oIdentityFile={}", self.key.display()), format!("-oPort={}", self.port)];
        let words = words.into_iter().map(String::from).chain(own).collect();
        Side::open(words, "root@127.0.0.1", dir.join("peer.socket"), vec![self.machine.pid()], None)
    }

    /// MiB/s that the guest link carries in and out.
    fn raw(&self, file: &[u8]) -> Result<(f64, f64)> {
        let began = Instant::now();
        self.inside(&format!("cat > {THERE}"), file)?;
        let into = mib_s(began.elapsed());
        let began = Instant::now();
        let came = self.runtime.block_on(async {
            let mut exec = self.link.exec(&line(&format!("cat {THERE}"))).await?;
            let mut came = 0;
            while let Some(bytes) = exec.stdout.next().await? {
                came += bytes.len();
            }
            exec.control.wait().await?;
            Ok::<_, anyhow::Error>(came)
        })?;
        ensure!(came == file.len());
        Ok((into, mib_s(began.elapsed())))
    }
}
