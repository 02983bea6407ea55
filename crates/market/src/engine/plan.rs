//! Everything that a host should have: derived from partitions and leases, stored nowhere.

use super::rows::{Lease, PartitionRow};
use super::state::State;
use sublet_model::ids::HostId;
use sublet_wire::sync::{Renter, Run, Wanted};

/// What a host should have.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names this plan.
    pub version: u64,
    /// Every partition of the host.
    pub wanted: Vec<Wanted>,
}

/// The plan of a host, if there is such a host.
pub fn of(state: &State, host: HostId) -> Option<Plan> {
    let version = state.host(host)?.plan_version;
    Some(Plan { version, wanted: state.partitions_of(host).map(|p| wanted(state, p)).collect() })
}

fn wanted(state: &State, partition: &PartitionRow) -> Wanted {
    let allocation = partition.allocation;
    let holder = state.holder(partition.id);
    let run = holder.filter(|lease| lease.state.is_wanted()).and_then(|lease| run(state, lease));
    // The generation rises only at a grant: where nobody holds the partition, its lease has ended.
    let gone = (holder.is_none() && allocation.generation > 0).then_some(allocation.generation);
    Wanted { partition: partition.id, allocation, run, gone }
}

fn run(state: &State, lease: &Lease) -> Option<Run> {
    let image = state.image_by_digest(&lease.terms().image)?;
    Some(Run {
        lease: lease.id,
        hostname: lease.name.clone(),
        terms: lease.agreed.signed.clone(),
        image: image.signed.clone(),
        depot: image.depot.clone(),
        term_seconds: lease.term_seconds,
        paid_seconds: lease.paid_seconds,
        one_shot: lease.one_shot,
        release_after_disconnect: lease.release_after_disconnect,
        renter: Some(Renter { member: lease.member, ssh_public_key: lease.ssh_public_key.clone() }),
    })
}
