//! `sublet host join`, `sublet host token`

use super::{Monitor, State, measure};
use crate::api::Market;
use crate::output::{self, Format, facts};
use crate::values;
use anyhow::Context;
use clap::Args;
use sublet_host::join::{JoinOptions, join};
use sublet_model::units::Seconds;
use sublet_wire::api::NewJoinToken;
use sublet_wire::join::JoinToken;

/// Enrol this computer in a market; it lends nothing yet
///
/// Measures it, makes its keys here, tells the market.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sudo sublet host join https://market.example --token sublet_join_…@sha256:… --name lab-1"
)]
pub struct Join {
    /// Address of the market
    #[arg(value_name = "URL")]
    url: String,
    /// The join token (`sublet host token` makes one); it also says which certificate to trust
    #[arg(long, env = "SUBLET_JOIN_TOKEN", hide_env_values = true)]
    token: JoinToken,
    /// What to call this host [default: the computer's own name]
    #[arg(long, value_parser = values::name)]
    name: Option<String>,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    monitor: Monitor,
}

/// Make a token with which a computer joins as a host of your account
///
/// Shown once. Where the market speaks TLS the token also carries its certificate's fingerprint.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet host token --uses 20 --expires-in 1d")]
pub struct Token {
    /// For how many computers [default: 1]
    #[arg(long, value_name = "N")]
    uses: Option<u32>,
    /// After how long it expires [default: a day]
    #[arg(long, value_parser = values::seconds, value_name = "SPAN")]
    expires_in: Option<Seconds>,
}

impl Join {
    /// Joins, and says what the market will see.
    pub async fn run(self, format: Format) -> anyhow::Result<()> {
        let state = self.state.folder()?;
        let name = match self.name {
            Some(name) => name,
            None => own_name()?,
        };
        let inventory = measure(state.clone(), &self.monitor).await?;
        let options = JoinOptions { state, market: self.url, token: self.token, name, inventory };
        let joined = join(&options).await.context("failed to join")?;
        let identity = &joined.identity;
        if format == Format::Json {
            return output::json(&serde_json::json!({
                "host": identity.host, "name": identity.name, "account": identity.account,
                "market": identity.market, "inventory": options.inventory,
            }));
        }
        facts(&[
            ("host", identity.host.to_string()),
            ("name", identity.name.clone()),
            ("market", identity.market.clone()),
            ("has", options.inventory.resources().to_string()),
            ("partitions", options.inventory.tier.to_string()),
        ])?;
        output::say_if_terminal("it lends nothing yet: `sublet host lend --keep 1cpu,2GiB`, then `sublet host run`");
        Ok(())
    }
}

fn own_name() -> anyhow::Result<String> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().split('.').next().unwrap_or_default().to_ascii_lowercase();
    values::name(&name).map_err(|problem| anyhow::anyhow!("{problem} (the computer's own name): use --name"))
}

impl Token {
    /// Prints the secret alone.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let request = NewJoinToken { uses: self.uses, expires_in: self.expires_in };
        let token = market.create_join_token(&request).await.context("failed to make a join token")?;
        if format == Format::Json {
            return output::json(&token);
        }
        output::say(format!("good until {}; it is not shown again", token.expires_at));
        output::print(&token.secret)?;
        output::say_if_terminal(format!("on the computer to lend: sublet host join {} --token …", market.base()));
        Ok(())
    }
}
