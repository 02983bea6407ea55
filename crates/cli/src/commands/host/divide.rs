//! `sublet host divide`

use super::own::print_division;
use super::{Monitor, State, measure, spec};
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::output::{Format, say_if_terminal};
use anyhow::Context;
use clap::Args;
use spec::OwnAsked;
use sublet_host::division::{NewOwn, divide};
use sublet_model::identity::Signed;
use sublet_model::image::ImageManifest;
use sublet_wire::api::ImageView;
use sublet_wire::client::Client;

/// Make partitions of your own on this computer, so that your work runs apart from clients' too
///
/// Each boots an operating system of the catalogue and runs until you stop it: no lease, no bill. The
/// market is asked for the image now, and for nothing afterwards: it starts and is entered while the
/// market is away, too. What it has is not lent; what is lent stays as it is.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet host divide --own debian:2cpu,4GiB\n  sublet host divide --own build=debian-12:2cpu,4GiB --own try=linux-minimal:0.5cpu,256MiB"
)]
pub struct Divide {
    /// A partition of your own: what to call it [default: as its system], what boots in it, how much it
    /// has; may be repeated
    #[arg(long = "own", value_parser = spec::own, value_name = "[NAME=]OS:2cpu,4GiB", required = true)]
    own: Vec<OwnAsked>,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    monitor: Monitor,
}

impl Divide {
    /// Divides, and shows how.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let store = self.state.joined()?;
        let inventory = measure(store.state().to_owned(), &self.monitor).await?;
        let catalogue = market.images().await.context("failed to ask the market for its images")?;
        let mut new = Vec::new();
        for asked in self.own {
            let image = choose(&catalogue, &asked.os, &inventory.arch)?;
            let signed = signed(image).await.with_context(|| format!("failed to get {}", image.reference))?;
            let name = asked.name.unwrap_or_else(|| image.manifest.os.clone());
            new.push(NewOwn { name, resources: asked.size, image: signed, depot: image.depot.clone() });
        }
        let names: Vec<String> = new.iter().map(|own| own.name.clone()).collect();
        let division = divide(&store, &inventory, new).context("failed to divide")?;
        print_division(&division, &store, format)?;
        say_if_terminal(format!("to enter: sublet host enter {}", names[0]));
        Ok(())
    }
}

/// The newest image of the catalogue that is meant.
fn choose<'a>(catalogue: &'a [ImageView], os: &str, arch: &str) -> anyhow::Result<&'a ImageView> {
    let meant = |image: &&ImageView| {
        let manifest = &image.manifest;
        manifest.answers(Some(os), None) || manifest.answers(None, Some(os))
    };
    let good = |image: &&ImageView| !image.suspended && image.manifest.arch == arch;
    let found = catalogue.iter().filter(meant).filter(good).max_by_key(|image| image.manifest.created_at);
    found.ok_or_else(|| {
        let none = Failure::new(Exit::NotFound, format!("the market has no image {os} for {arch}"));
        none.advise("`sublet image list` shows what it has").into()
    })
}

/// What the depot signed: the very manifest that the market took into its catalogue.
async fn signed(image: &ImageView) -> anyhow::Result<Signed<ImageManifest>> {
    let depot = Client::new(&image.depot, None, None)?;
    let list: Vec<Signed<ImageManifest>> = depot.get("/v1/images").await.context("failed to read the depot's list")?;
    let same = |signed: &Signed<ImageManifest>| signed.key == image.key && signed.digest().to_string() == image.digest;
    let found = list.into_iter().find(same);
    found.with_context(|| format!("the depot at {} does not have what the market's catalogue names", image.depot))
}
