//! `sublet verify`

use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use sublet_model::identity::PublicKey;
use sublet_model::statement::{Fault, Holds, Shown, Side, Verdict, verify_with};

/// The longest statement that is read.
const MOST_BYTES: u64 = 256 << 20;

/// Recompute a statement from what was signed, offline
///
/// Checks every signature, the chain of receipts and the arithmetic of every line, and names the
/// first record that does not hold. No market is asked.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sublet statement --export statement.json; sublet verify statement.json\n\n\
                        Exit codes: 0 it holds, 1 it does not, 3 no such file.")]
pub struct Verify {
    /// The exported statement, - for stdin
    file: PathBuf,
    /// A key that the market has or had, as `sublet whoami` or its operator tells it
    #[arg(long, value_name = "KEY")]
    market_key: Option<PublicKey>,
    /// If it holds, print it for a spreadsheet or for a printer
    #[arg(long = "as", value_enum, value_name = "FORM")]
    form: Option<Form>,
}

/// Another form of a statement.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// A row a lease
    Csv,
    /// A page to print, with the arithmetic
    Html,
}

impl Verify {
    /// Says whether it holds.
    pub fn run(self, format: Format) -> anyhow::Result<ExitCode> {
        let document = read(&self.file)?;
        let mut shown = Shown::default();
        let verdict = verify_with(&document, self.market_key, |record| {
            if self.form.is_some() {
                shown.take(record);
            }
        });
        match (&verdict, self.form) {
            (Verdict::Holds(_), Some(Form::Csv)) => output::print(&shown.csv())?,
            (Verdict::Holds(_), Some(Form::Html)) => output::print(&shown.html())?,
            // One line, so that it is the same to the byte, whoever verified.
            _ if format == Format::Json => output::print(&serde_json::to_string(&verdict)?)?,
            (Verdict::Holds(holds), None) => output::print(&told(holds, self.market_key.is_some()))?,
            (Verdict::Fails(fault), _) => return Err(failure(&self.file, fault).into()),
        }
        Ok(if matches!(verdict, Verdict::Holds(_)) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let failed = |error: io::Error| {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format!("failed to read {}: {error}", file.display()))
            .advise("get one with `sublet statement --export FILE`")
    };
    let mut document = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut document)
    } else {
        File::open(file).and_then(|open| open.take(MOST_BYTES + 1).read_to_end(&mut document))
    };
    read.map_err(failed)?;
    if document.len() as u64 > MOST_BYTES {
        let long = Failure::new(Exit::Failed, format!("{} is longer than {MOST_BYTES} bytes", file.display()));
        return Err(long.advise("export a shorter period").into());
    }
    Ok(document)
}

fn told(holds: &Holds, known: bool) -> String {
    let verb = match holds.side {
        Side::Client => "to pay",
        Side::Lender => "earned",
        Side::Operator => "kept",
    };
    let whose = if known { "the key you named" } else { "this key; compare it with your market's, or name it" };
    format!(
        "holds: {} leases of {} ({}), settled from {} to before {}\n\
         {verb}: {} {} (charged {}, credited {}, fees {})\n\
         signed by {}, {whose}",
        holds.leases,
        holds.account,
        holds.side,
        holds.from,
        holds.until,
        holds.amount,
        output::clean(&holds.currency),
        holds.charged,
        holds.credited,
        holds.fees,
        holds.market
    )
}

fn failure(file: &Path, fault: &Fault) -> Failure {
    let mut shown: Vec<String> = Vec::new();
    shown.extend(fault.expected.as_ref().map(|text| format!("expected: {text}")));
    shown.extend(fault.found.as_ref().map(|text| format!("found:    {text}")));
    let failure = Failure::new(Exit::Failed, format!("{} does not hold: {fault}", file.display()));
    let failure = if shown.is_empty() { failure } else { failure.showing(shown.join("\n")) };
    failure.advise("get it again with `sublet statement --export FILE`; if that does not hold either, keep both files")
}
