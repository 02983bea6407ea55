//! `sublet run`: rent, boot, run, collect, release, in one.
//!
//! `ssh` starts the moment the lease is granted: the host holds the command until the guest is
//! ready, so that the handshake hides behind the boot.

use super::job::{self, below};
use super::leasing::{self, Patience, Rented};
use super::module::Module;
use super::needs::Needs;
use super::renting::{self, Wish};
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::output::say;
use crate::progress::Progress;
use crate::ssh::{self, ClientKey, Ended, Invocation, Pass};
use crate::transfer::{Missing, Transfer};
use crate::values;
use clap::Args;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sublet_model::lease::EndReason;
use sublet_model::units::Seconds;
use sublet_wire::api::LeaseView;

/// Run one command in a partition of its own, and pay for just that
///
/// Rents, boots, runs, gives back. Streams pass through, the exit status is the command's own (255
/// if the way to it broke), and the lease ends with the command. Where the operating system runs
/// WebAssembly, a command that is a .wasm file here comes along.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet run --os debian -- uname -a\n  sublet run 'cpu>=2 os=debian price<=0.05/h' -- nproc\n  sublet run --cpu 2 --os debian -- sha256sum < big.file\n  sublet run --in . --out results --os debian -- make results\n  sublet run --lease box -- df -h\n  sublet run --os wasm -- job.wasm < input"
)]
pub struct Run {
    #[command(flatten)]
    pub(super) needs: Needs,
    /// In this lease, which goes on afterwards, instead of a new one
    #[arg(long, value_parser = values::reference, value_name = "LEASE")]
    lease: Option<String>,
    /// What to call the new lease [default: made up]
    #[arg(long, value_parser = values::name, conflicts_with = "lease")]
    name: Option<String>,
    /// If nothing fits, wait so long until something does; whoever came first is served first
    #[arg(long, value_parser = values::seconds, value_name = "SPAN", conflicts_with = "lease")]
    wait: Option<Seconds>,
    /// Copy this folder's contents, or this file, into the folder in which the command runs
    #[arg(long = "in", value_name = "PATH", conflicts_with = "lease")]
    from: Vec<PathBuf>,
    /// Bring this here when the command has ended, however it did: a path below that folder
    #[arg(long, value_parser = below, value_name = "PATH", conflicts_with = "lease")]
    out: Vec<String>,
    /// If this program or its computer goes away while the command runs, end the lease after so long
    /// (the command is waited for) [default: 2m]
    #[arg(long, value_parser = values::seconds, value_name = "SPAN", conflicts_with = "lease")]
    release_after_disconnect: Option<Seconds>,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// The command and its arguments, after --; a single word is a line for the shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Where the command runs if files come along, below the home folder.
const FOLDER: &str = "work";
/// How long such a lease outlives this program.
const AFTERLIFE: Seconds = Seconds(120);
/// A refusal at the door within this time is tried again: the host may hear of the grant a
/// moment after we do.
const DOOR: Duration = Duration::from_secs(15);
/// After the way broke: how long the reason may take to reach the market.
const REASON: Duration = Duration::from_secs(3);
/// How long the summary waits for the bill to be final.
const SETTLING: Duration = Duration::from_secs(20);

impl Run {
    /// Runs it; the exit code is the guest's.
    pub async fn run(self, market: &Market, verbose: bool) -> anyhow::Result<ExitCode> {
        ssh::available()?;
        match &self.lease {
            Some(which) => self.in_lease(market, which).await,
            None => self.in_new_lease(market, verbose).await,
        }
    }

    fn invocation(&self, module: Option<&Module>) -> Invocation {
        let mut line = module.map_or_else(|| ssh::shell_line(&self.command), |module| module.line(&self.command));
        if self.has_files() {
            line = format!("mkdir -p {FOLDER} && cd {FOLDER} || exit 125\n{line}");
        }
        Invocation { terminal: Some(self.tty), command: Some(line), ..Invocation::default() }
    }

    fn has_files(&self) -> bool {
        !self.from.is_empty() || !self.out.is_empty()
    }

    async fn in_lease(&self, market: &Market, which: &str) -> anyhow::Result<ExitCode> {
        let (pass, key) = leasing::pass_of(market, which).await?;
        enter(market, &pass, &key, self.invocation(None)).await
    }

    async fn in_new_lease(&self, market: &Market, verbose: bool) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        // With files to bring back the lease does not end with the command; it ends once nobody is there.
        let wish = Wish {
            name: self.name.clone(),
            one_shot: !self.has_files(),
            wait: self.wait,
            release_after_disconnect: self.release_after_disconnect,
            ..Wish::default()
        };
        let rented = renting::rent_one(market, &self.needs, wish).await?;
        let progress =
            Arc::new(Progress::start(format!("{}: granted on {}", rented.lease.name, rented.lease.host_name)));
        let ended = async {
            let module = Module::wanted(market, &rented.lease, &self.command).await?;
            self.bring_in(market, &rented, module.as_ref(), &progress).await?;
            let ended = self.at_the_door(market, &rented, module.as_ref(), &progress).await?;
            let brought = self.bring_out(&rented, &ended).await;
            anyhow::Ok((ended, brought))
        };
        let ended = ended.await;
        progress.clear();
        let lease = &rented.lease;
        let (ended, brought) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                leave(market, lease).await;
                return Err(error);
            }
        };
        if let Some((path, error)) = brought.kept {
            // What it made is still there, and only there.
            return left_there(&lease.name, &ended, &path, error);
        }
        let seen = match ended {
            Ended::Stopped(_) => leave(market, lease).await,
            // The host sees a partition's end first; the market knows the reason a moment later.
            Ended::Broken(_) | Ended::Exited(255) => {
                let seen = leasing::reason_within(market, lease.id, REASON).await;
                if seen.as_ref().is_none_or(|lease| lease.state.is_wanted()) {
                    leave(market, lease).await;
                }
                seen
            }
            Ended::Exited(_) if self.has_files() => leave(market, lease).await.and(None),
            Ended::Exited(_) => None,
        };
        if verbose || std::io::stderr().is_terminal() {
            say_bill(market, rented.lease, started).await;
        }
        match brought.missing {
            Some(error) => without_results(&ended, error),
            None => conclude(ended, seen),
        }
    }

    async fn bring_in(
        &self,
        market: &Market,
        rented: &Rented,
        module: Option<&Module>,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        if let Some(module) = module {
            if self.has_files() {
                return Err(module.comes_alone().into());
            }
            leasing::until_ready(market, rented.lease.clone(), progress, Patience::new(None)).await?;
            progress.clear();
            return module.bring_in(rented).await;
        }
        if !self.has_files() {
            return Ok(());
        }
        let idle = self.release_after_disconnect.unwrap_or(AFTERLIFE);
        let id = rented.lease.id.to_string();
        // Before the wait: else a client that is killed meanwhile leaves a lease that runs its whole term.
        let told = job::release_when_idle(market, &id, idle).await;
        leasing::until_ready(market, rented.lease.clone(), progress, Patience::new(None)).await?;
        progress.clear();
        if let Err(error) = told {
            tracing::info!(%error, "the host is told again when the lease is to end");
            job::release_when_idle(market, &id, idle).await?;
        }
        for from in &self.from {
            Transfer::new(&rented.pass, &rented.key).copy_in(from, FOLDER).await?;
        }
        Ok(())
    }

    /// Brings here what is there; one path that can't be brought does not hold up the others.
    async fn bring_out(&self, rented: &Rented, ended: &Ended) -> Brought {
        let mut brought = Brought::default();
        if let Ended::Exited(_) = ended {
            for path in &self.out {
                let copied = Transfer::new(&rented.pass, &rented.key).copy_out(FOLDER, path, Path::new(".")).await;
                brought.note(path, copied);
            }
        }
        brought
    }

    /// Calls `ssh`, again while the host does not know the lease yet.
    async fn at_the_door(
        &self,
        market: &Market,
        rented: &Rented,
        module: Option<&Module>,
        progress: &Arc<Progress>,
    ) -> anyhow::Result<Ended> {
        let lease = &rented.lease;
        if self.tty {
            // A terminal of the guest and a progress line can't share a screen.
            leasing::until_ready(market, lease.clone(), progress, Patience::new(None)).await?;
            progress.clear();
        }
        let watch = async {
            let seen = leasing::beyond_granted(market, lease.clone(), progress, Patience::new(None)).await;
            progress.clear();
            match seen {
                // Released: the command was quicker than this look, and its status is on its way.
                Ok(lease) => failed(&lease).then(|| leasing::ended(&lease).with_exit(Exit::Transport).into()),
                Err(error) => Some(error),
            }
        };
        tokio::pin!(watch);
        let call = self.call(market, rented, module, progress);
        tokio::pin!(call);
        let mut watching = !self.tty;
        loop {
            tokio::select! {
                ended = &mut call => return ended,
                // The lease ended before the guest was ready: the reason is the market's to tell.
                failed = &mut watch, if watching => match failed {
                    Some(error) => return Err(error),
                    None => watching = false,
                },
            }
        }
    }

    async fn call(
        &self,
        market: &Market,
        rented: &Rented,
        module: Option<&Module>,
        progress: &Arc<Progress>,
    ) -> anyhow::Result<Ended> {
        let Rented { lease, pass, key } = rented;
        let until = Instant::now() + DOOR;
        let mut pause = Duration::from_millis(50);
        loop {
            let ended = ssh::run(self.invocation(module), pass, key, first_byte(progress, self.tty)).await?;
            let Ended::Broken(said) = &ended else { return Ok(ended) };
            let wanted = || async { market.lease(&lease.id.to_string()).await.is_ok_and(|l| l.state.is_wanted()) };
            if !never_began(said) || Instant::now() + pause > until || !wanted().await {
                return Ok(ended);
            }
            tracing::info!(said, "knocking again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// What became of the paths that were to be brought here.
#[derive(Debug, Default)]
struct Brought {
    /// The first that is there and could not be brought.
    kept: Option<(String, anyhow::Error)>,
    /// The first that the command did not make.
    missing: Option<anyhow::Error>,
}

impl Brought {
    fn note(&mut self, path: &str, copied: anyhow::Result<()>) {
        match copied {
            Ok(()) => {}
            Err(error) if error.is::<Missing>() => drop(self.missing.get_or_insert(error)),
            Err(error) => drop(self.kept.get_or_insert((path.to_owned(), error))),
        }
    }
}

/// The end of a command whose results are in the partition still. Its own status if that was bad: what
/// is not here is no success.
fn left_there(name: &str, ended: &Ended, path: &str, error: anyhow::Error) -> anyhow::Result<ExitCode> {
    let what = format!("the command ended, but {path} could not be brought here, so {name} was not released");
    let advice = format!("`sublet release {name} --save {FOLDER}/{path}`, soon: unused, it ends by itself");
    match ended {
        Ended::Exited(code @ 1..) => {
            say(format!("{what}: {error:#}; {advice}"));
            Ok(ExitCode::from(*code))
        }
        _ => Err(error.context(Failure::new(Exit::Failed, what).advise(advice))),
    }
}

/// The end of a command that did not make what was to be brought here: what failed is believed to have
/// made nothing.
fn without_results(ended: &Ended, error: anyhow::Error) -> anyhow::Result<ExitCode> {
    match ended {
        Ended::Exited(code @ 1..) => {
            say(format!("{error:#}"));
            Ok(ExitCode::from(*code))
        }
        _ => Err(error),
    }
}

/// Where a progress line is drawn, output passes through us, so that the line makes room for it.
fn first_byte(progress: &Arc<Progress>, tty: bool) -> Option<Arc<dyn Fn() + Send + Sync>> {
    let shares_a_screen = !tty && std::io::stderr().is_terminal();
    let progress = progress.clone();
    shares_a_screen.then(|| Arc::new(move || progress.clear()) as Arc<dyn Fn() + Send + Sync>)
}

/// Whether `ssh` was turned away before any command could run, so that trying again is safe.
fn never_began(said: &str) -> bool {
    let at_the_door =
        ["Permission denied", "Connection refused", "Connection timed out", "kex_exchange_identification"];
    at_the_door.iter().any(|words| said.contains(words))
}

/// Gives a lease back and says where it stands; what fails here ends by itself a little later.
async fn leave(market: &Market, lease: &LeaseView) -> Option<LeaseView> {
    let id = lease.id.to_string();
    let tidy = async {
        let now = market.lease(&id).await.ok()?;
        if now.state.is_wanted() {
            market.release(&id).await.ok();
        }
        Some(now)
    };
    tokio::time::timeout(Duration::from_secs(5), tidy).await.ok().flatten()
}

/// Enters a lease that is there.
pub async fn enter(market: &Market, pass: &Pass, key: &ClientKey, invocation: Invocation) -> anyhow::Result<ExitCode> {
    conclude_with(market, pass, ssh::run(invocation, pass, key, None).await?).await
}

/// The same of what was already run: where the way broke, the market is asked why.
pub async fn conclude_with(market: &Market, pass: &Pass, ended: Ended) -> anyhow::Result<ExitCode> {
    let seen = match ended {
        Ended::Broken(_) | Ended::Exited(255) => {
            let look = leasing::reason_within(market, pass.lease, REASON);
            tokio::time::timeout(2 * REASON, look).await.ok().flatten()
        }
        _ => None,
    };
    conclude(ended, seen)
}

/// Whether a lease ends for a reason that a client did not choose.
fn failed(lease: &LeaseView) -> bool {
    lease.state.reason().is_some_and(|reason| reason != EndReason::Released)
}

/// The exit code of what happened, and the reason where the way broke.
fn conclude(ended: Ended, lease: Option<LeaseView>) -> anyhow::Result<ExitCode> {
    let said = match ended {
        Ended::Exited(255) => None,
        Ended::Exited(code) => return Ok(ExitCode::from(code)),
        Ended::Stopped(signal) => return Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))),
        Ended::Broken(said) => Some(said),
    };
    if let Some(lease) = lease.filter(failed) {
        return Err(leasing::ended(&lease).with_exit(Exit::Transport).into());
    }
    match said {
        // The command itself said 255.
        None => Ok(ExitCode::from(255)),
        Some(said) => {
            let broken = Failure::new(Exit::Transport, format!("the connection to the partition broke: {said}"));
            Err(broken.advise("try again; `sublet lease list` shows what still runs").into())
        }
    }
}

/// One line: how long, how much. Waits a little for the final bill.
async fn say_bill(market: &Market, lease: LeaseView, started: Instant) {
    let progress = Progress::start(format!("{}: stopping and wiping", lease.name));
    let Ok(lease) = market.lease(&lease.id.to_string()).await else { return };
    let name = lease.name.clone();
    let lease = match leasing::until_ended(market, lease, &progress, Patience::new(Some(SETTLING))).await {
        Ok(lease) => lease,
        Err(_) => {
            return say(format!("{name}: the host has not yet said that it is wiped; `sublet statement` has the bill"));
        }
    };
    let bill = leasing::bill(market, lease.id).await;
    progress.clear();
    say(format!("{}, {:.1}s in all", leasing::summary(&lease, bill.as_ref()), started.elapsed().as_secs_f64()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_own_status_outlives_results_that_did_not_come() {
        let mut brought = Brought::default();
        brought.note("fine", Ok(()));
        assert!(brought.kept.is_none() && brought.missing.is_none());
        brought.note("none", Err(Missing::new("none", FOLDER).into()));
        brought.note("big", Err(anyhow::anyhow!("the way broke")));
        brought.note("late", Err(anyhow::anyhow!("the way broke")));
        let (path, error) = brought.kept.unwrap();
        assert_eq!(path, "big", "the first, though another one was never made");

        let code = |ended: anyhow::Result<ExitCode>| ended.map(|code| format!("{code:?}")).ok();
        let three = Some(format!("{:?}", ExitCode::from(3)));
        assert_eq!(code(left_there("box", &Ended::Exited(3), "big", anyhow::anyhow!("the way broke"))), three);
        assert_eq!(code(without_results(&Ended::Exited(3), Missing::new("none", FOLDER).into())), three);
        // What is not here is no success.
        assert!(without_results(&Ended::Exited(0), brought.missing.unwrap()).is_err());
        let error = left_there("box", &Ended::Exited(0), &path, error).unwrap_err();
        assert!(format!("{error:#}").contains("box was not released: the way broke"), "{error:#}");
    }

    #[test]
    fn only_a_refusal_at_the_door_is_tried_again() {
        for said in ["x@h: Permission denied (publickey).", "ssh: connect to host h port 1: Connection refused"] {
            assert!(never_began(said), "{said}");
        }
        for said in ["Timeout, server h not responding.", "client_loop: send disconnect: Broken pipe", ""] {
            assert!(!never_began(said), "{said}");
        }
    }
}
