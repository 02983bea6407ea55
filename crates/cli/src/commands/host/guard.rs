//! `sublet guard`: the parent of one partition's machine. No runtime, one thread.

use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// The small parent process of one partition (started by `host run`).
#[derive(Debug, Args)]
pub struct Guard {
    /// The partition's run directory
    #[arg(long)]
    run_dir: PathBuf,
}

/// Runs until the machine has ended.
pub fn run(guard: Guard) -> anyhow::Result<ExitCode> {
    sublet_host::guard::run(sublet_host::guard::GuardArgs { run_dir: guard.run_dir })?;
    Ok(ExitCode::SUCCESS)
}
