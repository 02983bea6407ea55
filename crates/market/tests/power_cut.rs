//! The power goes while the database writes: of what was not yet known to be on the disk, any
//! sector may be there and any may be missing. What was acknowledged is there afterwards, and what
//! was not is there whole or not at all (I6).
//!
//! ```text
//! acknowledged i --- log grows by the frames of i+1 ---(sync)--- acknowledged i+1
//!                    cut here: any of the changed sectors of the log
//!                                          log is moved into the file ---(sync)---
//!                                          cut here: all of the log, any of the changed sectors of the file
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use sublet_market::db::{FILE, FirstMember, Sqlite, create};
use sublet_market::engine::change::Change;
use sublet_market::engine::commit::Commit;
use sublet_market::engine::rows::{Account, Purse};
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::AccountId;
use sublet_model::units::Timestamp;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
const COMMITS: u64 = 190;
/// After so many the log is moved into the file, as SQLite does by itself after some thousand pages.
const MOVED_EVERY: u64 = 50;
/// How many commits are cut, beside those in which the log was moved into the file.
const CUT_EVERY: u64 = 16;
const CUTS_EACH: u64 = 3;
const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

/// The file and its log, as they were at one moment.
struct Disk {
    file: Vec<u8>,
    log: Vec<u8>,
}

impl Disk {
    fn read(dir: &Path) -> Self {
        Self { file: fs::read(dir.join(FILE)).unwrap(), log: fs::read(dir.join(format!("{FILE}-wal"))).unwrap() }
    }

    fn write(&self, dir: &Path) {
        fs::write(dir.join(FILE), &self.file).unwrap();
        fs::write(dir.join(format!("{FILE}-wal")), &self.log).unwrap();
    }
}

/// The same numbers for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Some of the changed sectors, as chance has it; all lengths that a file may have meanwhile.
fn torn(before: &[u8], after: &[u8], dice: &mut Dice) -> Vec<u8> {
    // From half of them to nearly none.
    let miss_one_in = [2, 4, 16, 10_000][(dice.throw() % 4) as usize];
    let longest = before.len().max(after.len());
    let mut mixed = before.to_vec();
    mixed.resize(longest, 0);
    for at in (0..after.len()).step_by(SECTOR_BYTES) {
        let to = (at + SECTOR_BYTES).min(after.len());
        if mixed[at..to] != after[at..to] && !dice.throw().is_multiple_of(miss_one_in) {
            mixed[at..to].copy_from_slice(&after[at..to]);
        }
    }
    mixed
}

fn batch(number: u64, dice: &mut Dice) -> Vec<Change> {
    let account = |k| {
        Change::Account(Account {
            id: sublet_wire::new_id(),
            name: format!("a-{number}-{k}-{}", "x".repeat((dice.throw() % 40) as usize)),
            suspended: false,
            created_at: NOW,
            purse: Purse::on_account(),
        })
    };
    (0..1 + number % 5).map(account).collect()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let mut db = Sqlite::open(dir).expect("a database that was cut off opens");
    db.load().unwrap().accounts.values().map(|account| account.name.clone()).collect()
}

/// What comes up after the cut holds all that was acknowledged, and the next batch wholly or not.
fn check(disk: &Disk, acknowledged: &BTreeSet<String>, next: &BTreeSet<String>, what: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    disk.write(dir.path());
    let found = names(dir.path());
    let more: BTreeSet<String> = found.difference(acknowledged).cloned().collect();
    assert!(acknowledged.is_subset(&found), "{what}: lost {:?}", acknowledged.difference(&found).collect::<Vec<_>>());
    assert!(more.is_empty() || more == *next, "{what}: half of a batch: {more:?} of {next:?}");
    !more.is_empty()
}

/// The log is moved into the file, and the power goes meanwhile. Answers how the disk is afterwards.
fn moved_with_cuts(dir: &Path, before: Disk, acknowledged: &BTreeSet<String>, dice: &mut Dice) -> Disk {
    let mover = rusqlite::Connection::open(dir.join(FILE)).unwrap();
    let (busy, moved): (i64, i64) =
        mover.query_row("pragma wal_checkpoint(passive)", [], |row| Ok((row.get(0)?, row.get(2)?))).unwrap();
    assert!(busy == 0 && moved > 0, "busy {busy}, {moved} pages moved");
    // Closed while another connection is open, it leaves the log where it is.
    drop(mover);
    let after = Disk::read(dir);
    assert!(before.file != after.file && before.log == after.log, "moving writes the file and only that");
    for cut in 0..CUTS_EACH * 3 {
        let file = torn(&before.file, &after.file, dice);
        check(&Disk { file, log: after.log.clone() }, acknowledged, &BTreeSet::new(), &format!("file, cut {cut}"));
    }
    after
}

#[test]
fn what_was_acknowledged_outlives_any_torn_write() {
    let dir = tempfile::tempdir().unwrap();
    let first = FirstMember {
        account: AccountId::from(uuid::Uuid::from_u128(1)),
        member: uuid::Uuid::from_u128(1).into(),
        token: uuid::Uuid::from_u128(1).into(),
        token_hash: Sha256Digest::of(b"token"),
        token_expires_at: NOW,
    };
    create(dir.path(), "EUR", &first, NOW).unwrap();
    let mut db = Sqlite::open(dir.path()).unwrap();
    let mut acknowledged: BTreeSet<String> = db.load().unwrap().accounts.values().map(|a| a.name.clone()).collect();
    let mut dice = Dice(7);
    let (mut cuts, mut whole) = (0, 0);
    let mut before = Disk::read(dir.path());
    for number in 1..=COMMITS {
        let changes = batch(number, &mut dice);
        let next: BTreeSet<String> = changes
            .iter()
            .map(|change| match change {
                Change::Account(account) => account.name.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        db.commit(Timestamp(NOW.0 + number as i64), &changes.iter().collect::<Vec<_>>()).unwrap();
        let after = Disk::read(dir.path());
        // The first commit after a move begins the log from its front again.
        if number % CUT_EVERY == 0 || number % MOVED_EVERY == 1 {
            for cut in 0..CUTS_EACH {
                let log = torn(&before.log, &after.log, &mut dice);
                let disk = Disk { file: before.file.clone(), log };
                whole += u32::from(check(&disk, &acknowledged, &next, &format!("commit {number}, log, cut {cut}")));
                cuts += 1;
            }
        }
        acknowledged.extend(next);
        // The moment after an acknowledgement needs nothing more to be written.
        if number % CUT_EVERY == 0 {
            check(&after, &acknowledged, &BTreeSet::new(), &format!("after commit {number}"));
        }
        before = after;
        if number % MOVED_EVERY == 0 {
            before = moved_with_cuts(dir.path(), before, &acknowledged, &mut dice);
            cuts += CUTS_EACH as u32 * 3;
        }
    }
    eprintln!("{cuts} cuts, {whole} of them left the batch whole");
    assert!(whole > 0 && whole < cuts, "a cut must be possible on either side of a commit");
    // Damage does not go unseen: without the log, what was acknowledged is not all there.
    let lost = Disk { log: vec![0; before.log.len()], ..before };
    let cut = tempfile::tempdir().unwrap();
    lost.write(cut.path());
    assert!(names(cut.path()) != acknowledged, "the judge can't tell");
}
