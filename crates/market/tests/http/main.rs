//! The market over real HTTP on loopback, with its real engine and SQLite in a temporary folder.

mod access;
mod authority;
mod bad_api;
mod bad_sync;
mod bad_tokens;
mod described;
mod events;
mod fake_host;
mod hostile;
mod leasing;
mod manifest;
mod money;
mod repeated;
mod rotation;
mod secrets;
mod serving;
mod table;
mod waiting;
mod world;
