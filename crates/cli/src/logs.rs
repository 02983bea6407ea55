//! Logs on stderr: what servers do is worth a line each, what commands do is not.

use crate::args::Command;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing_subscriber::EnvFilter;

static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Whether the person asked for more words.
pub fn is_verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

/// Starts logging; `RUST_LOG` has the last word.
pub fn start(command: &Command, verbose: u8) {
    VERBOSE.store(verbose > 0, Ordering::Relaxed);
    let default = match (command.serves(), verbose) {
        (true, 0) => "info,iroh=warn",
        // What the ends of a way say when they close is news to nobody who waits for a command.
        (false, 0) => "error,iroh=off",
        (true, _) | (false, 1) => "info,iroh=off,sublet=debug,sublet_market=debug,sublet_host=debug,sublet_depot=debug",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
}
