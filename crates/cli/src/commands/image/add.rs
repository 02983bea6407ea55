//! `sublet image add`: takes into a depot what a recipe made, or a cloud image as its makers publish it.

use super::DepotFolder;
use super::build::guest_program;
use crate::failure::{Exit, Failure};
use crate::output::Format;
use anyhow::Context;
use clap::Args;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use sublet_depot::{BootFiles, Minimum, Recipe};
use sublet_model::image::Firmware;
use sublet_model::units::MiB;

/// Take a cloud image, or the output of a recipe, into a depot
///
/// A cloud image is one file, qcow2 or raw, with a boot loader that a BIOS starts and with
/// cloud-init, through which the guest program comes. It must boot without a network.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet image add debian-13-genericcloud-amd64.qcow2 --name debian-13-cloud --os debian-cloud --depot ./images\n  sublet image add /tmp/my-image --depot ./images"
)]
pub struct Add {
    /// A disk image, or a folder with image.toml and the files that it names
    #[arg(value_name = "FILE|DIR")]
    made: PathBuf,
    #[command(flatten)]
    depot: DepotFolder,
    #[command(flatten)]
    disk: Disk,
}

/// What a disk image does not say of itself.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of a disk image")]
struct Disk {
    /// Its name, such as debian-13-cloud
    #[arg(long)]
    name: Option<String>,
    /// What clients ask for, such as debian-cloud
    #[arg(long)]
    os: Option<String>,
    /// Its version [default: 1]
    #[arg(long = "image-version", value_name = "VERSION")]
    version: Option<String>,
    /// As whom clients enter [default: root]
    #[arg(long, value_name = "USER")]
    login_user: Option<String>,
    /// The least memory it comes up with [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = sublet_model::units::parse_memory)]
    least_memory: Option<MiB>,
    /// For people, such as "GPL-2.0 and others"
    #[arg(long)]
    licence: Option<String>,
    /// The static guest program [default: beside this program]
    #[arg(long, env = "SUBLET_GUEST", hide_env_values = true, value_name = "FILE")]
    guest: Option<PathBuf>,
}

impl Add {
    /// Adds it.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        if self.made.is_dir() {
            self.disk.refuse()?;
            return super::add(&self.made, &self.depot, format);
        }
        let disk = self.made.canonicalize().with_context(|| format!("failed to find {}", self.made.display()))?;
        let guest = guest_program(self.disk.guest.as_deref())?;
        check_program(&guest)?;
        let recipe = self.disk.recipe(&disk)?;
        sublet_depot::Depot::create(&self.depot.dir)?;
        let output = self.depot.dir.join(format!(".adding-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&output).with_context(|| format!("failed to make {}", output.display()))?;
        let added = describe(&output, &recipe, &disk, &guest).and_then(|()| {
            let added = super::add(&output, &self.depot, format);
            added.with_context(|| format!("failed to add {}", self.made.display()))
        });
        let _ = std::fs::remove_dir_all(&output);
        added
    }
}

/// It has to run wherever it is put: a recipe's guest program is looked at more closely.
fn check_program(guest: &Path) -> anyhow::Result<()> {
    let mut magic = [0; 4];
    let read = std::fs::File::open(guest).and_then(|mut file| file.read_exact(&mut magic));
    if read.is_ok() && magic == *b"\x7fELF" {
        return Ok(());
    }
    let none = Failure::new(Exit::Usage, format!("the guest program {} is not a program", guest.display()));
    Err(none.advise("`make guest` builds it").into())
}

/// What a recipe would have left behind, but for the bytes.
fn describe(output: &Path, recipe: &Recipe, disk: &Path, guest: &Path) -> anyhow::Result<()> {
    let text = toml::to_string(recipe).context("failed to write image.toml")?;
    std::fs::write(Recipe::path_in(output), text).context("failed to write image.toml")?;
    symlink(disk, output.join("disk")).and_then(|()| symlink(guest, output.join("guest"))).context("failed to link")
}

impl Disk {
    fn recipe(self, disk: &Path) -> anyhow::Result<Recipe> {
        let needed = |value: Option<String>, option: &str| {
            let missing =
                || Failure::new(Exit::Usage, format!("a disk image needs {option}: it does not say that itself"));
            value.ok_or_else(|| missing().into()) as anyhow::Result<String>
        };
        Ok(Recipe {
            name: needed(self.name, "--name")?,
            os: needed(self.os, "--os")?,
            version: self.version.unwrap_or_else(|| "1".into()),
            arch: "x86_64".into(),
            licence: self.licence.unwrap_or_default(),
            login_user: self.login_user.unwrap_or_else(|| "root".into()),
            guest_channel: "org.sublet.guest.0".into(),
            command_line: String::new(),
            minimum: Minimum { memory_mib: self.least_memory.unwrap_or(MiB(512)).0, vcpus: 1 },
            boot: BootFiles::Disk {
                firmware: Firmware::Bios,
                format: sublet_depot::format_of(disk)?,
                disk: "disk".into(),
                guest: "guest".into(),
            },
        })
    }

    /// A recipe's output says all of it.
    fn refuse(&self) -> anyhow::Result<()> {
        let said = [&self.name, &self.os, &self.version, &self.login_user, &self.licence];
        if said.iter().all(|option| option.is_none()) && self.least_memory.is_none() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Usage,
            "a folder's image.toml says what it is: --name, --os and the like are for a disk image",
        )
        .into())
    }
}
