//! `sublet host enter`: into a partition of the owner's own, through a socket in the state folder. Who
//! may read that folder may enter; the market is not asked.

use super::State;
use crate::commands::ssh_config;
use crate::config::{private_folder, write_private};
use crate::failure::{Exit, Failure};
use crate::ssh::{self, ClientKey, Ended, Invocation, Target};
use crate::values;
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sublet_host::agent::{EVERY_START, OWN_SOCKET, own_user};
use sublet_host::division::DivisionError;
use sublet_host::ssh::LeaseKey;
use sublet_host::store::{Own, Store, Wish};

/// A certificate opens the door for so long; whoever is in stays in.
const CERTIFICATE_HOLDS: Duration = Duration::from_secs(5 * 60);
/// What a partition's name ends with where `ssh` is to know it.
const SUFFIX: &str = ".own";

/// Enter a partition of your own on this computer, or run one command in it
///
/// While it starts, it is waited for. Works while the market is away.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo sublet host enter debian\n  sudo sublet host enter debian -- systemctl is-system-running"
)]
pub struct Enter {
    /// Its name
    #[arg(value_parser = values::name)]
    name: String,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    #[command(flatten)]
    state: State,
    /// A command and its arguments, after --; a single word is a line for the shell [default: a
    /// login shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Let plain `ssh NAME.own` into partitions of your own, and every tool that calls ssh
///
/// Writes a file and prints the one line that includes it; put that at the top of ~/.ssh/config of
/// whoever may read this host's state folder. From then on: ssh debian.own, scp, sftp, rsync.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo sublet host ssh-config   (put the line at the top of /root/.ssh/config)")]
pub struct SshConfig {
    /// Get a fresh pass to NAME.own and write it down; `ssh` itself calls this
    #[arg(long, value_name = "NAME", hide = true)]
    refresh: Option<String>,
    #[command(flatten)]
    state: State,
}

impl Enter {
    /// Runs it; the exit code is the guest's.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        ssh::available()?;
        let store = self.state.joined()?;
        let target = target(&store, &self.name)?;
        let invocation = Invocation {
            terminal: self.tty.then_some(true),
            command: (!self.command.is_empty()).then(|| ssh::shell_line(&self.command)),
            ..Invocation::default()
        };
        match ssh::run_to(invocation, &target, None).await? {
            Ended::Exited(code) => Ok(ExitCode::from(code)),
            Ended::Stopped(signal) => Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))),
            Ended::Broken(said) => {
                let broken = format!("the connection to {} broke: {said}", self.name);
                let advice = "`sublet host own list` shows how it stands";
                Err(Failure::new(Exit::Transport, broken).advise(advice).into())
            }
        }
    }
}

impl SshConfig {
    /// Writes and prints.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let store = self.state.joined()?;
        let folder = store.state().join("enter/ssh");
        match &self.refresh {
            Some(host) => {
                let name = values::name(host.strip_suffix(SUFFIX).unwrap_or(host)).map_err(anyhow::Error::msg)?;
                ssh_config::write_down(&folder, &format!("{name}{SUFFIX}"), &target(&store, &name)?)
            }
            None => {
                let state = store.state().to_string_lossy().into_owned();
                ssh_config::set_up(&folder, SUFFIX, &["host", "ssh-config", "--state", &state].map(String::from))
            }
        }
    }
}

/// The way into one, with a certificate that was made for it now.
fn target(store: &Store, name: &str) -> anyhow::Result<Target> {
    let own = running(store, name)?;
    let folder = store.state().join("enter");
    let key = ClientKey::of(&folder)?;
    let folder: PathBuf = folder.join("of").join(&own.name);
    private_folder(&folder)?;
    let user = own_user(&own.name);
    let principal = LeaseKey { lease: user.clone(), generation: EVERY_START }.principal();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let public = ssh_key::PublicKey::from_openssh(&key.public)?;
    let until = (now + CERTIFICATE_HOLDS).as_secs();
    let certificate = store.own_authority()?.certify(&public, &principal, now.as_secs(), until);
    let certificate = certificate.context("failed to certify you")?;
    write_private(&folder.join("certificate.pub"), format!("{certificate}\n").as_bytes())?;
    write_private(&folder.join("known_hosts"), format!("{user} {}\n", store.keys()?.ssh_public).as_bytes())?;
    Target::local(&user, &store.state().join(OWN_SOCKET), folder, &key)
}

/// One that runs, or will soon.
fn running(store: &Store, name: &str) -> anyhow::Result<Own> {
    let unknown = || DivisionError::NotOwn(name.into());
    let own = store.own()?.into_iter().find(|own| own.name == name).ok_or_else(unknown)?;
    let not = |words: String, advice: String| Err(Failure::new(Exit::Failed, words).advise(advice).into());
    if !store.has_agent() {
        return not("the agent of this host does not run".into(), "start it with `sublet host run`".into());
    }
    let said = own.said.as_ref().map_or(String::new(), |said| format!(": {said}"));
    match own.wish {
        Wish::Run => Ok(own),
        Wish::Stop => not(format!("{name} is stopped{said}"), format!("`sublet host own start {name}` starts it")),
        Wish::Remove => not(format!("{name} is being removed"), "`sublet host own list` shows what there is".into()),
    }
}
