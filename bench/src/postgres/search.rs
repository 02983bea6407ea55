//! The search of the peer: one prepared statement.

use crate::oracle::Answer;
use crate::ours::ASKING;
use crate::query::Query;
use anyhow::Result;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

const SEARCH: &str = include_str!("../../sql/search.sql");

/// A connection that searches.
pub struct Search {
    client: Client,
    statement: Statement,
}

/// The parameters of the search, each in the type that the statement has it.
pub struct Columns {
    ints: [i32; 5],
    shorts: [i16; 4],
    sets: [Vec<i16>; 2],
    longs: [i64; 2],
    emulated: bool,
    account: i32,
}

/// A question as parameters.
pub fn columns(query: &Query) -> Columns {
    let needs = query.needs;
    Columns {
        ints: [needs.cpu.0, needs.memory.0, needs.disk.0, query.vcpus, query.memory_at_most].map(|n| n as i32),
        shorts: [query.arch as i16, 1 << query.os, query.os as i16, query.flags.into()],
        sets: [query.regions, query.nets].map(|bits| (0..8).filter(|at| bits & (1 << at) != 0).collect()),
        longs: [query.hours, query.price_at_most],
        emulated: query.emulated,
        account: ASKING as i32,
    }
}

impl Columns {
    /// In the order in which the statement numbers them.
    pub fn values(&self) -> [&(dyn ToSql + Sync); 15] {
        let [cpu, memory, disk, vcpus, most] = &self.ints;
        let [arch, bit, os, flags] = &self.shorts;
        let [regions, nets] = &self.sets;
        let [hours, price] = &self.longs;
        [
            cpu,
            memory,
            disk,
            vcpus,
            arch,
            bit,
            regions,
            nets,
            hours,
            price,
            &self.emulated,
            &self.account,
            os,
            most,
            flags,
        ]
    }
}

impl Search {
    /// Prepares the search on a connection.
    pub async fn new(client: Client) -> Result<Self> {
        let (i, s, l, a) = (Type::INT4, Type::INT2, Type::INT8, &Type::INT2_ARRAY);
        let types = [&i, &i, &i, &i, &s, &s, a, a, &l, &l, &Type::BOOL, &i, &s, &i, &s].map(Clone::clone);
        let statement = client.prepare_typed(SEARCH, &types).await?;
        Ok(Self { client, statement })
    }

    /// Asks, and takes in every row.
    pub async fn rows(&self, c: &Columns) -> Result<Vec<Row>> {
        Ok(self.client.query(&self.statement, &c.values()).await?)
    }

    /// Asks, as every side answers.
    pub async fn answer(&self, query: &Query) -> Result<Vec<Answer>> {
        let rows = self.rows(&columns(query)).await?;
        Ok(rows.iter().map(|row| (row.get::<_, Uuid>(0), row.get::<_, i64>(11))).collect())
    }
}
