//! What the tests of this suite share.

use anyhow::{Context, Result};
use std::path::PathBuf;
use sublet_testing::{World, WorldOptions};

/// The folder of images that `scripts/images` built.
pub fn depot() -> Result<PathBuf> {
    let depot = std::env::var_os("SUBLET_TEST_DEPOT").map(PathBuf::from);
    let depot = depot.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/depot")));
    depot.canonicalize().with_context(|| {
        format!("no images in {}: run this suite by `scripts/test`, which builds them", depot.display())
    })
}

/// A world whose one host lends two partitions, of 1 cpu and 768 MiB each.
pub fn world() -> Result<World> {
    world_of(&["left=cpu:1,memory:768MiB", "right=cpu:1,memory:768MiB"])
}

/// A world whose one host lends these partitions.
pub fn world_of(partitions: &[&str]) -> Result<World> {
    World::start(options(partitions)?)
}

/// What such a world is made of.
pub fn options(partitions: &[&str]) -> Result<WorldOptions> {
    Ok(WorldOptions {
        program: env!("CARGO_BIN_EXE_sublet").into(),
        depot: depot()?,
        partitions: partitions.iter().map(|p| p.to_string()).collect(),
    })
}

/// Small enough for two at once, and quick to come up.
pub const SMALL: [&str; 4] = ["--cpu", "1", "--memory", "256MiB"];
/// Enough for a full distribution.
pub const FULL: [&str; 4] = ["--cpu", "1", "--memory", "768MiB"];
