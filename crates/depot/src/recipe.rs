//! What a recipe leaves behind: `image.toml`, and beside it the files that it names.

use crate::DepotError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use sublet_model::image::{Blob, Boot, DiskFormat, Firmware, ImageManifest};
use sublet_model::units::MiB;

/// The most of an `image.toml` that is read.
const LARGEST_BYTES: u64 = 64 << 10;

/// An `image.toml`, checked as far as it can be without its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Such as `debian-12`.
    pub name: String,
    /// What clients ask for.
    pub os: String,
    /// Of what was really used.
    pub version: String,
    /// Such as `x86_64`.
    pub arch: String,
    /// For people.
    #[serde(default)]
    pub licence: String,
    /// As whom a client enters.
    pub login_user: String,
    /// Name of the port on which the guest program answers.
    pub guest_channel: String,
    /// Kernel options; none for a disk.
    #[serde(default)]
    pub command_line: String,
    /// The least it comes up with.
    pub minimum: Minimum,
    /// The files.
    pub boot: BootFiles,
}

/// The least with which an image comes up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minimum {
    /// Memory in MiB.
    pub memory_mib: i64,
    /// Processors.
    pub vcpus: u16,
}

/// Files beside `image.toml`; see [`Boot`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "each is what it is in `Boot`")]
pub enum BootFiles {
    Direct { kernel: String, initrd: Option<String>, root: Option<String> },
    Disk { firmware: Firmware, format: DiskFormat, disk: String, guest: String },
}

impl Recipe {
    /// Where a recipe's output says what it is.
    pub fn path_in(output: &Path) -> PathBuf {
        output.join("image.toml")
    }

    /// Reads `image.toml` of a recipe's output.
    pub fn read(output: &Path) -> Result<Self, DepotError> {
        let path = Self::path_in(output);
        let bytes = std::fs::metadata(&path).map_err(DepotError::io("find", &path))?.len();
        let bad = |reason: String| DepotError::BadRecipe { path: path.clone(), reason };
        if bytes > LARGEST_BYTES {
            return Err(bad(format!("it has {bytes} bytes, more than {LARGEST_BYTES}")));
        }
        let text = std::fs::read_to_string(&path).map_err(DepotError::io("read", &path))?;
        let recipe: Self = toml::from_str(&text).map_err(|e| bad(e.to_string().trim_end().to_string()))?;
        recipe.check().map_err(bad)?;
        Ok(recipe)
    }

    /// Files beside `image.toml`, each with what it is, in the order of [`Boot::blobs`].
    pub fn files(&self) -> Vec<(&'static str, &str)> {
        match &self.boot {
            BootFiles::Direct { kernel, initrd, root } => {
                let optional = [("initrd", initrd.as_deref()), ("root", root.as_deref())];
                let optional = optional.into_iter().filter_map(|(role, file)| file.map(|file| (role, file)));
                std::iter::once(("kernel", kernel.as_str())).chain(optional).collect()
            }
            BootFiles::Disk { disk, guest, .. } => vec![("disk", disk), ("guest", guest)],
        }
    }

    /// Looks into the files, before gigabytes are copied for nothing.
    pub(crate) fn check_files(&self, output: &Path) -> Result<(), DepotError> {
        match &self.boot {
            BootFiles::Direct { .. } => Ok(()),
            BootFiles::Disk { format, disk, .. } => crate::disk::check(&output.join(disk), *format),
        }
    }

    fn check(&self) -> Result<(), String> {
        let plain = |file: &str| {
            !file.is_empty() && file.len() <= 255 && !file.starts_with('.') && !file.contains(['/', '\\', '\0'])
        };
        match self.files().into_iter().find(|(_, file)| !plain(file)) {
            Some((role, file)) => {
                Err(format!("its {role} {file:?} must be the name of a file beside it, without a path"))
            }
            // The blobs are known later; everything else of a manifest is judged now, before
            // gigabytes are copied for nothing.
            None => {
                self.manifest(|_| Blob { sha256: sublet_model::identity::Sha256Digest([0; 32]), bytes: 1 }, 0).check()
            }
        }
    }

    /// The manifest, given the blob of each file.
    pub fn manifest(&self, blob: impl Fn(&str) -> Blob, created_at: i64) -> ImageManifest {
        let boot = match &self.boot {
            BootFiles::Direct { kernel, initrd, root } => Boot::Direct {
                kernel: blob(kernel),
                initrd: initrd.as_deref().map(&blob),
                root: root.as_deref().map(&blob),
            },
            BootFiles::Disk { firmware, format, disk, guest } => {
                Boot::Disk { firmware: *firmware, format: *format, disk: blob(disk), guest: blob(guest) }
            }
        };
        ImageManifest {
            name: self.name.clone(),
            os: self.os.clone(),
            version: self.version.clone(),
            arch: self.arch.clone(),
            boot,
            command_line: self.command_line.clone(),
            guest_channel: self.guest_channel.clone(),
            login_user: self.login_user.clone(),
            minimum_memory: MiB(self.minimum.memory_mib),
            minimum_vcpus: self.minimum.vcpus,
            licence: self.licence.clone(),
            created_at,
        }
    }
}
