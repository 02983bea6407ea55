//! `sublet`: the one program of lenders, clients and operators.
//!
//! Commands parse in `args`, each does its work in its own file under `commands`, data goes to
//! stdout through `output`, and whatever fails ends in `failure`, which chooses words and exit code.

mod api;
mod args;
mod commands;
mod config;
mod failure;
mod logs;
mod output;
mod progress;
mod ssh;
mod transfer;
mod values;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let verbose = args.global.verbose > 0;
    let outcome = match args.command {
        // The parent of a partition stays one small thread.
        Command::Guard(guard) => commands::host::guard::run(guard),
        command => on_runtime(command, args.global),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => failure::report(&error, verbose),
    }
}

fn on_runtime(command: Command, global: args::Global) -> anyhow::Result<ExitCode> {
    logs::start(&command, global.verbose);
    sublet_wire::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(commands::run(command, global));
    // A thread that still reads a terminal must not hold the program open.
    runtime.shutdown_background();
    outcome
}
