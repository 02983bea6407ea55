//! `sublet events`

use crate::api::Market;
use crate::output::{self, Format};
use crate::values;
use anyhow::Context;
use clap::Args;
use std::time::Duration;
use sublet_wire::api::{Event, RESET};
use sublet_wire::client::ClientError;
use sublet_wire::events::Happened;

/// After the connection was lost.
const PAUSE: Duration = Duration::from_secs(1);

/// Tell what happens to your leases, your money and your hosts, as it happens
///
/// A line an event, until it is stopped. When the market goes away and comes back, it goes on where it
/// was; where it may have missed something, it says `reset`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet events\n  sublet events box --until ended\n  sublet -o json events | jq .what"
)]
pub struct Events {
    /// Only what is about this lease: its name or id
    #[arg(value_parser = values::reference)]
    lease: Option<String>,
    /// End with the first event of this kind, such as ready, ends_soon, ended or billed
    #[arg(long, value_name = "WHAT")]
    until: Option<String>,
}

impl Events {
    /// Prints them.
    pub async fn run(self, market: &Market, format: Format) -> anyhow::Result<()> {
        let mut last: Option<String> = None;
        let mut was_connected = false;
        loop {
            let lost = match market.listen(last.as_deref()).await {
                Ok(mut listening) => loop {
                    if !was_connected {
                        was_connected = true;
                        output::say("listening; Ctrl-C ends it");
                    }
                    match listening.next().await {
                        Ok(happened) => {
                            let is_last = self.tell(&happened, format)?;
                            last = Some(happened.id);
                            if is_last {
                                return Ok(());
                            }
                        }
                        Err(error) => break error,
                    }
                },
                Err(error) => error,
            };
            // A market that was never reached is not waited for.
            if !(was_connected && is_away(&lost)) {
                return Err(lost).context("failed to listen to the market");
            }
            tracing::info!(%lost, "listening again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Prints one; whether it was what was waited for.
    fn tell(&self, happened: &Happened, format: Format) -> anyhow::Result<bool> {
        if happened.event == RESET {
            output::say("reset: something may have been missed; look with `sublet lease list`");
            return Ok(false);
        }
        let event: Event = serde_json::from_str(&happened.data).context("failed to read what the market tells")?;
        if !self.lease.as_ref().is_none_or(|asked| is_about(&event, asked)) {
            return Ok(false);
        }
        output::print(&line(&event, format)?)?;
        Ok(self.until.as_ref().is_some_and(|word| *word == event.what))
    }
}

fn is_away(error: &ClientError) -> bool {
    error.is_transient() || matches!(error, ClientError::Unreadable { .. })
}

fn is_about(event: &Event, asked: &str) -> bool {
    event.name.as_deref() == Some(asked) || event.lease.is_some_and(|id| id.to_string() == asked)
}

fn line(event: &Event, format: Format) -> anyhow::Result<String> {
    if format == Format::Json {
        return Ok(serde_json::to_string(event)?);
    }
    let lease = event.lease.map(|id| id.to_string());
    let called = event.name.clone().or(lease).unwrap_or_default();
    let line = format!("{}  {called}  {}  {}", event.at, event.what, event.words);
    // A line an event, whatever is in its words.
    Ok(output::clean(&line.replace('\n', " ")))
}
