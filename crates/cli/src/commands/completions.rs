//! `sublet completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Completions for your shell, on stdout
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet completions bash > ~/.local/share/bash-completion/completions/sublet")]
pub struct Completions {
    /// bash, zsh, fish …
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::args::Args::command(), "sublet", &mut script);
        Ok(crate::output::print(&String::from_utf8(script)?)?)
    }
}
