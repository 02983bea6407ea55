//! What a client needs, as flags of `search`, `rent` and `run`.

use crate::output::say_if_terminal;
use crate::values;
use clap::Args;
use sublet_model::requirements::{Assumed, Requirements};
use sublet_model::units::{self, GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds};

/// Requirements by flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What you need")]
pub struct Needs {
    /// Processor time, guaranteed: cores such as 2, 0.5 or 500m [default: 1]
    #[arg(long, value_parser = units::parse_cpu, value_name = "CORES")]
    cpu: Option<Millicores>,
    /// Memory such as 512MiB or 8GiB [default: 512MiB]
    #[arg(long, value_parser = units::parse_memory, value_name = "SIZE")]
    memory: Option<MiB>,
    /// Scratch disk such as 10GiB [default: none]
    #[arg(long, value_parser = units::parse_disk, value_name = "SIZE")]
    disk: Option<GiB>,
    /// Hardware threads the partition shall see [default: as many as the cpu needs]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096), value_name = "N")]
    vcpus: Option<u16>,
    /// Operating system such as debian; the newest image of it that fits is booted
    #[arg(long, value_name = "NAME")]
    os: Option<String>,
    /// Image such as debian-12 or debian-12@12.11-1 (see `sublet image list`)
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Architecture such as x86_64
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// For how long at most, such as 2h30m; you pay for what you use [default: 1h]
    #[arg(long = "for", value_parser = values::seconds, value_name = "SPAN")]
    term: Option<Seconds>,
    /// Dearest price an hour, such as 0.05/h
    #[arg(long, value_parser = units::parse_price, value_name = "PRICE")]
    price_at_most: Option<MicrosPerHour>,
    /// Dearest price for the whole term, such as 0.30
    #[arg(long, value_parser = units::parse_micros, value_name = "AMOUNT")]
    max_total: Option<Micros>,
    /// A label the offer must have, such as region=eu; may be repeated
    #[arg(long = "label", value_parser = values::label, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// On this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Take a partition that is emulated too: slower, and no security boundary
    #[arg(long)]
    emulated: bool,
}

impl Needs {
    /// In the form the market takes. What was not said stays unsaid: the market shows what it assumed.
    pub fn requirements(&self) -> Requirements {
        Requirements {
            cpu: self.cpu.map(Into::into),
            memory: self.memory.map(Into::into),
            disk: self.disk.map(Into::into),
            vcpus: self.vcpus.map(Into::into),
            os: self.os.clone().map(Into::into),
            image: self.image.clone().map(Into::into),
            arch: self.arch.clone().map(Into::into),
            price_at_most: self.price_at_most,
            total_at_most: self.max_total,
            term_seconds: self.term,
            emulated: self.emulated.then_some(true),
            labels: self.labels.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect(),
            host: self.host.clone().map(Into::into),
            ..Requirements::default()
        }
    }
}

/// Shows the defaults that were filled in.
pub fn say_assumed(assumed: &[Assumed]) {
    if !assumed.is_empty() {
        let all: Vec<String> = assumed.iter().map(|a| format!("{}={}", a.field, a.value)).collect();
        say_if_terminal(format!("assumed: {}", all.join(", ")));
    }
}
