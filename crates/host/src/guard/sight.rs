//! What QEMU can see of the computer, should a guest take it over: its own program, libraries and
//! firmware, the files it was handed, and nothing else; no TCP, no signals to others, no tracing.
//! This is Landlock, which needs no root. A kernel without it has the other walls alone.

use super::record::Order;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    Scope, path_beneath_rules,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Read, and loaded as code.
const PROGRAMS: [&str; 3] = ["/usr", "/lib", "/lib64"];
/// Read.
const READ: [&str; 3] = ["/etc/ld.so.cache", "/dev/urandom", "/dev/random"];
/// Read and written.
const DEVICES: [&str; 2] = ["/dev/null", "/dev/kvm"];

/// Prepares the rules; nothing is restricted yet. None where the kernel knows no Landlock.
pub fn rules(order: &Order) -> Result<Option<OwnedFd>, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let program = std::fs::canonicalize(&order.program).unwrap_or_else(|_| order.program.clone());
    let programs = PROGRAMS.iter().map(PathBuf::from).chain(prefix(&program)).chain([program.clone()]);
    let handed = |write| order.open.iter().filter(move |handed| handed.write == write).map(|handed| &handed.path);
    let created = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V4))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(programs, read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(READ, read))?
        .add_rules(path_beneath_rules(DEVICES, read | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(handed(false), AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(handed(true), AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate))?;
    Ok(created.into())
}

/// The version of Landlock this kernel has; none if it has none.
#[allow(unsafe_code, reason = "the version is asked for by the bare system call")]
pub fn version() -> Option<i64> {
    const ASK_VERSION: u32 = 1;
    // SAFETY: a null rule set of no length is how the version is asked for.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, ASK_VERSION) };
    (version > 0).then_some(version)
}

/// A QEMU of one's own, under `/opt/qemu/bin`, has its firmware beside that.
fn prefix(program: &Path) -> Option<PathBuf> {
    let prefix = program.parent()?.parent()?;
    (prefix.parent().is_some()).then(|| prefix.to_owned())
}

/// Puts the rules in force for this process and what it becomes.
#[allow(unsafe_code, reason = "between fork and exec only the bare system call will do")]
pub fn restrict(rules: &OwnedFd) -> io::Result<()> {
    // SAFETY: two numbers; the call touches no memory of ours.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_never_the_whole_computer() {
        let table = [
            ("/usr/bin/qemu", Some("/usr")),
            ("/opt/q/bin/qemu", Some("/opt/q")),
            ("/bin/qemu", None),
            ("/qemu", None),
            ("qemu", None),
        ];
        for (program, expected) in table {
            assert_eq!(prefix(Path::new(program)), expected.map(PathBuf::from), "{program}");
        }
    }
}
