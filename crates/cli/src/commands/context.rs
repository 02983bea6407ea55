//! `sublet login`, `sublet context …`, `sublet whoami`

use crate::api::{self, Market};
use crate::args::Global;
use crate::config::{Config, Context, Folders, TOKEN_VARIABLE};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Rows, facts};
use crate::values;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use std::io::{BufRead, IsTerminal, Read};
use sublet_model::identity::Sha256Digest;
use sublet_wire::api::WhoAmI;
use sublet_wire::client::Client;

/// Log in to a market
///
/// Keeps its address and your token in a context, and makes it the current one; --context says
/// what to call it. The token is read from stdin or SUBLET_TOKEN, never from the command line.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet login http://127.0.0.1:7400 --token-stdin < token\n  SUBLET_TOKEN=… sublet login https://market.example --fingerprint sha256:…"
)]
pub struct Login {
    /// Address of the market, such as https://market.example
    #[arg(value_name = "URL")]
    url: String,
    /// Read the token from stdin
    #[arg(long)]
    token_stdin: bool,
    /// The market's certificate, where no public authority vouches for it (`market init` shows it)
    #[arg(long, value_parser = values::fingerprint, value_name = "sha256:…")]
    fingerprint: Option<Sha256Digest>,
}

/// Markets you are logged in to
#[derive(Debug, Subcommand)]
pub enum Contexts {
    /// Every context; the current one is marked
    #[command(visible_alias = "ls")]
    List,
    /// Work with this one from now on
    Use {
        /// Its name
        name: String,
    },
    /// Forget one, its token and its keys
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        name: String,
    },
}

/// A token is one line, and no longer than this.
const LONGEST_TOKEN_BYTES: u64 = 4096;

impl Login {
    /// Asks the market who the token is, then keeps it.
    pub async fn run(self, global: &Global) -> anyhow::Result<()> {
        let token = self.token()?;
        if let Some(name) = &global.context {
            values::name(name).map_err(|problem| Failure::new(Exit::Usage, problem))?;
        }
        let client = Client::new(&self.url, Some(token.clone()), self.fingerprint)?;
        let who = api::whoami(&client).await.map_err(|e| self.explain(e))?;

        let folders = Folders::find()?;
        let mut config = Config::read(&folders)?;
        // Called by the account, unless --context says otherwise.
        let name = global.context.clone().unwrap_or_else(|| who.account_name.clone());
        let context = Context {
            market: client.base().into(),
            token: Some(token),
            fingerprint: self.fingerprint,
            account: who.account_name.clone(),
            member: who.member_name.clone(),
        };
        config.contexts.insert(name.clone(), context);
        config.current = Some(name.clone());
        config.write(&folders)?;
        if global.output == Format::Json {
            return output::json(&who);
        }
        let roles = who.roles.iter().map(|r| r.word()).collect::<Vec<_>>().join(", ");
        output::say(format!(
            "logged in to {} as {}/{} ({roles}); context {name}",
            client.base(),
            who.account_name,
            who.member_name
        ));
        Ok(())
    }

    fn token(&self) -> anyhow::Result<String> {
        let given = if self.token_stdin {
            let mut line = String::new();
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                output::say("paste the token, then Enter");
            }
            stdin.lock().take(LONGEST_TOKEN_BYTES).read_line(&mut line).context("failed to read the token")?;
            Some(line)
        } else {
            std::env::var(TOKEN_VARIABLE).ok()
        };
        match given.as_deref().map(str::trim).filter(|token| !token.is_empty()) {
            Some(token) => Ok(token.into()),
            None => {
                let none = Failure::new(Exit::Usage, "there is no token to log in with");
                Err(none.advise(format!("pipe it in with --token-stdin, or set {TOKEN_VARIABLE}")).into())
            }
        }
    }

    fn explain(&self, error: sublet_wire::client::ClientError) -> anyhow::Error {
        let unknown = error.to_string().to_lowercase().contains("certificate");
        let error = anyhow::Error::from(error).context("failed to log in");
        if unknown && self.fingerprint.is_none() {
            let advice =
                "get the fingerprint from the operator (`market init` showed it) and add --fingerprint sha256:…";
            return Failure::new(Exit::Failed, format!("{error:#}")).advise(advice).into();
        }
        error
    }
}

impl Contexts {
    /// Shows or changes them.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        let folders = Folders::find()?;
        let mut config = Config::read(&folders)?;
        match self {
            Self::List => return list(&config, format),
            Self::Use { name } => {
                config.named(&name)?;
                config.current = Some(name);
            }
            Self::Remove { name } => {
                config.named(&name)?;
                config.contexts.remove(&name);
                config.current = config.current.filter(|current| *current != name);
                let keys = folders.of_context(&name);
                if keys.exists() {
                    std::fs::remove_dir_all(&keys).with_context(|| format!("failed to remove {}", keys.display()))?;
                }
            }
        }
        config.write(&folders)
    }
}

fn list(config: &Config, format: Format) -> anyhow::Result<()> {
    let is_current = |name: &str| config.current.as_deref() == Some(name);
    if format == Format::Json {
        let shown = |(name, c): (&String, &Context)| {
            serde_json::json!({
                "name": name, "current": is_current(name), "market": c.market, "account": c.account,
                "member": c.member, "fingerprint": c.fingerprint,
            })
        };
        return output::json(&config.contexts.iter().map(shown).collect::<Vec<_>>());
    }
    let mut rows = Rows::new(&["", "name", "market", "account", "member"], "none; `sublet login URL` makes one");
    for (name, context) in &config.contexts {
        let mark = if is_current(name) { "*" } else { "" };
        let cells = [mark, name, &context.market, &context.account, &context.member];
        rows.row(cells.map(String::from).into());
    }
    rows.print()
}

/// `sublet whoami`
pub async fn whoami(market: &Market, format: Format) -> anyhow::Result<()> {
    let who: WhoAmI = market.whoami().await.context("failed to ask who you are")?;
    if format == Format::Json {
        return output::json(&who);
    }
    facts(&[
        ("account", format!("{} ({})", who.account_name, who.account)),
        ("member", format!("{} ({})", who.member_name, who.member)),
        ("roles", who.roles.iter().map(|r| r.word()).collect::<Vec<_>>().join(", ")),
        ("market", format!("{} (version {}, {})", market.base(), who.version, who.currency)),
        ("signs with", who.market_key.to_string()),
        ("context", market.context.clone()),
    ])
}
