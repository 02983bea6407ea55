//! `sublet host …`: what a lender does on the own computer, and what everybody may see of hosts.

mod check;
mod divide;
mod earnings;
mod enter;
pub mod guard;
mod join;
mod lend;
mod list;
mod mine;
mod own;
mod serve;
mod spec;

use crate::api::Market;
use crate::args::Global;
use crate::failure::{Exit, Failure};
use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use etcetera::BaseStrategy;
use std::path::PathBuf;
use std::process::ExitCode;
use sublet_host::store::Store;
use sublet_host::vmm::Accelerator;

/// Lend this computer, and look at hosts
///
/// A lender goes: check, join, lend, run. What is kept for yourself is never lent, and nothing is
/// lent before `lend`. `divide` makes partitions in which your own work runs, apart from clients'.
#[derive(Debug, Subcommand)]
pub enum Host {
    Check(check::Check),
    Join(join::Join),
    Lend(lend::Lend),
    Divide(divide::Divide),
    Own(mine::Mine),
    Enter(enter::Enter),
    SshConfig(enter::SshConfig),
    Unlist(own::Unlist),
    TakeBack(own::TakeBack),
    Run(serve::Run),
    Status(own::StatusOf),
    #[command(visible_alias = "join-token")]
    Token(join::Token),
    Earnings(earnings::Earnings),
    /// Hosts of the market
    #[command(visible_alias = "ls")]
    List,
    /// One host: what it has, how it is divided, who holds what
    Show {
        /// Name or id of the host
        #[arg(value_parser = crate::values::reference)]
        host: String,
    },
}

/// Where this computer keeps who it is and how it is divided.
#[derive(Debug, Clone, Args)]
pub struct State {
    /// Folder of this host's state [default: /var/lib/sublet/host as root, else below the XDG data folder]
    #[arg(long, env = "SUBLET_STATE", hide_env_values = true, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl State {
    /// The folder.
    pub fn folder(&self) -> anyhow::Result<PathBuf> {
        match &self.state {
            Some(state) => Ok(state.clone()),
            None if rustix::process::geteuid().is_root() => Ok("/var/lib/sublet/host".into()),
            None => {
                let base = etcetera::choose_base_strategy().context("failed to find the home folder; use --state")?;
                Ok(base.data_dir().join("sublet/host"))
            }
        }
    }

    /// The store of a computer that has joined.
    pub fn joined(&self) -> anyhow::Result<Store> {
        let folder = self.folder()?;
        let none = || {
            let none = Failure::new(Exit::NotFound, format!("{} is the state of no host", folder.display()));
            anyhow::Error::from(
                none.advise("join a market first with `sublet host join`, or name the folder with --state"),
            )
        };
        if !folder.join("host.sqlite").is_file() {
            return Err(none());
        }
        let store = Store::open(&folder)?;
        if store.identity()?.is_none() {
            return Err(none());
        }
        Ok(store)
    }
}

/// QEMU and what it runs on.
#[derive(Debug, Clone, Args)]
pub struct Monitor {
    /// What runs partitions; auto boots a small kernel to find out
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
    /// QEMU
    #[arg(long, env = "SUBLET_QEMU", hide_env_values = true, value_name = "FILE",
          default_value = sublet_host::inventory::QEMU_PROGRAM)]
    qemu: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Accel {
    /// The processor's own virtualisation
    Kvm,
    /// Software emulation
    Tcg,
    /// Whichever works
    Auto,
}

impl Monitor {
    /// What the owner insists on.
    fn insisted(&self) -> Option<Accelerator> {
        match self.accel {
            Accel::Kvm => Some(Accelerator::Kvm),
            Accel::Tcg => Some(Accelerator::Tcg),
            Accel::Auto => None,
        }
    }
}

impl Host {
    /// Does it.
    pub async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let format = global.output;
        match self {
            Self::Check(check) => return check.run(format).await,
            Self::Join(join) => join.run(format).await?,
            Self::Lend(lend) => lend.run(format).await?,
            Self::Divide(divide) => divide.run(&Market::open(&global.asked())?, format).await?,
            Self::Own(mine) => mine.run(format)?,
            Self::Enter(enter) => return enter.run().await,
            Self::SshConfig(config) => return config.run(),
            Self::Unlist(unlist) => unlist.run(format)?,
            Self::TakeBack(back) => back.run(format)?,
            Self::Run(run) => run.run().await?,
            Self::Status(status) => status.run(format)?,
            Self::Token(token) => token.run(&Market::open(&global.asked())?, format).await?,
            Self::Earnings(earnings) => earnings.run(&Market::open(&global.asked())?, format).await?,
            Self::List => list::list(&Market::open(&global.asked())?, format).await?,
            Self::Show { host } => list::show(&Market::open(&global.asked())?, &host, format).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Measures this computer, with a word on why it takes a moment.
async fn measure(state: PathBuf, monitor: &Monitor) -> anyhow::Result<sublet_model::host::Inventory> {
    let progress = crate::progress::Progress::start("measuring this computer");
    let (qemu, insisted) = (monitor.qemu.clone(), monitor.insisted());
    let measured = tokio::task::spawn_blocking(move || sublet_host::agent::measure(&state, &qemu, insisted)).await?;
    progress.clear();
    measured
}
