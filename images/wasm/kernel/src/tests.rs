//! The guest against a host that speaks the real frames: modules run, streams flow, files are moved.

mod files;
mod host;
mod jobs;
mod modules;
mod protocol;
mod transfer;
