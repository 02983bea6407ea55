//! The catalogue of images.

use super::change::Change;
use super::command::{Actor, Command, Outcome, Refusal};
use super::draft::Draft;
use super::rows::{Image, Lease};
use std::sync::Arc;
use sublet_model::account::Role;
use sublet_model::identity::Signed;
use sublet_model::ids::HostId;
use sublet_model::image::ImageManifest;

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::RegisterImage { actor, manifest, depot } => register(draft, actor, manifest, depot),
        Command::SuspendImage { actor, reference, suspended } => suspend(draft, actor, reference, *suspended),
        _ => unreachable!("the step sends only these here"),
    }
}

fn register(
    draft: &mut Draft<'_>,
    actor: &Actor,
    signed: &Signed<ImageManifest>,
    depot: &str,
) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    let manifest = signed.verify(&signed.key).map_err(|e| Refusal::invalid(format!("the manifest: {e}")))?;
    manifest.check().map_err(Refusal::invalid)?;
    check_depot(depot)?;
    let (reference, digest) = (manifest.reference(), signed.digest());
    if let Some(known) = draft.image(&reference) {
        if known.digest != digest {
            return Err(Refusal::conflict(format!("{reference} is registered already, and is another image"))
                .advise("give the new one another version"));
        }
        if known.depot != depot {
            draft.put(Change::ImageMoved { digest, depot: depot.into() });
            let boots_it = |l: &&Arc<Lease>| l.state.is_wanted() && l.terms().image == digest;
            let hosts: Vec<HostId> = draft.holding().filter(boots_it).map(|l| l.host).collect();
            hosts.into_iter().for_each(|host| draft.replan(host));
            draft.audit(actor.member, "image.move", &reference, format!("now at {depot}"));
        }
        return Ok(Outcome::Image(reference));
    }
    draft.put(Change::Image(Image {
        manifest,
        signed: signed.clone(),
        digest,
        depot: depot.into(),
        suspended: false,
        registered_at: draft.now,
    }));
    draft.audit(actor.member, "image.register", &reference, format!("{digest} at {depot}"));
    Ok(Outcome::Image(reference))
}

fn check_depot(depot: &str) -> Result<(), Refusal> {
    let rest = depot.strip_prefix("http://").or_else(|| depot.strip_prefix("https://"));
    let plain = |c: char| c.is_ascii_graphic() && !"\"'<>\\^`{|}".contains(c);
    match rest {
        Some(rest) if !rest.is_empty() && depot.len() <= 200 && rest.chars().all(plain) => Ok(()),
        _ => Err(Refusal::invalid("a depot's address is http://… or https://…, at most 200 characters")),
    }
}

fn suspend(draft: &mut Draft<'_>, actor: &Actor, reference: &str, suspended: bool) -> Result<Outcome, Refusal> {
    actor.must_be(draft, Role::Operator)?;
    let image = draft.image(reference).ok_or_else(|| Refusal::not_found("such image"))?;
    let (digest, was) = (image.digest, image.suspended);
    if was != suspended {
        draft.put(Change::ImageSuspended { digest, suspended });
        draft.audit(actor.member, if suspended { "image.suspend" } else { "image.restore" }, reference, "");
    }
    Ok(Outcome::Image(reference.into()))
}
