//! `sublet image build`: runs a recipe, shows how far it is, takes what it made into a depot.

use super::DepotFolder;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::progress::Progress;
use anyhow::Context;
use clap::Args;
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Run a recipe and take what it makes into a depot
///
/// Recipes use packages of a distribution only; some need root.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sublet image build minimal-linux --depot ./images\n  sublet image build ./my-recipe --depot ./images"
)]
pub struct Build {
    /// Name of a recipe that comes with sublet, or a folder with a program `build` in it
    recipe: String,
    #[command(flatten)]
    depot: DepotFolder,
    /// The static guest program [default: beside this program]
    #[arg(long, env = "SUBLET_GUEST", hide_env_values = true, value_name = "FILE")]
    guest: Option<PathBuf>,
    /// Folder of the recipes that come with sublet
    #[arg(long, env = "SUBLET_RECIPES", hide_env_values = true, value_name = "DIR")]
    recipes: Option<PathBuf>,
}

/// Shown again where a recipe fails.
const LAST_LINES: usize = 20;
const LONGEST_LINE_BYTES: usize = 2000;

impl Build {
    /// Builds and adds.
    pub async fn run(self, format: Format) -> anyhow::Result<()> {
        let guest = guest_program(self.guest.as_deref())?;
        let program = self.program()?;
        sublet_depot::Depot::create(&self.depot.dir)?;
        // In the depot's own folder: there is room for it there, or there is room nowhere.
        let output = self.depot.dir.join(format!(".building-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&output).with_context(|| format!("failed to make {}", output.display()))?;
        let built = self.build_into(&program, &output, &guest, format).await;
        let _ = std::fs::remove_dir_all(&output);
        built
    }

    async fn build_into(&self, program: &Path, output: &Path, guest: &Path, format: Format) -> anyhow::Result<()> {
        run_recipe(program, output, guest).await?;
        super::add(output, &self.depot, format)
    }

    /// The recipe's program: of a folder that was named, or of one that comes with sublet.
    fn program(&self) -> anyhow::Result<PathBuf> {
        let named = Path::new(&self.recipe).join("build");
        let is_path = self.recipe.contains('/') || named.is_file();
        let places: Vec<PathBuf> = if is_path {
            vec![named]
        } else {
            recipe_folders(self.recipes.as_deref()).iter().map(|f| f.join(&self.recipe).join("build")).collect()
        };
        let found = places.iter().find(|program| program.is_file());
        let found = found.ok_or_else(|| {
            let sought = places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
            let none = Failure::new(Exit::NotFound, format!("there is no recipe {:?} (sought: {sought})", self.recipe));
            none.advise("name a folder with a program `build` in it, or say where recipes are with --recipes")
        })?;
        found.canonicalize().with_context(|| format!("failed to find {}", found.display()))
    }
}

fn recipe_folders(given: Option<&Path>) -> Vec<PathBuf> {
    let beside = beside_program(&["../../images", "../../../images", "../share/sublet/images"]);
    given.map(Into::into).into_iter().chain([PathBuf::from("images")]).chain(beside).collect()
}

/// The static guest program: the one that was named, or the one that comes with this program.
pub(super) fn guest_program(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let guest = match named {
        Some(guest) => guest.to_owned(),
        None => find_guest()?,
    };
    guest.canonicalize().with_context(|| format!("failed to find {}", guest.display()))
}

/// Beside this program, or where cargo and packages put it.
fn find_guest() -> anyhow::Result<PathBuf> {
    let places = beside_program(&[
        "sublet-guest",
        "../x86_64-unknown-linux-gnu/guest/sublet-guest",
        "../lib/sublet/sublet-guest",
    ]);
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        let none = Failure::new(Exit::NotFound, "the static guest program is not beside this program");
        none.advise("build it with `make guest`, and name it with --guest FILE or SUBLET_GUEST").into()
    })
}

fn beside_program(names: &[&str]) -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new("."));
    names.iter().map(|name| folder.join(name)).collect()
}

async fn run_recipe(program: &Path, output: &Path, guest: &Path) -> anyhow::Result<()> {
    let output = output.canonicalize()?;
    let mut child = Command::new(program)
        .args([output.as_path(), guest])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("failed to start {}", program.display()))?;
    let progress = Progress::start("building");
    let mut last = VecDeque::with_capacity(LAST_LINES);
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        anyhow::bail!("the recipe has no output to read");
    };
    let (mut out, mut err) = (BufReader::new(out).split(b'\n'), BufReader::new(err).split(b'\n'));
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let line = tokio::select! {
            line = out.next_segment(), if out_open => { out_open = matches!(line, Ok(Some(_))); line }
            line = err.next_segment(), if err_open => { err_open = matches!(line, Ok(Some(_))); line }
            _ = tokio::signal::ctrl_c() => return Err(stopped(&mut child).await),
        };
        if let Ok(Some(line)) = line {
            note(&line, &progress, &mut last);
        }
    }
    let status = child.wait().await?;
    progress.clear();
    if status.success() {
        return Ok(());
    }
    if std::io::stderr().is_terminal() {
        last.iter().for_each(output::say);
    }
    anyhow::bail!("the recipe {} failed ({status}): its last words are above", program.display())
}

/// On a terminal the newest line stands in the progress; elsewhere every line is passed on.
fn note(line: &[u8], progress: &Progress, last: &mut VecDeque<String>) {
    let line = String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE_BYTES)]).trim_end().to_string();
    if std::io::stderr().is_terminal() {
        progress.say(line.chars().take(100).collect::<String>());
    } else {
        output::say(&line);
    }
    if last.len() == LAST_LINES {
        last.pop_front();
    }
    last.push_back(line);
}

/// A Ctrl-C reached the recipe too; it tidies up after itself.
async fn stopped(child: &mut tokio::process::Child) -> anyhow::Error {
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), child.wait()).await;
    anyhow::anyhow!("stopped; nothing was added")
}
