//! Lives of partitions.

use super::{Result, Store, StoreError, change, from_json, parse, to_json};
use rusqlite::OptionalExtension;
use sublet_model::ids::{LeaseId, PartitionId};
use sublet_model::lease::EndReason;
use sublet_model::units::Seconds;
use sublet_wire::sync;
use uuid::Uuid;

/// How far a life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its image is on its way; nothing was started.
    Fetching,
    /// Its machine may have been started.
    Booting,
    /// The guest answered with its identity set.
    Ready,
    /// It is being ended.
    Stopping,
    /// It is stopped and wiped.
    Gone,
}

/// How a life that is over is kept.
pub(super) const GONE: i64 = Stage::Gone as i64;

const STAGES: [Stage; 5] = [Stage::Fetching, Stage::Booting, Stage::Ready, Stage::Stopping, Stage::Gone];

/// One life of a partition, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Which partition.
    pub partition: PartitionId,
    /// Which generation.
    pub generation: u64,
    /// What the market asked for when it began.
    pub wanted: sync::Run,
    /// The longest it may run, counted from ready.
    pub term: Seconds,
    /// What is paid for, counted from ready.
    pub paid: Seconds,
    /// How far it has come.
    pub stage: Stage,
    /// Of the machine.
    pub uuid: Uuid,
    /// Which start of the computer the clocks below belong to; none before the machine's start.
    pub boot_id: Option<String>,
    /// When the machine was started, on CLOCK_BOOTTIME.
    pub started_boot_us: Option<i64>,
    /// When the meter started, on CLOCK_MONOTONIC.
    pub ready_mono_us: Option<i64>,
    /// When the term started, on CLOCK_BOOTTIME.
    pub ready_boot_us: Option<i64>,
    /// The meter as of the last progress, or its end.
    pub metered: Seconds,
    /// Whether a client has authenticated since ready.
    pub contacted: bool,
    /// The first job.
    pub job: Option<String>,
    /// Since when the client of a one-shot lease is away, on CLOCK_BOOTTIME.
    pub vanished_boot_us: Option<i64>,
    /// Why it ends, where this host is the one who knows.
    pub reason: Option<EndReason>,
    /// In more words.
    pub detail: Option<String>,
    /// How its machine was started: from a template, or why not.
    pub started: Option<String>,
}

impl Run {
    /// The lease it serves.
    pub fn lease(&self) -> LeaseId {
        self.wanted.lease
    }

    /// Up to which second from ready it may run.
    pub fn limit(&self) -> Seconds {
        self.term.min(self.paid)
    }
}

pub(super) fn reason_of(attempt: &'static str, word: &str) -> Result<EndReason> {
    let known = EndReason::ALL.into_iter().find(|r| r.word() == word);
    known.ok_or_else(|| StoreError::Unreadable { attempt, problem: format!("no reason is called {word:?}") })
}

const COLUMNS: &str = "partition, generation, wanted, term_seconds, paid_seconds, stage, uuid, boot_id, \
     started_boot_us, ready_mono_us, ready_boot_us, metered_seconds, contacted, job, vanished_boot_us, reason, detail, \
     started";

/// A row as SQLite gives it: its texts are read one step later, where errors have words.
struct Raw {
    texts: [String; 3],
    numbers: [i64; 5],
    run: [Option<String>; 5],
    clocks: [Option<i64>; 4],
    contacted: bool,
}

fn raw(row: &rusqlite::Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        texts: [row.get(0)?, row.get(2)?, row.get(6)?],
        numbers: [row.get(1)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(11)?],
        run: [row.get(7)?, row.get(13)?, row.get(15)?, row.get(16)?, row.get(17)?],
        clocks: [row.get(8)?, row.get(9)?, row.get(10)?, row.get(14)?],
        contacted: row.get(12)?,
    })
}

fn read(attempt: &'static str, raw: Raw) -> Result<Run> {
    let [partition, wanted, uuid] = raw.texts;
    let [generation, term, paid, stage, metered] = raw.numbers;
    let [boot_id, job, reason, detail, started] = raw.run;
    let [started_boot_us, ready_mono_us, ready_boot_us, vanished_boot_us] = raw.clocks;
    let unreadable = || StoreError::Unreadable { attempt, problem: format!("no stage is numbered {stage}") };
    Ok(Run {
        partition: parse(attempt, &partition)?,
        generation: generation as u64,
        wanted: from_json(attempt, &wanted)?,
        term: Seconds(term),
        paid: Seconds(paid),
        stage: usize::try_from(stage).ok().and_then(|s| STAGES.get(s)).copied().ok_or_else(unreadable)?,
        uuid: parse(attempt, &uuid)?,
        boot_id,
        started_boot_us,
        ready_mono_us,
        ready_boot_us,
        metered: Seconds(metered),
        contacted: raw.contacted,
        job,
        vanished_boot_us,
        reason: reason.map(|r| reason_of(attempt, &r)).transpose()?,
        detail,
        started,
    })
}

impl Store {
    /// Every life that is not gone yet.
    pub fn live_runs(&self) -> Result<Vec<Run>> {
        const ATTEMPT: &str = "read what runs";
        let failed = StoreError::of(ATTEMPT);
        let connection = self.lock();
        let text = format!("select {COLUMNS} from runs where stage < 4 order by partition");
        let mut query = connection.prepare_cached(&text).map_err(&failed)?;
        let rows = query.query_map([], raw).map_err(&failed)?;
        rows.map(|row| read(ATTEMPT, row.map_err(&failed)?)).collect()
    }

    /// The life of a partition that is not gone yet.
    pub fn live_run(&self, partition: PartitionId) -> Result<Option<Run>> {
        const ATTEMPT: &str = "read what runs";
        let failed = StoreError::of(ATTEMPT);
        let connection = self.lock();
        let text = format!("select {COLUMNS} from runs where partition = ?1 and stage < 4");
        let mut query = connection.prepare_cached(&text).map_err(&failed)?;
        let row = query.query_row([partition.to_string()], raw).optional().map_err(&failed)?;
        row.map(|row| read(ATTEMPT, row)).transpose()
    }

    /// Begins a life, of the newest applied generation. Refused while another one is not gone.
    pub fn begin(&self, partition: PartitionId, generation: u64, wanted: &sync::Run, uuid: Uuid) -> Result<()> {
        const ATTEMPT: &str = "begin a run";
        let body = to_json(ATTEMPT, wanted)?;
        self.write(ATTEMPT, |t| {
            change(
                t,
                "insert into runs (partition, generation, lease, wanted, term_seconds, paid_seconds, uuid, told_epoch) \
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ifnull((select epoch from identity), 1))",
                rusqlite::params![
                    partition.to_string(),
                    generation as i64,
                    wanted.lease.to_string(),
                    body,
                    wanted.term_seconds.0,
                    wanted.paid_seconds.0,
                    uuid.to_string(),
                ],
            )
            .map(drop)
            .map_err(StoreError::of(ATTEMPT))
        })
    }

    fn update(&self, attempt: &'static str, run: &Run, set: &str, values: &[&dyn rusqlite::ToSql]) -> Result<()> {
        self.write(attempt, |t| update(t, attempt, run, set, values))
    }

    /// Records, before it happens, that the machine is started.
    pub fn starting(&self, run: &Run, boot_id: &str, mono_us: i64, boot_us: i64) -> Result<()> {
        let set = "stage = max(stage, 1), boot_id = ?3, started_mono_us = ?4, started_boot_us = ?5";
        self.update("record a start", run, set, &[&boot_id, &mono_us, &boot_us])
    }

    /// Records how a machine was started.
    pub fn note_start(&self, run: &Run, how: &str) -> Result<()> {
        self.update("record how a machine was started", run, "started = ?3", &[&how])
    }

    /// Records when the guest was ready: the meter and the term start. The first instant stands.
    pub fn ready(&self, run: &Run, mono_us: i64, boot_us: i64) -> Result<()> {
        let set = "stage = max(stage, 2), ready_mono_us = coalesce(ready_mono_us, ?3), \
                   ready_boot_us = coalesce(ready_boot_us, ?4)";
        self.update("record that the guest is ready", run, set, &[&mono_us, &boot_us])
    }

    /// Records that a life is to end, and where its meter stopped. What was said first stands.
    pub fn stopping(&self, run: &Run, reason: Option<EndReason>, detail: Option<&str>, metered: Seconds) -> Result<()> {
        let set = "stage = max(stage, 3), reason = case when stage < 3 then ?3 else reason end, \
                   detail = coalesce(detail, ?4), \
                   metered_seconds = case when stage < 3 then max(metered_seconds, ?5) else metered_seconds end";
        self.update("record a stop", run, set, &[&reason.map(EndReason::word), &detail, &metered.0])
    }

    /// Records that a life is over: stopped and wiped.
    pub fn ended(&self, run: &Run) -> Result<()> {
        const ATTEMPT: &str = "record that a run is gone";
        self.write(ATTEMPT, |t| {
            update(t, ATTEMPT, run, "stage = 4", &[])?;
            // With the reason that is recorded, whatever the caller knew.
            change(
                t,
                "insert into gone (partition, generation, reason, detail) \
                 select partition, generation, reason, detail from runs where partition = ?1 and generation = ?2 \
                 on conflict (partition, generation) do nothing",
                rusqlite::params![run.partition.to_string(), run.generation as i64],
            )
            .map(drop)
            .map_err(StoreError::of(ATTEMPT))
        })
    }

    /// Moves the ends of a life; they only rise.
    pub fn extend(&self, run: &Run, term: Seconds, paid: Seconds) -> Result<()> {
        let set = "term_seconds = max(term_seconds, ?3), paid_seconds = max(paid_seconds, ?4)";
        self.update("record an extension", run, set, &[&term.0, &paid.0])
    }

    /// Keeps where the meters stand, of all lives at once.
    pub fn progress(&self, meters: &[(Run, Seconds)]) -> Result<()> {
        const ATTEMPT: &str = "record the meters";
        self.write(ATTEMPT, |t| {
            meters.iter().try_for_each(|(run, seconds)| {
                let set =
                    "metered_seconds = case when stage < 3 then max(metered_seconds, ?3) else metered_seconds end";
                update(t, ATTEMPT, run, set, &[&seconds.0])
            })
        })
    }

    /// Records that a client has authenticated.
    pub fn contacted(&self, run: &Run) -> Result<()> {
        self.update("record a contact", run, "contacted = 1", &[])
    }

    /// Records the first job of a life.
    pub fn first_job(&self, run: &Run, job: &str) -> Result<()> {
        self.update("record a job", run, "job = coalesce(job, ?3)", &[&job])
    }

    /// Records since when the client is away; none when it is back.
    pub fn vanished(&self, run: &Run, since_boot_us: Option<i64>) -> Result<()> {
        self.update("record that the client is away", run, "vanished_boot_us = ?3", &[&since_boot_us])
    }

    /// Forgets lives that are over, known to the market and fully receipted, but for the newest
    /// [`LIVES_KEPT`](super::kept::LIVES_KEPT): a market restored from a backup asks for them again.
    pub fn prune(&self) -> Result<()> {
        self.prune_but(super::kept::LIVES_KEPT)
    }

    pub(super) fn prune_but(&self, kept: i64) -> Result<()> {
        const ATTEMPT: &str = "forget what is over";
        let failed = StoreError::of(ATTEMPT);
        // Rows are numbered as they begin, so the old ones are found without reading the others.
        const OVER: &str = "from runs r where r.rowid <= (select max(rowid) from runs) - ?1 and r.stage = 4 \
             and r.told_epoch = ifnull((select epoch from identity), 1) \
             and not exists (select 1 from receipts p where p.lease = r.lease \
                             and p.acknowledged < ifnull((select epoch from identity), 1)) \
             and not exists (select 1 from gone g where g.partition = r.partition \
                             and g.generation = r.generation and g.acknowledged = 0)";
        self.write(ATTEMPT, |t| {
            change(t, &format!("delete from receipts where lease in (select r.lease {OVER})"), [kept])
                .map_err(&failed)?;
            change(t, &format!("delete from runs where rowid in (select r.rowid {OVER})"), [kept])
                .map(drop)
                .map_err(&failed)
        })
    }
}

fn update(
    t: &rusqlite::Transaction<'_>,
    attempt: &'static str,
    run: &Run,
    set: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<()> {
    let (partition, generation) = (run.partition.to_string(), run.generation as i64);
    let keys: [&dyn rusqlite::ToSql; 2] = [&partition, &generation];
    let all: Vec<&dyn rusqlite::ToSql> = keys.into_iter().chain(values.iter().copied()).collect();
    let text = format!("update runs set {set} where partition = ?1 and generation = ?2");
    match change(t, &text, all.as_slice()).map_err(StoreError::of(attempt))? {
        1 => Ok(()),
        _ => Err(StoreError::Refused { attempt, rule: "there is no such run".into() }),
    }
}
