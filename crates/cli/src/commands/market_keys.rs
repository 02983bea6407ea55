//! `sublet market rotate-keys` and `sublet market keys`.

use super::market::check_is_market;
use crate::output::{self, Format, Rows};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use sublet_market::keys::{Keys, rotate};
use sublet_model::market_keys::KeyChange;
use sublet_model::units::Timestamp;

/// Take other keys: the one that signs terms and statements, and the SSH authority
///
/// The market must not run: stop it, rotate, start it again; it is away for a moment, what runs goes on.
/// The old keys sign the new ones in, so hosts, statements and whoever knows an older key follow by
/// themselves. Terms that the old key signed stay good; certificates of the old SSH authority are accepted
/// for 61 minutes more. Copy the folder `keys` to where you keep it again: the old copy is of no use.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet market rotate-keys ./market")]
pub struct RotateKeys {
    /// The market's folder
    #[arg(env = "SUBLET_MARKET_DIR", hide_env_values = true, default_value = "market")]
    dir: PathBuf,
}

/// List the keys that the market had, and the one that it has
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet market keys ./market")]
pub struct ListKeys {
    /// The market's folder
    #[arg(env = "SUBLET_MARKET_DIR", hide_env_values = true, default_value = "market")]
    dir: PathBuf,
}

impl RotateKeys {
    /// Does it.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        check_is_market(&self.dir)?;
        let done = rotate(&self.dir);
        let KeyChange { number, old, new, at, ssh_until, .. } =
            done.with_context(|| format!("failed to change the keys of {}", self.dir.display()))?.change;
        if format == Format::Json {
            return output::json(&json!({
                "number": number, "old": old, "new": new, "at": at, "ssh_until": ssh_until,
            }));
        }
        output::say(format!("change {number}: the market signs with {new}, after {old}, from {at} on"));
        output::say(format!("certificates of the old SSH authority are accepted until {ssh_until}"));
        output::say(format!(
            "keep a new copy of {}: with the old one no host knows this market again",
            self.dir.join("keys").display()
        ));
        output::say_if_terminal(format!("next: sublet market serve {}", self.dir.display()));
        Ok(())
    }
}

/// A key of the market, and when it signed.
struct Span {
    key: String,
    ssh_ca: String,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    ssh_until: Option<Timestamp>,
}

fn spans(keys: &Keys) -> Vec<Span> {
    let changes = keys.chain.changes();
    let cas = changes.iter().map(|change| change.old_ssh_ca.clone()).chain([keys.ssh_ca_public()]);
    let span = |(n, (key, ssh_ca)): (usize, (sublet_model::identity::PublicKey, String))| Span {
        key: key.to_string(),
        ssh_ca,
        from: n.checked_sub(1).map(|before| changes[before].at),
        until: changes.get(n).map(|next| next.at),
        ssh_until: changes.get(n).map(|next| next.ssh_until),
    };
    keys.chain.keys().zip(cas).enumerate().map(span).collect()
}

impl ListKeys {
    /// Does it.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        check_is_market(&self.dir)?;
        let keys = Keys::load(&self.dir);
        let keys = keys.with_context(|| format!("failed to read the keys of {}", self.dir.display()))?;
        let spans = spans(&keys);
        if format == Format::Json {
            let items: Vec<_> = spans
                .iter()
                .map(|s| {
                    json!({
                        "key": s.key, "ssh_ca": s.ssh_ca, "from": s.from, "until": s.until, "ssh_until": s.ssh_until,
                    })
                })
                .collect();
            return output::json(&json!({ "keys": items, "changes": keys.chain.records() }));
        }
        let mut rows = Rows::new(&["key", "signs from", "to", "its SSH authority", "accepted to"], "");
        for Span { key, ssh_ca, from, until, ssh_until } in spans {
            let ssh_ca = ssh_ca.split(' ').next_back().unwrap_or_default().to_string();
            rows.row(vec![key, output::at(from), output::at(until), ssh_ca, output::at(ssh_until)]);
        }
        rows.print()
    }
}
