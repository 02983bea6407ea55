//! `sublet host run`

use super::{Monitor, State};
use crate::values;
use clap::Args;
use std::net::SocketAddr;
use sublet_host::agent::{DEFAULT_ADDRESS, RunOptions, run};

/// The agent: keeps this computer as the market wants it and you allow it
///
/// It dials out; only the SSH server for clients listens, on this computer alone unless told
/// otherwise.
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
    /// Where clients enter; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_ADDRESS)]
    ssh_listen: SocketAddr,
    /// How clients reach that from elsewhere [default: the address itself]
    #[arg(long, value_name = "HOST:PORT")]
    dial: Option<String>,
    /// The most of templates kept on disk, from which partitions start at once; 0: every one boots
    #[arg(long, value_parser = values::bytes, value_name = "SIZE", default_value = "4GiB")]
    templates: u64,
    /// End every partition when the agent is stopped
    #[arg(long)]
    stop_partitions: bool,
}

impl Run {
    /// Runs until stopped.
    pub async fn run(self) -> anyhow::Result<()> {
        let folder = self.state.joined()?.state().to_owned();
        let options = RunOptions {
            listen: self.ssh_listen,
            dial: self.dial,
            accelerator: self.monitor.insisted(),
            qemu: self.monitor.qemu,
            stop_partitions: self.stop_partitions,
            template_limit_bytes: self.templates,
            ..RunOptions::new(folder)
        };
        run(options).await
    }
}
