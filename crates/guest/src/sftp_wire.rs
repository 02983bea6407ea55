//! SFTP, version 3 (draft-ietf-secsh-filexfer-02): how packets are laid out, whoever serves them.
//! Big-endian integers, bytes after their length.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Most bytes of one packet, as in OpenSSH.
pub const MAX_PACKET_BYTES: usize = 256 * 1024;
/// Most bytes a client may read or write at once.
pub const MAX_DATA_BYTES: usize = MAX_PACKET_BYTES - 1024;
/// Version of the protocol.
pub const VERSION: u32 = 3;

/// Kinds of packets.
#[allow(missing_docs, reason = "each is the name of a packet of the protocol")]
pub mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// A packet that does not say what its kind says it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Takes values off a packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a>(pub &'a [u8]);

impl<'a> Packet<'a> {
    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    /// Takes four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| Malformed)
    }

    /// Takes eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.take(8)?.try_into().map(u64::from_be_bytes).map_err(|_| Malformed)
    }

    /// Takes a length and that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Appends four bytes.
pub fn u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends eight bytes.
pub fn u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a length and that many bytes.
pub fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    u32(out, value.len() as u32);
    out.extend_from_slice(value);
}

/// Appends a packet, whose length is known once its body is.
pub fn packet(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    u32(out, 0);
    out.push(kind);
    body(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

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
        u32(
            out,
            flag(self.size.is_some(), SIZE)
                | flag(self.owner.is_some(), OWNER)
                | flag(self.permissions.is_some(), PERMISSIONS)
                | flag(self.times.is_some(), TIMES),
        );
        if let Some(size) = self.size {
            u64(out, size);
        }
        if let Some((user, group)) = self.owner {
            u32(out, user);
            u32(out, group);
        }
        if let Some(mode) = self.permissions {
            u32(out, mode);
        }
        if let Some((access, change)) = self.times {
            u32(out, access);
            u32(out, change);
        }
    }
}

/// A date in UTC, as a listing has it. The calendar is Howard Hinnant's `civil_from_days`.
pub fn date(seconds: i64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    format!("{} {day:>2} {year} {:02}:{:02}", MONTHS[month as usize], rest / 3600, rest / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "Jan  1 1970 00:00"),
            (951_782_399, "Feb 28 2000 23:59"),
            (951_782_400, "Feb 29 2000 00:00"),
            (1_735_689_599, "Dec 31 2024 23:59"),
            (-1, "Dec 31 1969 23:59"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}
