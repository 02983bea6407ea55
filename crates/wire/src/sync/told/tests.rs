use super::*;
use proptest::prelude::*;
use sublet_model::host::Tier;
use sublet_model::partition::{Allocation, Phase};
use sublet_model::resources::Resources;
use sublet_model::units::{GiB, MiB, Seconds, Timestamp};

/// A host whose parts are three numbers.
fn whole([threads, revision, generation]: [u8; 3]) -> SyncRequest {
    let inventory = Inventory {
        arch: "x86_64".into(),
        cpu_model: "some".into(),
        cpu_flags: Vec::new(),
        threads: threads.into(),
        cores: 1,
        memory: MiB(1024),
        disk: GiB(1),
        speed: 1,
        tier: Tier::Kvm,
        confined: true,
        kernel: "6".into(),
        qemu: "9".into(),
    };
    let applied = Allocation { generation: generation.into(), revision: 0, resources: Resources::ZERO, vcpus: 1 };
    let observed = Observed {
        partition: uuid::Uuid::from_u128(1).into(),
        applied,
        lease: None,
        phase: Phase::Idle,
        seconds: Seconds(0),
        first_contact: false,
        started: None,
        detail: None,
    };
    SyncRequest {
        wall_clock: Timestamp(1),
        inventory,
        dial: "127.0.0.1:1".into(),
        division: Division { revision: revision.into(), ..Division::default() },
        observed: vec![observed],
        receipts: Vec::new(),
        plan_version: 1,
        lives: Vec::new(),
        catching_up: false,
        keys: None,
    }
}

/// A market that keeps what it took in last; it warns of what it dislikes.
#[derive(Default)]
struct Market {
    inventory: Option<Inventory>,
    division: Option<Division>,
    observed: Option<Vec<Observed>>,
}

impl Market {
    fn take(&mut self, message: SyncMessage, dislikes: bool) -> SyncAnswer {
        self.inventory = message.inventory.or(self.inventory.take());
        let refused = dislikes && message.division.is_some();
        if !refused {
            self.division = message.division.or(self.division.take());
        }
        self.observed = message.observed.or(self.observed.take());
        SyncAnswer {
            plan_version: 1,
            plan: None,
            acknowledged: Vec::new(),
            division_revision: self.division.as_ref().map_or(0, |division| division.revision),
            division_refused: refused.then(|| "no".into()),
            warnings: Vec::new(),
            ssh_ca: Vec::new(),
            keys: None,
            relay: None,
            market_time: Timestamp(1),
            told: Vec::new(),
        }
    }
}

#[test]
fn what_was_answered_is_left_out_until_it_changes() {
    let (mut told, mut market) = (Told::default(), Market::default());
    let parts =
        |message: &SyncMessage| [message.inventory.is_some(), message.division.is_some(), message.observed.is_some()];
    let mut sync = |told: &mut Told, numbers, dislikes| {
        let (whole, message) = (whole(numbers), told.message(&whole(numbers)));
        let said = parts(&message);
        told.answered(&whole, &market.take(message, dislikes));
        said
    };
    assert_eq!(sync(&mut told, [1, 1, 1], false), [true; 3], "the first says all");
    assert_eq!(sync(&mut told, [1, 1, 1], false), [false; 3]);
    assert_eq!(sync(&mut told, [1, 1, 2], false), [false, false, true]);
    assert_eq!(sync(&mut told, [2, 1, 2], false), [true, false, false]);
    assert_eq!(sync(&mut told, [2, 2, 2], true), [false, true, false]);
    assert_eq!(sync(&mut told, [2, 2, 2], true), [true; 3], "what was refused is said again");
    assert_eq!(sync(&mut told, [2, 2, 2], false), [true; 3]);
    assert_eq!(sync(&mut told, [2, 2, 2], false), [false; 3]);

    let behind = SyncRequest { catching_up: true, ..whole([2, 2, 2]) };
    let message = told.message(&behind);
    told.answered(&behind, &market.take(message, false));
    assert_eq!(parts(&told.message(&whole([2, 2, 2]))), [true; 3], "what was not looked at is said again");
}

proptest! {
    /// Syncs are lost on the way there and on the way back; parts change to and fro.
    #[test]
    fn what_the_market_has_is_what_the_host_said(
        rounds in prop::collection::vec((prop::array::uniform3(0u8..3), 0u8..4, any::<bool>()), 1..40)
    ) {
        let (mut told, mut market) = (Told::default(), Market::default());
        for (numbers, fate, dislikes) in rounds {
            let whole = whole(numbers);
            let message = told.message(&whole);
            // Lost on the way there.
            if fate == 0 {
                continue;
            }
            let answer = market.take(message, dislikes);
            prop_assert_eq!(market.inventory.as_ref(), Some(&whole.inventory));
            prop_assert_eq!(market.observed.as_ref(), Some(&whole.observed));
            if answer.division_refused.is_none() {
                prop_assert_eq!(market.division.as_ref(), Some(&whole.division));
            }
            // Lost on the way back.
            if fate != 1 {
                told.answered(&whole, &answer);
            }
        }
    }
}
