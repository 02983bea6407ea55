//! The owner's own partitions: what each is, whether it shall run, and which machine it has.

use super::{Result, Store, StoreError, change, from_json, parse, to_json};
use sublet_model::identity::Signed;
use sublet_model::ids::PartitionId;
use sublet_model::image::ImageManifest;
use sublet_model::partition::Allocation;
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Millicores};
use uuid::Uuid;

/// What the owner wants of an own partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// That it runs; after a crash it is started again.
    Run,
    /// That it is down.
    Stop,
    /// That it goes for good, and all that is in it.
    Remove,
}

impl Wish {
    /// As it is kept and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Stop => "stop",
            Self::Remove => "remove",
        }
    }
}

/// Where an own partition stands. The diagram is in [`crate::own`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Nothing of it runs.
    Down,
    /// Its machine was started, or is about to be.
    Boots,
    /// Its guest answered.
    Ready,
}

impl Stand {
    /// As it is kept and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Boots => "boots",
            Self::Ready => "ready",
        }
    }
}

/// One start of an own partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Of the machine.
    pub uuid: Uuid,
    /// Of the computer, when the machine was started.
    pub boot_id: String,
}

/// A partition of the owner's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    /// Its id, also in the division.
    pub partition: PartitionId,
    /// As the owner calls it.
    pub name: String,
    /// What it has, always.
    pub resources: Resources,
    /// What boots in it.
    pub image: Signed<ImageManifest>,
    /// Where the image's blobs are.
    pub depot: String,
    /// What the owner wants of it.
    pub wish: Wish,
    /// How often it was started: the generation of its machine.
    pub starts: u64,
    /// The start whose machine is not wiped yet.
    pub start: Option<Start>,
    /// Where it stands.
    pub stand: Stand,
    /// Why it does not start, while it should.
    pub waits: Option<String>,
    /// Why it last ended.
    pub said: Option<String>,
}

impl Own {
    /// What it has, as any partition that was never granted.
    pub fn allocation(&self) -> Allocation {
        let vcpus = Allocation::vcpus_for(self.resources);
        Allocation { generation: 0, revision: 0, resources: self.resources, vcpus }
    }

    /// What boots in it.
    pub fn manifest(&self) -> std::result::Result<ImageManifest, String> {
        crate::terms::check_manifest(&self.image)
    }
}

const READ: &str = "read the owner's own partitions";
const COLUMNS: &str = "select partition, name, cpu_millicores, memory_mib, disk_gib, image, depot, wish, starts, \
                       uuid, boot_id, stand, said, waits from own";

/// A row as SQLite has it.
struct Row {
    texts: [String; 4],
    resources: Resources,
    words: [String; 2],
    starts: i64,
    start: Option<(String, String)>,
    said: Option<String>,
    waits: Option<String>,
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let uuid: Option<String> = row.get(9)?;
    Ok(Row {
        texts: [row.get(0)?, row.get(1)?, row.get(5)?, row.get(6)?],
        resources: Resources { cpu: Millicores(row.get(2)?), memory: MiB(row.get(3)?), disk: GiB(row.get(4)?) },
        words: [row.get(7)?, row.get(11)?],
        starts: row.get(8)?,
        start: uuid.zip(row.get(10)?),
        said: row.get(12)?,
        waits: row.get(13)?,
    })
}

impl Row {
    fn read(self) -> Result<Own> {
        let [partition, name, image, depot] = self.texts;
        let [wish, stand] = self.words;
        let unknown = |word: &str| StoreError::Unreadable { attempt: READ, problem: format!("what is {word:?}?") };
        let wish = [Wish::Run, Wish::Stop, Wish::Remove]
            .into_iter()
            .find(|w| w.word() == wish)
            .ok_or_else(|| unknown(&wish))?;
        let stand = [Stand::Down, Stand::Boots, Stand::Ready]
            .into_iter()
            .find(|s| s.word() == stand)
            .ok_or_else(|| unknown(&stand))?;
        let start = self.start.map(|(uuid, boot_id)| Ok::<_, StoreError>(Start { uuid: parse(READ, &uuid)?, boot_id }));
        Ok(Own {
            partition: parse(READ, &partition)?,
            name,
            resources: self.resources,
            image: from_json(READ, &image)?,
            depot,
            wish,
            starts: self.starts.unsigned_abs(),
            start: start.transpose()?,
            stand,
            waits: self.waits,
            said: self.said,
        })
    }
}

impl Store {
    /// The owner's own partitions, by name.
    pub fn own(&self) -> Result<Vec<Own>> {
        let failed = StoreError::of(READ);
        let connection = self.lock();
        let mut query = connection.prepare_cached(&format!("{COLUMNS} order by name")).map_err(&failed)?;
        let rows = query.query_map([], row).map_err(&failed)?;
        rows.map(|row| row.map_err(&failed)?.read()).collect()
    }

    /// One of them, if it is still there.
    pub fn own_of(&self, partition: PartitionId) -> Result<Option<Own>> {
        Ok(self.own()?.into_iter().find(|own| own.partition == partition))
    }

    /// Keeps a new one, as it is to be for ever.
    pub(super) fn add_own(t: &rusqlite::Transaction<'_>, own: &Own) -> Result<()> {
        const ATTEMPT: &str = "keep an own partition";
        let image = to_json(ATTEMPT, &own.image)?;
        change(
            t,
            "insert into own (partition, name, cpu_millicores, memory_mib, disk_gib, image, depot) \
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            rusqlite::params![
                own.partition.to_string(),
                own.name,
                own.resources.cpu.0,
                own.resources.memory.0,
                own.resources.disk.0,
                image,
                own.depot,
            ],
        )
        .map(drop)
        .map_err(StoreError::of(ATTEMPT))
    }

    /// Keeps what the owner wants of one. What goes for good is not wanted otherwise any more.
    pub fn wish_own(&self, partition: PartitionId, wish: Wish) -> Result<()> {
        self.change_own(
            "keep what the owner wants",
            "update own set wish = ?2, waits = null where partition = ?1 and wish <> 'remove'",
            rusqlite::params![partition.to_string(), wish.word()],
        )
    }

    /// Keeps that one is started, before that is tried.
    pub fn own_starts(&self, partition: PartitionId, start: &Start) -> Result<()> {
        self.change_own(
            "record the start of an own partition",
            "update own set starts = starts + 1, uuid = ?2, boot_id = ?3, stand = 'boots', waits = null where partition = ?1",
            rusqlite::params![partition.to_string(), start.uuid.to_string(), start.boot_id],
        )
    }

    /// Keeps that the guest of one answered.
    pub fn own_is_ready(&self, partition: PartitionId) -> Result<()> {
        self.change_own(
            "record that an own partition is ready",
            "update own set stand = 'ready' where partition = ?1 and stand = 'boots'",
            [partition.to_string()],
        )
    }

    /// Keeps why one does not start.
    pub fn own_waits(&self, partition: PartitionId, why: &str) -> Result<()> {
        self.change_own(
            "keep why an own partition does not start",
            "update own set waits = ?2 where partition = ?1 and waits is not ?2",
            rusqlite::params![partition.to_string(), why],
        )
    }

    /// Keeps that the machine of one is stopped and wiped, and why; whether it stays down for that.
    pub fn own_is_down(&self, partition: PartitionId, said: Option<&str>, stays: bool) -> Result<()> {
        self.change_own(
            "record the end of an own partition",
            "update own set uuid = null, boot_id = null, stand = 'down', said = ?2, \
             wish = case when ?3 and wish = 'run' then 'stop' else wish end where partition = ?1",
            rusqlite::params![partition.to_string(), said, stays],
        )
    }

    fn change_own(&self, attempt: &'static str, sql: &str, values: impl rusqlite::Params) -> Result<()> {
        self.write(attempt, |t| change(t, sql, values).map(drop).map_err(StoreError::of(attempt)))
    }
}
