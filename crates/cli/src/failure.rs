//! How a failure is said, and with which exit code: what was tried, why it failed, what to do.

use crate::output::clean;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use sublet_wire::client::ClientError;
use sublet_wire::problem::{Kind, Problem};

/// Exit codes that scripts may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything else.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No such lease, host, image …
    NotFound = 3,
    /// No token, or one that may not do this.
    Auth = 4,
    /// It stands in the way of something that is.
    Conflict = 5,
    /// Nothing fits the requirements.
    NoMatch = 6,
    /// It took longer than `--timeout`.
    Timeout = 124,
    /// The way to the partition broke, not the work in it.
    Transport = 255,
}

/// A failure of our own, with what to do about it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    problem: String,
    shown: Option<String>,
    advice: Option<String>,
}

impl Failure {
    /// What went wrong.
    pub fn new(exit: Exit, problem: impl Into<String>) -> Self {
        Self { exit, problem: problem.into(), shown: None, advice: None }
    }

    /// What to do about it.
    pub fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// Lines under the problem, as they stand: a text with the place that is wrong.
    pub fn showing(self, lines: impl Into<String>) -> Self {
        Self { shown: Some(lines.into()), ..self }
    }

    /// With another exit code.
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Failure {}

/// Says a failure on stderr.
pub fn report(error: &anyhow::Error, verbose: bool) -> ExitCode {
    // Whoever reads our output stopped reading: there is nobody to tell.
    if error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)) {
        return ExitCode::SUCCESS;
    }
    // A terminal that is gone is no reason to panic.
    let _ = io::stderr().write_all(render(error, verbose, colour()).as_bytes());
    ExitCode::from(exit_code(error) as u8)
}

fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// The first cause that knows an exit code decides.
fn exit_code(error: &anyhow::Error) -> Exit {
    let of = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<ClientError>().map(of_client);
    let own = own(error).map(|failure| failure.exit);
    own.or_else(|| error.chain().find_map(of)).unwrap_or(Exit::Failed)
}

/// Our own failure, whether it is the cause or the words around one: of words around a cause only
/// the whole error knows the type.
fn own(error: &anyhow::Error) -> Option<&Failure> {
    error.downcast_ref().or_else(|| error.chain().find_map(|cause| cause.downcast_ref()))
}

fn of_client(error: &ClientError) -> Exit {
    match error.kind() {
        Some(Kind::NotFound) => Exit::NotFound,
        Some(Kind::Unauthenticated | Kind::Forbidden) => Exit::Auth,
        Some(Kind::Conflict | Kind::Locked | Kind::IdempotencyMismatch | Kind::OutOfFunds) => Exit::Conflict,
        Some(Kind::NoMatch) => Exit::NoMatch,
        Some(Kind::Invalid) => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn render(error: &anyhow::Error, verbose: bool, colour: bool) -> String {
    let mut causes: Vec<String> = error.chain().map(|cause| clean(&cause.to_string())).collect();
    causes.dedup();
    let label = if colour { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    let mut text = format!("{label} {}\n", causes.join(": "));
    for line in details(error) {
        text += &format!("  {}\n", clean(&line));
    }
    if let Some(advice) = advice(error) {
        text += &format!("what to do: {}\n", clean(&advice));
    }
    if verbose && let Some(id) = problem(error).and_then(|p| p.request_id.as_deref()) {
        text += &format!("request id: {}\n", clean(id));
    }
    text
}

fn problem(error: &anyhow::Error) -> Option<&Problem> {
    error.chain().find_map(|cause| match cause.downcast_ref::<ClientError>()? {
        ClientError::Problem(problem) => Some(&**problem),
        _ => None,
    })
}

fn details(error: &anyhow::Error) -> Vec<String> {
    if let Some(shown) = own(error).and_then(|failure| failure.shown.as_deref()) {
        // Every character keeps its column, so that what points at one still does.
        return shown.lines().map(|line| line.replace('\t', " ")).collect();
    }
    problem(error).map(|p| p.unfit.iter().map(crate::output::unfit_line).collect()).unwrap_or_default()
}

fn advice(error: &anyhow::Error) -> Option<String> {
    let own = own(error).and_then(|failure| failure.advice.clone());
    let market = || problem(error).and_then(|p| p.advice.clone());
    own.or_else(market).or_else(|| {
        let client = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>())?;
        match client {
            ClientError::Unreachable { address, .. } => Some(format!(
                "check that the market runs and that {address} is its address (`sublet context list` shows the addresses you use)"
            )),
            _ => match client.kind()? {
                Kind::Unauthenticated => Some("log in again with `sublet login URL`".into()),
                Kind::Forbidden => Some("`sublet whoami` shows what your token may do; ask the operator for more".into()),
                _ => None,
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_wire::api::UnfitCount;

    fn refused(kind: Kind) -> ClientError {
        ClientError::Problem(Box::new(Problem {
            kind: kind.urn(),
            status: 400,
            title: "a title".into(),
            detail: "nothing fits".into(),
            advice: Some("ask for less".into()),
            request_id: Some("req_1".into()),
            unfit: vec![UnfitCount {
                reason: sublet_model::book::Unfit::Busy,
                clause: "free".into(),
                words: "in use".into(),
                partitions: 2,
            }],
        }))
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let code = |kind| exit_code(&anyhow::Error::from(refused(kind)).context("failed to rent")) as u8;
        let kinds =
            [Kind::Invalid, Kind::NotFound, Kind::Unauthenticated, Kind::Forbidden, Kind::Conflict, Kind::Locked];
        assert_eq!(kinds.map(code), [2, 3, 4, 4, 5, 5]);
        assert_eq!([Kind::NoMatch, Kind::Internal, Kind::Busy].map(code), [6, 1, 1]);
        assert_eq!(exit_code(&anyhow::anyhow!("x")) as u8, 1);
        assert_eq!(exit_code(&Failure::new(Exit::Timeout, "late").into()) as u8, 124);
    }

    #[test]
    fn a_failure_says_attempt_cause_and_what_to_do() {
        let error = anyhow::Error::from(refused(Kind::NoMatch)).context("failed to rent");
        let said = "error: failed to rent: nothing fits\n  2 partitions: in use\nwhat to do: ask for less\n";
        assert_eq!(render(&error, false, false), said);
        assert!(render(&error, true, false).ends_with("request id: req_1\n"));
        let around = anyhow::Error::from(refused(Kind::NoMatch))
            .context(Failure::new(Exit::Timeout, "too late").showing("one\ntwo").advise("wait longer"));
        assert_eq!(exit_code(&around) as u8, 124, "the words around a cause decide");
        let said = "error: too late: nothing fits\n  one\n  two\nwhat to do: wait longer\n";
        assert_eq!(render(&around, false, false), said);
        let own = Failure::new(Exit::Failed, "no key\u{1b}[2J").advise("make one");
        assert_eq!(render(&own.into(), false, false), "error: no key\u{fffd}[2J\nwhat to do: make one\n");
    }
}
