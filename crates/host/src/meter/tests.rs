use super::*;
use crate::fixtures::run;
use crate::guard::record::ExitCause;
use crate::store::Stage;

const S: i64 = 1_000_000;

#[test]
fn whole_seconds_from_ready_within_what_may_be_used() {
    let table = [
        // (kept, now in microseconds, boot, seconds)
        (0, 10 * S, "boot", 0),
        (0, 10 * S + 999_999, "boot", 0),
        (0, 11 * S, "boot", 1),
        (0, 10 * S + 600 * S + 5, "boot", 600),
        // Never more than is paid for.
        (0, 10 * S + 2000 * S, "boot", 900),
        // Never less than was kept, whatever a clock says.
        (30, 12 * S, "boot", 30),
        (30, -5 * S, "boot", 30),
        (0, i64::MIN, "boot", 0),
        (0, i64::MAX, "boot", 900),
        // Another boot's clock says nothing.
        (30, 500 * S, "next", 30),
    ];
    for (kept, now, boot, expected) in table {
        let run = Run { metered: Seconds(kept), ..run(Stage::Ready) };
        assert_eq!(seconds(&run, boot, now), Seconds(expected), "{kept} {now} {boot}");
    }
    assert_eq!(seconds(&run(Stage::Booting), "boot", 500 * S), Seconds(0), "nothing is metered before ready");
}

#[test]
fn an_end_that_was_recorded_counts_from_when_it_was() {
    let run = run(Stage::Ready);
    let exit = |at_s: i64, boot: &str, generation| ExitRecord {
        generation,
        uuid: run.uuid,
        cause: ExitCause::Signalled { signal: 9 },
        at_monotonic_us: at_s * S,
        at_boottime_us: at_s * S,
        boot_id: boot.into(),
        said: String::new(),
    };
    let check = |exit: Option<&ExitRecord>| final_seconds(&run, "boot", 100 * S, exit);
    assert_eq!(check(None), Seconds(90));
    assert_eq!(check(Some(&exit(40, "boot", 1))), Seconds(30), "the guard saw it earlier than we looked");
    assert_eq!(check(Some(&exit(400, "boot", 1))), Seconds(90));
    assert_eq!(check(Some(&exit(40, "other", 1))), Seconds(90), "another boot's clock");
    assert_eq!(check(Some(&exit(40, "boot", 2))), Seconds(90), "another generation's end");
}

#[test]
fn the_last_receipt_counts_no_second_in_which_the_machine_was_over() {
    // Ready at 10 s; the end could be recorded only at 50 s.
    let run = Run { metered: Seconds(40), ..run(Stage::Ready) };
    let exit = |at_us: i64, boot: &str| ExitRecord {
        generation: run.generation,
        uuid: run.uuid,
        cause: ExitCause::Deadline,
        at_monotonic_us: at_us,
        at_boottime_us: at_us,
        boot_id: boot.into(),
        said: String::new(),
    };
    assert_eq!(last_seconds(&run, Some(&exit(36 * S + 1, "boot"))), Seconds(26));
    assert_eq!(last_seconds(&run, Some(&exit(60 * S, "boot"))), Seconds(40), "stopped after the meter was");
    assert_eq!(last_seconds(&run, Some(&exit(36 * S, "other"))), Seconds(40), "another boot's clock");
    assert_eq!(last_seconds(&run, Some(&exit(5 * S, "boot"))), Seconds(0));
    assert_eq!(last_seconds(&run, None), Seconds(40));
}

#[test]
fn the_machine_stops_at_the_lesser_end_counted_from_ready() {
    assert_eq!(stop_at(&run(Stage::Ready), 240 * S), Boottime(910 * S));
    let short = Run { term: Seconds(60), ..run(Stage::Ready) };
    assert_eq!(stop_at(&short, 240 * S), Boottime(70 * S));
    assert_eq!(stop_at(&run(Stage::Booting), 240 * S), Boottime(248 * S));
}

#[test]
fn receipts_are_written_often_but_pile_up_slowly() {
    let due =
        |receipted: Option<i64>, metered, waiting| receipt_is_due(receipted.map(Seconds), Seconds(metered), waiting);
    assert!(!due(None, 14, 0));
    assert!(due(None, 15, 0));
    assert!(!due(Some(15), 29, 3));
    assert!(due(Some(15), 30, 3));
    assert!(!due(Some(600), 615, 40));
    assert!(due(Some(600), 1500, 40));
}
