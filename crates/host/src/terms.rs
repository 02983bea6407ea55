//! Whether what the market wants to run is what was agreed: the host's own check of signed terms.
//! Whatever is wrong is said in words; nothing of it ever reaches a shell or a command line unchecked.

use crate::reconcile::Policy;
use sublet_model::identity::{IdentityError, Signed};
use sublet_model::ids::PartitionId;
use sublet_model::image::ImageManifest;
use sublet_model::partition::Allocation;
use sublet_model::resources::Resources;
use sublet_model::units::Seconds;
use sublet_wire::sync::Run;

/// The most bytes of an address of a depot.
const LONGEST_ADDRESS: usize = 500;

/// Checks everything that has to be right before a generation begins.
pub fn check_run(partition: PartitionId, has: &Allocation, run: &Run, policy: &Policy) -> Result<(), String> {
    let refuse_unless = |ok: bool, why: &str| if ok { Ok(()) } else { Err(why.to_string()) };
    let unbelieved = |e: IdentityError| format!("the terms can't be believed: {e}");
    let signer = policy.market_keys.signer_of(&run.terms).map_err(unbelieved)?;
    let terms = run.terms.verify(&signer).map_err(unbelieved)?;
    refuse_unless(terms.host == policy.host, "the terms are for another host")?;
    refuse_unless(terms.partition == partition, "the terms are for another partition")?;
    refuse_unless(terms.generation == has.generation, "the terms are of another generation")?;
    refuse_unless(terms.lease == run.lease, "the terms are for another lease")?;
    refuse_unless(
        terms.resources == has.resources && terms.vcpus == has.vcpus,
        "the allocation is not what the terms say",
    )?;
    refuse_unless(has.vcpus <= policy.threads, "this computer has fewer hardware threads")?;
    refuse_unless(terms.image == run.image.digest(), "the image is not the one of the terms")?;
    let image = check_image(run)?;
    check_fit(&image, &policy.arch, has.resources, has.vcpus)?;
    let spans = [run.term_seconds, run.paid_seconds];
    let span = |s: &Seconds| (Seconds(1)..=Seconds::MAX).contains(s);
    refuse_unless(spans.iter().all(span), "a term and what is paid for are from a second to ten years")?;
    let away = (Seconds::ZERO..=Seconds::MAX).contains(&run.release_after_disconnect);
    refuse_unless(away, "the time to wait for a client is from nothing to ten years")?;
    refuse_unless(is_hostname(&run.hostname), "the name of the lease can't be a hostname")?;
    refuse_unless(run.depot.len() <= LONGEST_ADDRESS, "the address of the depot is too long")
}

/// The manifest of a run, if it can be used.
pub fn check_image(run: &Run) -> Result<ImageManifest, String> {
    // Which depot key is behind it was settled by the market: the terms pin this very manifest.
    check_manifest(&run.image)
}

/// A signed manifest, if it can be used.
pub fn check_manifest(signed: &Signed<ImageManifest>) -> Result<ImageManifest, String> {
    let image = signed.verify(&signed.key).map_err(|e| format!("the image's manifest can't be believed: {e}"))?;
    image.check()?;
    Ok(image)
}

/// Whether an image comes up on a computer of this kind, with this much.
pub fn check_fit(image: &ImageManifest, arch: &str, resources: Resources, vcpus: u16) -> Result<(), &'static str> {
    let refuse_unless = |ok: bool, why| if ok { Ok(()) } else { Err(why) };
    refuse_unless(image.arch == arch, "the image is for another architecture")?;
    refuse_unless(image.minimum_memory <= resources.memory, "the image needs more memory than the partition has")?;
    refuse_unless(image.minimum_vcpus <= vcpus, "the image needs more vcpus than the partition has")
}

/// Whether a text can be a guest's name: letters, digits and inner hyphens, at most 63.
fn is_hostname(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_hostname_is_refused() {
        assert!(["box", "a-b", "X1", &"a".repeat(63)].into_iter().all(is_hostname));
        let long = "a".repeat(64);
        let bad = ["", "-a", "a-", "a b", "a.b", "a,file=/etc/passwd", "a\n", "ä", "a\0", &long];
        assert!(!bad.into_iter().any(is_hostname));
    }
}
