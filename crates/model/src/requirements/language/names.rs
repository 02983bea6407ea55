//! The names of the language: properties, known traits, and which of them somebody meant.

/// A property of the text form. Labels other than `region` are written `label.name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Property {
    Cpu,
    Memory,
    Disk,
    Vcpus,
    Os,
    Image,
    Arch,
    CpuModel,
    Host,
    Region,
    Label,
    Trait,
    Tier,
    Emulated,
    Speed,
    Reliability,
    Price,
    Total,
    Term,
    Count,
    Order,
}

/// Each property with its name and with a clause that says something of it.
pub const PROPERTIES: [(Property, &str, &str); 21] = [
    (Property::Cpu, "cpu", "cpu>=4"),
    (Property::Memory, "memory", "memory>=4GiB"),
    (Property::Disk, "disk", "disk>=20GiB"),
    (Property::Vcpus, "vcpus", "vcpus=4"),
    (Property::Os, "os", "os=debian"),
    (Property::Image, "image", "image=debian-12"),
    (Property::Arch, "arch", "arch=x86_64"),
    (Property::CpuModel, "cpu_model", "cpu_model=epyc"),
    (Property::Host, "host", "host!=alpha"),
    (Property::Region, "region", "region in [eu,us]"),
    (Property::Label, "label", "label.rack=7"),
    (Property::Trait, "trait", "trait=avx2"),
    (Property::Tier, "tier", "tier=kvm"),
    (Property::Emulated, "emulated", "emulated=yes"),
    (Property::Speed, "speed", "speed>=100000"),
    (Property::Reliability, "reliability", "reliability>=99%"),
    (Property::Price, "price", "price<=0.05/h"),
    (Property::Total, "total", "total<=0.30"),
    (Property::Term, "term", "term=2h30m"),
    (Property::Count, "count", "count=2"),
    (Property::Order, "order", "order=price"),
];

/// What people call things elsewhere.
const ELSEWHERE: [(&str, &str); 31] = [
    ("ram", "memory"),
    ("mem", "memory"),
    ("core", "cpu"),
    ("cores", "cpu"),
    ("cpus", "cpu"),
    ("processor", "cpu"),
    ("threads", "vcpus"),
    ("cpu_name", "cpu_model"),
    ("storage", "disk"),
    ("ssd", "disk"),
    ("space", "disk"),
    ("cost", "price"),
    ("dph", "price"),
    ("budget", "total"),
    ("max_total", "total"),
    ("duration", "term"),
    ("for", "term"),
    ("time", "term"),
    ("num", "count"),
    ("number", "count"),
    ("partitions", "count"),
    ("sort", "order"),
    ("order_by", "order"),
    ("location", "region"),
    ("geolocation", "region"),
    ("zone", "label.zone"),
    ("labels", "label"),
    ("flag", "trait"),
    ("distro", "os"),
    ("system", "os"),
    ("machine", "host"),
];

impl Property {
    /// The property of this name.
    pub fn named(name: &str) -> Option<Self> {
        PROPERTIES.into_iter().find(|(_, word, _)| *word == name).map(|(property, ..)| property)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        PROPERTIES[self as usize].1
    }

    /// A clause that says something of it.
    pub fn example(self) -> &'static str {
        PROPERTIES[self as usize].2
    }
}

/// Whether a trait may stand for itself. Others, which a newer processor may have, are written
/// `trait=name`, so that a slip of the pen is not taken for one.
pub fn is_known_trait(name: &str) -> bool {
    TRAITS.contains(&name)
}

/// The property that was probably meant.
pub fn nearest_property(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let elsewhere = ELSEWHERE.into_iter().find(|(word, _)| *word == lower).map(|(_, ours)| ours.to_owned());
    elsewhere.or_else(|| nearest(&lower, PROPERTIES.into_iter().map(|(_, word, _)| word)))
}

/// The property or trait that was probably meant by a word that stands alone.
pub fn nearest_word(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let words = PROPERTIES.into_iter().map(|(_, word, _)| word).chain(TRAITS).chain(["kvm"]);
    nearest(&lower, words).or_else(|| nearest_property(name))
}

/// The nearest of some words, if it is near enough to be a slip.
pub fn nearest<'w>(name: &str, words: impl IntoIterator<Item = &'w str>) -> Option<String> {
    let length = name.chars().count();
    if !(2..=64).contains(&length) {
        return None;
    }
    let near = words.into_iter().map(|word| (strsim::damerau_levenshtein(name, word), word));
    let best = near.filter(|(distance, word)| *distance <= (length.max(word.len()) / 3).clamp(1, 3)).min();
    best.map(|(_, word)| word.to_owned())
}

/// Traits that stand for themselves: whether partitions run confined, and the flags of processors
/// that people ask for, as Linux names them.
const TRAITS: [&str; 76] = [
    "confined",
    "3dnow",
    "abm",
    "adx",
    "aes",
    "amx_bf16",
    "amx_fp16",
    "amx_int8",
    "amx_tile",
    "asimd",
    "asimddp",
    "asimdhp",
    "atomics",
    "avx",
    "avx2",
    "avx512_bf16",
    "avx512_bitalg",
    "avx512_fp16",
    "avx512_vbmi2",
    "avx512_vnni",
    "avx512_vpopcntdq",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512f",
    "avx512ifma",
    "avx512vbmi",
    "avx512vl",
    "avx_vnni",
    "bf16",
    "bmi1",
    "bmi2",
    "clwb",
    "cx16",
    "erms",
    "f16c",
    "fma",
    "fma4",
    "fpu",
    "fsgsbase",
    "fsrm",
    "gfni",
    "ht",
    "hypervisor",
    "i8mm",
    "invpcid",
    "lm",
    "mmx",
    "movbe",
    "nx",
    "paca",
    "pcid",
    "pclmulqdq",
    "pdpe1gb",
    "pmull",
    "popcnt",
    "rdrand",
    "rdseed",
    "rtm",
    "sev",
    "sev_es",
    "sev_snp",
    "sgx",
    "sha1",
    "sha2",
    "sha_ni",
    "sme",
    "sse",
    "sse2",
    "sse4_1",
    "sse4_2",
    "ssse3",
    "sve",
    "sve2",
    "svm",
    "vmx",
];
