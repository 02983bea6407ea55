//! A WebAssembly module that comes along to a partition that runs nothing else: one word, one file.

use super::leasing::Rented;
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::ssh::{self, Ended};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use sublet_wire::api::LeaseView;

/// What an image is that runs modules.
const OS: &str = "wasm";

/// A module here.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    path: PathBuf,
    name: String,
}

impl Module {
    /// The module that a command names, if it names a file here and what was rented runs modules.
    pub async fn wanted(market: &Market, lease: &LeaseView, command: &[String]) -> anyhow::Result<Option<Self>> {
        let Some(module) = Self::named(command) else { return Ok(None) };
        let images = market.images().await?;
        let runs = images.iter().any(|image| image.reference == lease.image && image.manifest.os == OS);
        Ok(runs.then_some(module))
    }

    fn named(command: &[String]) -> Option<Self> {
        let path = Path::new(command.first()?);
        let name = path.file_name()?.to_str()?.to_owned();
        let is_module = path.extension().is_some_and(|end| end == "wasm") && path.is_file();
        is_module.then(|| Self { path: path.to_owned(), name })
    }

    /// The command as the partition is told: the module is in its home folder.
    pub fn line(&self, command: &[String]) -> String {
        let there = format!("./{}", self.name);
        let rest = command.iter().skip(1).cloned();
        ssh::quoted(&std::iter::once(there).chain(rest).collect::<Vec<_>>())
    }

    /// Copies it there.
    pub async fn bring_in(&self, rented: &Rented) -> anyhow::Result<()> {
        let mut arguments = ssh::way(&rented.pass, &rented.key)?;
        // Neither an option nor another computer, whatever it is called.
        let here = if self.path.is_absolute() { self.path.clone() } else { Path::new(".").join(&self.path) };
        arguments.extend(["-q".into(), "--".into(), OsString::from(here), format!("{}:", rented.pass.user).into()]);
        match ssh::run_tool("scp", arguments).await? {
            Ended::Exited(0) => Ok(()),
            _ => anyhow::bail!("{} could not be copied into the partition", self.path.display()),
        }
    }

    /// Why other files can't come with it.
    pub fn comes_alone(&self) -> Failure {
        let failure = Failure::new(Exit::Usage, "--in and --out need a shell in the partition, and this one has none");
        failure.advise("rent it, and copy with `sublet cp`: `sublet rent --name box`, `sublet cp input box:`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| word.to_string()).collect()
    }

    #[test]
    fn a_module_is_a_file_here_that_is_called_so() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name).to_string_lossy().into_owned();
        std::fs::write(at("job.wasm"), "").unwrap();
        std::fs::write(at("job"), "").unwrap();
        std::fs::create_dir(at("folder.wasm")).unwrap();
        assert_eq!(Module::named(&words(&[&at("job.wasm"), "a"])).unwrap().name, "job.wasm");
        for other in ["job", "folder.wasm", "none.wasm"] {
            assert_eq!(Module::named(&words(&[&at(other)])), None, "{other}");
        }
        assert_eq!(Module::named(&[]), None);
    }

    #[test]
    fn its_words_arrive_as_they_are() {
        let module = Module { path: "/x/A=b c.wasm".into(), name: "A=b c.wasm".into() };
        assert_eq!(module.line(&words(&["/x/A=b c.wasm", "--in", "it's"])), r"'./A=b c.wasm' --in 'it'\''s'");
    }
}
