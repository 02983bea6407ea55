//! `sublet ssh-config`
//!
//! `ssh` reads its configuration from the top. Our file asks, by `Match exec`, for a fresh pass to
//! the lease that is named, and only then includes what that wrote. So one line in a person's own
//! file is enough for ever, and every tool that calls `ssh` (rsync, git, Ansible, editors) comes in.

use super::leasing;
use crate::api::Market;
use crate::config::{UNNAMED, private_folder, write_private};
use crate::output;
use crate::ssh::{Target, quoted};
use anyhow::Context;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a lease's name ends with where `ssh` is to know it.
const SUFFIX: &str = ".sublet";

/// Let plain `ssh NAME.sublet` come in, and every tool that calls ssh
///
/// Writes a file and prints the one line that includes it; put that at the top of ~/.ssh/config.
/// From then on: ssh box.sublet, scp, sftp, rsync, sshfs, git, Ansible, editors.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sublet ssh-config >> ~/.ssh/config   (if it is empty; else put the line at its top)\n  ssh box.sublet"
)]
pub struct SshConfig {
    /// Get a fresh pass to NAME.sublet and write it down; `ssh` itself calls this
    #[arg(long, value_name = "NAME", hide = true)]
    refresh: Option<String>,
}

impl SshConfig {
    /// Writes and prints.
    pub async fn run(self, market: &Market) -> anyhow::Result<ExitCode> {
        match &self.refresh {
            Some(name) => self.refresh(market, name).await,
            None => self.set_up(market),
        }
    }

    fn set_up(&self, market: &Market) -> anyhow::Result<ExitCode> {
        let context = ["--context".to_string(), market.context.clone()];
        let context = if market.context == UNNAMED { &[][..] } else { &context[..] };
        set_up(&folder(market), SUFFIX, &[context, &["ssh-config".into()]].concat())
    }

    async fn refresh(&self, market: &Market, name: &str) -> anyhow::Result<ExitCode> {
        let lease = name.strip_suffix(SUFFIX).unwrap_or(name);
        let lease = crate::values::reference(lease).map_err(anyhow::Error::msg)?;
        let (pass, key) = leasing::pass_of(market, &lease).await?;
        write_down(&folder(market), &format!("{lease}{SUFFIX}"), &Target::of(&pass, &key)?)
    }
}

/// Writes the file that asks for fresh passes by `words` and `--refresh`, and prints the line that
/// includes it.
pub fn set_up(folder: &Path, suffix: &str, words: &[String]) -> anyhow::Result<ExitCode> {
    private_folder(folder)?;
    let ours = std::env::current_exe().context("failed to find this program's own file")?;
    let words = [&[ours.to_string_lossy().into_owned()], words, &["--refresh".into()]].concat();
    let text = format!(
        "# Written by `sublet ssh-config`; safe to write again.\n\
         Match originalhost *{suffix} exec \"{} %n\"\n    Include \"{}\"\n",
        quoted(&words).replace('%', "%%").replace('"', "\\\""),
        folder.join("*.conf").to_string_lossy().replace('%', "%%")
    );
    let file = folder.join("config");
    write_private(&file, text.as_bytes())?;
    output::print(&format!("Include \"{}\"\n", file.to_string_lossy()))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes down how `ssh` gets to `host`.
pub fn write_down(folder: &Path, host: &str, target: &Target) -> anyhow::Result<ExitCode> {
    // A person's tools may share connections and may ask; those two are theirs to choose.
    let settings = target.settings.iter().filter(|(name, _)| !["ControlPath", "BatchMode"].contains(name));
    let lines: String = settings.map(|(name, value)| format!("    {name} {value}\n")).collect();
    private_folder(folder)?;
    write_private(&folder.join(format!("{host}.conf")), format!("Host {host}\n{lines}").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn folder(market: &Market) -> PathBuf {
    market.folder.join("ssh")
}
