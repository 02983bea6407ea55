//! `sublet host run`

use super::{Monitor, State};
use crate::values;
use clap::Args;
use std::net::SocketAddr;
use sublet_host::agent::{RunOptions, run};
use sublet_host::path::Wanted;
use sublet_wire::path::Bound;

/// The agent: keeps this computer as the market wants it and you allow it
///
/// It dials out. Clients come in over QUIC, to a UDP port that answers only whom this host knows how
/// to check; through the market's relay where a router is in between. No TCP port is opened unless
/// you say --ssh-listen.
///
/// Stopped, it leaves partitions running under their guards to their paid end, and finds them
/// again when it starts.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo sublet host run --ssh-listen 192.0.2.7:7403")]
pub struct Run {
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    monitor: Monitor,
    /// Where clients come in over QUIC: a port of every interface (0: a free one), an address with
    /// a port, or off
    #[arg(long, value_name = "ADDRESS", default_value = "0", value_parser = quic)]
    quic: Quic,
    /// Let clients come in by plain TCP too, here; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    ssh_listen: Option<SocketAddr>,
    /// How clients reach that from elsewhere [default: the address itself]
    #[arg(long, value_name = "HOST:PORT", requires = "ssh_listen")]
    dial: Option<String>,
    /// The most of templates kept on disk, from which partitions start at once; 0: every one boots
    #[arg(long, value_parser = values::bytes, value_name = "SIZE", default_value = "4GiB")]
    templates: u64,
    /// End every partition when the agent is stopped
    #[arg(long)]
    stop_partitions: bool,
}

/// Where clients come in over QUIC, if they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quic(Option<Bound>);

fn quic(text: &str) -> Result<Quic, String> {
    if text == "off" {
        return Ok(Quic(None));
    }
    let bound = text.parse().map(|port| Bound::Everywhere { port }).ok();
    let bound = bound.or_else(|| text.parse().map(Bound::At).ok());
    bound
        .map(|bound| Quic(Some(bound)))
        .ok_or_else(|| format!("{text:?} is neither a port, an address with a port, nor off"))
}

impl Run {
    /// Runs until stopped.
    pub async fn run(self) -> anyhow::Result<()> {
        let folder = self.state.joined()?.state().to_owned();
        let options = RunOptions {
            entrances: Wanted { quic: self.quic.0, tcp: self.ssh_listen, dial: self.dial },
            accelerator: self.monitor.insisted(),
            qemu: self.monitor.qemu,
            stop_partitions: self.stop_partitions,
            template_limit_bytes: self.templates,
            ..RunOptions::new(folder)
        };
        run(options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quic_is_at_a_port_an_address_or_off() {
        let at = |text: &str| Some(Bound::At(text.parse().unwrap()));
        for (text, expected) in [
            ("off", None),
            ("0", Some(Bound::Everywhere { port: 0 })),
            ("7403", Some(Bound::Everywhere { port: 7403 })),
            ("127.0.0.1:0", at("127.0.0.1:0")),
            ("[::1]:7403", at("[::1]:7403")),
        ] {
            assert_eq!(quic(text), Ok(Quic(expected)), "{text}");
        }
        for bad in ["", "on", "70000", "127.0.0.1", "host:1"] {
            assert!(quic(bad).is_err(), "{bad:?}");
        }
    }
}
