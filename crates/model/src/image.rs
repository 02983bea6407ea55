//! An operating system that boots in a partition: a signed manifest and blobs by their digests.

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
}

impl Boot {
    /// Every blob, in the order in which it is needed, each with what it is.
    pub fn blobs(&self) -> Vec<(&'static str, &Blob)> {
        let Self::Direct { kernel, initrd, root } = self;
        [Some(("kernel", kernel)), initrd.as_ref().map(|b| ("initrd", b)), root.as_ref().map(|b| ("root", b))]
            .into_iter()
            .flatten()
            .collect()
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
    /// Kernel options.
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
        if !(MiB(32)..=MiB::MAX).contains(&self.minimum_memory) || self.minimum_vcpus == 0 {
            return Err("the manifest asks for too little or too much memory, or for no vcpu".into());
        }
        Ok(())
    }

    /// The most bytes that a host fetches for one blob.
    pub const LARGEST_BLOB: u64 = 64 << 30;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_answers_to_its_name_and_to_its_reference() {
        let kernel = Blob { sha256: Sha256Digest::of(b""), bytes: 1 };
        let image = ImageManifest {
            name: "debian-12".into(),
            os: "debian".into(),
            version: "12.11-1".into(),
            arch: "x86_64".into(),
            boot: Boot::Direct { kernel, initrd: None, root: None },
            command_line: String::new(),
            guest_channel: "sublet.guest".into(),
            login_user: "root".into(),
            minimum_memory: MiB(64),
            minimum_vcpus: 1,
            licence: "GPL-2.0".into(),
            created_at: 0,
        };
        for good in ["debian-12".into(), image.reference()] {
            assert!(image.answers(Some("debian"), Some(&good)) && image.answers(Some("debian-12"), None), "{good}");
        }
        for bad in ["debian", "debian-12@", "debian-12@12.11-2", "debian-12@12.11-1 ", "debian-1", "debian-12.12.11-1"]
        {
            assert!(!image.answers(None, Some(bad)), "{bad}");
        }
        assert!(!image.answers(Some("debian-1"), None));
    }
}
