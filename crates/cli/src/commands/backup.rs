//! `sublet market backup` and `sublet market restore`.

use super::market::check_is_market;
use crate::output::{self, Format};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use sublet_market::backup::{back_up, restore};

/// Copy the market to a new file, while it runs
///
/// The copy is of one moment and is checked before it has its name. The market's keys and certificate
/// are not in it, unless asked for: they never change by themselves, so copy `keys`, `tls` and
/// `market.toml` to another place, once and after each `rotate-keys`. Without them no host and no client
/// knows the market again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet market backup /backups/market-$(date +%F).db ./market")]
pub struct Backup {
    /// A new file
    file: PathBuf,
    /// The market's folder
    #[arg(env = "SUBLET_MARKET_DIR", hide_env_values = true, default_value = "market")]
    dir: PathBuf,
    /// Keys, certificate and settings go into the file too: keep it as secret as they are
    #[arg(long)]
    with_keys: bool,
}

/// Make a backup the market again, under a new epoch
///
/// The market must not run. What is in its folder now is put aside, not removed; its keys stay. After the
/// start hosts tell what happened since the backup, and until a host has, nothing is granted on it. What
/// nobody but the market knew is lost: accounts, tokens and deposits made since, and idempotency keys.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet market restore /backups/market-2026-11-22.db ./market")]
pub struct Restore {
    /// A file made by `sublet market backup`
    file: PathBuf,
    /// The market's folder
    #[arg(env = "SUBLET_MARKET_DIR", hide_env_values = true, default_value = "market")]
    dir: PathBuf,
}

impl Backup {
    /// Does it.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        check_is_market(&self.dir)?;
        let made = back_up(&self.dir, &self.file, self.with_keys);
        let made = made.with_context(|| format!("failed to back {} up", self.dir.display()))?;
        if format == Format::Json {
            return output::json(&json!({
                "file": self.file, "bytes": made.bytes, "market_time": made.market_time, "epoch": made.epoch,
                "leases": made.leases, "receipts": made.receipts, "files": made.files,
            }));
        }
        output::say(format!(
            "copied {} leases and {} receipts, as of {}, to {} ({} bytes)",
            made.leases,
            made.receipts,
            made.market_time,
            self.file.display(),
            made.bytes
        ));
        match made.files.as_slice() {
            [] => output::say(format!(
                "its keys are not in it: keep a copy of keys, tls and market.toml of {} in another place",
                self.dir.display()
            )),
            files => output::say(format!("with {}: whoever reads the file can be this market", files.join(", "))),
        }
        Ok(())
    }
}

impl Restore {
    /// Does it.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        let done = restore(&self.file, &self.dir);
        let (summary, done) = done.with_context(|| format!("failed to restore {}", self.dir.display()))?;
        if format == Format::Json {
            return output::json(&json!({
                "epoch": done.epoch, "market_time": summary.market_time, "leases": summary.leases,
                "receipts": summary.receipts, "put_aside": done.put_aside,
            }));
        }
        output::say(format!("{} is the market of {} again", self.dir.display(), summary.market_time));
        if let Some(aside) = done.put_aside {
            output::say(format!("what was there is {}", aside.display()));
        }
        output::say(format!("epoch {} begins: hosts tell what happened since, each with its first sync", done.epoch));
        output::say_if_terminal(format!("next: sublet market serve {}", self.dir.display()));
        Ok(())
    }
}
