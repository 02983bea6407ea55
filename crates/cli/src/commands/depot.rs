//! `sublet depot …`

use super::stop;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::progress::Progress;
use anyhow::Context;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use sublet_depot::{DEFAULT_ADDRESS, Depot, Server};

/// The file server of operating systems
///
/// A folder of signed manifests and verified blobs, served over HTTP.
#[derive(Debug, Subcommand)]
pub enum DepotCommand {
    Serve(Serve),
    /// Read every byte again, and say what is damaged
    Verify {
        /// The depot's folder
        #[arg(env = "SUBLET_DEPOT", hide_env_values = true)]
        dir: PathBuf,
    },
}

/// Serve a depot over HTTP until stopped
///
/// Read only; a blob that is damaged is never served.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet image build minimal-linux --depot ./images\n  sublet depot serve ./images")]
pub struct Serve {
    /// The depot's folder
    #[arg(env = "SUBLET_DEPOT", hide_env_values = true)]
    dir: PathBuf,
    /// Where to listen
    #[arg(long, default_value = DEFAULT_ADDRESS, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Listen beyond this computer: a proxy in front of it speaks TLS, for hosts fetch by https only
    #[arg(long)]
    behind_tls_proxy: bool,
}

impl DepotCommand {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(serve) => serve.run().await.map(|()| ExitCode::SUCCESS),
            Self::Verify { dir } => {
                let progress = Progress::start("reading the depot");
                let depot = Depot::open(dir)?;
                let findings = depot.verify(&mut |step| progress.bytes(step.what, step.done, step.total))?;
                progress.clear();
                for finding in &findings {
                    output::print(&output::clean(&format!("{} {}", finding.subject, finding.problem)))?;
                }
                if findings.is_empty() {
                    output::say(format!("{} images, all whole", depot.list()?.len()));
                    return Ok(ExitCode::SUCCESS);
                }
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

impl Serve {
    async fn run(self) -> anyhow::Result<()> {
        if !self.listen.ip().is_loopback() && !self.behind_tls_proxy {
            let open =
                Failure::new(Exit::Usage, format!("{} is reached from other computers, without TLS", self.listen));
            return Err(open.advise("put a proxy that speaks TLS before it and say --behind-tls-proxy").into());
        }
        let cancellation = stop::on_signal()?;
        let depot = Depot::open(self.dir)?;
        let images = depot.list()?.len();
        let key = depot.public_key();
        let server = Server::bind(depot, self.listen)?;
        let address = server.local_addr().context("failed to ask where the depot listens")?;
        tracing::info!("the depot is listening at http://{address} with {images} images, signed with {key}");
        Ok(server.run(cancellation).await?)
    }
}
