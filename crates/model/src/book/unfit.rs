//! The clauses of the rule of fit, by name: which one a partition breaks, and from where it came.

use crate::requirements::{Requirements, Resolved, label};
use crate::resources::Dimension;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A clause of the rule of fit that a partition breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unfit {
    /// Another host was asked for.
    Host,
    /// Another architecture.
    Arch,
    /// Not lent to this account.
    Audience,
    /// Unconfined: its owner's own account only.
    Unconfined,
    /// Emulated, and the client did not opt in.
    Emulated,
    /// Emulated, and the owner did not opt in.
    EmulatedToStrangers,
    /// Run by something else than was asked for.
    Tier,
    /// The term is too short or too long.
    Term,
    /// Closed now, or it closes before the term is over.
    Window,
    /// This one of the labels asked for, counted in the order of their keys from 0.
    Label(u8),
    /// This one of the traits asked for, those that must be first, counted from 0.
    Trait(u8),
    /// Another processor.
    CpuModel,
    /// The host is too slow.
    Speed,
    /// The host failed too often.
    Reliability,
    /// The host has too few hardware threads.
    Vcpus,
    /// The guest would see more hardware threads than were wanted.
    TooManyVcpus,
    /// In use, or its host is not heard of.
    Busy,
    /// Too small in this dimension, whatever is altered.
    TooSmall(Dimension),
    /// Its least is more than was wanted in this dimension.
    TooLarge(Dimension),
    /// No image of the operating system asked for is allowed there.
    Os,
    /// The image asked for is not allowed there.
    Image,
    /// No image that was asked for comes up in what would be allocated.
    Boots,
    /// Too dear for an hour.
    Price,
    /// Too dear in all.
    Total,
}

const BEFORE_NAMED: [Unfit; 9] = [
    Unfit::Host,
    Unfit::Arch,
    Unfit::Audience,
    Unfit::Unconfined,
    Unfit::Emulated,
    Unfit::EmulatedToStrangers,
    Unfit::Tier,
    Unfit::Term,
    Unfit::Window,
];

const AFTER_NAMED: [Unfit; 17] = [
    Unfit::CpuModel,
    Unfit::Speed,
    Unfit::Reliability,
    Unfit::Vcpus,
    Unfit::TooManyVcpus,
    Unfit::Busy,
    Unfit::TooSmall(Dimension::Cpu),
    Unfit::TooSmall(Dimension::Memory),
    Unfit::TooSmall(Dimension::Disk),
    Unfit::TooLarge(Dimension::Cpu),
    Unfit::TooLarge(Dimension::Memory),
    Unfit::TooLarge(Dimension::Disk),
    Unfit::Os,
    Unfit::Image,
    Unfit::Boots,
    Unfit::Price,
    Unfit::Total,
];

impl Unfit {
    /// Every clause of these requirements, in the fixed order.
    pub fn all(asked: &Requirements) -> impl Iterator<Item = Self> + use<> {
        let labels = asked.labels.len().min(Requirements::MOST_NAMED) as u8;
        let traits = (asked.traits.len() + asked.without_traits.len()).min(Requirements::MOST_NAMED) as u8;
        let named = (0..labels).map(Self::Label).chain((0..traits).map(Self::Trait));
        BEFORE_NAMED.into_iter().chain(named).chain(AFTER_NAMED)
    }

    /// The clauses that something could break, the cheapest to look at first: where they all hold,
    /// all of the clauses do.
    pub(crate) fn quick(needs: &Resolved) -> Vec<Self> {
        let mut quick: Vec<Self> = Self::all(&needs.asked).filter(|clause| clause.can_be_broken(needs)).collect();
        quick.sort_by_key(|clause| clause.cost());
        quick
    }

    /// Whether these requirements leave anything that could break it.
    fn can_be_broken(self, needs: &Resolved) -> bool {
        let asked = &needs.asked;
        match self {
            Self::Host => asked.host.is_some(),
            Self::Arch => asked.arch.is_some(),
            Self::Emulated => !needs.emulated,
            Self::Tier => asked.tier.is_some(),
            Self::CpuModel => asked.cpu_model.is_some(),
            Self::Speed => asked.speed_at_least.is_some(),
            Self::Reliability => asked.reliability_permille_at_least.is_some(),
            Self::TooManyVcpus => asked.vcpus.is_some_and(|vcpus| vcpus.most().is_some()),
            Self::TooLarge(Dimension::Cpu) => asked.cpu.is_some_and(|cpu| cpu.most().is_some()),
            Self::TooLarge(Dimension::Memory) => asked.memory.is_some_and(|memory| memory.most().is_some()),
            Self::TooLarge(Dimension::Disk) => asked.disk.is_some_and(|disk| disk.most().is_some()),
            // Where an image comes up, it is of the system asked for, and is the one asked for.
            Self::Os | Self::Image => false,
            Self::Price => asked.price_at_most.is_some(),
            Self::Total => asked.total_at_most.is_some(),
            _ => true,
        }
    }

    /// About how long it takes to look: numbers, then words, then what must be searched or computed.
    fn cost(self) -> u8 {
        match self {
            Self::Busy => 0,
            Self::TooSmall(_) | Self::TooLarge(_) | Self::Vcpus | Self::TooManyVcpus => 1,
            Self::Arch | Self::Host => 3,
            Self::Label(_) => 4,
            Self::Price | Self::Total | Self::Trait(_) | Self::Window => 5,
            Self::CpuModel | Self::Boots | Self::Os | Self::Image => 6,
            _ => 2,
        }
    }

    /// The trait at a position, and whether it must be there.
    pub fn trait_at(asked: &Requirements, at: u8) -> Option<(&str, bool)> {
        let wanted = asked.traits.iter().map(|name| (name.as_str(), true));
        wanted.chain(asked.without_traits.iter().map(|name| (name.as_str(), false))).nth(at.into())
    }

    /// The property of the text form that it came from; for what the lender's side asks, its name.
    pub fn clause(self, asked: &Requirements) -> String {
        match self {
            Self::Host => "host".into(),
            Self::Arch => "arch".into(),
            Self::Audience => "audience".into(),
            Self::Unconfined => "confined".into(),
            Self::Emulated => "emulated".into(),
            Self::EmulatedToStrangers => "emulated_to_strangers".into(),
            Self::Tier => "tier".into(),
            Self::Term => "term".into(),
            Self::Window => "windows".into(),
            Self::Label(at) => asked.labels.keys().nth(at.into()).map(|key| label(key)).unwrap_or_default(),
            Self::Trait(at) => Self::trait_at(asked, at).map(|(name, _)| name.into()).unwrap_or_default(),
            Self::CpuModel => "cpu_model".into(),
            Self::Speed => "speed".into(),
            Self::Reliability => "reliability".into(),
            Self::Vcpus | Self::TooManyVcpus => "vcpus".into(),
            Self::Busy => "free".into(),
            Self::TooSmall(dimension) | Self::TooLarge(dimension) => dimension.to_string(),
            Self::Os => "os".into(),
            Self::Image => "image".into(),
            Self::Boots => "boots".into(),
            Self::Price => "price".into(),
            Self::Total => "total".into(),
        }
    }

    /// In words, for the person who searched.
    pub fn explanation(self, asked: &Requirements) -> String {
        match self {
            Self::Host => "on another host than asked for".into(),
            Self::Arch => "another architecture".into(),
            Self::Audience => "not lent to this account".into(),
            Self::Unconfined => "runs unconfined, so it is lent only to its owner's own account".into(),
            Self::Emulated => "emulated, which is left out unless asked for (emulated=yes)".into(),
            Self::EmulatedToStrangers => "emulated, and its owner does not lend it to strangers".into(),
            Self::Tier => "run by something else than the tier asked for".into(),
            Self::Term => "the term is shorter or longer than the offer allows".into(),
            Self::Window => "closed now, or it closes before the term is over".into(),
            Self::Label(_) => format!("{} is not what was asked for", self.clause(asked)),
            Self::Trait(at) => match Self::trait_at(asked, at) {
                Some((name, false)) => format!("has {name}, which was ruled out"),
                _ => format!("does not have {}", self.clause(asked)),
            },
            Self::CpuModel => "another processor than asked for".into(),
            Self::Speed => "slower than asked for".into(),
            Self::Reliability => "less reliable than asked for".into(),
            Self::Vcpus => "the host has fewer hardware threads than the vcpus asked".into(),
            Self::TooManyVcpus => "can't show the guest so few vcpus".into(),
            Self::Busy => "in use, or its host is not heard of at the moment".into(),
            Self::TooSmall(dimension) => format!("can't become that large in {dimension}"),
            Self::TooLarge(dimension) => format!("can't become that small in {dimension}"),
            Self::Os => "no image of the operating system asked for is allowed there".into(),
            Self::Image => "the image asked for is not allowed there".into(),
            Self::Boots => "no image that was asked for comes up in what would be allocated".into(),
            Self::Price => "dearer for an hour than the ceiling".into(),
            Self::Total => "dearer for the whole term than the ceiling".into(),
        }
    }

    /// A number of its own below 128, rising in the fixed order.
    fn bit(self) -> u32 {
        let labels = BEFORE_NAMED.len() as u32;
        let traits = labels + Requirements::MOST_NAMED as u32;
        let after = traits + Requirements::MOST_NAMED as u32;
        let at = |list: &[Self]| list.iter().position(|clause| *clause == self).unwrap_or(0) as u32;
        match self {
            Self::Label(at) => labels + u32::from(at),
            Self::Trait(at) => traits + u32::from(at),
            _ if self < Self::Label(0) => at(&BEFORE_NAMED),
            _ => after + at(&AFTER_NAMED),
        }
    }
}

/// Clauses that one partition breaks, in the fixed order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Broken(u128);

impl Broken {
    /// Whether none is broken: it fits.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// How many are broken.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether this one is.
    pub fn has(self, clause: Unfit) -> bool {
        self.0 & (1 << clause.bit()) != 0
    }

    /// Whether this one is, and no other: it alone removes the partition.
    pub fn is_only(self, clause: Unfit) -> bool {
        self.0 == 1 << clause.bit()
    }

    /// The same and this one.
    #[must_use]
    pub fn with(self, clause: Unfit) -> Self {
        Self(self.0 | 1 << clause.bit())
    }
}

impl FromIterator<Unfit> for Broken {
    fn from_iter<I: IntoIterator<Item = Unfit>>(clauses: I) -> Self {
        clauses.into_iter().fold(Self::default(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::Choice;

    #[test]
    fn every_clause_has_its_own_place_in_the_fixed_order() {
        let asked = Requirements {
            labels: (0..32).map(|n| (format!("k{n:02}"), Choice::from("x"))).collect(),
            traits: (0..20).map(|n| format!("t{n}")).collect(),
            without_traits: (0..12).map(|n| format!("w{n}")).collect(),
            ..Requirements::default()
        };
        let all: Vec<Unfit> = Unfit::all(&asked).collect();
        assert_eq!(all.len(), BEFORE_NAMED.len() + 64 + AFTER_NAMED.len());
        assert!(all.is_sorted_by(|a, b| a.bit() < b.bit() && a < b) && all.iter().all(|c| c.bit() < 128));
        for clause in &all {
            let only: Broken = [*clause].into_iter().collect();
            assert!(only.has(*clause) && only.is_only(*clause) && only.count() == 1);
            assert_eq!(all.iter().filter(|other| only.has(**other)).count(), 1, "{clause:?}");
            assert!(!clause.clause(&asked).is_empty() && !clause.explanation(&asked).is_empty());
        }
    }

    #[test]
    fn named_clauses_say_their_name() {
        let asked = Requirements {
            labels: ["rack", "region"].map(|key| (key.to_owned(), Choice::from("x"))).into(),
            traits: ["avx2".to_owned()].into(),
            without_traits: ["sgx".to_owned()].into(),
            ..Requirements::default()
        };
        assert_eq!([0, 1].map(|at| Unfit::Label(at).clause(&asked)), ["label.rack", "region"]);
        assert_eq!(Unfit::Trait(0).explanation(&asked), "does not have avx2");
        assert_eq!(Unfit::Trait(1).explanation(&asked), "has sgx, which was ruled out");
    }
}
