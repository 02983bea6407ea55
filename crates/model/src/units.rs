//! Amounts with their unit in the type. All are signed: free capacity may go below zero when a
//! computer shrinks, and a correction may be a negative amount.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use utoipa::ToSchema;

macro_rules! amounts {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
                amounts.fold(Self::ZERO, Add::add)
            }
        }
    )*};
}

amounts! {
    /// Guaranteed processor time: 1000 is one hardware thread, 100 a tenth of one.
    Millicores;
    /// Memory, in 2^20 bytes.
    MiB;
    /// Disk, in 2^30 bytes.
    GiB;
    /// A span, in whole seconds.
    Seconds;
    /// Money, in millionths of the market's currency.
    Micros;
    /// A price, in millionths of the market's currency for an hour.
    MicrosPerHour;
    /// An instant: microseconds since 1970-01-01 UTC, by the market's own clock.
    Timestamp;
}

impl Millicores {
    /// The most that is believed of one computer: 4096 hardware threads.
    pub const MAX: Self = Self(4096 * 1000);
}

impl MiB {
    /// The most that is believed of one computer: 64 TiB.
    pub const MAX: Self = Self(64 << 20);
}

impl GiB {
    /// The most that is believed of one computer: 16 PiB.
    pub const MAX: Self = Self(16 << 20);
}

impl Seconds {
    /// One hour.
    pub const HOUR: Self = Self(3600);
    /// The longest span that is accepted anywhere: ten years.
    pub const MAX: Self = Self(10 * 366 * 86_400);
}

impl MicrosPerHour {
    /// The dearest price that is accepted: a million an hour.
    pub const MAX: Self = Self(1_000_000_000_000);
}

impl Timestamp {
    /// This instant moved by a span.
    pub fn after(self, span: Seconds) -> Self {
        Self(self.0.saturating_add(span.0.saturating_mul(1_000_000)))
    }

    /// Its month by UTC, counted from the year 0: year x 12 + month - 1.
    pub fn month(self) -> i32 {
        let at = jiff::Timestamp::from_microsecond(self.0).unwrap_or_default();
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        i32::from(date.year()) * 12 + i32::from(date.month()) - 1
    }

    /// Whole seconds since an earlier instant, rounded down; negative if that one is later.
    pub fn since(self, earlier: Self) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0).div_euclid(1_000_000))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{}", at.strftime("%Y-%m-%dT%H:%M:%SZ")),
            Err(_) => write!(f, "@{}us", self.0),
        }
    }
}

impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}", self.0 / 1000),
            _ => write!(f, "{}m", self.0),
        }
    }
}

impl fmt::Display for MiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            whole if whole != 0 && whole % 1024 == 0 => write!(f, "{}GiB", whole / 1024),
            odd => write!(f, "{odd}MiB"),
        }
    }
}

impl fmt::Display for GiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}GiB", self.0)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, total) = if self.0 < 0 { ("-", self.0.unsigned_abs()) } else { ("", self.0.unsigned_abs()) };
        let parts = [(total / 86_400, "d"), (total / 3600 % 24, "h"), (total / 60 % 60, "m"), (total % 60, "s")];
        f.write_str(sign)?;
        if total == 0 {
            return f.write_str("0s");
        }
        parts.iter().filter(|(amount, _)| *amount > 0).try_for_each(|(amount, unit)| write!(f, "{amount}{unit}"))
    }
}

/// Decimal with at least two and at most six places, as money is read by people.
fn decimal(micros: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let sign = if micros < 0 { "-" } else { "" };
    let (whole, part) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let mut places = format!("{part:06}");
    while places.len() > 2 && places.ends_with('0') {
        places.pop();
    }
    write!(f, "{sign}{whole}.{places}")
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(self.0, f)
    }
}

impl fmt::Display for MicrosPerHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(self.0, f)?;
        f.write_str("/h")
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {expected}")]
pub struct InvalidAmount {
    given: String,
    expected: &'static str,
}

impl InvalidAmount {
    fn new(given: &str, expected: &'static str) -> Self {
        Self { given: given.chars().take(64).collect(), expected }
    }
}

/// Reads a plain decimal, exactly, in units of 10^-`places`.
fn fixed_point(text: &str, places: usize) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || part.len() > places || !digits(whole) || !digits(part) || text.ends_with('.') {
        return None;
    }
    format!("{whole}{part:0<places$}").parse().ok()
}

/// Reads money such as `0.05`, exactly: at most six places, never through a float.
pub fn parse_micros(text: &str) -> Result<Micros, InvalidAmount> {
    let wrong = || InvalidAmount::new(text, "an amount such as 0.05 (at most six places)");
    fixed_point(text.trim(), 6).map(Micros).ok_or_else(wrong)
}

/// Reads a price such as `0.05` or `0.05/h`.
pub fn parse_price(text: &str) -> Result<MicrosPerHour, InvalidAmount> {
    let wrong = || InvalidAmount::new(text, "a price for an hour such as 0.05/h (at most six places)");
    let bare = text.trim();
    let price = MicrosPerHour(fixed_point(bare.strip_suffix("/h").unwrap_or(bare), 6).ok_or_else(wrong)?);
    if price > MicrosPerHour::MAX { Err(wrong()) } else { Ok(price) }
}

/// Reads processor time such as `2`, `0.5`, `500m` or `2cpu`.
pub fn parse_cpu(text: &str) -> Result<Millicores, InvalidAmount> {
    let wrong = || InvalidAmount::new(text, "processor time such as 2, 0.5 or 500m");
    let bare = text.trim();
    let bare = bare.strip_suffix("cpu").unwrap_or(bare);
    let amount = match bare.strip_suffix('m') {
        Some(milli) => fixed_point(milli, 0),
        None => fixed_point(bare, 3),
    };
    amount.map(Millicores).filter(|cpu| *cpu <= Millicores::MAX).ok_or_else(wrong)
}

/// Reads memory such as `512MiB` or `8GiB`. Decimal units are refused, for they bill another amount.
pub fn parse_memory(text: &str) -> Result<MiB, InvalidAmount> {
    let wrong = || InvalidAmount::new(text, "memory such as 512MiB or 8GiB");
    binary_size(text).map(MiB).filter(|m| *m <= MiB::MAX).ok_or_else(wrong)
}

/// Reads a size with a binary unit, exactly, in MiB.
fn binary_size(text: &str) -> Option<i64> {
    let bare = text.trim();
    let units = [("MiB", 1, 0), ("GiB", 1024, 3), ("TiB", 1024 * 1024, 3)];
    let (number, factor, places) =
        units.into_iter().find_map(|(unit, factor, places)| Some((bare.strip_suffix(unit)?, factor, places)))?;
    let amount = fixed_point(number.trim_end(), places)?.checked_mul(factor)?;
    let scale = 10i64.pow(places as u32);
    (amount % scale == 0).then_some(amount / scale)
}

/// Reads disk such as `50GiB` or `2TiB`.
pub fn parse_disk(text: &str) -> Result<GiB, InvalidAmount> {
    let wrong = || InvalidAmount::new(text, "disk such as 50GiB or 2TiB, in whole GiB");
    let mebibytes = binary_size(text).filter(|mib| mib % 1024 == 0).ok_or_else(wrong)?;
    Some(GiB(mebibytes / 1024)).filter(|d| *d <= GiB::MAX).ok_or_else(wrong)
}

/// Reads a span such as `90s`, `2h30m` or `7d`: whole numbers, the larger unit first.
pub fn parse_span(text: &str) -> Result<Seconds, InvalidAmount> {
    let wrong = || InvalidAmount::new(text, "a span such as 90s, 30m or 2h30m");
    let mut rest = text.trim();
    let mut seconds = 0i64;
    for (unit, length) in [('w', 7 * 86_400), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)] {
        let Some((number, behind)) = rest.split_once(unit) else { continue };
        let part = fixed_point(number, 0).and_then(|n| n.checked_mul(length));
        seconds = part.and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
        rest = behind;
    }
    let read = rest.is_empty() && !text.trim().is_empty();
    Some(Seconds(seconds)).filter(|span| read && *span <= Seconds::MAX).ok_or_else(wrong)
}

/// Reads a share such as `99.5%`, in thousandths.
pub fn parse_permille(text: &str) -> Result<u16, InvalidAmount> {
    let wrong = || InvalidAmount::new(text, "a share such as 99% or 99.5%");
    let permille = text.trim().strip_suffix('%').and_then(|number| fixed_point(number, 1));
    permille.filter(|p| *p <= 1000).and_then(|p| u16::try_from(p).ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_refused() {
        let cpu = |t| parse_cpu(t).map(|c| c.0).ok();
        assert_eq!(
            [cpu("2"), cpu("0.5"), cpu("500m"), cpu("1cpu"), cpu("0.001")],
            [Some(2000), Some(500), Some(500), Some(1000), Some(1)]
        );
        for bad in ["", "-1", "1.", ".5", "0.0005", "1e3", "1,5", "99999999", "NaN", "٣", "1 2"] {
            assert_eq!(cpu(bad), None, "{bad:?}");
        }
        let memory = |t| parse_memory(t).map(|m| m.0).ok();
        assert_eq!(
            [memory("512MiB"), memory("8GiB"), memory("1.5GiB"), memory("1 GiB")],
            [Some(512), Some(8192), Some(1536), Some(1024)]
        );
        for bad in ["512", "8GB", "8G", "0.001GiB", "1.5MiB", "9999999999999999999GiB"] {
            assert_eq!(memory(bad), None, "{bad:?}");
        }
        let disk = |t| parse_disk(t).map(|d| d.0).ok();
        assert_eq!(
            [disk("0GiB"), disk("2TiB"), disk("1.5GiB"), disk("16384TiB")],
            [Some(0), Some(2048), None, Some(16 << 20)]
        );
        let span = |t| parse_span(t).map(|s| s.0).ok();
        assert_eq!(
            [span("2h30m"), span("90s"), span("1d1s"), span("1w")],
            [Some(9000), Some(90), Some(86_401), Some(604_800)]
        );
        for bad in ["", "h", "2", "30m2h", "1h1h", "-1h", "1.5h", "99999999999999999999s", "4000d", "2h 30m"] {
            assert_eq!(span(bad), None, "{bad:?}");
        }
        let share = |t| parse_permille(t).ok();
        assert_eq!(
            [share("99%"), share("99.5%"), share("100%"), share("100.1%"), share("99"), share("0.99")],
            [Some(990), Some(995), Some(1000), None, None, None]
        );
        let price = |t| parse_price(t).map(|p| p.0).ok();
        assert_eq!([price("0.008"), price("0.05/h"), price("0")], [Some(8000), Some(50_000), Some(0)]);
        for bad in ["-0.1", "0.0000001", "1e400", "inf", "0.05/d", "99999999999"] {
            assert_eq!(price(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn amounts_print_as_people_write_them() {
        let printed = [
            Millicores(2000).to_string(),
            Millicores(100).to_string(),
            MiB(1536).to_string(),
            MiB(2048).to_string(),
            Seconds(5400).to_string(),
            Seconds(0).to_string(),
            Micros(-1_500_000).to_string(),
            MicrosPerHour(8_000).to_string(),
            Timestamp(0).to_string(),
        ];
        assert_eq!(
            printed,
            ["2", "100m", "1536MiB", "2GiB", "1h30m", "0s", "-1.50", "0.008/h", "1970-01-01T00:00:00Z"]
        );
    }
}
