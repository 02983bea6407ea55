//! Nouns and rules of the market. No I/O, no async, no clock and no randomness here:
//! whatever decides can be run in a simulation and checked by a property.

pub mod access;
pub mod account;
pub mod billing;
pub mod book;
pub mod host;
pub mod identity;
pub mod ids;
pub mod image;
pub mod job;
pub mod lease;
pub mod ledger;
pub mod market_keys;
pub mod metering;
pub mod offer;
pub mod partition;
pub mod requirements;
pub mod resources;
pub mod statement;
pub mod units;
