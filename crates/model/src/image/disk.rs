//! What the first bytes of a disk image say of it, and what no such image may say.
//!
//! A qcow2 file can name other files: one that it is a difference to, one that its data are in.
//! Whoever opens it opens those, with the rights that he has. So none of that is ever taken.

use super::DiskFormat;

/// The largest disk that a guest is given by an image.
pub const LARGEST_DISK_BYTES: u64 = 16 << 30;

/// So much of a file's beginning is looked at; a shorter file is looked at whole.
pub const HEAD_BYTES: usize = 112;

/// Disks are counted in these.
const SECTOR: u64 = 512;

/// How a qcow2 file begins.
pub const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// In the header's list of what a reader must know: the data are in another file.
const DATA_FILE: u64 = 1 << 2;
/// Was written to and not closed, or is known to be broken.
const UNCLOSED: u64 = 0b11;
/// Clusters are compressed by another method than the first.
const COMPRESSION: u64 = 1 << 3;

/// Why a disk image is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDisk {
    /// It begins otherwise.
    #[error("it is not a qcow2 file")]
    NotQcow2,
    /// It says it is qcow2, in words nobody knows.
    #[error("its qcow2 header makes no sense: {0}")]
    Header(&'static str),
    /// Another file.
    #[error("it is a difference to another file (a backing file): `qemu-img convert` makes it whole")]
    BackingFile,
    /// Another file.
    #[error("its data are in another file: `qemu-img convert` makes it whole")]
    DataFile,
    /// Nobody here has the key.
    #[error("it is encrypted: `qemu-img convert` makes one that is not")]
    Encrypted,
    /// It may hold anything.
    #[error("it was not closed or is damaged: `qemu-img check -r all` may mend it")]
    Unclosed,
    /// It ends before what it speaks of.
    #[error("it is cut short: {has} bytes, and it speaks of byte {wants}")]
    CutShort {
        /// How long it is.
        has: u64,
        /// Where something should be.
        wants: u64,
    },
    /// More than is given.
    #[error("it is a disk of {bytes} bytes; 512 bytes to 16 GiB, in whole sectors of 512, can be had")]
    Size {
        /// How large it is.
        bytes: u64,
    },
}

/// Where a qcow2 file says what of the disk is where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qcow2 {
    /// How large the disk is for its guest.
    pub disk_bytes: u64,
    /// Of one cluster, as a power of two.
    pub cluster_bits: u32,
    /// Where the first table is.
    pub table_at: u64,
    /// How many entries it has.
    pub table_entries: u64,
}

/// How large the disk is for its guest, going by a file's first bytes and its length.
pub fn disk_bytes(format: DiskFormat, head: &[u8], file_bytes: u64) -> Result<u64, BadDisk> {
    match format {
        DiskFormat::Raw => checked_size(file_bytes),
        DiskFormat::Qcow2 => qcow2(head, file_bytes).map(|header| header.disk_bytes),
    }
}

/// Reads a qcow2 header; anything that could lead to another file is an error.
pub fn qcow2(head: &[u8], file_bytes: u64) -> Result<Qcow2, BadDisk> {
    if !head.starts_with(&QCOW2_MAGIC) {
        return Err(BadDisk::NotQcow2);
    }
    let cut = BadDisk::CutShort { has: file_bytes, wants: HEAD_BYTES as u64 };
    let word = |at: usize| head.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let long = |at: usize| Some(u64::from(word(at)?) << 32 | u64::from(word(at + 4)?));
    let read = || Some((word(4)?, long(8)?, word(20)?, long(24)?, word(32)?, word(36)?, long(40)?));
    let (version, backing, cluster_bits, disk_bytes, encryption, table_entries, table_at) =
        read().ok_or(cut.clone())?;
    let needed = match version {
        2 => 0,
        3 => long(72).ok_or(cut)?,
        _ => return Err(BadDisk::Header("its version is neither 2 nor 3")),
    };
    match () {
        () if backing != 0 => return Err(BadDisk::BackingFile),
        () if needed & DATA_FILE != 0 => return Err(BadDisk::DataFile),
        () if encryption != 0 => return Err(BadDisk::Encrypted),
        () if needed & UNCLOSED != 0 => return Err(BadDisk::Unclosed),
        () if needed & !COMPRESSION != 0 => return Err(BadDisk::Header("it needs what is not known here")),
        () if !(9..=21).contains(&cluster_bits) => return Err(BadDisk::Header("the size of its clusters")),
        () => {}
    }
    let disk_bytes = checked_size(disk_bytes)?;
    // A table of the second kind is a cluster of entries of 8 bytes, each for a cluster.
    let table_entries_needed = disk_bytes.div_ceil(1 << (2 * cluster_bits - 3));
    if u64::from(table_entries) < table_entries_needed {
        return Err(BadDisk::Header("its table is too small for its disk"));
    }
    let end = table_at.saturating_add(8 * table_entries_needed);
    if end > file_bytes {
        return Err(BadDisk::CutShort { has: file_bytes, wants: end });
    }
    Ok(Qcow2 { disk_bytes, cluster_bits, table_at, table_entries: table_entries_needed })
}

fn checked_size(bytes: u64) -> Result<u64, BadDisk> {
    let good = (SECTOR..=LARGEST_DISK_BYTES).contains(&bytes) && bytes.is_multiple_of(SECTOR);
    if good { Ok(bytes) } else { Err(BadDisk::Size { bytes }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as `qemu-img create -f qcow2` writes it, for a disk of 1 GiB.
    fn header() -> Vec<u8> {
        let mut head = vec![0; HEAD_BYTES];
        head[..4].copy_from_slice(&QCOW2_MAGIC);
        for (at, word) in [(4, 3u32), (20, 16), (36, 2), (96, 4), (100, 112)] {
            head[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        for (at, long) in [(24, 1u64 << 30), (40, 0x3_0000), (48, 0x1_0000)] {
            head[at..at + 8].copy_from_slice(&long.to_be_bytes());
        }
        head
    }

    const FILE_BYTES: u64 = 0x3_0010;

    #[test]
    fn a_plain_header_is_read() {
        let whole = Qcow2 { disk_bytes: 1 << 30, cluster_bits: 16, table_at: 0x3_0000, table_entries: 2 };
        assert_eq!(qcow2(&header(), FILE_BYTES), Ok(whole));
        let mut second = header();
        second[7] = 2;
        second[79] = 0xff;
        assert_eq!(qcow2(&second[..72], FILE_BYTES), Ok(whole), "version 2 ends before what version 3 adds");
        let mut compressed = header();
        compressed[79] = 8;
        assert_eq!(qcow2(&compressed, FILE_BYTES), Ok(whole));
        assert_eq!(disk_bytes(DiskFormat::Raw, b"", 1 << 20), Ok(1 << 20));
    }

    #[test]
    fn what_could_lead_elsewhere_or_makes_no_sense_is_refused() {
        let size = |bytes| BadDisk::Size { bytes };
        let table: [(usize, &[u8], BadDisk); 13] = [
            (0, b"KDMV", BadDisk::NotQcow2),
            (7, &[4], BadDisk::Header("its version is neither 2 nor 3")),
            (15, &[112], BadDisk::BackingFile),
            (8, &[1], BadDisk::BackingFile),
            (79, &[4], BadDisk::DataFile),
            (35, &[2], BadDisk::Encrypted),
            (79, &[1], BadDisk::Unclosed),
            (79, &[16], BadDisk::Header("it needs what is not known here")),
            (23, &[22], BadDisk::Header("the size of its clusters")),
            (23, &[8], BadDisk::Header("the size of its clusters")),
            (27, &[4, 0, 0, 0, 1], size((16 << 30) + 1)),
            (24, &[0xff; 8], size(u64::MAX)),
            (39, &[1], BadDisk::Header("its table is too small for its disk")),
        ];
        for (at, bytes, expected) in table {
            let mut head = header();
            head[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(qcow2(&head, FILE_BYTES), Err(expected), "{at}: {bytes:?}");
        }
        let cut = |file_bytes, wants| Err(BadDisk::CutShort { has: file_bytes, wants });
        assert_eq!(qcow2(&header(), FILE_BYTES - 1), cut(FILE_BYTES - 1, FILE_BYTES));
        for short in [4, 43, 79] {
            assert_eq!(qcow2(&header()[..short], short as u64), cut(short as u64, HEAD_BYTES as u64));
        }
        for bytes in [0, 511, 513, LARGEST_DISK_BYTES + 512] {
            assert_eq!(disk_bytes(DiskFormat::Raw, b"", bytes), Err(size(bytes)));
        }
    }
}
