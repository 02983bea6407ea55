//! What an account pays or earns, lease by lease, with the arithmetic in words.

use crate::engine::rows::Lease;
use crate::engine::state::State;
use crate::http::views::lease::charge;
use std::sync::Arc;
use sublet_model::billing::Charge;
use sublet_model::ids::AccountId;
use sublet_model::ledger::{Book, fee};
use sublet_model::statement::CreditBearer;
use sublet_model::units::{Micros, Timestamp};
use sublet_wire::api::{Statement, StatementLine};

/// From which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What the account pays.
    Client,
    /// What it earns.
    Lender,
    /// What the market keeps, of all leases.
    Operator,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Lender => "lender",
            Self::Operator => "operator",
        }
    }
}

/// The statement of an account; with `between`, of what was settled from the first moment to before
/// the second. None if it has more than `most` lines.
pub fn statement(
    state: &State,
    account: AccountId,
    side: Side,
    currency: &str,
    now: Timestamp,
    between: Option<(Timestamp, Timestamp)>,
    most: usize,
) -> Option<Statement> {
    let leases: Box<dyn Iterator<Item = &Arc<Lease>>> = match side {
        Side::Client => Box::new(state.leases_of(account).rev()),
        Side::Lender => Box::new(state.leases_lent_by(account).rev()),
        Side::Operator => Box::new(state.leases().rev()),
    };
    let is_meant = |lease: &&Arc<Lease>| {
        let Some((from, until)) = between else { return true };
        state.charge(lease.id).is_some_and(|charge| (from..until).contains(&charge.settled_at))
    };
    // The lines themselves are made of those only that are shown: no more are looked at than tell that.
    let meant: Vec<&Arc<Lease>> = leases.filter(is_meant).take(most + 1).collect();
    if meant.len() > most {
        return None;
    }
    let lines: Vec<StatementLine> = meant.into_iter().map(|lease| line(state, lease, now)).collect();
    let total = lines.iter().filter(|line| line.settled).map(|line| amount(line, side)).sum();
    Some(Statement { account, side: side.word().into(), currency: currency.into(), lines, total })
}

/// What a settled line comes to for a side.
fn amount(line: &StatementLine, side: Side) -> Micros {
    match side {
        Side::Client => line.charge.total - line.credited,
        Side::Lender => line.charge.total - line.fee - line.credited_by_lender,
        Side::Operator => line.fee - (line.credited - line.credited_by_lender),
    }
}

fn line(state: &State, row: &Lease, now: Timestamp) -> StatementLine {
    let terms = row.terms();
    let charge = charge(state, row, now);
    StatementLine {
        lease: row.id,
        name: row.name.clone(),
        host: state.host(row.host).map(|h| h.name.clone()).unwrap_or_default(),
        image: row.image.clone(),
        resources: terms.resources,
        prices: terms.prices,
        timeline: row.timeline.clone(),
        receipts: row.chain.as_ref().map_or(0, |end| end.seq),
        reason: row.state.reason(),
        arithmetic: arithmetic(&charge),
        fee: fee(charge.total, terms.fee_permille),
        credited: state.credits(row.id).map(|credit| credit.micros).sum(),
        credited_by_lender: state
            .credits(row.id)
            .filter(|credit| credit.borne_by == CreditBearer::Lender)
            .map(|credit| credit.micros)
            .sum(),
        withheld: state.balance(Book::Withheld(row.id)),
        charge,
        settled: state.charge(row.id).is_some(),
    }
}

/// `37 s at 0.0216/h + set-up 0.0001 = 0.000322`.
fn arithmetic(charge: &Charge) -> String {
    let used = format!("{} s at {}", charge.billed_seconds.0, charge.hourly);
    let setup = if charge.setup.0 == 0 { String::new() } else { format!(" + set-up {}", charge.setup) };
    format!("{used}{setup} = {}", charge.total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::units::{Micros, MicrosPerHour, Seconds};

    #[test]
    fn no_more_lines_than_are_shown() {
        let (mut world, mut agent) = crate::engine::tests::world::World::lending();
        let lease = world.running(&mut agent);
        let (state, now) = (world.engine.state(), world.now);
        for (side, account) in
            [(Side::Client, lease.account), (Side::Lender, lease.terms().lender), (Side::Operator, lease.account)]
        {
            let shown = |most| statement(state, account, side, "EUR", now, None, most);
            assert_eq!((shown(1).map(|s| s.lines.len()), shown(0).is_none()), (Some(1), true));
        }
    }

    #[test]
    fn the_sum_is_told_in_words() {
        let charge = Charge {
            receipted_seconds: Seconds(37),
            billed_seconds: Seconds(37),
            hourly: MicrosPerHour(21_600),
            setup: Micros(100),
            total: Micros(322),
        };
        assert_eq!(arithmetic(&charge), "37 s at 0.0216/h + set-up 0.0001 = 0.000322");
        let free = Charge { setup: Micros(0), hourly: MicrosPerHour(0), total: Micros(0), ..charge };
        assert_eq!(arithmetic(&free), "37 s at 0.00/h = 0.00");
    }
}
