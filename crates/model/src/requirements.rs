//! What a client needs. Here in its structured form, the one the API takes; a text form that
//! parses into it has its room in this module.

use crate::image::ImageManifest;
use crate::resources::Resources;
use crate::units::{GiB, MiB, Micros, MicrosPerHour, Millicores, Seconds};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What is needed. The lower bound is what gets allocated; every absent field has a default that
/// is shown to the client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Requirements {
    /// At least so much processor time; 1 core if absent.
    pub cpu: Option<Millicores>,
    /// At least so much memory; 512 MiB if absent.
    pub memory: Option<MiB>,
    /// At least so much scratch disk; none if absent.
    pub disk: Option<GiB>,
    /// How many hardware threads the guest shall see; the least that can use `cpu` if absent.
    pub vcpus: Option<u16>,
    /// Which operating system, such as `debian`.
    pub os: Option<String>,
    /// Which image, such as `debian-12` or `debian-12@12.11-1`.
    pub image: Option<String>,
    /// Which architecture; any if absent.
    pub arch: Option<String>,
    /// The dearest price for an hour; any if absent.
    pub price_at_most: Option<MicrosPerHour>,
    /// The dearest price for the whole term; any if absent.
    pub total_at_most: Option<Micros>,
    /// For how long; an hour if absent. Every lease ends.
    pub term_seconds: Option<Seconds>,
    /// Whether an emulated partition will do; no if absent.
    pub emulated: Option<bool>,
    /// Labels that the offer must have.
    pub labels: BTreeMap<String, String>,
    /// A host, by its name.
    pub host: Option<String>,
}

/// Requirements with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What gets allocated.
    pub resources: Resources,
    /// What the guest sees.
    pub vcpus: u16,
    /// For how long.
    pub term: Seconds,
    /// Whether an emulated partition will do.
    pub emulated: bool,
    /// The rest, as it was asked.
    pub asked: Requirements,
}

/// A default that was filled in, to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assumed {
    /// Which field.
    pub field: String,
    /// What was assumed.
    pub value: String,
}

/// Why requirements can't be met by anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RequirementsError {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl Requirements {
    /// Fills in the defaults and checks every amount. Says which defaults it filled in.
    pub fn resolve(&self) -> Result<(Resolved, Vec<Assumed>), RequirementsError> {
        let mut assumed = Vec::new();
        let mut assume = |field: &str, value: String| assumed.push(Assumed { field: field.into(), value });
        let cpu = self.cpu.unwrap_or_else(|| {
            let default = Millicores(1000);
            assume("cpu", default.to_string());
            default
        });
        let memory = self.memory.unwrap_or_else(|| {
            let default = MiB(512);
            assume("memory", default.to_string());
            default
        });
        let term = self.term_seconds.unwrap_or_else(|| {
            assume("term", Seconds::HOUR.to_string());
            Seconds::HOUR
        });
        if self.emulated.is_none() {
            assume("emulated", "no: only partitions run by the processor's own virtualisation".into());
        }
        let resources = Resources { cpu, memory, disk: self.disk.unwrap_or_default() };
        let vcpus = self.vcpus.unwrap_or_else(|| crate::partition::Allocation::vcpus_for(resources));
        self.check(resources, vcpus, term)?;
        let emulated = self.emulated.unwrap_or(false);
        Ok((Resolved { resources, vcpus, term, emulated, asked: self.clone() }, assumed))
    }

    fn check(&self, resources: Resources, vcpus: u16, term: Seconds) -> Result<(), RequirementsError> {
        let wrong = |field, problem: &str| Err(RequirementsError { field, problem: problem.into() });
        if !(Millicores(100)..=Millicores::MAX).contains(&resources.cpu) {
            return wrong("cpu", "must be from 100m to 4096");
        }
        if !(MiB(64)..=MiB::MAX).contains(&resources.memory) {
            return wrong("memory", "must be from 64MiB to 64TiB");
        }
        if !(GiB(0)..=GiB::MAX).contains(&resources.disk) {
            return wrong("disk", "must be from 0GiB to 16PiB");
        }
        if !(1..=4096).contains(&vcpus) || resources.cpu.0 > i64::from(vcpus) * 1000 {
            return wrong("vcpus", "must be from 1 to 4096, and enough for the cpu asked");
        }
        if !(Seconds(1)..=Seconds::MAX).contains(&term) {
            return wrong("term_seconds", "must be from 1 second to ten years");
        }
        if self.price_at_most.is_some_and(|p| p.0 < 0) || self.total_at_most.is_some_and(|p| p.0 < 0) {
            return wrong("price_at_most", "a price can't be below zero");
        }
        let texts = [("os", &self.os), ("image", &self.image), ("arch", &self.arch), ("host", &self.host)];
        for (field, text) in texts {
            if text.as_ref().is_some_and(|t| t.is_empty() || t.len() > 200 || t.chars().any(char::is_control)) {
                return wrong(field, "must be 1 to 200 characters without control characters");
            }
        }
        let labelled = |t: &String| t.len() <= 63 && !t.chars().any(char::is_control);
        if self.labels.len() > 32 || !self.labels.iter().all(|(k, v)| labelled(k) && labelled(v)) {
            return wrong("labels", "at most 32, each of at most 63 characters");
        }
        Ok(())
    }
}

impl Resolved {
    /// Whether an image is what was asked for and comes up in what is allocated.
    pub fn accepts_image(&self, image: &ImageManifest) -> bool {
        image.answers(self.asked.os.as_deref(), self.asked.image.as_deref())
            && self.asked.arch.as_ref().is_none_or(|arch| *arch == image.arch)
            && self.resources.memory >= image.minimum_memory
            && self.vcpus >= image.minimum_vcpus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_filled_in_and_said() {
        let (resolved, assumed) = Requirements::default().resolve().unwrap();
        assert_eq!(
            (resolved.resources.cpu, resolved.resources.memory, resolved.vcpus),
            (Millicores(1000), MiB(512), 1)
        );
        assert!(!resolved.emulated);
        let fields: Vec<&str> = assumed.iter().map(|a| a.field.as_str()).collect();
        assert_eq!(fields, ["cpu", "memory", "term", "emulated"]);
    }

    #[test]
    fn amounts_beyond_reason_are_refused_by_field() {
        let base = Requirements::default;
        let bad = [
            ("cpu", Requirements { cpu: Some(Millicores(0)), ..base() }),
            ("cpu", Requirements { cpu: Some(Millicores(i64::MIN)), ..base() }),
            ("memory", Requirements { memory: Some(MiB(i64::MAX)), ..base() }),
            ("disk", Requirements { disk: Some(GiB(-1)), ..base() }),
            ("vcpus", Requirements { vcpus: Some(0), ..base() }),
            ("vcpus", Requirements { vcpus: Some(65_535), ..base() }),
            ("vcpus", Requirements { cpu: Some(Millicores(1001)), vcpus: Some(1), ..base() }),
            ("term_seconds", Requirements { term_seconds: Some(Seconds(0)), ..base() }),
            ("term_seconds", Requirements { term_seconds: Some(Seconds(i64::MAX)), ..base() }),
            ("price_at_most", Requirements { price_at_most: Some(MicrosPerHour(-1)), ..base() }),
            ("os", Requirements { os: Some("a\0b".into()), ..base() }),
            ("image", Requirements { image: Some(String::new()), ..base() }),
        ];
        for (field, requirements) in bad {
            assert_eq!(requirements.resolve().unwrap_err().field, field, "{requirements:?}");
        }
    }
}
