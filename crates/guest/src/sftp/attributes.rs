//! What SFTP tells and changes of a file: size, owner, permissions, times.

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use sublet_guest::sftp_wire::Attributes;

/// Those of a file.
pub fn of(known: &Metadata) -> Attributes {
    let seconds = |at: i64| u32::try_from(at).unwrap_or(if at < 0 { 0 } else { u32::MAX });
    Attributes {
        size: Some(known.size()),
        owner: Some((known.uid(), known.gid())),
        permissions: Some(known.mode()),
        times: Some((seconds(known.atime()), seconds(known.mtime()))),
    }
}

/// Changes a file that is open. Times come last: the other changes would move them.
pub fn apply(wanted: &Attributes, file: &File) -> io::Result<()> {
    if let Some(size) = wanted.size {
        file.set_len(size)?;
    }
    if let Some((user, group)) = wanted.owner {
        std::os::unix::fs::fchown(file, Some(user), Some(group))?;
    }
    if let Some(mode) = wanted.permissions {
        file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
    }
    wanted.times.map_or(Ok(()), |times| Ok(rustix::fs::futimens(file, &stamps(times))?))
}

/// Changes a file by name; `follow` says whether a link's target is meant.
pub fn apply_at(wanted: &Attributes, path: &Path, follow: bool) -> io::Result<()> {
    if let Some(size) = wanted.size {
        File::options().write(true).open(path)?.set_len(size)?;
    }
    if let Some((user, group)) = wanted.owner {
        let change = if follow { std::os::unix::fs::chown } else { std::os::unix::fs::lchown };
        change(path, Some(user), Some(group))?;
    }
    if let Some(mode) = wanted.permissions {
        if !follow && path.symlink_metadata()?.is_symlink() {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))?;
    }
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    wanted.times.map_or(Ok(()), |times| Ok(rustix::fs::utimensat(CWD, path, &stamps(times), flags)?))
}

fn stamps((access, change): (u32, u32)) -> Timestamps {
    let at = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    Timestamps { last_access: at(access), last_modification: at(change) }
}
