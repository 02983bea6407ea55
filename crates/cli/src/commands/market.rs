//! `sublet market …`

use super::backup::{Backup, Restore};
use super::market_keys::{ListKeys, RotateKeys};
use super::stop;
use crate::output::{self, Format};
use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use sublet_market::config::{Config, Tls, loopback};
use sublet_market::init::init;
use sublet_market::serve::{ServeOptions, serve};

/// The management server and its resource database
#[derive(Debug, Subcommand)]
pub enum Market {
    Init(Init),
    Serve(Serve),
    Backup(Backup),
    Restore(Restore),
    Audit(super::money::Audit),
    Keys(ListKeys),
    RotateKeys(RotateKeys),
}

/// Make a market in a new folder: keys, certificate, database
///
/// The operator's first token is printed once, on stdout.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet market init ./market --currency EUR > admin-token")]
pub struct Init {
    /// A new or empty folder
    #[arg(env = "SUBLET_MARKET_DIR", hide_env_values = true)]
    dir: PathBuf,
    /// What to call it, for people
    #[arg(long, default_value = "sublet")]
    name: String,
    /// Name of its one currency
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// Where it will listen
    #[arg(long, default_value_t = loopback(), value_name = "ADDRESS")]
    listen: SocketAddr,
    /// A name or an address by which others reach it, for its certificate; may be repeated
    /// [default: localhost, and the address it listens on]
    #[arg(long = "reached-as", value_name = "HOST")]
    names: Vec<String>,
}

/// Run a market until stopped
///
/// Speaks TLS off loopback; nothing listens beyond this computer unless told to.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet market serve ./market --listen 0.0.0.0:7400 --relay 0.0.0.0:7404")]
pub struct Serve {
    /// The market's folder
    #[arg(env = "SUBLET_MARKET_DIR", hide_env_values = true, default_value = "market")]
    dir: PathBuf,
    /// Where to listen [default: as market.toml says]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Run a relay here, where clients and hosts meet that can't reach each other directly: TCP and
    /// UDP [default: as market.toml says]
    #[arg(long, value_name = "ADDRESS")]
    relay: Option<SocketAddr>,
    /// Whether to speak TLS [default: as market.toml says]
    #[arg(long, value_enum, value_name = "WHEN")]
    tls: Option<WhenTls>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhenTls {
    /// Off loopback
    Auto,
    /// On loopback too
    Always,
    /// Not at all; then it starts on loopback only
    Never,
}

impl Market {
    /// Does it.
    pub async fn run(self, format: Format) -> anyhow::Result<()> {
        match self {
            Self::Init(init) => init.run(format),
            Self::Serve(serve) => serve.run().await,
            Self::Backup(backup) => backup.run(format),
            Self::Restore(restore) => restore.run(format),
            Self::Audit(audit) => audit.run(format),
            Self::Keys(list) => list.run(format),
            Self::RotateKeys(rotate) => rotate.run(format),
        }
    }
}

impl Init {
    fn run(self, format: Format) -> anyhow::Result<()> {
        let config = Config {
            name: self.name,
            currency: self.currency,
            listen: self.listen,
            tls: Tls::Auto,
            relay: None,
            chunk_seconds: None,
        };
        let own = [self.listen.ip().to_string(), "localhost".into()];
        let names = if self.names.is_empty() { own.into() } else { self.names };
        let token = init(&self.dir, &config, &names)
            .with_context(|| format!("failed to make a market in {}", self.dir.display()))?;
        if format == Format::Json {
            return output::json(&serde_json::json!({
                "token": token.secret, "expires_at": token.expires_at,
                "fingerprint": format!("sha256:{}", token.fingerprint),
            }));
        }
        output::say(format!("made a market in {}", self.dir.display()));
        output::say(format!("its certificate: sha256:{}", token.fingerprint));
        output::say(format!("the operator's token, good until {}; keep it, it is not shown again:", token.expires_at));
        output::print(&token.secret)?;
        output::say_if_terminal(format!(
            "next: sublet market serve {}, then sublet login {} --token-stdin",
            self.dir.display(),
            address(self.listen),
        ));
        Ok(())
    }
}

fn address(listen: SocketAddr) -> String {
    format!("{}://{listen}", if listen.ip().is_loopback() { "http" } else { "https" })
}

impl Serve {
    async fn run(self) -> anyhow::Result<()> {
        check_is_market(&self.dir)?;
        let cancellation = stop::on_signal()?;
        let tls = self.tls.map(|tls| match tls {
            WhenTls::Auto => Tls::Auto,
            WhenTls::Always => Tls::Always,
            WhenTls::Never => Tls::Never,
        });
        let options = ServeOptions { listen: self.listen, tls, relay: self.relay };
        let server = serve(&self.dir, options, cancellation).await;
        let server = server.with_context(|| format!("failed to start the market of {}", self.dir.display()))?;
        let print = server.fingerprint.map_or(String::new(), |print| format!(", certificate sha256:{print}"));
        tracing::info!("the market is listening at {}{print}", server.base());
        if let Some(relay) = &server.relay {
            tracing::info!("the relay is at port {}, TCP and UDP", relay.port);
        }
        Ok(server.ended().await?)
    }
}

pub(super) fn check_is_market(dir: &Path) -> anyhow::Result<()> {
    use crate::failure::{Exit, Failure};
    if dir.join("market.toml").is_file() {
        return Ok(());
    }
    let none = Failure::new(Exit::NotFound, format!("there is no market in {}", dir.display()));
    Err(none.advise(format!("make one with `sublet market init {}`", dir.display())).into())
}
