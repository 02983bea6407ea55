//! Hosts and their partitions.

use crate::engine::rows::{Host, PartitionRow};
use crate::engine::state::State;
use sublet_model::ids::LeaseId;
use sublet_model::units::Timestamp;
use sublet_wire::api::{HostView, PartitionView};

/// A host with its partitions, for its owner and the operator.
pub fn host(state: &State, row: &Host, now: Timestamp) -> HostView {
    HostView {
        id: row.id,
        name: row.name.clone(),
        account: row.account,
        status: state.host_status(row, now).into(),
        heard_at: state.live(row.id).map(|live| live.heard_at),
        inventory: (*row.inventory).clone(),
        keep: row.keep,
        partitions: state.partitions_of(row.id).map(|p| partition(state, p)).collect(),
    }
}

/// A partition, for those who may see which lease holds it.
pub fn partition(state: &State, row: &PartitionRow) -> PartitionView {
    let holder: Option<LeaseId> = state.holder(row.id).map(|lease| lease.id);
    PartitionView {
        id: row.id,
        name: row.name.clone(),
        host: row.host,
        host_name: state.host(row.host).map(|h| h.name.clone()).unwrap_or_default(),
        lendable: row.lendable,
        offer: row.offer,
        profile: row.profile,
        allocation: row.allocation,
        locked: holder.is_some(),
        lease: holder,
        phase: state.phase(row),
        reach: if holder.is_some() { None } else { state.reach(row.id) },
        access: row.access.clone(),
    }
}
