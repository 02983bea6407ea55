//! Disk images, looked at before they are taken in: what they are, and whether they are whole.

use crate::DepotError;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use sublet_model::image::DiskFormat;
use sublet_model::image::disk::{self, BadDisk, HEAD_BYTES, QCOW2_MAGIC, Qcow2};

/// Where a boot sector says that it is one.
const BOOT_SIGNATURE_AT: u64 = 510;
const BOOT_SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// Entries of qcow2's tables: where in the file something is.
const PLACE: u64 = 0x00ff_ffff_ffff_fe00;
/// Of the second table's entries: what is there is compressed.
const COMPRESSED: u64 = 1 << 62;

/// What a file is: a qcow2 file, or a disk byte by byte that a BIOS would start.
pub fn format_of(path: &Path) -> Result<DiskFormat, DepotError> {
    let file = File::open(path).map_err(DepotError::io("open", path))?;
    let starts = |at, magic: &[u8]| {
        let mut bytes = vec![0; magic.len()];
        file.read_exact_at(&mut bytes, at).is_ok() && bytes == magic
    };
    match () {
        () if starts(0, &QCOW2_MAGIC) => Ok(DiskFormat::Qcow2),
        () if starts(BOOT_SIGNATURE_AT, &BOOT_SIGNATURE) => Ok(DiskFormat::Raw),
        () => Err(DepotError::UnknownDisk { path: path.into() }),
    }
}

/// Whether a disk may be booted: it names no other file, has a size that can be had, and is whole.
pub fn check(path: &Path, format: DiskFormat) -> Result<(), DepotError> {
    let file = File::open(path).map_err(DepotError::io("open", path))?;
    let file_bytes = file.metadata().map_err(DepotError::io("open", path))?.len();
    let mut head = Vec::with_capacity(HEAD_BYTES);
    (&file).take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(DepotError::io("read", path))?;
    let bad = |reason| DepotError::BadDisk { path: path.into(), reason };
    disk::disk_bytes(format, &head, file_bytes).map_err(bad)?;
    if format == DiskFormat::Qcow2 {
        let header = disk::qcow2(&head, file_bytes).map_err(bad)?;
        let last = last_place(&file, &header, file_bytes).map_err(DepotError::io("read", path))?;
        if last >= file_bytes {
            return Err(bad(BadDisk::CutShort { has: file_bytes, wants: last }));
        }
    }
    Ok(())
}

/// The last place in the file that its tables speak of, as far as these are in the file. One
/// table is held at a time: 4 MiB at most.
fn last_place(file: &File, header: &Qcow2, file_bytes: u64) -> io::Result<u64> {
    let cluster = 1u64 << header.cluster_bits;
    // The higher bits of a compressed cluster's entry say how long it is.
    let compressed_place = (1u64 << (62 - (header.cluster_bits - 8))) - 1;
    let mut last = 0;
    for table in entries(file, header.table_at, header.table_entries)? {
        let table = table & PLACE;
        last = last.max(table);
        if table == 0 || table.saturating_add(cluster) > file_bytes {
            continue;
        }
        for entry in entries(file, table, cluster / 8)? {
            let place = if entry & COMPRESSED != 0 { entry & compressed_place } else { entry & PLACE };
            last = last.max(place);
        }
    }
    Ok(last)
}

fn entries(file: &File, at: u64, count: u64) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; (count * 8) as usize];
    file.read_exact_at(&mut bytes, at)?;
    let number = |entry: &[u8]| entry.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Ok(bytes.chunks_exact(8).map(number).collect())
}
