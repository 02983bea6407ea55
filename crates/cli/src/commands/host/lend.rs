//! `sublet host lend`

use super::own::print_division;
use super::{Monitor, State, measure, spec};
use crate::output::Format;
use crate::values;
use anyhow::Context;
use clap::Args;
use sublet_host::division::{Asked, Lending, evenly, lend, own_in_all};
use sublet_model::billing::PriceList;
use sublet_model::offer::{Audience, Conditions, Window, Windows};
use sublet_model::units::{Micros, Seconds, parse_micros};

/// Divide this computer, and lend partitions of it
///
/// Said again, it replaces what was said before; partitions that a lease holds stay as they are, and so
/// do those of your own (`sublet host divide`).
///
/// Say how much you keep, and either name partitions or how many there shall be: then each may
/// shrink while idle and grow to what is lent, so that requests fit to measure.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet host lend --keep 1cpu,2GiB --price cpu=0.008,memory=0.001\n  sublet host lend --keep 1cpu,2GiB --partition small=cpu:0.5,memory:512MiB --partition big=cpu:0.5..3,memory:512MiB..8GiB"
)]
pub struct Lend {
    /// What stays yours, always; of the disk a tenth and at least 10 GiB, unless disk:20GiB is said
    #[arg(long, value_parser = spec::keep, value_name = "1cpu,2GiB")]
    keep: spec::Keep,
    /// A partition to lend: of one size, or with bounds such as cpu:0.5..2; may be repeated
    #[arg(long = "partition", value_parser = spec::partition, value_name = "NAME=cpu:…,memory:…")]
    named: Vec<Asked>,
    /// So many elastic partitions, instead of naming them [default: 2]
    #[arg(long, value_name = "N", conflicts_with = "named")]
    partitions: Option<usize>,
    /// Prices: cpu (a core), memory and disk (a GiB) and flat are for an hour, setup is once; what
    /// is not named is free
    #[arg(long, value_parser = spec::prices, value_name = "cpu=0.008,…", default_value = "")]
    price: PriceList,
    /// The least time that is charged
    #[arg(long, value_parser = values::seconds, value_name = "SPAN", default_value = "0s")]
    shortest_charge: Seconds,
    /// What you give back to whoever you evict, such as 0.10; at most what you earned by it
    #[arg(long, value_parser = parse_micros, value_name = "AMOUNT", default_value = "0")]
    eviction_credit: Micros,
    /// Who may rent: everyone, own, or ids of accounts with commas
    #[arg(long, value_parser = spec::audience, value_name = "WHO", default_value = "everyone")]
    audience: Audience,
    /// Lend to strangers although partitions are emulated here: no security boundary
    #[arg(long)]
    emulated: bool,
    /// A label for those who search, such as region=eu; may be repeated
    #[arg(long = "label", value_parser = values::label, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// Shortest and longest term
    #[arg(long, value_parser = spec::terms, value_name = "SPAN..SPAN", default_value = "1s..7d")]
    term: (Seconds, Seconds),
    /// Lend only then, such as 'weekdays 19:00-07:00' or 'sat,sun 00:00-24:00'; a whole term must
    /// fit; may be repeated [default: at all times]
    #[arg(long, value_name = "DAYS HH:MM-HH:MM")]
    when: Vec<Window>,
    /// On whose wall clock [default: this computer's]
    #[arg(long, value_name = "ZONE", requires = "when")]
    time_zone: Option<String>,
    /// Boot only this image, such as debian-12; may be repeated [default: any of the catalogue]
    #[arg(long = "image", value_parser = values::image, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    monitor: Monitor,
}

impl Lend {
    /// Divides, and shows how.
    pub async fn run(self, format: Format) -> anyhow::Result<()> {
        let store = self.state.joined()?;
        let inventory = measure(store.state().to_owned(), &self.monitor).await?;
        let (conditions, keep) = (self.conditions()?, self.keep.of(inventory.resources()));
        let partitions = match self.named.is_empty() {
            true => evenly(&inventory, keep + own_in_all(&store)?, self.partitions.unwrap_or(2))?,
            false => self.named,
        };
        let lending = Lending { keep, conditions, partitions };
        let division = lend(&store, &inventory, &lending).context("failed to lend")?;
        print_division(&division, &store, format)
    }

    fn conditions(&self) -> anyhow::Result<Conditions> {
        Ok(Conditions {
            prices: PriceList { shortest_charge_seconds: self.shortest_charge, ..self.price },
            shortest_term_seconds: self.term.0,
            longest_term_seconds: self.term.1,
            reclaim_notice_seconds: None,
            eviction_credit: self.eviction_credit,
            audience: self.audience.clone(),
            images: self.images.clone(),
            emulated_to_strangers: self.emulated,
            labels: self.labels.iter().cloned().collect(),
            windows: self.windows()?,
        })
    }

    fn windows(&self) -> anyhow::Result<Option<Windows>> {
        if self.when.is_empty() {
            return Ok(None);
        }
        let ours = || jiff::tz::TimeZone::try_system().ok().and_then(|zone| zone.iana_name().map(str::to_owned));
        let unknown = || anyhow::anyhow!("the time zone of this computer is not known: say it with --time-zone");
        let time_zone = self.time_zone.clone().or_else(ours).ok_or_else(unknown)?;
        let windows = Windows { time_zone, weekly: self.when.clone() };
        windows.check().map_err(anyhow::Error::msg).context("failed to lend at these times")?;
        Ok(Some(windows))
    }
}
