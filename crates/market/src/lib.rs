//! The management server and its resource database.

pub mod backup;
pub mod certificate;
pub mod config;
pub mod db;
pub mod engine;
pub mod http;
pub mod init;
pub mod keys;
pub mod month;
pub mod relay;
pub mod serve;
pub mod tasks;
pub mod tls;
