//! Values of the command line that are checked once, where they enter.

use std::time::Duration;
use sublet_model::identity::Sha256Digest;
use sublet_model::units::Seconds;

/// A span such as `2h30m`.
pub fn seconds(text: &str) -> Result<Seconds, String> {
    let span =
        humantime::parse_duration(text).map_err(|_| format!("{text:?} is not a span such as 90s, 30m or 2h30m"))?;
    if span.subsec_nanos() != 0 {
        return Err(format!("{text:?} is not in whole seconds"));
    }
    let seconds = Seconds(i64::try_from(span.as_secs()).unwrap_or(i64::MAX));
    if seconds > Seconds::MAX { Err("longer than ten years".into()) } else { Ok(seconds) }
}

/// A span to wait, such as `500ms`.
pub fn patience(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("{text:?} is not a span such as 30s or 2m"))
}

/// A size such as `512MiB` or `4GiB`, or 0; in bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size such as 512MiB or 4GiB");
    let (number, shift) = match (text.strip_suffix("GiB"), text.strip_suffix("MiB")) {
        (Some(number), _) => (number, 30),
        (_, Some(number)) => (number, 20),
        _ if text == "0" => return Ok(0),
        _ => return Err(wrong()),
    };
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `key=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("{text:?} is not a label such as region=eu")),
    }
}

/// A name for something new.
pub fn name(text: &str) -> Result<String, String> {
    sublet_model::account::check_name(text).map(|()| text.into())
}

/// The name or the id of something that is there: safe to stand in an address.
pub fn reference(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let good = (1..=100).contains(&text.len()) && text.chars().all(fine);
    if good { Ok(text.into()) } else { Err(format!("{text:?} is neither a name nor an id")) }
}

/// `debian-12` or `debian-12@12.11-1`: safe to stand in an address.
pub fn image(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._+~:@-".contains(c);
    let good = (1..=202).contains(&text.len()) && text.chars().all(fine) && !text.starts_with('.');
    if good { Ok(text.into()) } else { Err(format!("{text:?} is not an image such as debian-12@12.11-1")) }
}

/// `sha256:<hex>`, with or without the prefix.
pub fn fingerprint(text: &str) -> Result<Sha256Digest, String> {
    let bare = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    bare.parse().map_err(|_| format!("{text:?} is not a fingerprint: sha256: and 64 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("4GiB"), Ok(4 << 30));
        assert_eq!(bytes("512 MiB"), Ok(512 << 20));
        for bad in ["", "4", "4GB", "-1GiB", "99999999999999GiB", "GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_whole_seconds_within_reason() {
        assert_eq!(seconds("2h30m"), Ok(Seconds(9000)));
        assert_eq!(seconds("1h 1s"), Ok(Seconds(3601)));
        for bad in ["", "2", "-1h", "1500ms", "100y", "2 fortnights", "99999999999999999999s"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_could_leave_an_address_is_no_reference() {
        assert!(reference("lease_01kap").is_ok() && reference("box").is_ok());
        for bad in ["", "../x", "a/b", "a?b", "a b", "a%2f", "é", &"x".repeat(101)] {
            assert!(reference(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_and_fingerprints() {
        assert_eq!(label("region=eu"), Ok(("region".into(), "eu".into())));
        assert!(label("region").is_err() && label("=eu").is_err() && label("region=").is_err());
        let print = Sha256Digest::of(b"x");
        assert_eq!(fingerprint(&format!("sha256:{print}")), Ok(print));
        assert_eq!(fingerprint(&print.to_string().to_uppercase()), Ok(print));
        assert!(fingerprint("sha256:00").is_err());
    }
}
