//! The seed: a small FAT disk in the form that cloud-init calls NoCloud, by which the guest program
//! comes into any cloud image. Nothing secret is on it: who the machine is it is told over the port.

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use uuid::Uuid;

/// By this name cloud-init finds it.
const LABEL: [u8; 11] = *b"CIDATA     ";
const USER_DATA: &str = include_str!("user-data.yaml");
const START: &str = include_str!("start.sh");
/// Beside the guest program: tables, the other files.
const ROOM_BYTES: u64 = 1 << 20;

/// Writes it, in place of any that was there.
pub fn write(path: &Path, guest: &Path, instance: Uuid) -> io::Result<()> {
    let mut guest = File::open(guest)?;
    let bytes = (guest.metadata()?.len() + ROOM_BYTES).next_multiple_of(ROOM_BYTES);
    let mut seed = crate::scratch::new_file(path).map_err(io::Error::other)?;
    seed.set_len(bytes)?;
    fatfs::format_volume(&mut seed, FormatVolumeOptions::new().volume_label(LABEL))?;
    let volume = FileSystem::new(&mut seed, FsOptions::new())?;
    let root = volume.root_dir();
    // Each life is a machine that cloud-init never saw.
    let meta_data = format!("instance-id: sublet-{instance}\n");
    for (name, text) in [("meta-data", meta_data.as_str()), ("user-data", USER_DATA), ("start.sh", START)] {
        root.create_file(name)?.write_all(text.as_bytes())?;
    }
    io::copy(&mut guest, &mut root.create_file("sublet-guest")?)?;
    drop(root);
    volume.unmount()
}
