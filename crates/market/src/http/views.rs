//! What is shown: pure functions from the market's rows to the bodies of the API.

pub mod account;
pub mod export;
pub mod host;
pub mod image;
pub mod lease;
pub mod money;
pub mod statement;
