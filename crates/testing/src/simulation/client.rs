//! Clients: they rent, lengthen and give back, repeat what was not answered, and remember every
//! answer they were given.

use super::check::{Checked, ensure};
use super::random::Random;
use super::time::{At, MILLISECOND, SECOND};
use std::collections::{BTreeMap, BTreeSet};
use sublet_market::engine::command::{Actor, Command, Idempotency, Outcome, Refusal, Rent};
use sublet_market::engine::state::Tables;
use sublet_market::engine::step::Request;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::LeaseId;
use sublet_model::requirements::Requirements;
use sublet_model::units::{MiB, Millicores, Seconds};
use sublet_wire::problem::Kind;

const SSH_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDTestTestTestTestTestTestTestTestTestTest someone";
/// The most leases that one client has at a time.
const MOST: usize = 4;

/// What a client asks for.
#[derive(Debug, Clone)]
enum What {
    Rent { requirements: Box<Requirements>, count: u128, one_shot: bool, wait: Option<Seconds> },
    Release(LeaseId),
    Extend(LeaseId, Seconds),
}

/// A request under its key.
#[derive(Debug, Clone)]
struct Asked {
    key: String,
    what: What,
}

/// An attempt.
#[derive(Debug, Clone)]
struct Sent {
    asked: Asked,
    /// Whether the key is used for another request than its own.
    misuse: bool,
    /// Whether its key had been answered before.
    known: bool,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    number: usize,
    actor: Actor,
    random: Random,
    pending: Option<Asked>,
    last: Option<Asked>,
    asked: u64,
    attempts: u64,
    sent: BTreeMap<u64, Sent>,
    answers: BTreeMap<String, Outcome>,
    /// Leases that it knows it has.
    pub own: BTreeSet<LeaseId>,
    granted: BTreeSet<LeaseId>,
    released: BTreeSet<LeaseId>,
    extended: BTreeMap<LeaseId, i64>,
    /// By how much each was to be lengthened in all, answered or not.
    wanted: BTreeMap<LeaseId, i64>,
    /// How many misuses of a key were refused, as they must be.
    pub misuses: u64,
}

/// A request on its way, and the leases it would make.
pub struct Sending {
    /// Which attempt.
    pub attempt: u64,
    /// What is asked.
    pub request: Request,
    /// Under which key.
    pub key: String,
    /// The ids that it brings along.
    pub ids: Vec<LeaseId>,
    /// The lease that it is about.
    pub about: Option<LeaseId>,
}

impl Client {
    /// A client that acts for this account.
    pub fn new(number: usize, actor: Actor, random: Random) -> Self {
        Self {
            number,
            actor,
            random,
            pending: None,
            last: None,
            asked: 0,
            attempts: 0,
            sent: BTreeMap::new(),
            answers: BTreeMap::new(),
            own: BTreeSet::new(),
            granted: BTreeSet::new(),
            released: BTreeSet::new(),
            extended: BTreeMap::new(),
            wanted: BTreeMap::new(),
            misuses: 0,
        }
    }

    /// Whether it waits for an answer.
    pub fn waits(&self) -> bool {
        self.pending.is_some()
    }

    /// What it does now, and when it acts again.
    pub fn act(&mut self, now: At, may_rent: bool) -> (Option<Sending>, At) {
        if self.pending.is_none() {
            self.pending = self.wish(may_rent);
        }
        if let Some(asked) = self.pending.clone() {
            return (Some(self.send(&asked, false)), now + self.random.between(SECOND, 6 * SECOND));
        }
        let again = now + self.random.between(500 * MILLISECOND, 8 * SECOND);
        // Now and then what was answered is asked once more; or its key is used for something else.
        let repeat = self.last.clone().filter(|_| may_rent && self.random.chance(150));
        let misuse = self.random.chance(300);
        (repeat.map(|asked| self.send(&asked, misuse)), again)
    }

    fn wish(&mut self, may_rent: bool) -> Option<Asked> {
        let own: Vec<LeaseId> = self.own.iter().copied().collect();
        let some = self.random.pick(&own).copied();
        let what = match (self.random.below(10), some) {
            (0..=4, _) if may_rent && own.len() < MOST => self.rent(),
            (5..=6, Some(lease)) => What::Release(lease),
            // Each by another amount: so what was lengthened twice would show.
            (7, Some(lease)) if may_rent => What::Extend(lease, Seconds(20 + self.asked as i64 % 97)),
            _ => return None,
        };
        if let What::Extend(lease, by) = what {
            *self.wanted.entry(lease).or_default() += by.0;
        }
        self.asked += 1;
        Some(Asked { key: format!("client-{}-{}", self.number, self.asked), what })
    }

    fn rent(&mut self) -> What {
        let random = &mut self.random;
        let requirements = Requirements {
            cpu: Some(Millicores(random.between(2, 16) * 100).into()),
            memory: Some(MiB(random.between(1, 8) * 128).into()),
            term_seconds: Some(Seconds(random.between(20, 130))),
            ..Requirements::default()
        };
        let count = if random.chance(80) { 2 } else { 1 };
        let wait = random.chance(250).then(|| Seconds(random.between(5, 60)));
        What::Rent { requirements: Box::new(requirements), count, one_shot: random.chance(250), wait }
    }

    fn send(&mut self, asked: &Asked, misuse: bool) -> Sending {
        self.attempts += 1;
        let attempt = self.attempts;
        let misuse = misuse && self.answers.contains_key(&asked.key);
        let known = self.answers.contains_key(&asked.key);
        self.sent.insert(attempt, Sent { asked: asked.clone(), misuse, known });
        let base = u128::from(self.random.next()) << 64 | u128::from(self.random.next()) & !0xff;
        let (command, ids, about) = match &asked.what {
            What::Rent { requirements, count, one_shot, wait } => {
                // New ids with each attempt, as the market's door makes them.
                let ids: Vec<LeaseId> = (0..*count).map(|k| LeaseId::from(uuid::Uuid::from_u128(base | k))).collect();
                let rent = Rent {
                    actor: self.actor.clone(),
                    ids: ids.clone(),
                    name: None,
                    requirements: (**requirements).clone(),
                    ssh_public_key: SSH_KEY.into(),
                    one_shot: *one_shot,
                    release_after_disconnect: Seconds(15),
                    wait: *wait,
                    outage_allowance: Seconds::ZERO,
                };
                (Command::Rent(Box::new(rent)), ids, None)
            }
            What::Release(lease) => {
                (Command::Release { actor: self.actor.clone(), lease: *lease }, vec![], Some(*lease))
            }
            What::Extend(lease, by) => {
                (Command::Extend { actor: self.actor.clone(), lease: *lease, by: *by }, vec![], Some(*lease))
            }
        };
        let body = Sha256Digest::of(format!("{:?}{misuse}", asked.what).as_bytes());
        let once = Idempotency { member: self.actor.member, key: asked.key.clone(), body };
        let request = Request { command, idempotency: Some(once) };
        Sending { attempt, request, key: asked.key.clone(), ids, about }
    }

    /// An answer came. What is said twice must be the same (I10).
    pub fn hear(&mut self, attempt: u64, answer: Result<Outcome, Refusal>) -> Checked {
        let Some(Sent { asked, misuse, known }) = self.sent.get(&attempt).cloned() else { return Ok(()) };
        let waits = self.pending.as_ref().is_some_and(|pending| pending.key == asked.key);
        let outcome = match answer {
            Ok(outcome) => outcome,
            Err(refusal) => {
                let again = matches!(refusal.kind, Kind::Unavailable | Kind::Busy);
                if misuse {
                    self.misuses += u64::from(refusal.kind == Kind::IdempotencyMismatch);
                    return ensure(again || refusal.kind == Kind::IdempotencyMismatch, || {
                        format!("I10: a misuse of key {} is refused with {:?}", asked.key, refusal.kind)
                    });
                }
                let answered = self.answers.get(&asked.key);
                // One that was sent before may have been decided before, and be late.
                ensure(again || !known, || {
                    format!("I10: key {} was answered with {answered:?}, and now with {refusal:?}", asked.key)
                })?;
                if waits && !again {
                    self.pending = None;
                    // Whoever it was about is gone or not to be had.
                    if let What::Release(lease) | What::Extend(lease, _) = asked.what {
                        self.own.remove(&lease);
                    }
                }
                return Ok(());
            }
        };
        ensure(!misuse, || format!("I10: another request under key {} was answered with {outcome:?}", asked.key))?;
        if waits {
            self.pending = None;
            self.last = Some(asked.clone());
        }
        if let Some(before) = self.answers.get(&asked.key) {
            return ensure(*before == outcome, || {
                format!("I10: key {} was answered with {before:?}, and now with {outcome:?}", asked.key)
            });
        }
        self.note(&asked, &outcome);
        self.answers.insert(asked.key, outcome);
        Ok(())
    }

    /// Remembers what was acknowledged.
    fn note(&mut self, asked: &Asked, outcome: &Outcome) {
        match (&asked.what, outcome) {
            (What::Rent { .. }, Outcome::Granted { lease, others, .. }) => {
                for lease in others.iter().chain([lease]) {
                    self.granted.insert(*lease);
                    self.own.insert(*lease);
                }
            }
            (What::Release(lease), _) => {
                self.released.insert(*lease);
                self.own.remove(lease);
            }
            (What::Extend(lease, by), _) => *self.extended.entry(*lease).or_default() += by.0,
            _ => {}
        }
    }

    /// I6: everything that was acknowledged is in the rows.
    pub fn remembered(&self, tables: &Tables, granted_for: impl Fn(LeaseId) -> Option<Seconds>) -> Checked {
        for lease in &self.granted {
            let row = tables.leases.get(lease);
            ensure(row.is_some(), || format!("I6: lease {lease} was acknowledged, and is not there"))?;
            let term = row.map_or(0, |row| row.term_seconds.0);
            let at_least =
                granted_for(*lease).map_or(0, |term| term.0) + self.extended.get(lease).copied().unwrap_or(0);
            ensure(term >= at_least, || format!("I6: lease {lease} was lengthened to {at_least} s, and has {term}"))?;
            let at_most = granted_for(*lease).map_or(0, |term| term.0) + self.wanted.get(lease).copied().unwrap_or(0);
            ensure(term <= at_most, || {
                format!("I10: lease {lease} has {term} s, but {at_most} were asked for in all")
            })?;
        }
        for lease in &self.released {
            let wanted = tables.leases.get(lease).is_none_or(|row| row.state.is_wanted());
            ensure(!wanted, || format!("I6: lease {lease} was given back, and goes on"))?;
        }
        Ok(())
    }
}
