//! Market, depot, hosts and people.

use crate::Relay;
use crate::process::{Process, processes_naming, signal};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a computer that emulates and is busy besides.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldOptions {
    /// The `sublet` program.
    pub program: PathBuf,
    /// A depot's folder with the images built by the recipes.
    pub depot: PathBuf,
    /// Partitions of the first host, as `host lend --partition` takes them; none: no host yet.
    pub partitions: Vec<String>,
}

/// A market with its depot, hosts and people.
#[derive(Debug)]
pub struct World {
    dir: tempfile::TempDir,
    options: WorldOptions,
    market_address: String,
    operator_token: String,
    market: Option<Process>,
    _depot: Process,
    /// The hosts, in the order in which they joined.
    pub hosts: Vec<Host>,
    /// Between the hosts and the market.
    pub relay: Relay,
    /// What the market is told besides when it is started next.
    pub market_words: Vec<String>,
    /// What the market finds in its environment when it is started next.
    pub market_environment: Vec<(String, String)>,
    /// What an agent finds in its environment when it is started next.
    pub host_environment: Vec<(String, String)>,
}

/// A computer that lends.
#[derive(Debug)]
pub struct Host {
    /// Its name in the market.
    pub name: String,
    /// Its state folder.
    pub state: PathBuf,
    owner: Person,
    agent: Option<Process>,
    /// Beyond what every agent of a world is told.
    words: Vec<String>,
}

/// Somebody with an account, a token and files of their own.
#[derive(Debug, Clone)]
pub struct Person {
    program: PathBuf,
    home: PathBuf,
    market: String,
    token: String,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit status.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, if it succeeded.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == 0, "exit {}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        Ok(self)
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Asks again until `what` answers, or patience ends.
pub fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl World {
    /// Starts market and depot, publishes the depot's images and, if there are partitions, lends
    /// a first host's.
    pub fn start(options: WorldOptions) -> Result<Self> {
        // Partitions run as users of their own: the folder must let them through.
        let dir = tempfile::Builder::new().prefix("sublet-world-").tempdir_in("/var/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let market_dir = dir.path().join("market");
        let init = Ran::of(
            Command::new(&options.program)
                .args(["market", "init"])
                .arg(&market_dir)
                .args(["-o", "json"])
                .env("XDG_CONFIG_HOME", dir.path())
                .output()?,
        )
        .ok()?;
        let init: Value = serde_json::from_str(&init.stdout).context("market init must print JSON")?;
        let operator_token = init["token"].as_str().context("market init must print the token")?.to_string();
        let market_address = format!("127.0.0.1:{}", free_port()?);
        let depot_address = format!("127.0.0.1:{}", free_port()?);
        let mut depot = Process::start(
            "depot",
            Command::new(&options.program)
                .args(["depot", "serve"])
                .arg(&options.depot)
                .args(["--listen", &depot_address]),
            dir.path(),
        )?;
        depot.wait_for("listening", PATIENCE)?;
        let partitions = options.partitions.clone();
        let relay = Relay::start(market_address.clone())?;
        let mut world = Self {
            dir,
            options,
            relay,
            market_address,
            operator_token,
            market: None,
            _depot: depot,
            hosts: Vec::new(),
            market_words: Vec::new(),
            market_environment: Vec::new(),
            host_environment: Vec::new(),
        };
        world.start_market()?;
        world.operator().run(&["image", "publish", "--depot-url", &format!("http://{depot_address}")])?.ok()?;
        if !partitions.is_empty() {
            world.add_host("host-a", &partitions)?;
        }
        Ok(world)
    }

    /// Where everything of this world lies.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The market's data folder.
    pub fn market_dir(&self) -> PathBuf {
        self.dir.path().join("market")
    }

    /// The market's database file.
    pub fn database(&self) -> PathBuf {
        self.market_dir().join("market.db")
    }

    /// Base address of the market.
    pub fn market_url(&self) -> String {
        format!("http://{}", self.market_address)
    }

    /// Starts the market, where it stopped before.
    pub fn start_market(&mut self) -> Result<()> {
        let mut market = Process::start(
            "market",
            Command::new(&self.options.program)
                .args(["market", "serve"])
                .arg(self.market_dir())
                .args(["--listen", &self.market_address])
                .args(&self.market_words)
                .envs(self.market_environment.iter().cloned()),
            self.dir.path(),
        )?;
        eventually("the market answers", PATIENCE, || {
            ensure!(market.is_running(), "the market ended:\n{}", market.log());
            Ok(std::net::TcpStream::connect(&self.market_address).ok())
        })?;
        self.market = Some(market);
        Ok(())
    }

    /// `kill -9` of the market.
    pub fn kill_market(&mut self) -> Result<()> {
        self.market.take().context("the market runs")?.kill()
    }

    /// The market's process id.
    pub fn market_pid(&self) -> Option<u32> {
        self.market.as_ref().map(Process::pid)
    }

    /// What the market logged.
    pub fn market_log(&self) -> String {
        fs::read_to_string(self.dir.path().join("market.log")).unwrap_or_default()
    }

    /// The one who runs the market.
    pub fn operator(&self) -> Person {
        self.person_with("operator", &self.operator_token)
    }

    fn person_with(&self, name: &str, token: &str) -> Person {
        Person {
            program: self.options.program.clone(),
            home: self.dir.path().join("home").join(name),
            market: self.market_url(),
            token: token.into(),
        }
    }

    /// A new account with one member who may rent and lend, and money to begin with.
    pub fn person(&self, name: &str) -> Result<Person> {
        let person = self.newcomer(name)?;
        self.operator().run(&["account", "deposit", name, "10000", "--ref", &format!("begin-{name}")])?.ok()?;
        Ok(person)
    }

    /// The same, with nothing deposited yet.
    pub fn newcomer(&self, name: &str) -> Result<Person> {
        let operator = self.operator();
        operator.run(&["account", "create", name])?.ok()?;
        let roles = ["--role", "client", "--role", "lender", "--role", "billing"];
        let member = operator.json(&[&["user", "add", name, name][..], &roles[..]].concat())?;
        let member = member["id"].as_str().context("a member has an id")?;
        let token = operator.json(&["token", "create", "test", "--member", member])?;
        Ok(self.person_with(name, token["secret"].as_str().context("a token is shown once")?))
    }

    /// A computer joins, lends and runs its agent. Its owner's account has the host's name.
    ///
    /// Its partitions boot: no template is made beside what a test looks at.
    pub fn add_host(&mut self, name: &str, partitions: &[String]) -> Result<&Host> {
        self.add_host_with(name, partitions, &["--templates", "0", "--quic", "off", "--ssh-listen", "127.0.0.1:0"])
    }

    /// The same, with more words for its agent.
    pub fn add_host_with(&mut self, name: &str, partitions: &[String], words: &[&str]) -> Result<&Host> {
        let owner = self.person(name)?;
        let token = owner.json(&["host", "token"])?;
        let token = token["secret"].as_str().context("a join token is shown once")?.to_string();
        let state = self.dir.path().join(name);
        let state_text = state.to_string_lossy().into_owned();
        owner
            .run(&["host", "join", &self.relay.url(), "--token", &token, "--name", name, "--state", &state_text])?
            .ok()?;
        let mut lend: Vec<&str> = vec!["host", "lend", "--state", &state_text, "--keep", "0cpu,1GiB", "--emulated"];
        lend.extend(["--price", "cpu=3.6,memory=3.6,setup=0.0001"]);
        for partition in partitions {
            lend.extend(["--partition", partition]);
        }
        owner.run(&lend)?.ok()?;
        self.hosts.push(Host {
            name: name.into(),
            state,
            owner,
            agent: None,
            words: words.iter().map(ToString::to_string).collect(),
        });
        let at = self.hosts.len() - 1;
        self.start_agent(at)?;
        let wanted = partitions.len();
        let operator = self.operator();
        eventually("the host's partitions are listed", PATIENCE, || {
            let host = operator.json(&["host", "show", name])?;
            let listed =
                host["partitions"].as_array().map_or(0, |p| p.iter().filter(|p| p["lendable"] == true).count());
            Ok((host["status"] == "online" && listed == wanted).then_some(()))
        })?;
        Ok(&self.hosts[at])
    }

    /// The owner of a host.
    pub fn owner(&self, host: &str) -> Result<Person> {
        let host = self.hosts.iter().find(|h| h.name == host).context("such a host joined")?;
        Ok(host.owner.clone())
    }

    /// Starts a host's agent, where it stopped before.
    pub fn start_agent(&mut self, at: usize) -> Result<()> {
        let (name, state) = (self.hosts[at].name.clone(), self.hosts[at].state.clone());
        // On this computer alone, unless the words say otherwise.
        let says = self.hosts[at].words.iter().any(|word| word == "--quic");
        let quic: &[&str] = if says { &[] } else { &["--quic", "127.0.0.1:0"] };
        let agent = Process::start(
            &format!("agent-{name}"),
            Command::new(&self.options.program)
                .args(["host", "run", "--accel", "tcg", "--state"])
                .arg(&state)
                .args(quic)
                .args(&self.hosts[at].words)
                .envs(self.host_environment.iter().cloned()),
            self.dir.path(),
        )?;
        self.hosts[at].agent = Some(agent);
        Ok(())
    }

    /// `kill -9` of a host's agent; its partitions go on.
    pub fn kill_agent(&mut self, at: usize) -> Result<()> {
        self.hosts[at].agent.take().context("the agent runs")?.kill()
    }

    /// What a host's agent logged.
    pub fn agent_log(&self, at: usize) -> String {
        fs::read_to_string(self.dir.path().join(format!("agent-{}.log", self.hosts[at].name))).unwrap_or_default()
    }

    /// The QEMU processes of this world's partitions, by what stands in their command line. They
    /// are known by the partition's id, for no path of ours stands there.
    pub fn machines(&self) -> Vec<(u32, String)> {
        let ids = self.sqlite3("select id from partitions").map(|ran| ran.stdout).unwrap_or_default();
        ids.lines()
            .flat_map(|id| processes_naming(Path::new(&format!("guest={id}"))))
            .filter(|(_, line)| line.contains("qemu-system-") && !line.contains(" guard "))
            .collect()
    }

    /// The guards of this world.
    pub fn guards(&self) -> Vec<(u32, String)> {
        let all = processes_naming(self.dir.path());
        all.into_iter().filter(|(_, line)| line.contains(" guard ")).collect()
    }

    /// Runs `sql` on the market's database with the `sqlite3` program, as an operator might.
    pub fn sqlite3(&self, sql: &str) -> Result<Ran> {
        Ok(Ran::of(Command::new("sqlite3").arg(self.database()).arg(sql).output()?))
    }

    /// Everything that runs in this world, killed. What a test leaves running is told apart from
    /// what it expects to be gone by `machines` and `guards` before.
    fn end(&mut self) {
        for host in &mut self.hosts {
            host.agent.take();
        }
        self.market.take();
        for _ in 0..50 {
            let left = [self.machines(), processes_naming(self.dir.path())].concat();
            if left.is_empty() {
                return;
            }
            for (pid, _) in left {
                signal(pid, "KILL");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Host {
    /// The agent's process id.
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Process::pid)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("SUBLET_TEST_LOGS").is_some() {
            eprintln!("--- market\n{}", tail(&self.market_log()));
            for at in 0..self.hosts.len() {
                eprintln!("--- agent of {}\n{}", self.hosts[at].name, tail(&self.agent_log(at)));
            }
        }
        self.end();
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

impl Person {
    /// Their base command: own files, own token, nothing of whoever runs the tests.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("SUBLET_MARKET", &self.market)
            .env("SUBLET_TOKEN", &self.token);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Result<Ran> {
        fs::create_dir_all(&self.home)?;
        Ok(Ran::of(self.command(args).stdin(Stdio::null()).output()?))
    }

    /// Runs a command with `input` on its stdin.
    pub fn run_with(&self, args: &[&str], input: &Path) -> Result<Ran> {
        fs::create_dir_all(&self.home)?;
        Ok(Ran::of(self.command(args).stdin(fs::File::open(input)?).output()?))
    }

    /// Runs a command with `-o json` and reads what it printed.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        // Options go before a `--`, behind which stands what runs in the partition.
        let ran = self.run(&[&["-o", "json"], args].concat())?;
        let ran = ran.ok().with_context(|| format!("sublet {}", args.join(" ")))?;
        serde_json::from_str(&ran.stdout).with_context(|| format!("sublet {}: {}", args.join(" "), ran.stdout))
    }

    /// Rents and waits until the partition is ready.
    pub fn rent(&self, name: &str, os: &str, more: &[&str]) -> Result<Value> {
        let base = ["rent", "--name", name, "--os", os, "--emulated", "--for", "1h"];
        self.json(&[&base[..], more].concat())
    }

    /// Runs a shell line in a leased partition.
    pub fn inside(&self, lease: &str, line: &str) -> Result<Ran> {
        self.run(&["ssh", lease, "--", line])
    }

    /// A lease as it is shown.
    pub fn lease(&self, name: &str) -> Result<Value> {
        self.json(&["lease", "show", name])
    }

    /// Waits until a lease's state is `state`.
    pub fn wait_lease(&self, name: &str, state: &str) -> Result<Value> {
        eventually(&format!("{name} is {state}"), PATIENCE, || {
            // Somebody may be renting it at this very moment.
            let shown = self.run(&["-o", "json", "lease", "show", name])?;
            if shown.code == 3 {
                return Ok(None);
            }
            let lease: Value = serde_json::from_str(&shown.ok()?.stdout)?;
            Ok((lease["state"]["state"] == state).then_some(lease))
        })
    }

    /// Where their files are.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Their API token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// One raw HTTP call by curl: status and body.
    pub fn curl(&self, method: &str, path: &str, body: Option<&str>) -> Result<(u16, String)> {
        let mut command = Command::new("curl");
        command.args(["-sS", "-X", method, "-w", "\n%{http_code}"]);
        command.arg("-H").arg(format!("authorization: Bearer {}", self.token));
        if let Some(body) = body {
            command.args(["-H", "content-type: application/json", "-H", "idempotency-key: once", "-d", body]);
        }
        let output = Ran::of(command.arg(format!("{}{path}", self.market)).output()?).ok()?;
        let Some((body, status)) = output.stdout.rsplit_once('\n') else { bail!("curl printed no status") };
        Ok((status.trim().parse()?, body.to_string()))
    }
}
