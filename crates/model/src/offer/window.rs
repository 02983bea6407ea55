//! One weekly window, as lenders write it: `weekdays 19:00-07:00`.

use super::windows::Days;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

const MINUTES_A_DAY: i32 = 24 * 60;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A time on the wall clock, in minutes; `24:00` is the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "19:00")]
pub struct ClockTime(u16);

/// A span of the same hours on some days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// On which days it starts.
    pub days: Days,
    /// When it starts.
    pub from: ClockTime,
    /// When it ends; the next day if that is not after the start.
    pub until: ClockTime,
}

impl Day {
    const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    fn word(self) -> &'static str {
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][self as usize]
    }
}

impl Window {
    pub(super) fn check(&self) -> Result<(), String> {
        match () {
            () if self.days.is_empty() => Err("a window needs a day".into()),
            () if self.from.0 >= 24 * 60 => Err("a window starts before 24:00".into()),
            () if self.from == self.until => Err("a window that ends when it starts is 00:00-24:00 or nothing".into()),
            () => Ok(()),
        }
    }

    /// Minutes from Monday 00:00, one pair a day.
    pub(super) fn minutes(&self) -> impl Iterator<Item = (i32, i32)> {
        let (from, until) = (i32::from(self.from.0), i32::from(self.until.0));
        let until = if until <= from { until + MINUTES_A_DAY } else { until };
        self.days.iter().map(move |day| {
            let midnight = *day as i32 * MINUTES_A_DAY;
            (midnight + from, midnight + until)
        })
    }
}

impl FromStr for ClockTime {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{:?} is not a time such as 19:00", text.chars().take(16).collect::<String>());
        let two =
            |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u16>());
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        match (two(hours), two(minutes)) {
            (Some(Ok(hours)), Some(Ok(minutes))) if hours * 60 + minutes <= 24 * 60 && minutes < 60 => {
                Ok(Self(hours * 60 + minutes))
            }
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for ClockTime {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ClockTime> for String {
    fn from(time: ClockTime) -> Self {
        time.to_string()
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// `mon`, `mon-fri`, `weekdays`, `weekend` or `daily`, with commas; then `19:00-07:00`.
impl FromStr for Window {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let shown = || text.chars().take(60).collect::<String>();
        let wrong =
            || format!("{:?} is not a window such as \"weekdays 19:00-07:00\" or \"sat,sun 00:00-24:00\"", shown());
        let (days, hours) = text.trim().rsplit_once(' ').ok_or_else(wrong)?;
        let (from, until) = hours.split_once('-').ok_or_else(wrong)?;
        let mut all = Days::new();
        for part in days.split(',') {
            all.extend(days_of(part.trim()).ok_or_else(wrong)?);
        }
        let window = Self { days: all, from: from.parse()?, until: until.parse()? };
        window.check().map(|()| window)
    }
}

fn days_of(word: &str) -> Option<Vec<Day>> {
    let day = |word: &str| Day::ALL.into_iter().find(|d| d.word() == word);
    Some(match word {
        "daily" => Day::ALL.to_vec(),
        "weekdays" => Day::ALL[..5].to_vec(),
        "weekend" => Day::ALL[5..].to_vec(),
        _ => match word.split_once('-') {
            None => vec![day(word)?],
            Some((first, last)) => {
                let (first, last) = (day(first)? as usize, day(last)? as usize);
                let length = (last + 7 - first) % 7 + 1;
                (0..length).map(|n| Day::ALL[(first + n) % 7]).collect()
            }
        },
    })
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<&str> = self.days.iter().map(|d| d.word()).collect();
        let days = match days.join(",").as_str() {
            "mon,tue,wed,thu,fri,sat,sun" => "daily".into(),
            "mon,tue,wed,thu,fri" => "weekdays".into(),
            "sat,sun" => "weekend".into(),
            other => other.to_owned(),
        };
        write!(f, "{days} {}-{}", self.from, self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_written_as_lenders_say_them() {
        let printed = |text: &str| text.parse::<Window>().map(|w| w.to_string());
        for (text, same) in [
            ("weekdays 19:00-07:00", "weekdays 19:00-07:00"),
            ("mon-fri 19:00-07:00", "weekdays 19:00-07:00"),
            ("fri-mon 00:00-24:00", "mon,fri,sat,sun 00:00-24:00"),
            (" sun,sat 08:30-09:00 ", "weekend 08:30-09:00"),
            ("daily 22:00-00:00", "daily 22:00-00:00"),
        ] {
            assert_eq!(printed(text).as_deref(), Ok(same), "{text}");
        }
        for bad in [
            "",
            "daily",
            "19:00-07:00",
            "daily 7:00-8:00",
            "daily 24:00-25:00",
            "daily 08:60-09:00",
            "daily 08:00-08:00",
            "someday 08:00-09:00",
            "daily 24:00-08:00",
        ] {
            assert!(printed(bad).is_err(), "{bad:?}");
        }
    }
}
