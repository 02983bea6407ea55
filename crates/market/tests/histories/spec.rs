//! What a partition may do, one thing after the other; and whether what was seen of it at the same
//! time can have been that.
//!
//! ```text
//! Idle(g) -- rent: lease, generation g+1 --> Runs(lease) -- release --> Ends(lease) -- the host says gone --> Idle(g+1)
//!                                 look: runs, ends, or anything else: over
//! ```

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use sublet_model::ids::{LeaseId, PartitionId};

/// A partition, as one who looks at it alone would see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    generation: u64,
    holder: Option<LeaseId>,
    released: bool,
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds its partition.
    Runs,
    /// It was given back, and holds it still.
    Ends,
    /// It holds nothing.
    Over,
}

/// What somebody does to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A client rents it.
    Rent(LeaseId),
    /// Its client gives it back.
    Release(LeaseId),
    /// Its host says that this generation is gone and wiped.
    Gone(u64),
    /// Somebody looks at a lease.
    Look(LeaseId),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The lease is granted, at this generation.
    Granted(u64),
    /// The market has heard it.
    Heard,
    /// It ends.
    Released,
    /// How the lease stands.
    Seen(Standing),
}

impl SequentialSpec for Partition {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        match *op {
            Op::Rent(lease) => {
                (self.generation, self.released) = (self.generation + 1, false);
                self.holder = Some(lease);
                Ret::Granted(self.generation)
            }
            Op::Gone(_) => {
                self.holder = None;
                Ret::Heard
            }
            Op::Release(lease) => {
                self.released |= self.holder == Some(lease);
                Ret::Released
            }
            Op::Look(lease) if self.holder != Some(lease) => Ret::Seen(Standing::Over),
            Op::Look(_) => Ret::Seen(if self.released { Standing::Ends } else { Standing::Runs }),
        }
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        let possible = match *op {
            Op::Rent(_) => self.holder.is_none(),
            Op::Gone(generation) => self.holder.is_some() && self.generation == generation,
            Op::Look(_) | Op::Release(_) => true,
        };
        possible && self.invoke(op) == *ret
    }
}

/// One end of something that was done: its number in the order of all, by whom, and what.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Rises through the whole run.
    pub at: u64,
    /// Which client or host; each does one thing at a time.
    pub by: u32,
    /// What began, or what came of it.
    pub what: What,
}

/// A beginning or an end.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// It was asked for.
    Began(Op),
    /// It was answered.
    Came(Ret),
}

/// The partitions whose history can't have been, each with what was seen of it; and how many were not
/// judged in time. Of what was possible an order is found at once; to rule out all orders of what was not
/// can take longer than anybody waits.
pub fn impossible(
    histories: &BTreeMap<PartitionId, Vec<Event>>,
    within: Duration,
) -> (Vec<(PartitionId, String)>, usize) {
    let (say, said) = mpsc::channel();
    for (partition, events) in histories.clone() {
        let say = say.clone();
        // Nobody waits for one that takes too long: it ends with the test.
        std::thread::spawn(move || say.send((partition, judge(&events))));
    }
    let (until, mut wrong, mut open) = (Instant::now() + within, Vec::new(), histories.len());
    while open > 0 {
        let Ok((partition, verdict)) = said.recv_timeout(until.saturating_duration_since(Instant::now())) else {
            break;
        };
        open -= 1;
        wrong.extend(verdict.err().map(|why| (partition, why)));
    }
    (wrong, open)
}

fn judge(events: &[Event]) -> Result<(), String> {
    let mut ordered = events.to_vec();
    ordered.sort_by_key(|event| event.at);
    let mut tester = LinearizabilityTester::new(Partition::default());
    // Who does it does not matter to a partition, only what overlaps: the tester is told of as few
    // doers as do something at the same time, for it looks at each of them at every step.
    let mut lanes: Vec<Option<u32>> = Vec::new();
    for event in &ordered {
        match event.what {
            What::Began(op) => {
                let lane = lanes.iter().position(Option::is_none).unwrap_or(lanes.len());
                lanes.resize(lanes.len().max(lane + 1), None);
                lanes[lane] = Some(event.by);
                tester.on_invoke(lane, op).map(drop)?;
            }
            What::Came(ret) => {
                let lane = lanes.iter().position(|by| *by == Some(event.by)).ok_or("an answer to nothing")?;
                lanes[lane] = None;
                tester.on_return(lane, ret).map(drop)?;
            }
        }
    }
    if tester.is_consistent() { Ok(()) } else { Err(shown(&ordered)) }
}

/// One line for each thing that was done: when it began and when it was answered.
fn shown(ordered: &[Event]) -> String {
    let mut lines = Vec::new();
    for (at, event) in ordered.iter().enumerate() {
        let What::Began(op) = event.what else { continue };
        let end = ordered[at..].iter().find(|e| e.by == event.by && matches!(e.what, What::Came(_)));
        let end = end.map(|e| format!("..{} {:?}", e.at, e.what)).unwrap_or_default();
        lines.push(format!("{:>8} {:>5}{end} {op:?}", event.by, event.at));
    }
    lines.join("\n")
}

#[test]
fn the_judge_can_tell() {
    let (a, b): (LeaseId, LeaseId) = (sublet_wire::new_id(), sublet_wire::new_id());
    let history = |events: &[(u32, What)]| -> Vec<Event> {
        (0..).zip(events).map(|(at, (by, what))| Event { at, by: *by, what: *what }).collect()
    };
    use What::{Began, Came};
    let rent = |by, lease, generation| [(by, Began(Op::Rent(lease))), (by, Came(Ret::Granted(generation)))];
    let gone = |generation| [(9, Began(Op::Gone(generation))), (9, Came(Ret::Heard))];
    let look = |by, lease, seen| [(by, Began(Op::Look(lease))), (by, Came(Ret::Seen(seen)))];
    let release = |by, lease| [(by, Began(Op::Release(lease))), (by, Came(Ret::Released))];
    use Standing::{Ends, Over, Runs};
    let good =
        [rent(1, a, 1), look(2, a, Runs), release(1, a), look(2, a, Ends), gone(1), look(2, a, Over), rent(2, b, 2)]
            .concat();
    assert_eq!(judge(&history(&good)), Ok(()));
    // A rent that began before the host spoke may have come after it.
    let across = [(2, Began(Op::Rent(b)))];
    let overlapping = [&rent(1, a, 1)[..], &across, &gone(1), &[(2, Came(Ret::Granted(2)))]].concat();
    assert_eq!(judge(&history(&overlapping)), Ok(()));
    for bad in [
        [rent(1, a, 1), rent(2, b, 2)].concat(),
        [rent(1, a, 1), gone(1), rent(2, b, 1)].concat(),
        [rent(1, a, 1), look(2, a, Over)].concat(),
        [rent(1, a, 1), release(1, a), look(2, a, Runs)].concat(),
        [rent(1, a, 1), release(1, a), rent(2, b, 2)].concat(),
        [rent(1, a, 1), gone(1), look(2, a, Runs)].concat(),
        gone(1).to_vec(),
    ] {
        assert!(judge(&history(&bad)).is_err(), "{bad:?}");
    }
}
