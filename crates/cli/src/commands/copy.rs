//! `sublet cp`

use super::{leasing, run};
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::ssh;
use crate::values;
use clap::Args;
use std::ffi::OsString;
use std::process::ExitCode;

/// Copy files into a leased partition, or out of it
///
/// A path in the partition is LEASE:PATH; without a path it is the home folder there. Folders need
/// -r. It is the system's own `scp`, which shows progress on a terminal.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sublet cp data.csv box:\n  sublet cp -r src box:/srv/src\n  sublet cp box:/var/log/syslog .\n  sublet cp ./odd:name box:"
)]
pub struct Copy {
    /// Folders with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Keep times and permissions
    #[arg(short, long)]
    preserve: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// What to copy, and last whereto
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    paths: Vec<String>,
}

/// Where a path is.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Here(&'a str),
    In { lease: &'a str, path: &'a str },
}

impl<'a> Place<'a> {
    /// As `scp` tells them apart: what has a slash before its first colon is here.
    fn of(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((lease, path)) if values::reference(lease).is_ok() => Self::In { lease, path },
            _ => Self::Here(text),
        }
    }

    /// As `scp` is told.
    fn word(&self, user: &str) -> OsString {
        match self {
            Self::In { path, .. } => format!("{user}:{path}").into(),
            // Neither an option nor another computer, whatever it is called.
            Self::Here(path) if path.starts_with('/') || path.starts_with('.') => path.into(),
            Self::Here(path) => format!("./{path}").into(),
        }
    }
}

impl Copy {
    /// Runs it; the exit code is that of `scp`.
    pub async fn run(self, market: &Market) -> anyhow::Result<ExitCode> {
        let places: Vec<Place<'_>> = self.paths.iter().map(|path| Place::of(path)).collect();
        let lease = one_lease(&places)?;
        let (pass, key) = leasing::pass_of(market, lease).await?;
        let mut arguments = ssh::way(&pass, &key)?;
        for (wanted, option) in [(self.recursive, "-r"), (self.preserve, "-p"), (self.quiet, "-q")] {
            arguments.extend(wanted.then(|| option.into()));
        }
        arguments.push("--".into());
        arguments.extend(places.iter().map(|place| place.word(&pass.user)));
        run::conclude_with(market, &pass, ssh::run_tool("scp", arguments).await?).await
    }
}

/// The one lease that is meant, on one side of the copy.
fn one_lease<'a>(places: &[Place<'a>]) -> anyhow::Result<&'a str> {
    let wrong = |words: &str| -> anyhow::Error {
        Failure::new(Exit::Usage, words)
            .advise("such as: sublet cp data.csv box:   sublet cp box:/var/log/syslog .")
            .into()
    };
    let Some((to, from)) = places.split_last() else { return Err(wrong("nothing to copy")) };
    match (to, from) {
        (Place::In { lease, .. }, from) if from.iter().all(|place| matches!(place, Place::Here(_))) => Ok(lease),
        (Place::Here(_), [Place::In { lease, .. }, others @ ..]) => {
            let same = |place: &Place<'_>| matches!(place, Place::In { lease: other, .. } if other == lease);
            if others.iter().all(same) { Ok(lease) } else { Err(wrong("all that is copied out must be in one lease")) }
        }
        (Place::Here(_), _) => Err(wrong("none of these is in a lease: a path there is LEASE:PATH")),
        (Place::In { .. }, _) => Err(wrong("from one partition to another: copy by way of this computer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_and_what_is_there() {
        for (text, expected) in [
            ("box:", Place::In { lease: "box", path: "" }),
            ("box:/a:b", Place::In { lease: "box", path: "/a:b" }),
            ("a/b:c", Place::Here("a/b:c")),
            ("./box:x", Place::Here("./box:x")),
            ("plain", Place::Here("plain")),
        ] {
            assert_eq!(Place::of(text), expected, "{text}");
        }
        assert_eq!(Place::of("-rf").word("L"), "./-rf");
        assert_eq!(Place::of("/a").word("L"), "/a");
        assert_eq!(Place::of("box:~/x y").word("L"), "L:~/x y");
    }

    #[test]
    fn one_lease_on_one_side() {
        for (paths, expected) in [
            (&["a", "box:"][..], Some("box")),
            (&["a", "b", "box:/x"], Some("box")),
            (&["box:/x", "box:/y", "."], Some("box")),
            (&["box:/x", "bay:/y", "."], None),
            (&["box:/x", "bay:"], None),
            (&["a", "b"], None),
            (&["a", "box:/x", "b"], None),
        ] {
            let places: Vec<_> = paths.iter().map(|path| Place::of(path)).collect();
            assert_eq!(one_lease(&places).ok(), expected, "{paths:?}");
        }
    }
}
