//! Becoming somebody: name, clock, randomness, and what the guest is entitled to.
//!
//! Clones of one template are the same machine until this was done, down to their random numbers,
//! so nothing runs before.

use std::fs;
use std::io;
use sublet_guest::messages::Identity;

/// Least randomness that makes a clone differ.
const LEAST_ENTROPY_BYTES: usize = 64;
/// A clock nearer than this is left alone when the identity is told again: programs run by then.
const CLOCK_SLACK_MICROS: u64 = 500_000;

/// Makes this machine the one that was described; `again` if it is already.
pub fn apply(identity: &Identity, again: bool) -> Result<(), String> {
    if identity.entropy.len() < LEAST_ENTROPY_BYTES {
        return Err(format!("{} bytes of entropy, {LEAST_ENTROPY_BYTES} needed", identity.entropy.len()));
    }
    crate::sys::add_entropy(&identity.entropy).map_err(failed("add entropy"))?;
    set_clock(identity.wall_clock_micros, again).map_err(failed("set the clock"))?;
    rustix::system::sethostname(identity.hostname.as_bytes())
        .map_err(io::Error::from)
        .map_err(failed("set the host name"))?;
    write(identity).map_err(failed("write /run/sublet/identity"))
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot {what}: {error}")
}

fn set_clock(micros: u64, again: bool) -> io::Result<()> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let now_micros = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000;
    if again && now_micros.abs_diff(micros) < CLOCK_SLACK_MICROS {
        return Ok(());
    }
    let time =
        rustix::time::Timespec { tv_sec: (micros / 1_000_000) as i64, tv_nsec: (micros % 1_000_000 * 1000) as i64 };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, time).map_err(Into::into)
}

/// The guest's own view of what it may use, for people and programs inside.
fn write(identity: &Identity) -> io::Result<()> {
    fs::create_dir_all("/run/sublet")?;
    fs::write("/run/sublet/identity", text(identity))
}

fn text(identity: &Identity) -> String {
    format!(
        "lease={}\ngeneration={}\nhostname={}\ncpu_millicores={}\nvcpus={}\nmemory_mib={}\ndisk_gib={}\n",
        identity.lease,
        identity.generation,
        identity.hostname,
        identity.cpu_millicores,
        identity.vcpus,
        identity.memory_mib,
        identity.disk_gib
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_may_see_of_itself() {
        let identity = Identity {
            lease: "lease_x".into(),
            generation: 3,
            hostname: "box".into(),
            cpu_millicores: 500,
            vcpus: 1,
            memory_mib: 256,
            disk_gib: 2,
            ..Identity::default()
        };
        let expected = "lease=lease_x\ngeneration=3\nhostname=box\ncpu_millicores=500\nvcpus=1\n\
                        memory_mib=256\ndisk_gib=2\n";
        assert_eq!(text(&identity), expected);
    }

    #[test]
    fn too_little_randomness_is_no_identity() {
        let error = apply(&Identity { entropy: vec![1; 63], ..Identity::default() }, false).unwrap_err();
        assert!(error.contains("63 bytes"), "{error}");
    }
}
