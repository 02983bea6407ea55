//! What is said of a state and of a reason, one by one.

use super::*;
use std::collections::BTreeSet;

const T: Timestamp = Timestamp(5);

#[test]
fn each_state_says_what_it_is() {
    use EndReason::Expired;
    use LeaseState as S;
    let since = Some(T);
    // Its word; whether it holds the slot, is wanted; since when its host is silent; why it ends.
    let table = [
        (S::Granted { silent_since: None }, "granted", true, true, None, None),
        (S::Granted { silent_since: since }, "granted", true, true, since, None),
        (S::Active { ready_at: Timestamp(1), silent_since: None }, "active", true, true, None, None),
        (S::Active { ready_at: Timestamp(1), silent_since: since }, "active", true, true, since, None),
        (S::Stopping { reason: Expired }, "stopping", true, false, None, Some(Expired)),
        (S::Lost { reason: Expired }, "lost", true, false, None, Some(Expired)),
        (S::Ended { reason: Expired, at: T }, "ended", false, false, None, Some(Expired)),
    ];
    for (state, word, holds, wanted, silent, reason) in table {
        assert_eq!((state.word(), state.holds_slot(), state.is_wanted()), (word, holds, wanted), "{state:?}");
        assert_eq!((state.silent_since(), state.reason()), (silent, reason), "{state:?}");
    }
}

#[test]
fn reasons_are_told_by_one_word_and_explained_in_many() {
    let words: BTreeSet<&str> = EndReason::ALL.map(EndReason::word).into();
    let explained: BTreeSet<&str> = EndReason::ALL.map(EndReason::explanation).into();
    assert_eq!((words.len(), explained.len()), (12, 12), "each its own");
    for reason in EndReason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.word(), "as the API has it");
        assert_eq!(reason.to_string(), reason.word());
        assert!(reason.explanation().split(' ').count() > 4, "{reason}");
    }
}
