//! The peer: PostgreSQL from the distribution, in a folder of its own, durable, tuned for this
//! machine, reached by its Unix socket, gone at the end.

use anyhow::{Context, Result, bail, ensure};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Config, NoTls};

mod load;
mod pairs;
mod search;

pub use load::load;
pub use pairs::{Pairs, add_leases, rows};
pub use search::{Columns, Search, columns};

/// Tuned, and never at the cost of durability: fsync and synchronous_commit stay on.
const SETTINGS: &str = "
listen_addresses = ''
max_connections = 64
shared_buffers = 2GB
effective_cache_size = 8GB
work_mem = 64MB
maintenance_work_mem = 1GB
random_page_cost = 1.1
effective_io_concurrency = 200
jit = off
plan_cache_mode = force_generic_plan
max_parallel_workers_per_gather = 0
wal_level = minimal
max_wal_senders = 0
wal_buffers = 64MB
max_wal_size = 8GB
checkpoint_timeout = 30min
checkpoint_completion_target = 0.9
fsync = on
synchronous_commit = on
full_page_writes = on
";

/// A cluster that runs until it is dropped.
pub struct Cluster {
    dir: tempfile::TempDir,
    bin: PathBuf,
    server: Child,
}

impl Cluster {
    /// Makes and starts one.
    pub fn start() -> Result<Self> {
        let bin = newest_bin()?;
        let dir = tempfile::Builder::new().prefix("sublet-bench-pg").tempdir_in("/tmp")?;
        let owner = Owner::of(dir.path())?;
        let data = dir.path().join("data");
        let mut making = Command::new(bin.join("initdb"));
        making.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--username=bench", "-D"]).arg(&data);
        let made = owner.runs(&mut making).stdin(Stdio::null()).output().context("initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let settings = format!("{SETTINGS}unix_socket_directories = '{}'\n", dir.path().display());
        let file = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&file)? + &settings;
        std::fs::write(&file, text)?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let mut serving = Command::new(bin.join("postgres"));
        serving.arg("-D").arg(&data).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let server = owner.runs(&mut serving).spawn().context("start postgres")?;
        let cluster = Self { dir, bin, server };
        cluster.wait()?;
        Ok(cluster)
    }

    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let ready = || {
            let mut ask = Command::new(self.bin.join("pg_isready"));
            ask.arg("-h").arg(self.dir.path()).stdout(Stdio::null()).status().is_ok_and(|s| s.success())
        };
        while !ready() {
            ensure!(Instant::now() < deadline, "postgres does not start: see {}", self.dir.path().display());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The process that all others of it come from.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Client> {
        let mut config = Config::new();
        config.host_path(self.dir.path()).user("bench").dbname("postgres");
        let (client, connection) = config.connect(NoTls).await.context("connect to postgres")?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// What it calls itself.
    pub async fn version(&self) -> Result<String> {
        let row = self.connect().await?.query_one("show server_version", &[]).await?;
        Ok(format!("PostgreSQL {}", row.get::<_, String>(0)))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Fast shutdown: its folder goes anyway.
        let _ = Command::new("kill").args(["-INT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

/// Who the cluster's processes run as: PostgreSQL refuses root.
enum Owner {
    Me,
    Other(u32, u32),
}

impl Owner {
    fn of(dir: &Path) -> Result<Self> {
        let id = |args: &[&str]| -> Result<u32> {
            let out = Command::new("id").args(args).output()?;
            Ok(String::from_utf8(out.stdout)?.trim().parse()?)
        };
        if id(&["-u"])? != 0 {
            return Ok(Self::Me);
        }
        let (uid, gid) = (id(&["-u", "postgres"])?, id(&["-g", "postgres"])?);
        std::os::unix::fs::chown(dir, Some(uid), Some(gid))?;
        Ok(Self::Other(uid, gid))
    }

    fn runs<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        match self {
            Self::Me => command,
            Self::Other(uid, gid) => command.uid(*uid).gid(*gid).current_dir("/tmp"),
        }
    }
}

fn newest_bin() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|v| v.file_name().to_str()?.parse::<u32>().ok()).max();
    match newest {
        Some(version) => Ok(PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))),
        None => bail!("no PostgreSQL below /usr/lib/postgresql: run bench/setup"),
    }
}
