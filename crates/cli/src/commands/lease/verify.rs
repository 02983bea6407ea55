//! `sublet lease verify`: what was agreed, what the host says the machine is, and what is seen inside.

use crate::api::Market;
use crate::commands::job::Desk;
use crate::commands::leasing;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Rows};
use crate::ssh::{ClientKey, Invocation, Pass, end_with_us};
use anyhow::{Context, ensure};
use serde::Serialize;
use std::process::{ExitCode, Output, Stdio};
use std::time::Duration;
use sublet_model::billing::Terms;
use sublet_model::ids::LeaseId;
use sublet_model::units::{GiB, MiB};
use sublet_wire::jobs::{Figures, JobRequest};
use tokio::process::Command;

/// What firmware takes of a machine's memory for itself, at most.
const HOLES: MiB = MiB(2);
/// Of an x86-64 system, whichever it is.
const PAGE_BYTES: i64 = 4096;
/// A busy partition may take its time.
const PROBE_WITHIN: Duration = Duration::from_secs(60);
/// The most of an answer that is read.
const MOST_PROBE_BYTES: usize = 1 << 20;

/// What is shown of what a system does not say.
const UNSEEN: &str = "nothing";

/// Needs no more than any system has; what it says is taken apart here.
const PROBE: &str = "echo vcpus $(nproc); \
     for disk in /sys/block/*; do [ \"$(cat $disk/serial 2>/dev/null)\" = sublet-scratch ] && echo scratch $(cat $disk/size); done; \
     cat /proc/meminfo /proc/zoneinfo /run/sublet/identity";

/// The same of a system without a shell: its guest program says it.
const FIGURES: &str = "/proc/self/exe figures";
/// What a program exits with that is not there.
const NO_PROGRAM: i32 = 127;

/// What a partition's own system says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Probe {
    generation: Option<u64>,
    vcpus: Option<u16>,
    /// All of the machine's memory, and what its kernel leaves for programs.
    memory: Option<(MiB, MiB)>,
    disk: GiB,
}

/// One thing compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    what: &'static str,
    agreed: String,
    host: String,
    /// Absent where it can't be seen from there.
    inside: Option<String>,
    holds: bool,
}

#[derive(Debug, Serialize)]
struct Verdict<'a> {
    lease: LeaseId,
    holds: bool,
    lines: &'a [Line],
}

/// Compares, and shows it. The exit code says whether all of it agrees.
pub async fn verify(market: &Market, which: &str, format: Format) -> anyhow::Result<ExitCode> {
    let attempt = || format!("failed to verify {which}");
    let lease = market.lease(which).await.with_context(attempt)?;
    let keys = market.whoami().await.with_context(attempt)?.chain().with_context(attempt)?;
    let key = keys.signer_of(&lease.terms).with_context(attempt)?;
    let terms = lease.terms.verify(&key).map_err(|error| {
        Failure::new(Exit::Failed, format!("the terms of {which} are not signed by the market: {error}"))
            .advise("keep `sublet -o json lease show` of it, and ask the market's operator")
    })?;
    ensure!(terms.lease == lease.id, "the terms shown for {which} are those of {}", terms.lease);
    let figures: Figures = Desk::new(market, which).answer(JobRequest::Figures).await.with_context(attempt)?;
    let (pass, key) = leasing::pass_of(market, which).await?;
    let probe = probe(&pass, &key).await.with_context(attempt)?;
    let lines = compare(&terms, &figures, &probe);
    let holds = lines.iter().all(|line| line.holds);
    match format {
        Format::Json => output::json(&Verdict { lease: lease.id, holds, lines: &lines })?,
        Format::Table => show(&lines)?,
    }
    if holds {
        return Ok(ExitCode::SUCCESS);
    }
    let words: Vec<&str> = lines.iter().filter(|line| !line.holds).map(|line| line.what).collect();
    let failure = Failure::new(Exit::Failed, format!("{which} is not what was agreed: {}", words.join(", ")));
    Err(failure.advise(format!("`sublet release {which}`, and `sublet dispute open` for what you paid")).into())
}

fn show(lines: &[Line]) -> anyhow::Result<()> {
    let mut rows = Rows::new(&["what", "agreed and signed", "the host says", "seen inside", ""], "nothing to compare");
    for line in lines {
        let inside = line.inside.clone().unwrap_or_else(|| "-".into());
        let verdict = if line.holds { "holds" } else { "DIFFERS" };
        rows.row(vec![line.what.into(), line.agreed.clone(), line.host.clone(), inside, verdict.into()]);
    }
    rows.print()
}

fn compare(terms: &Terms, figures: &Figures, probe: &Probe) -> Vec<Line> {
    let agreed = &terms.resources;
    let mut lines = vec![
        same("generation", terms.generation, figures.generation, probe.generation),
        same("vcpus", terms.vcpus, figures.vcpus, probe.vcpus),
        Line {
            what: "cpu",
            agreed: agreed.cpu.to_string(),
            host: figures.cpu.map_or_else(|| "not capped".into(), |cpu| cpu.to_string()),
            inside: None,
            holds: figures.cpu == Some(agreed.cpu),
        },
        Line {
            what: "memory",
            agreed: agreed.memory.to_string(),
            host: figures.memory.to_string(),
            inside: Some(
                probe.memory.map_or_else(|| UNSEEN.into(), |(all, usable)| format!("{all}, {usable} of it usable")),
            ),
            holds: figures.memory == agreed.memory
                && probe.memory.is_some_and(|(all, _)| (agreed.memory - HOLES..=agreed.memory).contains(&all)),
        },
    ];
    if [agreed.disk, figures.disk, probe.disk].into_iter().any(|disk| disk != GiB(0)) {
        lines.push(same("disk", agreed.disk, figures.disk, Some(probe.disk)));
    }
    lines
}

/// What has to be the same everywhere.
fn same<T: PartialEq + ToString>(what: &'static str, agreed: T, host: T, inside: Option<T>) -> Line {
    let holds = host == agreed && inside.as_ref() == Some(&agreed);
    let inside = inside.map_or_else(|| UNSEEN.into(), |inside| inside.to_string());
    Line { what, agreed: agreed.to_string(), host: host.to_string(), inside: Some(inside), holds }
}

/// Asks the partition's own system, over the client's own session.
async fn probe(pass: &Pass, key: &ClientKey) -> anyhow::Result<Probe> {
    let mut out = ask(pass, key, PROBE).await?;
    if out.status.code() == Some(NO_PROGRAM) {
        out = ask(pass, key, FIGURES).await?;
    }
    Ok(read(&String::from_utf8_lossy(&out.stdout)))
}

async fn ask(pass: &Pass, key: &ClientKey, line: &str) -> anyhow::Result<Output> {
    let invocation = Invocation { terminal: Some(false), command: Some(line.into()), ..Invocation::default() };
    let mut command = Command::new("ssh");
    command.args(invocation.arguments(pass, key)?).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    end_with_us(&mut command);
    let asked = tokio::time::timeout(PROBE_WITHIN, command.output()).await;
    let out = asked.context("the partition does not answer")?.context("failed to start ssh")?;
    if out.status.code() == Some(255) {
        let words = output::clean(String::from_utf8_lossy(&out.stderr).trim());
        return Err(Failure::new(Exit::Transport, format!("the way to the partition broke: {words}")).into());
    }
    ensure!(out.stdout.len() <= MOST_PROBE_BYTES, "the partition says more than was asked");
    Ok(out)
}

/// What a system says that is no number is not believed, and not shown.
fn read(said: &str) -> Probe {
    let word = |line: &str, at: usize| line.split([' ', '=', ':']).filter(|w| !w.is_empty()).nth(at)?.parse().ok();
    let first = |name: &str| {
        let line = said.lines().find(|line| line.split([' ', '=', ':']).next() == Some(name))?;
        word(line, 1)
    };
    // Of each zone of memory: pages that are there, not counting what is a hole.
    let present = said.lines().filter(|line| line.trim_start().starts_with("present"));
    let pages: i64 = present.filter_map(|line| word(line.trim_start(), 1)).sum::<i64>();
    let all = MiB(pages.saturating_mul(PAGE_BYTES) >> 20);
    Probe {
        generation: first("generation").and_then(|n| u64::try_from(n).ok()),
        vcpus: first("vcpus").and_then(|n| u16::try_from(n).ok()),
        memory: first("MemTotal").filter(|_| pages > 0).map(|kib| (all, MiB(kib >> 10))),
        // In sectors of 512 bytes.
        disk: GiB(first("scratch").map_or(0, |sectors: i64| sectors >> 21)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::billing::PriceList;
    use sublet_model::identity::Sha256Digest;
    use sublet_model::resources::Resources;
    use sublet_model::units::{Millicores, Timestamp};
    use uuid::Uuid;

    const SAID: &str = "vcpus 2\nscratch 2097152\nMemTotal:         201234 kB\nMemFree: 1 kB\nNode 0, zone DMA\n        \
                        present  3998\n        managed  3840\nNode 0, zone DMA32\n        present  61408\n\
                        lease=lease_x\ngeneration=3\nvcpus=2\ncpu_millicores=1500\n";

    fn terms() -> Terms {
        let id = |n| Uuid::from_u128(n);
        Terms {
            lease: id(1).into(),
            client: id(2).into(),
            lender: id(3).into(),
            host: id(4).into(),
            partition: id(5).into(),
            generation: 3,
            resources: Resources { cpu: Millicores(1500), memory: MiB(256), disk: GiB(1) },
            vcpus: 2,
            offer: id(6).into(),
            offer_version: 1,
            prices: PriceList::default(),
            image: Sha256Digest::of(b"image"),
            granted_at: Timestamp(1),
            until: None,
            fee_permille: 0,
            term_seconds: None,
        }
    }

    fn figures() -> Figures {
        Figures { generation: 3, vcpus: 2, memory: MiB(256), cpu: Some(Millicores(1500)), disk: GiB(1) }
    }

    fn differing(figures: &Figures, probe: &Probe) -> Vec<&'static str> {
        compare(&terms(), figures, probe).iter().filter(|line| !line.holds).map(|line| line.what).collect()
    }

    #[test]
    fn what_a_system_says_of_itself() {
        let probe = read(SAID);
        let expected = Probe { generation: Some(3), vcpus: Some(2), memory: Some((MiB(255), MiB(196))), disk: GiB(1) };
        assert_eq!(probe, expected);
        assert_eq!(read(""), Probe::default());
        let nonsense = read("vcpus lots\ngeneration=-1\nMemTotal: \u{1b}[2J kB\nscratch x\npresent y\n");
        assert_eq!(nonsense, Probe::default());
    }

    #[test]
    fn each_difference_is_named() {
        let (same, inside) = (figures(), read(SAID));
        assert_eq!(differing(&same, &inside), [""; 0]);
        type Lie = fn(&mut Figures, &mut Probe);
        let table: [(Lie, &str); 10] = [
            (|f, _| f.vcpus = 1, "vcpus"),
            (|_, p| p.vcpus = Some(1), "vcpus"),
            (|_, p| p.vcpus = None, "vcpus"),
            (|f, _| f.cpu = Some(Millicores(1400)), "cpu"),
            (|f, _| f.cpu = None, "cpu"),
            (|f, _| f.memory = MiB(255), "memory"),
            (|_, p| p.memory = Some((MiB(253), MiB(196))), "memory"),
            (|_, p| p.memory = Some((MiB(257), MiB(196))), "memory"),
            (|_, p| p.generation = Some(2), "generation"),
            (|_, p| p.disk = GiB(0), "disk"),
        ];
        for (lie, what) in table {
            let (mut figures, mut probe) = (same.clone(), inside.clone());
            lie(&mut figures, &mut probe);
            assert_eq!(differing(&figures, &probe), [what]);
        }
    }
}
