//! What the benchmarks of real partitions share: two worlds side by side, one whose host boots every
//! partition and one whose host starts them from templates.

use anyhow::{Context, Result, ensure};
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use sublet_testing::world::{PATIENCE, eventually};
use sublet_testing::{Person, World, WorldOptions};

/// What the job says.
const WORD: &str = "out";

/// Where things are, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// `sublet`.
    pub program: PathBuf,
    /// Images built by the recipes.
    pub depot: PathBuf,
    /// Where the JSON goes.
    pub out: PathBuf,
    /// How often each side is measured.
    pub rounds: usize,
}

/// Options of the form `--name value`.
pub fn options(id: &str, rounds: usize, mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        program: "target/release/sublet".into(),
        depot: "target/depot".into(),
        out: format!("target/bench/{id}.json").into(),
        rounds,
    };
    while let Some(flag) = args.next() {
        let value = args.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--program" => options.program = PathBuf::from(value),
            "--depot" => options.depot = PathBuf::from(value),
            "--out" => options.out = PathBuf::from(value),
            "--rounds" => options.rounds = value.parse().with_context(|| format!("--rounds {value}"))?,
            other => anyhow::bail!("unknown flag {other}"),
        }
    }
    options.program = options.program.canonicalize().with_context(|| options.program.display().to_string())?;
    options.depot = options.depot.canonicalize().with_context(|| options.depot.display().to_string())?;
    Ok(options)
}

/// A world with its client.
#[derive(Debug)]
pub struct Side {
    /// Market, depot and host.
    pub world: World,
    /// Who rents.
    pub client: Person,
    /// What is rented.
    pub rent: Vec<String>,
}

impl Side {
    /// A host of `count` partitions that are all of one size.
    pub fn start(options: &Options, count: usize, cpu: &str, memory: &str, templates: bool) -> Result<Self> {
        let (program, depot) = (options.program.clone(), options.depot.clone());
        let mut world = World::start(WorldOptions { program, depot, partitions: Vec::new() })?;
        let partitions: Vec<String> = (0..count).map(|n| format!("p{n}=cpu:{cpu},memory:{memory}")).collect();
        world.add_host_with("host", &partitions, &["--templates", if templates { "4GiB" } else { "0" }])?;
        let client = world.person("client")?;
        let rent = ["--os", "linux-minimal", "--emulated", "--cpu", cpu, "--memory", memory, "--for", "1h"];
        Ok(Self { world, client, rent: rent.map(str::to_owned).to_vec() })
    }

    fn words<'a>(&'a self, before: &[&'a str], after: &[&'a str]) -> Vec<&'a str> {
        before.iter().copied().chain(self.rent.iter().map(String::as_str)).chain(after.iter().copied()).collect()
    }

    /// One lease, so that the image is in the host's cache and, where there are templates, one is made.
    pub fn warm_up(&self, templates: bool) -> Result<()> {
        self.first_output("warm-up")?;
        let folder = self.world.hosts[0].state.join("templates");
        eventually("a template was made", PATIENCE, || {
            let whole = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let whole =
                whole.filter(|entry| entry.file_name() != "making").any(|e| e.path().join("template.json").exists());
            Ok((whole || !templates).then_some(()))
        })
    }

    /// From the command to the first bytes of its job; then its end.
    pub fn first_output(&self, name: &str) -> Result<Duration> {
        let args = self.words(&["run", "--name", name], &["--", "echo", WORD]);
        let began = Instant::now();
        let mut command = self.client.command(&args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut first = [0; WORD.len()];
        child.stdout.as_mut().context("piped")?.read_exact(&mut first).context("the job gave no output")?;
        let took = began.elapsed();
        ensure!(first == *WORD.as_bytes(), "equal answers first: {first:?}");
        ensure!(child.wait()?.success());
        self.client.wait_lease(name, "ended")?;
        Ok(took)
    }

    /// How a lease was started must be as this side says.
    pub fn ensure_started(&self, name: &str, how: &str) -> Result<()> {
        let lease = self.client.lease(name)?;
        let started = lease["timeline"]["started"].as_str().unwrap_or_default();
        ensure!(started.starts_with(how), "{name} was to start {how}, but: {started}");
        Ok(())
    }

    /// Rents and waits until it is ready.
    pub fn rent(&self, name: &str) -> Result<()> {
        self.client.run(&self.words(&["rent", "--name", name], &[]))?.ok().map(drop)
    }
}
