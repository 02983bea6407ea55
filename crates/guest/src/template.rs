//! Being a template: a machine that is stopped before anybody used it, and of which many copies
//! are started. All copies are the same machine, down to its random numbers, until [`renew`] was
//! called in each; nothing runs in one before but the kernel, this program and process 1.
//!
//! ```text
//!  booted, settled --TEMPLATE--> template --stopped, copied--> template --IDENTITY--> renewed, serves
//! ```

use crate::serve::Manner;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Made by the image's own init once it has started all that it starts at a boot.
const SETTLED: &str = "/run/sublet/settled";
/// The kernel keeps its boot id for ever; a new one is laid over it.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const OWN_BOOT_ID: &str = "/run/sublet/boot_id";
const CGROUPS: &str = "/sys/fs/cgroup";
/// There while this machine is a template: a guest program that is started anew still knows.
const MARK: &str = "/run/sublet/template";
/// Read by systemd at boot, written at its end.
const RANDOM_SEED: &str = "/var/lib/systemd/random-seed";
const SSH_FOLDER: &str = "/etc/ssh";

/// Whether a boot has come to its end: what is stopped in the middle of one would do the rest of
/// it in every copy.
pub fn is_settled(manner: Manner) -> bool {
    manner != Manner::Service || Path::new(SETTLED).exists()
}

/// Notes that copies of this machine are made from now on, or no more: meanwhile all but this
/// program and process 1 stand still.
pub fn mark(now: bool) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    hold(Path::new(CGROUPS), Path::new(own), now);
    let _ =
        if now { fs::create_dir_all("/run/sublet").and_then(|()| fs::write(MARK, "")) } else { fs::remove_file(MARK) };
}

/// Whether an earlier life of this program noted it.
pub fn is_marked() -> bool {
    Path::new(MARK).exists()
}

/// Holds every cgroup of a folder, or lets go of it, but for the one that leads to our own.
fn hold(folder: &Path, own: &Path, now: bool) {
    let mut steps = own.components();
    let next = steps.next().map(|step| folder.join(step));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, switch) = (entry.path(), entry.path().join("cgroup.freeze"));
        if Some(&path) == next.as_ref() {
            hold(&path, steps.as_path(), now);
        } else if entry.file_name() != "init.scope" && switch.exists() {
            let _ = fs::write(switch, if now { "1" } else { "0" });
        }
    }
}

/// Gives a copy all that no other machine may have. The kernel's randomness was renewed before.
pub fn renew(manner: Manner) -> Result<(), String> {
    write_machine_id().map_err(failed("renew the machine id"))?;
    if manner == Manner::Service {
        // As the first process we know that nobody asked for it yet: the kernel makes it then.
        lay_over_boot_id().map_err(failed("renew the boot id"))?;
    }
    if Path::new(RANDOM_SEED).exists() {
        random::<512>().and_then(|seed| fs::write(RANDOM_SEED, seed)).map_err(failed("renew the random seed"))?;
    }
    renew_ssh_keys().map_err(failed("renew the SSH host keys"))?;
    if manner == Manner::Service {
        restart_journal();
    }
    Ok(())
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot {what}: {error}")
}

/// A new `/etc/machine-id`: in place, for another file may be mounted there.
pub fn write_machine_id() -> io::Result<()> {
    let id = random_uuid()?.replace('-', "");
    fs::File::options().write(true).create(true).truncate(true).open("/etc/machine-id").and_then(|mut file| {
        file.write_all(format!("{id}\n").as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o444))
    })
}

fn lay_over_boot_id() -> io::Result<()> {
    fs::create_dir_all("/run/sublet")?;
    fs::write(OWN_BOOT_ID, format!("{}\n", random_uuid()?))?;
    fs::set_permissions(OWN_BOOT_ID, fs::Permissions::from_mode(0o444))?;
    Ok(rustix::mount::mount_bind(OWN_BOOT_ID, BOOT_ID)?)
}

/// Keys that were made during the boot would be every copy's.
fn renew_ssh_keys() -> io::Result<()> {
    let Ok(folder) = fs::read_dir(SSH_FOLDER) else { return Ok(()) };
    let mut found = false;
    for file in folder.flatten() {
        if file.file_name().as_encoded_bytes().starts_with(b"ssh_host_") {
            fs::remove_file(file.path())?;
            found = true;
        }
    }
    if !found {
        return Ok(());
    }
    let made = Command::new("/usr/bin/ssh-keygen").arg("-A").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if made.success() { Ok(()) } else { Err(io::Error::other(format!("ssh-keygen -A: {made}"))) }
}

/// systemd's journal knows machine and boot from its start; it is started again when it ends.
fn restart_journal() {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim_end() == "systemd-journal") {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A random UUID of version 4.
fn random_uuid() -> io::Result<String> {
    let mut bytes = random::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_groups_but_those_on_the_way_to_our_own_are_held() {
        let root = std::env::temp_dir().join(format!("sublet-hold-{}", std::process::id()));
        let groups = ["init.scope", "user.slice", "system.slice/us.service/job-1", "system.slice/journal.service"];
        for group in groups {
            let mut path = root.clone();
            for step in Path::new(group) {
                path.push(step);
                fs::create_dir_all(&path).unwrap();
                fs::write(path.join("cgroup.freeze"), "0").unwrap();
            }
        }
        let held = || groups.map(|group| fs::read_to_string(root.join(group).join("cgroup.freeze")).unwrap());
        hold(&root, Path::new("system.slice/us.service"), true);
        // Below our own: nothing runs there, for it has no identity.
        assert_eq!(held(), ["0", "1", "1", "1"]);
        assert_eq!(fs::read_to_string(root.join("system.slice/cgroup.freeze")).unwrap(), "0");
        hold(&root, Path::new("system.slice/us.service"), false);
        assert_eq!(held(), ["0", "0", "0", "0"]);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn ids_have_the_form_of_the_kernels_own_and_differ() {
        let [first, second] = [random_uuid().unwrap(), random_uuid().unwrap()];
        assert_ne!(first, second);
        assert_eq!(first.len(), 36);
        let parts: Vec<usize> = first.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&first[14..15], "4");
        assert!("89ab".contains(&first[19..20]));
    }
}
