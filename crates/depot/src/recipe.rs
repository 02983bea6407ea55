//! What a recipe leaves behind: `image.toml`, and beside it the files that it names.

use crate::DepotError;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use sublet_model::image::{Blob, Boot, ImageManifest};
use sublet_model::units::MiB;

/// The most of an `image.toml` that is read.
const LARGEST_BYTES: u64 = 64 << 10;

/// An `image.toml`, checked as far as it can be without its files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    name: String,
    os: String,
    version: String,
    arch: String,
    #[serde(default)]
    licence: String,
    login_user: String,
    guest_channel: String,
    command_line: String,
    minimum: Minimum,
    boot: BootFiles,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Minimum {
    memory_mib: i64,
    vcpus: u16,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum BootFiles {
    Direct { kernel: String, initrd: Option<String>, root: Option<String> },
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
        let BootFiles::Direct { kernel, initrd, root } = &self.boot;
        let optional = [("initrd", initrd.as_deref()), ("root", root.as_deref())];
        let optional = optional.into_iter().filter_map(|(role, file)| file.map(|file| (role, file)));
        std::iter::once(("kernel", kernel.as_str())).chain(optional).collect()
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
        let BootFiles::Direct { kernel, initrd, root } = &self.boot;
        ImageManifest {
            name: self.name.clone(),
            os: self.os.clone(),
            version: self.version.clone(),
            arch: self.arch.clone(),
            boot: Boot::Direct {
                kernel: blob(kernel),
                initrd: initrd.as_deref().map(&blob),
                root: root.as_deref().map(&blob),
            },
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
