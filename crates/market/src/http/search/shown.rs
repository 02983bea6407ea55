//! What was found, as it is written: [`SearchAnswer`](sublet_wire::api::SearchAnswer), borrowed from
//! the state and written at once, for there is nothing that a market is asked more often.

use crate::engine::state::State;
use crate::http::problem::Fault;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use sublet_model::billing::PriceList;
use sublet_model::book::{Listing, Looked, Match, Search};
use sublet_model::host::Tier;
use sublet_model::ids::PartitionId;
use sublet_model::requirements::Assumed;
use sublet_model::resources::Resources;
use sublet_model::units::{Micros, MicrosPerHour, Seconds, Timestamp};
use sublet_wire::api::UnfitCount;

/// About how long a match is, and what stands around them.
const MATCH_BYTES: usize = 576;
const REST_BYTES: usize = 1024;

/// A body that is written already.
#[derive(Debug)]
pub(super) struct Written(Vec<u8>);

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], self.0).into_response()
    }
}

/// What was found.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    pub matches: Vec<Hit<'a>>,
    pub asked: String,
    pub assumed: Vec<Assumed>,
    pub unfit: Vec<UnfitCount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Looked>,
}

impl Answer<'_> {
    /// As it goes out.
    pub fn written(&self) -> Result<Written, Fault> {
        let mut body = Vec::with_capacity(REST_BYTES + MATCH_BYTES * self.matches.len());
        serde_json::to_writer(&mut body, self).map_err(|_| crate::http::surprise())?;
        Ok(Written(body))
    }
}

/// A partition that fits.
#[derive(Serialize)]
pub(super) struct Hit<'a> {
    partition: PartitionId,
    partition_name: &'a str,
    host: &'a str,
    tier: Tier,
    cpu_model: Beside<'a>,
    resources: Resources,
    vcpus: u16,
    image: &'a str,
    hourly: MicrosPerHour,
    total: Micros,
    term: Seconds,
    until: Option<Timestamp>,
    prices: PriceList,
    reliability_permille: u16,
}

/// Two words with a space between them.
struct Beside<'a>(&'a str, &'a str);

impl Serialize for Beside<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{} {}", self.0, self.1))
    }
}

/// The references of the images that boot in these matches, by their place in the catalogue.
pub(super) fn references(found: &[(Match, Listing<'_>)], search: &Search<'_>) -> HashMap<usize, String> {
    let mut all = HashMap::new();
    for (hit, _) in found {
        if let Some(image) = search.images.get(hit.image) {
            all.entry(hit.image).or_insert_with(|| image.reference());
        }
    }
    all
}

/// One of the matches.
pub(super) fn hit<'a>(
    state: &'a State,
    (hit, listing): &(Match, Listing<'a>),
    references: &'a HashMap<usize, String>,
    search: &Search<'_>,
) -> Option<Hit<'a>> {
    Some(Hit {
        partition: hit.partition,
        partition_name: &state.partition(hit.partition)?.name,
        host: listing.host_name,
        tier: listing.inventory.tier,
        cpu_model: Beside(&listing.inventory.arch, &listing.inventory.cpu_model),
        resources: hit.resources,
        vcpus: hit.vcpus,
        image: references.get(&hit.image)?,
        hourly: hit.hourly,
        total: hit.total,
        term: search.needs.term,
        until: hit.until,
        prices: listing.offer.conditions.prices,
        reliability_permille: listing.reliability_permille,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::book::Unfit;
    use sublet_model::requirements::Requirements;
    use sublet_wire::api::SearchAnswer;
    use uuid::Uuid;

    #[test]
    fn what_is_written_is_what_the_clients_read() {
        let hit = |until| Hit {
            partition: PartitionId::from(Uuid::from_u128(7)),
            partition_name: "p \"1\"",
            host: "host-1",
            tier: Tier::Kvm,
            cpu_model: Beside("x86_64", "Some \"CPU\" @ 3 GHz"),
            resources: Resources::ZERO,
            vcpus: 3,
            image: "debian-12@12.11-1",
            hourly: MicrosPerHour(5),
            total: Micros(6),
            term: Seconds(7),
            until,
            prices: PriceList { setup: Micros(9), ..PriceList::default() },
            reliability_permille: 999,
        };
        let asked = Requirements::default();
        let assumed = Assumed { field: "cpu".into(), value: "1".into(), clause: "cpu>=1".into() };
        for plan in [None, Some(Looked { lent: 5, ..Looked::default() })] {
            let answer = Answer {
                matches: vec![hit(None), hit(Some(Timestamp(1_790_000_000_000_000)))],
                asked: "cpu>=1".into(),
                assumed: vec![assumed.clone()],
                unfit: vec![UnfitCount::new(Unfit::Price, &asked, 3)],
                plan,
            };
            let Written(ours) = answer.written().unwrap();
            let read: SearchAnswer = serde_json::from_slice(&ours).unwrap();
            assert_eq!(read.matches[0].cpu_model, "x86_64 Some \"CPU\" @ 3 GHz");
            let theirs = serde_json::to_vec(&read).unwrap();
            assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
        }
    }
}
