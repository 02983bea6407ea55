//! Amounts and ranges of the text form.

use crate::requirements::Bounds;
use crate::units::{self, GiB, InvalidAmount, MiB, Micros, MicrosPerHour, Millicores};

/// Something that is counted: with an amount just above and one just below, for `<` and `>`.
pub trait Amount: Copy + Ord + std::fmt::Display {
    fn read(text: &str) -> Result<Self, String>;
    fn above(self) -> Self;
    fn below(self) -> Self;
}

macro_rules! counted {
    ($($unit:ident by $read:path;)*) => {$(
        impl Amount for $unit {
            fn read(text: &str) -> Result<Self, String> {
                $read(text).map_err(|e: InvalidAmount| said(e, text))
            }
            fn above(self) -> Self {
                self + Self(1)
            }
            fn below(self) -> Self {
                self - Self(1)
            }
        }
    )*};
}

counted! {
    Millicores by units::parse_cpu;
    MiB by units::parse_memory;
    GiB by units::parse_disk;
    MicrosPerHour by units::parse_price;
    Micros by units::parse_micros;
}

macro_rules! whole {
    ($($number:ident)*) => {$(
        impl Amount for $number {
            fn read(text: &str) -> Result<Self, String> {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let number = digits.then(|| text.parse().ok()).flatten();
                number.ok_or_else(|| format!("{} is not a whole number up to {}", super::fault::quoted(text), Self::MAX))
            }
            fn above(self) -> Self {
                self.saturating_add(1)
            }
            fn below(self) -> Self {
                self.saturating_sub(1)
            }
        }
    )*};
}

whole!(u16 u32);

/// A share in thousandths, written in per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permille(pub u16);

impl Amount for Permille {
    fn read(text: &str) -> Result<Self, String> {
        units::parse_permille(text).map(Self).map_err(|e| said(e, text))
    }
    fn above(self) -> Self {
        Self(self.0.saturating_add(1))
    }
    fn below(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for Permille {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, tenth) => write!(f, "{whole}.{tenth}%"),
        }
    }
}

/// What is wrong with an amount; with the binary unit where a decimal one was written.
fn said(error: InvalidAmount, text: &str) -> String {
    let units = [("GB", "GiB"), ("MB", "MiB"), ("TB", "TiB"), ("G", "GiB"), ("M", "MiB"), ("T", "TiB")];
    let meant = units.into_iter().find_map(|(unit, binary)| {
        let meant = format!("{}{binary}", text.strip_suffix(unit)?);
        units::parse_memory(&meant).is_ok().then_some(meant)
    });
    match meant {
        Some(meant) if error.to_string().contains("GiB") => format!("{error}: did you mean {meant}?"),
        _ => error.to_string(),
    }
}

/// Reads `a..b`, `a..`, `..b` or `a`.
pub fn range<A: Amount>(text: &str) -> Result<Bounds<A>, String> {
    let Some((least, most)) = text.split_once("..") else {
        return A::read(text).map(|amount| Bounds::Between(amount, amount));
    };
    let end = |text: &str| if text.is_empty() { Ok(None) } else { A::read(text).map(Some) };
    let (least, most) = (end(least)?, end(most)?);
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        return Err(format!("{text} has no beginning: {least} is more than {most}"));
    }
    Bounds::new(least, most).ok_or_else(|| "a range needs an end, such as 2..8".into())
}

/// What both bounds allow; none if nothing is left.
pub fn both<A: Amount>(a: Option<Bounds<A>>, b: Bounds<A>) -> Option<Bounds<A>> {
    let Some(a) = a else { return Some(b) };
    let least = a.least().max(b.least());
    let most = [a.most(), b.most()].into_iter().flatten().min();
    let empty = least.zip(most).is_some_and(|(least, most)| least > most);
    if empty { None } else { Bounds::new(least, most) }
}
