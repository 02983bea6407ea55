//! An operating system that boots in a partition: a signed manifest and blobs by their digests.

pub mod disk;

use crate::identity::{Sha256Digest, Statement};
use crate::units::MiB;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Some bytes, known by their digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// Of all its bytes.
    pub sha256: Sha256Digest,
    /// How many they are.
    pub bytes: u64,
}

/// How an image starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Boot {
    /// The host loads the kernel itself: no firmware, no boot loader.
    Direct {
        /// An uncompressed kernel with a PVH entry.
        kernel: Blob,
        /// The first file system.
        initrd: Option<Blob>,
        /// A root file system, attached read-only as the first disk.
        root: Option<Blob>,
    },
    /// The disk's own boot loader, started by firmware. The guest program comes by a second disk, in
    /// the form that cloud-init calls NoCloud: any cloud image can be booted so.
    Disk {
        /// What starts the boot loader.
        firmware: Firmware,
        /// What the file is; never guessed from what is in it.
        format: DiskFormat,
        /// The disk. It stays as it is: what a guest writes is gone with its lease.
        disk: Blob,
        /// The guest program: static, for this image's processor.
        guest: Blob,
    },
}

/// What starts the boot loader of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// A PC's BIOS: SeaBIOS, as it comes with QEMU.
    Bios,
}

/// What the file of a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskFormat {
    /// The disk's bytes, one after the other.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

impl Boot {
    /// Every blob, in the order in which it is needed, each with what it is.
    pub fn blobs(&self) -> Vec<(&'static str, &Blob)> {
        match self {
            Self::Direct { kernel, initrd, root } => {
                [Some(("kernel", kernel)), initrd.as_ref().map(|b| ("initrd", b)), root.as_ref().map(|b| ("root", b))]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Self::Disk { disk, guest, .. } => vec![("disk", disk), ("guest", guest)],
        }
    }
}

/// What an image is. Signed by the depot that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    /// Such as `debian-12`.
    pub name: String,
    /// What clients ask for, such as `debian`.
    pub os: String,
    /// Such as `12.11-1`.
    pub version: String,
    /// Such as `x86_64`.
    pub arch: String,
    /// How it starts.
    pub boot: Boot,
    /// Kernel options; none where a disk's own boot loader has them.
    pub command_line: String,
    /// Name of the port on which the guest program answers.
    pub guest_channel: String,
    /// As whom a client enters.
    pub login_user: String,
    /// The least memory it comes up with.
    pub minimum_memory: MiB,
    /// The least number of vcpus.
    pub minimum_vcpus: u16,
    /// For people.
    pub licence: String,
    /// When it was made: seconds since 1970. The newest is chosen by this.
    pub created_at: i64,
}

impl Statement for ImageManifest {
    const KIND: &'static str = "sublet image 1";
}

impl ImageManifest {
    /// `debian-12@12.11-1`.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Whether a client who asks for `os` or `image` by these words means this one.
    pub fn answers(&self, os: Option<&str>, image: Option<&str>) -> bool {
        os.is_none_or(|os| os == self.os || os == self.name)
            && image.is_none_or(|i| i == self.name || self.is_referred_to_by(i))
    }

    /// Whether this is its [reference](Self::reference). Asked of many: without making that.
    fn is_referred_to_by(&self, text: &str) -> bool {
        let version = text.strip_prefix(self.name.as_str()).and_then(|rest| rest.strip_prefix('@'));
        version == Some(self.version.as_str())
    }

    /// Checks everything that a hostile depot might put here.
    pub fn check(&self) -> Result<(), String> {
        let word = |t: &str| {
            (1..=100).contains(&t.len()) && t.chars().all(|c| c.is_ascii_alphanumeric() || "._+~:-".contains(c))
        };
        let words = [&self.name, &self.os, &self.version, &self.arch, &self.guest_channel, &self.login_user];
        if let Some(bad) = words.into_iter().find(|w| !word(w)) {
            let shown: String = bad.chars().take(100).collect();
            return Err(format!("{shown:?} can't stand in a manifest: letters, digits and ._+~:- only"));
        }
        let printable = |t: &str| t.chars().all(|c| (' '..='~').contains(&c));
        if self.command_line.len() > 1500
            || !printable(&self.command_line)
            || !printable(&self.licence)
            || self.licence.len() > 500
        {
            return Err("the manifest's command line or licence is too long or not plain text".into());
        }
        if self.boot.blobs().iter().any(|(_, b)| b.bytes == 0 || b.bytes > Self::LARGEST_BLOB) {
            return Err("a blob of the manifest is empty, or larger than 64 GiB".into());
        }
        if let Boot::Disk { guest, .. } = &self.boot {
            if !self.command_line.is_empty() {
                return Err(
                    "a disk's own boot loader has the kernel's command line: the manifest must have none".into()
                );
            }
            if guest.bytes > Self::LARGEST_GUEST {
                return Err("the guest program of the manifest is larger than 32 MiB".into());
            }
        }
        if !(MiB(32)..=MiB::MAX).contains(&self.minimum_memory) || self.minimum_vcpus == 0 {
            return Err("the manifest asks for too little or too much memory, or for no vcpu".into());
        }
        Ok(())
    }

    /// The most bytes of a guest program that comes by a disk.
    pub const LARGEST_GUEST: u64 = 32 << 20;

    /// The most bytes that a host fetches for one blob.
    pub const LARGEST_BLOB: u64 = 64 << 30;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(boot: Boot) -> ImageManifest {
        ImageManifest {
            name: "debian-12".into(),
            os: "debian".into(),
            version: "12.11-1".into(),
            arch: "x86_64".into(),
            boot,
            command_line: String::new(),
            guest_channel: "sublet.guest".into(),
            login_user: "root".into(),
            minimum_memory: MiB(64),
            minimum_vcpus: 1,
            licence: "GPL-2.0".into(),
            created_at: 0,
        }
    }

    fn blob(bytes: u64) -> Blob {
        Blob { sha256: Sha256Digest::of(b""), bytes }
    }

    #[test]
    fn an_image_answers_to_its_name_and_to_its_reference() {
        let image = image(Boot::Direct { kernel: blob(1), initrd: None, root: None });
        for good in ["debian-12".into(), image.reference()] {
            assert!(image.answers(Some("debian"), Some(&good)) && image.answers(Some("debian-12"), None), "{good}");
        }
        for bad in ["debian", "debian-12@", "debian-12@12.11-2", "debian-12@12.11-1 ", "debian-1", "debian-12.12.11-1"]
        {
            assert!(!image.answers(None, Some(bad)), "{bad}");
        }
        assert!(!image.answers(Some("debian-1"), None));
    }

    #[test]
    fn a_disk_says_what_starts_it_and_brings_its_guest_program() {
        let disk = |guest| Boot::Disk { firmware: Firmware::Bios, format: DiskFormat::Qcow2, disk: blob(1), guest };
        let whole = image(disk(blob(1)));
        assert_eq!(whole.check(), Ok(()));
        assert!(image(disk(blob(ImageManifest::LARGEST_GUEST + 1))).check().unwrap_err().contains("guest program"));
        let with_options = ImageManifest { command_line: "quiet".into(), ..whole.clone() };
        assert!(with_options.check().unwrap_err().contains("command line"));
        let text = serde_json::to_string(&whole.boot).unwrap();
        assert!(text.starts_with(r#"{"kind":"disk","firmware":"bios","format":"qcow2","disk":"#), "{text}");
        assert_eq!(serde_json::from_str::<Boot>(&text).unwrap(), whole.boot);
        for (from, to) in [("bios", "uefi"), ("qcow2", "vmdk"), (r#","guest""#, r#","seed""#)] {
            assert!(serde_json::from_str::<Boot>(&text.replace(from, to)).is_err(), "{to}");
        }
    }
}
