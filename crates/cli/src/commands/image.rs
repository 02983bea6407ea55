//! `sublet image …`

mod add;
mod build;

use crate::api::Market;
use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Rows};
use crate::progress::Progress;
use crate::values;
use anyhow::Context;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use sublet_depot::{Added, Depot};
use sublet_model::identity::Signed;
use sublet_model::image::ImageManifest;
use sublet_wire::api::{ImageView, NewImage};

/// Operating systems that can boot in a partition
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Images of the market's catalogue, or of a depot's folder
    #[command(visible_alias = "ls")]
    List {
        /// Look into this folder instead of the market
        #[arg(long, value_name = "DIR")]
        depot: Option<PathBuf>,
    },
    Build(build::Build),
    Add(add::Add),
    Publish(Publish),
}

/// Which depot.
#[derive(Debug, Clone, Args)]
pub struct DepotFolder {
    /// The depot's folder; made if it is not there
    #[arg(long = "depot", env = "SUBLET_DEPOT", hide_env_values = true, value_name = "DIR")]
    dir: PathBuf,
}

/// Put a depot's images into the market's catalogue (operator)
///
/// From then on the market vouches for them: their digests freeze in every lease.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet image publish --depot-url http://127.0.0.1:7402")]
pub struct Publish {
    /// Which, such as debian-12 or debian-12@12.11-1 [default: all that the depot has]
    #[arg(value_parser = values::image, value_name = "IMAGE")]
    images: Vec<String>,
    /// Where hosts reach the depot
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7402")]
    depot_url: String,
}

impl Image {
    /// Does it.
    pub async fn run(self, global: &Global) -> anyhow::Result<()> {
        let format = global.output;
        match self {
            Self::List { depot: Some(dir) } => list_folder(&Depot::open(dir)?, format),
            Self::List { depot: None } => {
                let images = Market::open(&global.asked())?.images().await.context("failed to list images")?;
                list_market(&images, format)
            }
            Self::Build(build) => build.run(format).await,
            Self::Add(add) => add.run(format),
            Self::Publish(publish) => publish.run(&Market::open(&global.asked())?, format).await,
        }
    }
}

/// Takes a recipe's output into a depot, with progress.
fn add(output: &Path, folder: &DepotFolder, format: Format) -> anyhow::Result<()> {
    let progress = Progress::start("adding");
    let depot = Depot::create(&folder.dir)?;
    let added = depot.add(output, &mut |step| progress.bytes(format!("adding {}", step.what), step.done, step.total));
    let Added { signed, manifest, known } = added.with_context(|| format!("failed to add {}", output.display()))?;
    progress.clear();
    if format == Format::Json {
        return output::json(&signed);
    }
    let bytes: u64 = manifest.boot.blobs().iter().map(|(_, blob)| blob.bytes).sum();
    let state = if known { "was there already" } else { "added" };
    output::say(format!("{} {state}, {} in {}", manifest.reference(), size(bytes), folder.dir.display()));
    Ok(output::print(&manifest.reference())?)
}

impl Publish {
    async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let list = sublet_wire::client::Client::new(&self.depot_url, None, None)?;
        let list: Vec<Signed<ImageManifest>> =
            list.get("/v1/images").await.context("failed to read the depot's list")?;
        let mut published = Vec::new();
        for signed in list {
            let manifest = signed.read().context("failed to read a manifest of the depot")?;
            let wanted = |asked: &String| manifest.answers(None, Some(asked));
            if !self.images.is_empty() && !self.images.iter().any(wanted) {
                continue;
            }
            let image = NewImage { manifest: signed, depot: self.depot_url.clone() };
            let view = market.publish_image(&image).await;
            published.push(view.with_context(|| format!("failed to publish {}", manifest.reference()))?);
        }
        let missing = self.images.iter().find(|i| !published.iter().any(|p| p.manifest.answers(None, Some(i))));
        if let Some(missing) = missing {
            let none = Failure::new(Exit::NotFound, format!("the depot at {} has no image {missing}", self.depot_url));
            return Err(none.advise("`sublet image list --depot DIR` shows what it has").into());
        }
        list_market(&published, format)
    }
}

fn list_market(images: &[ImageView], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&images);
    }
    let mut rows = headings();
    for image in images {
        rows.row(cells(&image.manifest, if image.suspended { "suspended" } else { &image.depot }));
    }
    rows.print()
}

fn list_folder(depot: &Depot, format: Format) -> anyhow::Result<()> {
    let list = depot.list()?;
    if format == Format::Json {
        return output::json(&list);
    }
    let mut rows = headings();
    for signed in list {
        rows.row(cells(&signed.read()?, &depot.dir().display().to_string()));
    }
    rows.print()
}

fn headings() -> Rows {
    let empty = "no images; `sublet image build` makes one";
    Rows::new(&["image", "os", "arch", "size", "least memory", "made", "depot"], empty).right(&[3, 4])
}

fn cells(manifest: &ImageManifest, depot: &str) -> Vec<String> {
    let bytes: u64 = manifest.boot.blobs().iter().map(|(_, blob)| blob.bytes).sum();
    let made = sublet_model::units::Timestamp(manifest.created_at.saturating_mul(1_000_000));
    vec![
        manifest.reference(),
        manifest.os.clone(),
        manifest.arch.clone(),
        size(bytes),
        manifest.minimum_memory.to_string(),
        made.to_string(),
        depot.into(),
    ]
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string().replace(' ', "")
}
