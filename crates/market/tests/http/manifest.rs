//! An image that a catalogue lists and nobody boots.

use sublet_model::identity::{SecretKey, Sha256Digest, Signed};
use sublet_model::image::{Blob, Boot, ImageManifest};
use sublet_model::units::MiB;

pub fn manifest(version: &str) -> Signed<ImageManifest> {
    let blob = |what: &str| Blob { sha256: Sha256Digest::of(what.as_bytes()), bytes: 1000 };
    let manifest = ImageManifest {
        name: "tiny".into(),
        os: "linux".into(),
        version: version.into(),
        arch: "x86_64".into(),
        boot: Boot::Direct { kernel: blob("kernel"), initrd: Some(blob("initrd")), root: None },
        command_line: "console=ttyS0".into(),
        guest_channel: "org.sublet.guest.0".into(),
        login_user: "root".into(),
        minimum_memory: MiB(64),
        minimum_vcpus: 1,
        licence: "GPL-2.0".into(),
        created_at: 1_700_000_000,
    };
    Signed::sign(&manifest, &SecretKey::from_seed(&[7; 32])).unwrap()
}
