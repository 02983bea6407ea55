//! What an owner writes about amounts: `1cpu,2GiB`, `small=cpu:0.5..2,memory:512MiB`,
//! `cpu=0.008,memory=0.001`.

use sublet_host::division::Asked;
use sublet_model::billing::PriceList;
use sublet_model::offer::Audience;
use sublet_model::partition::Profile;
use sublet_model::resources::Resources;
use sublet_model::units::{
    GiB, MiB, Millicores, Seconds, parse_cpu, parse_disk, parse_memory, parse_micros, parse_price,
};

/// Of a disk of which nobody said how much is kept: at least so much, for images, logs and the owner.
const LEAST_DISK_KEPT: GiB = GiB(10);

/// What the owner keeps, as far as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    cpu: Millicores,
    memory: MiB,
    disk: Option<GiB>,
}

impl Keep {
    /// Of what there is. A tenth of a free disk is kept where nothing was said: lent to its last
    /// byte, it would stop the owner's computer.
    pub fn of(self, has: Resources) -> Resources {
        let disk = self.disk.unwrap_or_else(|| GiB(has.disk.0 / 10).max(LEAST_DISK_KEPT).min(has.disk));
        Resources { cpu: self.cpu, memory: self.memory, disk }
    }
}

/// What the owner keeps: `1cpu,2GiB`, and disk as `disk:20GiB`.
pub fn keep(text: &str) -> Result<Keep, String> {
    let mut keep = Resources::ZERO;
    let mut says_disk = false;
    for part in text.split(',').map(str::trim) {
        match part.split_once(':') {
            Some((dimension, amount)) => {
                set(&mut keep, dimension, amount)?;
                says_disk |= dimension == "disk";
            }
            None if part.ends_with("iB") => keep.memory = parse_memory(part).map_err(|e| e.to_string())?,
            None => {
                keep.cpu = parse_cpu(part)
                    .map_err(|_| format!("{part:?} is neither cpu such as 1cpu nor memory such as 2GiB"))?
            }
        }
    }
    Ok(Keep { cpu: keep.cpu, memory: keep.memory, disk: says_disk.then_some(keep.disk) })
}

fn set(to: &mut Resources, dimension: &str, amount: &str) -> Result<(), String> {
    match dimension {
        "cpu" => to.cpu = parse_cpu(amount).map_err(|e| e.to_string())?,
        "memory" => to.memory = parse_memory(amount).map_err(|e| e.to_string())?,
        "disk" => to.disk = parse_disk(amount).map_err(|e| e.to_string())?,
        other => return Err(format!("{other:?} is not cpu, memory or disk")),
    }
    Ok(())
}

/// One partition: `name=cpu:1,memory:512MiB` is of one size, `cpu:0.5..2` may be shaped between
/// these, `cpu:0.5..1..2` also says to what it returns when idle.
pub fn partition(text: &str) -> Result<Asked, String> {
    let (name, amounts) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=cpu:…,memory:…"))?;
    let mut profile = Profile { min: Resources::ZERO, desired: Resources::ZERO, max: Resources::ZERO };
    for part in amounts.split(',').map(str::trim) {
        let (dimension, range) = part.split_once(':').ok_or_else(|| format!("{part:?} is not such as cpu:1"))?;
        let bounds: Vec<&str> = range.split("..").collect();
        let (min, desired, max) = match bounds[..] {
            [one] => (one, one, one),
            [min, max] => (min, max, max),
            [min, desired, max] => (min, desired, max),
            _ => return Err(format!("{range:?} is not MIN..MAX or MIN..DESIRED..MAX")),
        };
        set(&mut profile.min, dimension, min)?;
        set(&mut profile.desired, dimension, desired)?;
        set(&mut profile.max, dimension, max)?;
    }
    profile.check().map_err(|e| e.to_string())?;
    Ok(Asked { name: name.into(), profile })
}

/// A partition of the owner's own, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAsked {
    /// What to call it; as its operating system, if absent.
    pub name: Option<String>,
    /// Which operating system or image.
    pub os: String,
    /// How much it has.
    pub size: Resources,
}

/// `debian:2cpu,4GiB`, `mine=debian-12:2cpu,4GiB`.
pub fn own(text: &str) -> Result<OwnAsked, String> {
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) => (Some(crate::values::name(name)?), rest),
        None => (None, text),
    };
    let (os, amounts) = rest.split_once(':').ok_or_else(|| format!("{text:?} is not such as debian:2cpu,4GiB"))?;
    let Keep { cpu, memory, disk } = keep(amounts)?;
    if cpu == Millicores(0) || memory == MiB(0) {
        return Err(format!("{amounts:?} does not say both cpu and memory, such as 2cpu,4GiB"));
    }
    if disk.is_some() {
        return Err("a partition of your own has no disk that outlives its restarts yet: leave disk: out".into());
    }
    let size = Resources { cpu, memory, disk: GiB(0) };
    Ok(OwnAsked { name, os: crate::values::image(os)?, size })
}

/// A price list: `cpu=0.008,memory=0.001,disk=0.0001,flat=0.01,setup=0.0001`. What is not named is free.
pub fn prices(text: &str) -> Result<PriceList, String> {
    let mut prices = PriceList::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (what, amount) = part.split_once('=').ok_or_else(|| format!("{part:?} is not such as cpu=0.008"))?;
        let hourly = || parse_price(amount).map_err(|e| format!("{what}: {e}"));
        match what {
            "cpu" => prices.cpu = hourly()?,
            "memory" => prices.memory = hourly()?,
            "disk" => prices.disk = hourly()?,
            "flat" => prices.flat = hourly()?,
            "setup" => prices.setup = parse_micros(amount).map_err(|e| format!("setup: {e}"))?,
            other => return Err(format!("{other:?} has no price: cpu, memory, disk, flat and setup have")),
        }
    }
    Ok(prices)
}

/// Shortest and longest term: `1m..7d`.
pub fn terms(text: &str) -> Result<(Seconds, Seconds), String> {
    let (shortest, longest) = text.split_once("..").ok_or_else(|| format!("{text:?} is not such as 1m..7d"))?;
    Ok((crate::values::seconds(shortest)?, crate::values::seconds(longest)?))
}

/// `everyone`, `own`, or ids of accounts with commas.
pub fn audience(text: &str) -> Result<Audience, String> {
    match text {
        "everyone" => Ok(Audience::Everyone),
        "own" => Ok(Audience::Own),
        ids => {
            let ids = ids.split(',').map(|id| id.trim().parse()).collect::<Result<_, _>>();
            ids.map(Audience::Accounts).map_err(|e| format!("neither everyone nor own, and {e}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::units::{Micros, MicrosPerHour};

    #[test]
    fn what_is_kept() {
        let size = |cpu, memory, disk| Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(disk) };
        let kept = |text, free| keep(text).map(|keep| keep.of(size(4000, 8192, free)));
        assert_eq!(kept("0.5cpu, 512MiB, disk:20GiB", 500), Ok(size(500, 512, 20)));
        assert_eq!(kept("1cpu,2GiB", 500), Ok(size(1000, 2048, 50)), "a tenth of the disk");
        assert_eq!(kept("1cpu,2GiB", 60), Ok(size(1000, 2048, 10)), "but no less than 10 GiB");
        assert_eq!(kept("500m", 7), Ok(size(500, 0, 7)), "and no more than there is");
        assert_eq!(kept("500m,disk:0GiB", 500), Ok(size(500, 0, 0)), "unless nothing is kept");
        for bad in ["", "2GB", "cpu:x", "ram:2GiB", "1cpu;2GiB", "-1cpu"] {
            assert!(keep(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn partitions_are_fixed_or_elastic() {
        let fixed = partition("small=cpu:0.7,memory:512MiB").unwrap();
        assert_eq!(fixed.name, "small");
        assert_eq!(fixed.profile.min, fixed.profile.max);
        let elastic = partition("big=cpu:0.5..1..2,memory:256MiB..4GiB,disk:0GiB..10GiB").unwrap().profile;
        assert_eq!([elastic.min.cpu, elastic.desired.cpu, elastic.max.cpu], [500, 1000, 2000].map(Millicores));
        assert_eq!([elastic.min.memory, elastic.desired.memory, elastic.max.memory], [256, 4096, 4096].map(MiB));
        for bad in ["small", "small=", "small=cpu:1", "s=cpu:2..1,memory:1GiB", "s=cpu:1..2..3..4,memory:1GiB", "s=x:1"]
        {
            assert!(partition(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_the_owners_own() {
        let size = |cpu, memory| Resources { cpu: Millicores(cpu), memory: MiB(memory), disk: GiB(0) };
        let of = |text| own(text).map(|own| (own.name, own.os, own.size));
        assert_eq!(of("debian:2cpu,4GiB"), Ok((None, "debian".into(), size(2000, 4096))));
        let named = (Some("mine".into()), "debian-12@12.11-1".into(), size(500, 512));
        assert_eq!(of("mine=debian-12@12.11-1:0.5cpu,512MiB"), Ok(named));
        assert!(own("debian:1cpu,1GiB,disk:20GiB").unwrap_err().contains("disk"));
        for bad in ["", "debian", "debian:", "debian:2cpu", "debian:4GiB", "=debian:1cpu,1GiB", "A=debian:1cpu,1GiB"] {
            assert!(own(bad).is_err(), "{bad:?}");
        }
        assert!(own("a b:1cpu,1GiB").is_err() && own("mine=:1cpu,1GiB").is_err() && own("x:0cpu,1GiB").is_err());
    }

    #[test]
    fn prices_name_their_dimension() {
        let list = prices("cpu=0.008,memory=0.001/h,setup=0.0001").unwrap();
        assert_eq!((list.cpu, list.memory, list.setup), (MicrosPerHour(8000), MicrosPerHour(1000), Micros(100)));
        assert_eq!(prices(""), Ok(PriceList::default()), "nothing is legal");
        for bad in ["0.008", "cpu=-1", "ram=1", "cpu=0.0000001", "cpu=1e3"] {
            assert!(prices(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn terms_and_audiences() {
        assert_eq!(terms("1m..7d"), Ok((Seconds(60), Seconds(7 * 86_400))));
        assert!(terms("1m").is_err() && terms("x..y").is_err());
        assert_eq!(audience("own"), Ok(Audience::Own));
        assert!(audience("physics").is_err());
    }
}
