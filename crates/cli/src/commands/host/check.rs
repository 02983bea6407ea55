//! `sublet host check`

use super::{Monitor, State};
use crate::output::{self, Format, Rows};
use crate::progress::Progress;
use clap::Args;
use std::process::ExitCode;
use sublet_host::check::{CheckOptions, Report, Verdict, check};

/// Look at this computer: what was measured, what is required, what to do
///
/// Changes nothing; boots a small kernel to see whether the processor's virtualisation works.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo sublet host check")]
pub struct Check {
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    monitor: Monitor,
}

impl Check {
    /// Prints the lines; fails where this computer can't lend as it is.
    pub async fn run(self, format: Format) -> anyhow::Result<ExitCode> {
        let options = CheckOptions {
            state_dir: self.state.folder()?,
            accelerator: self.monitor.insisted(),
            qemu: self.monitor.qemu,
            host: "sublet-check".into(),
        };
        let progress = Progress::start("looking at this computer");
        let report = tokio::task::spawn_blocking(move || check(&options)).await?;
        progress.clear();
        if format == Format::Json {
            output::json(&report)?
        } else {
            print(&report)?
        }
        Ok(if report.verdict() == Verdict::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut rows = Rows::new(&["", "what", "measured", "required"], "");
    for line in &report.lines {
        let verdict = match line.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "limited",
            Verdict::Fail => "FAILED",
        };
        rows.row(vec![verdict.into(), line.what.into(), line.measured.clone(), line.required.clone()]);
    }
    rows.print()?;
    for line in report.lines.iter().filter(|line| !line.to_do.is_empty()) {
        output::print(&output::clean(&format!("{}: {}", line.what, line.to_do)))?;
    }
    let words = match report.verdict() {
        Verdict::Ok => "this computer can lend".into(),
        Verdict::Warn => format!("this computer can lend, with the limits above (partitions: {})", report.tier),
        Verdict::Fail => "this computer can't lend as it is".to_string(),
    };
    Ok(output::print(&words)?)
}
