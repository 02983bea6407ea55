//! Requests that nothing fits yet, in the order in which they came first.
//!
//! ```text
//!             nothing fits                      something fits
//!  (request) -------------> Held, asked for ---------------------> granted, under its key
//!                            |  ^         |
//!           the client goes  |  | asks    | its time is over
//!                            v  | again   v
//!                           Away          refused: nothing fits
//!                            | a minute
//!                            v
//!                        forgotten
//! ```
//!
//! The order is fair in this sense: before anybody is granted something on a host, each request
//! that came earlier and is asked for now is tried if anything on that host fits it. So a later
//! one passes an earlier one only with what the earlier one can't use. Several partitions at once
//! are all or none: what does not suffice for all of them is not kept back for them.
//!
//! In memory only: after a restart of the market clients ask again, and stand in the order in which
//! they do. Nobody is granted twice: a request that was granted has its row under its key.

use super::command::{Idempotency, Refusal, Rent, Stands};
use super::listing;
use super::state::State;
use std::collections::{BTreeSet, HashMap};
use sublet_model::book;
use sublet_model::ids::{AccountId, HostId};
use sublet_model::requirements::Resolved;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::problem::Kind;

mod offered;

/// How long the caller holds a request before it answers that it still stands.
pub const HOLD: Seconds = Seconds(30);
/// How long after that the client has to ask again, before others go first.
const LATE: Seconds = Seconds(5);
/// How long one whose client does not ask keeps its place.
const KEPT: Seconds = Seconds(60);
/// The most that stand at once.
const MOST: usize = 512;
/// The most of one account.
const MOST_OF_ONE: usize = 32;
/// The longest that one may stand.
pub const LONGEST: Seconds = Seconds(86_400);
/// How often all are tried for what opens by the clock alone, such as a weekly window.
const ALL_EVERY: Seconds = Seconds(10);

/// One request.
#[derive(Debug)]
pub(super) struct Entry {
    /// What is wanted, as it was asked first.
    pub rent: Rent,
    /// Under which key it is granted.
    pub once: Idempotency,
    needs: Resolved,
    since: Timestamp,
    until: Timestamp,
    /// Until when somebody waits for the answer.
    held_until: Timestamp,
    /// How often it was asked for: who goes away while somebody else asks changes nothing.
    turn: u64,
    /// Why nothing fitted when it was last tried.
    refusal: Refusal,
    /// Granted in a batch that is not committed yet.
    in_flight: bool,
}

/// All that stand.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Oldest first: the number rises with every arrival.
    entries: std::collections::BTreeMap<u64, Entry>,
    places: HashMap<(sublet_model::ids::MemberId, String), u64>,
    next: u64,
    /// Where something may have come free since all were tried.
    freed: BTreeSet<HostId>,
    /// Whether something changed that no one host stands for.
    all: bool,
    tried_all_at: Timestamp,
}

/// What a request that was asked for is told.
pub(super) enum Asked {
    /// It does not stand.
    Unknown,
    /// It stands, and is tried again.
    Stands(u64),
    /// Its time is over, or it is not the same request.
    Refused(Refusal),
}

impl Standing {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entry(&self, place: u64) -> Option<&Entry> {
        self.entries.get(&place)
    }

    fn place(&self, once: &Idempotency) -> Option<u64> {
        self.places.get(&(once.member, once.key.clone())).copied()
    }

    /// Somebody asks for a request, and waits for its answer.
    pub fn ask(&mut self, once: &Idempotency, now: Timestamp) -> Asked {
        let Some(place) = self.place(once) else { return Asked::Unknown };
        let Some(entry) = self.entries.get_mut(&place) else { return Asked::Unknown };
        if entry.once.body != once.body {
            let mismatch = Refusal::new(Kind::IdempotencyMismatch, "this idempotency key was used for another request");
            return Asked::Refused(mismatch.advise("use a new key for a new request"));
        }
        if now >= entry.until {
            let refusal = entry.refusal.clone();
            self.remove(place);
            return Asked::Refused(refusal);
        }
        entry.held_until = now.after(HOLD + LATE);
        entry.turn += 1;
        Asked::Stands(place)
    }

    /// The client of a request has gone. It may come back.
    pub fn away(&mut self, once: &Idempotency, turn: u64, now: Timestamp) {
        let entry = self.place(once).and_then(|place| self.entries.get_mut(&place));
        if let Some(entry) = entry.filter(|e| e.once.body == once.body && e.turn == turn) {
            entry.held_until = entry.held_until.min(now);
        }
    }

    /// Lets a request stand that nothing fitted.
    pub fn enter(&mut self, rent: &Rent, once: &Idempotency, refusal: Refusal, now: Timestamp) -> Result<u64, Refusal> {
        let Some(wait) = rent.wait.filter(|_| refusal.kind == Kind::NoMatch) else { return Err(refusal) };
        let Ok((needs, _)) = rent.requirements.resolve() else { return Err(refusal) };
        let own = self.entries.values().filter(|e| e.rent.actor.account == rent.actor.account).count();
        if self.entries.len() >= MOST || own >= MOST_OF_ONE {
            let whose = if own >= MOST_OF_ONE { "of your account " } else { "" };
            return Err(Refusal::new(Kind::Busy, format!("too many requests {whose}stand already, and nothing fits"))
                .advise("try again later, or ask for something that fits"));
        }
        self.next += 1;
        let place = self.next;
        self.places.insert((once.member, once.key.clone()), place);
        let until = now.after(wait.min(LONGEST));
        let held_until = now.after(HOLD + LATE);
        let (rent, once) = (rent.clone(), once.clone());
        self.entries.insert(
            place,
            Entry { rent, once, needs, since: now, until, held_until, turn: 1, refusal, in_flight: false },
        );
        Ok(place)
    }

    /// Where a request stands.
    pub fn stands(&self, place: u64) -> Option<Stands> {
        let entry = self.entries.get(&place)?;
        Some(Stands {
            lease: *entry.rent.ids.first()?,
            turn: entry.turn,
            ahead: self.entries.range(..place).count(),
            since: entry.since,
            until: entry.until,
        })
    }

    /// The ones that are asked for now, oldest first, up to but without `before`.
    pub fn waiting(&self, before: u64, now: Timestamp) -> Vec<u64> {
        let asked = |e: &Entry| !e.in_flight && now < e.held_until && now < e.until;
        self.entries.range(..before).filter(|(_, e)| asked(e)).map(|(place, _)| *place).collect()
    }

    /// Whether anything on one of these hosts fits a request.
    pub fn fits_on(&self, place: u64, state: &State, hosts: &BTreeSet<HostId>, now: Timestamp) -> bool {
        let Some(entry) = self.entries.get(&place) else { return false };
        let client: AccountId = entry.rent.actor.account;
        let (_, manifests) = listing::images(state);
        let fits = |l: &book::Listing<'_>| book::admit(l, &entry.needs, client, &manifests, now).is_ok();
        hosts.iter().any(|host| offered::on_host(state, *host, now).iter().any(fits))
    }

    /// It was tried in vain.
    pub fn tried(&mut self, place: u64, refusal: Refusal) {
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.refusal = refusal;
        }
    }

    /// It is granted, in a batch that is to be committed.
    pub fn granted(&mut self, place: u64, in_flight: bool) {
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.in_flight = in_flight;
        }
    }

    /// It is granted for good, or given up.
    pub fn remove(&mut self, place: u64) {
        if let Some(entry) = self.entries.remove(&place) {
            self.places.remove(&(entry.once.member, entry.once.key));
        }
    }

    /// Something may have come free on a host.
    pub fn freed(&mut self, host: HostId) {
        if !self.is_empty() {
            self.freed.insert(host);
        }
    }

    /// Something may fit anywhere that did not before.
    pub fn anything_may_fit(&mut self) {
        self.all = !self.is_empty();
    }

    /// Time passes: forgets those whose clients don't ask any more.
    pub fn tick(&mut self, now: Timestamp) {
        let over = |e: &Entry| !e.in_flight && now >= e.held_until.after(KEPT);
        let over: Vec<u64> = self.entries.iter().filter(|(_, e)| over(e)).map(|(place, _)| *place).collect();
        over.into_iter().for_each(|place| self.remove(place));
        if now.since(self.tried_all_at) >= ALL_EVERY {
            self.anything_may_fit();
        }
    }

    /// Where to look for those that stand: some hosts, or everywhere. None: nowhere.
    pub fn take_freed(&mut self, now: Timestamp) -> Option<Freed> {
        let (hosts, all) = (std::mem::take(&mut self.freed), std::mem::take(&mut self.all));
        if all {
            self.tried_all_at = now;
        }
        match (all, hosts.is_empty(), self.is_empty()) {
            (_, _, true) | (false, true, _) => None,
            (true, ..) => Some(Freed::Everywhere),
            (false, ..) => Some(Freed::On(hosts)),
        }
    }
}

/// Where something may have come free.
#[derive(Debug)]
pub(super) enum Freed {
    On(BTreeSet<HostId>),
    Everywhere,
}
