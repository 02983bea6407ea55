//! The peer of P3: the same market as ads, the same questions as ads, for ClassAd's own matching.

use crate::data::{ARCHES, Audience, FLAGS, Host, Market, NETS, OSES, Partition, REGIONS};
use crate::ours::{self, ASKING};
use crate::query::{LIMIT, Query, words};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use sublet_model::host::Tier;

/// One question answered by ClassAd: places of partitions and totals, and how long it took.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Place of the question.
    pub query: usize,
    /// For the whole market.
    pub took: Duration,
    /// Best first.
    pub answer: Vec<(usize, i64)>,
}

/// Writes the market as ads, one a line.
pub fn write_ads(path: &Path, market: &Market) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| format!("write {}", path.display()))?);
    for (place, partition) in market.partitions.iter().enumerate() {
        writeln!(file, "{}", ad(place, partition, market.host_of(partition)))?;
    }
    Ok(file.flush()?)
}

/// Writes questions as ads, one a line.
pub fn write_jobs(path: &Path, queries: &[Query]) -> Result<()> {
    let lines: Vec<String> = queries.iter().map(job).collect();
    std::fs::write(path, lines.join("\n") + "\n").with_context(|| format!("write {}", path.display()))
}

/// What two-sided matching needs of a partition: what it is, and whom its owner lends to.
fn ad(place: usize, p: &Partition, h: &Host) -> String {
    let reach = p.reach.unwrap_or_default();
    let open = match h.audience {
        Audience::Everyone => "true".to_string(),
        Audience::Own => format!("TARGET.Account == {}", h.lender),
        Audience::With | Audience::Without => {
            let accounts: Vec<_> = ours::audience(h, h.audience == Audience::With).iter().map(u64::to_string).collect();
            format!("(TARGET.Account == {} || member(TARGET.Account, {{{}}}))", h.lender, accounts.join(","))
        }
    };
    let tier = match (h.tier, h.to_strangers) {
        (Tier::Kvm, _) => "",
        (Tier::Emulated, true) => "TARGET.Emulated && ",
        (Tier::Emulated, false) => "false && ",
    };
    let [setup, flat, core, memory, disk] = h.prices;
    format!(
        "[ Id={place}; Idle={}; ReachCpu={}; ReachMemory={}; ReachDisk={}; MinCpu={}; MinMemory={}; MinDisk={}; \
         Threads={}; Arch=\"{}\"; Oses={{{}}}; Flags={{{}}}; Region=\"{}\"; Net=\"{}\"; Confined={}; Setup={setup}; Flat={flat}; \
         Core={core}; Memory={memory}; Disk={disk}; ListedAt={}; Shortest={}; Longest={}; \
         Requirements = Idle && Confined && {tier}TARGET.Term >= Shortest && TARGET.Term <= Longest && {open}; ]",
        p.reach.is_some(),
        reach.cpu.0,
        reach.memory.0,
        reach.disk.0,
        p.min.cpu.0,
        p.min.memory.0,
        p.min.disk.0,
        h.threads,
        ARCHES[h.arch],
        quoted(h.oses, &OSES),
        quoted(h.flags, &FLAGS[h.arch]),
        REGIONS[h.region],
        NETS[h.net],
        h.confined,
        p.listed_at,
        h.terms.0,
        h.terms.1
    )
}

fn quoted(bits: u8, of: &[&str]) -> String {
    words(bits, of).iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(",")
}

/// What most partitions lack stands first, so that most of them are left out soon.
fn job(q: &Query) -> String {
    let needs = q.needs;
    let flags: Vec<String> =
        words(q.flags, &FLAGS[q.arch]).iter().map(|flag| format!(" && member(\"{flag}\", TARGET.Flags)")).collect();
    let larger = |asked: i64, min: &str| format!("ifThenElse(TARGET.{min} > {asked}, TARGET.{min}, {asked})");
    format!(
        "[ Account={ASKING}; Emulated={}; Term={}; \
         Hourly = TARGET.Flat + TARGET.Core * {} / 1000 + TARGET.Memory * {} / 1024 + TARGET.Disk * {}; \
         Total = TARGET.Setup + Hourly * {}; \
         Requirements = TARGET.Idle && member(TARGET.Region, {{{}}}) && member(TARGET.Net, {{{}}}) && TARGET.ReachCpu >= {} \
         && TARGET.ReachMemory >= {} && TARGET.ReachDisk >= {} && TARGET.Arch == \"{}\" && TARGET.Threads >= {} \
         && member(\"{}\", TARGET.Oses){} && {} <= {} && Hourly <= {}; ]",
        q.emulated,
        q.hours * 3600,
        larger(needs.cpu.0, "MinCpu"),
        larger(needs.memory.0, "MinMemory"),
        larger(needs.disk.0, "MinDisk"),
        q.hours,
        quoted(q.regions, &REGIONS),
        quoted(q.nets, &NETS),
        needs.cpu.0,
        needs.memory.0,
        needs.disk.0,
        ARCHES[q.arch],
        q.vcpus,
        OSES[q.os],
        flags.concat(),
        larger(needs.memory.0, "MinMemory"),
        q.memory_at_most,
        q.price_at_most
    )
}

/// ClassAd as `bench/setup` made it.
pub struct ClassAd {
    dir: PathBuf,
}

impl ClassAd {
    /// Finds it.
    pub fn find() -> Result<Self> {
        let dir = PathBuf::from("target/bench/classad");
        ensure!(dir.join("core").exists(), "no {}/core: run bench/setup p3", dir.display());
        Ok(Self { dir })
    }

    /// The C++ core over these ads.
    pub fn core(&self, ads: &Path, jobs: &Path) -> Result<Matcher> {
        let mut command = Command::new(self.dir.join("core"));
        Matcher::start(command.arg(ads).arg(jobs).arg(LIMIT.to_string()))
    }

    /// The same through the Python wheel.
    pub fn wheel(&self, ads: &Path, jobs: &Path) -> Result<Matcher> {
        let mut command = Command::new(self.dir.join("bin/python"));
        Matcher::start(command.arg("bench/classad/wheel.py").arg(ads).arg(jobs).arg(LIMIT.to_string()))
    }

    /// The version of the wheel.
    pub fn version(&self) -> Result<String> {
        let print = "import classad2; print(classad2.version())";
        let out = Command::new(self.dir.join("bin/python")).args(["-c", print]).output()?;
        Ok(format!("ClassAd of HTCondor {}", String::from_utf8(out.stdout)?.trim()))
    }
}

/// A process that matches, until dropped.
pub struct Matcher {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Matcher {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start ClassAd")?;
        let stdin = child.stdin.take().context("piped")?;
        let mut stdout = BufReader::new(child.stdout.take().context("piped")?);
        let mut ready = String::new();
        stdout.read_line(&mut ready)?;
        ensure!(ready.starts_with("ready "), "ClassAd did not read its ads: see its words above");
        Ok(Self { child, stdin, stdout })
    }

    /// Asks the question at this place.
    pub fn ask(&mut self, query: usize) -> Result<Asked> {
        writeln!(self.stdin, "{query}")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        parse(line.trim_end())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Matcher {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn parse(line: &str) -> Result<Asked> {
    let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<i64>, _>>().with_context(|| line.to_string())?;
    let [query, nanos, rest @ ..] = numbers.as_slice() else { anyhow::bail!("not an answer: {line}") };
    Ok(Asked {
        query: *query as usize,
        took: Duration::from_nanos(nanos.unsigned_abs()),
        answer: rest.chunks_exact(2).map(|pair| (pair[0] as usize, pair[1])).collect(),
    })
}
