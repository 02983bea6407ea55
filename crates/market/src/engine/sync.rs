//! A host's sync: everything it sees is taken in, everything wanted is answered.
//!
//! One bad entry never spoils the rest: it is left out, the owner is warned, and it stands in the
//! audit log once. What can't be believed at all is refused as a whole.

use super::change::Change;
use super::command::{Refusal, Reply, certification};
use super::draft::Draft;
use super::plan;
use std::collections::BTreeMap;
use std::sync::Arc;
use sublet_model::host::Inventory;
use sublet_model::identity::Sha256Digest;
use sublet_model::ids::{HostId, LeaseId, PartitionId};
use sublet_model::lease::LeaseEvent;
use sublet_model::partition::Phase;
use sublet_model::units::{Seconds, Timestamp};
use sublet_wire::path::Reach;
use sublet_wire::problem::Kind;
use sublet_wire::sync::{Division, MOST_LIVES, MOST_PARTITIONS, MOST_RECEIPTS, Observed, SyncAnswer, SyncMessage};

mod division;
mod lives;
mod observe;
mod receipts;

pub(crate) use division::reclaim_due;

/// The most different things about one host that are written into the audit log between two
/// starts of the market.
pub(super) const MOST_FLAGS: usize = 256;
/// The highest generation or revision that is believed: the database counts to twice as far.
pub(super) const HIGHEST: u64 = 1 << 62;
/// The longest words on a failure that are kept.
const LONGEST_DETAIL: usize = 500;

/// A sync being taken in.
struct Intake<'d, 's> {
    draft: &'d mut Draft<'s>,
    host: HostId,
    warnings: Vec<String>,
    /// Leases that ended with this sync.
    ended: Vec<LeaseId>,
}

pub(super) fn decide(
    draft: &mut Draft<'_>,
    host: HostId,
    session: u64,
    message: &SyncMessage,
) -> Result<Reply, Refusal> {
    let row = draft.host(host).filter(|h| h.forgotten_at.is_none());
    let row = row.ok_or_else(|| Refusal::new(Kind::SessionRefused, "this market has forgotten the host"))?;
    if row.session != session {
        let detail = format!("session {session} of host {} is over: session {} began after it", row.name, row.session);
        return Err(Refusal::new(Kind::SessionRefused, detail).advise("open a new session"));
    }
    check(message)?;
    let SyncMessage { wall_clock, inventory, dial, division, observed, receipts, .. } = message;
    let SyncMessage { plan_version, lives, catching_up, keys, .. } = message;
    if draft.live(host).is_none() && (inventory.is_none() || division.is_none() || observed.is_none()) {
        let detail = "this market has not heard the host yet, and something was left out";
        return Err(Refusal::new(Kind::SessionRefused, detail).advise("open a new session and say everything"));
    }
    let mut intake = Intake { draft, host, warnings: Vec::new(), ended: Vec::new() };
    intake.heard(session, *wall_clock, *catching_up);
    intake.knows_keys(*keys);
    inventory.iter().for_each(|inventory| intake.measured(inventory));
    // A partition that was given up is still there for the lives that it had.
    let told = intake.lives(lives);
    let division = division.as_ref().filter(|_| !catching_up);
    let division_refused = division.and_then(|division| intake.divide(division).err());
    intake.reached(dial);
    let acknowledged = intake.receipts(receipts);
    if !catching_up {
        // Before all is told, what it sees is of leases that the market may not know yet.
        match observed {
            Some(observed) => {
                intake.observe(observed)?;
                intake.seen(observed);
            }
            None => intake.observe_again(),
        }
        intake.notices();
    }
    intake.settle(&acknowledged);
    let answer = intake.answer(acknowledged, division_refused, *plan_version);
    let keys = (*keys != draft.keys.chain.head()).then(|| draft.keys.chain.records().to_vec());
    Ok(Reply::Sync(Box::new(SyncAnswer { told, keys, ..answer })))
}

/// What no agent of ours says.
fn check(message: &SyncMessage) -> Result<(), Refusal> {
    let observed = message.observed.as_deref().unwrap_or_default();
    let declared = message.division.as_ref().map_or(&[][..], |division| &division.partitions);
    if observed.len() > MOST_PARTITIONS || declared.len() > MOST_PARTITIONS {
        return Err(Refusal::invalid(format!("a host has at most {MOST_PARTITIONS} partitions")));
    }
    if message.receipts.len() > MOST_RECEIPTS {
        return Err(Refusal::invalid(format!(
            "at most {MOST_RECEIPTS} receipts at once: send the rest with the next sync"
        )));
    }
    if message.lives.len() > MOST_LIVES {
        return Err(Refusal::invalid(format!("at most {MOST_LIVES} lives at once: tell the rest with the next sync")));
    }
    message.inventory.iter().try_for_each(Inventory::check).map_err(Refusal::invalid)?;
    let generations = observed.iter().map(|o| o.applied.generation);
    let declared = declared.iter().filter_map(|d| d.taken_back);
    let revision = message.division.as_ref().map(|division: &Division| division.revision);
    if generations.chain(declared).chain(revision).any(|n| n > HIGHEST) {
        return Err(Refusal::invalid(format!(
            "a generation or revision is above {HIGHEST}: nothing was changed so often"
        )));
    }
    if !message.dial.is_empty()
        && let Err(unclear) = message.dial.parse::<Reach>()
    {
        return Err(Refusal::invalid(format!("dial: {unclear}")));
    }
    Ok(())
}

impl Intake<'_, '_> {
    /// The host is there: what was silent speaks again.
    fn heard(&mut self, session: u64, wall_clock: Timestamp, catching_up: bool) {
        let (host, now) = (self.host, self.draft.now);
        let clock_off = wall_clock.since(now);
        self.draft.put(Change::Heard { host, at: now, clock_off });
        let off = clock_off.0.saturating_abs();
        if off > super::live::CLOCK_TOLERANCE.0 {
            let side = if clock_off.0 > 0 { "ahead" } else { "behind" };
            self.warnings.push(format!(
                "this host's clock is {} {side}: nothing new is lent here until it is set (running leases go on)",
                Seconds(off)
            ));
        }
        if self.draft.live(host).is_some_and(|live| live.catching_up != catching_up) {
            self.draft.put(Change::CatchingUp { host, catching_up });
        }
        if self.draft.host(host).is_some_and(|h| h.used_session < session) {
            self.draft.put(Change::HostSessionUsed { host, session });
        }
        if self.draft.host(host).is_some_and(|h| h.suspended) {
            self.warnings.push("this host is suspended: nothing new is lent here".into());
        }
        let held: Vec<LeaseId> = self.draft.held_on(host).map(|lease| lease.id).collect();
        for lease in held {
            self.event(lease, LeaseEvent::Heard);
        }
    }

    /// How far it followed the market's keys. Where it knows more of them than the market, the market was
    /// started with keys that it gave up: no host follows it there.
    fn knows_keys(&mut self, newest: Option<Sha256Digest>) {
        let host = self.host;
        if self.draft.live(host).is_some_and(|live| live.keys != newest) {
            self.draft.put(Change::KeysKnown { host, newest });
        }
        let ours = |digest: Sha256Digest| self.draft.keys.chain.records().iter().any(|r| r.digest() == digest);
        if let Some(strange) = newest.filter(|digest| !ours(*digest)) {
            let warning = format!(
                "this host follows a change of the market's keys ({strange}) that the market does not know: it runs on keys \
                 that it gave up, and nothing new is lent here until its operator puts the newest back"
            );
            self.flag("market.keys.unknown", strange, warning);
        }
    }

    /// Lets something happen to a lease; what makes no sense is a warning.
    fn event(&mut self, lease: LeaseId, event: LeaseEvent) {
        if let Err(refusal) = self.draft.happen(lease, event) {
            self.warnings.push(refusal.detail);
        }
    }

    /// Warns the owner each time, and writes into the audit log once.
    fn flag(&mut self, action: &str, object: impl ToString, warning: String) {
        let (host, object) = (self.host, object.to_string());
        let what = format!("{action} {object}");
        let flagged = self.draft.live(host).map(|l| Arc::clone(&l.flagged)).unwrap_or_default();
        if !flagged.contains(&what) && flagged.len() < MOST_FLAGS {
            self.draft.put(Change::Flagged { host, what });
            self.draft.audit(host, action, object, warning.clone());
        }
        self.warnings.push(warning);
    }

    fn measured(&mut self, inventory: &Inventory) {
        let host = self.host;
        let before = self.draft.host(host).map(|h| Arc::clone(&h.inventory));
        if before.as_deref() == Some(inventory) {
            return;
        }
        let inventory = Arc::new(inventory.clone());
        let resized = before.is_none_or(|b| b.resources() != inventory.resources());
        self.draft.put(Change::HostMeasured { host, inventory });
        if resized {
            // Idle ones make room, or take what is there now; held ones stay as they are.
            super::alter::settle(self.draft, host);
        }
    }

    /// Where clients dial stands with each partition, with the rest of its certification.
    fn reached(&mut self, dial: &str) {
        let host = self.host;
        let Some(row) = self.draft.host(host) else { return };
        let authorities = self.draft.keys.ssh_authorities(self.draft.now);
        let newest_ca = authorities.first().map_or("", String::as_str);
        let access = certification(newest_ca, &row.ssh_host_key, dial);
        if row.dial != dial {
            self.draft.put(Change::HostDialed { host, dial: dial.into() });
        }
        let is_stale = |p: &&super::rows::PartitionRow| p.access.as_ref() != Some(&access);
        let stale: Vec<PartitionId> = self.draft.partitions_of(host).filter(is_stale).map(|p| p.id).collect();
        for partition in stale {
            self.draft.put(Change::PartitionAccess { partition, access: Some(access.clone()) });
        }
    }

    /// Keeps what was seen of the host's own partitions, for those who look.
    fn seen(&mut self, observed: &[Observed]) {
        let host = self.host;
        let own = |o: &&Observed| self.draft.partition(o.partition).is_some_and(|p| p.host == host);
        let mut own: Vec<Observed> = observed.iter().filter(own).cloned().collect();
        own.iter_mut().for_each(|o| o.detail = o.detail.as_deref().map(tidy));
        let unchanged = |live: &super::live::HostLive| {
            live.observed.len() == own.len() && own.iter().all(|o| live.observed(o.partition) == Some(o))
        };
        if !self.draft.live(host).is_some_and(unchanged) {
            self.draft.put(Change::Seen { host, observed: Arc::new(own) });
        }
    }

    /// Bills what this sync completed.
    fn settle(&mut self, receipted: &BTreeMap<LeaseId, u64>) {
        for lease in std::mem::take(&mut self.ended).into_iter().chain(receipted.keys().copied()) {
            crate::tasks::settle_if_due(self.draft, lease);
        }
    }

    fn answer(self, acknowledged: BTreeMap<LeaseId, u64>, division_refused: Option<String>, knows: u64) -> SyncAnswer {
        let row = self.draft.host(self.host);
        let (revision, known) = row.map_or((0, 0), |h| (h.division_revision, h.plan_version));
        // The version of this plan is given when the draft closes; see `Draft::finish`.
        let plan_version = if self.draft.is_replanned(self.host) { known + 1 } else { known };
        let plan = || plan::of(self.draft, self.host).map(|plan| plan.wanted).unwrap_or_default();
        SyncAnswer {
            plan_version,
            plan: (plan_version != knows).then(plan),
            acknowledged: acknowledged
                .into_iter()
                .map(|(lease, seq)| sublet_wire::sync::Acknowledged { lease, seq })
                .collect(),
            division_revision: revision,
            division_refused,
            warnings: self.warnings,
            ssh_ca: self.draft.keys.ssh_authorities(self.draft.now),
            keys: None,
            // Said by whoever answers over HTTP: the engine does not know of it.
            relay: None,
            market_time: self.draft.now,
            told: Vec::new(),
        }
    }
}

/// Words from a host, fit to be shown.
fn tidy(detail: &str) -> String {
    detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_DETAIL).collect()
}

/// Whether something of that generation runs or ran on the host.
fn was_started(phase: Phase) -> bool {
    !matches!(phase, Phase::Idle)
}
