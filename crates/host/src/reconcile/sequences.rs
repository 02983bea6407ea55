//! Random sequences over random hosts: a market that alters partitions by the model's rule, a host
//! that follows by `reconcile` with its real store, plans that arrive late, agents that are killed
//! between any two steps, owners who change what they keep. What must always hold is looked at
//! after every step.
//!
//! `SUBLET_SEQUENCES=10000` runs so many, `SUBLET_SEQUENCE=7` that one alone.

use super::*;
use crate::agent::Shared;
use crate::agent::hands;
use crate::fixtures::*;
use crate::meter::Now;
use crate::store::{self, Stage, Store};
use crate::vmm::SimulatedVmm;
use sublet_model::partition::alter::{self, Slot, resources};
use uuid::Uuid;

/// How many there are unless told otherwise.
const SEQUENCES: u64 = 500;
/// So many things happen in each.
const EVENTS: u64 = 30;
/// Within so many rounds everything is at rest once nothing happens any more.
const ROUNDS: usize = 8;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// From `least` to `most`, both included.
    fn within(&mut self, least: i64, most: i64) -> i64 {
        least + self.below((most - least).max(0).unsigned_abs() + 1) as i64
    }

    fn between(&mut self, least: Resources, most: Resources) -> Resources {
        resources(
            self.within(least.cpu.0, most.cpu.0),
            self.within(least.memory.0, most.memory.0),
            self.within(least.disk.0, most.disk.0),
        )
    }
}

/// Where a partition stands in the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Idle,
    Leased,
    Stopping,
}

/// A partition as the market has it.
#[derive(Debug, Clone)]
struct Row {
    n: u128,
    profile: Profile,
    has: Allocation,
    stands: Stands,
    gone: Option<u64>,
}

impl Row {
    fn wanted(&self) -> Wanted {
        let run = (self.stands == Stands::Leased).then(|| wanted_run(self.n, &self.has));
        Wanted { partition: partition(self.n), allocation: self.has, run, gone: self.gone }
    }

    fn slot(&self) -> Slot {
        let held = self.stands != Stands::Idle;
        Slot { id: partition(self.n), profile: self.profile, has: self.has.resources, held }
    }
}

/// One host and its market.
struct World {
    random: Random,
    rows: Vec<Row>,
    /// What the market believes is lent, and what the owner lends.
    believed: Resources,
    policy: Policy,
    /// The most and the least that the owner may lend.
    most: Resources,
    least: Resources,
    plans: Vec<Vec<Wanted>>,
    store: Store,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let count = random.within(1, 6);
        let rows: Vec<Row> = (1..=count as u128)
            .map(|n| {
                let min = random.between(resources(100, 64, 0), resources(500, 512, 4));
                let desired = min + random.between(Resources::ZERO, resources(1500, 1024, 20));
                let max = desired + random.between(Resources::ZERO, resources(3000, 2048, 40));
                let has = Allocation { generation: 0, revision: 0, resources: min, vcpus: Allocation::vcpus_for(min) };
                Row { n, profile: Profile { min, desired, max }, has, stands: Stands::Idle, gone: None }
            })
            .collect();
        let least: Resources = rows.iter().map(|row| row.profile.min).sum();
        let most = least + random.between(Resources::ZERO, resources(6000, 6000, 60));
        let local = |row: &Row| Local { profile: row.profile, lendable: true, taken_back: None };
        let partitions = rows.iter().map(|row| (partition(row.n), local(row))).collect();
        let policy = Policy { threads: 64, lendable: most, partitions, ..policy() };
        let store = Store::in_memory().unwrap();
        let mut world = Self { random, rows, believed: most, policy, most, least, plans: Vec::new(), store };
        world.settle();
        world
    }

    fn slots(&self) -> Vec<Slot> {
        self.rows.iter().map(Row::slot).collect()
    }

    fn row(&mut self, id: PartitionId) -> &mut Row {
        self.rows.iter_mut().find(|row| partition(row.n) == id).unwrap()
    }

    /// The next revision of idle partitions.
    fn revise(&mut self, changes: &[alter::Change]) {
        for change in changes {
            let row = self.row(change.id);
            assert_eq!(row.stands, Stands::Idle, "{row:?} is held and to become {}", change.to);
            assert!(row.profile.min.fits(change.to) && change.to.fits(row.profile.max), "{row:?}: {}", change.to);
            let vcpus = Allocation::vcpus_for(change.to);
            row.has = Allocation { revision: row.has.revision + 1, resources: change.to, vcpus, ..row.has };
        }
    }

    fn settle(&mut self) {
        self.revise(&alter::settle(self.believed, &self.slots()));
        let sum: Resources = self.slots().iter().map(|slot| slot.has).sum();
        let over = (sum - self.believed).max(Resources::ZERO);
        let slack = |row: &Row| (row.has.resources - row.profile.min).min(over);
        // The owner lends less than is held: then idle ones have given back what they could.
        let idle = self.rows.iter().filter(|row| row.stands == Stands::Idle);
        assert!(idle.into_iter().all(|row| slack(row) == Resources::ZERO), "{over} too much: {:#?}", self.rows);
        self.plan_again();
    }

    fn plan_again(&mut self) {
        self.plans.push(self.rows.iter().map(Row::wanted).collect());
    }

    /// Somebody rents, or the owner alters: the same rule.
    fn alter(&mut self, rents: bool) {
        let at = self.random.below(self.rows.len() as u64) as usize;
        let Row { n, profile, .. } = self.rows[at];
        let low = if rents { Profile::SMALLEST } else { profile.min };
        let wanted = self.random.between(low, profile.max + if rents { Profile::SMALLEST } else { Resources::ZERO });
        let (slots, id) = (self.slots(), partition(n));
        let reach = alter::reach(self.believed, &slots, id);
        let planned = alter::plan(self.believed, &slots, id, wanted);
        let fits = reach.is_some_and(|reach| wanted.max(profile.min).fits(reach));
        assert_eq!(planned.is_some(), fits, "{wanted} of {reach:?}");
        let Some(mut changes) = planned else { return };
        let chosen = changes.pop().unwrap();
        assert_eq!((chosen.id, chosen.to), (id, wanted.max(profile.min)));
        self.revise(&changes);
        if rents {
            let row = self.row(id);
            let vcpus = Allocation::vcpus_for(chosen.to);
            row.has = Allocation { generation: row.has.generation + 1, revision: 0, resources: chosen.to, vcpus };
            row.stands = Stands::Leased;
        } else {
            self.revise(&[chosen]);
        }
        let sum: Resources = self.slots().iter().map(|slot| slot.has).sum();
        assert!(sum.fits(self.believed), "{sum} of {}", self.believed);
        self.plan_again();
    }

    fn release(&mut self) {
        let at = self.random.below(self.rows.len() as u64) as usize;
        if self.rows[at].stands == Stands::Leased {
            self.rows[at].stands = Stands::Stopping;
            self.plan_again();
        }
    }

    /// The owner keeps more or less: the host knows at once.
    fn keep(&mut self) {
        self.policy.lendable = self.random.between(self.least, self.most);
    }

    fn seen(&self) -> Vec<Seen> {
        Shared::<SimulatedVmm>::seen(&self.store).unwrap()
    }

    fn lives(&self) -> Vec<store::Run> {
        self.store.live_runs().unwrap()
    }

    /// The host follows a plan; after so many steps its agent is killed.
    fn follow(&mut self, plan: &[Wanted], killed_after: usize) {
        let steps = reconcile(plan, &self.seen(), &self.policy);
        for step in steps.iter().take(killed_after) {
            self.check_step(step, &steps);
            hands::take(&self.store, step, "boot", &Now { mono_us: 1, boot_us: 1 }, Uuid::nil()).unwrap();
            self.check_lives();
        }
    }

    fn check_step(&self, step: &Step, all: &[Step]) {
        let applied = self.store.applied().unwrap();
        match step {
            Step::Begin { partition, generation, .. } => {
                assert_eq!(applied[partition].generation, *generation);
                let sum: Resources = applied.values().map(|a| a.resources).sum();
                assert!(sum.fits(self.policy.lendable), "{sum} of {} before {partition} begins", self.policy.lendable);
            }
            Step::Apply { partition, allocation } => {
                assert!(!self.lives().iter().any(|run| run.partition == *partition), "{partition} is held");
                let had = applied.get(partition).map_or(Resources::ZERO, |a| a.resources);
                let grows = !allocation.resources.fits(had);
                let later = all.iter().skip_while(|s| *s != step).skip(1);
                let shrinks_later = |s: &Step| match s {
                    Step::Apply { partition, allocation } => {
                        applied.get(partition).is_some_and(|a| allocation.resources.fits(a.resources))
                    }
                    _ => false,
                };
                assert!(!grows || !later.into_iter().any(shrinks_later), "one grows before another shrinks: {all:?}");
            }
            _ => {}
        }
    }

    /// What runs has exactly what its signed terms say, and never anything else.
    fn check_lives(&self) {
        let applied = self.store.applied().unwrap();
        for run in self.lives() {
            let terms = run.wanted.terms.verify(&market().public()).unwrap();
            let has = applied[&run.partition];
            assert_eq!((has.generation, has.resources, has.vcpus), (run.generation, terms.resources, terms.vcpus));
            let frozen = Allocation { revision: has.revision + 1, ..has };
            assert!(self.store.apply(run.partition, &frozen).unwrap_err().is_refusal());
        }
    }

    /// Machines end: those that were told to, and sometimes one by itself.
    fn machines(&mut self, by_itself: bool) {
        for run in self.lives() {
            if run.stage != Stage::Stopping && by_itself && self.random.below(4) == 0 {
                self.store.stopping(&run, Some(EndReason::GuestCrashed), None, Seconds(0)).unwrap();
            }
        }
        for run in self.lives() {
            if run.stage == Stage::Stopping {
                self.store.ended(&run).unwrap();
            }
        }
    }

    /// The market hears what is gone and what is lent; idle ones return to what is desired.
    fn report(&mut self) {
        self.believed = self.policy.lendable;
        let gone = self.store.gone().unwrap();
        for row in &mut self.rows {
            let generation = row.has.generation;
            if row.stands != Stands::Idle && gone.get(&partition(row.n)).is_some_and(|g| g.generation == generation) {
                (row.stands, row.gone) = (Stands::Idle, Some(generation));
            }
        }
        self.settle();
    }

    fn event(&mut self) {
        let held: Vec<(u128, Allocation)> =
            self.rows.iter().filter(|row| row.stands != Stands::Idle).map(|row| (row.n, row.has)).collect();
        match self.random.below(12) {
            0..3 => self.alter(true),
            3 => self.alter(false),
            4 | 5 => self.release(),
            6 => self.keep(),
            7 => self.machines(true),
            8 => {
                self.machines(false);
                self.report();
            }
            kind => {
                // The newest plan, or one that was on its way for long; whole, or up to a kill.
                let late = if kind == 11 { self.random.below(4) as usize } else { 0 };
                let plan = self.plans[self.plans.len().saturating_sub(1 + late)].clone();
                let killed_after = if kind == 10 { self.random.below(5) as usize } else { usize::MAX };
                self.follow(&plan, killed_after);
            }
        }
        for (n, has) in held {
            let row = self.rows.iter().find(|row| row.n == n).unwrap();
            assert!(row.stands == Stands::Idle || row.has == has, "{row:?} had {has:?} when it was granted");
        }
    }

    /// The faults end: every lease is released, and all return to what is desired of them.
    fn come_to_rest(&mut self) {
        self.policy.lendable = self.most;
        self.rows.iter_mut().filter(|row| row.stands == Stands::Leased).for_each(|row| row.stands = Stands::Stopping);
        self.plan_again();
        for _ in 0..ROUNDS {
            let plan = self.plans.last().unwrap().clone();
            self.follow(&plan, usize::MAX);
            self.machines(false);
            self.report();
        }
        let idle: Vec<Slot> = self.slots();
        assert!(idle.iter().all(|slot| !slot.held), "something is held for ever: {:#?}", self.rows);
        let applied = self.store.applied().unwrap();
        for row in &self.rows {
            assert_eq!(applied[&partition(row.n)], row.has, "the host has what the market says");
        }
        let desired: Resources = self.rows.iter().map(|row| row.profile.desired).sum();
        if desired.fits(self.most) {
            assert!(self.rows.iter().all(|row| row.has.resources == row.profile.desired), "{:#?}", self.rows);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn whatever_happens_allocations_hold_and_return() {
    let seeds = match number("SUBLET_SEQUENCE") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SUBLET_SEQUENCES").unwrap_or(SEQUENCES),
    };
    for seed in seeds {
        let run = || {
            let mut world = World::new(seed);
            (0..EVENTS).for_each(|_| world.event());
            world.come_to_rest();
        };
        if let Err(fault) = std::panic::catch_unwind(run) {
            eprintln!("it was SUBLET_SEQUENCE={seed}");
            std::panic::resume_unwind(fault);
        }
    }
}
