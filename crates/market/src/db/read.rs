//! Rows as the market has them in memory. Whatever can't be, by an edit by hand, is an error that
//! names table and column.

use super::DbError;
use crate::engine::Epoch;
use crate::engine::rows::*;
use crate::engine::state::Tables;
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;
use sublet_model::access::{Certification, Method};
use sublet_model::billing::Charge;
use sublet_model::ids::{LeaseId, PartitionId};
use sublet_model::lease::{EndReason, LeaseState};
use sublet_model::metering::ChainEnd;
use sublet_model::offer::Offer;
use sublet_model::partition::{Allocation, Partition, Profile};
use sublet_model::units::{Micros, MicrosPerHour, Seconds, Timestamp};
use sublet_wire::api::Timeline;

mod cells;
pub(super) mod money;

pub(super) use cells::{Cells, all, each};

/// Every table.
pub(super) fn tables(db: &Connection) -> Result<Tables, DbError> {
    let newest = newest_allocations(db)?;
    let chains = chain_ends(db)?;
    let budgets = money::budgets(db)?;
    let mut tables = Tables {
        accounts: all(db, "accounts", "select * from accounts", account)?.into_iter().map(|r| (r.id, r)).collect(),
        members: all(db, "members", "select * from members", member)?.into_iter().map(|r| (r.id, r)).collect(),
        tokens: all(db, "tokens", "select * from tokens", token)?.into_iter().map(|r| (r.id, r)).collect(),
        join_tokens: all(db, "join_tokens", "select * from join_tokens", join_token)?
            .into_iter()
            .map(|r| (r.id, r))
            .collect(),
        hosts: all(db, "hosts", "select * from hosts", host)?.into_iter().map(|r| (r.id, r)).collect(),
        offers: all(db, "offers", "select * from offers", offer)?
            .into_iter()
            .map(|r| ((r.offer.id, r.offer.version), r))
            .collect(),
        partitions: all(db, "partitions", "select * from partitions", |cells| partition(cells, &newest))?
            .into_iter()
            .map(|r| (r.id, r))
            .collect(),
        images: all(db, "images", "select * from images", image)?.into_iter().map(|r| (r.digest, r)).collect(),
        leases: all(db, "leases", "select * from leases", |cells| lease(cells, &chains, &budgets))?
            .into_iter()
            .map(|r| (r.id, Arc::new(r)))
            .collect(),
        charges: all(db, "charges", "select * from charges", charge)?.into_iter().map(|r| (r.lease, r)).collect(),
        epoch: epoch(db)?,
        ..Tables::default()
    };
    money::fill(db, &mut tables)?;
    Ok(tables)
}

fn epoch(db: &Connection) -> Result<Epoch, DbError> {
    let rows: Vec<(String, String)> = all(db, "meta", "select * from meta where name in ('epoch', 'epoch_at')", |c| {
        Ok((c.get("name")?, c.get("value")?))
    })?;
    let mut epoch = Epoch::default();
    for (name, value) in rows {
        let wrong = |_| DbError::Unreadable { table: "meta", column: "value", problem: format!("{name} is {value:?}") };
        match name.as_str() {
            "epoch" => epoch.number = value.parse().map_err(wrong)?,
            _ => epoch.began_at = Timestamp(value.parse().map_err(wrong)?),
        }
    }
    Ok(epoch)
}

fn account(c: &Cells<'_>) -> Result<Account, DbError> {
    Ok(Account {
        id: c.parse("id")?,
        name: c.get("name")?,
        suspended: c.get("suspended")?,
        created_at: c.at("created_at")?,
        purse: money::purse(c)?,
    })
}

fn member(c: &Cells<'_>) -> Result<Member, DbError> {
    Ok(Member {
        id: c.parse("id")?,
        account: c.parse("account")?,
        name: c.get("name")?,
        roles: c.list("roles")?,
        created_at: c.at("created_at")?,
    })
}

fn token(c: &Cells<'_>) -> Result<Token, DbError> {
    Ok(Token {
        id: c.parse("id")?,
        member: c.parse("member")?,
        name: c.get("name")?,
        hash: c.parse("hash")?,
        roles: c.list("roles")?,
        expires_at: c.at("expires_at")?,
        created_at: c.at("created_at")?,
        revoked_at: c.at_option("revoked_at")?,
    })
}

fn join_token(c: &Cells<'_>) -> Result<JoinToken, DbError> {
    Ok(JoinToken {
        id: c.parse("id")?,
        account: c.parse("account")?,
        member: c.parse("member")?,
        hash: c.parse("hash")?,
        uses: c.get("uses")?,
        used: c.get("used")?,
        expires_at: c.at("expires_at")?,
        created_at: c.at("created_at")?,
    })
}

fn host(c: &Cells<'_>) -> Result<Host, DbError> {
    let offer = c.parse_option("offer")?.zip(c.get("offer_version")?);
    Ok(Host {
        id: c.parse("id")?,
        name: c.get("name")?,
        account: c.parse("account")?,
        key: c.parse("key")?,
        ssh_host_key: c.get("ssh_host_key")?,
        inventory: Arc::new(c.json("inventory")?),
        keep: c.resources(["keep_cpu_millicores", "keep_memory_mib", "keep_disk_gib"])?,
        division_revision: c.get("division_revision")?,
        offer,
        dial: c.get("dial")?,
        session: c.get("session")?,
        used_session: c.get("used_session")?,
        session_reset: c.get("session_reset")?,
        suspended: c.get("suspended")?,
        forgotten_at: c.at_option("forgotten_at")?,
        plan_version: c.get("plan_version")?,
        joined_with: c.parse("joined_with")?,
        joined_at: c.at("joined_at")?,
    })
}

fn offer(c: &Cells<'_>) -> Result<OfferRow, DbError> {
    Ok(OfferRow {
        offer: Arc::new(Offer {
            id: c.parse("id")?,
            version: c.get("version")?,
            account: c.parse("account")?,
            conditions: c.json("conditions")?,
        }),
        created_at: c.at("created_at")?,
    })
}

fn allocation(c: &Cells<'_>) -> Result<(PartitionId, Allocation), DbError> {
    let allocation = Allocation {
        generation: c.get("generation")?,
        revision: c.get("revision")?,
        resources: c.resources(["cpu_millicores", "memory_mib", "disk_gib"])?,
        vcpus: c.get("vcpus")?,
    };
    Ok((c.parse("partition")?, allocation))
}

fn newest_allocations(db: &Connection) -> Result<HashMap<PartitionId, Allocation>, DbError> {
    // The primary key gives the order: the last row of a partition wins.
    let sql = "select * from allocations order by partition, generation, revision";
    Ok(all(db, "allocations", sql, allocation)?.into_iter().collect())
}

fn partition(c: &Cells<'_>, newest: &HashMap<PartitionId, Allocation>) -> Result<PartitionRow, DbError> {
    let id = c.parse("id")?;
    let allocation = *newest.get(&id).ok_or_else(|| c.wrong("id", format!("{id} has no allocation")))?;
    let bounds = |cpu, memory, disk| c.resources([cpu, memory, disk]);
    let taken_back = c.get::<Option<u64>>("taken_back_generation")?.zip(c.at_option("taken_back_at")?);
    Ok(PartitionRow {
        partition: Partition {
            id,
            host: c.parse("host")?,
            name: c.get("name")?,
            lendable: c.get("lendable")?,
            offer: c.parse_option("offer")?,
            profile: Profile {
                min: bounds("min_cpu_millicores", "min_memory_mib", "min_disk_gib")?,
                desired: bounds("desired_cpu_millicores", "desired_memory_mib", "desired_disk_gib")?,
                max: bounds("max_cpu_millicores", "max_memory_mib", "max_disk_gib")?,
            },
            allocation,
            access: access(c)?,
            failed_boots: c.get("failed_boots")?,
        },
        listed_at: c.at_option("listed_at")?,
        unlisted_until: c.at_option("unlisted_until")?,
        taken_back: taken_back.map(|(generation, at)| TakenBack { generation, at }),
        leaving: c.get("leaving")?,
        retired_at: c.at_option("retired_at")?,
        declared_at: c.at("declared_at")?,
    })
}

fn access(c: &Cells<'_>) -> Result<Option<Certification>, DbError> {
    let Some(method) = c.word::<Method>("access_method")? else { return Ok(None) };
    let text = |column| c.get::<Option<String>>(column).map(Option::unwrap_or_default);
    let (ca, host_key, dial) = (text("access_ca")?, text("access_host_key")?, text("access_dial")?);
    Ok(Some(Certification { method, ca, host_key, dial }))
}

fn image(c: &Cells<'_>) -> Result<Image, DbError> {
    Ok(Image {
        manifest: c.json("manifest")?,
        signed: c.signed("manifest", "key", "signature")?,
        digest: c.parse("digest")?,
        depot: c.get("depot")?,
        suspended: c.get("suspended")?,
        registered_at: c.at("registered_at")?,
    })
}

fn chain_ends(db: &Connection) -> Result<HashMap<LeaseId, ChainEnd>, DbError> {
    let sql = "select lease, seq, seconds, last, digest from receipts as r
               where seq = (select max(seq) from receipts where lease = r.lease)";
    let end = |c: &Cells<'_>| {
        let end = ChainEnd {
            seq: c.get("seq")?,
            digest: c.parse("digest")?,
            seconds: Seconds(c.get("seconds")?),
            last: c.get("last")?,
        };
        Ok((c.parse("lease")?, end))
    };
    Ok(all(db, "receipts", sql, end)?.into_iter().collect())
}

fn lease(
    c: &Cells<'_>,
    chains: &HashMap<LeaseId, ChainEnd>,
    budgets: &HashMap<LeaseId, Budget>,
) -> Result<Lease, DbError> {
    let id = c.parse("id")?;
    let agreed = Agreed::try_from(c.signed("terms", "terms_key", "terms_signature")?);
    Ok(Lease {
        id,
        name: c.get("name")?,
        account: c.parse("account")?,
        member: c.parse("member")?,
        host: c.parse("host")?,
        partition: c.parse("partition")?,
        generation: c.get("generation")?,
        state: lease_state(c)?,
        agreed: Arc::new(agreed.map_err(|e| c.wrong("terms", e))?),
        image: c.get("image")?,
        term_seconds: Seconds(c.get("term_seconds")?),
        paid_seconds: Seconds(c.get("paid_seconds")?),
        one_shot: c.get("one_shot")?,
        release_after_disconnect: Seconds(c.get("release_after_disconnect_seconds")?),
        ssh_public_key: c.get("ssh_public_key")?,
        timeline: Timeline {
            granted_at: c.at_option("granted_at")?,
            fetched_at: c.at_option("fetched_at")?,
            booted_at: c.at_option("booted_at")?,
            started: c.get("started")?,
            ready_at: c.at_option("ready_at")?,
            contact_at: c.at_option("contact_at")?,
            stopped_at: c.at_option("stopped_at")?,
            ended_at: c.at_option("ended_at")?,
        },
        detail: c.get("detail")?,
        chain: chains.get(&id).cloned(),
        budget: budgets.get(&id).copied().unwrap_or_default(),
    })
}

fn lease_state(c: &Cells<'_>) -> Result<LeaseState, DbError> {
    let silent_since = c.at_option("silent_since")?;
    let reason = || c.word::<EndReason>("reason")?.ok_or_else(|| c.wrong("reason", "is missing"));
    let at = |column| c.at_option(column)?.ok_or_else(|| c.wrong(column, "is missing"));
    Ok(match c.some_text("state")? {
        "granted" => LeaseState::Granted { silent_since },
        "active" => LeaseState::Active { ready_at: at("ready_at")?, silent_since },
        "stopping" => LeaseState::Stopping { reason: reason()? },
        "lost" => LeaseState::Lost { reason: reason()? },
        "ended" => LeaseState::Ended { reason: reason()?, at: at("ended_at")? },
        other => return Err(c.wrong("state", format!("{other:?} is no state of a lease"))),
    })
}

pub(super) fn charge(c: &Cells<'_>) -> Result<ChargeRow, DbError> {
    Ok(ChargeRow {
        lease: c.parse("lease")?,
        client: c.parse("client")?,
        lender: c.parse("lender")?,
        charge: Charge {
            receipted_seconds: Seconds(c.get("receipted_seconds")?),
            billed_seconds: Seconds(c.get("billed_seconds")?),
            hourly: MicrosPerHour(c.get("hourly_micros")?),
            setup: Micros(c.get("setup_micros")?),
            total: Micros(c.get("total_micros")?),
        },
        receipt_seq: c.get("receipt_seq")?,
        settled_at: c.at("settled_at")?,
    })
}
