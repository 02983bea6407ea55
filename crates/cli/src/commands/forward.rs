//! `sublet forward`

use super::{leasing, run};
use crate::api::Market;
use crate::output::say;
use crate::ssh::{self, Invocation};
use crate::values;
use clap::Args;
use std::process::ExitCode;

/// Reach ports of a leased partition from here, or ports of here from there
///
/// Works for a partition without a network: the bytes take the same way as `sublet ssh`. Runs until
/// Ctrl-C or the lease ends.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet forward box 8080:80              http://localhost:8080 is the partition's port 80\n  sublet forward box 5432                 the same port on both sides\n  sublet forward box --remote 3128:3128   the partition's localhost:3128 is this computer's proxy\n  sublet forward box --socks 1080         everything that the partition reaches, by SOCKS"
)]
pub struct Forward {
    /// Name or id of the lease
    #[arg(value_parser = values::reference)]
    lease: String,
    /// [HERE:]THERE: a port here, and the partition's port that it leads to
    #[arg(value_parser = ports, value_name = "PORTS", required_unless_present_any = ["remote", "socks"])]
    local: Vec<Ports>,
    /// [THERE:]HERE: a port of the partition, and this computer's port that it leads to
    #[arg(long, value_parser = ports, value_name = "PORTS")]
    remote: Vec<Ports>,
    /// A SOCKS proxy on this port here, which connects from inside the partition
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    socks: Vec<u16>,
}

/// A port where connections come in, and the one they lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    from: u16,
    to: u16,
}

fn ports(text: &str) -> Result<Ports, String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    match (port(from), port(to)) {
        (Some(from), Some(to)) => Ok(Ports { from, to }),
        _ => Err(format!("{text:?} is neither a port nor two such as 8080:80")),
    }
}

impl Forward {
    /// Runs until it is stopped.
    pub async fn run(self, market: &Market) -> anyhow::Result<ExitCode> {
        ssh::available()?;
        let (pass, key) = leasing::pass_of(market, &self.lease).await?;
        let invocation = Invocation { terminal: Some(false), forwards: self.words(), ..Invocation::default() };
        for Ports { from, to } in &self.local {
            say(format!("localhost:{from} here leads to port {to} of {}", self.lease));
        }
        for Ports { from, to } in &self.remote {
            say(format!("localhost:{from} in {} leads to port {to} here", self.lease));
        }
        for port in &self.socks {
            say(format!("localhost:{port} here is a SOCKS proxy inside {}", self.lease));
        }
        run::enter(market, &pass, &key, invocation).await
    }

    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = ["-N", "-o", "ExitOnForwardFailure=yes"].map(Into::into).into();
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        self.local.iter().for_each(|p| add("-L", format!("localhost:{}:localhost:{}", p.from, p.to)));
        self.remote.iter().for_each(|p| add("-R", format!("localhost:{}:localhost:{}", p.from, p.to)));
        self.socks.iter().for_each(|port| add("-D", format!("localhost:{port}")));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_two() {
        for (text, expected) in [
            ("80", Some((80, 80))),
            ("8080:80", Some((8080, 80))),
            ("0", None),
            ("65536", None),
            ("80:", None),
            ("a:80", None),
            ("1:2:3", None),
        ] {
            assert_eq!(ports(text).ok(), expected.map(|(from, to)| Ports { from, to }), "{text}");
        }
    }
}
