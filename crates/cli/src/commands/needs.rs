//! What a client needs: a text and flags of `search`, `rent` and `run`, which say the same and add up.

use crate::failure::{Exit, Failure};
use crate::output::say_if_terminal;
use crate::values;
use clap::Args;
use sublet_model::requirements::{Assumed, LanguageError, OrderKey, Requirements};
use sublet_model::units::{self, GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds};

/// Requirements by text and flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What you need")]
pub struct Needs {
    /// In words, such as 'cpu>=4 memory=8GiB..32GiB os=debian price<=0.05/h region in [eu,us]'
    #[arg(value_name = "NEED")]
    text: Vec<String>,
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
    /// Spend no more than this in all, lengthened or not, such as 0.30
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
    /// So many partitions at once, all or none [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "N")]
    count: Option<u16>,
    /// The best first by this: total, price, reliability, age, cpu, memory, disk or speed; with
    /// commas, - before one turns it around [default: total]
    #[arg(long, value_delimiter = ',', value_name = "KEY", allow_hyphen_values = true)]
    order: Vec<OrderKey>,
}

impl Needs {
    /// In the form the market takes. What was not said stays unsaid: the market shows what it assumed.
    pub fn requirements(&self) -> Result<Requirements, Failure> {
        let text = self.text.join(" ");
        let said: Requirements = text.parse().map_err(|error| wrong(&text, &error, "can't read what you need"))?;
        let flags = self.flags();
        if text.trim().is_empty() || flags == Requirements::default() {
            return Ok(if flags == Requirements::default() { said } else { flags });
        }
        // Flags are clauses too: what contradicts the text is found by the same rule.
        let both = format!("{text} {flags}");
        both.parse().map_err(|error| wrong(&both, &error, "the flags contradict what stands before"))
    }

    fn flags(&self) -> Requirements {
        Requirements {
            cpu: self.cpu.map(Into::into),
            memory: self.memory.map(Into::into),
            disk: self.disk.map(Into::into),
            vcpus: self.vcpus.map(Into::into),
            os: self.os.clone().map(Into::into),
            image: self.image.clone().map(Into::into),
            arch: self.arch.clone().map(Into::into),
            host: self.host.clone().map(Into::into),
            price_at_most: self.price_at_most,
            total_at_most: self.max_total,
            term_seconds: self.term,
            emulated: self.emulated.then_some(true),
            labels: self.labels.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect(),
            count: self.count,
            order: self.order.clone(),
            ..Requirements::default()
        }
    }
}

/// The text with a caret under what is wrong in it.
fn wrong(text: &str, error: &LanguageError, attempt: &str) -> Failure {
    let failure = Failure::new(Exit::Usage, format!("{attempt}: {error}"));
    failure
        .showing(error.pointed_out(text))
        .advise("`sublet search --help` shows the flags, the guide to requirements the words")
}

/// Shows the defaults that were filled in.
pub fn say_assumed(assumed: &[Assumed]) {
    if !assumed.is_empty() {
        let all: Vec<&str> = assumed.iter().map(|a| a.clause.as_str()).collect();
        say_if_terminal(format!("assumed: {}", all.join(" ")));
    }
}
