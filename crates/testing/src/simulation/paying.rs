//! People and their money: half of them pay from what they have, which is little; the operator takes in
//! more, pays some out, lets them pay otherwise, and resolves what they dispute.

use super::setup::{CLIENTS, client, operator};
use super::world::World;
use sublet_market::engine::command::Command;
use sublet_model::ids::{AccountId, DisputeId, LeaseId};
use sublet_model::statement::CreditBearer;
use sublet_model::units::Micros;
use sublet_wire::api::PurseChange;

/// What pays for one lease, or for two.
const LITTLE: i64 = 250_000;

impl World {
    /// What the operator and the people do about money, each time that the operator looks.
    pub(super) fn money_matters(&mut self) {
        for n in CLIENTS {
            if self.random.chance(700) {
                let micros = Micros(self.random.between(1, LITTLE));
                let reference = format!("deposit {} of {n}", self.now);
                self.says(Command::Deposit { actor: operator(), account: client(n).account, micros, reference });
            }
            if self.random.chance(100) {
                let micros = Micros(self.random.between(1, LITTLE / 10));
                let reference = format!("refund {} of {n}", self.now);
                self.says(Command::Refund { actor: operator(), account: client(n).account, micros, reference });
            }
        }
        if self.random.chance(250) {
            let n = self.random.between(3, 6).unsigned_abs().into();
            let on_account = Some(self.random.chance(500));
            let change = PurseChange { on_account, ..PurseChange::default() };
            self.says(Command::SetPurse { actor: operator(), account: client(n).account, change });
        }
        self.somebody_disputes();
        self.somebody_is_answered();
    }

    fn somebody_disputes(&mut self) {
        let Some(market) = &self.market else { return };
        let leases: Vec<(LeaseId, AccountId)> = market.state().leases().map(|row| (row.id, row.account)).collect();
        let Some((lease, account)) = self.random.pick(&leases).copied() else { return };
        let Some(actor) = CLIENTS.map(client).find(|actor| actor.account == account) else { return };
        let (id, reason) = (self.random.id::<DisputeId>(), "slow".to_string());
        self.says(Command::OpenDispute { actor, id, lease, line: None, reason, words: String::new() });
    }

    fn somebody_is_answered(&mut self) {
        let Some(market) = &self.market else { return };
        let open: Vec<DisputeId> = market.state().open_disputes().map(|row| row.id).collect();
        let Some(id) = self.random.pick(&open).copied().filter(|_| self.random.chance(600)) else { return };
        let credit = Micros(self.random.between(0, 30_000));
        let borne_by = if self.random.chance(500) { CreditBearer::Lender } else { CreditBearer::Operator };
        self.says(Command::ResolveDispute { actor: operator(), id, credit, borne_by, note: "seen".into() });
    }

    fn says(&mut self, command: Command) {
        self.failing(|world| world.word(command));
    }
}
