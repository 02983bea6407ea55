//! What is too much for every step: the database against what was published and acknowledged, and
//! whether everything has reached its end.

use super::super::check::{Checked, Violation, ensure};
use super::World;
use sublet_market::engine::State;
use sublet_market::engine::state::Tables;
use sublet_model::lease::LeaseState;

impl World {
    /// The database holds what was published, and every fact that was acknowledged.
    pub(super) fn compare(&mut self) -> Checked {
        let rows = self.db.rows().map_err(|e| Violation { what: format!("the database can't be read: {e}") })?;
        self.compare_with(&rows)
    }

    /// The same of rows that were read already.
    pub(super) fn compare_with(&self, rows: &Tables) -> Checked {
        ensure(rows == self.published.tables(), || {
            format!("I6: what was published is not what the database holds: {}", difference(rows, &self.published))
        })?;
        for client in &self.clients {
            client.remembered(rows, |lease| self.terms.get(&lease).copied())?;
        }
        for (lease, seq) in &self.acknowledged {
            let has = rows.leases.get(lease).and_then(|row| row.chain.as_ref()).map_or(0, |end| end.seq);
            ensure(has >= *seq, || format!("I6: receipt {seq} of {lease} was acknowledged, and {has} is the newest"))?;
        }
        for computer in &self.computers {
            let knows = computer.store.identity().ok().flatten().map_or(0, |identity| identity.session);
            let has = rows.hosts.get(&computer.host).map_or(0, |row| row.session);
            ensure(has >= knows, || format!("I6: session {knows} was opened, and {has} is the newest"))?;
        }
        Ok(())
    }

    /// The books hold, as they are written (I4).
    pub(in super::super) fn audit_books(&self) -> Checked {
        let wrong = self.db.wrong_in_the_books();
        let wrong = wrong.map_err(|e| Violation { what: format!("the books can't be read: {e}") })?;
        ensure(wrong.is_empty(), || format!("I4: the books do not hold: {wrong:?}"))
    }

    /// Everything that is too much for every step.
    pub(super) fn audit(&mut self) -> Checked {
        self.check.hosts(&self.computers)?;
        let Some(market) = &self.market else { return Ok(()) };
        ensure(market.state().is_consistent(), || "the market's indexes are not what its rows make them".into())?;
        let engine = market.state().tables() == self.published.tables();
        ensure(engine, || "a refusal left something behind: the engine knows what was never published".into())?;
        self.compare()
    }

    /// Whether everything has reached its end.
    pub(super) fn is_at_rest(&self) -> bool {
        let over =
            self.check.leases.values().all(|told| matches!(told.state, LeaseState::Ended { .. }) && told.charged);
        over && self.market.is_some() && self.clients.iter().all(|client| !client.waits()) && self.hosts_are_at_rest()
    }

    pub(super) fn hosts_are_at_rest(&self) -> bool {
        self.computers.iter().filter(|c| c.original && self.dead != Some(c.host)).all(|computer| {
            let runs = computer.store.live_runs().map_or(0, |runs| runs.len());
            let receipts = computer.store.unacknowledged(1).map_or(0, |receipts| receipts.len());
            computer.machines.simulated.traces().is_empty()
                && runs == 0
                && (receipts == 0 || self.check.stolen.contains(&computer.host))
        })
    }

    /// I12: what has not reached its end.
    pub(super) fn unfinished(&self) -> String {
        let leases = self
            .check
            .leases
            .iter()
            .filter(|(_, told)| !matches!(told.state, LeaseState::Ended { .. }) || !told.charged);
        let leases: Vec<String> =
            leases.map(|(id, told)| format!("{id} is {:?}, charged: {}", told.state, told.charged)).collect();
        let hosts: Vec<String> = self
            .computers
            .iter()
            .filter(|c| c.original)
            .map(|c| {
                let runs = c.store.live_runs().unwrap_or_default();
                let runs: Vec<String> = runs.iter().map(|r| format!("{} {:?}", r.partition, r.stage)).collect();
                let receipts = c.store.unacknowledged(10).map_or(0, |receipts| receipts.len());
                format!(
                    "computer {}: runs {runs:?}, {receipts} receipts wait, traces {:?}",
                    c.number,
                    c.machines.simulated.traces()
                )
            })
            .collect();
        let waiting: Vec<usize> = self.clients.iter().enumerate().filter(|(_, c)| c.waits()).map(|(n, _)| n).collect();
        format!("I12: three hours after everything healed: leases {leases:?}; {hosts:?}; clients that wait {waiting:?}")
    }
}

/// The first table that differs.
fn difference(rows: &Tables, published: &State) -> String {
    let known = published.tables();
    for (id, lease) in &known.leases {
        match rows.leases.get(id) {
            None => return format!("lease {id} ({:?}) is not there", lease.state),
            Some(row) if row != lease => {
                return format!("lease {id} is {:?}, published was {:?}", row.state, lease.state);
            }
            Some(_) => {}
        }
    }
    let hosts = rows.hosts.iter().zip(&known.hosts).find(|(a, b)| a != b);
    match hosts {
        Some(((id, a), (_, b))) => format!(
            "host {id}: session {} and {}, plan {} and {}",
            a.session, b.session, a.plan_version, b.plan_version
        ),
        None => "another table".into(),
    }
}
