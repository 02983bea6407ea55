//! When an offer is open: weekly windows on the lender's wall clock, asked about in UTC.
//!
//! Pure: the rules of every time zone are compiled in, and *now* is an argument. Windows that touch
//! are one, so a term may run across midnight or a whole weekend.

use crate::units::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, ToSpan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use utoipa::ToSchema;

pub use super::window::{ClockTime, Day, Window};

const MINUTES_A_WEEK: i32 = 7 * 24 * 60;

/// Weekly windows with their time zone. A whole term must fit into them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// The lender's, such as `Europe/Berlin` or `UTC`.
    pub time_zone: String,
    /// When it is open; a window that ends before it starts goes on the next day.
    pub weekly: Vec<Window>,
}

/// Whether an offer is open at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Open without an end.
    Always,
    /// Open now.
    Open {
        /// When it closes.
        until: Timestamp,
    },
    /// Closed now.
    Closed {
        /// When it opens, if it ever does.
        opens: Option<Timestamp>,
    },
}

impl Windows {
    /// The most windows of one offer.
    pub const MOST: usize = 32;

    /// Checks the zone and every window.
    pub fn check(&self) -> Result<(), String> {
        if self.zone().is_none() {
            let shown: String = self.time_zone.chars().take(64).collect();
            return Err(format!("{shown:?} is no time zone such as Europe/Berlin or UTC"));
        }
        if !(1..=Self::MOST).contains(&self.weekly.len()) {
            return Err(format!("there must be 1 to {} windows", Self::MOST));
        }
        self.weekly.iter().try_for_each(Window::check)
    }

    /// Whether it is open now, and until when. A zone that is not known keeps it closed.
    pub fn at(&self, now: Timestamp) -> Opening {
        self.look(now).unwrap_or(Opening::Closed { opens: None })
    }

    fn look(&self, now: Timestamp) -> Option<Opening> {
        let merged = self.merged();
        if merged.iter().any(|(from, until)| until - from >= MINUTES_A_WEEK) {
            return Some(Opening::Always);
        }
        let zone = self.zone()?;
        let today = jiff::Timestamp::from_microsecond(now.0).ok()?.to_zoned(zone.clone()).date();
        let monday = today.checked_sub(i64::from(today.weekday().to_monday_zero_offset()).days()).ok()?;
        let mut opens = None;
        for (from, until) in merged {
            let (from, until) = (instant(monday, from, &zone)?, instant(monday, until, &zone)?);
            if (from..until).contains(&now) {
                return Some(Opening::Open { until });
            }
            // An hour that the zone leaves out may leave nothing of a window.
            if from > now && until > from && opens.is_none() {
                opens = Some(from);
            }
        }
        Some(Opening::Closed { opens })
    }

    /// Minutes from this week's Monday, last week's and next week's windows too, touching ones as one.
    fn merged(&self) -> Vec<(i32, i32)> {
        let weeks = [-MINUTES_A_WEEK, 0, MINUTES_A_WEEK];
        let of = |window: &Window| window.minutes().collect::<Vec<_>>();
        let once = self.weekly.iter().flat_map(of);
        let mut all: Vec<(i32, i32)> =
            once.flat_map(|(from, until)| weeks.map(|week| (from + week, until + week))).collect();
        all.sort_unstable();
        let mut merged: Vec<(i32, i32)> = Vec::new();
        for (from, until) in all {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(until),
                _ => merged.push((from, until)),
            }
        }
        merged
    }

    fn zone(&self) -> Option<TimeZone> {
        // The rules that are compiled in, never those of the computer this runs on: every part of
        // the market must come to the same answer.
        static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
        let plain = self.time_zone.len() <= 64 && self.time_zone.is_ascii();
        plain.then(|| ZONES.get_or_init(TimeZoneDatabase::bundled).get(&self.time_zone).ok())?
    }
}

/// The instant at which the wall clock shows so many minutes from a Monday.
fn instant(monday: Date, minutes: i32, zone: &TimeZone) -> Option<Timestamp> {
    let wall: Span = minutes.minutes();
    let at = monday.at(0, 0, 0, 0).checked_add(wall).ok()?;
    Some(Timestamp(zone.to_timestamp(at).ok()?.as_microsecond()))
}

/// The days of windows, for [`Window`].
pub(super) type Days = BTreeSet<Day>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Seconds;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn windows(zone: &str, weekly: &[&str]) -> Windows {
        let windows = Windows { time_zone: zone.into(), weekly: weekly.iter().map(|w| w.parse().unwrap()).collect() };
        windows.check().unwrap();
        windows
    }

    #[track_caller]
    fn check(windows: &Windows, now: &str, expected: Opening) {
        assert_eq!(windows.at(at(now)), expected, "{now}");
    }

    #[test]
    fn a_night_goes_on_after_midnight_on_the_lenders_clock() {
        let nights = windows("Europe/Berlin", &["weekdays 19:00-07:00"]);
        // Thursday 20:00 in Berlin, in summer.
        check(&nights, "2026-07-02T18:00:00Z", Opening::Open { until: at("2026-07-03T05:00:00Z") });
        check(&nights, "2026-07-03T05:00:00Z", Opening::Closed { opens: Some(at("2026-07-03T17:00:00Z")) });
        // Friday's night ends on Saturday; then Monday's is the next.
        check(&nights, "2026-07-04T04:59:59Z", Opening::Open { until: at("2026-07-04T05:00:00Z") });
        check(&nights, "2026-07-04T12:00:00Z", Opening::Closed { opens: Some(at("2026-07-06T17:00:00Z")) });
        // Sunday to Monday over the week's edge.
        let sundays = windows("Europe/Berlin", &["sun 22:00-02:00"]);
        check(&sundays, "2026-07-05T23:30:00Z", Opening::Open { until: at("2026-07-06T00:00:00Z") });
    }

    #[test]
    fn touching_windows_are_one_and_a_full_week_has_no_end() {
        let weekend = windows("UTC", &["fri 18:00-24:00", "sat-sun 00:00-24:00", "mon 00:00-06:00"]);
        check(&weekend, "2026-07-03T18:00:00Z", Opening::Open { until: at("2026-07-06T06:00:00Z") });
        check(&weekend, "2026-07-06T05:59:00Z", Opening::Open { until: at("2026-07-06T06:00:00Z") });
        check(&windows("Asia/Kolkata", &["daily 00:00-24:00"]), "2026-07-03T18:00:00Z", Opening::Always);
        check(&windows("UTC", &["daily 00:00-12:00", "daily 12:00-00:00"]), "2026-07-03T18:00:00Z", Opening::Always);
    }

    #[test]
    fn the_hour_that_is_left_out_and_the_one_that_comes_twice() {
        let nights = windows("Europe/Berlin", &["daily 22:00-06:00"]);
        let long = |evening: &str| match nights.at(at(evening)) {
            Opening::Open { until } => until.since(at(evening)),
            other => panic!("{other:?}"),
        };
        assert_eq!(long("2026-03-28T21:00:00Z"), Seconds(7 * 3600), "spring: an hour less");
        assert_eq!(long("2026-10-24T20:00:00Z"), Seconds(9 * 3600), "autumn: an hour more");
        // A window inside the hour that does not exist that day.
        let gone = windows("Europe/Berlin", &["sun 02:10-02:50"]);
        check(&gone, "2026-03-29T01:15:00Z", Opening::Open { until: at("2026-03-29T01:50:00Z") });
    }

    #[test]
    fn nonsense_is_refused_and_an_unknown_zone_is_closed() {
        let w = |zone: &str, weekly: Vec<Window>| Windows { time_zone: zone.into(), weekly };
        let day: Window = "daily 08:00-17:00".parse().unwrap();
        assert!(w("Mars/Olympus", vec![day.clone()]).check().is_err());
        assert_eq!(w("Mars/Olympus", vec![day.clone()]).at(Timestamp(0)), Opening::Closed { opens: None });
        assert!(w("UTC", Vec::new()).check().is_err() && w("UTC", vec![day.clone(); 33]).check().is_err());
        assert_eq!(w("UTC", vec![day]).at(Timestamp(i64::MAX)), Opening::Closed { opens: None });
    }

    #[test]
    fn written_and_read_again() {
        let nights = windows("Europe/Berlin", &["weekdays 19:00-07:00", "sat-sun 00:00-24:00"]);
        let json = serde_json::to_string(&nights).unwrap();
        assert!(json.contains(r#""days":["mon","tue","wed","thu","fri"],"from":"19:00","until":"07:00""#), "{json}");
        assert_eq!(serde_json::from_str::<Windows>(&json).unwrap(), nights);
    }
}
