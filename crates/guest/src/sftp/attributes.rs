//! What SFTP tells and changes of a file: size, owner, permissions, times.

use super::wire::{self, Malformed, Packet};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// Attributes of a file; what is absent is not told, or left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bytes.
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permissions, as in `st_mode`.
    pub permissions: Option<u32>,
    /// Last access and last change, seconds since 1970.
    pub times: Option<(u32, u32)>,
}

impl From<&Metadata> for Attributes {
    fn from(known: &Metadata) -> Self {
        let seconds = |at: i64| u32::try_from(at).unwrap_or(if at < 0 { 0 } else { u32::MAX });
        Self {
            size: Some(known.size()),
            owner: Some((known.uid(), known.gid())),
            permissions: Some(known.mode()),
            times: Some((seconds(known.atime()), seconds(known.mtime()))),
        }
    }
}

impl Attributes {
    /// Takes them off a packet.
    pub fn read(packet: &mut Packet<'_>) -> Result<Self, Malformed> {
        let flags = packet.u32()?;
        let mut taken = Self::default();
        if flags & SIZE != 0 {
            taken.size = Some(packet.u64()?);
        }
        if flags & OWNER != 0 {
            taken.owner = Some((packet.u32()?, packet.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            taken.permissions = Some(packet.u32()?);
        }
        if flags & TIMES != 0 {
            taken.times = Some((packet.u32()?, packet.u32()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..packet.u32()? {
                packet.bytes()?;
                packet.bytes()?;
            }
        }
        Ok(taken)
    }

    /// Appends them to an answer.
    pub fn write(&self, out: &mut Vec<u8>) {
        let flag = |there: bool, flag| if there { flag } else { 0 };
        wire::u32(
            out,
            flag(self.size.is_some(), SIZE)
                | flag(self.owner.is_some(), OWNER)
                | flag(self.permissions.is_some(), PERMISSIONS)
                | flag(self.times.is_some(), TIMES),
        );
        if let Some(size) = self.size {
            wire::u64(out, size);
        }
        if let Some((user, group)) = self.owner {
            wire::u32(out, user);
            wire::u32(out, group);
        }
        if let Some(mode) = self.permissions {
            wire::u32(out, mode);
        }
        if let Some((access, change)) = self.times {
            wire::u32(out, access);
            wire::u32(out, change);
        }
    }

    /// Changes a file that is open. Times come last: the other changes would move them.
    pub fn apply(&self, file: &File) -> io::Result<()> {
        if let Some(size) = self.size {
            file.set_len(size)?;
        }
        if let Some((user, group)) = self.owner {
            std::os::unix::fs::fchown(file, Some(user), Some(group))?;
        }
        if let Some(mode) = self.permissions {
            file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
        }
        self.times.map_or(Ok(()), |times| Ok(rustix::fs::futimens(file, &stamps(times))?))
    }

    /// Changes a file by name; `follow` says whether a link's target is meant.
    pub fn apply_at(&self, path: &Path, follow: bool) -> io::Result<()> {
        if let Some(size) = self.size {
            File::options().write(true).open(path)?.set_len(size)?;
        }
        if let Some((user, group)) = self.owner {
            let change = if follow { std::os::unix::fs::chown } else { std::os::unix::fs::lchown };
            change(path, Some(user), Some(group))?;
        }
        if let Some(mode) = self.permissions {
            if !follow && path.symlink_metadata()?.is_symlink() {
                return Err(io::Error::from(io::ErrorKind::Unsupported));
            }
            std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))?;
        }
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        self.times.map_or(Ok(()), |times| Ok(rustix::fs::utimensat(CWD, path, &stamps(times), flags)?))
    }
}

fn stamps((access, change): (u32, u32)) -> Timestamps {
    let at = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    Timestamps { last_access: at(access), last_modification: at(change) }
}
