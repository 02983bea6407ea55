//! `sublet token …`

use crate::api::Market;
use crate::output::{self, Format};
use crate::values;
use anyhow::Context;
use clap::Subcommand;
use sublet_model::account::Role;
use sublet_model::ids::{MemberId, TokenId};
use sublet_model::units::Seconds;
use sublet_wire::api::NewToken;

/// API tokens
///
/// Each is shown once and stored hashed.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make one; the secret alone goes to stdout
    #[command(after_help = "Example:\n  sublet token create laptop --member mem_… > token")]
    Create {
        /// What it is for, in your words
        #[arg(default_value = "command-line")]
        name: String,
        /// For this member [default: yourself]
        #[arg(long, value_name = "ID")]
        member: Option<MemberId>,
        /// After how long it expires, such as 7d [default: 30 days]
        #[arg(long = "expires-in", value_parser = values::seconds, value_name = "SPAN")]
        expires_in: Option<Seconds>,
        /// Only this role of the member's; may be repeated [default: all]
        #[arg(long = "role")]
        roles: Vec<Role>,
    },
    /// Make one worthless, by its id
    Revoke {
        /// The token's id, not the secret
        token: TokenId,
    },
}

impl Token {
    /// Does it.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        match self {
            Self::Create { name, member, expires_in, roles } => {
                let roles = (!roles.is_empty()).then_some(roles);
                let made = market.create_token(&NewToken { member, name, expires_in, roles }).await;
                let token = made.context("failed to make a token")?;
                if format == Format::Json {
                    return output::json(&token);
                }
                output::say(format!("token {}, good until {}; it is not shown again", token.id, token.expires_at));
                Ok(output::print(&token.secret)?)
            }
            Self::Revoke { token } => {
                market.revoke_token(&token.to_string()).await.context("failed to revoke the token")?;
                output::say(format!("{token} is worthless now"));
                Ok(())
            }
        }
    }
}
