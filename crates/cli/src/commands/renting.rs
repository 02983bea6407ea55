//! The request to rent: granted at once, after standing for a while, or only foreseen.

use super::leasing::Rented;
use super::nearest;
use super::needs::{Needs, say_assumed};
use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Rows, facts, say_if_terminal};
use crate::progress::Progress;
use crate::ssh::{ClientKey, Pass};
use anyhow::Context;
use std::time::{Duration, Instant};
use sublet_model::ids::RequestId;
use sublet_model::units::Seconds;
use sublet_wire::api::{Granted, GrantedLease, RentAnswer, RentRequest, WouldGrant, WouldLease};
use sublet_wire::problem::Kind;

/// Between two tries while the market is away.
const PAUSE: Duration = Duration::from_secs(1);
/// How much longer than the market we wait: the last word is its own.
const GRACE: Duration = Duration::from_secs(5);

/// What is asked for beside the requirements.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// What to call it.
    pub name: Option<String>,
    /// Whether it ends with its first job.
    pub one_shot: bool,
    /// For how long to stand if nothing fits.
    pub wait: Option<Seconds>,
    /// For how long the market may be out of reach, beyond a quarter of an hour.
    pub outage_allowance: Option<Seconds>,
    /// One that ends with its first job: how long it outlives its client.
    pub release_after_disconnect: Option<Seconds>,
}

fn request(key: &ClientKey, needs: &Needs, wish: Wish, dry_run: bool) -> anyhow::Result<RentRequest> {
    Ok(RentRequest {
        name: wish.name,
        requirements: needs.requirements()?,
        ssh_public_key: key.public.clone(),
        one_shot: wish.one_shot,
        release_after_disconnect: wish.release_after_disconnect,
        wait_seconds: wish.wait,
        outage_allowance_seconds: wish.outage_allowance,
        dry_run,
    })
}

/// Rents; keeps certificates and host keys. One for each partition asked for.
pub async fn rent(market: &Market, needs: &Needs, wish: Wish) -> anyhow::Result<Vec<Rented>> {
    Pass::sweep(&market.folder);
    let key = ClientKey::of(&market.folder)?;
    let wait = wish.wait;
    let request = request(&key, needs, wish, false)?;
    let granted = match wait {
        None => once(market, &request).await?,
        Some(wait) => standing(market, &request, wait).await?,
    };
    say_assumed(&granted.assumed);
    let Granted { lease, access, others, .. } = granted;
    let all = std::iter::once(GrantedLease { lease, access }).chain(others);
    all.map(|GrantedLease { lease, access }| {
        let pass = Pass::keep(market, &key, &lease, &access)?;
        Ok(Rented { lease, pass, key: key.clone() })
    })
    .collect()
}

/// Rents exactly one.
pub async fn rent_one(market: &Market, needs: &Needs, wish: Wish) -> anyhow::Result<Rented> {
    if needs.requirements()?.count.is_some_and(|count| count > 1) {
        let several = Failure::new(Exit::Usage, "a command runs in one partition, but several are asked for");
        return Err(several.advise("rent them with `sublet rent`, then `sublet run --lease NAME` in each").into());
    }
    let all = rent(market, needs, wish).await?;
    all.into_iter().next().context("the market granted nothing and said nothing")
}

async fn once(market: &Market, request: &RentRequest) -> anyhow::Result<Granted> {
    let key = sublet_wire::new_id::<RequestId>().to_string();
    match market.rent(request, &key).await {
        Ok(RentAnswer::Granted(granted)) => Ok(*granted),
        Ok(other) => Err(surprise(&other)),
        Err(error) => Err(nearest::refused(market, &request.requirements, error, "failed to rent").await),
    }
}

fn surprise(answer: &RentAnswer) -> anyhow::Error {
    let kind = match answer {
        RentAnswer::Granted(_) => "a lease",
        RentAnswer::Standing(_) => "a place to wait at",
        RentAnswer::Would(_) => "a forecast",
    };
    Failure::new(Exit::Failed, format!("the market answered with {kind}, which was not asked for")).into()
}

/// Asks again and again under one key until something fits, or the time is over. A market that
/// restarts meanwhile is asked on: it grants once for a key.
async fn standing(market: &Market, request: &RentRequest, wait: Seconds) -> anyhow::Result<Granted> {
    let key = sublet_wire::new_id::<RequestId>().to_string();
    let until = Instant::now() + Duration::from_secs(wait.0.max(0).unsigned_abs()) + GRACE;
    let progress = Progress::start("nothing fits yet: waiting");
    let mut stood = false;
    loop {
        let answer = tokio::select! {
            answer = tokio::time::timeout_at(until.into(), market.rent(request, &key)) => answer,
            _ = tokio::signal::ctrl_c() => {
                progress.clear();
                let stopped = Failure::new(Exit::Failed, "stopped waiting");
                return Err(stopped.advise("`sublet lease list` shows whether it was granted in that moment").into());
            }
        };
        let Ok(answer) = answer else { return Err(late(wait).into()) };
        match answer {
            Ok(RentAnswer::Granted(granted)) => return Ok(*granted),
            Ok(RentAnswer::Standing(standing)) => {
                stood = true;
                progress.say(match standing.ahead {
                    0 => "nothing fits yet: waiting, first in line".to_string(),
                    ahead => format!("nothing fits yet: waiting, {ahead} before us"),
                });
            }
            Ok(other) => return Err(surprise(&other)),
            Err(error) if error.is_transient() && Instant::now() < until => tokio::time::sleep(PAUSE).await,
            // It is the market that says when the time is over, and what stood in the way.
            Err(error) if error.kind() == Some(Kind::NoMatch) && (stood || wait > Seconds::ZERO) => {
                return Err(anyhow::Error::from(error).context(late(wait)));
            }
            Err(error) => return Err(anyhow::Error::from(error).context("failed to rent")),
        }
    }
}

fn late(wait: Seconds) -> Failure {
    Failure::new(Exit::Timeout, format!("nothing that fits came free within {wait}"))
}

/// Prints what would be granted; nothing is.
pub async fn foresee(market: &Market, needs: &Needs, wish: Wish, format: Format) -> anyhow::Result<()> {
    let key = ClientKey::of(&market.folder)?;
    let request = request(&key, needs, wish, true)?;
    let id = sublet_wire::new_id::<RequestId>().to_string();
    match market.rent(&request, &id).await {
        Ok(RentAnswer::Would(would)) if format == Format::Json => output::json(&would),
        Ok(RentAnswer::Would(would)) => print(&would),
        Ok(other) => Err(surprise(&other)),
        Err(error) => Err(nearest::refused(market, &request.requirements, error, "failed to look").await),
    }
}

fn print(would: &WouldGrant) -> anyhow::Result<()> {
    for lease in &would.would {
        let mut all = vec![
            ("partition", format!("{} of {}", lease.partition_name, lease.host)),
            ("allocation", format!("{}, {} vcpus", lease.resources, lease.vcpus)),
            ("image", lease.image.clone()),
            ("price", format!("{}, {} for {}", lease.hourly, lease.total, lease.term)),
        ];
        if let Some(name) = &lease.name {
            all.insert(0, ("lease", name.clone()));
        }
        facts(&all)?;
    }
    alterations(&would.would)?;
    if would.would.len() > 1 {
        output::print(&format!("in all: {}, {} for the whole term", would.hourly, would.total))?;
    }
    say_assumed(&would.assumed);
    say_if_terminal("nothing was taken: leave out --dry-run to rent");
    Ok(())
}

fn alterations(all: &[WouldLease]) -> anyhow::Result<()> {
    let mut rows = Rows::new(&["partition", "host", "has", "would have"], "nothing is altered");
    for lease in all {
        for altered in &lease.altered {
            let (from, to) = (altered.from.to_string(), altered.to.to_string());
            rows.row(vec![altered.partition_name.clone(), lease.host.clone(), from, to]);
        }
    }
    rows.print()
}
